/* proxy/io/loop.h: one thread's turn: wait, record, run, send.
 *
 * A turn  1 wait for completions  2 record all of them, touching no protocol  3 timers and mail
 *         4 run the protocol of the connections that were touched  5 build each conn's send once.
 * Threads a loop belongs to one thread. Others reach it by loop_post() alone.
 * Clock   read once per turn; now_ms and now_ns serve deadlines only.
 * Owns    its port's provided buffers, its slots, and each conn until its last completion.
 */
#ifndef IO_LOOP_H
#define IO_LOOP_H

#include "proxy/io/buf.h"
#include "proxy/io/timer.h"

#include <stdatomic.h>

/* A message to another loop. The sender gives it away; deliver() runs in the receiver and owns it.
 */
struct loop;
struct mail {
    struct mail *next;
    void (*deliver)(struct loop *loop, struct mail *mail);
};

/* Why something that is not a conn waits for the kernel: an fd watch of the control thread. */
struct watch;
typedef void watch_fn(struct watch *watch, int32_t res);
struct watch {
    struct loop *loop;
    watch_fn *fn;
    uint32_t slot;
    bool armed;
};

struct loop_stats {
    uint64_t turns, events, stale_events, enobufs, starved, mails, unpins, accept_errors;
    uint64_t wait_errors; /* the port's wait() failed; logged at 1, 2, 4, 8 ... */
};

enum slot_kind { SLOT_FREE, SLOT_CONN, SLOT_WATCH, SLOT_LISTENER };

struct slot {
    void *object;
    uint32_t generation; /* 24 bits; a completion of an earlier life is dropped */
    uint32_t kind;       /* enum slot_kind */
    uint32_t next_free;
};

struct loop {
    struct port *port;
    uint32_t id;
    uint64_t now_ns, now_ms;
    uint64_t
        late_ms; /* by how much this turn's first timer is late: the process, or the machine, stood still */
    struct timer_wheel timers;
    struct buf_pool bufs;
    struct slot *slots;
    uint32_t slot_n, slot_free;
    struct list run;                         /* conns with something to tell their owner */
    struct list flush;                       /* conns with bytes to send or a recv to arm */
    struct list starved;                     /* conns whose recv waits for a buffer */
    struct list sending;                     /* conns with a send in flight, oldest first */
    uint32_t conn_n, listener_n, stopping_n; /* stopping_n: listeners on their way out */
    _Atomic(struct mail *) inbox;
    atomic_bool sleeping;
    _Atomic uint32_t beat; /* counts turns, for others */
    int wake_fd;           /* eventfd: for threads without a port, or when MSG_RING fails */
    uint64_t wake_value;
    bool wake_armed;
    void *context; /* the worker or control that runs this loop */
    struct loop_stats stats;
};

/* port: created in this thread; the loop takes it. */
struct loop *loop_new(struct port *port, uint32_t id, void *context);
/* Conns and listeners must be gone. Bells that were rung for others still go out. Mail that nobody
 * drained is the caller's loss. */
void loop_free(struct loop *loop);
/* One turn; it waits for an event, a timer, mail, or until_ms (TIMER_NEVER: no bound). */
void loop_turn(struct loop *loop, uint64_t until_ms);
/* Run turns until every conn and every stopped listener is gone, or the deadline has passed. */
void loop_drain(struct loop *loop, uint64_t deadline_ms);
/* Log each conn that is still there (event conn.left), and what it waits for. */
void loop_tell_left(const struct loop *loop);

/* From any thread: changes with each turn. LOOP_SLEEPS: it waits in the kernel, and nobody has woken it. */
#define LOOP_SLEEPS 0
uint32_t loop_beat(const struct loop *loop);

/* Send mail to another loop (or to this one). From any thread, never blocks. */
void loop_post(struct loop *to, struct mail *mail);

/* Wait once for readiness of fd; fn gets poll bits or -errno. One at a time per watch. */
void watch_init(struct watch *watch, struct loop *loop, watch_fn *fn);
void watch_poll(struct watch *watch, int fd, uint32_t poll_bits);
void watch_write(struct watch *watch, int fd, const void *bytes, size_t n);
/* The fn still gets its one call, with -ECANCELED or what happened first. */
void watch_cancel(struct watch *watch);
void watch_close(struct watch *watch); /* must not be armed */

/* Accept connections on a listening fd. fn gets each new fd and owns it. */
typedef void accept_fn(struct loop *loop, int fd, void *context);
struct listener;
struct listener *listener_start(struct loop *loop, int fd, accept_fn *fn, void *context);
/* Accept nobody until listener_resume(); who has been accepted already still comes. */
void listener_pause(struct listener *listener);
void listener_resume(struct listener *listener);
/* Stop accepting; the listener closes its fd and frees itself at its last completion. */
void listener_stop(struct listener *listener);

/* ---- for conn.c ---- */
enum loop_op {
    OP_BELL = 1,
    OP_BELL_FAILED,
    OP_WAKE,
    OP_ACCEPT,
    OP_WATCH,
    OP_CANCEL,
    OP_UNPIN,
    OP_CONNECT,
    OP_RECV,
    OP_RECV_BULK,
    OP_SEND,
};
uint32_t loop_slot_take(struct loop *loop, enum slot_kind kind, void *object);
void loop_slot_give(struct loop *loop, uint32_t slot);
uint64_t loop_token(const struct loop *loop, enum loop_op op, uint32_t slot);

extern _Thread_local struct loop *loop_self; /* the loop of this thread, or NULL */

#endif
