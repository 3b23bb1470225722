/* proxy/pool/pool.h: who gets which server, and when.
 *
 * What    a hub is one worker's pools. A pool set holds the pools of one (database, user), one per
 *         node, and two queues of waiters: for the primary, and for any node that may serve reads.
 * Lease   pool_lease() grants at once, or queues the waiter. A waiter is granted, refused, or
 *         withdrawn by pool_withdraw(); exactly one of the three. Order of search: an idle server
 *         with this label, another idle one, a new one within the budget, one borrowed from
 *         another worker, the queue.
 * Release pool_release() of a clean server serves the oldest waiter of this worker, or one with the server's label that
 *         came at most POOL_FAIR_MS later; when that of another worker is POOL_FAIR_MS older, the server moves there.
 * Threads a hub and all below belong to one worker; budgets and mail connect them.
 * Limits  of servers: limits.c; of waiters: queue.h.
 */
#ifndef POOL_POOL_H
#define POOL_POOL_H

#include "proxy/pool/budget.h"
#include "proxy/pool/catalog_slot.h"
#include "proxy/pool/gate.h"
#include "proxy/pool/queue.h"
#include "proxy/pool/server.h"
#include "proxy/pool/shared_floor.h"
#include "proxy/pool/snapshot.h"
#include "router/balance.h"

#define POOL_FAIR_MS 5
#define POOL_PROVEN_MAX 1000

struct hub;
struct pool_set;
struct waiter;

/* What a worker sees and the control thread should know: something is wrong with a cluster; a server
 * told its node's role at login. */
struct hub_reports {
    void (*evidence)(void *context, struct cluster *cluster);
    void (*role_seen)(void *context, struct cluster *cluster, uint32_t node, bool in_recovery);
    void (*catalog)(void *context, struct catalog_slot *slot); /* its catalog is wanted */
    void *context;
};

struct hub {
    struct loop *loop;
    uint32_t worker;
    struct hub *const *peers; /* all hubs, this one included */
    uint32_t peer_n;
    struct snapshot *snapshot;
    struct list sets;
    struct stmt_table stmts;
    uint64_t random;
    uint32_t server_n;
    struct list starved; /* pools that starve at a limit, see limits.c */
    uint64_t label_syncs, moves, dials, dial_failures, evictions;
    uint64_t
        leaves[LEAVE_N]; /* what became of servers whose clients left in the middle of something */
    struct list cancels, cancels_waiting; /* struct cancel: with a connection; for one */
    uint32_t cancel_n;                    /* of the first */
    struct timer sweep;                   /* old and idle servers are closed */
    bool stopping;
    struct hub_reports reports;
};

struct pool {
    struct pool_set *set;
    char *failure; /* what the newest login was refused with, "SQLSTATE text"; NULL: it was not */
    uint32_t node;
    struct budget *budget;                /* its own, limits[BUDGET_POOL] */
    struct budget *limits[BUDGET_LIMITS]; /* of every server of it */
    uint8_t refused_by;      /* enum budget_kind: where the last attempt to open one ended */
    struct list starved;     /* in hub->starved while ... */
    struct budget *starving; /* ... it waits for a unit of this, as told to it, */
    uint64_t starving_ms;    /* since then */
    struct list idle;        /* most recently used first */
    struct list busy;        /* every other server of the pool */
    uint32_t idle_n, leased_n, dialing_n, cleaning_n;
    uint32_t checking_n; /* of cleaning_n: they run server_check_query, for who waits */
    uint32_t weight;
    uint64_t retry_ms; /* no dial before that time */
    uint64_t backoff_ms;
    struct timer retry;
    uint64_t waiting_since_ms; /* as told to the budget */
};

