#include "tests/unit/port_sim.h"

#include "base/check.h"
#include "base/list.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

#define FD_FIRST 100000 /* above every descriptor of the real kernel */
#define SOCKETS_MAX 4096
#define PORTS_MAX 4
#define OP_EVENTS_MAX 64
#define LATE_MAX 16
#define MS 1000000ULL

struct sock {
    bool open, listening, connecting;
    bool fin;   /* the other side will send no more */
    bool reset; /* by the other side */
    bool shut_rd, shut_wr;
    int peer; /* index, or -1 */
    uint8_t *rx;
    uint32_t rx_n;
    int backlog[64];
    uint32_t backlog_n;
};

enum op_kind { K_ACCEPT, K_CONNECT, K_RECV, K_SEND, K_POLL, K_READ, K_WRITE, K_MADE };

struct queued {
    struct port_event event;
    uint64_t due_ns;
};

/* From its start until its last event has been reaped. */
struct op {
    struct list node;
    enum op_kind kind;
    uint64_t token;
    int fd;
    unsigned flags;
    enum port_group group;
    struct iovec iov[PORT_IOV_MAX];
    unsigned iov_n;
    size_t asked, moved;
    uint32_t poll_bits;
    uint64_t due_ns;    /* connect: when it is decided */
    uint64_t resume_ns; /* nothing happens before */
    bool finished;      /* the last event is in the queue */
    struct queued queue[OP_EVENTS_MAX];
    unsigned queue_n;
};

struct group {
    uint8_t *state; /* of each buffer: enum buffer_state */
    uint32_t free_n, lent_n;
};

enum buffer_state { B_FREE, B_LENT, B_RETURNED };

struct late {
    uint64_t token;
    int fd;
    bool with_buffer;
    enum port_group group;
};

struct sim_port {
    struct port port;
    struct sim *sim;
    struct list ops;
    struct group groups[PORT_GROUPS];
    struct late late[LATE_MAX]; /* ended operations: their ghosts may come when the fd is gone */
    unsigned late_n;
    unsigned enobufs_burst;
};

struct sim {
    struct sim_config config;
    uint64_t rng, now_ns;
    struct sock socks[SOCKETS_MAX];
    struct sim_port *ports[PORTS_MAX];
    int dialled[64];
    uint32_t dialled_n;
    uint32_t chunk_bias;
};

/* ---- seeds and failures ---- */

static uint64_t seed_now;

static void print_seed(void)
{
    char text[96];
    int n = snprintf(text, sizeof text, "\nreplay with PGWEIR_SEED=%llu\n",
                     (unsigned long long)seed_now);
    ssize_t wrote = write(STDERR_FILENO, text, (size_t)n);
    (void)wrote;
}

static void on_abort(int sig)
{
    (void)sig;
    print_seed();
    signal(SIGABRT, SIG_DFL);
    abort();
}

uint64_t sim_seed(uint64_t fallback)
{
    const char *text = getenv("PGWEIR_SEED");
    return text ? strtoull(text, NULL, 10) : fallback;
}

uint64_t sim_seed_count(void)
{
    const char *text = getenv("PGWEIR_SEEDS");
    if (getenv("PGWEIR_SEED"))
        return 1;
    return text ? strtoull(text, NULL, 10) : 200;
}

uint32_t sim_random(struct sim *sim, uint32_t below)
{
    sim->rng += 0x9e3779b97f4a7c15U; /* splitmix64 */
    uint64_t z = sim->rng;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return (uint32_t)((z ^ (z >> 31)) >> 16) % below;
}

/* Faults happen in a wild sim only. */
static bool chance(struct sim *sim, uint32_t pct)
{
    return !sim->config.calm && sim_random(sim, 100) < pct;
}

uint32_t sim_chunk(struct sim *sim, uint32_t max)
{
    if (sim->config.calm || max <= 1)
        return max;
    switch ((sim_random(sim, 4) + sim->chunk_bias) % 8) {
    case 0:
        return 1;
    case 1:
        return 1 + sim_random(sim, max < 32 ? max : 32);
    case 2:
    case 3:
        return 1 + sim_random(sim, max);
    default:
        return max;
    }
}

