/* proxy/pool/borrow.c: workers lend each other servers.
 *
 * A worker whose waiters find nothing writes since when they wait into the budget, and pokes the others
 * once. Who gives a server or a unit back looks there. The server comes to rest, travels by mail, and
 * goes on in the other loop, with settings that count as unknown and without our statements.
 */
#include "proxy/pool/inside.h"

#include "base/check.h"
#include "proxy/io/log.h"

#include <stdlib.h>
#include <string.h>

/* ---- telling the others ---- */

struct poke {
    struct mail mail; /* first */
    struct budget *budget;
};

static void on_poke(struct loop *loop, struct mail *mail);

static void send_poke(struct hub *to, struct budget *budget)
{
    struct poke *poke = malloc(sizeof *poke);
    CHECK(poke != NULL);
    atomic_fetch_add(&budget->refs, 1);
    *poke = (struct poke){.mail.deliver = on_poke, .budget = budget};
    loop_post(to->loop, &poke->mail);
}

/* The worker that waits longest for a server of this pool, but for ourselves; or -1. */
static int longest_waiting(const struct pool *pool, uint64_t *since_ms)
{
    return waits_longest(&pool->budget->wanting, pool->set->hub->worker, since_ms);
}

/* Another worker wants a server of ours: see what can be done. */
static void on_poke(struct loop *loop, struct mail *mail)
{
    struct poke *poke = (struct poke *)(void *)mail;
    struct hub *hub = loop->context;
    struct pool *pool = poke->budget->pools[hub->worker];
    if (pool) {
        uint64_t since;
        struct server *s = pool_take_idle(pool, NULL, 0);
        if (s && longest_waiting(pool, &since) >= 0)
            pool_offer(s);
        pool_pump(pool->set);
    }
    budget_unref(poke->budget);
    free(poke);
}

/* An idle server that nobody here wants (any more): somebody else may. */
static void spare(struct pool_set *set)
{
    for (uint32_t i = 0; i < set->cluster->node_n; i++) {
        struct pool *pool = pool_at(set, i);
        uint64_t since;
        struct server *s =
            pool->idle_n > 0 && !pool->waiting_since_ms ? pool_take_idle(pool, NULL, 0) : NULL;
        if (!s || limits_want(s) || longest_waiting(pool, &since) < 0 || set->hub->stopping)
            continue;
        pool_server_state(s, SERVER_MOVING);
        conn_quiesce(s->conn);
    }
}

void borrow_tell(struct pool_set *set)
{
    struct hub *hub = set->hub;
    limits_tell(set);
    if (set->own)
        return;
    spill_tell(set);
    for (uint32_t i = 0; i < set->cluster->node_n; i++) {
        struct pool *pool = pool_at(set, i);
        uint64_t since = pool_waiting_since(set, i);
        if (since == pool->waiting_since_ms)
            continue;
        bool began = pool->waiting_since_ms == 0;
        pool->waiting_since_ms = since;
        waits_set(&pool->budget->wanting, hub->worker, since);
        if (!began || hub->peer_n < 2)
            continue;
        for (uint32_t w = 0; w < hub->peer_n; w++) /* an idle server there would never hear of us */
            if (w != hub->worker)
                send_poke(hub->peers[w], pool->budget);
    }
    spare(set);
}

/* ---- moving a server ---- */

struct move {
    struct mail mail; /* first */
    struct server *server;
    struct tls *tls;
    struct budget *budget;
    int fd;
    uint32_t from; /* worker */
    bool tcp, returns;
    uint32_t connected_n;
    uint8_t connected[]; /* the text of set->connected */
};

static struct slice connected_text(const struct pool_set *set)
{
    const struct label *label = set->connected;
    return label ? (struct slice){label->text, label->bytes} : SLICE_NONE;
}

/* What connect_query has set on it is not for this worker to find out. */
static void take_connected(struct pool_set *set, const struct move *m)
{
    if (!set->connected && m->connected_n > 0)
        set->connected = label_of_text(&set->labels, (struct slice){m->connected, m->connected_n});
}

