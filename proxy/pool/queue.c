/* proxy/pool/queue.c: waiters come and go. See queue.h. */
#include "proxy/pool/inside.h"

#include "base/check.h"
#include "proxy/io/log.h"

/* So long once more: while its database is paused, since the operator decides how long that takes; and when its deadline
 * passed while nothing ran for longer than STOOD_STILL_MS, since those who are served may have said so meanwhile. */
#define PUT_OFF_MS 1000
#define STOOD_STILL_MS 1000

static const struct conf *conf_of(const struct pool_set *set)
{
    return set->snapshot->conf;
}

static struct list *list_of(struct pool_set *set, enum want want)
{
    return want == WANT_PRIMARY ? &set->writers : &set->readers;
}

static uint32_t *count_of(struct pool_set *set, enum want want)
{
    return want == WANT_PRIMARY ? &set->writer_n : &set->reader_n;
}

/* Of all workers. */
static atomic_uint *waiting_of(const struct pool_set *set, enum want want)
{
    return &set->pools[0].budget->queued[want];
}

uint32_t pool_waiting(const struct pool_set *set, enum want want)
{
    return atomic_load(waiting_of(set, want));
}

/* ---- does it stand? ---- */

static bool is_codel(const struct pool_set *set)
{
    return conf_of(set)->queue_discipline == CONF_QUEUE_CODEL;
}

static struct codel_limits limits_of(const struct pool_set *set)
{
    return (struct codel_limits){conf_of(set)->codel_interval_ms, conf_of(set)->codel_target_ms};
}

static void look(struct pool_set *set, enum want want)
{
    struct queue *q = &set->queues[want];
    const struct list *list = list_of(set, want);
    uint64_t now_ms = set->hub->loop->now_ms;
    uint64_t since_ms =
        list_empty(list) ? now_ms : LIST_ENTRY(list->next, struct waiter, node)->since_ms;
    struct codel_limits limits = limits_of(set);
    bool stood = q->codel.stands;
    codel_look(&q->codel, &limits, now_ms, now_ms - since_ms);
    if (stood != q->codel.stands)
        LOG(LOG_INFO, stood ? "queue.flows" : "queue.stands", LF_S("db", set->database),
            LF_S("user", set->user), LF_S("role", queue_role_text(want)),
            LF_U("waiting", pool_waiting(set, want)));
}

/* A node that may serve it is there, and has servers: it waits for others to finish. Else it waits for a node, and that
 * is no overload: a failover is a pause. */
static bool is_served(struct pool_set *set, struct waiter *w)
{
    for (uint32_t mask = pool_nodes_for(set, w); mask; mask &= mask - 1) {
        uint32_t node = (uint32_t)__builtin_ctz(mask);
        const struct budget *budget = set->pools[node].budget;
        enum node_why why = node_status(&set->cluster->nodes[node]).why;
        bool out = why == NODE_UNREACHABLE || why == NODE_NO_ADDRESS || why == NODE_SAMPLE_OLD;
        if (!out && atomic_load(&budget->used) > atomic_load(&budget->coming))
            return true;
    }
    return false;
}

bool queue_is_newest_first(const struct pool_set *set, enum want want)
{
    return is_codel(set) && set->queues[want].codel.stands;
}

void queue_shed_late(struct pool_set *set, enum want want)
{
    struct list
        doomed; /* who is refused may wait again at once, or give a server to another waiter */
    struct list *list = list_of(set, want);
    uint64_t now_ms = set->hub->loop->now_ms;
    struct queue *q = &set->queues[want];
    if (!is_codel(set) || q->shedding || gate_is_paused(set->gate))
        return;
    if (!list_empty(list) && !is_served(set, LIST_ENTRY(list->next, struct waiter, node))) {
        q->codel = (struct codel){0};
        return;
    }
    look(set, want);
    if (!q->codel.stands)
        return;
    struct codel_limits limits = limits_of(set);
    list_init(&doomed);
    for (unsigned n = 0; n < QUEUE_SHEDS_MAX && !list_empty(list); n++) {
        struct waiter *w = LIST_ENTRY(list->next, struct waiter, node);
        if (now_ms - w->since_ms <= codel_patience_ms(&limits))
            break;
        list_remove(&w->node);
        list_push_back(&doomed, &w->node);
    }
    q->shedding = true;
    while (!list_empty(&doomed))
        pool_refuse(LIST_ENTRY(doomed.next, struct waiter, node), REFUSED_CODEL, NULL);
    q->shedding = false;
}

/* ---- coming ---- */

/* Servers that come, or may be opened, for this waiter: who waits for them does not wait for others to finish. */
static uint32_t room_for(struct pool_set *set, struct waiter *w)
{
    uint32_t room = 0;
    for (uint32_t mask = pool_nodes_for(set, w); mask; mask &= mask - 1) {
        const struct pool *pool = &set->pools[__builtin_ctz(mask)];
        uint32_t used = atomic_load(&pool->budget->used);
        if (set->pool_size == 0)
            return UINT32_MAX;
        bool may_open = used < set->pool_size && !limits_are_full(pool);
        room += atomic_load(&pool->budget->coming) + (may_open ? set->pool_size - used : 0);
    }
    return room;
}

