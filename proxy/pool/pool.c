/* proxy/pool/pool.c: leases: granting, waiting, dialling, releasing. */
#include "proxy/pool/inside.h"

#include "base/check.h"
#include "proxy/io/log.h"
#include "proxy/pool/cancel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RESET_SQL_MAX 8192
#define CHECK_HOLDS_MS 1000 /* for who waited for it */
#define GRANT_LOOKS_MAX 64  /* waiters looked at for a server that is idle */

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
    s->pool->checking_n -= s->checking;
    s->checking = false;
    uint32_t *was = count_of(s->pool, (enum server_state)s->state), *now = count_of(s->pool, state);
    if (was)
        --*was;
    if (now)
        ++*now;
    if (was == &s->pool->dialing_n)
        atomic_fetch_sub(&s->pool->budget->coming, 1);
    if (now == &s->pool->dialing_n)
        atomic_fetch_add(&s->pool->budget->coming, 1);
    s->state = (uint8_t)state;
    list_remove(&s->node);
    if (state == SERVER_IDLE)
        list_push_front(&s->pool->idle, &s->node);
    else
        list_push_back(&s->pool->busy, &s->node);
}

void pool_server_leaves(struct server *s)
{
    CHECK(s->state == SERVER_MOVING);
    --*count_of(s->pool, SERVER_MOVING);
    list_remove(&s->node);
    s->state = SERVER_STATE_N;
}

/* ---- granting ---- */

/* It has not hung up, and nothing that it said is unread. */
static bool is_silent(const struct server *s)
{
    return !s->conn->eof && s->conn->in.bytes == 0;
}

/* With this label, or with any: then the one that was not used for longest, as its label is the least wanted. */
static bool is_kept(const struct server *s, uint64_t client)
{
    return client && s->sequences_of != client && s->kept_ms > s->conn->loop->now_ms;
}

struct server *pool_take_idle(struct pool *pool, const struct label *label, uint64_t client)
{
    bool oldest = !label || pool->set->snapshot->conf->server_round_robin;
    struct list *n = oldest ? pool->idle.prev : pool->idle.next;
    for (; n != &pool->idle; n = oldest ? n->prev : n->next) {
        struct server *s = LIST_ENTRY(n, struct server, node);
        if ((!label || s->label == label) && is_silent(s) && !is_kept(s, client))
            return s;
    }
    return NULL;
}

/* The one where this client's currval() is. */
static struct server *take_with_sequences(struct pool *pool, const struct waiter *w)
{
    for (struct list *n = pool->idle.next; n != &pool->idle; n = n->next) {
        struct server *s = LIST_ENTRY(n, struct server, node);
        if (s->sequences_of == w->sequences_of && is_silent(s))
            return s;
    }
    return NULL;
}

static void lend(struct server *s, struct waiter *w, uint32_t mask)
{
    pool_server_state(s, SERVER_LEASED);
    s->lease_serial++;
    s->checked = false;
    s->lessee_ops = w->ops->lessee;
    s->lessee = w->owner;
    nodes_lent(s, mask);
}

/* Of the node that the balancer chose, one with this label first; else of the others in the same order.
 * The label does not choose the node: its first server would get all reads for ever. */
static struct server *find_any(struct pool_set *set, uint32_t mask, uint32_t first,
                               const struct label *label, uint64_t client)
{
    struct server *s = pool_take_idle(pool_at(set, first), label, client);
    if (!s)
        s = pool_take_idle(pool_at(set, first), NULL, client);
    for (uint32_t rest = mask & ~(1U << first); !s && rest; rest &= rest - 1)
        s = pool_take_idle(pool_at(set, (uint32_t)__builtin_ctz(rest)), label, client);
    for (uint32_t rest = mask & ~(1U << first); !s && rest; rest &= rest - 1)
        s = pool_take_idle(pool_at(set, (uint32_t)__builtin_ctz(rest)), NULL, client);
    return s;
}

/* A node that has failed is tried again by one, however many wait; the others follow when that one has got in. */
static bool may_dial(const struct pool *pool)
{
    const struct hub *hub = pool->set->hub;
    bool tried = pool->backoff_ms > 0 && pool->dialing_n > 0;
    return !hub->stopping && !gate_is_paused(pool->set->gate) && !tried &&
           hub->loop->now_ms >= pool->retry_ms;
}

/* kept_too: those that are kept for another client as well. */
static struct server *find_idle(struct pool_set *set, uint32_t mask, uint32_t first,
                                const struct waiter *w, bool kept_too)
{
    struct server *s = w->sequences_of ? take_with_sequences(pool_at(set, first), w) : NULL;
    return s ? s : find_any(set, mask, first, w->label, kept_too ? 0 : w->client);
}

