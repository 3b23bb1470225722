/* proxy/pool/jitter.h: times that are spread, so that what began together does not end together, or come back so.
 * Pure: randomness comes in as an argument. */
#ifndef POOL_JITTER_H
#define POOL_JITTER_H

#include <stdint.h>

#define BACKOFF_FIRST_MS 100

/* This limit, or up to a tenth less. */
static inline uint64_t jitter_below_ms(uint64_t limit_ms, uint64_t random)
{
    return limit_ms - random % (limit_ms / 10 + 1);
}

/* How long to leave a node alone that has failed again: twice as long as the last time (0: this was the first). */
static inline uint64_t backoff_ms(uint64_t last_ms, uint64_t most_ms)
{
    uint64_t next_ms = last_ms ? last_ms * 2 : BACKOFF_FIRST_MS;
    return next_ms < most_ms ? next_ms : most_ms;
}

/* ... with up to a quarter more: others have failed at the same time. */
static inline uint64_t jitter_above_ms(uint64_t wait_ms, uint64_t random)
{
    return wait_ms + random % (wait_ms / 4 + 1);
}

#endif