struct sim *sim_new(const struct sim_config *config)
{
    struct sim *sim = calloc(1, sizeof *sim);
    CHECK(sim != NULL);
    sim->config = *config;
    struct sim_config *c = &sim->config;
    c->room_bytes = c->room_bytes ? c->room_bytes : 65536;
    c->small_bytes = c->small_bytes ? c->small_bytes : 16384;
    c->small_count = c->small_count ? c->small_count : 64;
    c->bulk_bytes = c->bulk_bytes ? c->bulk_bytes : 65536;
    c->bulk_count = c->bulk_count ? c->bulk_count : 8;
    sim->rng = config->seed;
    sim->now_ns = 1000 * MS + sim_random(sim, 1000000);
    sim->chunk_bias = sim_random(sim, 5); /* some seeds are nibblers, others are not */
    seed_now = config->seed;
    signal(SIGABRT, on_abort);
#if defined(__SANITIZE_ADDRESS__)
    __asan_set_death_callback(print_seed);
#endif
    return sim;
}

void sim_free(struct sim *sim)
{
    for (unsigned i = 0; i < PORTS_MAX; i++)
        CHECK(sim->ports[i] == NULL);
    for (unsigned i = 0; i < SOCKETS_MAX; i++)
        free(sim->socks[i].rx);
    free(sim);
}

uint64_t sim_now_ms(const struct sim *sim)
{
    return sim->now_ns / MS;
}

void sim_pass_ms(struct sim *sim, uint64_t ms)
{
    sim->now_ns += ms * MS;
}

/* ---- sockets ---- */

static struct sock *sock_at(const struct sim *sim, int fd)
{
    CHECK(fd >= FD_FIRST && fd < FD_FIRST + SOCKETS_MAX);
    struct sock *s = (struct sock *)(uintptr_t)&sim->socks[fd - FD_FIRST];
    CHECK(s->open);
    return s;
}

static bool is_sim_fd(int fd)
{
    return fd >= FD_FIRST;
}

static int open_sock(struct sim *sim)
{
    for (int i = 0; i < SOCKETS_MAX; i++) {
        struct sock *s = &sim->socks[i];
        if (s->open)
            continue;
        uint8_t *rx = s->rx ? s->rx : malloc(sim->config.room_bytes);
        CHECK(rx != NULL);
        *s = (struct sock){.open = true, .peer = -1, .rx = rx};
        return FD_FIRST + i;
    }
    CHECK_UNREACHABLE();
}

static void join(struct sim *sim, int a, int b)
{
    sock_at(sim, a)->peer = b;
    sock_at(sim, b)->peer = a;
}

void sim_pair(struct sim *sim, int fd[2])
{
    fd[0] = open_sock(sim);
    fd[1] = open_sock(sim);
    join(sim, fd[0], fd[1]);
}

int sim_peer(const struct sim *sim, int fd)
{
    return sock_at(sim, fd)->peer;
}

int sim_dialled(struct sim *sim)
{
    if (sim->dialled_n == 0)
        return -1;
    int fd = sim->dialled[0];
    memmove(sim->dialled, sim->dialled + 1, --sim->dialled_n * sizeof fd);
    return fd;
}

int sim_listen(struct sim *sim)
{
    int fd = open_sock(sim);
    sock_at(sim, fd)->listening = true;
    return fd;
}

int sim_dial(struct sim *sim, int listen_fd)
{
    struct sock *l = sock_at(sim, listen_fd);
    int fd[2];
    CHECK(l->listening && l->backlog_n < sizeof l->backlog / sizeof *l->backlog);
    sim_pair(sim, fd);
    l->backlog[l->backlog_n++] = fd[1];
    return fd[0];
}

static struct sock *other_side(const struct sim *sim, const struct sock *s)
{
    return s->peer < 0 ? NULL : sock_at(sim, s->peer);
}

size_t sim_room(const struct sim *sim, int fd)
{
    const struct sock *to = other_side(sim, sock_at(sim, fd));
    return to ? sim->config.room_bytes - to->rx_n : 0;
}

