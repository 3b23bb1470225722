/* proxy/session/worker.h: a thread with its own loop, clients and pools; and the fleet of them.
 *
 * What    worker 0 accepts and hands each client to the worker with the fewest, by mail (lobby.c). Cancel
 *         requests are mailed to the worker whose number is in the key.
 * Threads a worker's fields are its thread's. The fleet's counters are atomic.
 * Life    fleet_start() -> workers run -> fleet_drain() -> fleet_abort() -> fleet_join().
 */
#ifndef SESSION_WORKER_H
#define SESSION_WORKER_H

#include "proxy/pool/pool.h"
#include "router/classify.h"
#include "router/hitters.h"

#include <pthread.h>

#define WORKER_PID_BITS 25 /* a virtual pid: 6 bits of worker number above this many random bits */
/* One of these bits is set in each: no process of Linux (pid_max is 1 << 22) has such a number, so that a client
 * never takes a stranger's notification for its own. */
#define WORKER_PID_VIRTUAL (7U << 22)
#define LEFT_N 10 /* reasons to keep a server: the bits of enum left */
#define LOGINS_MAX \
    4096 /* for each worker, sockets that have not proved who they are: see places.c */
#define WORKER_PIDS_MAX 64 /* workers that can be told apart in a cancel key */

struct session;
struct worker;
struct fleet;

struct worker_stats {
    uint64_t logins, login_failures, queries, transactions, reruns, sheds, cancels;
    uint64_t
        shed_for[SHED_REASON_N]; /* those of clients that wanted a server; sheds counts them too */
    uint64_t to_primary, to_replica;
    uint64_t looks,
        pins[LEFT_N]; /* servers asked what is left on them; kept for what, see state.c */
    uint64_t routes[2][SQL_CLASS_N][ROUTE_WHY_N]; /* decisions; [1]: for a replica */
};

/* The console, which is a layer above: answers one query on a session that is logged in to it. */
typedef void console_fn(struct session *session, struct slice sql);

enum worker_stage { WORKER_RUNS, WORKER_GRACE, WORKER_DRAINS, WORKER_ENDS };

struct worker {
    struct fleet *fleet;
    uint32_t id;
    pthread_t thread;
    struct loop *loop;
    struct hub hub;
    struct list sessions;
    struct list floor_waiters; /* sessions that wait for a sample, see floors.c */
    uint32_t session_n;
    struct list silent;      /* sessions that have said nothing yet, oldest first */
    struct session **by_pid; /* open addressing by virtual pid */
    uint32_t by_pid_n, by_pid_cap;
    uint64_t next_serial;
    struct listener *listeners[16];
    unsigned listener_n;
    struct timer accept_timer; /* runs while they are paused */
    struct list lobby;         /* who waits to be let in, see lobby.c */
    uint32_t lobby_n;
    struct timer lobby_timer;
    struct worker_stats stats;
    struct hitters primary_reads; /* why reads stayed on the primary */
    enum worker_stage stage;      /* see shutdown.c */
    uint64_t stage_until_ms, drain_timeout_ms;
    bool no_more_clients; /* are on their way to us */
    atomic_bool finished; /* its loop turns no more, or waits for the slowest */
};

/* What had not ended when a worker stopped: zeros, or something is wrong. */
struct fleet_left {
    atomic_uint clients, servers, conns, buffers, heap_blocks;
};

#define FLEET_PRESSURE_HIGH 1 /* enum pressure of control/, which is a layer above */
#define FLEET_PRESSURE_CRITICAL 2

struct fleet {
    uint32_t worker_n;
    struct worker *workers;
    struct hub **hubs;
    atomic_uint pressure;    /* enum pressure, of memory */
    atomic_bool draining;    /* it wants no new clients, though it may still take them */
    atomic_uint client_n;    /* logged in or logging in, for max_client_conn */
    atomic_uint login_n;     /* those that have not proved yet who they are */
    atomic_uint unwelcome_n; /* ... of which so many have to make room, if they say nothing */
    atomic_uint per_worker[WORKERS_MAX]; /* sockets handed to each worker */
    uint8_t secret[32];                  /* of this process: mock salts */
    uint64_t started_ms;
    struct snapshot *first;
    console_fn *console;
    void (*console_look)(struct session *session); /* console_wait is due */
    struct hub_reports reports;
    void (*all_stopped)(void *context); /* on the last worker's thread */
    /* A cancel request for nobody here. NULL: dropped */
    void (*strange_cancel)(void *context, uint32_t pid, struct slice key);
    void *context;
    pthread_barrier_t stopping, nobody_posts;
    atomic_uint stopped_n;
    struct fleet_left left;
    int *listen_fds;
    unsigned listen_n;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned ready_n, failed_n;
    struct port_failure failure;
};

/* Start the workers; listen_fds (taken over) are accepted on by worker 0. 0, or -1 with
 * fleet->failure: a ring could not be made. */
int fleet_start(struct fleet *fleet, uint32_t worker_n, struct snapshot *snapshot,
                const int *listen_fds, unsigned listen_n);
/* From the control thread. */
void fleet_snapshot(struct fleet *fleet, struct snapshot *snapshot); /* takes one reference */
void fleet_cluster_changed(struct fleet *fleet, struct cluster *cluster);
/* To the workers whose clients wait for it; a worker that has not read the last mail gets no other. */
void fleet_sampled(struct fleet *fleet, struct cluster *cluster);
/* Go on for grace_ms, then let the clients leave; at the end of timeout_ms what is left is cut (shutdown.c). */
void fleet_drain(struct fleet *fleet, uint64_t grace_ms, uint64_t timeout_ms);
void fleet_abort(struct fleet *fleet);
/* Memory is short: enum pressure. */
void fleet_pressure(struct fleet *fleet, unsigned level);
/* A cancel request that another process got. */
void fleet_cancel(struct fleet *fleet, uint32_t pid, struct slice key);
/* loop_beat() of a worker; of one that has finished: LOOP_SLEEPS. */
uint32_t fleet_beat(const struct fleet *fleet, uint32_t worker);
/* Wait until all threads have ended, log the line that shows what is still in flight, free all. */
void fleet_join(struct fleet *fleet);

/* A worker's thread, from its first turn to its last. */
void worker_run(struct worker *worker);
/* ---- lobby.c ---- */
void lobby_init(struct worker *worker);
void lobby_open(struct worker *worker);  /* of worker 0: accept */
void lobby_close(struct worker *worker); /* nobody any more; who is there is let in */

void worker_each_session(struct worker *worker, void (*fn)(struct session *s));

/* The session of a virtual pid in this worker, or NULL. */
struct session *worker_find_pid(struct worker *worker, uint32_t pid);
/* Draw a virtual pid for a session and remember it; forget it. */
uint32_t worker_take_pid(struct worker *worker, struct session *session);
void worker_drop_pid(struct worker *worker, struct session *session);
static inline struct worker *worker_of(struct loop *loop)
{
    struct hub *hub = loop->context;
    return LIST_ENTRY(hub, struct worker, hub);
}

#endif
