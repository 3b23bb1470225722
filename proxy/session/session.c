#include "proxy/session/session.h"
#include "proxy/session/settings.h"

#include "base/check.h"
#include "proxy/io/log.h"
#include "proxy/pool/cancel.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

static struct session *session_of(struct conn *conn)
{
    return conn->owner;
}

void session_state(struct session *s, enum session_state state)
{
    CHECK(state > s->state); /* a session only goes forward */
    if (s->state < SESSION_GREETING && state >= SESSION_GREETING)
        places_give_unproved(s->worker->fleet);
    s->state = (uint8_t)state;
}

/* ---- telling the client ---- */

static void send_error(struct session *s, const char *severity, const char *sqlstate,
                       const char *message, const char *detail, const char *hint)
{
    uint8_t bytes[4096];
    struct put o = put_into(bytes, sizeof bytes);
    put_error(&o, &(struct wire_error){severity, sqlstate, message, detail, hint});
    if (o.full) { /* an overlong detail is not worth losing the message */
        o = put_into(bytes, sizeof bytes);
        put_error(&o, &(struct wire_error){severity, sqlstate, "error text too long", NULL, NULL});
    }
    conn_out_copy(s->conn, o.p, o.n);
}

void session_error(struct session *s, const char *sqlstate, const char *message, const char *detail,
                   const char *hint)
{
    send_error(s, "ERROR", sqlstate, message, detail, hint);
}

/* Part of a server's message has left us: an error now would be read as the rest of it. */
static bool within_message(const struct session *s)
{
    return (s->server_body_left > 0 && !s->server_drop && !s->guard) ||
           (s->replication && s->state == SESSION_READY); /* nobody reads where they end */
}

void session_fatal(struct session *s, const char *sqlstate, const char *message, const char *detail,
                   const char *hint)
{
    if (s->state == SESSION_CLOSING)
        return;
    if (log_enabled(LOG_INFO))
        LOG(LOG_INFO, "client.refused", LF_U("client", s->serial), LF_S("sqlstate", sqlstate),
            LF_S("error", message));
    if (!within_message(s))
        send_error(s, "FATAL", sqlstate, message, detail, hint);
    session_close(s, "fatal");
}

void session_end(struct session *s, const char *sqlstate, const char *message, const char *detail)
{
    if (s->replies.n > 0 && s->writes)
        session_fatal(
            s, "08007", message,
            "PGWEIR-OUTCOME-UNKNOWN: a commit, or a write outside a transaction, had been sent.",
            "Check whether the change is there before you send it again.");
    else
        session_fatal(s, sqlstate, message, detail, NULL);
}

void session_notice_ready(struct session *s)
{
    uint8_t bytes[8];
    struct put o = put_into(bytes, sizeof bytes);
    put_ready(&o, (char)s->tx_status);
    conn_out_copy(s->conn, o.p, o.n);
    tx_idles(s);
    deadline_ready(s);
}

/* ---- the end ---- */

void session_close(struct session *s, const char *why)
{
    if (s->state == SESSION_CLOSING)
        return;
    const struct conf *conf = s->worker->hub.snapshot->conf;
    if (conf->log_disconnections && s->set)
        LOG(LOG_INFO, "client.logout", LF_U("client", s->serial), LF_S("db", s->set->database),
            LF_S("user", s->set->user), LF_S("reason", why));
    session_state(s, SESSION_CLOSING);
    list_remove(&s->silent);
    session_cancel_due(s);
    timer_stop(&s->conn->loop->timers, &s->timer);
    if (waiter_waits(&s->waiter))
        s->set->queues[s->waiter.want].abandoned++;
    pool_withdraw(&s->waiter);
    floors_stop(s);
    tx_stop(s);
    startup_stop(s);
    if (s->server)
        lease_abandon(s);
    if (conn_out_bytes(s->conn) == 0) /* it has been told everything: no need to wait for its end */
        conn_close(s->conn, why);
    else
        conn_close_flushed(s->conn, why);
}

