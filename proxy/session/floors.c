/* proxy/session/floors.c: what this client has seen, and which replicas may therefore serve it.
 *
 * Cost    a client that has seen nothing costs a few compares; one that reads on its replica, one look
 *         at that node's newest sample.
 * Waits   a client waits for samples, not for time: it says so in cluster->waiting, the control thread
 *         then samples without a pause and mails each worker that has such clients. Each of them costs
 *         one look per sample and one timer, its deadline (floor_wait, of a token probe_timeout).
 */
#include "proxy/session/session.h"

#include "base/check.h"
#include "router/wait_lsn.h"

#define MOVE_MS 10000         /* how often a client that reads without a pause may choose anew */
#define MOVE_AGAIN_MS 2000    /* ... and after it could not */
#define FLUSH_WINDOW_DELAYS 3 /* wal_writer_delays, see router/floor.h */
#define NS_PER_MS 1000000U

static const struct conf *conf_of(const struct session *s)
{
    return s->worker->hub.snapshot->conf;
}

static uint64_t begun(struct session *s, uint32_t node)
{
    return atomic_load(&s->set->cluster->nodes[node].samples_begun);
}

enum conf_consistency floors_consistency(const struct session *s)
{
    return s->consistency ? (enum conf_consistency)(s->consistency - 1) : conf_of(s)->consistency;
}

/* An answer has come: from now on the client must not be shown less. What a replica shows without a
 * promise (eventual) binds nobody. */
void floors_answered(struct session *s)
{
    const struct server *server = s->server;
    uint8_t node = (uint8_t)server->pool->node;
    uint64_t number = begun(s, node);
    if (!s->on_replica) {
        floor_used_primary(&s->floor, node, number);
        if (s->writes)
            shared_floor_used(s->set->floor, node, number);
    } else if (!s->floor_ignored && floors_consistency(s) != CONF_CONSISTENCY_EVENTUAL) {
        floor_used_replica(&s->floor, node, server->instance, number);
    }
}

static struct floor_sample sample_from(const struct node_status *st)
{
    bool replica = st->role == NODE_REPLICA;
    return (struct floor_sample){.number = st->sample,
                                 .timeline = st->timeline,
                                 .seen_lsn = replica ? floor_shown(st->receive_lsn, st->replay_lsn)
                                                     : st->insert_lsn,
                                 .replay_lsn = replica ? st->replay_lsn : 0,
                                 .flush_lsn = replica ? 0 : st->flush_lsn,
                                 .instance = st->postmaster_start_us,
                                 .begun_ns = st->begun_ns,
                                 .at_ns = st->sampled_ns};
}

static struct floor_sample sample_of(struct session *s, uint32_t node)
{
    struct node_status st = node_status(&s->set->cluster->nodes[node]);
    return sample_from(&st);
}

/* A sample of another node than the one that was used says nothing, and after a failover its numbers
 * are another node's: then the new primary has to be sampled from now on. */
static bool settle_primary(struct session *s, struct cluster_view view)
{
    struct floor *f = &s->floor;
    if (f->pending_after == 0)
        return true;
    if (view.primary == NODE_NONE)
        return false;
    if (f->primary != view.primary)
        floor_join(f, view.primary, begun(s, view.primary) + 1);
    struct floor_sample sample = sample_of(s, view.primary);
    return floor_settle_primary(f, &sample);
}

/* For a token: another sample of home will not do better than this one. Reads need no such answer, they
 * use the primary. */
static bool home_cannot_tell(const struct floor *f, struct cluster_view view,
                             const struct floor_sample *sample)
{
    bool is_there = view.readable & 1U << f->home && sample->instance == f->home_instance;
    return !is_there || (sample->number >= f->sticky_after && sample->seen_lsn == 0);
}

static void settle_home(struct session *s, struct cluster_view view)
{
    struct floor *f = &s->floor;
    if (!f->has_home || f->sticky_after == 0)
        return;
    struct floor_sample sample = sample_of(s, f->home);
    if (!floor_settle_replica(f, f->home, &sample) && view.primary != NODE_NONE &&
        home_cannot_tell(f, view, &sample))
        floor_lost_home(f, view.primary, begun(s, view.primary));
}