static bool take_place(struct pool_set *set, struct waiter *w)
{
    atomic_uint *waiting = waiting_of(set, (enum want)w->want);
    uint32_t max = gate_is_paused(set->gate) ? 0 : conf_of(set)->queue_max;
    unsigned n = atomic_load(waiting);
    uint64_t room = max && n >= max ? room_for(set, w) : 0;
    do {
        if (max && n >= max + room)
            return false;
    } while (!atomic_compare_exchange_weak(waiting, &n, n + 1));
    return true;
}

static uint64_t next_ms(const struct waiter *w)
{
    bool notice_first = w->notice_ms && (!w->deadline_ms || w->notice_ms < w->deadline_ms);
    return notice_first ? w->notice_ms : w->deadline_ms;
}

static void start_timer(struct waiter *w)
{
    uint64_t at_ms = next_ms(w);
    if (at_ms)
        timer_start(&w->set->hub->loop->timers, &w->timer, at_ms);
}

bool queue_enter(struct waiter *w, uint64_t timeout_ms)
{
    struct pool_set *set = w->set;
    struct loop *loop = set->hub->loop;
    uint64_t notify_ms = conf_of(set)->query_wait_notify_ms;
    enum want want = (enum want)w->want;
    if (!take_place(set, w))
        return false;
    w->since_ms = loop->now_ms;
    w->put_off = false;
    w->renew_ms = 0;
    w->deadline_ms =
        timeout_ms ? w->since_ms + jitter_below_ms(timeout_ms, hub_random(set->hub)) : 0;
    w->notice_ms = notify_ms ? w->since_ms + notify_ms : 0;
    list_push_back(list_of(set, want), &w->node);
    ++*count_of(set, want);
    start_timer(w);
    queue_shed_late(set, want);
    return true;
}

/* ---- going ---- */

void queue_leave(struct waiter *w)
{
    struct pool_set *set = w->set;
    enum want want = (enum want)w->want;
    list_remove(&w->node);
    timer_stop(&set->hub->loop->timers, &w->timer);
    --*count_of(set, want);
    unsigned was = atomic_fetch_sub(waiting_of(set, want), 1);
    CHECK(was > 0);
    if (is_codel(set) && *count_of(set, want) == 0)
        look(set, want);
}

void queue_served(struct waiter *w)
{
    struct queue *q = &w->set->queues[w->want];
    q->waited++;
    q->waited_ms += w->set->hub->loop->now_ms - w->since_ms;
    queue_leave(w);
}

void pool_refuse(struct waiter *w, enum refusal why, const struct refused_text *text)
{
    queue_leave(w);
    w->ops->refused(w, why, text);
}

/* After a RESUME its time begins anew: all who came during the PAUSE want a server at once. */
static void put_off(struct waiter *w, bool paused, bool stood_still)
{
    uint64_t now_ms = w->set->hub->loop->now_ms;
    if (paused && !w->renew_ms)
        w->renew_ms = w->deadline_ms - w->since_ms;
    if (!paused && w->renew_ms) {
        w->deadline_ms = now_ms + w->renew_ms;
        w->renew_ms = 0;
    } else if (paused || stood_still) {
        w->deadline_ms = now_ms + PUT_OFF_MS;
    }
}

static void on_timer(struct timer *timer)
{
    struct waiter *w = LIST_ENTRY(timer, struct waiter, timer);
    struct pool_set *set = w->set;
    uint64_t now_ms = set->hub->loop->now_ms;
    if (w->notice_ms && now_ms >= w->notice_ms) {
        w->notice_ms = 0;
        if (w->ops->waits_long && w->ops->waits_long(w))
            set->queues[w->want].notified++;
    }
    bool due = w->deadline_ms && now_ms >= w->deadline_ms;
    bool stood_still = set->hub->loop->late_ms >= STOOD_STILL_MS && !w->put_off;
    if (due)
        put_off(w, gate_is_paused(set->gate), stood_still);
    w->put_off = w->put_off || stood_still;
    uint64_t more_ms =
        w->deadline_ms && now_ms >= w->deadline_ms && w->ops->more_ms ? w->ops->more_ms(w) : 0;
    if (more_ms)
        w->deadline_ms = now_ms + more_ms;
    if (!w->deadline_ms || now_ms < w->deadline_ms) {
        start_timer(w);
        return;
    }
    pool_refuse(w, REFUSED_TIMEOUT, NULL);
    borrow_tell(set);
}

void waiter_init(struct waiter *w, const struct waiter_ops *ops, void *owner)
{
    *w = (struct waiter){.ops = ops, .owner = owner};
    list_init(&w->node);
    timer_init(&w->timer, on_timer);
}

void pool_withdraw(struct waiter *w)
{
    if (!waiter_waits(w))
        return;
    queue_leave(w);
    borrow_tell(w->set);
}