/* ---- checking ---- */

/* It has not been used for so long that it has to answer first. It is offered again when it has: who wanted it
 * waits. */
static bool is_checked_first(struct server *s)
{
    const struct conf *conf = s->pool->set->snapshot->conf;
    const char *sql = conf->server_check_query;
    uint64_t unused_ms = s->conn->loop->now_ms - s->idle_ms;
    if (!sql[0] || unused_ms < conf->server_check_delay_ms ||
        (s->checked && unused_ms < CHECK_HOLDS_MS))
        return false;
    uint8_t bytes[RESET_SQL_MAX + 16];
    struct put o = put_into(bytes, sizeof bytes);
    put_query(&o, slice_of(strcasecmp(sql, "<empty>") == 0 ? "" : sql));
    CHECK(!o.full); /* the configuration takes none that is so long */
    pool_server_state(s, SERVER_CLEANING);
    s->resetting = s->checking = true;
    s->pool->checking_n++;
    stmt_set_unnamed(&s->stmts, NULL);
    server_chore_begin(s);
    server_chore_first(s);
    conn_out_copy(s->conn, o.p, o.n);
    return true;
}

/* ---- who waits since when ---- */

static uint64_t older(uint64_t a, uint64_t b)
{
    return !a ? b : !b ? a : a < b ? a : b;
}

/* Of the waiters of a queue, the oldest that a server of this node could serve; as far as we look. */
static uint64_t oldest_for(const struct pool_set *set, struct list *queue, uint32_t node)
{
    unsigned looks = GRANT_LOOKS_MAX;
    for (struct list *n = queue->next; n != queue && looks > 0; n = n->next, looks--) {
        struct waiter *w = LIST_ENTRY(n, struct waiter, node);
        if (pool_nodes_for(set, w) & 1U << node)
            return w->since_ms;
    }
    return 0;
}

/* Since when a waiter of ours could use a server of this node; 0: none. */
uint64_t pool_waiting_since(struct pool_set *set, uint32_t node)
{
    return older(oldest_for(set, &set->writers, node), oldest_for(set, &set->readers, node));
}

/* ---- dialling ---- */

/* The nodes that could serve some of the oldest waiters. */
static uint32_t wanted_nodes(const struct pool_set *set, const struct list *queue)
{
    uint32_t mask = 0;
    unsigned looks = GRANT_LOOKS_MAX;
    for (struct list *n = queue->next; n != queue && looks > 0; n = n->next, looks--)
        mask |= pool_nodes_for(set, LIST_ENTRY(n, struct waiter, node));
    return mask;
}

static uint32_t coming(const struct pool *pool)
{
    return pool->dialing_n + pool->checking_n;
}

bool pool_dial(struct pool *pool)
{
    struct units units;
    bool may = may_dial(pool) && limits_take(pool, &units);
    if (may)
        server_dial(pool, &units);
    return may;
}

/* Open servers for waiters that no server under way will serve; `others` wait for those of the primary, too.
 * False: some are left without one. */
static bool dial_for_waiters(struct pool_set *set, const struct list *queue, uint32_t waiting,
                             uint32_t others)
{
    if (!waiting)
        return true;
    uint32_t mask = wanted_nodes(set, queue), under_way = 0;
    uint8_t primary = cluster_view(set->cluster).primary;
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        uint32_t node = (uint32_t)__builtin_ctz(rest), n = coming(pool_at(set, node));
        uint32_t theirs = node != primary ? 0 : n < others ? n : others;
        under_way += n - theirs;
    }
    for (uint32_t rest = mask; rest && under_way < waiting;) {
        uint32_t node = nodes_pick_to_dial(set, rest);
        if (pool_dial(pool_at(set, node)))
            under_way++;
        else
            rest &= ~(1U << node);
    }
    return under_way >= waiting;
}

bool pool_dial_for_all(struct pool_set *set)
{
    for (uint32_t i = 0; i < set->cluster->node_n; i++)
        set->pools[i].refused_by = BUDGET_LIMITS;
    bool writers = dial_for_waiters(set, &set->writers, set->writer_n, 0);
    bool readers = dial_for_waiters(set, &set->readers, set->reader_n, set->writer_n);
    return writers && readers;
}

/* The balancer's choice had no idle server, so another node serves: the next one need not. */
static void dial_ahead(struct pool *pool)
{
    if (pool->dialing_n == 0)
        pool_dial(pool);
}

