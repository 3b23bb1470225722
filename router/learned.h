/* router/learned.h: reads that a replica has refused for good, by fingerprint: the mistake is made once.
 *
 * What    a fixed-size set, shared by all workers. An entry ends LEARNED_MS after it was learnt; when
 *         its bucket is full the oldest one makes room, and its mistake may be made once more.
 * Threads any, without locks: each slot is two atomic words, and which of two that learn the same at the
 *         same time wins does not matter.
 * Pure    no I/O, no clock; the owner allocates.
 * Limits  LEARNED_BUCKETS * LEARNED_WAYS entries.
 */
#ifndef ROUTER_LEARNED_H
#define ROUTER_LEARNED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define LEARNED_MS (60 * 60 * 1000ULL)
#define LEARNED_BUCKETS 1024U /* a power of two */
#define LEARNED_WAYS 4U       /* a bucket is a cache line */

struct learned_slot {
    atomic_uint_fast64_t key; /* 0: free */
    atomic_uint_fast64_t since_ms;
};

struct learned {
    atomic_uint any; /* 0: nothing was ever learnt, and nobody need look */
    struct learned_slot slots[LEARNED_BUCKETS][LEARNED_WAYS];
};

/* A statement's fingerprint in a database. */
uint64_t learned_key(uint64_t fingerprint, const char *database);

bool learned_has(const struct learned *learned, uint64_t key, uint64_t now_ms);

/* True: it is new. Already known: its time begins again. */
bool learned_put(struct learned *learned, uint64_t key, uint64_t now_ms);

#endif
