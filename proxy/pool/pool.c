#include "proxy/pool/pool.h"

#include "base/check.h"
#include "proxy/io/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BACKOFF_FIRST_MS 100
#define SWEEP_MS 1000
#define RESET_SQL_MAX 8192

/* ---- state: one writer ---- */

static uint32_t *count_of(struct pool *pool, enum server_state state)
{
    switch (state) {
    case SERVER_DIALING:
    case SERVER_LOGIN:
        return &pool->dialing_n;
    case SERVER_IDLE:
        return &pool->idle_n;
    case SERVER_LEASED:
        return &pool->leased_n;
    case SERVER_CLEANING:
    case SERVER_MOVING:
        return &pool->cleaning_n;
    case SERVER_CLOSING:
    case SERVER_STATE_N:
        return NULL;
    }
    CHECK_UNREACHABLE();
}

void pool_server_state(struct server *s, enum server_state state)
{
    static const uint8_t allowed[SERVER_STATE_N + 1] = {
        /* from: the states that may follow */
        [SERVER_STATE_N] = 1 << SERVER_DIALING | 1 << SERVER_IDLE,
        [SERVER_DIALING] = 1 << SERVER_LOGIN | 1 << SERVER_CLOSING,
        [SERVER_LOGIN] = 1 << SERVER_IDLE | 1 << SERVER_CLOSING,
        [SERVER_IDLE] =
            1 << SERVER_LEASED | 1 << SERVER_CLEANING | 1 << SERVER_MOVING | 1 << SERVER_CLOSING,
        [SERVER_LEASED] = 1 << SERVER_IDLE | 1 << SERVER_CLEANING | 1 << SERVER_CLOSING,
        [SERVER_CLEANING] = 1 << SERVER_IDLE | 1 << SERVER_CLOSING,
        [SERVER_MOVING] = 1 << SERVER_IDLE | 1 << SERVER_CLOSING,
    };
    CHECK(allowed[s->state] & 1 << state);
    uint32_t *was = count_of(s->pool, (enum server_state)s->state), *now = count_of(s->pool, state);
    if (was)
        --*was;
    if (now)
        ++*now;
    s->state = (uint8_t)state;
    list_remove(&s->node);
    if (state == SERVER_IDLE)
        list_push_front(&s->pool->idle, &s->node);
    else
        list_push_back(&s->pool->busy, &s->node);
}

/* ---- small helpers ---- */

static struct pool *pool_at(struct pool_set *set, uint32_t node)
{
    return &set->pools[node];
}

uint64_t hub_random(struct hub *hub)
{
    /* xorshift*: spreads reads; no secret hangs on it. */
    hub->random ^= hub->random >> 12;
    hub->random ^= hub->random << 25;
    hub->random ^= hub->random >> 27;
    return hub->random * 0x2545F4914F6CDD1DULL;
}

uint32_t pool_readable(const struct pool_set *set)
{
    return cluster_view(set->cluster).readable;
}

/* The nodes that may serve this waiter now. */
static uint32_t nodes_for(const struct pool_set *set, const struct waiter *w)
{
    struct cluster_view view = cluster_view(set->cluster);
    uint32_t primary = view.primary == NODE_NONE ? 0 : 1U << view.primary;
    if (w->want == WANT_PRIMARY)
        return primary;
    uint32_t readable = view.readable & (w->nodes ? w->nodes : UINT32_MAX);
    return readable ? readable : primary; /* no replica: reads go to the primary */
}

/* The balancer's choice first, then the others. */
static uint32_t pick_node(struct pool_set *set, uint32_t mask)
{
    struct balance_node nodes[NODES_MAX];
    if ((mask & (mask - 1)) == 0)
        return (uint32_t)__builtin_ctz(mask);
    for (uint32_t i = 0; i < set->cluster->node_n; i++)
        nodes[i] = set->pools[i].balance;
    int node = balance_pick(nodes, mask, hub_random(set->hub));
    CHECK(node >= 0);
    return (uint32_t)node;
}

/* ---- granting ---- */

/* It has not hung up, and nothing that it said is unread. */
static bool is_silent(const struct server *s)
{
    return !s->conn->eof && s->conn->in.bytes == 0;
}

static struct server *take_idle(struct pool *pool, const struct label *label)
{
    for (struct list *n = pool->idle.next; n != &pool->idle; n = n->next) {
        struct server *s = LIST_ENTRY(n, struct server, node);
        if ((!label || s->label == label) && is_silent(s))
            return s;
    }
    return NULL;
}