struct pool_set {
    struct list node; /* in hub->sets */
    struct hub *hub;
    struct cluster *cluster;
    struct shared_floor *floor;     /* of all clients of the database; a reference */
    struct snapshot *snapshot;      /* whose settings hold; the newest that a session brought */
    const struct conf_database *db; /* in that snapshot */
    struct gate *gate;              /* of that entry */
    char *database, *user;          /* at the server */
    struct catalog_use catalog;     /* without a slot where there is nothing to split */
    char *password;                 /* secret text of the server login; "" none */
    bool have_keys;                 /* SCRAM pass-through: keys that a client proved */
    uint8_t client_key[SCRAM_KEY_BYTES], server_key[SCRAM_KEY_BYTES];
    uint32_t pool_size, min_pool_size, reserve_pool_size;
    uint32_t most[BUDGET_LIMITS]; /* servers by each limit but pool_size; 0: no limit */
    uint64_t reserve_timeout_ms;
    struct timer reserve; /* the oldest waiter may use the reserve then */
    uint64_t queue_ms[2]; /* by enum want: queue_timeout and its like */
    enum conf_shed_severity shed_severity;
    struct conf_client_limits limits;
    uint32_t refs;       /* sessions */
    bool own;            /* of one session: its only server is not shared */
    struct slice params; /* ... "name\0value\0" ... of its startup packet */
    struct balance_turns turns;
    uint32_t usual, near;         /* nodes with a weight; in prefer_zone */
    struct budget *spill;         /* its primary_read_budget, see spill.c */
    uint32_t spill_limit;         /* 0: none */
    struct list writers, readers; /* waiters, oldest first */
    uint32_t writer_n, reader_n;
    bool pumping, pump_again; /* in pool_pump() now; something changed since it looked */
    struct queue queues[2];   /* the same two, by enum want */
    struct stmt_set
        proven; /* statements that PostgreSQL has accepted here, POOL_PROVEN_MAX at most */
    struct list labels;
    struct list tolds; /* struct told */
    struct label_steps label_steps;
    struct custom_settings custom_settings;
    struct label *base;      /* the empty label */
    struct label *connected; /* what connect_query makes of it; NULL: there is none, or not known */
    bool uses_currval;       /* somebody has asked for currval() or lastval() */
    uint64_t settings_of;    /* the catalog whose functions' settings are among custom_settings */
    struct tx_modes tx;  /* the defaults of this role in this database, as its newest server told */
    struct pool pools[]; /* by node index */
};

enum want { WANT_PRIMARY, WANT_READ };

enum refusal {
    REFUSED_TIMEOUT,
    REFUSED_CODEL,
    REFUSED_BY_SERVER,
    REFUSED_MEMORY,
    REFUSED_SHUTDOWN
};

/* What a server said when it refused our login; passed on to the waiters. */
struct refused_text {
    const char *sqlstate, *message;
};

struct waiter {
    struct list node;
    struct timer timer;
    struct pool_set *set;
    struct label *label;            /* borrowed */
    uint64_t since_ms, deadline_ms; /* 0: it waits without one */
    uint64_t notice_ms;             /* when it is told that it waits; 0: it was, or is not */
    uint64_t
        sequences_of; /* it asks for currval(), or may do so next: a server of which this is said, if there is one; or 0 */
    uint64_t client;  /* as in server.sequences_of */
    uint32_t nodes; /* WANT_READ: of these while one of them is readable; else its owner is asked */
    uint8_t want;   /* enum want */
    /* 0, or its deadline came during a PAUSE: after that it waits so long once more. */
    uint64_t renew_ms;
    bool put_off; /* its deadline was, since nothing ran when it came */
    const struct waiter_ops *ops;
    void *owner;
};

struct waiter_ops {
    const struct lessee_ops *lessee;
    /* The nodes of the view that may serve this read. */
    uint32_t (*readable)(struct waiter *waiter, struct cluster_view view);
    void (*granted)(struct waiter *waiter, struct server *server);
    uint64_t (*more_ms)(struct waiter *waiter); /* its deadline has come: wait on? May be NULL */
    bool (*waits_long)(
        struct waiter *waiter); /* query_wait_notify: whether it was told. May be NULL */
    void (*refused)(struct waiter *waiter, enum refusal why, const struct refused_text *text);
};

