/* proxy/pool/shared_floor.h: the floor that all clients of a database share (consistency = global).
 *
 * What    the newest answer of the primary that any client of the database had through this process, as
 *         the number of the sample that will cover it (router/floor.h, pending_after).
 * Threads all of it. One word, read for each read of a global client and written at most once per
 *         sample, so the line stays in every core's cache.
 * Life    one per (cluster, database), counted references of the pool sets.
 */
#ifndef POOL_SHARED_FLOOR_H
#define POOL_SHARED_FLOOR_H

#include "proxy/pool/cluster.h"

struct shared_floor;

struct shared_floor *shared_floor_find(const struct cluster *cluster, const char *database);
void shared_floor_unref(struct shared_floor *floor);

/* A client had an answer from this primary; begun: its newest sample's number by then. */
void shared_floor_used(struct shared_floor *floor, uint8_t primary, uint64_t begun);
/* The word: changes with each rise; 0: no client has used the primary yet. */
uint64_t shared_floor_now(const struct shared_floor *floor);
static inline uint8_t shared_floor_node(uint64_t word)
{
    return (uint8_t)(word >> 56);
}
static inline uint64_t shared_floor_after(uint64_t word)
{
    return word & ((1ULL << 56) - 1);
}

#endif