size_t sim_write(struct sim *sim, int fd, const void *bytes, size_t n)
{
    struct sock *s = sock_at(sim, fd), *to = other_side(sim, s);
    if (!to || to->reset || s->shut_wr)
        return 0;
    if (to->shut_rd) { /* nobody will read it: the answer is a reset */
        s->reset = true;
        return 0;
    }
    size_t room = sim->config.room_bytes - to->rx_n;
    n = n < room ? n : room;
    memcpy(to->rx + to->rx_n, bytes, n);
    to->rx_n += (uint32_t)n;
    return n;
}

size_t sim_read(struct sim *sim, int fd, void *bytes, size_t n)
{
    struct sock *s = sock_at(sim, fd);
    n = n < s->rx_n ? n : s->rx_n;
    memcpy(bytes, s->rx, n);
    s->rx_n -= (uint32_t)n;
    memmove(s->rx, s->rx + n, s->rx_n);
    return n;
}

bool sim_ended(const struct sim *sim, int fd)
{
    const struct sock *s = sock_at(sim, fd);
    return s->reset || (s->rx_n == 0 && (s->fin || s->peer < 0));
}

bool sim_is_reset(const struct sim *sim, int fd)
{
    return sock_at(sim, fd)->reset;
}

void sim_shut(struct sim *sim, int fd)
{
    struct sock *s = sock_at(sim, fd), *to = other_side(sim, s);
    s->shut_wr = true;
    if (to)
        to->fin = true;
}

void sim_reset(struct sim *sim, int fd)
{
    struct sock *s = sock_at(sim, fd), *to = other_side(sim, s);
    if (to) {
        to->reset = true;
        to->peer = -1;
    }
    s->open = false;
}

void sim_close(struct sim *sim, int fd)
{
    struct sock *s = sock_at(sim, fd), *to = other_side(sim, s);
    if (to) {
        to->fin = true;
        to->peer = -1;
        if (s->rx_n > 0) /* as TCP does with bytes that nobody read */
            to->reset = true;
    }
    s->open = false;
    for (uint32_t i = 0; s->listening && i < s->backlog_n; i++)
        sim_close(sim, s->backlog[i]);
}

uint32_t sim_sockets(const struct sim *sim)
{
    uint32_t n = 0;
    for (unsigned i = 0; i < SOCKETS_MAX; i++)
        n += sim->socks[i].open;
    return n;
}

/* ---- provided buffers ---- */

static struct sim_port *port_at(struct port *port)
{
    return (struct sim_port *)(void *)port;
}

static uint8_t *buffer_bytes(struct sim_port *p, enum port_group group, uint32_t id)
{
    return p->port.buffers[group].base + (size_t)id * p->port.buffers[group].bytes;
}

static int32_t lend(struct sim_port *p, enum port_group group)
{
    struct group *g = &p->groups[group];
    uint32_t count = p->port.buffers[group].count;
    uint32_t start = sim_random(p->sim, count);
    for (uint32_t i = 0; i < count && g->free_n > 0; i++) {
        uint32_t id = (start + i) % count;
        if (g->state[id] != B_FREE)
            continue;
        g->state[id] = B_LENT;
        g->free_n--;
        g->lent_n++;
        ASAN_UNPOISON_MEMORY_REGION(buffer_bytes(p, group, id), p->port.buffers[group].bytes);
        return (int32_t)id;
    }
    return PORT_NO_BUF;
}

static void sim_buf_return(struct port *port, enum port_group group, uint32_t id)
{
    struct sim_port *p = port_at(port);
    CHECK(id < port->buffers[group].count);
    CHECK(p->groups[group].state[id] == B_LENT);
    p->groups[group].state[id] = B_RETURNED;
    p->groups[group].lent_n--;
    memset(buffer_bytes(p, group, id), 0xdd, port->buffers[group].bytes < 64 ? 1 : 64);
    ASAN_POISON_MEMORY_REGION(buffer_bytes(p, group, id), port->buffers[group].bytes);
}

static void publish_returned(struct sim_port *p)
{
    for (int g = 0; g < PORT_GROUPS; g++)
        for (uint32_t id = 0; id < p->port.buffers[g].count; id++)
            if (p->groups[g].state[id] == B_RETURNED) {
                p->groups[g].state[id] = B_FREE;
                p->groups[g].free_n++;
            }
}