/* The pool that waited has gone in the meantime, with its last client. The one that lent it may still be there. */
static bool send_back(const struct hub *hub, struct move *m)
{
    if (m->returns || hub->stopping)
        return false;
    m->returns = true;
    loop_post(hub->peers[m->from]->loop, &m->mail);
    return true;
}

static void drop_moved(struct loop *loop, struct move *m)
{
    static const struct conn_ops nobody = {.name = "nobody"};
    if (log_enabled(LOG_DEBUG))
        LOG(LOG_DEBUG, "server.close", LF_S("reason", "pool_has_gone"),
            LF_U("pid", m->server->backend_pid));
    struct conn *conn = conn_new(loop, m->fd, !m->tcp, &nobody, NULL);
    conn_adopt_tls(conn, m->tls);
    conn_close(conn, "pool_has_gone");
    limits_give(loop->context, &m->server->units);
    server_free(m->server);
    budget_unref(m->budget);
    free(m);
}

static void on_moved(struct loop *loop, struct mail *mail)
{
    struct move *m = (struct move *)(void *)mail;
    struct hub *hub = loop->context;
    struct pool *pool = m->budget->pools[hub->worker];
    struct server *s = m->server;
    if (!pool) {
        if (!send_back(hub, m))
            drop_moved(loop, m);
        return;
    }
    s->pool = pool;
    take_connected(pool->set, m);
    pool->set->tx = s->tx; /* maybe the first server of its role that this worker sees */
    s->conn = conn_new(loop, m->fd, !m->tcp, &server_conn_ops, s);
    s->conn->essential = true;
    conn_adopt_tls(s->conn, m->tls);
    hub->server_n++;
    pool_server_state(s, SERVER_IDLE);
    hub_sweep_begin(hub);
    pool_offer(s);
    budget_unref(m->budget);
    free(m);
}

/* The server's conn is at rest: hand it over, or go on here if it has something to say. */
void server_on_quiet(struct conn *conn)
{
    struct server *s = conn->owner;
    if (s->state != SERVER_MOVING)
        return;
    struct pool *pool = s->pool;
    struct hub *hub = pool->set->hub;
    uint64_t since;
    int worker = longest_waiting(pool, &since);
    bool can = worker >= 0 && (uint32_t)worker < hub->peer_n && conn->in.bytes == 0 && !conn->eof &&
               s->cancels == 0 && pool->budget->pools[worker] != NULL && !hub->stopping;
    if (!can) { /* not offered to the other worker again: it could go on like that for ever */
        conn_resume(conn);
        pool_server_state(s, SERVER_IDLE);
        pool_pump(pool->set);
        return;
    }
    struct slice connected = connected_text(pool->set);
    struct move *m = calloc(1, sizeof *m + connected.n);
    CHECK(m != NULL);
    bool tcp = !conn->one_shot;
    label_unref(s->label);
    told_unref(s->told);
    s->label = NULL;
    s->told = NULL;
    s->stale_stmts = s->stale_stmts || s->stmts.n > 0;
    stmt_set_clear(&s->stmts);
    pool_server_leaves(s);
    s->conn = NULL;
    hub->server_n--;
    hub->moves++;
    *m = (struct move){.mail.deliver = on_moved,
                       .server = s,
                       .budget = pool->budget,
                       .from = hub->worker,
                       .tcp = tcp};
    m->connected_n = (uint32_t)connected.n;
    if (connected.n > 0)
        memcpy(m->connected, connected.p, connected.n);
    atomic_fetch_add(&pool->budget->refs, 1);
    m->fd = conn_take_fd(conn, &m->tls);
    loop_post(hub->peers[worker]->loop, &m->mail);
    pool_pump(pool->set); /* a waiter of ours may have counted on it */
    set_free_if_unused(pool->set);
}

/* Whether a waiter of another worker has clearly waited longer than ours. */
bool borrow_other_first(struct pool *pool)
{
    uint64_t since, ours = pool_waiting_since(pool->set, pool->node);
    if (longest_waiting(pool, &since) < 0)
        return false;
    return ours == 0 || since + POOL_FAIR_MS < ours;
}
