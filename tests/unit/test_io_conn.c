/* Conns over the sim: what goes in comes out, in order, whatever the kernel may do; and at the end
 * nothing is left. */
#include "base/check.h"
#include "proxy/io/conn.h"
#include "tests/unit/port_sim.h"

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define RELAYS_MAX 12
#define AT_ONCE 3
#define TURNS_MAX 2000000

enum how { BY_QUEUE, BY_REF, BY_COPY, BY_RESERVE, HOWS };

struct side {
    struct relay *relay;
    struct conn *conn;
    struct side *to; /* where its input goes: the other side, or itself (echo) */
    int far;         /* the peer's end, driven by the test; -1: none */
    uint32_t total, sent, got;
    uint32_t hold_bytes; /* input below this is left lying for a while */
    uint64_t flushed_at_ms;
    uint32_t shut_after; /* bytes that the far end reads before it says that it is done */
    bool shut, flushed, timed_out;
};

struct relay {
    struct world *world;
    struct side side[2];
    enum how how;
    struct side *first; /* whose input ended first: all of it must come out */
    bool used, echo;
    bool abrupt; /* the test broke something: only prefixes can be demanded */
};

struct world {
    struct sim *sim;
    struct loop *loop;
    struct listener *listener;
    int listen_fd;
    struct relay relays[RELAYS_MAX];
    unsigned dialled_n, relay_n;
    unsigned slow_pct; /* how often a far end does not read */
};

/* Byte i of the stream that far end k writes. */
static uint8_t pattern(unsigned k, uint32_t i)
{
    return (uint8_t)(i * 131 + k * 17 + (i >> 8) * 7);
}

static unsigned key_of(const struct side *s)
{
    return (unsigned)(s->relay - s->relay->world->relays) * 2 +
           (unsigned)(s - s->relay->side); /* a number of its own for each far end */
}

/* ---- the owner of the conns: a relay that forwards in every way there is ---- */

static void forward_some(struct side *s, uint32_t n)
{
    struct conn *from = s->conn, *to = s->to->conn;
    struct seg *seg = from->in.head;
    uint8_t *room;
    switch (s->relay->how) {
    case BY_REF:
        n = n < seg->n ? n : seg->n;
        conn_out_ref(to, seg->buf, (struct slice){seg->p, n});
        break;
    case BY_COPY:
        conn_out_copy(to, conn_in_contiguous(from, n), n);
        break;
    case BY_RESERVE:
        n = n < seg->n ? n : seg->n;
        room = conn_out_reserve(to, n + 10);
        memcpy(room, seg->p, n);
        conn_out_commit(to, n);
        break;
    case BY_QUEUE:
    case HOWS:
        conn_out_queue(to, &from->in);
        return;
    }
    conn_in_drop(from, n);
}

static void forward(struct side *s)
{
    struct sim *sim = s->relay->world->sim;
    struct conn *from = s->conn, *to = s->to->conn;
    if (!to || to->closing) {
        conn_in_drop(from, from->in.bytes);
        return;
    }
    while (from->in.bytes > 0) {
        if (conn_out_full(to)) {
            conn_pause(from);
            return;
        }
        forward_some(s, sim_chunk(sim, from->in.bytes));
    }
}

static void flush_and_close(struct side *s)
{
    if (!s->conn || s->conn->closing)
        return;
    s->flushed = true;
    s->flushed_at_ms = s->conn->loop->now_ms;
    conn_close_flushed(s->conn, "test");
}

static void on_input(struct conn *conn)
{
    struct side *s = conn->owner;
    assert_ptr_equal(s->conn, conn);
    if (conn->in.bytes >= s->hold_bytes || conn->ended)
        forward(s);
    if (!conn->ended || conn->in.bytes > 0)
        return;
    CHECK(conn->end_err == 0 || s->relay->abrupt);
    if (!s->relay->first)
        s->relay->first = s;
    flush_and_close(s->to);
    if (s->to != s)
        conn_close(conn, "ended");
}

static void on_drained(struct conn *conn)
{
    struct side *s = conn->owner;
    for (int i = 0; i < 2; i++) {
        struct side *from = &s->relay->side[i];
        if (from->to != s || !from->conn || from->conn->closing)
            continue;
        conn_resume(from->conn);
        conn_in_again(from->conn);
    }
}