void hub_init(struct hub *hub, struct loop *loop, uint32_t worker, struct snapshot *snapshot);
void hub_free(struct hub *hub);
/* A new configuration: takes one reference. */
void hub_set_snapshot(struct hub *hub, struct snapshot *snapshot);
/* The control thread published a new view of a cluster. */
void hub_cluster_changed(struct hub *hub, struct cluster *cluster);
/* The gate of some of its sets has changed. all: every server goes, those in use too. */
void hub_gate_changed(struct hub *hub, struct gate *gate, bool all);
/* Memory is short: who waits is refused, what can be learned again is forgotten. */
void hub_spare_memory(struct hub *hub);
/* No new servers; idle ones are closed, the others when they are released. */
void hub_stop(struct hub *hub);
/* Close every server now. */
void hub_abort(struct hub *hub);
uint64_t hub_random(struct hub *hub);
/* Something points at a change of roles or a lost node: let it be sampled at once. */
void hub_evidence(struct hub *hub, struct cluster *cluster);
/* The catalog of this set is wanted: loaded (again), or looked at for an unknown name. */
void hub_want_catalog(struct hub *hub, struct pool_set *set, bool load);

/* What a login with these settings is told: known when a server with them has been seen by any worker. */
bool pool_find_greeting(struct pool_set *set, struct label *label);
void pool_keep_greeting(struct pool_set *set, struct label *label, struct slice messages);

/* What this server reports, borrowed from it. */
struct told *pool_told(struct server *server);

/* The set for a login, with a reference. */
struct pool_set *pool_set_get(struct hub *hub, struct cluster *cluster,
                              const struct conf_database *db, struct slice database,
                              struct slice user);
/* A set of this login alone, with a reference: its server gets these parameters ("name\0value\0" ...) and goes with
 * it. Such servers are limited like a pool, beside it. */
struct pool_set *pool_set_own(struct hub *hub, struct cluster *cluster,
                              const struct conf_database *db, struct slice database,
                              struct slice user, struct slice params);
/* It has a unit for its server left. */
bool pool_set_has_room(const struct pool_set *set);
/* The option of a limit beyond the pool's size that keeps it from having more servers on one of these nodes; or NULL. */
const char *pool_full_limit(const struct pool_set *set, uint32_t nodes);
void pool_set_unref(struct pool_set *set);
/* No replica may serve reads: they wait, or go to the primary within its budget. */
bool pool_reads_spill(const struct pool_set *set, struct cluster_view view);
/* Why a read found no server. */
enum pool_shortage { POOL_SHORT_OF_SERVERS, POOL_SHORT_OF_REPLICAS, POOL_SHORT_OF_BUDGET };
enum pool_shortage pool_shortage(const struct pool_set *set);
/* A read is sent to this server now: the time to its first byte is the node's latency. */
void pool_asked(struct server *server);

void waiter_init(struct waiter *waiter, const struct waiter_ops *ops, void *owner);
/* A server, leased, or NULL: the waiter is queued, or, if waiter_waits() says no, there is no room for it.
 * timeout_ms 0: no deadline. */
struct server *pool_lease(struct pool_set *set, struct waiter *waiter, enum want want,
                          uint32_t nodes, struct label *label, uint64_t timeout_ms);
void pool_withdraw(struct waiter *waiter);
/* The nodes that may serve it now. */
uint32_t pool_nodes_for(const struct pool_set *set, struct waiter *waiter);
/* Who waits in that queue, of all workers. */
uint32_t pool_waiting(const struct pool_set *set, enum want want);
static inline bool waiter_waits(const struct waiter *waiter)
{
    return !list_empty(&waiter->node);
}

/* The lease ends; the server has no open transaction, no unread reply. */
void pool_release(struct server *server);
/* The same, but these run first: CLEAN_ROLLBACK; CLEAN_RESET where session state was left on it. */
void pool_release_after(struct server *server, unsigned clean);
/* The lease ends while something is asked, or a transaction or COPY is open in a way that ROLLBACK alone does not end. */
void pool_release_left(struct server *server, const struct drain_plan *plan);
/* The lease ends and the server is closed. */
void pool_discard(struct server *server, const char *why);

/* ---- inside pool/ ---- */
void pool_server_ready(struct server *server); /* its login succeeded */
void pool_server_gone(struct server *server);  /* it was closed and is about to be freed */
void pool_server_state(struct server *server,
                       enum server_state state); /* the only writer of state */
void pool_dial_failed(struct pool *pool, const char *sqlstate, const char *message);
void pool_offer(struct server *server);
/* A CLEANING server: what comes next. */
void pool_clean(struct server *server);
void server_on_quiet(struct conn *conn);
void pool_pump(struct pool_set *set);

#endif