/* ---- operations ---- */

static struct op *op_new(struct port *port, enum op_kind kind, uint64_t token, int fd)
{
    struct sim_port *p = port_at(port);
    struct op *op = calloc(1, sizeof *op);
    CHECK(op != NULL);
    op->kind = kind;
    op->token = token;
    op->fd = fd;
    if (is_sim_fd(fd))
        sock_at(p->sim, fd); /* checks that it is open */
    if (chance(p->sim, 20))
        op->resume_ns = p->sim->now_ns + sim_random(p->sim, 3000000);
    list_push_back(&p->ops, &op->node);
    return op;
}

/* Events of one operation stay in order; those of different ones come in any. */
static void queue_event(struct sim_port *p, struct op *op, int32_t res, int32_t buf_id, bool more)
{
    CHECK(!op->finished && op->queue_n < OP_EVENTS_MAX);
    uint64_t due_ns = p->sim->now_ns;
    if (chance(p->sim, 25))
        due_ns += sim_random(p->sim, 2000000);
    if (op->queue_n > 0 && op->queue[op->queue_n - 1].due_ns > due_ns)
        due_ns = op->queue[op->queue_n - 1].due_ns;
    op->queue[op->queue_n++] =
        (struct queued){{.token = op->token, .res = res, .buf_id = buf_id, .more = more}, due_ns};
    op->finished = !more;
}

static void finish(struct sim_port *p, struct op *op, int32_t res)
{
    queue_event(p, op, res, PORT_NO_BUF, false);
}

/* An event that belongs to no operation of the caller's. */
static void queue_made(struct sim_port *p, uint64_t token, int32_t res, int32_t buf_id)
{
    struct op *op = op_new(&p->port, K_MADE, token, -1);
    queue_event(p, op, res, buf_id, false);
}

/* ---- accept, connect ---- */

static void step_accept(struct sim_port *p, struct op *op)
{
    struct sock *l = sock_at(p->sim, op->fd);
    if (l->backlog_n == 0)
        return;
    if (chance(p->sim, 10)) {
        static const int errors[] = {EMFILE, ECONNABORTED, ENFILE, EINTR};
        finish(p, op, -errors[sim_random(p->sim, 4)]);
        return;
    }
    int fd = l->backlog[0];
    memmove(l->backlog, l->backlog + 1, --l->backlog_n * sizeof fd);
    queue_event(p, op, fd, PORT_NO_BUF, !chance(p->sim, 10));
}

static void step_connect(struct sim_port *p, struct op *op)
{
    struct sim *sim = p->sim;
    struct sock *s = sock_at(sim, op->fd);
    if (s->shut_wr) {
        finish(p, op, -EPIPE);
        return;
    }
    if (sim_random(sim, 100) < sim->config.refused_pct) {
        static const int errors[] = {ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH};
        finish(p, op, -errors[sim_random(sim, 3)]);
        return;
    }
    int far = open_sock(sim);
    join(sim, op->fd, far);
    s->connecting = false;
    CHECK(sim->dialled_n < sizeof sim->dialled / sizeof *sim->dialled);
    sim->dialled[sim->dialled_n++] = far;
    finish(p, op, 0);
}

/* ---- recv ---- */

static bool out_of_buffers(struct sim_port *p, struct op *op)
{
    if (p->enobufs_burst == 0 && chance(p->sim, 2))
        p->enobufs_burst = 1 + sim_random(p->sim, 8);
    if (p->enobufs_burst > 0) {
        p->enobufs_burst--;
        return true;
    }
    return p->groups[op->group].free_n == 0;
}