/* A server with other settings than the oldest waiter's needs none set for one of its own label: that one goes first
 * if it came at most POOL_FAIR_MS later. So many labels over few servers cost little, and nobody is overtaken by who
 * came after that. */
static struct waiter *of_its_label(struct waiter *first, struct list *queue, unsigned looks,
                                   const struct server *s)
{
    if (s->label == first->label || !s->label)
        return first;
    for (struct list *n = first->node.next; n != queue && looks > 0; n = n->next, looks--) {
        struct waiter *w = LIST_ENTRY(n, struct waiter, node);
        if (w->since_ms > first->since_ms + POOL_FAIR_MS)
            break;
        if (w->label == s->label && pool_nodes_for(first->set, w) & 1U << s->pool->node)
            return w;
    }
    return first;
}

/* The oldest that can be served is served. Others wait for nodes that have no idle server, or for a unit
 * of primary_read_budget: they do not hold up those behind them, as far as we look. */
static bool grant_one(struct pool_set *set, struct list *queue, bool newest_first, bool kept_too)
{
    unsigned looks = GRANT_LOOKS_MAX;
    for (struct list *n = newest_first ? queue->prev : queue->next; n != queue && looks > 0;
         n = newest_first ? n->prev : n->next, looks--) {
        struct waiter *w = LIST_ENTRY(n, struct waiter, node);
        uint32_t mask = pool_nodes_for(set, w);
        struct server *s = mask ? find_idle(set, mask, nodes_pick(set, mask), w, kept_too) : NULL;
        if (s && !newest_first)
            w = of_its_label(w, queue, looks, s);
        if (!s || is_checked_first(s) || !spill_take(s, w))
            continue;
        queue_served(w);
        lend(s, w, pool_nodes_for(set, w));
        w->ops->granted(w, s);
        return true;
    }
    return false;
}

static bool any_idle(const struct pool_set *set)
{
    for (uint32_t i = 0; i < set->cluster->node_n; i++)
        if (set->pools[i].idle_n > 0)
            return true;
    return false;
}

static void grant_idle(struct pool_set *set, struct list *queue, enum want want, bool kept_too)
{
    queue_shed_late(set, want);
    while (any_idle(set) && grant_one(set, queue, queue_is_newest_first(set, want), kept_too))
        ;
}

static void grant_all(struct pool_set *set, bool kept_too)
{
    grant_idle(set, &set->writers, WANT_PRIMARY, kept_too);
    grant_idle(set, &set->readers, WANT_READ, kept_too);
}

/* Serve waiters with what is there; open what may be opened, and if not for all, serve with what is kept for others;
 * say that we still wait. Who is granted a server may be
 * done with it at once, as a login is: that calls us again, and what it gave back is for the caller to grant, else a
 * thousand such waiters would be as many calls deep. */
void pool_pump(struct pool_set *set)
{
    set->pump_again = true;
    if (set->pumping)
        return;
    set->pumping = true;
    while (set->pump_again) {
        set->pump_again = false;
        grant_all(set, false);
        if (!pool_dial_for_all(set))
            grant_all(set, true);
    }
    set->pumping = false;
    borrow_tell(set);
}

struct server *pool_lease(struct pool_set *set, struct waiter *w, enum want want, uint32_t nodes,
                          struct label *label, uint64_t timeout_ms)
{
    CHECK(!waiter_waits(w));
    w->set = set;
    w->want = (uint8_t)want;
    w->nodes = nodes;
    w->label = label;
    uint32_t mask = pool_nodes_for(set, w);
    if (mask) { /* who waits already cannot use a server that is idle: see grant_idle() */
        uint32_t first = nodes_pick(set, mask);
        struct server *s = find_idle(set, mask, first, w, false);
        struct server *kept = s ? NULL : find_idle(set, mask, first, w, true);
        if (kept && !pool_dial(pool_at(set, first)))
            s = kept;
        if (s && !is_checked_first(s) && spill_take(s, w)) {
            lend(s, w, mask);
            if (s->pool->node != first)
                dial_ahead(pool_at(set, first));
            return s;
        }
    }
    if (!queue_enter(w, timeout_ms))
        return NULL;
    pool_dial_for_all(set);
    if (waiter_waits(w))
        borrow_tell(set);
    return NULL;
}

/* ---- releasing ---- */

static uint64_t lifetime_ms(const struct pool_set *set)
{
    return conf_server_lifetime_ms(set->snapshot->conf, set->db);
}