static void lend(struct server *s, struct waiter *w)
{
    pool_server_state(s, SERVER_LEASED);
    s->lease_serial++;
    s->lessee_ops = w->ops->lessee;
    s->lessee = w->owner;
    s->leased_ns = s->conn->loop->now_ns;
    s->pool->balance.in_flight++;
}

/* Of the node that the balancer chose, one with this label first; else of the others in the same order.
 * The label does not choose the node: its first server would get all reads for ever. */
static struct server *find_idle(struct pool_set *set, uint32_t mask, uint32_t first,
                                const struct label *label)
{
    struct server *s = take_idle(pool_at(set, first), label);
    if (!s)
        s = take_idle(pool_at(set, first), NULL);
    for (uint32_t rest = mask & ~(1U << first); !s && rest; rest &= rest - 1)
        s = take_idle(pool_at(set, (uint32_t)__builtin_ctz(rest)), label);
    for (uint32_t rest = mask & ~(1U << first); !s && rest; rest &= rest - 1)
        s = take_idle(pool_at(set, (uint32_t)__builtin_ctz(rest)), NULL);
    return s;
}

/* ---- telling other workers that we wait ---- */

static uint64_t oldest_since(const struct list *queue)
{
    return list_empty(queue) ? 0 : LIST_ENTRY(queue->next, struct waiter, node)->since_ms;
}

static uint64_t older(uint64_t a, uint64_t b)
{
    return !a ? b : !b ? a : a < b ? a : b;
}

/* Since when a waiter of ours could use a server of this node; 0: none. */
static uint64_t waiting_for(struct pool_set *set, uint32_t node)
{
    uint64_t since = 0;
    struct waiter read = {.want = WANT_READ}, write = {.want = WANT_PRIMARY};
    if (set->writer_n && nodes_for(set, &write) & 1U << node)
        since = older(since, oldest_since(&set->writers));
    if (set->reader_n && nodes_for(set, &read) & 1U << node)
        since = older(since, oldest_since(&set->readers));
    return since;
}

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

/* A unit of the budget is free: a worker that waits for it may dial now. */
static void wake_other(struct pool *pool)
{
    uint64_t since;
    struct hub *hub = pool->set->hub;
    int worker = hub->stopping ? -1 : budget_longest_waiting(pool->budget, hub->worker, &since);
    if (worker >= 0 && (uint32_t)worker < hub->peer_n)
        send_poke(hub->peers[worker], pool->budget);
}

/* Another worker freed a unit, or wants a server of ours: see what can be done. */
static void on_poke(struct loop *loop, struct mail *mail)
{
    struct poke *poke = (struct poke *)(void *)mail;
    struct hub *hub = loop->context;
    struct pool *pool = poke->budget->pools[hub->worker];
    if (pool) {
        uint64_t since;
        struct server *s = take_idle(pool, NULL);
        if (s && budget_longest_waiting(pool->budget, hub->worker, &since) >= 0)
            pool_offer(s);
        pool_pump(pool->set);
        bool unit_left = atomic_load(&pool->budget->used) < pool->set->pool_size;
        if (unit_left &&
            !pool->waiting_since_ms) /* it was meant for us, and we need none any more */
            wake_other(pool);
    }
    budget_unref(poke->budget);
    free(poke);
}

static void dial_for_all(struct pool_set *set);

static void tell_waiting(struct pool_set *set)
{
    struct hub *hub = set->hub;
    bool any_began = false;
    for (uint32_t i = 0; i < set->cluster->node_n; i++) {
        struct pool *pool = pool_at(set, i);
        uint64_t since = waiting_for(set, i);
        if (since == pool->waiting_since_ms)
            continue;
        bool began = pool->waiting_since_ms == 0;
        any_began = any_began || began;
        pool->waiting_since_ms = since;
        budget_wait(pool->budget, hub->worker, since);
        if (!began || hub->peer_n < 2)
            continue;
        for (uint32_t w = 0; w < hub->peer_n; w++) /* an idle server there would never hear of us */
            if (w != hub->worker)
                send_poke(hub->peers[w], pool->budget);
    }
    /* A unit that was given back just before we said that we wait woke nobody: look once more. */
    if (any_began)
        dial_for_all(set);
}

