#include "proxy/io/loop.h"

#include "base/check.h"
#include "proxy/io/conn.h"
#include "proxy/io/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LEFT_TOLD_MAX 16 /* lines about what had not ended */
#define SLOT_NONE UINT32_MAX
#define SLOT_FIRST 256
#define GENERATION_MASK 0xffffffU
#define RUNS_MAX 100000 /* upcalls in one turn; the rest come in the next */
#define ACCEPT_RETRY_MS 100

_Thread_local struct loop *loop_self;

struct listener {
    struct loop *loop;
    accept_fn *fn;
    void *context;
    struct timer retry;
    uint32_t slot;
    int fd;
    bool armed, paused, stopping;
};

/* ---- slots and tokens: op:8 | generation:24 | slot:32 ---- */

static void grow_slots(struct loop *loop)
{
    uint32_t n = loop->slot_n ? loop->slot_n * 2 : SLOT_FIRST;
    struct slot *slots = realloc(loop->slots, n * sizeof *slots);
    CHECK(slots != NULL);
    for (uint32_t i = loop->slot_n; i < n; i++)
        slots[i] = (struct slot){.next_free = i + 1 < n ? i + 1 : SLOT_NONE};
    loop->slot_free = loop->slot_n;
    loop->slots = slots;
    loop->slot_n = n;
}

uint32_t loop_slot_take(struct loop *loop, enum slot_kind kind, void *object)
{
    if (loop->slot_free == SLOT_NONE)
        grow_slots(loop);
    uint32_t i = loop->slot_free;
    struct slot *s = &loop->slots[i];
    loop->slot_free = s->next_free;
    s->object = object;
    s->kind = kind;
    return i;
}

void loop_slot_give(struct loop *loop, uint32_t slot)
{
    struct slot *s = &loop->slots[slot];
    CHECK(s->kind != SLOT_FREE);
    s->kind = SLOT_FREE;
    s->object = NULL;
    s->generation = (s->generation + 1) & GENERATION_MASK;
    s->next_free = loop->slot_free;
    loop->slot_free = slot;
}

uint64_t loop_token(const struct loop *loop, enum loop_op op, uint32_t slot)
{
    return (uint64_t)op << 56 | (uint64_t)loop->slots[slot].generation << 32 | slot;
}

static uint64_t bare_token(enum loop_op op)
{
    return (uint64_t)op << 56;
}

/* ---- mail ---- */

static void ring_bell(struct loop *to)
{
    struct loop *self = loop_self;
    if (self && self != to) {
        /* The low bits say whom to wake by eventfd should the kernel refuse. */
        self->port->ops->bell(self->port, bare_token(OP_BELL_FAILED) | (uint32_t)to->wake_fd,
                              to->port, bare_token(OP_BELL));
        return;
    }
    uint64_t one = 1;
    ssize_t n = write(to->wake_fd, &one, sizeof one); /* full counter: it is awake anyway */
    (void)n;
}

void loop_post(struct loop *to, struct mail *mail)
{
    struct mail *head = atomic_load_explicit(&to->inbox, memory_order_relaxed);
    do {
        mail->next = head;
    } while (!atomic_compare_exchange_weak(&to->inbox, &head, mail));
    if (to != loop_self && atomic_exchange(&to->sleeping, false))
        ring_bell(to);
}

static void drain_mail(struct loop *loop)
{
    struct mail *stack = atomic_exchange(&loop->inbox, NULL), *in_order = NULL;
    while (stack) {
        struct mail *next = stack->next;
        stack->next = in_order;
        in_order = stack;
        stack = next;
    }
    while (in_order) {
        struct mail *mail = in_order;
        in_order = mail->next;
        loop->stats.mails++;
        mail->deliver(loop, mail);
    }
}

static void arm_wake(struct loop *loop)
{
    if (loop->wake_armed)
        return;
    loop->wake_armed = true;
    loop->port->ops->read(loop->port, bare_token(OP_WAKE), loop->wake_fd, &loop->wake_value,
                          sizeof loop->wake_value);
}

/* ---- watches ---- */

void watch_init(struct watch *watch, struct loop *loop, watch_fn *fn)
{
    *watch = (struct watch){.loop = loop, .fn = fn};
    watch->slot = loop_slot_take(loop, SLOT_WATCH, watch);
}

