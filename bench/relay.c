/* bench/relay.c: a bare TCP relay on our own I/O core: the floor that pgweir is measured against.
 *
 * What    each client of 127.0.0.1:LISTEN gets a connection of its own to 127.0.0.1:UPSTREAM; bytes
 *         go both ways by reference, with back-pressure. It knows nothing of PostgreSQL.
 * Use     relay [-t THREADS] LISTEN UPSTREAM. SIGUSR1 prints counters, SIGTERM ends it.
 */
#include "base/check.h"
#include "proxy/io/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define THREADS_MAX 64
#define DRAIN_MS 5000

struct pair {
    struct conn *client, *server;
};

struct worker;

struct order { /* what the main thread wants of a worker */
    struct mail mail;
    struct worker *worker;
};

struct worker {
    pthread_t thread;
    struct loop *loop;
    pthread_barrier_t *started;
    struct listener *listener;
    struct order stop, report;
    unsigned id;
    bool stopping;
    uint64_t pairs;
};

static struct sockaddr_in listen_at, upstream;

static void set_nodelay(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static struct conn *other_of(struct conn *conn)
{
    struct pair *pair = conn->owner;
    return conn == pair->client ? pair->server : pair->client;
}

static void on_input(struct conn *conn)
{
    struct conn *other = other_of(conn);
    if (other) {
        conn_out_queue(other, &conn->in);
        if (conn_out_full(other))
            conn_pause(conn);
    }
    if (conn->ended) {
        if (other)
            conn_close_flushed(other, "peer");
        conn_close(conn, "ended");
    }
}

static void on_drained(struct conn *conn)
{
    struct conn *other = other_of(conn);
    if (other && !other->closing)
        conn_resume(other);
}

static void on_connected(struct conn *conn, int err)
{
    struct conn *other = other_of(conn);
    if (err == 0)
        return;
    conn_close(conn, "connect");
    if (other)
        conn_close(other, "connect");
}

static void on_gone(struct conn *conn)
{
    struct pair *pair = conn->owner;
    if (conn == pair->client)
        pair->client = NULL;
    else
        pair->server = NULL;
    if (!pair->client && !pair->server)
        free(pair);
}

static const struct conn_ops relay_ops = {
    .name = "relay",
    .on_connected = on_connected,
    .on_input = on_input,
    .on_drained = on_drained,
    .on_gone = on_gone,
};

static void on_accept(struct loop *loop, int fd, void *context)
{
    struct worker *w = context;
    struct pair *pair = calloc(1, sizeof *pair);
    CHECK(pair != NULL);
    const struct sockaddr *addr = (const struct sockaddr *)(const void *)&upstream;
    pair->server = conn_connect(loop, addr, sizeof upstream, &relay_ops, pair);
    if (!pair->server) {
        close(fd);
        free(pair);
        return;
    }
    set_nodelay(fd);
    set_nodelay(pair->server->fd);
    pair->client = conn_new(loop, fd, false, &relay_ops, pair);
    w->pairs++;
}

static int listen_socket(void)
{
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)(void *)&listen_at, sizeof listen_at) || listen(fd, 1024)) {
        perror("relay: listen");
        exit(1);
    }
    return fd;
}

static struct loop *new_loop(struct worker *w)
{
    struct port_config config = {.sq_entries = 512, .cq_entries = 16384};
    struct port_failure failure;
    char text[512];
    config.buffers[PORT_SMALL] = (struct port_buffers){.bytes = 16384, .count = 512};
    config.buffers[PORT_BULK] = (struct port_buffers){.bytes = 65536, .count = 64};
    struct port *port = port_uring_create(&config, &failure);
    if (!port) {
        port_uring_explain(&failure, text, sizeof text);
        fprintf(stderr, "relay: %s\n", text);
        exit(78);
    }
    return loop_new(port, w->id, w);
}

static void print_counters(const struct worker *w)
{
    const struct loop *l = w->loop;
    const struct port_stats *p = &l->port->stats;
    const struct loop_stats *s = &l->stats;
    fprintf(stderr,
            "worker=%u pairs=%lu enters=%lu turns=%lu events=%lu sqe_full=%lu cq_overflow=%lu "
            "stale=%lu enobufs=%lu starved=%lu unpins=%lu accept_errors=%lu conns=%u small=%u "
            "bulk=%u heap=%u heap_bytes=%lu\n",
            w->id, w->pairs, p->enters, s->turns, s->events, p->sqe_full, p->cq_overflow,
            s->stale_events, s->enobufs, s->starved, s->unpins, s->accept_errors, l->conn_n,
            l->bufs.lent[PORT_SMALL], l->bufs.lent[PORT_BULK], l->bufs.heap_n, l->bufs.heap_bytes);
}

static void deliver_stop(struct loop *loop, struct mail *mail)
{
    (void)loop;
    struct worker *w = LIST_ENTRY(mail, struct order, mail)->worker;
    listener_stop(w->listener);
    w->stopping = true;
}

static void deliver_report(struct loop *loop, struct mail *mail)
{
    (void)loop;
    print_counters(LIST_ENTRY(mail, struct order, mail)->worker);
}

static void close_all(struct loop *loop)
{
    for (uint32_t i = 0; i < loop->slot_n; i++)
        if (loop->slots[i].kind == SLOT_CONN)
            conn_close(loop->slots[i].object, "stop");
}

static void *work(void *arg)
{
    struct worker *w = arg;
    w->loop = new_loop(w);
    w->listener = listener_start(w->loop, listen_socket(), on_accept, w);
    pthread_barrier_wait(w->started);
    while (!w->stopping)
        loop_turn(w->loop, TIMER_NEVER);
    close_all(w->loop);
    loop_drain(w->loop, w->loop->now_ms + DRAIN_MS);
    print_counters(w);
    if (w->loop->conn_n == 0)
        loop_free(w->loop);
    return NULL;
}

static void post_all(struct worker *workers, unsigned n, bool stop)
{
    for (unsigned i = 0; i < n; i++) {
        struct order *order = stop ? &workers[i].stop : &workers[i].report;
        order->worker = &workers[i];
        order->mail.deliver = stop ? deliver_stop : deliver_report;
        loop_post(workers[i].loop, &order->mail);
    }
}

static struct sockaddr_in local_port(const char *text)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)strtoul(text, NULL, 10)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

int main(int argc, char **argv)
{
    static struct worker workers[THREADS_MAX];
    pthread_barrier_t started;
    unsigned n = 1;
    for (int opt; (opt = getopt(argc, argv, "t:")) != -1;)
        n = opt == 't' ? (unsigned)strtoul(optarg, NULL, 10) : 0;
    if (n < 1 || n > THREADS_MAX || argc - optind != 2) {
        fprintf(stderr, "usage: relay [-t THREADS] LISTEN_PORT UPSTREAM_PORT\n");
        return 64;
    }
    listen_at = local_port(argv[optind]);
    upstream = local_port(argv[optind + 1]);
    sigset_t set;
    sigemptyset(&set);
    for (int s = 0; s < 3; s++)
        sigaddset(&set, (int[]){SIGTERM, SIGINT, SIGUSR1}[s]);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    pthread_barrier_init(&started, NULL, n + 1);
    for (unsigned i = 0; i < n; i++) {
        workers[i].id = i;
        workers[i].started = &started;
        CHECK(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
    }
    pthread_barrier_wait(&started);
    for (int got = 0; sigwait(&set, &got) == 0 && got == SIGUSR1;)
        post_all(workers, n, false);
    post_all(workers, n, true);
    for (unsigned i = 0; i < n; i++)
        pthread_join(workers[i].thread, NULL);
    return 0;
}
