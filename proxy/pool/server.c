#include "proxy/pool/server.h"

#include "base/check.h"
#include "proxy/io/log.h"
#include "proxy/io/tls.h"
#include "proxy/pool/cancel.h"
#include "proxy/pool/inside.h"
#include "proxy/wire/frame.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define KEEPALIVE_SECONDS(ms) ((int)((ms) / 1000 ? (ms) / 1000 : 1))

static void set_option(int fd, int level, int name, int value)
{
    setsockopt(fd, level, name, &value,
               sizeof value); /* a refusal costs comfort, not correctness */
}

void server_tune_socket(int fd, const struct conf *conf)
{
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, conf->tcp_keepalive);
    if (conf->tcp_keepidle_ms)
        set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_SECONDS(conf->tcp_keepidle_ms));
    if (conf->tcp_keepintvl_ms)
        set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_SECONDS(conf->tcp_keepintvl_ms));
    if (conf->tcp_keepcnt)
        set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, (int)conf->tcp_keepcnt);
    if (conf->tcp_user_timeout_ms)
        set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)conf->tcp_user_timeout_ms);
}

/* ---- what it reported ---- */

static struct server_status *find_status(struct server *s, struct slice name)
{
    for (unsigned i = 0; i < s->status_n; i++)
        if (slice_is(name, s->status[i].name))
            return &s->status[i];
    return NULL;
}

static char *copy_slice(struct slice text)
{
    char *copy = malloc(text.n + 1);
    CHECK(copy != NULL);
    memcpy(copy, text.p, text.n);
    copy[text.n] = '\0';
    return copy;
}

void server_note_sequences(struct server *s, uint64_t client)
{
    if (s->sequences_of != client)
        s->sequences_of = s->sequences_of == 0 ? client : SEQUENCES_OF_MANY;
}

bool server_note_status(struct server *s, struct slice body)
{
    struct slice name, value;
    if (!auth_read_param_status(body, &name, &value))
        return false;
    if (slice_is(name, "in_hot_standby"))
        s->in_recovery = slice_is(value, "on");
    struct server_status *status = find_status(s, name);
    told_unref(s->told);
    s->told = NULL;
    if (status) {
        free(status->value);
        status->value = copy_slice(value);
        return true;
    }
    if (s->status_n == SERVER_STATUS_MAX)
        return false;
    s->status[s->status_n++] = (struct server_status){copy_slice(name), copy_slice(value)};
    return true;
}

void server_greeting(const struct server *s, struct put *out)
{
    for (unsigned i = 0; i < s->status_n; i++)
        put_param_status(out, slice_of(s->status[i].name), slice_of(s->status[i].value));
}

const char *server_status_value(const struct server *s, const char *name)
{
    for (unsigned i = 0; i < s->status_n; i++)
        if (strcmp(s->status[i].name, name) == 0)
            return s->status[i].value;
    return NULL;
}

/* ---- life ---- */

static void lose(struct server *s, const char *why)
{
    const struct lessee_ops *ops = s->lessee_ops;
    void *lessee = s->lessee;
    if (s->state == SERVER_LEASED)
        nodes_failed(s->pool);
    if (s->state == SERVER_LEASED && lessee) {
        s->lessee = NULL;
        ops->on_lost(lessee, s); /* may read what is left in the queue */
    }
    server_close(s, why);
}

static void on_chore_deadline(struct timer *timer)
{
    struct server *s = LIST_ENTRY(timer, struct server, chore);
    if (s->leaving) {
        server_close(s, "does_not_end");
        return;
    }
    LOG(LOG_WARN, "server.no_answer",
        LF_S("node", s->pool->set->cluster->nodes[s->pool->node].label),
        LF_U("pid", s->backend_pid), LF_U("waited_ms", s->chore_ms));
    if (s->doubted)
        pool_doubt(s->pool);
    lose(s, "no_answer");
}

static void begin_chore(struct server *s, uint64_t ms)
{
    s->chore_ms = ms;
    timer_start(&s->conn->loop->timers, &s->chore, s->conn->loop->now_ms + ms);
}

void server_chore_begin(struct server *s)
{
    begin_chore(s, SERVER_CHORE_MS);
}