void watch_poll(struct watch *watch, int fd, uint32_t poll_bits)
{
    struct loop *loop = watch->loop;
    CHECK(!watch->armed);
    watch->armed = true;
    loop->port->ops->poll(loop->port, loop_token(loop, OP_WATCH, watch->slot), fd, poll_bits);
}

void watch_write(struct watch *watch, int fd, const void *bytes, size_t n)
{
    struct loop *loop = watch->loop;
    CHECK(!watch->armed);
    watch->armed = true;
    loop->port->ops->write(loop->port, loop_token(loop, OP_WATCH, watch->slot), fd, bytes, n);
}

void watch_cancel(struct watch *watch)
{
    struct loop *loop = watch->loop;
    if (watch->armed)
        loop->port->ops->cancel(loop->port, bare_token(OP_CANCEL) | SLOT_NONE,
                                loop_token(loop, OP_WATCH, watch->slot));
}

void watch_close(struct watch *watch)
{
    CHECK(!watch->armed);
    loop_slot_give(watch->loop, watch->slot);
}

/* ---- accepting ---- */

static void arm_accept(struct listener *l)
{
    l->armed = true;
    l->loop->port->ops->accept(l->loop->port, loop_token(l->loop, OP_ACCEPT, l->slot), l->fd);
}

static void accept_again(struct timer *timer)
{
    struct listener *l = LIST_ENTRY(timer, struct listener, retry);
    if (!l->armed && !l->stopping && !l->paused)
        arm_accept(l);
}

static void cancel_accept(struct listener *l)
{
    if (l->armed)
        l->loop->port->ops->cancel(l->loop->port, bare_token(OP_CANCEL) | SLOT_NONE,
                                   loop_token(l->loop, OP_ACCEPT, l->slot));
}

void listener_pause(struct listener *l)
{
    l->paused = true;
    cancel_accept(l);
}

void listener_resume(struct listener *l)
{
    l->paused = false;
    if (!l->armed && !timer_running(&l->retry))
        arm_accept(l);
}

struct listener *listener_start(struct loop *loop, int fd, accept_fn *fn, void *context)
{
    struct listener *l = calloc(1, sizeof *l);
    CHECK(l != NULL);
    *l = (struct listener){.loop = loop, .fn = fn, .context = context, .fd = fd};
    timer_init(&l->retry, accept_again);
    l->slot = loop_slot_take(loop, SLOT_LISTENER, l);
    loop->listener_n++;
    arm_accept(l);
    return l;
}

static void listener_free(struct listener *l)
{
    timer_stop(&l->loop->timers, &l->retry);
    loop_slot_give(l->loop, l->slot);
    l->loop->listener_n--;
    l->loop->stopping_n--;
    l->loop->port->ops->close(l->loop->port, l->fd);
    free(l);
}

void listener_stop(struct listener *l)
{
    if (l->stopping)
        return;
    l->stopping = true;
    l->loop->stopping_n++;
    if (l->armed)
        cancel_accept(l);
    else
        listener_free(l);
}

/* EMFILE and its like end a multishot accept: try again after a pause, never in a spin. */
static void on_accept(struct listener *l, const struct port_event *ev)
{
    if (ev->res >=
        0) /* while it stops, too: the kernel has told that client that it is connected */
        l->fn(l->loop, ev->res, l->context);
    else if (ev->res != -ECANCELED)
        l->loop->stats.accept_errors++;
    if (ev->more)
        return;
    l->armed = false;
    if (l->stopping)
        listener_free(l);
    else if (!l->paused && (ev->res >= 0 || ev->res == -ECONNABORTED || ev->res == -EINTR))
        arm_accept(l);
    else if (!l->paused)
        timer_start(&l->loop->timers, &l->retry, l->loop->now_ms + ACCEPT_RETRY_MS);
}

/* ---- the turn ---- */

static void return_stray_buffer(struct loop *loop, const struct port_event *ev)
{
    enum port_group group = ev->token >> 56 == OP_RECV_BULK ? PORT_BULK : PORT_SMALL;
    if (ev->buf_id != PORT_NO_BUF)
        buf_unref(&loop->bufs, buf_provided(&loop->bufs, group, ev->buf_id));
}