static void step_recv(struct sim_port *p, struct op *op)
{
    struct sim *sim = p->sim;
    struct sock *s = sock_at(sim, op->fd);
    CHECK(!s->connecting); /* nobody receives on a socket that is not connected */
    bool silent = s->rx_n == 0 && !s->fin && !s->reset && !s->shut_rd && s->peer >= 0;
    if (silent && (op->flags & PORT_POLL_FIRST || p->groups[op->group].free_n > 0))
        return;
    if (silent || (s->rx_n > 0 && out_of_buffers(p, op))) {
        finish(p, op, -ENOBUFS);
        return;
    }
    if (s->reset && (s->rx_n == 0 || sim_random(sim, 2))) {
        s->rx_n = 0;
        finish(p, op, -ECONNRESET);
        return;
    }
    if (s->rx_n == 0) { /* the end; the kernel may name a buffer even then */
        int32_t id = chance(sim, 20) ? lend(p, op->group) : PORT_NO_BUF;
        queue_event(p, op, 0, id, false);
        return;
    }
    if (chance(sim, 2)) { /* for no visible reason */
        finish(p, op, sim_random(sim, 2) ? -EAGAIN : -EINTR);
        return;
    }
    int32_t id = lend(p, op->group);
    CHECK(id != PORT_NO_BUF);
    uint32_t cap = p->port.buffers[op->group].bytes;
    size_t n = sim_read(sim, op->fd, buffer_bytes(p, op->group, (uint32_t)id),
                        sim_chunk(sim, s->rx_n < cap ? s->rx_n : cap));
    bool more = !(op->flags & PORT_ONE_SHOT) && !chance(sim, 8);
    queue_event(p, op, (int32_t)n, id, more);
}

/* ---- send ---- */

static void gather(const struct op *op, size_t skip, size_t n, uint8_t *to)
{
    for (unsigned i = 0; i < op->iov_n && n > 0; i++) {
        size_t len = op->iov[i].iov_len;
        if (skip >= len) {
            skip -= len;
            continue;
        }
        size_t take = len - skip < n ? len - skip : n;
        memcpy(to, (const uint8_t *)op->iov[i].iov_base + skip, take);
        to += take;
        n -= take;
        skip = 0;
    }
}

static void send_failed(struct sim_port *p, struct op *op, int err)
{
    finish(p, op, op->moved ? (int32_t)op->moved : -err);
}

static void step_send(struct sim_port *p, struct op *op)
{
    struct sim *sim = p->sim;
    struct sock *s = sock_at(sim, op->fd), *to = other_side(sim, s);
    CHECK(!s->connecting);
    if (s->shut_wr || s->reset || !to) {
        send_failed(p, op, s->reset ? ECONNRESET : EPIPE);
        return;
    }
    size_t left = op->asked - op->moved, room = sim->config.room_bytes - to->rx_n;
    if (op->moved == 0 && !(op->flags & PORT_POLL_FIRST) && chance(sim, 3)) {
        finish(p, op, sim_random(sim, 2) ? -EAGAIN : -EINTR);
        return;
    }
    if (room == 0)
        return;
    size_t n = sim_chunk(sim, (uint32_t)(left < room ? left : room));
    uint8_t *bytes = malloc(n);
    CHECK(bytes != NULL);
    gather(op, op->moved, n, bytes);
    op->moved += sim_write(sim, op->fd, bytes, n);
    free(bytes);
    if (op->moved == op->asked || (op->moved > 0 && chance(sim, 15)))
        finish(p, op, (int32_t)op->moved); /* all, or a short send */
}

/* ---- descriptors of the real kernel: the loop's eventfd, a log's pipe ---- */

static bool is_ready(int fd, short bits)
{
    struct pollfd pfd = {.fd = fd, .events = bits};
    return poll(&pfd, 1, 0) == 1;
}

static void step_real(struct sim_port *p, struct op *op)
{
    short bits = op->kind == K_POLL ? (short)op->poll_bits : op->kind == K_READ ? POLLIN : POLLOUT;
    if (!is_ready(op->fd, bits))
        return;
    ssize_t n = 0;
    if (op->kind == K_READ)
        n = read(op->fd, op->iov[0].iov_base, op->iov[0].iov_len);
    else if (op->kind == K_WRITE)
        n = write(op->fd, op->iov[0].iov_base, sim_chunk(p->sim, (uint32_t)op->iov[0].iov_len));
    else
        n = bits;
    finish(p, op, n < 0 ? -errno : (int32_t)n);
}