static uint64_t needed_lsn(struct session *s, struct cluster_view view)
{
    if (view.primary == NODE_NONE)
        return s->floor.lsn;
    struct node_status st = node_status(&s->set->cluster->nodes[view.primary]);
    struct floor_sample sample = sample_from(&st);
    return floor_need(&s->floor, &sample, st.wal_writer_delay_ms * FLUSH_WINDOW_DELAYS * NS_PER_MS);
}

/* consistency = global: what other clients wrote, as far as it was acknowledged by now. Not while this
 * read waits: it would run after a target that moves on. */
static void join_shared(struct session *s)
{
    uint64_t word = shared_floor_now(s->set->floor);
    if (word == s->floor_joined || s->floor_until_ms)
        return;
    floor_join(&s->floor, shared_floor_node(word), shared_floor_after(word));
    s->floor_joined = word;
}

/* consistency = eventual: any replica, unless a token was brought. */
static uint32_t asked_nodes(struct session *s, struct cluster_view view)
{
    uint32_t may = 0;
    if (!s->asked_lsn)
        return view.readable;
    if (view.primary != NODE_NONE) {
        struct floor_sample primary = sample_of(s, view.primary);
        if (primary.timeline > s->asked_timeline) { /* a failover since: all that the new one has */
            s->asked_timeline = primary.timeline;
            s->asked_lsn = floor_normalise(primary.seen_lsn);
        }
    }
    for (uint32_t rest = view.readable; rest; rest &= rest - 1) {
        uint32_t node = (uint32_t)__builtin_ctz(rest);
        struct floor_sample sample = sample_of(s, node);
        if (sample.timeline == s->asked_timeline && sample.replay_lsn >= s->asked_lsn)
            may |= 1U << node;
    }
    return may;
}

uint32_t floors_readable(struct session *s, struct cluster_view view)
{
    struct floor *f = &s->floor;
    struct floor_sample samples[NODES_MAX];
    enum conf_consistency consistency = floors_consistency(s);
    if (consistency == CONF_CONSISTENCY_EVENTUAL)
        return asked_nodes(s, view);
    if (consistency == CONF_CONSISTENCY_GLOBAL)
        join_shared(s);
    bool nothing_seen = f->pending_after == 0 && !f->has_home && f->lsn == 0;
    if (nothing_seen || !view.readable)
        return view.readable;
    if (!settle_primary(s, view))
        return 0;
    if (f->has_home) {
        samples[f->home] = sample_of(s, f->home);
        floor_settle_replica(f, f->home, &samples[f->home]);
    }
    uint32_t others = f->sticky_after ? 0 : view.readable & ~(f->has_home ? 1U << f->home : 0);
    for (uint32_t rest = others; rest; rest &= rest - 1) {
        uint32_t node = (uint32_t)__builtin_ctz(rest);
        samples[node] = sample_of(s, node);
    }
    bool stays = f->sticky_after && f->home_needs == 0;
    return floor_nodes(f, stays ? 0 : needed_lsn(s, view), view.readable, samples);
}

/* ---- waiting for samples ---- */

static void begin_wait(struct session *s, enum floor_wait what)
{
    struct cluster *cluster = s->set->cluster;
    CHECK(s->floor_wait == FLOOR_WAIT_NONE);
    s->floor_wait = (uint8_t)what;
    list_push_back(&s->worker->floor_waiters, &s->floor_node);
    timer_start(&s->worker->loop->timers, &s->floor_timer, s->floor_until_ms);
    if (atomic_fetch_add(&cluster->waiting[s->worker->id], 1) == 0)
        hub_evidence(&s->worker->hub, cluster); /* sample now, not at the next interval */
}

static void end_wait(struct session *s)
{
    if (s->floor_wait == FLOOR_WAIT_NONE)
        return;
    s->floor_wait = FLOOR_WAIT_NONE;
    list_remove(&s->floor_node);
    timer_stop(&s->worker->loop->timers, &s->floor_timer);
    atomic_fetch_sub(&s->set->cluster->waiting[s->worker->id], 1);
}

