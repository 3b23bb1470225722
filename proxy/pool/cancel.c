#include "proxy/pool/cancel.h"

#include "base/check.h"
#include "proxy/io/tls.h"

#include <stdlib.h>

#define CANCELS_MAX 4 /* at the same time for one server */

struct cancel {
    struct list node; /* in hub->cancels */
    struct conn *conn;
    struct server *server;    /* counts us, so it lives until we are done */
    struct cancel_wish *wish; /* NULL: its client has left */
    struct timer deadline;
    uint32_t lease_serial;
    bool tls_asked;
};

static bool still_wanted(const struct cancel *c)
{
    if (!c->wish)
        return true; /* nobody else can have got this server */
    return c->server->state == SERVER_LEASED && c->server->lease_serial == c->lease_serial;
}

static void send_request(struct cancel *c)
{
    uint8_t bytes[16 + AUTH_KEY_MAX];
    struct put o = put_into(bytes, sizeof bytes);
    if (!still_wanted(c)) { /* the query ended first */
        conn_close(c->conn, "not_wanted");
        return;
    }
    put_cancel_request(&o, c->server->backend_pid,
                       (struct slice){c->server->key, c->server->key_n});
    conn_out_copy(c->conn, o.p, o.n);
}

static struct cancel *cancel_of(struct conn *conn)
{
    return conn->owner;
}

static void on_connected(struct conn *conn, int err)
{
    struct cancel *c = cancel_of(conn);
    uint8_t bytes[8];
    struct put o = put_into(bytes, sizeof bytes);
    if (err) {
        conn_close(conn, "connect_failed");
    } else if (c->server->tls) { /* as encrypted as the server's own connection */
        put_ssl_request(&o);
        c->tls_asked = true;
        conn_out_copy(conn, o.p, o.n);
    } else {
        send_request(c);
    }
}

static void begin_tls(struct cancel *c)
{
    const struct pool_set *set = c->server->pool->set;
    bool full = set->snapshot->conf->server_tls_sslmode == CONF_SERVER_TLS_VERIFY_FULL;
    void *context = set->snapshot->server_tls;
    const char *host = full ? set->cluster->nodes[c->server->pool->node].host : NULL;
    void *ssl = context ? tls_session_new(context, false, host) : NULL;
    if (!ssl || !conn_start_tls(c->conn, ssl))
        conn_close(c->conn, "tls_failed");
}

static void on_input(struct conn *conn)
{
    struct cancel *c = cancel_of(conn);
    if (c->tls_asked && conn->in.bytes > 0) {
        uint8_t answer = *conn_in_contiguous(conn, 1);
        c->tls_asked = false;
        conn_in_drop(conn, 1);
        if (answer == 'S')
            begin_tls(c);
        else
            conn_close(conn, "tls_refused");
        return;
    }
    conn_in_drop(conn, conn->in.bytes);
    if (conn->ended) /* the postmaster has delivered the signal and hung up */
        conn_close(conn, "done");
}

static void on_tls(struct conn *conn, bool ok)
{
    if (ok)
        send_request(cancel_of(conn));
    else
        conn_close(conn, "tls_failed");
}

static void on_gone(struct conn *conn)
{
    struct cancel *c = cancel_of(conn);
    struct server *s = c->server;
    timer_stop(&conn->loop->timers, &c->deadline);
    list_remove(&c->node);
    if (c->wish)
        c->wish->ended(c->wish);
    free(c);
    CHECK(s->cancels > 0);
    s->cancels--;
    if (s->cancels > 0)
        return;
    if (s->state == SERVER_CLEANING && !s->resetting)
        pool_offer(s);
    else if (s->state == SERVER_CLOSING && !s->conn)
        pool_server_gone(s);
}

static const struct conn_ops cancel_ops = {
    .name = "cancel",
    .on_connected = on_connected,
    .on_tls = on_tls,
    .on_input = on_input,
    .on_gone = on_gone,
};

static void on_deadline(struct timer *timer)
{
    struct cancel *c = LIST_ENTRY(timer, struct cancel, deadline);
    conn_close(c->conn, "cancel_wait_timeout");
}

static bool start(struct server *s, struct cancel_wish *wish)
{
    struct pool_set *set = s->pool->set;
    struct loop *loop = set->hub->loop;
    struct node_address address = node_address(&set->cluster->nodes[s->pool->node]);
    struct cancel *c = calloc(1, sizeof *c);
    CHECK(c != NULL);
    *c = (struct cancel){.server = s, .lease_serial = s->lease_serial, .wish = wish};
    timer_init(&c->deadline, on_deadline);
    if (address.bytes)
        c->conn =
            conn_connect(loop, (struct sockaddr *)&address.addr, address.bytes, &cancel_ops, c);
    if (!c->conn) {
        free(c);
        return false;
    }
    s->cancels++;
    list_push_back(&set->hub->cancels, &c->node);
    uint64_t wait_ms = set->snapshot->conf->cancel_wait_timeout_ms;
    if (wait_ms)
        timer_start(&loop->timers, &c->deadline, loop->now_ms + wait_ms);
    return true;
}

bool cancel_start(struct server *s, struct cancel_wish *wish)
{
    return s->cancels < CANCELS_MAX && start(s, wish);
}

void cancel_abandoned(struct server *s)
{
    start(s, NULL);
}

void cancels_abort(struct hub *hub)
{
    struct list *next;
    for (struct list *n = hub->cancels.next; n != &hub->cancels; n = next) {
        next = n->next;
        conn_close(LIST_ENTRY(n, struct cancel, node)->conn, "shutdown");
    }
}
