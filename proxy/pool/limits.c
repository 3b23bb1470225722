/* proxy/pool/limits.c: what a server counts in, and who gets a unit that becomes free.
 *
 * What    a server holds one unit of each limit that it comes under: its pool's, its database's, its user's, its
 *         node's, and while it connects and logs in one of server_connect_concurrency. All or none, in this order.
 * Waiting a pool whose attempt ended at a limit starves there, since its oldest waiter came; each worker writes that of
 *         its oldest such pool into the budget. Who gives a unit back sends word to the oldest of all workers and
 *         pools, and who came later leaves it alone. Who gets word tries, and sends it on while others starve: it ends
 *         at the oldest when that one cannot take it. Who begins to starve looks once more: no word is lost.
 * Room    an idle server of another pool, of any worker, is closed for a pool that starves; one at a time for each
 *         limit. A busy one when it is released, if who starves came POOL_SWITCH_MS before all that wait for it: to
 *         close and open one costs more than a query.
 * Reserve a pool may have reserve_pool_size more once its oldest waiter has waited reserve_pool_timeout; such a server
 *         is closed when nobody waits any more.
 */
#include "proxy/pool/inside.h"

#include "base/check.h"

#include <stdlib.h>

#define POOL_SWITCH_MS 100

static uint32_t reserve_of(const struct pool_set *set, uint64_t since_ms)
{
    uint64_t wait_ms = set->reserve_timeout_ms;
    bool waited = since_ms && wait_ms && set->hub->loop->now_ms >= since_ms + wait_ms;
    return waited && set->pool_size ? set->reserve_pool_size : 0;
}

/* For a pool whose oldest waiter came then; 0: none. */
static uint32_t limit_of(const struct pool *pool, enum budget_kind kind, uint64_t since_ms)
{
    const struct pool_set *set = pool->set;
    return kind == BUDGET_POOL ? set->pool_size + reserve_of(set, since_ms) : set->most[kind];
}

/* ---- finding them ---- */

void limits_begin(struct pool *pool, struct budget *own, const char *entry)
{
    const struct pool_set *set = pool->set;
    const char *node = set->cluster->nodes[pool->node].label;
    pool->budget = pool->limits[BUDGET_POOL] = own;
    /* Entries of a template are databases of their own; nodes are instances, whoever lists them. */
    pool->limits[BUDGET_DATABASE] = budget_find(
        &(struct budget_key){.kind = BUDGET_DATABASE, .entry = entry, .database = set->database});
    pool->limits[BUDGET_USER] =
        budget_find(&(struct budget_key){.kind = BUDGET_USER, .user = set->user});
    pool->limits[BUDGET_NODE] =
        budget_find(&(struct budget_key){.kind = BUDGET_NODE, .entry = node});
    pool->limits[BUDGET_CONNECT] =
        budget_find(&(struct budget_key){.kind = BUDGET_CONNECT, .entry = node});
    list_init(&pool->starved);
    pool->refused_by = BUDGET_LIMITS;
}

void limits_configure(struct pool_set *set)
{
    const struct conf *conf = set->snapshot->conf;
    const struct conf_user *user = conf_user(conf, slice_of(set->user));
    set->pool_size = conf_pool_size(conf, set->db, user);
    set->reserve_pool_size = conf_reserve_pool_size(conf, set->db, user);
    set->reserve_timeout_ms = conf->reserve_pool_timeout_ms;
    set->most[BUDGET_DATABASE] = conf_max_db_connections(conf, set->db);
    set->most[BUDGET_USER] = conf_max_user_connections(conf, user);
    set->most[BUDGET_NODE] = conf->max_node_connections;
    set->most[BUDGET_CONNECT] = conf->server_connect_concurrency;
    for (uint32_t i = 0; i < set->cluster->node_n; i++)
        for (unsigned k = 0; k < BUDGET_LIMITS; k++)
            atomic_store(&set->pools[i].limits[k]->limit, limit_of(&set->pools[i], k, 0));
    spill_configure(set);
}

/* ---- who starves ---- */

