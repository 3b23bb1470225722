#include "proxy/pool/cancel.h"

#include "base/check.h"
#include "proxy/io/tls.h"

#include <stdlib.h>

struct cancel {
    struct list node;           /* in hub->cancels, or cancels_waiting */
    struct conn *conn;          /* NULL: it waits for its turn */
    struct server *server;      /* counts us, so it lives until we are done */
    struct cancel_wish *wishes; /* NULL: its client has left */
    struct timer deadline;
    uint32_t lease_serial, work;
    bool abandoned, tls_asked, sent;
};

static struct hub *hub_of(const struct cancel *c)
{
    return c->server->pool->set->hub;
}

static bool is_for(const struct cancel *c, const struct server *s)
{
    return c->server == s && c->lease_serial == s->lease_serial && c->work == s->work;
}

static bool still_wanted(const struct cancel *c)
{
    if (c->abandoned)
        return true; /* nobody else can have got this server */
    return c->server->state == SERVER_LEASED && is_for(c, c->server);
}

static void send_request(struct cancel *c)
{
    uint8_t bytes[16 + AUTH_KEY_MAX];
    struct put o = put_into(bytes, sizeof bytes);
    if (!still_wanted(c)) { /* the query ended first */
        conn_close(c->conn, "not_wanted");
        return;
    }
    c->sent = true;
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

static void forget(struct cancel *c)
{
    timer_stop(&hub_of(c)->loop->timers, &c->deadline);
    list_remove(&c->node);
    while (c->wishes) {
        struct cancel_wish *wish = c->wishes;
        c->wishes = wish->next;
        wish->ended(wish);
    }
    CHECK(c->server->cancels > 0);
    c->server->cancels--;
    free(c);
}

/* ... and its server may have waited for that. */
static void over(struct cancel *c)
{
    struct server *s = c->server;
    forget(c);
    if (s->cancels == 0 && s->state == SERVER_CLEANING)
        pool_clean(s);
    else if (s->cancels == 0 && s->state == SERVER_CLOSING && !s->conn)
        pool_server_gone(s);
}

static void start_waiting(struct hub *hub);

static void on_gone(struct conn *conn)
{
    struct cancel *c = cancel_of(conn);
    struct hub *hub = hub_of(c);
    hub->cancel_n--;
    over(c);
    start_waiting(hub);
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
    if (c->conn)
        conn_close(c->conn, "cancel_wait_timeout");
    else
        over(c);
}

/* ---- starting ---- */

/* To where the server is: its host's name may mean another machine by now. */
static bool dial(struct cancel *c)
{
    struct hub *hub = hub_of(c);
    const struct node_address *to = &c->server->address;
    c->conn =
        conn_connect(hub->loop, (const struct sockaddr *)&to->addr, to->bytes, &cancel_ops, c);
    if (!c->conn)
        return false;
    list_remove(&c->node);
    list_push_back(&hub->cancels, &c->node);
    hub->cancel_n++;
    return true;
}

static void start_waiting(struct hub *hub)
{
    while (hub->cancel_n < CANCELS_MAX && !list_empty(&hub->cancels_waiting)) {
        struct cancel *c = LIST_ENTRY(hub->cancels_waiting.next, struct cancel, node);
        if (!still_wanted(c) || !dial(c))
            over(c);
    }
}

static void start(struct server *s, struct cancel_wish *wish)
{
    struct hub *hub = s->pool->set->hub;
    struct cancel *c = calloc(1, sizeof *c);
    CHECK(c != NULL);
    *c = (struct cancel){.server = s,
                         .lease_serial = s->lease_serial,
                         .work = s->work,
                         .wishes = wish,
                         .abandoned = wish == NULL};
    list_push_back(&hub->cancels_waiting, &c->node);
    timer_init(&c->deadline, on_deadline);
    uint64_t wait_ms = s->pool->set->snapshot->conf->cancel_wait_timeout_ms;
    if (wait_ms)
        timer_start(&hub->loop->timers, &c->deadline, hub->loop->now_ms + wait_ms);
    s->cancels++;
    start_waiting(hub);
}

static struct cancel *find_unsent(struct list *all, const struct server *s)
{
    for (struct list *n = all->next; n != all; n = n->next) {
        struct cancel *c = LIST_ENTRY(n, struct cancel, node);
        bool open = !c->conn || !c->conn->closing;
        if (is_for(c, s) && !c->abandoned && !c->sent && open)
            return c;
    }
    return NULL;
}

bool cancel_start(struct server *s, struct cancel_wish *wish)
{
    struct hub *hub = s->pool->set->hub;
    struct cancel *c = s->cancels > 0 ? find_unsent(&hub->cancels, s) : NULL;
    if (!c && s->cancels > 0)
        c = find_unsent(&hub->cancels_waiting, s);
    wish->next = c ? c->wishes : NULL;
    if (c)
        c->wishes = wish;
    else if (s->cancels < CANCELS_OF_SERVER_MAX)
        start(s, wish);
    else
        return false;
    return true;
}

void cancel_abandoned(struct server *s)
{
    start(s, NULL);
}

static void forget_of(struct list *all, const struct server *s)
{
    struct list *next;
    for (struct list *n = all->next; n != all; n = next) {
        struct cancel *c = LIST_ENTRY(n, struct cancel, node);
        next = n->next;
        if (c->server != s || c->sent || c->abandoned)
            continue;
        if (c->conn)
            conn_close(c->conn, "not_wanted");
        else
            forget(c);
    }
}

void cancel_forget(struct server *s)
{
    struct hub *hub = s->pool->set->hub;
    if (s->cancels == 0)
        return;
    forget_of(&hub->cancels, s);
    forget_of(&hub->cancels_waiting, s);
}

struct cancel_counts cancel_count(const struct pool_set *set)
{
    struct cancel_counts counts = {0};
    struct list *lists[] = {&set->hub->cancels, &set->hub->cancels_waiting};
    for (int i = 0; i < 2; i++)
        for (struct list *n = lists[i]->next; n != lists[i]; n = n->next) {
            const struct cancel *c = LIST_ENTRY(n, const struct cancel, node);
            if (c->server->pool->set != set)
                continue;
            for (const struct cancel_wish *w = c->wishes; w; w = w->next)
                *(i == 0 ? &counts.sent : &counts.waiting) += 1;
            counts.conns += i == 0;
        }
    return counts;
}

void cancel_stop_all(struct hub *hub)
{
    for (struct list *n = hub->cancels.next; n != &hub->cancels; n = n->next)
        conn_close(LIST_ENTRY(n, struct cancel, node)->conn, "shutdown");
    while (!list_empty(&hub->cancels_waiting))
        over(LIST_ENTRY(hub->cancels_waiting.next, struct cancel, node));
}