static void step(struct sim_port *p, struct op *op)
{
    if (op->finished || op->resume_ns > p->sim->now_ns || op->queue_n >= OP_EVENTS_MAX / 2)
        return;
    switch (op->kind) {
    case K_ACCEPT:
        step_accept(p, op);
        break;
    case K_CONNECT:
        step_connect(p, op);
        break;
    case K_RECV:
        step_recv(p, op);
        break;
    case K_SEND:
        step_send(p, op);
        break;
    case K_POLL:
    case K_READ:
    case K_WRITE:
        step_real(p, op);
        break;
    case K_MADE:
        break;
    }
}

/* Every operation gets some tries, from a random one on. */
static void step_all(struct sim_port *p)
{
    for (uint32_t tries = 1 + sim_random(p->sim, 4); tries > 0; tries--) {
        for (uint32_t turns = sim_random(p->sim, 8); turns > 0 && !list_empty(&p->ops); turns--)
            list_push_back(&p->ops, list_pop(&p->ops));
        for (struct list *n = p->ops.next; n != &p->ops; n = n->next)
            step(p, LIST_ENTRY(n, struct op, node));
    }
}

/* ---- ghosts: completions of operations whose descriptor is closed ---- */

static void remember_ended(struct sim_port *p, const struct op *op)
{
    if (!is_sim_fd(op->fd) || op->kind == K_ACCEPT)
        return;
    unsigned i = p->late_n < LATE_MAX ? p->late_n++ : sim_random(p->sim, LATE_MAX);
    p->late[i] = (struct late){op->token, op->fd, op->kind == K_RECV, op->group};
}

static void raise_ghosts(struct sim_port *p, int closed_fd)
{
    for (unsigned i = 0; i < p->late_n;) {
        if (p->late[i].fd != closed_fd) {
            i++;
            continue;
        }
        if (chance(p->sim, 50)) {
            bool lent = p->late[i].with_buffer && sim_random(p->sim, 2);
            int32_t id = lent ? lend(p, p->late[i].group) : PORT_NO_BUF;
            queue_made(p, p->late[i].token, 1 + (int32_t)sim_random(p->sim, 3), id);
        }
        p->late[i] = p->late[--p->late_n];
    }
}

/* ---- waiting and reaping ---- */

static uint64_t next_due_ns(struct sim_port *p)
{
    uint64_t next_ns = PORT_NEVER;
    for (struct list *n = p->ops.next; n != &p->ops; n = n->next) {
        const struct op *op = LIST_ENTRY(n, struct op, node);
        uint64_t due_ns = op->queue_n > 0                  ? op->queue[0].due_ns
                          : op->finished                   ? PORT_NEVER
                          : op->resume_ns > p->sim->now_ns ? op->resume_ns
                                                           : PORT_NEVER;
        next_ns = due_ns < next_ns ? due_ns : next_ns;
    }
    return next_ns;
}

/* Never blocks: with nothing to wait for it returns at once, and its test decides what comes. */
static int sim_wait(struct port *port, uint64_t deadline_ns)
{
    struct sim_port *p = port_at(port);
    struct sim *sim = p->sim;
    port->stats.enters++;
    publish_returned(p);
    step_all(p);
    uint64_t next_ns = next_due_ns(p);
    if (deadline_ns < next_ns)
        next_ns = deadline_ns;
    if (chance(sim, 10)) /* interrupted */
        next_ns = sim->now_ns + sim_random(sim, 1000);
    if (next_ns != PORT_NEVER && next_ns > sim->now_ns)
        sim->now_ns = next_ns;
    sim->now_ns += sim_random(sim, 50000);
    step_all(p);
    return 0;
}

static uint64_t sim_now_ns(struct port *port)
{
    return port_at(port)->sim->now_ns;
}

static struct port_event pop_event(struct sim_port *p, struct op *op)
{
    struct port_event event = op->queue[0].event;
    memmove(op->queue, op->queue + 1, --op->queue_n * sizeof *op->queue);
    if (op->finished && op->queue_n == 0) {
        remember_ended(p, op);
        list_remove(&op->node);
        free(op);
    }
    return event;
}

static unsigned sim_reap(struct port *port, struct port_event *events, unsigned max)
{
    struct sim_port *p = port_at(port);
    unsigned n = 0;
    for (bool found = true; found && n < max;) {
        found = false;
        for (struct list *l = p->ops.next, *next; l != &p->ops && n < max; l = next) {
            next = l->next;
            struct op *op = LIST_ENTRY(l, struct op, node);
            if (op->queue_n == 0 || op->queue[0].due_ns > p->sim->now_ns)
                continue;
            found = true;
            if (chance(p->sim, 30))
                continue; /* another one first */
            events[n++] = pop_event(p, op);
        }
    }
    return n;
}