static void on_connected(struct conn *conn, int err)
{
    struct side *s = conn->owner;
    if (err == 0)
        return;
    s->relay->abrupt = true;
    conn_close(conn, "connect");
    if (s->to->conn)
        conn_close(s->to->conn, "connect");
}

static void on_gone(struct conn *conn)
{
    struct side *s = conn->owner;
    assert_int_equal(conn->inflight, 0);
    s->conn = NULL;
    if (conn->end_err == ECONNREFUSED || conn->end_err == ETIMEDOUT ||
        conn->end_err == EHOSTUNREACH) /* a connect that failed late */
        s->relay->abrupt = true;
    s->timed_out = s->flushed && conn->loop->now_ms - s->flushed_at_ms >= CONN_LINGER_MS;
}

static const struct conn_ops relay_ops = {
    .name = "test",
    .on_connected = on_connected,
    .on_input = on_input,
    .on_drained = on_drained,
    .on_gone = on_gone,
};

static void on_accept(struct loop *loop, int fd, void *context)
{
    struct world *w = context;
    struct sim *sim = w->sim;
    struct relay *r = &w->relays[w->relay_n++];
    *r = (struct relay){.world = w, .used = true, .how = (enum how)sim_random(sim, HOWS)};
    r->echo = sim_random(sim, 3) == 0;
    for (int i = 0; i < 2; i++) {
        uint32_t most = sim_random(sim, 4) ? 30000 : 900000;
        r->side[i] = (struct side){.relay = r, .to = &r->side[1 - i], .far = -1};
        r->side[i].total = sim_random(sim, most);
        r->side[i].hold_bytes = sim_random(sim, 3) ? 0 : sim_random(sim, 3000);
    }
    if (!r->echo && sim_random(sim, 2)) /* one far end waits for something first */
        r->side[1].shut_after = sim_random(sim, r->side[0].total + 1);
    r->side[0].far = sim_peer(sim, fd);
    r->side[0].conn = conn_new(loop, fd, sim_random(sim, 4) == 0, &relay_ops, &r->side[0]);
    if (r->echo) {
        r->side[0].to = &r->side[0];
        return;
    }
    static const struct sockaddr_in addr = {.sin_family = AF_INET};
    r->side[1].conn = conn_connect(loop, (const struct sockaddr *)(const void *)&addr, sizeof addr,
                                   &relay_ops, &r->side[1]);
    assert_non_null(r->side[1].conn);
}

/* ---- the far ends ---- */

static void far_write(struct world *w, struct side *s)
{
    uint8_t bytes[5000];
    uint32_t left = s->total - s->sent, room = (uint32_t)sim_room(w->sim, s->far);
    uint32_t most = left < room ? left : room;
    if (most == 0)
        return;
    uint32_t n = sim_chunk(w->sim, most < sizeof bytes ? most : (uint32_t)sizeof bytes);
    for (uint32_t i = 0; i < n; i++)
        bytes[i] = pattern(key_of(s), s->sent + i);
    s->sent += (uint32_t)sim_write(w->sim, s->far, bytes, n);
}

static void far_read(struct world *w, struct side *s, uint32_t most)
{
    uint8_t bytes[70000];
    const struct side *source = s->relay->echo ? s : &s->relay->side[s == &s->relay->side[0]];
    size_t n = sim_read(w->sim, s->far, bytes, most < sizeof bytes ? most : sizeof bytes);
    for (size_t i = 0; i < n; i++)
        CHECK(bytes[i] == pattern(key_of(source), s->got + (uint32_t)i));
    s->got += (uint32_t)n;
    CHECK(s->got <= source->sent);
}

static void far_close(struct world *w, struct side *s)
{
    if (sim_peer(w->sim, s->far) >= 0)
        s->relay->abrupt = s->relay->abrupt || !s->shut;
    sim_close(w->sim, s->far);
    s->far = -1;
}

static void drive_far(struct world *w, struct side *s)
{
    if (s->far < 0)
        return;
    if (s->sent < s->total)
        far_write(w, s);
    if (sim_random(w->sim, 100) >= w->slow_pct || !s->conn)
        far_read(w, s, sim_random(w->sim, 2) ? UINT32_MAX : 3000);
    bool ended = sim_ended(w->sim, s->far);
    if (s->sent == s->total && !s->shut && s->got >= s->shut_after) {
        s->shut = true;
        sim_shut(w->sim, s->far);
    }
    if (ended || (!s->conn && sim_peer(w->sim, s->far) < 0)) {
        far_read(w, s, UINT32_MAX);
        s->shut = true; /* all that came was read: nothing is broken by this close */
        far_close(w, s);
    }
}