/* ---- waiters ---- */

static void dequeue(struct waiter *w)
{
    struct pool_set *set = w->set;
    list_remove(&w->node);
    timer_stop(&set->hub->loop->timers, &w->deadline);
    if (w->want == WANT_PRIMARY)
        set->writer_n--;
    else
        set->reader_n--;
}

static void refuse(struct waiter *w, enum refusal why, const struct refused_text *text)
{
    dequeue(w);
    w->ops->refused(w, why, text);
}

static void on_waiter_deadline(struct timer *timer)
{
    struct waiter *w = LIST_ENTRY(timer, struct waiter, deadline);
    struct pool_set *set = w->set;
    set->hub->sheds++;
    refuse(w, REFUSED_TIMEOUT, NULL);
    tell_waiting(set);
}

void waiter_init(struct waiter *w, const struct waiter_ops *ops, void *owner)
{
    *w = (struct waiter){.ops = ops, .owner = owner};
    list_init(&w->node);
    timer_init(&w->deadline, on_waiter_deadline);
}

void pool_withdraw(struct waiter *w)
{
    if (!waiter_waits(w))
        return;
    dequeue(w);
    tell_waiting(w->set);
}

static void enqueue(struct waiter *w, uint64_t timeout_ms)
{
    struct pool_set *set = w->set;
    struct loop *loop = set->hub->loop;
    w->since_ms = loop->now_ms;
    if (w->want == WANT_PRIMARY) {
        list_push_back(&set->writers, &w->node);
        set->writer_n++;
    } else {
        list_push_back(&set->readers, &w->node);
        set->reader_n++;
    }
    if (timeout_ms)
        timer_start(&loop->timers, &w->deadline, loop->now_ms + timeout_ms);
}

/* ---- dialling ---- */

static bool may_dial(const struct pool *pool)
{
    const struct hub *hub = pool->set->hub;
    return !hub->stopping && hub->loop->now_ms >= pool->retry_ms;
}

/* Open servers for waiters that no server under way will serve. */
static void dial_for_waiters(struct pool_set *set, const struct list *queue, uint32_t waiting)
{
    if (!waiting)
        return;
    const struct waiter *w = LIST_ENTRY(queue->next, struct waiter, node);
    uint32_t mask = nodes_for(set, w), under_way = 0;
    for (uint32_t rest = mask; rest; rest &= rest - 1)
        under_way += pool_at(set, (uint32_t)__builtin_ctz(rest))->dialing_n;
    for (uint32_t rest = mask; rest && under_way < waiting;) {
        uint32_t node = pick_node(set, rest);
        struct pool *pool = pool_at(set, node);
        if (may_dial(pool) && budget_take(pool->budget, set->pool_size)) {
            under_way++;
            server_dial(pool);
        } else {
            rest &= ~(1U << node);
        }
    }
}

static void dial_for_all(struct pool_set *set)
{
    dial_for_waiters(set, &set->writers, set->writer_n);
    dial_for_waiters(set, &set->readers, set->reader_n);
}

/* The balancer's choice had no idle server, so another node serves: the next one need not. */
static void dial_ahead(struct pool *pool)
{
    if (pool->dialing_n == 0 && may_dial(pool) && budget_take(pool->budget, pool->set->pool_size))
        server_dial(pool);
}

static void grant_idle(struct pool_set *set, struct list *queue)
{
    while (!list_empty(queue)) {
        struct waiter *w = LIST_ENTRY(queue->next, struct waiter, node);
        uint32_t mask = nodes_for(set, w);
        struct server *s = NULL;
        if (mask) {
            uint32_t first = pick_node(set, mask);
            s = find_idle(set, mask, first, w->label);
        }
        if (!s)
            return;
        dequeue(w);
        lend(s, w);
        w->ops->granted(w, s);
    }
}

/* Serve waiters with what is there; open what may be opened; say that we still wait. */
void pool_pump(struct pool_set *set)
{
    grant_idle(set, &set->writers);
    grant_idle(set, &set->readers);
    dial_for_all(set);
    tell_waiting(set);
}