static void go_on(struct session *s)
{
    enum floor_wait what = (enum floor_wait)s->floor_wait;
    end_wait(s);
    if (s->state == SESSION_READY &&
        (what == FLOOR_WAIT_TOKEN || lease_for_segment(s) == STEP_DONE))
        session_run(s);
}

static void on_deadline(struct timer *timer)
{
    go_on(LIST_ENTRY(timer, struct session, floor_timer));
}

static uint32_t home_of(const struct session *s)
{
    return s->floor.has_home ? 1U << s->floor.home : 0;
}

static bool token_is_known(struct session *s)
{
    struct cluster_view view = cluster_view(s->set->cluster);
    settle_home(s, view); /* first: it may ask the primary */
    return settle_primary(s, view) && s->floor.sticky_after == 0;
}

static bool waits_on(struct session *s)
{
    struct cluster_view view = cluster_view(s->set->cluster);
    switch ((enum floor_wait)s->floor_wait) {
    case FLOOR_WAIT_REACH:
        return view.readable && floors_readable(s, view) == 0;
    case FLOOR_WAIT_MOVE:
        return view.readable & ~home_of(s) && (floors_readable(s, view) & ~home_of(s)) == 0;
    case FLOOR_WAIT_TOKEN:
        return !token_is_known(s);
    case FLOOR_WAIT_NONE:
        break;
    }
    return false;
}

void floors_cancel_token(struct session *s)
{
    s->token_cancelled = true;
    go_on(s);
}

void floors_sampled(struct worker *worker, struct cluster *cluster)
{
    struct list ready, *next;
    list_init(&ready);
    for (struct list *n = worker->floor_waiters.next; n != &worker->floor_waiters; n = next) {
        struct session *s = LIST_ENTRY(n, struct session, floor_node);
        next = n->next;
        if (s->set->cluster != cluster || waits_on(s))
            continue;
        list_remove(n);
        list_push_back(&ready, n);
    }
    while (!list_empty(&ready)) /* each takes itself out of whatever list it is in */
        go_on(LIST_ENTRY(ready.next, struct session, floor_node));
}

void floors_init(struct session *s)
{
    list_init(&s->floor_node);
    timer_init(&s->floor_timer, on_deadline);
}

void floors_stop(struct session *s)
{
    end_wait(s);
}

/* ---- back to a replica ----
 * A client that reads without a pause would renew its floor on the primary for ever. Once it has been
 * held there for primary_hold, its next read waits a little for a replica to catch up. */

/* A token of the future, or of another timeline: no replica can get there. */
static bool is_out_of_reach(struct session *s)
{
    const struct floor *f = &s->floor;
    struct cluster_view view = cluster_view(s->set->cluster);
    if (f->pending_after || view.primary == NODE_NONE)
        return false;
    struct floor_sample primary = sample_of(s, view.primary);
    return f->timeline != primary.timeline || f->lsn > primary.seen_lsn;
}

static bool wait_to_reach(struct session *s)
{
    const struct conf *conf = conf_of(s);
    uint64_t now_ms = s->worker->loop->now_ms;
    if (!s->floor_held_ms)
        s->floor_held_ms = now_ms;
    if (conf->floor_wait_ms == 0 || now_ms - s->floor_held_ms < conf->primary_hold_ms ||
        is_out_of_reach(s))
        return false;
    if (!s->floor_until_ms)
        s->floor_until_ms = now_ms + conf->floor_wait_ms;
    if (now_ms >= s->floor_until_ms) { /* none got there in time: the hold starts again */
        s->floor_held_ms = now_ms;
        return false;
    }
    begin_wait(s, FLOOR_WAIT_REACH);
    return true;
}

/* ---- to another replica ----
 * Nor would it ever leave its replica, because each read renews what the others must have replayed. So
 * when the set of replicas has changed, and once in a while, a read waits until it has the choice. */

static void note_choice(struct session *s, struct cluster_view view, uint64_t at_ms)
{
    s->floor_moved_ms = at_ms;
    s->floor_moved_epoch = view.epoch;
}

