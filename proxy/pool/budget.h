/* proxy/pool/budget.h: a limit that is exact over all workers.
 *
 * What    how many servers there may be for one (database, user) on one node, for a database, for a user, on a node;
 *         how many clients of a database or a user. A unit is taken before the act and given back when it is over.
 * Waiting each worker that lacks servers says since when; who gives a unit or a server back looks
 *         there, so no worker feeds only itself and no wake-up is lost.
 * Threads all of it, without locks, but for budget_find(), which is called once per pool and once or twice per login.
 */
#ifndef POOL_BUDGET_H
#define POOL_BUDGET_H

#include "proxy/pool/cluster.h"

#define BUDGET_GREETINGS_MAX 64

struct pool;

/* What is limited; the first BUDGET_LIMITS are taken for a server, in this order (limits.c). */
#define BUDGETS(X)                                          \
    X(BUDGET_POOL, "pool_size")                             \
    X(BUDGET_DATABASE, "max_db_connections")                \
    X(BUDGET_USER, "max_user_connections")                  \
    X(BUDGET_NODE, "max_node_connections")                  \
    X(BUDGET_CONNECT, "server_connect_concurrency")         \
    X(BUDGET_SPILL, "primary_read_budget")                  \
    X(BUDGET_DATABASE_CLIENTS, "max_db_client_connections") \
    X(BUDGET_USER_CLIENTS, "max_user_client_connections")
#define BUDGET_ENUM(name, option) name,
enum budget_kind { BUDGETS(BUDGET_ENUM) BUDGET_KIND_N };
#undef BUDGET_ENUM
#define BUDGET_LIMITS 5
/* The option that sets it. */
const char *budget_option(enum budget_kind kind);

/* Who waits for something, and since when. */
struct waits {
    atomic_uint n;                              /* workers whose since_ms is not 0 */
    atomic_uint_fast64_t since_ms[WORKERS_MAX]; /* the oldest waiter of each worker; 0: none */
};

struct budget {
    struct budget *next;
    enum budget_kind kind;
    uint64_t cluster_id;
    uint32_t node;
    char *entry, *database, *user;
    struct greeting *greetings; /* see budget_greeting() */
    unsigned greeting_n;
    atomic_uint refs;
    atomic_uint used;
    atomic_uint coming;    /* of those in use: not logged in yet */
    atomic_uint queued[2]; /* of node 0: waiters of all workers, by enum want */
    atomic_uint limit;     /* the newest that a configuration set, for those who look; 0: none */
    atomic_uint leaving;   /* of those in use: they are being closed */
    atomic_bool evicting;  /* a server is being closed so that its unit gets free; see limits.c */
    struct waits wanting;  /* a pool's: who could use a server of it */
    struct waits starving; /* whose last attempt to open a server ended at this limit */
    _Atomic(struct pool *)
        pools[WORKERS_MAX]; /* written by its worker; others only look whether it is there */
};

/* Who shares a budget. A pool's: the users of one [databases] entry on one node. */
struct budget_key {
    enum budget_kind kind;
    const struct cluster *cluster;
    uint32_t node;
    const char *entry, *database, *user; /* NULL: as "" */
};

/* The one budget of this key, with a reference. */
struct budget *budget_find(const struct budget_key *key);
void budget_unref(struct budget *budget);

/* Take one of limit units (0: no limit). False: none is left. */
bool budget_take(struct budget *budget, uint32_t limit);
void budget_give(struct budget *budget);

/* It is full: as far as can be told without taking a unit. */
bool budget_is_full(const struct budget *budget);

/* This worker's oldest waiter has waited since then; 0: nobody waits any more. */
void waits_set(struct waits *waits, uint32_t worker, uint64_t since_ms);
/* The worker that waits longest, or -1; *since_ms tells since when. Not `self` (WORKERS_MAX: any). */
int waits_longest(const struct waits *waits, uint32_t self, uint64_t *since_ms);

/* What servers with these settings report at login is the same for all workers, so that a login needs no
 * server once any worker has had one. settings: a label's text. NULL: not known; else a malloc()ed copy. */
uint8_t *budget_greeting(struct budget *budget, struct slice settings, uint32_t *bytes);
void budget_set_greeting(struct budget *budget, struct slice settings, struct slice greeting);

/* Units in use over all budgets: zero once every server has gone. */
unsigned budget_total_used(void);
/* ... and of one kind. */
unsigned budget_kind_used(enum budget_kind kind);
/* Each budget, under the lock of budget_find(): short work only. */
void budget_each(void (*fn)(const struct budget *budget, void *context), void *context);

#endif