struct server *pool_lease(struct pool_set *set, struct waiter *w, enum want want, uint32_t nodes,
                          struct label *label, uint64_t timeout_ms)
{
    CHECK(!waiter_waits(w));
    w->set = set;
    w->want = (uint8_t)want;
    w->nodes = nodes;
    w->label = label;
    bool queue_empty = want == WANT_PRIMARY ? !set->writer_n : !set->reader_n;
    uint32_t mask = nodes_for(set, w);
    if (mask && queue_empty) { /* who came first is served first */
        uint32_t first = pick_node(set, mask);
        struct server *s = find_idle(set, mask, first, label);
        if (s) {
            lend(s, w);
            if (s->pool->node != first)
                dial_ahead(pool_at(set, first));
            return s;
        }
    }
    enqueue(w, timeout_ms);
    dial_for_waiters(set, want == WANT_PRIMARY ? &set->writers : &set->readers,
                     want == WANT_PRIMARY ? set->writer_n : set->reader_n);
    if (waiter_waits(w))
        tell_waiting(set);
    return NULL;
}

/* ---- releasing ---- */

static bool is_expired(const struct server *s)
{
    const struct pool_set *set = s->pool->set;
    uint64_t lifetime_ms = conf_server_lifetime_ms(set->snapshot->conf, set->db);
    return lifetime_ms && s->conn->loop->now_ms - s->born_ms > lifetime_ms;
}

static bool should_close(const struct server *s)
{
    const struct pool_set *set = s->pool->set;
    if (s->close_on_release || set->hub->stopping)
        return true;
    struct cluster_view view = cluster_view(set->cluster);
    bool is_primary = view.primary == s->pool->node;
    if (is_primary && s->in_recovery)
        return true; /* it was opened before the node was promoted; a new one reports the truth */
    if (set->pool_size && atomic_load(&s->pool->budget->used) > set->pool_size)
        return true; /* a reload made the pool smaller */
    return is_expired(s) && list_empty(&set->writers) && list_empty(&set->readers);
}

static void start_sweep(struct hub *hub)
{
    if (!timer_running(&hub->sweep))
        timer_start(&hub->loop->timers, &hub->sweep, hub->loop->now_ms + SWEEP_MS);
}

struct move {
    struct mail mail; /* first */
    struct server *server;
    struct tls *tls;
    struct budget *budget;
    int fd;
    bool tcp;
};

/* The pool that waited has gone in the meantime, with its last client. */
static void drop_moved(struct loop *loop, struct move *m)
{
    static const struct conn_ops nobody = {.name = "nobody"};
    struct conn *conn = conn_new(loop, m->fd, !m->tcp, &nobody, NULL);
    conn_adopt_tls(conn, m->tls);
    conn_close(conn, "pool_has_gone");
    server_free(m->server);
    budget_give(m->budget);
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
        drop_moved(loop, m);
        return;
    }
    s->pool = pool;
    s->conn = conn_new(loop, m->fd, !m->tcp, &server_conn_ops, s);
    s->conn->essential = true;
    conn_adopt_tls(s->conn, m->tls);
    hub->server_n++;
    pool_server_state(s, SERVER_IDLE);
    start_sweep(hub);
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
    int worker = budget_longest_waiting(pool->budget, hub->worker, &since);
    bool can = worker >= 0 && (uint32_t)worker < hub->peer_n && conn->in.bytes == 0 &&
               !conn->ended && s->cancels == 0 && pool->budget->pools[worker] != NULL &&
               !hub->stopping;
    if (!can) { /* not offered to the other worker again: it could go on like that for ever */
        conn_resume(conn);
        pool_server_state(s, SERVER_IDLE);
        pool_pump(pool->set);
        return;
    }
    struct move *m = calloc(1, sizeof *m);
    CHECK(m != NULL);
    bool tcp = !conn->one_shot;
    label_unref(s->label);
    s->label = NULL;
    s->stale_stmts = s->stale_stmts || s->stmts.n > 0;
    stmt_set_clear(&s->stmts);
    --*count_of(pool, SERVER_MOVING);
    list_remove(&s->node);
    s->state = SERVER_STATE_N;
    s->conn = NULL;
    hub->server_n--;
    hub->moves++;
    *m = (struct move){.mail.deliver = on_moved, .server = s, .budget = pool->budget, .tcp = tcp};
    atomic_fetch_add(&pool->budget->refs, 1);
    m->fd = conn_take_fd(conn, &m->tls);
    loop_post(hub->peers[worker]->loop, &m->mail);
}