void server_chore_first(struct server *s)
{
    s->doubted = server_has_rested(s);
    if (s->doubted)
        begin_chore(s, SERVER_FIRST_MS);
}

bool server_has_rested(const struct server *s)
{
    return s->conn->loop->now_ms >= s->idle_ms + SERVER_RESTED_MS;
}

void server_chore_end(struct server *s)
{
    s->doubted = false;
    timer_stop(&s->conn->loop->timers, &s->chore);
}

void server_dial(struct pool *pool, struct units *units)
{
    struct hub *hub = pool->set->hub;
    struct node *node = &pool->set->cluster->nodes[pool->node];
    /* First: an address that is newer than its edition costs a dial, an older one would be kept. */
    unsigned edition = node_address_edition(node);
    struct node_address address = node_address(node);
    hub->dials++;
    struct conn *conn = NULL;
    errno = EADDRNOTAVAIL;
    if (address.bytes)
        conn = conn_connect(hub->loop, (struct sockaddr *)&address.addr, address.bytes,
                            &server_conn_ops, NULL);
    if (!conn) {
        const char *why = address.bytes ? strerror(errno) : "its host name is not resolved";
        limits_give(hub, units);
        pool_dial_failed(pool, "08006", why);
        return;
    }
    struct server *s = calloc(1, sizeof *s);
    CHECK(s != NULL);
    list_init(&s->node);
    stmt_set_init(&s->stmts, &pool->set->cluster->altered);
    s->pool = pool;
    s->gate = pool->set->gate;
    s->epoch = atomic_load(&s->gate->epoch);
    atomic_fetch_add(&s->gate->server_n, 1);
    s->units = *units;
    s->conn = conn;
    s->born_ms = hub->loop->now_ms;
    s->age_random = (uint32_t)hub_random(hub);
    s->address = address;
    s->address_edition = edition;
    timer_init(&s->chore, on_chore_deadline);
    conn->owner = s;
    conn->essential = true; /* answers let waiting clients go on */
    if (address.addr.ss_family != AF_UNIX)
        server_tune_socket(conn->fd, pool->set->snapshot->conf);
    hub->server_n++;
    s->state = SERVER_STATE_N;
    pool_server_state(s, SERVER_DIALING);
    server_login_start(s);
}

void server_free(struct server *s)
{
    label_unref(s->label);
    told_unref(s->told);
    stmt_set_clear(&s->stmts);
    for (unsigned i = 0; i < s->status_n; i++) {
        free(s->status[i].name);
        free(s->status[i].value);
    }
    server_login_free(s->login);
    if (s->stale)
        atomic_fetch_sub(&s->gate->stale_n, 1);
    atomic_fetch_sub(&s->gate->server_n, 1);
    free(s);
}

void server_close(struct server *s, const char *why)
{
    if (s->state == SERVER_CLOSING)
        return;
    if (log_enabled(LOG_DEBUG))
        LOG(LOG_DEBUG, "server.close",
            LF_S("node", s->pool->set->cluster->nodes[s->pool->node].label), LF_S("reason", why),
            LF_U("pid", s->backend_pid));
    drain_stop(s);
    cancel_forget(s);
    limits_leaving(&s->units);
    pool_server_state(s, SERVER_CLOSING);
    s->lessee = NULL;
    if (s->login)
        server_login_free(s->login);
    s->login = NULL;
    server_chore_end(s);
    conn_close(s->conn, why);
}

void server_leave(struct server *s, const char *why)
{
    static const uint8_t terminate[] = {'X', 0, 0, 0, 4};
    const struct pool_set *set = s->pool->set;
    if (s->leaving)
        return;
    if (s->conn->eof || s->conn->ended || set->own || set->hub->stopping) {
        server_close(s, why);
        return;
    }
    if (s->state != SERVER_CLEANING)
        pool_server_state(s, SERVER_CLEANING);
    s->leaving = true;
    limits_leaving(&s->units);
    begin_chore(s, SERVER_LEAVE_MS);
    conn_out_copy(s->conn, terminate, sizeof terminate);
}

/* ---- conn upcalls ---- */

static struct server *server_of(struct conn *conn)
{
    return conn->owner;
}