/* The oldest pool of this worker that starves at this limit, or NULL. */
static struct pool *oldest_here(const struct hub *hub, const struct budget *budget)
{
    struct pool *oldest = NULL;
    for (struct list *n = hub->starved.next; n != &hub->starved; n = n->next) {
        struct pool *pool = LIST_ENTRY(n, struct pool, starved);
        if (pool->starving == budget && (!oldest || pool->starving_ms < oldest->starving_ms))
            oldest = pool;
    }
    return oldest;
}

static void tell(struct hub *hub, struct budget *budget)
{
    const struct pool *oldest = oldest_here(hub, budget);
    waits_set(&budget->starving, hub->worker, oldest ? oldest->starving_ms : 0);
}

struct word {
    struct mail mail; /* first */
    struct budget *budget;
};

static void on_freed(struct loop *loop, struct mail *mail);
static void on_wanted(struct loop *loop, struct mail *mail);

static void post(struct hub *to, struct budget *budget,
                 void (*deliver)(struct loop *loop, struct mail *mail))
{
    struct word *word = malloc(sizeof *word);
    CHECK(word != NULL);
    atomic_fetch_add(&budget->refs, 1);
    *word = (struct word){.mail.deliver = deliver, .budget = budget};
    loop_post(to->loop, &word->mail);
}

/* A unit is free: word to who waits longest for one. By mail to this worker, too: it is in the midst of something. */
static void freed(struct hub *hub, struct budget *budget)
{
    uint64_t since_ms;
    int worker = hub->stopping || hub->peer_n == 0
                     ? -1
                     : waits_longest(&budget->starving, WORKERS_MAX, &since_ms);
    if (worker >= 0 && (uint32_t)worker < hub->peer_n)
        post(hub->peers[worker], budget, on_freed);
}

/* True: it has begun to starve at a limit. */
static bool note(struct pool *pool, uint64_t since_ms)
{
    struct hub *hub = pool->set->hub;
    bool starves = since_ms && pool->refused_by < BUDGET_LIMITS;
    struct budget *was = pool->starving, *now = starves ? pool->limits[pool->refused_by] : NULL;
    if (now == was && (!now || since_ms == pool->starving_ms))
        return false;
    pool->starving = now;
    pool->starving_ms = since_ms;
    list_remove(&pool->starved);
    if (now) {
        list_push_back(&hub->starved, &pool->starved);
        tell(hub, now);
    }
    if (was && was != now)
        tell(hub, was);
    if (was && !budget_is_full(was)) /* what is left was meant for us */
        freed(hub, was);
    return now && now != was;
}

void limits_forget(struct pool *pool)
{
    note(pool, 0);
    for (unsigned k = 0; k < BUDGET_LIMITS; k++)
        budget_unref(pool->limits[k]);
}

/* ---- taking and giving ---- */

/* Somebody who came before `since_ms` (0: nobody waits) starves at it. */
static bool is_for_another(const struct budget *budget, uint64_t since_ms)
{
    uint64_t oldest_ms;
    return atomic_load(&budget->starving.n) > 0 &&
           waits_longest(&budget->starving, WORKERS_MAX, &oldest_ms) >= 0 &&
           (since_ms == 0 || oldest_ms < since_ms);
}

bool limits_take(struct pool *pool, struct units *units)
{
    const struct pool_set *set = pool->set;
    uint32_t most = set->pool_size + set->reserve_pool_size;
    pool->refused_by = BUDGET_POOL;
    if (set->pool_size && atomic_load(&pool->budget->used) >= most)
        return false; /* as usual while there are waiters */
    uint64_t since_ms = pool_waiting_since(pool->set, pool->node);
    unsigned k = 0;
    for (; k < BUDGET_LIMITS; k++) {
        struct budget *b = pool->limits[k];
        if (is_for_another(b, since_ms) || !budget_take(b, limit_of(pool, k, since_ms)))
            break;
    }
    *units = (struct units){0};
    pool->refused_by = (uint8_t)k;
    if (k == BUDGET_LIMITS) {
        for (k = 0; k < BUDGET_LIMITS; k++) {
            atomic_fetch_add(&pool->limits[k]->refs, 1);
            units->of[k] = pool->limits[k];
        }
        return true;
    }
    while (k-- > 0) { /* who looked meanwhile may have found it full */
        budget_give(pool->limits[k]);
        freed(set->hub, pool->limits[k]);
    }
    return false;
}