/* Whether a waiter of another worker has clearly waited longer than ours. */
static bool other_worker_first(struct pool *pool)
{
    uint64_t since, ours = waiting_for(pool->set, pool->node);
    if (budget_longest_waiting(pool->budget, pool->set->hub->worker, &since) < 0)
        return false;
    return ours == 0 || since + POOL_FAIR_MS < ours;
}

/* A server that nobody uses: to a waiter, to another worker, to the idle list, or away. */
void pool_offer(struct server *s)
{
    struct pool *pool = s->pool;
    struct pool_set *set = pool->set;
    if (should_close(s) || s->conn->eof) {
        server_close(s, "retired");
        return;
    }
    /* A cancel on its way must not hit the next client, nor may that one get what is unread. */
    if (s->cancels > 0 || s->conn->in.bytes > 0) {
        if (s->state != SERVER_CLEANING)
            pool_server_state(s, SERVER_CLEANING);
        if (s->conn->in.bytes > 0)
            conn_in_again(s->conn);
        return;
    }
    if (s->stale_stmts) {
        static const uint8_t text[] = "Q\0\0\0\x13"
                                      "DEALLOCATE ALL";
        s->stale_stmts = false;
        s->resetting = true;
        server_chore_begin(s);
        if (s->state != SERVER_CLEANING)
            pool_server_state(s, SERVER_CLEANING);
        conn_out_copy(s->conn, text, sizeof text);
        return;
    }
    s->idle_ms = s->conn->loop->now_ms;
    s->lessee = NULL;
    if (s->state != SERVER_IDLE)
        pool_server_state(s, SERVER_IDLE);
    if (other_worker_first(pool)) {
        pool_server_state(s, SERVER_MOVING);
        conn_quiesce(s->conn);
        return;
    }
    if (set->writer_n || set->reader_n)
        pool_pump(set);
}

static void end_lease(struct server *s)
{
    CHECK(s->state == SERVER_LEASED);
    struct balance_node *b = &s->pool->balance;
    b->in_flight--;
    balance_observe(b, (uint32_t)((s->conn->loop->now_ns - s->leased_ns) / 1000));
    s->lessee = NULL;
    conn_expect_small(s->conn);
    if (s->conn->paused &&
        !s->conn->closing) /* its lessee did not read; what we ask it now must be heard */
        conn_resume(s->conn);
}

void pool_release(struct server *s)
{
    end_lease(s);
    pool_offer(s);
}

void pool_release_after(struct server *s, const char *sql)
{
    uint8_t bytes[RESET_SQL_MAX + 16];
    struct put o = put_into(bytes, sizeof bytes);
    put_query(&o, slice_of(sql));
    end_lease(s);
    if (o.full) {
        server_close(s, "reset_query_too_long");
        return;
    }
    pool_server_state(s, SERVER_CLEANING);
    s->resetting = true;
    server_chore_begin(s);
    conn_out_copy(s->conn, o.p, o.n);
}

void pool_release_dirty(struct server *s)
{
    const char *sql = s->pool->set->snapshot->conf->server_reset_query;
    if (!sql[0]) { /* nothing cleans it */
        pool_discard(s, "session_state");
        return;
    }
    label_unref(s->label);
    s->label = NULL;
    if (strcasecmp(sql, "DISCARD ALL") == 0)
        s->label = label_ref(s->pool->set->base);
    else /* who knows what it drops */
        s->stale_stmts = s->stale_stmts || s->stmts.n > 0;
    stmt_set_clear(&s->stmts);
    pool_release_after(s, sql);
}

void pool_discard(struct server *s, const char *why)
{
    end_lease(s);
    server_close(s, why);
}

/* ---- servers that come and go ---- */

static void set_free_if_unused(struct pool_set *set);

void hub_evidence(struct hub *hub, struct cluster *cluster)
{
    if (hub->reports.evidence)
        hub->reports.evidence(hub->reports.context, cluster);
}

/* From PostgreSQL 14 on every server says whether it is in recovery: roles without a probe login. */
static void report_role(struct server *s)
{
    const struct hub_reports *reports = &s->pool->set->hub->reports;
    if (reports->role_seen && server_status_value(s, "in_hot_standby"))
        reports->role_seen(reports->context, s->pool->set->cluster, s->pool->node, s->in_recovery);
}

