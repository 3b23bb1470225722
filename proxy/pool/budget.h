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

#define BUDGET_GREETINGS_MAX 64

struct pool;

struct budget {
    struct budget *next;
    uint64_t cluster_id;
    uint32_t node;
    char *entry, *database, *user;
    struct greeting *greetings; /* see budget_greeting() */
    unsigned greeting_n;
    atomic_uint refs;
    atomic_uint used;
    atomic_uint coming;    /* of those in use: not logged in yet */
    atomic_uint queued[2]; /* of node 0: waiters of all workers, by enum want */
    atomic_uint waiting_n; /* workers whose since_ms is not 0 */
    atomic_uint_fast64_t since_ms[WORKERS_MAX]; /* the oldest waiter of each worker; 0: none */
    _Atomic(struct pool *)
        pools[WORKERS_MAX]; /* written by its worker; others only look whether it is there */
};

/* Who shares a budget: the users of one [databases] entry on one node. */
struct budget_key {
    const struct cluster *cluster;
    uint32_t node;
    const char *entry, *database, *user;
};

/* The one budget of this key, with a reference. */
struct budget *budget_find(const struct budget_key *key);
void budget_unref(struct budget *budget);

/* Take one of limit units (0: no limit). False: none is left. */
bool budget_take(struct budget *budget, uint32_t limit);
void budget_give(struct budget *budget);

/* This worker's oldest waiter for it has waited since then; 0: nobody waits any more. */
void budget_wait(struct budget *budget, uint32_t worker, uint64_t since_ms);
/* The worker (not `self`) that waits longest, or -1; *since_ms tells since when. */
int budget_longest_waiting(const struct budget *budget, uint32_t self, uint64_t *since_ms);

/* What servers with these settings report at login is the same for all workers, so that a login needs no
 * server once any worker has had one. settings: a label's text. NULL: not known; else a malloc()ed copy. */
uint8_t *budget_greeting(struct budget *budget, struct slice settings, uint32_t *bytes);
void budget_set_greeting(struct budget *budget, struct slice settings, struct slice greeting);

/* Units in use over all budgets: zero once every server has gone. */
unsigned budget_total_used(void);

#endif