/* ---- starting operations ---- */

static void sim_accept(struct port *port, uint64_t token, int fd)
{
    CHECK(sock_at(port_at(port)->sim, fd)->listening);
    op_new(port, K_ACCEPT, token, fd);
}

static void sim_connect(struct port *port, uint64_t token, int fd, const struct sockaddr *addr,
                        socklen_t addr_bytes)
{
    (void)addr;
    (void)addr_bytes;
    op_new(port, K_CONNECT, token, fd);
}

static void sim_recv(struct port *port, uint64_t token, int fd, enum port_group group,
                     unsigned flags)
{
    struct op *op = op_new(port, K_RECV, token, fd);
    op->group = group;
    op->flags = flags;
}

static void sim_sendv(struct port *port, uint64_t token, int fd, const struct iovec *iov,
                      unsigned iov_n, unsigned flags)
{
    struct sim_port *p = port_at(port);
    CHECK(iov_n > 0 && iov_n <= PORT_IOV_MAX);
    for (struct list *n = p->ops.next; n != &p->ops; n = n->next) {
        const struct op *op = LIST_ENTRY(n, struct op, node);
        CHECK(op->kind != K_SEND || op->fd != fd); /* one send in flight per socket */
    }
    struct op *op = op_new(port, K_SEND, token, fd);
    memcpy(op->iov, iov, iov_n * sizeof *iov);
    op->iov_n = iov_n;
    op->flags = flags;
    for (unsigned i = 0; i < iov_n; i++)
        op->asked += iov[i].iov_len;
    CHECK(op->asked > 0);
}

static void sim_send(struct port *port, uint64_t token, int fd, const void *bytes, size_t n,
                     unsigned flags)
{
    struct iovec iov = {(void *)(uintptr_t)bytes, n};
    sim_sendv(port, token, fd, &iov, 1, flags);
}

static void sim_poll(struct port *port, uint64_t token, int fd, uint32_t poll_bits)
{
    op_new(port, K_POLL, token, fd)->poll_bits = poll_bits;
}

static void sim_file_read(struct port *port, uint64_t token, int fd, void *bytes, size_t n)
{
    op_new(port, K_READ, token, fd)->iov[0] = (struct iovec){bytes, n};
}

static void sim_file_write(struct port *port, uint64_t token, int fd, const void *bytes, size_t n)
{
    op_new(port, K_WRITE, token, fd)->iov[0] = (struct iovec){(void *)(uintptr_t)bytes, n};
}

static struct op *find_op(struct sim_port *p, uint64_t token)
{
    for (struct list *n = p->ops.next; n != &p->ops; n = n->next) {
        struct op *op = LIST_ENTRY(n, struct op, node);
        if (op->token == token && !op->finished && op->kind != K_MADE)
            return op;
    }
    return NULL;
}

/* What the kernel may answer: 0 and the victim ends; too late; or "running", and the victim is
 * interrupted or comes to its own end. */
static void sim_cancel(struct port *port, uint64_t token, uint64_t victim)
{
    struct sim_port *p = port_at(port);
    struct op *op = find_op(p, victim);
    if (op)
        step(p, op); /* it may win the race */
    if (!op || op->finished) {
        queue_made(p, token, -ENOENT, PORT_NO_BUF);
        return;
    }
    bool running = chance(p->sim, 20);
    int err = running && sim_random(p->sim, 2) ? EINTR : ECANCELED;
    if (op->kind == K_RECV && chance(p->sim, 5))
        err = ENOBUFS; /* seen on 6.0 to 6.4 */
    send_failed(p, op, err);
    queue_made(p, token, running ? -EALREADY : 0, PORT_NO_BUF);
}

static void sim_bell(struct port *port, uint64_t token, struct port *other, uint64_t bell_token)
{
    struct sim_port *p = port_at(port);
    if (chance(p->sim, 20))
        queue_made(p, token, -EOVERFLOW, PORT_NO_BUF);
    else
        queue_made(port_at(other), bell_token, 0, PORT_NO_BUF);
}