static void give(struct hub *hub, struct units *units, unsigned kind)
{
    struct budget *b = units->of[kind];
    if (!b)
        return;
    units->of[kind] = NULL;
    if (units->leaving)
        atomic_fetch_sub(&b->leaving, 1);
    budget_give(b);
    freed(hub, b);
    budget_unref(b);
}

void limits_leaving(struct units *units)
{
    for (unsigned k = 0; !units->leaving && k < BUDGET_LIMITS; k++)
        if (units->of[k])
            atomic_fetch_add(&units->of[k]->leaving, 1);
    units->leaving = true;
}

void limits_logged_in(struct hub *hub, struct units *units)
{
    give(hub, units, BUDGET_CONNECT);
}

void limits_give(struct hub *hub, struct units *units)
{
    if (units->evicted_for) {
        atomic_store(&units->evicted_for->evicting, false); /* first: who gets word may need more */
        budget_unref(units->evicted_for);
        units->evicted_for = NULL;
    }
    for (unsigned k = BUDGET_LIMITS; k-- > 0;)
        give(hub, units, k);
}

const char *pool_full_limit(const struct pool_set *set, uint32_t nodes)
{
    for (; nodes; nodes &= nodes - 1)
        for (unsigned k = BUDGET_DATABASE; k <= BUDGET_NODE; k++)
            if (budget_is_full(set->pools[__builtin_ctz(nodes)].limits[k]))
                return budget_option(k);
    return NULL;
}

bool limits_are_full(const struct pool *pool)
{
    for (unsigned k = BUDGET_DATABASE; k <= BUDGET_NODE; k++)
        if (budget_is_full(pool->limits[k]))
            return true;
    return false;
}

static uint32_t staying(const struct budget *budget)
{
    uint32_t used = atomic_load(&budget->used), leaving = atomic_load(&budget->leaving);
    return used > leaving ? used - leaving : 0;
}

bool limits_exceeded(const struct pool *pool)
{
    const struct pool_set *set = pool->set;
    uint32_t used = staying(pool->budget);
    bool wanted = set->writer_n || set->reader_n || atomic_load(&pool->budget->wanting.n) > 0;
    if (set->pool_size && used > set->pool_size + (wanted ? set->reserve_pool_size : 0))
        return true;
    for (unsigned k = BUDGET_DATABASE; k <= BUDGET_NODE; k++)
        if (set->most[k] && staying(pool->limits[k]) > set->most[k])
            return true;
    return false;
}

/* ---- making room ---- */

static void evict(struct server *s, struct budget *budget)
{
    atomic_fetch_add(&budget->refs, 1);
    s->units.evicted_for = budget;
    s->pool->set->hub->evictions++;
    server_leave(s, "evicted");
}

/* Of the idle servers of this worker that hold a unit of it, the one that has been unused longest. */
static struct server *longest_idle(const struct hub *hub, const struct budget *budget)
{
    struct server *longest = NULL;
    for (struct list *n = hub->sets.next; n != &hub->sets; n = n->next) {
        struct pool_set *set = LIST_ENTRY(n, struct pool_set, node);
        for (uint32_t i = 0; i < set->cluster->node_n; i++) {
            const struct pool *pool = pool_at(set, i);
            if (pool->idle_n == 0 || pool->limits[budget->kind] != budget)
                continue;
            struct server *s = LIST_ENTRY(pool->idle.prev, struct server, node);
            if (!longest || s->idle_ms < longest->idle_ms)
                longest = s;
        }
    }
    return longest;
}

/* False: this worker has nothing to give. */
static bool evict_here(struct hub *hub, struct budget *budget)
{
    struct server *s = longest_idle(hub, budget);
    if (s && !atomic_exchange(&budget->evicting, true))
        evict(s, budget);
    return s != NULL;
}