static void record_slot_event(struct loop *loop, const struct port_event *ev)
{
    enum loop_op op = (enum loop_op)(ev->token >> 56);
    uint32_t generation = (uint32_t)(ev->token >> 32) & GENERATION_MASK;
    uint32_t index = (uint32_t)ev->token;
    if (index == SLOT_NONE)
        return; /* a cancel that nobody waits for */
    if (index >= loop->slot_n || loop->slots[index].kind == SLOT_FREE ||
        loop->slots[index].generation != generation) {
        loop->stats.stale_events++;
        return_stray_buffer(loop, ev);
        return;
    }
    struct slot *s = &loop->slots[index];
    if (s->kind == SLOT_CONN) {
        conn_record(s->object, op, ev);
    } else if (s->kind == SLOT_LISTENER) {
        on_accept(s->object, ev);
    } else {
        struct watch *watch = s->object;
        watch->armed = false;
        watch->fn(watch, ev->res);
    }
}

static void record(struct loop *loop, const struct port_event *ev)
{
    loop->stats.events++;
    enum loop_op op = (enum loop_op)(ev->token >> 56);
    if (op == OP_BELL)
        return;
    if (op == OP_WAKE) {
        loop->wake_armed = false;
        return;
    }
    if (op == OP_BELL_FAILED) {
        uint64_t one = 1;
        ssize_t n = write((int)(uint32_t)ev->token, &one, sizeof one);
        (void)n;
        return;
    }
    record_slot_event(loop, ev);
}

static void run_conns(struct loop *loop)
{
    struct list *n;
    for (unsigned runs = 0; runs < RUNS_MAX && (n = list_pop(&loop->run)) != NULL; runs++)
        conn_run(LIST_ENTRY(n, struct conn, run_node));
}

static void flush_conns(struct loop *loop)
{
    for (struct list *n; (n = list_pop(&loop->flush)) != NULL;)
        conn_flush(LIST_ENTRY(n, struct conn, flush_node));
}

/* Connections that found no buffer get another try when a quarter is free again, oldest first. */
static void feed_starved(struct loop *loop)
{
    if (list_empty(&loop->starved))
        return;
    uint32_t count = loop->port->buffers[PORT_SMALL].count;
    if (count - loop->bufs.lent[PORT_SMALL] < count / 4)
        return;
    for (struct list *n; (n = list_pop(&loop->starved)) != NULL;) {
        struct conn *conn = LIST_ENTRY(n, struct conn, starved_node);
        if (list_empty(&conn->flush_node))
            list_push_back(&loop->flush, &conn->flush_node);
    }
}

/* Peers that do not read must not keep the buffers that everybody receives into: below a quarter of
 * free ones, sends that are stuck are taken back and their bytes copied. */
static void unpin_when_low(struct loop *loop)
{
    uint32_t count = loop->port->buffers[PORT_SMALL].count;
    if (count - loop->bufs.lent[PORT_SMALL] >= count / 4)
        return;
    struct list stuck;
    list_init(&stuck);
    for (struct list *n; (n = list_pop(&loop->sending)) != NULL;) {
        list_push_back(&stuck, n);
        conn_unpin(LIST_ENTRY(n, struct conn, sending_node));
    }
    for (struct list *n; (n = list_pop(&stuck)) != NULL;)
        list_push_back(&loop->sending, n);
}

static uint64_t wait_deadline_ns(struct loop *loop, uint64_t until_ms)
{
    if (!list_empty(&loop->run) || !list_empty(&loop->flush))
        return 0;
    uint64_t next_ms = timer_next_ms(&loop->timers);
    if (until_ms < next_ms)
        next_ms = until_ms;
    return next_ms == TIMER_NEVER ? PORT_NEVER : next_ms * 1000000U;
}

static void set_clock(struct loop *loop)
{
    loop->now_ns = loop->port->ops->now_ns(loop->port);
    loop->now_ms = loop->now_ns / 1000000U;
}

static void tell_wait_error(struct loop *loop, int rc)
{
    uint64_t n = ++loop->stats.wait_errors;
    if ((n & (n - 1)) == 0)
        LOG(LOG_ERROR, "io.wait_failed", LF_S("error", strerror(-rc)), LF_U("times", n));
}