static void on_connected(struct conn *conn, int err)
{
    struct server *s = server_of(conn);
    if (s->state != SERVER_DIALING)
        return;
    if (err) {
        server_login_failed(s, "08006", strerror(-err));
        return;
    }
    pool_server_state(s, SERVER_LOGIN);
    server_login_connected(s);
}

static void on_tls(struct conn *conn, bool ok)
{
    server_login_tls(server_of(conn), ok);
}

/* One of the messages that come while nobody has leased it. Anything but news is a reason to close it. */
static bool read_idle_message(struct server *s)
{
    struct conn *conn = s->conn;
    struct frame_head head;
    if (conn->in.bytes < FRAME_HEAD_BYTES)
        return false;
    const uint8_t *p = conn_in_contiguous(conn, FRAME_HEAD_BYTES);
    if (frame_read_head((struct slice){p, FRAME_HEAD_BYTES}, FRAME_BODY_MAX, &head) != FRAME_OK ||
        head.body_bytes > CONN_IN_LIMIT) {
        server_close(s, "bad_message");
        return false;
    }
    size_t n = FRAME_HEAD_BYTES + head.body_bytes;
    if (conn->in.bytes < n)
        return false;
    struct slice body = {conn_in_contiguous(conn, n) + FRAME_HEAD_BYTES, head.body_bytes};
    bool fine =
        head.type == 'N' || head.type == 'A' || (head.type == 'S' && server_note_status(s, body));
    bool ready = s->resetting && head.type == 'Z' && body.n == 1 && *body.p == 'I';
    bool failed = s->resetting && head.type == 'E';
    if (s->resetting && !fine)
        fine = strchr("CTDI", head.type) != NULL || ready;
    conn_in_drop(conn, n);
    if (!fine || failed) {
        server_close(s, failed ? "reset_failed" : "unexpected_message");
        return false;
    }
    if (ready) {
        s->resetting = false;
        s->checked = s->checking;
        server_chore_end(s);
    }
    return true;
}

/* It is offered when it has nothing left to say: its next lessee would take that for an answer. */
static void read_idle(struct server *s)
{
    const struct pool_set *set = s->pool->set;
    if (s->drain) {
        drain_input(s);
        return;
    }
    if (s->leaving) {
        conn_in_drop(s->conn, s->conn->in.bytes);
        return;
    }
    while (read_idle_message(s))
        ;
    if (s->conn->in.bytes > 0 || s->conn->ended)
        return;
    if (s->state == SERVER_CLEANING)
        pool_clean(s);
    else if (s->state == SERVER_IDLE && (set->writer_n || set->reader_n))
        pool_pump(s->pool->set);
}

static void on_input(struct conn *conn)
{
    struct server *s = server_of(conn);
    switch ((enum server_state)s->state) {
    case SERVER_DIALING:
    case SERVER_LOGIN:
        server_login_input(s);
        break;
    case SERVER_LEASED:
        if (s->asked_ns)
            nodes_answered(s);
        if (s->lessee)
            s->lessee_ops->on_input(s->lessee, s);
        break;
    case SERVER_IDLE:
    case SERVER_CLEANING:
    case SERVER_MOVING:
        read_idle(s);
        break;
    case SERVER_CLOSING:
    case SERVER_STATE_N:
        return;
    }
    if (!conn->ended || s->state == SERVER_CLOSING) /* its state may be another one by now */
        return;
    if (s->state == SERVER_LOGIN)
        server_login_failed(s, "08006", "the server closed the connection during login");
    else if (s->state != SERVER_DIALING)
        lose(s, conn->end_err ? "connection_error" : "closed_by_server");
}

static void on_drained(struct conn *conn)
{
    struct server *s = server_of(conn);
    if (s->state == SERVER_LEASED && s->lessee)
        s->lessee_ops->on_drained(s->lessee, s);
}

static void on_gone(struct conn *conn)
{
    struct server *s = server_of(conn);
    s->conn = NULL;
    if (s->cancels == 0)
        pool_server_gone(s); /* else the last cancel does it */
}

const struct conn_ops server_conn_ops = {
    .name = "server",
    .on_connected = on_connected,
    .on_tls = on_tls,
    .on_input = on_input,
    .on_drained = on_drained,
    .on_quiet = server_on_quiet,
    .on_gone = on_gone,
};