/* Somebody starves at this limit: let a unit of it become free, here or elsewhere. */
static void make_room(struct hub *hub, struct budget *budget)
{
    bool by_idle = budget->kind >= BUDGET_DATABASE && budget->kind <= BUDGET_NODE;
    if (!by_idle || hub->stopping || !budget_is_full(budget) || evict_here(hub, budget))
        return;
    for (uint32_t w = 0; w < hub->peer_n; w++)
        if (w != hub->worker)
            post(hub->peers[w], budget, on_wanted);
}

static void on_wanted(struct loop *loop, struct mail *mail)
{
    struct word *word = (struct word *)(void *)mail;
    struct budget *b = word->budget;
    if (atomic_load(&b->starving.n) > 0 && budget_is_full(b))
        evict_here(loop->context, b);
    budget_unref(b);
    free(word);
}

/* A unit is here, or was: whoever starves longest in this worker tries. */
static void on_freed(struct loop *loop, struct mail *mail)
{
    struct word *word = (struct word *)(void *)mail;
    struct hub *hub = loop->context;
    struct budget *b = word->budget;
    const struct pool *pool = oldest_here(hub, b);
    uint64_t since_ms;
    if (pool)
        pool_pump(pool->set);
    int worker = waits_longest(&b->starving, WORKERS_MAX, &since_ms);
    bool stays = worker == (int)hub->worker && oldest_here(hub, b) == pool;
    if (worker >= 0 && !stays)
        freed(hub, b);
    if (worker >= 0)
        make_room(hub, b);
    budget_unref(b);
    free(word);
}

bool limits_want(struct server *s)
{
    struct pool *pool = s->pool;
    for (unsigned k = BUDGET_DATABASE; k <= BUDGET_NODE; k++) {
        struct budget *b = pool->limits[k];
        uint64_t starves_ms, waits_ms = 0;
        if (atomic_load_explicit(&b->starving.n, memory_order_relaxed) == 0 || !budget_is_full(b) ||
            waits_longest(&b->starving, WORKERS_MAX, &starves_ms) < 0)
            continue;
        if (waits_longest(&pool->budget->wanting, WORKERS_MAX, &waits_ms) >= 0 &&
            starves_ms + POOL_SWITCH_MS >= waits_ms)
            continue;
        if (!atomic_exchange(&b->evicting, true)) {
            evict(s, b);
            return true;
        }
    }
    return false;
}

/* ---- telling ---- */

static bool note_all(struct pool_set *set)
{
    bool began = false;
    for (uint32_t i = 0; i < set->cluster->node_n; i++) {
        struct pool *pool = pool_at(set, i);
        if (pool->refused_by < BUDGET_LIMITS || pool->starving)
            began |= note(pool, pool_waiting_since(set, i));
    }
    return began;
}

/* When the reserve may be used: the next waiter of this set to have waited that long. */
static void watch_reserve(struct pool_set *set)
{
    struct loop *loop = set->hub->loop;
    uint64_t first_ms = 0;
    if (!set->reserve_pool_size || !set->reserve_timeout_ms || timer_running(&set->reserve))
        return;
    for (uint32_t i = 0; i < set->cluster->node_n; i++) {
        uint64_t since_ms = pool_at(set, i)->starving ? pool_at(set, i)->starving_ms : 0;
        if (since_ms && (!first_ms || since_ms < first_ms))
            first_ms = since_ms;
    }
    if (!first_ms)
        return;
    uint64_t at_ms = first_ms + set->reserve_timeout_ms;
    if (at_ms <= loop->now_ms) /* all of it is in use: who frees one sends word */
        at_ms = loop->now_ms + set->reserve_timeout_ms;
    timer_start(&loop->timers, &set->reserve, at_ms);
}

void limits_on_reserve(struct timer *timer)
{
    pool_pump(LIST_ENTRY(timer, struct pool_set, reserve));
}

void limits_tell(struct pool_set *set)
{
    bool began = false;
    while (note_all(set)) { /* a unit that was given back just before woke nobody */
        began = true;
        pool_dial_for_all(set);
    }
    for (uint32_t i = 0; began && i < set->cluster->node_n; i++)
        if (pool_at(set, i)->starving)
            make_room(set->hub, pool_at(set, i)->starving);
    watch_reserve(set);
}