static bool is_expired(const struct server *s)
{
    const struct pool_set *set = s->pool->set;
    return s->conn->loop->now_ms - s->born_ms > jitter_below_ms(lifetime_ms(set), s->age_random);
}

bool pool_should_close(const struct server *s)
{
    const struct pool_set *set = s->pool->set;
    if (set->hub->stopping || (set->own && list_empty(&set->writers)))
        return true;
    if (gate_is_paused(s->gate) || s->epoch != atomic_load(&s->gate->epoch))
        return true; /* PAUSE, RECONNECT */
    if (s->address_edition != node_address_edition(&set->cluster->nodes[s->pool->node]))
        return true;
    struct cluster_view view = cluster_view(set->cluster);
    bool may_be_promoted = view.primary == s->pool->node && set->cluster->node_n > 1;
    if (may_be_promoted && s->in_recovery)
        return true; /* it was opened before the node was promoted; a new one reports the truth */
    if (limits_exceeded(s->pool))
        return true;
    if (lifetime_ms(set) == 0)
        return s->lease_serial > 0; /* for one use */
    return is_expired(s) && list_empty(&set->writers) && list_empty(&set->readers);
}

/* Ask this; it is not offered before it has answered, which read_idle() hears. */
static void clean_by(struct server *s, const char *sql)
{
    uint8_t bytes[RESET_SQL_MAX + 16];
    struct put o = put_into(bytes, sizeof bytes);
    put_query(&o, slice_of(sql));
    if (o.full) {
        server_close(s, "reset_query_too_long");
        return;
    }
    stmt_set_unnamed(&s->stmts, NULL);
    s->resetting = true;
    server_chore_begin(s);
    if (s->state != SERVER_CLEANING)
        pool_server_state(s, SERVER_CLEANING);
    conn_out_copy(s->conn, o.p, o.n);
}

void pool_doubt(struct pool *pool)
{
    struct list *next;
    for (struct list *n = pool->idle.next; n != &pool->idle; n = next) {
        next = n->next;
        struct server *s = LIST_ENTRY(n, struct server, node);
        if (!server_has_rested(s) || !is_silent(s))
            continue;
        clean_by(s, "");
        server_chore_first(s);
    }
}

/* What ends an idle session must not be in force on a server that waits for the next one. */
static void reset_idle_timeout(struct server *s)
{
    static const char name[] = "idle_session_timeout";
    struct label *label = label_without(&s->pool->set->labels, s->label, name);
    label_unref(s->label);
    s->label = label;
    clean_by(s, "RESET idle_session_timeout");
}

