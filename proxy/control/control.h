/* proxy/control/control.h: the control thread: signals, reload, names, probes, roles and lag, log
 * output.
 *
 * Life     control_block_signals() before any thread starts -> control_new() -> workers start ->
 *          control_run() -> somebody calls control_stop() -> control_run() returns ->
 *          control_free(). control_block_signals(), control_new(), control_run() and control_free()
 *          belong to one thread, the main thread.
 * Threads  hooks run on that thread, inside control_run(). What says "any thread" may be called
 *          from control_new() until control_stop() has been called, not later: nobody would take
 *          the mail.
 * Writes   every cluster's view, node statuses and node addresses; nobody else does.
 * Blocks   never: what blocks has a helper thread (pgweir-dns, pgweir-files).
 */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

#include "proxy/io/loop.h"
#include "proxy/pool/catalog_slot.h"
#include "proxy/pool/snapshot.h"

#define CONTROL_LOOP_ID 0xffffU /* struct loop's id of the control thread */

struct control;

enum control_stage {
    CONTROL_DRAIN = 1, /* first SIGTERM or SIGINT: let running transactions finish */
    CONTROL_AT_ONCE,   /* a second one, or SIGQUIT */
};

struct control_hooks {
    /* Its view or an address changed, or a node became reachable or unreachable. */
    void (*cluster_changed)(void *context, struct cluster *cluster);
    /* A sample of it was published, and somebody waits for one. */
    void (*sampled)(void *context, struct cluster *cluster);
    /* After a reload: hands over one reference. The options are valid, the log follows them. */
    void (*snapshot_ready)(void *context, struct snapshot *snapshot);
    /* loop_beat() of a worker. */
    uint32_t (*beat)(void *context, uint32_t worker);
    uint32_t worker_n;
    /* Of memory: enum pressure. When it changes, and again while it is critical. */
    void (*pressure)(void *context, unsigned level);
    /* The sockets are another process's too now: as shutdown(CONTROL_DRAIN), but they stay in use. */
    void (*taken_over)(void *context);
    /* Another process was asked to cancel what may be one of our clients' (takeover.h). */
    void (*cancel)(void *context, uint32_t pid, struct slice key);
    /* stage: enum control_stage; each at most once, rising. */
    void (*shutdown)(void *context, unsigned stage);
    void *context;
};

/* Block the signals that control_run() waits for, in this thread and all that it starts; ignore
 * SIGPIPE. */
void control_block_signals(void);

/* Takes a reference to first of its own. sources (for reloads) and what it points to must outlive
 * the control. Makes the ring; publishes the addresses that need no look-up, and a primary for each
 * cluster of one node. Takes libpq's variables (PGUSER ...) out of the environment, so it must run
 * before other threads do. Blocks on the log file.
 * NULL: the reason has been logged (event control.failed: the ring, or the log file). */
struct control *control_new(struct snapshot *first, const struct conf_sources *sources,
                            const struct control_hooks *hooks);
/* Runs until control_stop(); then probes are closed, helpers told to end, and the log is flushed.
 * From its return on, log lines are written directly. */
void control_run(struct control *control);
/* Without control_run() too: a start-up that failed. */
void control_free(struct control *control);
struct loop *control_loop(struct control *control);

/* ---- from any thread ---- */
void control_stop(struct control *control);
/* As SIGHUP: read the configuration again. One at a time; a request during one runs after it. */
void control_reload(struct control *control);
/* Evidence that something changed (connect refused, 25006, in_hot_standby flipped): sample all
 * nodes of this cluster now. Cheap to repeat: coalesced until the control thread has seen it. */
void control_nudge(struct control *control, struct cluster *cluster);
/* What a server said at login or by a change of in_hot_standby. It decides roles where the probes
 * have no login, and is a nudge elsewhere. */
void control_role_seen(struct control *control, struct cluster *cluster, uint32_t node,
                       bool in_recovery);
/* catalog_slot_ask() said so: the catalog of this database is wanted, or wanted again. */
void control_catalog(struct control *control, struct catalog_slot *slot);

#endif