void pool_server_ready(struct server *s)
{
    struct pool *pool = s->pool;
    pool->backoff_ms = 0;
    pool->retry_ms = 0;
    s->label = label_ref(pool->set->base);
    report_role(s);
    if (pool->set->base->greeting == NULL) {
        uint8_t bytes[SERVER_GREETING_MAX];
        struct put o = put_into(bytes, sizeof bytes);
        server_greeting(s, &o);
        if (!o.full)
            pool_keep_greeting(pool->set, pool->set->base, put_slice(&o));
    }
    pool_server_state(s, SERVER_IDLE);
    start_sweep(pool->set->hub);
    pool_offer(s);
}

void pool_server_gone(struct server *s)
{
    struct pool *pool = s->pool;
    struct hub *hub = pool->set->hub;
    CHECK(s->state == SERVER_CLOSING);
    list_remove(&s->node);
    hub->server_n--;
    server_free(s);
    budget_give(pool->budget);
    wake_other(pool);
    pool_pump(pool->set);
    set_free_if_unused(pool->set);
}

/* Errors that no second try mends: the waiters hear the server's own words at once. */
static bool is_final(const char *sqlstate)
{
    return strncmp(sqlstate, "28", 2) == 0 || strncmp(sqlstate, "3D", 2) == 0;
}

static void refuse_all(struct pool_set *set, struct list *queue, uint32_t node,
                       const struct refused_text *text)
{
    struct list doomed, *next;
    list_init(
        &doomed); /* who is refused may wait again at once, or give a server to another waiter */
    for (struct list *n = queue->next; n != queue; n = next) {
        next = n->next;
        if (nodes_for(set, LIST_ENTRY(n, struct waiter, node)) != 1U << node)
            continue;
        list_remove(n);
        list_push_back(&doomed, n);
    }
    while (!list_empty(&doomed))
        refuse(LIST_ENTRY(doomed.next, struct waiter, node), REFUSED_BY_SERVER, text);
}

static void on_retry(struct timer *timer)
{
    struct pool *pool = LIST_ENTRY(timer, struct pool, retry);
    pool_pump(pool->set);
}

void pool_dial_failed(struct pool *pool, const char *sqlstate, const char *message)
{
    struct pool_set *set = pool->set;
    struct hub *hub = set->hub;
    uint64_t most_ms = set->snapshot->conf->server_login_retry_ms;
    hub->dial_failures++;
    if (pool->backoff_ms == 0 || is_final(sqlstate))
        LOG(LOG_WARN, "server.login_refused", LF_S("node", set->cluster->nodes[pool->node].label),
            LF_S("db", set->database), LF_S("user", set->user), LF_S("sqlstate", sqlstate),
            LF_S("error", message));
    pool->backoff_ms = pool->backoff_ms ? pool->backoff_ms * 2 : BACKOFF_FIRST_MS;
    if (pool->backoff_ms > most_ms)
        pool->backoff_ms = (uint32_t)most_ms;
    uint64_t jitter_ms = hub_random(hub) % (pool->backoff_ms / 4 + 1);
    pool->retry_ms = hub->loop->now_ms + pool->backoff_ms + jitter_ms;
    timer_start(&hub->loop->timers, &pool->retry, pool->retry_ms);
    hub_evidence(hub, set->cluster);
    if (is_final(sqlstate)) {
        struct refused_text text = {sqlstate, message};
        refuse_all(set, &set->writers, pool->node, &text);
        refuse_all(set, &set->readers, pool->node, &text);
    }
}

/* ---- greetings ---- */

static struct slice settings_of(const struct label *label)
{
    return (struct slice){label->text, label->bytes};
}

bool pool_find_greeting(struct pool_set *set, struct label *label)
{
    uint32_t n;
    if (label->greeting)
        return true;
    uint8_t *known = budget_greeting(set->pools[0].budget, settings_of(label), &n);
    if (!known)
        return false;
    label_set_greeting(label, (struct slice){known, n});
    free(known);
    return true;
}

void pool_keep_greeting(struct pool_set *set, struct label *label, struct slice messages)
{
    label_set_greeting(label, messages);
    budget_set_greeting(set->pools[0].budget, settings_of(label), messages);
}

/* ---- sets ---- */