/* A server that nobody uses: to a waiter, to another worker, to the idle list, or away. */
void pool_offer(struct server *s)
{
    struct pool *pool = s->pool;
    struct pool_set *set = pool->set;
    if (s->leaving)
        return;
    if (pool_should_close(s) || s->conn->eof) {
        server_leave(s, "retired");
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
        s->stale_stmts = false;
        stmt_set_clear(&s->stmts);
        clean_by(s, "DEALLOCATE ALL");
        return;
    }
    if (s->label && s->label->idle_ms) {
        reset_idle_timeout(s);
        return;
    }
    s->idle_ms = s->conn->loop->now_ms;
    s->lessee = NULL;
    if (s->state != SERVER_IDLE)
        pool_server_state(s, SERVER_IDLE);
    if (limits_want(s))
        return;
    if (borrow_other_first(pool)) {
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
    cancel_forget(s); /* what it was to end has ended */
    nodes_returned(s);
    spill_give(s);
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

static void reset(struct server *s)
{
    const char *sql = s->pool->set->snapshot->conf->server_reset_query;
    if (!sql[0]) { /* nothing cleans it */
        server_close(s, "session_state");
        return;
    }
    label_unref(s->label);
    s->label = NULL;
    if (strcasecmp(sql, "DISCARD ALL") == 0)
        s->label = label_ref(s->pool->set->base);
    else /* who knows what it drops */
        s->stale_stmts = s->stale_stmts || s->stmts.n > 0;
    stmt_set_clear(&s->stmts);
    clean_by(s, sql);
}

/* One thing after the other, and none while a cancel is on its way: it would hit that. */
void pool_clean(struct server *s)
{
    if (s->cancels > 0 || s->resetting)
        return;
    if (s->drain) {
        drain_ask(s);
    } else if (s->clean & CLEAN_ROLLBACK) {
        s->clean &= (uint8_t)~CLEAN_ROLLBACK;
        clean_by(s, "ROLLBACK");
    } else if (s->clean & CLEAN_RESET) {
        s->clean &= (uint8_t)~CLEAN_RESET;
        reset(s);
    } else {
        pool_offer(s);
    }
}

void pool_release_after(struct server *s, unsigned clean)
{
    end_lease(s);
    pool_server_state(s, SERVER_CLEANING);
    s->clean = (uint8_t)clean;
    pool_clean(s);
}

void pool_release_left(struct server *s, const struct drain_plan *plan)
{
    end_lease(s);
    pool_server_state(s, SERVER_CLEANING);
    drain_begin(s, plan);
}

void pool_discard(struct server *s, const char *why)
{
    end_lease(s);
    server_close(s, why);
}

/* ---- servers that come and go ---- */

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
    bool held = pool->retry_ms != 0;
    pool->backoff_ms = 0;
    pool->retry_ms = 0;
    free(pool->failure);
    pool->failure = NULL;
    limits_logged_in(pool->set->hub, &s->units);
    s->label = label_ref(pool->set->connected ? pool->set->connected : pool->set->base);
    pool->set->tx = s->tx;
    report_role(s);
    if (pool->set->base->greeting == NULL) {
        uint8_t bytes[SERVER_GREETING_MAX];
        struct put o = put_into(bytes, sizeof bytes);
        server_greeting(s, &o);
        if (!o.full)
            pool_keep_greeting(pool->set, pool->set->base, put_slice(&o));
    }
    pool_server_state(s, SERVER_IDLE);
    hub_sweep_begin(pool->set->hub);
    pool_offer(s);
    if (held) /* others waited for the node, not for this server */
        pool_pump(pool->set);
    hub_fill(pool); /* it may have waited for this login to end */
}

void pool_server_gone(struct server *s)
{
    struct pool *pool = s->pool;
    struct hub *hub = pool->set->hub;
    struct units units = s->units;
    CHECK(s->state == SERVER_CLOSING);
    list_remove(&s->node);
    hub->server_n--;
    server_free(s);
    limits_give(hub, &units);
    pool_pump(pool->set);
    set_free_if_unused(pool->set);
}

/* Errors that no second try mends: the waiters hear the server's own words at once. Nobody else waits for the server
 * of a set of its own: it hears whatever the server says. */
static bool is_final(const struct pool_set *set, const char *sqlstate)
{
    if (set->own && strncmp(sqlstate, "08", 2) != 0 && strncmp(sqlstate, "57", 2) != 0)
        return true;
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
        if (pool_nodes_for(set, LIST_ENTRY(n, struct waiter, node)) != 1U << node)
            continue;
        list_remove(n);
        list_push_back(&doomed, n);
    }
    while (!list_empty(&doomed))
        pool_refuse(LIST_ENTRY(doomed.next, struct waiter, node), REFUSED_BY_SERVER, text);
}

void pool_on_retry(struct timer *timer)
{
    struct pool *pool = LIST_ENTRY(timer, struct pool, retry);
    pool_pump(pool->set);
}

static void keep_failure(struct pool *pool, const char *sqlstate, const char *message)
{
    char *text;
    if (asprintf(&text, "%s %s", sqlstate, message) < 0)
        return;
    free(pool->failure);
    pool->failure = text;
}

void pool_dial_failed(struct pool *pool, const char *sqlstate, const char *message)
{
    struct pool_set *set = pool->set;
    struct hub *hub = set->hub;
    uint64_t most_ms = set->snapshot->conf->server_login_retry_ms;
    hub->dial_failures++;
    keep_failure(pool, sqlstate, message);
    if (pool->backoff_ms == 0 || is_final(set, sqlstate))
        LOG(LOG_WARN, "server.login_refused", LF_S("node", set->cluster->nodes[pool->node].label),
            LF_S("db", set->database), LF_S("user", set->user), LF_S("sqlstate", sqlstate),
            LF_S("error", message));
    if (hub->loop->now_ms >= pool->retry_ms) { /* else it began before another one failed */
        pool->backoff_ms = backoff_ms(pool->backoff_ms, most_ms);
        pool->retry_ms = hub->loop->now_ms + jitter_above_ms(pool->backoff_ms, hub_random(hub));
        timer_start(&hub->loop->timers, &pool->retry, pool->retry_ms);
    }
    hub_evidence(hub, set->cluster);
    if (is_final(set, sqlstate)) {
        struct refused_text text = {sqlstate, message};
        refuse_all(set, &set->writers, pool->node, &text);
        refuse_all(set, &set->readers, pool->node, &text);
    }
}