static void break_something(struct world *w, struct relay *r)
{
    struct side *s = &r->side[sim_random(w->sim, 2)];
    r->abrupt = true;
    switch (sim_random(w->sim, 6)) {
    case 0:
        if (s->conn)
            conn_close(s->conn, "test");
        break;
    case 1:
        if (s->conn)
            conn_close_flushed(s->conn, "test");
        break;
    case 2:
        if (s->far >= 0) {
            sim_reset(w->sim, s->far);
            s->far = -1;
        }
        break;
    case 3:
        if (s->far >= 0)
            far_close(w, s);
        break;
    case 4: /* both, at once */
        for (int i = 0; i < 2; i++)
            if (r->side[i].conn)
                conn_close(r->side[i].conn, "test");
        break;
    default:
        if (s->far >= 0)
            sim_shut(w->sim, s->far);
        break;
    }
    /* Whoever is left alone goes soon. */
    for (int i = 0; i < 2; i++)
        if (r->side[i].conn && !r->side[i].conn->closing && sim_random(w->sim, 2))
            conn_close_flushed(r->side[i].conn, "test");
}

static bool relay_over(const struct relay *r)
{
    return !r->side[0].conn && !r->side[1].conn && r->side[0].far < 0 && r->side[1].far < 0;
}

/* An orphan: its other side is gone and its peer has no reason to hang up. */
static void end_orphans(struct relay *r)
{
    for (int i = 0; i < 2; i++) {
        struct side *s = &r->side[i];
        if (s->conn && !s->conn->closing && !s->to->conn)
            conn_close(s->conn, "orphan");
    }
}

static void check_relay(const struct relay *r)
{
    if (r->abrupt)
        return;
    CHECK(r->first != NULL && r->first->sent == r->first->total);
    if (!r->first->to->timed_out)
        CHECK(r->first->to->got == r->first->total);
}

/* ---- one seed ---- */

static struct world *world_new(uint64_t seed)
{
    struct world *w = calloc(1, sizeof *w);
    struct sim_config config = {.seed = seed, .refused_pct = 10};
    assert_non_null(w);
    if (seed % 3 == 0) { /* few and tiny buffers */
        config.small_bytes = 64;
        config.small_count = 8;
        config.bulk_bytes = 512;
        config.bulk_count = 2;
        config.room_bytes = 2000;
    }
    w->sim = sim_new(&config);
    w->loop = loop_new(sim_port(w->sim), 0, w);
    w->listen_fd = sim_listen(w->sim);
    w->listener = listener_start(w->loop, w->listen_fd, on_accept, w);
    w->slow_pct = seed % 2 ? 20 : 95;
    return w;
}

static void meet_dialled(struct world *w)
{
    for (int far; (far = sim_dialled(w->sim)) >= 0;) {
        int fd = sim_peer(w->sim, far);
        struct side *found = NULL;
        for (unsigned i = 0; i < w->relay_n; i++)
            if (w->relays[i].side[1].conn && w->relays[i].side[1].conn->fd == fd)
                found = &w->relays[i].side[1];
        if (found)
            found->far = far;
        else
            sim_close(w->sim, far);
    }
}

static unsigned relays_alive(const struct world *w)
{
    unsigned n = w->dialled_n - w->relay_n;
    for (unsigned i = 0; i < w->relay_n; i++)
        n += !relay_over(&w->relays[i]);
    return n;
}

static void world_free(struct world *w)
{
    struct loop *loop = w->loop;
    listener_stop(w->listener);
    for (unsigned i = 0; i < 10000 && (loop->stopping_n || !sim_port_is_idle(loop->port)); i++)
        loop_turn(loop, loop->now_ms + 10);
    CHECK(loop->conn_n == 0 && loop->listener_n == 0);
    CHECK(loop->bufs.lent[PORT_SMALL] == 0 && loop->bufs.lent[PORT_BULK] == 0);
    CHECK(loop->bufs.heap_n == 0 && loop->bufs.heap_bytes == 0);
    CHECK(sim_port_is_idle(loop->port));
    loop_free(loop);
    CHECK(sim_sockets(w->sim) == 0);
    sim_free(w->sim);
    free(w);
}

