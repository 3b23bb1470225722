/* proxy/pool/budget.h: a limit that is exact over all workers.
 *
 * What    how many servers there may be for one (database, user) on one node. A unit is taken
 *         before the act and given back when the server is gone.
 * Waiting each worker that lacks servers says since when; who gives a unit or a server back looks
 *         there, so no worker feeds only itself and no wake-up is lost.
 * Threads all of it, without locks, but for budget_find(), which is called once per pool.
 */
#ifndef POOL_BUDGET_H
#define POOL_BUDGET_H

#include "proxy/pool/cluster.h"

#define WORKERS_MAX 256

struct pool;

struct budget {
    struct budget *next;
    uint64_t cluster_id;
    uint32_t node;
    char *database, *user;
    atomic_uint refs;
    atomic_uint used;
    atomic_uint waiting_n;                      /* workers whose since_ms is not 0 */
    atomic_uint_fast64_t since_ms[WORKERS_MAX]; /* the oldest waiter of each worker; 0: none */
    _Atomic(struct pool *)
        pools[WORKERS_MAX]; /* written by its worker; others only look whether it is there */
};

/* The one budget of this key, with a reference. */
struct budget *budget_find(const struct cluster *cluster, uint32_t node, const char *database,
                           const char *user);
void budget_unref(struct budget *budget);

/* Take one of limit units (0: no limit). False: none is left. */
bool budget_take(struct budget *budget, uint32_t limit);
void budget_give(struct budget *budget);

/* This worker's oldest waiter for it has waited since then; 0: nobody waits any more. */
void budget_wait(struct budget *budget, uint32_t worker, uint64_t since_ms);
/* The worker (not `self`) that waits longest, or -1; *since_ms tells since when. */
int budget_longest_waiting(const struct budget *budget, uint32_t self, uint64_t *since_ms);

/* Units in use over all budgets: zero once every server has gone. */
unsigned budget_total_used(void);

#endif