/* ---- plain calls ---- */

static int sim_socket(struct port *port, int family)
{
    (void)family;
    struct sim *sim = port_at(port)->sim;
    int fd = open_sock(sim);
    sock_at(sim, fd)->connecting = true;
    return fd;
}

static void sim_shutdown(struct port *port, int fd, int how)
{
    struct sim *sim = port_at(port)->sim;
    struct sock *s = sock_at(sim, fd);
    if (how != SHUT_WR && !sim->config.deaf_recv)
        s->shut_rd = true;
    if (how != SHUT_RD)
        sim_shut(sim, fd);
}

static void sim_close_fd(struct port *port, int fd)
{
    struct sim_port *p = port_at(port);
    for (struct list *n = p->ops.next; n != &p->ops; n = n->next)
        CHECK(LIST_ENTRY(n, struct op, node)->fd != fd);
    sim_close(p->sim, fd);
    raise_ghosts(p, fd);
}

static void sim_destroy(struct port *port)
{
    struct sim_port *p = port_at(port);
    for (struct list *n; (n = list_pop(&p->ops)) != NULL;)
        free(LIST_ENTRY(n, struct op, node));
    for (int g = 0; g < PORT_GROUPS; g++) {
        ASAN_UNPOISON_MEMORY_REGION(port->buffers[g].base,
                                    (size_t)port->buffers[g].bytes * port->buffers[g].count);
        free(port->buffers[g].base);
        free(p->groups[g].state);
    }
    for (unsigned i = 0; i < PORTS_MAX; i++)
        if (p->sim->ports[i] == p)
            p->sim->ports[i] = NULL;
    free(p);
}

static const struct port_ops sim_ops = {
    .name = "sim",
    .destroy = sim_destroy,
    .now_ns = sim_now_ns,
    .wait = sim_wait,
    .reap = sim_reap,
    .accept = sim_accept,
    .connect = sim_connect,
    .recv = sim_recv,
    .send = sim_send,
    .sendv = sim_sendv,
    .poll = sim_poll,
    .read = sim_file_read,
    .write = sim_file_write,
    .cancel = sim_cancel,
    .bell = sim_bell,
    .socket = sim_socket,
    .shutdown = sim_shutdown,
    .close = sim_close_fd,
    .buf_return = sim_buf_return,
};

static void make_group(struct sim_port *p, enum port_group group, uint32_t bytes, uint32_t count)
{
    size_t total = (size_t)bytes * count;
    p->port.buffers[group] =
        (struct port_buffers){.base = malloc(total), .bytes = bytes, .count = count};
    p->groups[group] = (struct group){.state = calloc(count, 1), .free_n = count};
    CHECK(p->port.buffers[group].base && p->groups[group].state);
    ASAN_POISON_MEMORY_REGION(p->port.buffers[group].base, total);
}

struct port *sim_port(struct sim *sim)
{
    struct sim_port *p = calloc(1, sizeof *p);
    CHECK(p != NULL);
    p->port.ops = &sim_ops;
    p->sim = sim;
    list_init(&p->ops);
    make_group(p, PORT_SMALL, sim->config.small_bytes, sim->config.small_count);
    make_group(p, PORT_BULK, sim->config.bulk_bytes, sim->config.bulk_count);
    for (unsigned i = 0; i < PORTS_MAX; i++) {
        if (sim->ports[i])
            continue;
        sim->ports[i] = p;
        return &p->port;
    }
    CHECK_UNREACHABLE();
}

bool sim_port_is_idle(const struct port *port)
{
    const struct sim_port *p = (const struct sim_port *)(const void *)port;
    for (struct list *n = p->ops.next; n != &p->ops; n = n->next) {
        const struct op *op = LIST_ENTRY(n, struct op, node);
        if (op->kind != K_READ && op->kind != K_MADE)
            return false;
        if (op->queue_n > 0 && op->queue[0].event.buf_id != PORT_NO_BUF)
            return false;
    }
    return p->groups[PORT_SMALL].lent_n == 0 && p->groups[PORT_BULK].lent_n == 0;
}