static bool wait_to_move(struct session *s, uint32_t nodes)
{
    const struct conf *conf = conf_of(s);
    struct cluster_view view = cluster_view(s->set->cluster);
    uint64_t now_ms = s->worker->loop->now_ms;
    uint32_t home = home_of(s);
    if (nodes != home || floors_consistency(s) == CONF_CONSISTENCY_EVENTUAL) {
        note_choice(s, view, now_ms);
        return false;
    }
    bool due = view.epoch != s->floor_moved_epoch || now_ms - s->floor_moved_ms >= MOVE_MS;
    if ((view.readable & ~home) == 0 || !due || conf->floor_wait_ms == 0)
        return false;
    if (!s->floor_until_ms)
        s->floor_until_ms = now_ms + conf->floor_wait_ms;
    if (now_ms >= s->floor_until_ms) {
        note_choice(s, view, now_ms + MOVE_AGAIN_MS - MOVE_MS);
        return false;
    }
    begin_wait(s, FLOOR_WAIT_MOVE);
    return true;
}

bool floors_wait(struct session *s, const struct route *route)
{
    bool waits = false;
    if (route->reason == ROUTE_WHY_FLOOR)
        waits = wait_to_reach(s);
    else if (route->target == ROUTE_REPLICA)
        waits = wait_to_move(s, route->nodes);
    if (!waits)
        s->floor_until_ms = 0;
    return waits;
}

void floors_reached(struct session *s)
{
    s->floor_held_ms = 0;
}

/* ---- tokens ---- */

/* timeline 0: the primary's. */
static void raise(struct session *s, uint32_t timeline, uint64_t lsn)
{
    if (lsn == 0) /* of a client that had seen nothing */
        return;
    struct cluster_view view = cluster_view(s->set->cluster);
    struct floor_sample primary = {0};
    if (view.primary != NODE_NONE)
        primary = sample_of(s, view.primary);
    if (timeline == 0)
        timeline = primary.timeline;
    if (timeline < primary.timeline) { /* from before a failover: all that the new primary has */
        timeline = primary.timeline;
        lsn = primary.seen_lsn;
    }
    floor_raise(&s->floor, timeline, lsn, s->worker->loop->now_ns);
    if (timeline > s->asked_timeline || (timeline == s->asked_timeline && lsn > s->asked_lsn)) {
        s->asked_timeline = timeline;
        s->asked_lsn = floor_normalise(lsn);
    }
}

void floors_raise(struct session *s, uint32_t timeline, uint64_t lsn)
{
    if (timeline && lsn)
        floor_raise(&s->floor, timeline, lsn, s->worker->loop->now_ns);
}

bool floors_raise_token(struct session *s, struct slice token)
{
    uint32_t timeline;
    uint64_t lsn;
    if (!floor_token_read(token, &timeline, &lsn))
        return false;
    raise(s, timeline, lsn);
    return true;
}

void floors_waits_for(struct session *s, struct slice sql)
{
    uint64_t lsn;
    if (wait_lsn_read(sql, &lsn))
        raise(s, 0, lsn);
}

enum floors_token floors_token(struct session *s, char text[FLOOR_TOKEN_BYTES])
{
    const struct conf *conf = conf_of(s);
    uint64_t now_ms = s->worker->loop->now_ms;
    if (s->token_cancelled) {
        s->token_cancelled = false;
        s->floor_until_ms = 0;
        return FLOORS_TOKEN_CANCELLED;
    }
    if (token_is_known(s)) {
        s->floor_until_ms = 0;
        floor_token_write(s->floor.timeline, s->floor.lsn, text);
        return FLOORS_TOKEN_READY;
    }
    if (!s->floor_until_ms)
        s->floor_until_ms =
            now_ms + (conf->floor_wait_ms > conf->probe_timeout_ms ? conf->floor_wait_ms
                                                                   : conf->probe_timeout_ms);
    if (now_ms >= s->floor_until_ms) {
        s->floor_until_ms = 0;
        return FLOORS_TOKEN_LATE;
    }
    begin_wait(s, FLOOR_WAIT_TOKEN);
    return FLOORS_TOKEN_WAIT;
}