static void use_snapshot(struct pool_set *set, struct snapshot *snapshot,
                         const struct conf_database *db)
{
    struct snapshot *was = set->snapshot;
    const struct conf *conf = snapshot->conf;
    struct slice user = slice_of(set->user);
    const char *secret = conf_secret(conf, user);
    bool own = db->user[0] != '\0' && slice_is(user, db->user) && db->password[0] != '\0';
    set->snapshot = snapshot_ref(snapshot);
    set->db = db;
    set->pool_size = conf_pool_size(conf, db, conf_user(conf, user));
    const char *password = own || (db->password[0] && db->user[0] == '\0') ? db->password
                           : secret                                        ? secret
                                                                           : "";
    free(set->password);
    set->password = strdup(password);
    CHECK(set->password != NULL);
    snapshot_unref(was);
}

static char *copy_text(struct slice text)
{
    char *copy = malloc(text.n + 1);
    CHECK(copy != NULL);
    memcpy(copy, text.p, text.n);
    copy[text.n] = '\0';
    return copy;
}

static struct pool_set *set_new(struct hub *hub, struct cluster *cluster,
                                const struct conf_database *db, struct slice database,
                                struct slice user)
{
    struct pool_set *set = calloc(1, sizeof *set + cluster->node_n * sizeof(struct pool));
    CHECK(set != NULL);
    struct label_draft empty = {0};
    set->hub = hub;
    set->cluster = cluster_ref(cluster);
    set->database = copy_text(database);
    set->user = copy_text(user);
    list_init(&set->writers);
    list_init(&set->readers);
    list_init(&set->labels);
    stmt_set_init(&set->proven);
    set->base = label_find(&set->labels, &empty);
    for (uint32_t i = 0; i < cluster->node_n; i++) {
        struct pool *pool = &set->pools[i];
        pool->set = set;
        pool->node = i;
        pool->balance.weight = 1;
        list_init(&pool->idle);
        list_init(&pool->busy);
        timer_init(&pool->retry, on_retry);
        pool->budget =
            budget_find(&(struct budget_key){cluster, i, db->name, set->database, set->user});
        pool->budget->pools[hub->worker] = pool;
    }
    use_snapshot(set, hub->snapshot, db);
    list_push_back(&hub->sets, &set->node);
    return set;
}

struct pool_set *pool_set_get(struct hub *hub, struct cluster *cluster,
                              const struct conf_database *db, struct slice database,
                              struct slice user)
{
    for (struct list *n = hub->sets.next; n != &hub->sets; n = n->next) {
        struct pool_set *set = LIST_ENTRY(n, struct pool_set, node);
        if (set->cluster == cluster && strcmp(set->db->name, db->name) == 0 &&
            slice_is(user, set->user) && slice_is(database, set->database)) {
            set->refs++;
            return set;
        }
    }
    struct pool_set *set = set_new(hub, cluster, db, database, user);
    set->refs++;
    return set;
}

void pool_set_unref(struct pool_set *set)
{
    CHECK(set->refs > 0);
    set->refs--; /* while it has servers it stays: they serve the next client */
    set_free_if_unused(set);
}

static void set_free(struct pool_set *set)
{
    for (uint32_t i = 0; i < set->cluster->node_n; i++) {
        struct pool *pool = &set->pools[i];
        CHECK(list_empty(&pool->idle) && list_empty(&pool->busy));
        timer_stop(&set->hub->loop->timers, &pool->retry);
        budget_wait(pool->budget, set->hub->worker, 0);
        pool->budget->pools[set->hub->worker] = NULL;
        budget_unref(pool->budget);
    }
    stmt_set_clear(&set->proven);
    label_unref(set->base);
    CHECK(list_empty(&set->labels));
    list_remove(&set->node);
    cluster_unref(set->cluster);
    snapshot_unref(set->snapshot);
    free(set->database);
    free(set->user);
    free(set->password);
    free(set);
}

static void set_free_if_unused(struct pool_set *set)
{
    if (set->refs > 0 || set->hub->stopping)
        return;
    for (uint32_t i = 0; i < set->cluster->node_n; i++)
        if (!list_empty(&set->pools[i].idle) || !list_empty(&set->pools[i].busy))
            return;
    set_free(set);
}

/* ---- the hub ---- */

/* It was opened before the node was sampled, or the node has been restarted since. */
static bool is_other_instance(const struct server *s, int64_t sampled)
{
    return sampled && s->instance && s->instance != sampled;
}

