/* router/freshness.h: how far a replica is behind, from LSNs and our own clock alone.
 *
 * Pure      no I/O, no allocation, no clock, no globals: now_ns is CLOCK_MONOTONIC of the caller.
 * Rule      lag is now minus the time of the first primary sample above the replica's replay LSN,
 *           0 if there is none (DESIGN.md section 6). Idle primary: 0. Dead walreceiver: it grows.
 * Limits    LAG_SAMPLES samples. When they are full, the newer half stays as it is and two
 * neighbours of the older half become one (later LSN, earlier time): a lag of a day is still
 * measured to a few percent, and the error is always towards more lag.
 */
#ifndef ROUTER_FRESHNESS_H
#define ROUTER_FRESHNESS_H

#include "base/slice.h"

#define LAG_SAMPLES 600
#define LAG_UNKNOWN_MS INT64_MAX /* behind our first sample of this primary: over every limit */
#define LSN_TEXT_BYTES 18        /* "FFFFFFFF/FFFFFFFF" and the NUL */

struct lag_sample {
    uint64_t flush_lsn;
    int64_t at_ns;
};

/* Samples of one primary, strictly rising. All zero is an empty ring. */
struct lag_ring {
    uint32_t n;
    uint64_t base_lsn; /* the first LSN seen: below it we cannot tell when it was written */
    struct lag_sample samples[LAG_SAMPLES];
};

/* Forget everything: another primary, another timeline, or samples missed for long. */
void lag_ring_reset(struct lag_ring *ring);

/* A primary's flush LSN, read at now_ns. An LSN below the newest one resets the ring first. */
void lag_ring_add(struct lag_ring *ring, uint64_t flush_lsn, int64_t now_ns);

/* The lag of a replica that has replayed replay_lsn; LAG_UNKNOWN_MS if the ring cannot tell. */
int64_t lag_ring_ms(const struct lag_ring *ring, uint64_t replay_lsn, int64_t now_ns);

/* Newest flush LSN of the ring, 0 if empty. */
uint64_t lag_ring_newest(const struct lag_ring *ring);

/* 0 when the replica is level or ahead of the sample. */
uint64_t lag_bytes(uint64_t flush_lsn, uint64_t replay_lsn);

/* Hysteresis of one replica. All zero: not yet fresh. */
struct lag_gate {
    bool fresh;
    uint8_t good_n; /* samples in a row within the return limit */
};

/* Take one sample; returns whether the replica is fresh enough. Out at once above a limit; back in
 * after 2 samples in a row at or below 75 % of both limits. A limit of 0 is no limit, but
 * LAG_UNKNOWN_MS is never fresh. */
bool lag_update(struct lag_gate *gate, int64_t lag_ms, uint64_t lag_bytes, int64_t max_lag_ms,
                uint64_t max_lag_bytes);

/* "0/16B3748", the whole text; false leaves *lsn alone. */
bool lsn_parse(struct slice text, uint64_t *lsn);

/* Always ends with NUL; returns the length without it. */
size_t lsn_format(uint64_t lsn, char text[LSN_TEXT_BYTES]);

/* The timeline in the name of a WAL file, 24 hex digits; false leaves *timeline alone. */
bool timeline_of_walfile(struct slice name, uint32_t *timeline);

#endif