static void count_beat(struct loop *loop)
{
    uint32_t next = atomic_load_explicit(&loop->beat, memory_order_relaxed) + 1;
    atomic_store_explicit(&loop->beat, next == LOOP_SLEEPS ? next + 1 : next, memory_order_relaxed);
}

uint32_t loop_beat(const struct loop *loop)
{
    return atomic_load(&loop->sleeping) ? LOOP_SLEEPS : atomic_load(&loop->beat);
}

void loop_turn(struct loop *loop, uint64_t until_ms)
{
    struct port_event events[PORT_EVENTS_MAX];
    loop->stats.turns++;
    count_beat(loop);
    arm_wake(loop);
    uint64_t deadline_ns = wait_deadline_ns(loop, until_ms);
    atomic_store(&loop->sleeping, true);
    if (atomic_load(&loop->inbox)) /* mail that came before the flag rang no bell */
        deadline_ns = 0;
    int rc = loop->port->ops->wait(loop->port, deadline_ns);
    atomic_store(&loop->sleeping, false);
    set_clock(loop);
    bool late = deadline_ns > 0 && deadline_ns != PORT_NEVER && loop->now_ns > deadline_ns;
    loop->late_ms = late ? (loop->now_ns - deadline_ns) / 1000000U : 0;
    if (rc < 0)
        tell_wait_error(loop, rc);
    for (unsigned n = PORT_EVENTS_MAX; n == PORT_EVENTS_MAX;) {
        n = loop->port->ops->reap(loop->port, events, PORT_EVENTS_MAX);
        for (unsigned i = 0; i < n; i++)
            record(loop, &events[i]);
    }
    timer_run(&loop->timers, loop->now_ms);
    drain_mail(loop);
    run_conns(loop);
    unpin_when_low(loop);
    feed_starved(loop);
    flush_conns(loop);
}

void loop_drain(struct loop *loop, uint64_t deadline_ms)
{
    while (loop->conn_n + loop->stopping_n > 0 && loop->now_ms < deadline_ms)
        loop_turn(loop, deadline_ms);
}

void loop_tell_left(const struct loop *loop)
{
    for (uint32_t i = 0, told = 0; i < loop->slot_n && told < LEFT_TOLD_MAX; i++) {
        if (loop->slots[i].kind != SLOT_CONN)
            continue;
        told++;
        const struct conn *conn = loop->slots[i].object;
        LOG(LOG_WARN, "conn.left", LF_S("what", conn->ops->name),
            LF_S("closed", conn->why ? conn->why : "no"), LF_U("shut", conn->shut),
            LF_U("inflight", conn->inflight), LF_U("recv", conn->recv),
            LF_U("connecting", conn->connecting), LF_U("cancelling", conn->cancelling),
            LF_U("unpinning", conn->unpinning), LF_U("quiescing", conn->quiescing),
            LF_U("sending", conn->sent_bytes), LF_U("eof", conn->eof));
    }
}

struct loop *loop_new(struct port *port, uint32_t id, void *context)
{
    struct loop *loop = calloc(1, sizeof *loop);
    CHECK(loop != NULL);
    loop->port = port;
    loop->id = id;
    loop->context = context;
    loop->slot_free = SLOT_NONE;
    loop->wake_fd = eventfd(0, EFD_CLOEXEC);
    CHECK(loop->wake_fd >= 0);
    list_init(&loop->run);
    list_init(&loop->flush);
    list_init(&loop->starved);
    list_init(&loop->sending);
    buf_pool_init(&loop->bufs, port);
    set_clock(loop);
    timer_wheel_init(&loop->timers, loop->now_ms);
    loop_self = loop;
    return loop;
}

void loop_free(struct loop *loop)
{
    CHECK(loop->conn_n == 0 && loop->listener_n == 0);
    loop->port->ops->wait(loop->port, 0); /* bells are submitted by a wait */
    buf_pool_destroy(&loop->bufs);
    loop->port->ops->destroy(loop->port);
    close(loop->wake_fd);
    free(loop->slots);
    if (loop_self == loop)
        loop_self = NULL;
    free(loop);
}