static void sweep_pool(struct pool *pool)
{
    const struct conf *conf = pool->set->snapshot->conf;
    int64_t sampled = node_status(&pool->set->cluster->nodes[pool->node]).postmaster_start_us;
    uint64_t now_ms = pool->set->hub->loop->now_ms;
    struct list *next;
    for (struct list *n = pool->idle.next; n != &pool->idle; n = next) {
        next = n->next;
        struct server *s = LIST_ENTRY(n, struct server, node);
        bool idle_long =
            conf->server_idle_timeout_ms && now_ms - s->idle_ms > conf->server_idle_timeout_ms;
        if (idle_long || should_close(s) || is_other_instance(s, sampled))
            server_close(s, idle_long ? "server_idle_timeout" : "retired");
    }
}

static void on_sweep(struct timer *timer)
{
    struct hub *hub = LIST_ENTRY(timer, struct hub, sweep);
    for (struct list *n = hub->sets.next; n != &hub->sets; n = n->next) {
        struct pool_set *set = LIST_ENTRY(n, struct pool_set, node);
        for (uint32_t i = 0; i < set->cluster->node_n; i++)
            sweep_pool(&set->pools[i]);
    }
    if (hub->server_n > 0) /* an idle process sleeps */
        start_sweep(hub);
}

void hub_init(struct hub *hub, struct loop *loop, uint32_t worker, struct snapshot *snapshot)
{
    *hub = (struct hub){.loop = loop, .worker = worker, .snapshot = snapshot_ref(snapshot)};
    hub->random = loop->now_ns | 1;
    list_init(&hub->sets);
    stmt_table_init(&hub->stmts, worker);
    timer_init(&hub->sweep, on_sweep);
}

void hub_free(struct hub *hub)
{
    timer_stop(&hub->loop->timers, &hub->sweep);
    while (!list_empty(&hub->sets))
        set_free(LIST_ENTRY(hub->sets.next, struct pool_set, node));
    stmt_table_free(&hub->stmts);
    snapshot_unref(hub->snapshot);
}

void hub_set_snapshot(struct hub *hub, struct snapshot *snapshot)
{
    snapshot_unref(hub->snapshot);
    hub->snapshot = snapshot;
    for (struct list *n = hub->sets.next; n != &hub->sets; n = n->next) {
        struct pool_set *set = LIST_ENTRY(n, struct pool_set, node);
        for (size_t i = 0; i < snapshot->conf->database_n; i++)
            if (snapshot->clusters[i] == set->cluster &&
                strcmp(snapshot->conf->databases[i].name, set->db->name) == 0) {
                use_snapshot(set, snapshot, &snapshot->conf->databases[i]);
                break;
            }
        pool_pump(set);
    }
}

void hub_cluster_changed(struct hub *hub, struct cluster *cluster)
{
    for (struct list *n = hub->sets.next; n != &hub->sets; n = n->next) {
        struct pool_set *set = LIST_ENTRY(n, struct pool_set, node);
        if (set->cluster != cluster)
            continue;
        for (uint32_t i = 0; i < cluster->node_n; i++) {
            set->pools[i].retry_ms = 0; /* what the control thread saw is newer than our failure */
            sweep_pool(&set->pools[i]);
        }
        pool_pump(set);
    }
}

static void close_servers(struct list *servers, const char *why)
{
    struct list *next;
    for (struct list *n = servers->next; n != servers; n = next) {
        next = n->next;
        server_close(LIST_ENTRY(n, struct server, node), why);
    }
}

void hub_stop(struct hub *hub)
{
    hub->stopping = true;
    for (struct list *n = hub->sets.next; n != &hub->sets; n = n->next) {
        struct pool_set *set = LIST_ENTRY(n, struct pool_set, node);
        for (uint32_t i = 0; i < set->cluster->node_n; i++)
            close_servers(&set->pools[i].idle, "shutdown");
        while (!list_empty(&set->writers))
            refuse(LIST_ENTRY(set->writers.next, struct waiter, node), REFUSED_SHUTDOWN, NULL);
        while (!list_empty(&set->readers))
            refuse(LIST_ENTRY(set->readers.next, struct waiter, node), REFUSED_SHUTDOWN, NULL);
    }
}

void hub_abort(struct hub *hub)
{
    hub_stop(hub);
    for (struct list *n = hub->sets.next; n != &hub->sets; n = n->next) {
        struct pool_set *set = LIST_ENTRY(n, struct pool_set, node);
        for (uint32_t i = 0; i < set->cluster->node_n; i++)
            close_servers(&set->pools[i].busy, "shutdown");
    }
}
