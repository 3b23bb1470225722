/* proxy/session/floors.c: what this client has seen, and which replicas may therefore serve it.
 *
 * Cost    a client that has seen nothing costs a few compares; one that reads on its replica, one look
 *         at that node's newest sample.
 */
#include "proxy/session/session.h"

#include "base/check.h"

static const struct conf *conf_of(const struct session *s)
{
    return s->worker->hub.snapshot->conf;
}

static uint64_t begun(struct session *s, uint32_t node)
{
    return atomic_load(&s->set->cluster->nodes[node].samples_begun);
}

/* An answer has come: from now on the client must not be shown less. */
void floors_answered(struct session *s)
{
    const struct server *server = s->server;
    uint8_t node = (uint8_t)server->pool->node;
    if (s->on_replica)
        floor_used_replica(&s->floor, node, server->instance, begun(s, node));
    else
        floor_used_primary(&s->floor, node, begun(s, node));
}

static struct floor_sample sample_of(struct session *s, uint32_t node)
{
    struct node_status st = node_status(&s->set->cluster->nodes[node]);
    bool replica = st.role == NODE_REPLICA;
    uint64_t ahead = st.receive_lsn > st.replay_lsn ? st.receive_lsn : st.replay_lsn;
    return (struct floor_sample){.number = st.sample,
                                 .timeline = st.timeline,
                                 .seen_lsn = replica ? ahead : st.insert_lsn,
                                 .replay_lsn = replica ? st.replay_lsn : 0,
                                 .instance = st.postmaster_start_us};
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
        floor_used_primary(f, view.primary, begun(s, view.primary));
    struct floor_sample sample = sample_of(s, view.primary);
    return floor_settle_primary(f, &sample);
}

uint32_t floors_readable(struct session *s, struct cluster_view view)
{
    struct floor *f = &s->floor;
    struct floor_sample samples[NODES_MAX];
    bool nothing_seen = f->pending_after == 0 && !f->has_home && f->lsn == 0;
    if (nothing_seen || conf_of(s)->consistency == CONF_CONSISTENCY_EVENTUAL || !view.readable)
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
    return floor_nodes(f, view.readable, samples);
}

/* ---- back to a replica ----
 * A client that reads without a pause would renew its floor on the primary for ever. Once it has been
 * held there for primary_hold, its next read waits a little for a replica to catch up. */

static void on_floor_timer(struct timer *timer)
{
    struct session *s = LIST_ENTRY(timer, struct session, floor_timer);
    s->floor_waiting = false;
    if (s->state == SESSION_READY && lease_for_segment(s) == STEP_DONE)
        session_run(s);
}

void floors_init(struct session *s)
{
    timer_init(&s->floor_timer, on_floor_timer);
}

void floors_stop(struct session *s)
{
    timer_stop(&s->conn->loop->timers, &s->floor_timer);
    s->floor_waiting = false;
}

bool floors_wait(struct session *s)
{
    const struct conf *conf = conf_of(s);
    struct loop *loop = s->worker->loop;
    uint64_t now_ms = loop->now_ms;
    if (!s->floor_held_ms)
        s->floor_held_ms = now_ms;
    if (conf->floor_wait_ms == 0 || now_ms - s->floor_held_ms < conf->primary_hold_ms)
        return false;
    if (!s->floor_until_ms)
        s->floor_until_ms = now_ms + conf->floor_wait_ms;
    if (now_ms >= s->floor_until_ms) { /* none got there in time: the hold starts again */
        s->floor_until_ms = 0;
        s->floor_held_ms = now_ms;
        return false;
    }
    hub_evidence(&s->worker->hub, s->set->cluster); /* sample now, not at the next interval */
    timer_start(&loop->timers, &s->floor_timer, now_ms + 1);
    s->floor_waiting = true;
    return true;
}

void floors_reached(struct session *s)
{
    s->floor_held_ms = s->floor_until_ms = 0;
}