static void session_free(struct session *s)
{
    struct worker *worker = s->worker;
    struct buf_pool *bufs = &worker->loop->bufs;
    CHECK(s->server == NULL && !waiter_waits(&s->waiter));
    timer_stop(&worker->loop->timers, &s->timer);
    statement_drop_pending(s);
    statement_query_drop(s);
    statement_forget_all(s);
    seg_drop(bufs, &s->held, s->held.bytes);
    seg_drop(bufs, &s->replay, s->replay.bytes);
    free(s->replies.p);
    settings_free(s);
    state_free(s);
    free(s->console_wait);
    if (s->auth)
        auth_free(s->auth);
    if (s->pid)
        worker_drop_pid(worker, s);
    label_unref(s->label);
    told_unref(s->told);
    if (s->set)
        pool_set_unref(s->set);
    places_give(s);
    atomic_fetch_sub(&worker->fleet->per_worker[worker->id], 1);
    list_remove(&s->node);
    worker->session_n--;
    free(s);
}

/* ---- conn upcalls ---- */

/* Its next message is here, and waits for answers to those before it, or for room. */
static bool has_more(struct session *s)
{
    struct message m;
    bool full = conn_out_full(s->conn) || (s->server && conn_out_full(s->server->conn));
    if (s->conn->in.bytes == 0 || full)
        return s->conn->in.bytes > 0;
    return s->replies.n > 0 && client_look(s, 0, &m) == FOUND_MESSAGE && m.type != 'X';
}

bool session_owes(struct session *s)
{
    if (has_more(s))
        return true;
    if (s->copy_in || s->stream_left > 0) /* what would end it will not come */
        return false;
    return waiter_waits(&s->waiter) || s->floor_wait != FLOOR_WAIT_NONE || s->syncing ||
           s->state_of.look || s->guard_failed || s->tx.begin_failed || s->copy_asked ||
           s->illegal || s->console_busy || reply_will_be_ready(s);
}

/* Whether a client is gone or only sends no more cannot be told (psql < file | nc), but to one that is gone nothing can
 * be sent: it is told a setting that it knows, until that fails. */
static void look_for_half_closed(struct session *s)
{
    struct loop *loop = s->conn->loop;
    uint8_t bytes[SERVER_GREETING_MAX];
    struct put o = put_into(bytes, sizeof bytes);
    if (s->told && s->told->bytes > 0 && conn_out_bytes(s->conn) == 0 && !within_message(s)) {
        const char *name = (const char *)s->told->text;
        put_param_status(&o, slice_of(name), slice_of(name + strlen(name) + 1));
        if (!o.full)
            conn_out_copy(s->conn, o.p, o.n);
    }
    timer_start(&loop->timers, &s->timer, loop->now_ms + s->half_closed_ms);
    s->half_closed_ms *= s->half_closed_ms < HALF_CLOSE_LOOK_MAX_MS ? 2 : 1;
}

/* PostgreSQL answers all that it was asked, too. */
void session_ended(struct session *s)
{
    if (s->state != SESSION_READY || s->conn->end_err || !session_owes(s)) {
        session_close(s, s->conn->end_err ? "connection_error" : "client_left");
    } else if (!s->half_closed_ms) {
        s->half_closed_ms = HALF_CLOSE_LOOK_MS;
        look_for_half_closed(s);
    }
}

static void on_input(struct conn *conn)
{
    struct session *s = session_of(conn);
    switch ((enum session_state)s->state) {
    case SESSION_STARTUP:
        list_remove(&s->silent);
        startup_input(s);
        break;
    case SESSION_AUTH:
        auth_input(s);
        break;
    case SESSION_GREETING:
        break;
    case SESSION_READY:
        if (s->replies.n == 0)
            s->since_ms = s->worker->loop->now_ms;
        session_run(s);
        break;
    case SESSION_CLOSING:
        return;
    }
    if (conn->ended && s->state != SESSION_CLOSING)
        session_ended(s);
}

static void on_tls(struct conn *conn, bool ok)
{
    if (!ok)
        session_close(session_of(conn), "tls_handshake_failed");
}

static void on_drained(struct conn *conn)
{
    struct session *s = session_of(conn);
    if (s->server) {
        conn_resume(s->server->conn);
        conn_in_again(s->server->conn);
    }
    session_run(s);
}

static void on_gone(struct conn *conn)
{
    session_free(session_of(conn));
}

static const struct conn_ops client_ops = {
    .name = "client",
    .on_tls = on_tls,
    .on_input = on_input,
    .on_drained = on_drained,
    .on_gone = on_gone,
};

static void login_is_late(struct session *s)
{
    bool paused = s->state == SESSION_GREETING && s->set && gate_is_paused(s->set->gate);
    session_fatal(s, "08006", "login timed out",
                  paused ? "client_login_timeout: the database is paused, and pgweir has no server "
                           "to ask for its settings"
                         : "client_login_timeout: the login was not complete in time",
                  NULL);
}

