/* router/hitters.h: the most frequent (fingerprint, reason) pairs of a long stream, in little memory.
 *
 * What    "space saving" (Metwally, Agrawal, El Abbadi 2005) in buckets: a pair that has no place takes that of
 *         the rarest in its bucket, and its count. So frequent pairs stay, and count - error is sure.
 * Pure    no I/O, no allocation, no clock. One thread.
 * Limits  HITTERS_BUCKETS * HITTERS_WAYS pairs, HITTERS_TEXT_MAX bytes of a sample of the text.
 */
#ifndef ROUTER_HITTERS_H
#define ROUTER_HITTERS_H

#include <stdbool.h>
#include <stdint.h>

#define HITTERS_BUCKETS 64U /* a power of two */
#define HITTERS_WAYS 4U
#define HITTERS_TEXT_MAX 100U

struct hitter {
    uint64_t fingerprint, count, error, last_ms; /* count 0: a free place */
    uint8_t reason;                              /* enum route_reason */
    uint8_t text_n;
    char text[HITTERS_TEXT_MAX];
};

struct hitters {
    uint64_t keys[HITTERS_BUCKETS][HITTERS_WAYS]; /* apart: a look touches one cache line */
    struct hitter entries[HITTERS_BUCKETS][HITTERS_WAYS];
};

/* Counts it. The entry if it is new and wants its text; NULL if it was known. */
struct hitter *hitters_count(struct hitters *hitters, uint64_t fingerprint, uint8_t reason,
                             uint64_t now_ms);

#endif