static void run_seed(uint64_t seed)
{
    struct world *w = world_new(seed);
    unsigned break_in_10000 = seed % 4 ? 30 : 0; /* every fourth seed is peaceful */
    for (unsigned turn = 0; w->relay_n < RELAYS_MAX || relays_alive(w) > 0; turn++) {
        CHECK(turn < TURNS_MAX); /* it hangs */
        if (w->dialled_n < RELAYS_MAX && relays_alive(w) < AT_ONCE) {
            sim_dial(w->sim, w->listen_fd);
            w->dialled_n++;
        }
        loop_turn(w->loop, w->loop->now_ms + 5);
        meet_dialled(w);
        for (unsigned i = 0; i < w->relay_n; i++) {
            struct relay *r = &w->relays[i];
            if (relay_over(r))
                continue;
            drive_far(w, &r->side[0]);
            drive_far(w, &r->side[1]);
            if (sim_random(w->sim, 10000) < break_in_10000)
                break_something(w, r);
            end_orphans(r);
        }
    }
    for (unsigned i = 0; i < w->relay_n; i++)
        check_relay(&w->relays[i]);
    world_free(w);
}

/* A conn whose owner echoes; the far end's fd comes back. */
static int start_echo(struct world *w, struct side *s, struct relay *r)
{
    int fd[2];
    *r = (struct relay){.world = w, .used = true, .echo = true, .how = BY_QUEUE};
    *s = (struct side){.relay = r, .to = s};
    sim_pair(w->sim, fd);
    s->conn = conn_new(w->loop, fd[0], false, &relay_ops, s);
    s->far = fd[1];
    return fd[1];
}

static void a_peer_that_never_reads_stops_nobody_else(void **state)
{
    (void)state;
    static uint8_t bytes[1000];
    uint64_t first = sim_seed(1);
    for (uint64_t seed = first; seed < first + 20; seed++) {
        struct world *w = world_new(seed);
        struct relay stuck[4], good;
        for (int i = 0; i < 4; i++)
            start_echo(w, &stuck[i].side[0], &stuck[i]);
        start_echo(w, &good.side[0], &good);
        size_t sent = 0, got = 0;
        for (unsigned turn = 0; got < 100000; turn++) {
            CHECK(turn < TURNS_MAX);
            for (int i = 0; i < 4; i++)
                sim_write(w->sim, stuck[i].side[0].far, bytes, sizeof bytes);
            sent += sim_write(w->sim, good.side[0].far, bytes, sizeof bytes);
            loop_turn(w->loop, w->loop->now_ms + 1);
            got += sim_read(w->sim, good.side[0].far, bytes, sizeof bytes);
            CHECK(w->loop->bufs.heap_bytes < 8U << 20);
        }
        CHECK(got <= sent);
        for (int i = 0; i < 5; i++) {
            struct side *s = i < 4 ? &stuck[i].side[0] : &good.side[0];
            conn_close(s->conn, "test");
            sim_close(w->sim, s->far);
        }
        loop_drain(w->loop, w->loop->now_ms + 10000);
        world_free(w);
    }
}

/* Not even if its peer says nothing more and stays. */
static void a_close_does_not_wait_for_the_peer(void **state)
{
    (void)state;
    static const struct conn_ops ops = {.on_input = NULL};
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct sim *sim = sim_new(&(struct sim_config){.seed = seed, .deaf_recv = true});
        struct loop *loop = loop_new(sim_port(sim), 0, NULL);
        int fd[2];
        sim_pair(sim, fd);
        struct conn *conn = conn_new(loop, fd[0], false, &ops, NULL);
        for (uint64_t turn = 0; turn < seed; turn++) /* armed, at some of these */
            loop_turn(loop, loop->now_ms + 1);
        conn_close(conn, "test");
        loop_drain(loop, loop->now_ms + 1000);
        CHECK(loop->conn_n == 0);
        sim_close(sim, fd[1]);
        loop_free(loop);
        sim_free(sim);
    }
}

static void bytes_in_are_bytes_out_and_nothing_is_left(void **state)
{
    (void)state;
    uint64_t first = sim_seed(1), n = sim_seed_count();
    for (uint64_t seed = first; seed < first + n; seed++)
        run_seed(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_in_are_bytes_out_and_nothing_is_left),
        cmocka_unit_test(a_peer_that_never_reads_stops_nobody_else),
        cmocka_unit_test(a_close_does_not_wait_for_the_peer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