static void on_timer(struct timer *timer)
{
    struct session *s = LIST_ENTRY(timer, struct session, timer);
    if (s->console_wait)
        s->worker->fleet->console_look(s);
    else if (s->state == SESSION_READY && s->half_closed_ms)
        look_for_half_closed(s);
    else if (s->state == SESSION_READY && s->worker->stage >= WORKER_DRAINS)
        session_leave(s);
    else if (s->state == SESSION_READY)
        deadline_fires(s);
    else if (s->cancel)
        session_close(s, "cancel_request");
    else if (s->worker->stage >= WORKER_DRAINS)
        session_fatal(s, "57P03", "pgweir is shutting down", NULL, NULL);
    else
        login_is_late(s);
}

struct session *session_accept(struct worker *worker, int fd)
{
    struct session *s = calloc(1, sizeof *s);
    CHECK(s != NULL);
    struct sockaddr_storage addr;
    socklen_t addr_bytes = sizeof addr;
    bool local =
        getsockname(fd, (struct sockaddr *)&addr, &addr_bytes) == 0 && addr.ss_family == AF_UNIX;
    const struct conf *conf = worker->hub.snapshot->conf;
    if (!local)
        server_tune_socket(fd, conf);
    s->worker = worker;
    s->serial = ++worker->next_serial * WORKERS_MAX + worker->id;
    s->tx_status = 'I';
    list_init(&s->node);
    list_push_back(&worker->sessions, &s->node);
    list_init(&s->silent);
    list_push_back(&worker->silent, &s->silent);
    s->since_ms = worker->loop->now_ms;
    worker->session_n++;
    waiter_init(&s->waiter, &lease_waiter_ops, s);
    timer_init(&s->timer, on_timer);
    floors_init(s);
    tx_init(s);
    s->conn = conn_new(worker->loop, fd, local, &client_ops, s);
    s->conn->in_limit = STARTUP_BYTES_MAX;
    if (conf->client_login_timeout_ms)
        timer_start(&worker->loop->timers, &s->timer,
                    worker->loop->now_ms + conf->client_login_timeout_ms);
    return s;
}

/* ---- from outside ---- */

/* A node was lost for reads: what it was asked, and has not answered at all, runs elsewhere. */
void session_cluster_changed(struct session *s, struct cluster *cluster)
{
    if (s->state != SESSION_READY || !s->server || s->set->cluster != cluster || !s->guard)
        return;
    struct node *node = &cluster->nodes[s->server->pool->node];
    enum node_why why = node_status(node).why;
    if (why == NODE_UNREACHABLE || why == NODE_SAMPLE_OLD || why == NODE_NO_ADDRESS) {
        struct server *server = s->server;
        guard_avoid_node(s);
        s->server = NULL;
        pool_discard(server, "node_lost");
        lease_rerun(s, true);
    }
}

/* Nothing of its segment has been sent, and no server is held. */
static bool is_waiting(const struct session *s)
{
    return waiter_waits(&s->waiter) || s->floor_wait == FLOOR_WAIT_REACH ||
           s->floor_wait == FLOOR_WAIT_MOVE;
}

static bool cancel(struct session *s, struct cancel_wish *wish)
{
    if (s->state != SESSION_READY)
        return false;
    if (is_waiting(s)) {
        pool_withdraw(&s->waiter);
        floors_stop(s);
        lease_refuse(s, "57014", "canceling statement due to user request", NULL, NULL);
        return false;
    }
    if (s->floor_wait == FLOOR_WAIT_TOKEN) {
        floors_cancel_token(s);
        return false;
    }
    /* What the server runs is ours, and the client's next statement is here. */
    bool ours = s->syncing || s->state_of.look || s->guard_failed;
    if (ours && (s->conn->in.bytes > 0 || s->guard_failed) && !s->cancel_due) {
        s->cancel_due = wish;
        return true;
    }
    bool runs = s->replies.n > 0 || s->copy_in || s->replication;
    return !ours && s->server && runs && cancel_start(s->server, wish);
}

bool session_cancel(struct session *s, struct cancel_wish *wish)
{
    s->worker->stats.cancels++;
    return cancel(s, wish);
}

void session_cancel_due(struct session *s)
{
    struct cancel_wish *wish = s->cancel_due;
    s->cancel_due = NULL;
    if (wish && !cancel(s, wish))
        wish->ended(wish);
}
