#include "proxy/control/judge.h"

#include "base/check.h"

#define WAL_PAGE_BYTES 8192U

void judge_init(struct judge *judge, uint32_t node_n)
{
    CHECK(node_n > 0 && node_n <= NODES_MAX);
    *judge = (struct judge){.node_n = node_n, .primary = node_n == 1 ? 0 : NODE_NONE};
    for (uint32_t i = 0; i < node_n; i++)
        judge->nodes[i].lag_ms = LAG_UNKNOWN_MS;
}

/* ---- what a sample proves ---- */

static bool too_old(const struct judge_node *node, uint64_t now_ns, const struct judge_limits *lim)
{
    return now_ns > node->sample.at_ns && now_ns - node->sample.at_ns > lim->max_age_ns;
}

static bool is_fresh(const struct judge_node *node, uint64_t now_ns, const struct judge_limits *lim)
{
    return node->sampled && node->fault == NODE_FINE && !too_old(node, now_ns, lim);
}

/* An id that could not be read is no evidence against a node. */
static bool in_system(const struct judge_node *node, uint64_t system_id)
{
    return system_id == 0 || node->sample.system_id == 0 || node->sample.system_id == system_id;
}

/* What cannot tell its timeline may be on the losing side of a failover: after one it is out. */
static bool on_old_timeline(const struct judge *j, const struct judge_node *node)
{
    return node->sample.timeline == 0 ? j->switched : node->sample.timeline < j->timeline;
}

/* ---- the ring of the primary's flush positions ---- */

static void forget_wal(struct judge *j)
{
    lag_ring_reset(&j->ring);
    j->held = (struct lag_sample){0};
    j->flush_lsn = 0;
    for (uint32_t i = 0; i < j->node_n; i++) {
        j->nodes[i].gate = (struct lag_gate){0};
        j->nodes[i].lag_ms = LAG_UNKNOWN_MS;
    }
}

/* Without a commit the WAL writer flushes whole pages, so a flush position at a page's end may lie
 * inside a record. An idle transaction can leave it there for hours, and no replica can replay half
 * a record: held against them, every replica would seem to fall behind. So such a position waits
 * until the next one is above it. An empty ring takes it at once: it needs a beginning. */
static void add_flush(struct judge *j, uint64_t lsn, uint64_t at_ns)
{
    if (lsn == j->held.flush_lsn)
        return;
    if (lsn > j->held.flush_lsn && j->held.flush_lsn != 0)
        lag_ring_add(&j->ring, j->held.flush_lsn, j->held.at_ns);
    j->held = (struct lag_sample){0};
    j->flush_lsn = lsn;
    if (lsn % WAL_PAGE_BYTES == 0 && lsn > lag_ring_newest(&j->ring) && j->ring.n > 0)
        j->held = (struct lag_sample){lsn, (int64_t)at_ns};
    else
        lag_ring_add(&j->ring, lsn, (int64_t)at_ns);
}

/* begun_ns: the WAL is at least as old as our question, so this errs towards more lag. */
static void add_primary_sample(struct judge *j)
{
    const struct judge_sample *s = &j->nodes[j->primary].sample;
    if (s->flush_lsn != 0)
        add_flush(j, s->flush_lsn, s->begun_ns);
}

static void measure_lag(struct judge *j, struct judge_node *node, const struct judge_limits *lim)
{
    const struct judge_sample *s = &node->sample;
    node->lag_ms = LAG_UNKNOWN_MS;
    if (s->replay_lsn != 0)
        node->lag_ms = lag_ring_ms(&j->ring, s->replay_lsn, (int64_t)s->at_ns);
    node->lag_bytes = lag_bytes(j->flush_lsn, s->replay_lsn);
    lag_update(&node->gate, node->lag_ms, node->lag_bytes, lim->max_lag_ms, lim->max_lag_bytes);
}

/* ---- who is the primary ---- */

/* All nodes answer and none belongs to the system we knew: the cluster was made anew. */
static void notice_new_system(struct judge *j, uint64_t now_ns, const struct judge_limits *lim)
{
    for (uint32_t i = 0; i < j->node_n; i++)
        if (!is_fresh(&j->nodes[i], now_ns, lim) || in_system(&j->nodes[i], j->system_id))
            return;
    forget_wal(j);
    j->settled = j->switched = false;
    j->timeline = 0;
    j->system_id = 0;
    j->primary = NODE_NONE;
}

static void learn_timelines(struct judge *j, uint64_t now_ns, const struct judge_limits *lim)
{
    uint32_t newest = j->timeline;
    for (uint32_t i = 0; i < j->node_n; i++) {
        const struct judge_node *node = &j->nodes[i];
        if (is_fresh(node, now_ns, lim) && in_system(node, j->system_id) &&
            node->sample.timeline > newest)
            newest = node->sample.timeline;
    }
    if (newest > j->timeline && j->timeline != 0)
        j->switched = true;
    j->timeline = newest;
}

static bool is_candidate(const struct judge *j, uint32_t i, uint64_t now_ns,
                         const struct judge_limits *lim)
{
    const struct judge_node *node = &j->nodes[i];
    return is_fresh(node, now_ns, lim) && !node->sample.in_recovery &&
           in_system(node, j->system_id) && !on_old_timeline(j, node);
}

/* Two on one timeline: the one we use already, else the first of the list. */
static uint8_t best_candidate(const struct judge *j, uint64_t now_ns,
                              const struct judge_limits *lim)
{
    if (j->primary != NODE_NONE && is_candidate(j, j->primary, now_ns, lim))
        return j->primary;
    for (uint32_t i = 0; i < j->node_n; i++)
        if (is_candidate(j, i, now_ns, lim))
            return (uint8_t)i;
    return NODE_NONE;
}

/* Before the first primary nothing tells which system is ours: the first primary's is. */
static bool settle(struct judge *j, uint64_t now_ns, const struct judge_limits *lim)
{
    uint8_t first = best_candidate(j, now_ns, lim);
    if (first == NODE_NONE)
        return false;
    j->settled = true;
    j->system_id = j->nodes[first].sample.system_id;
    return true;
}

/* No news, or news that agree, leave a primary in place. */
static bool is_contradicted(const struct judge *j, const struct judge_node *node)
{
    return node->sampled &&
           (node->sample.in_recovery || on_old_timeline(j, node) || !in_system(node, j->system_id));
}

/* The only function that writes j->primary by samples. True: it is another one, or the same on
 * another timeline; what was known of lag is void. */
static bool pick_primary(struct judge *j, uint64_t now_ns, const struct judge_limits *lim)
{
    if (j->node_n == 1)
        return false;
    if (j->settled)
        notice_new_system(j, now_ns, lim);
    if (!j->settled && !settle(j, now_ns, lim))
        return false;
    uint32_t timeline_was = j->timeline;
    learn_timelines(j, now_ns, lim);
    if (j->system_id == 0 && j->primary != NODE_NONE)
        j->system_id = j->nodes[j->primary].sample.system_id;

    uint8_t was = j->primary;
    uint8_t best = best_candidate(j, now_ns, lim);
    if (best == NODE_NONE && was != NODE_NONE && !is_contradicted(j, &j->nodes[was]))
        return false;
    j->primary = best;
    if (best == NODE_NONE || (best == was && timeline_was == j->timeline && j->ring.n > 0))
        return false;
    forget_wal(j);
    return true;
}

static int guess_rank(const struct judge *j, uint32_t i)
{
    const struct judge_node *node = &j->nodes[i];
    if (node->fault != NODE_LOGIN_FAILED || node->seen == SEEN_REPLICA)
        return 0;
    if (node->seen == SEEN_PRIMARY)
        return 3;
    return i == j->primary ? 2 : 1;
}

/* No probe has found a primary, and some could not log in: of those, the one that was seen to be
 * the primary, else one that was not seen to be a replica. */
static void guess_primary(struct judge *j)
{
    if (j->settled || j->node_n == 1)
        return;
    uint8_t guess = NODE_NONE;
    int rank = 0;
    for (uint32_t i = 0; i < j->node_n; i++) {
        if (!j->nodes[i].sampled && j->nodes[i].fault == NODE_FINE)
            return; /* its first answer is still to come */
        if (guess_rank(j, i) > rank) {
            rank = guess_rank(j, i);
            guess = (uint8_t)i;
        }
    }
    j->primary = guess;
}

/* ---- news ---- */

void judge_take(struct judge *j, uint32_t i, const struct judge_sample *sample,
                const struct judge_limits *lim)
{
    CHECK(i < j->node_n);
    struct judge_node *node = &j->nodes[i];
    node->sample = *sample;
    node->sampled = true;
    node->fault = NODE_FINE;
    bool changed = pick_primary(j, sample->at_ns, lim);
    if (j->primary != NODE_NONE && (changed || j->primary == i))
        add_primary_sample(j);
    if (sample->in_recovery)
        measure_lag(j, node, lim);
    else
        node->gate = (struct lag_gate){0};
}

void judge_lost(struct judge *j, uint32_t i, enum node_why fault)
{
    CHECK(i < j->node_n);
    CHECK(fault != NODE_FINE);
    j->nodes[i].fault = fault;
}

void judge_saw_role(struct judge *j, uint32_t i, bool in_recovery)
{
    CHECK(i < j->node_n);
    for (uint32_t k = 0; k < j->node_n && !in_recovery; k++)
        if (j->nodes[k].seen == SEEN_PRIMARY)
            j->nodes[k].seen = SEEN_NOTHING; /* the newest word counts */
    j->nodes[i].seen = in_recovery ? SEEN_REPLICA : SEEN_PRIMARY;
    for (uint32_t k = 0; k < j->node_n; k++)
        if (j->nodes[k].seen != SEEN_REPLICA)
            return;
    for (uint32_t k = 0; k < j->node_n; k++) /* all replicas: one was promoted, but not this one */
        if (k != i)
            j->nodes[k].seen = SEEN_NOTHING;
}

/* ---- the verdict ---- */

static enum node_why why_lagging(const struct judge_node *node, const struct judge_limits *lim)
{
    bool bytes = lim->max_lag_bytes != 0 && node->lag_bytes > lim->max_lag_bytes;
    bool ms =
        node->lag_ms == LAG_UNKNOWN_MS || (lim->max_lag_ms != 0 && node->lag_ms > lim->max_lag_ms);
    return bytes && !ms ? NODE_LAGS_BYTES : NODE_LAGS;
}

static enum node_why why_of(const struct judge *j, uint32_t i, uint64_t now_ns,
                            const struct judge_limits *lim)
{
    const struct judge_node *node = &j->nodes[i];
    if (node->fault != NODE_FINE)
        return node->fault;
    if (!node->sampled)
        return NODE_NOT_SAMPLED;
    if (too_old(node, now_ns, lim))
        return NODE_SAMPLE_OLD;
    if (i == j->primary)
        return NODE_IS_PRIMARY;
    if (!in_system(node, j->system_id))
        return NODE_OTHER_SYSTEM;
    if (on_old_timeline(j, node))
        return NODE_OLD_TIMELINE;
    if (!node->sample.in_recovery)
        return NODE_IS_PRIMARY;
    /* The samples of a primary that is gone still hold: it writes no more, so a replica that has
     * replayed all that was known of it stays readable, and one that has not falls behind. */
    if (j->ring.n == 0)
        return NODE_NO_PRIMARY;
    return node->gate.fresh ? NODE_FINE : why_lagging(node, lim);
}

static enum node_role role_of(const struct judge *j, uint32_t i, enum node_why why)
{
    const struct judge_node *node = &j->nodes[i];
    bool replica = node->sampled ? node->sample.in_recovery : node->seen == SEEN_REPLICA;
    switch (why) {
    case NODE_FINE:
    case NODE_LAGS:
    case NODE_LAGS_BYTES:
    case NODE_NO_PRIMARY:
    case NODE_EJECTED:
        return NODE_REPLICA;
    case NODE_NOT_SAMPLED:
    case NODE_UNREACHABLE:
    case NODE_NO_ADDRESS:
    case NODE_SAMPLE_OLD:
    case NODE_LOGIN_FAILED:
    case NODE_IS_PRIMARY:
    case NODE_OTHER_SYSTEM:
    case NODE_OLD_TIMELINE:
    case NODE_WHY_N:
        break;
    }
    if (i == j->primary && (node->sampled || node->seen != SEEN_NOTHING))
        return replica ? NODE_REPLICA : NODE_PRIMARY;
    bool known = why == NODE_LOGIN_FAILED || why == NODE_OLD_TIMELINE || why == NODE_OTHER_SYSTEM;
    return known && replica ? NODE_REPLICA : NODE_UNKNOWN;
}

static struct node_status status_of(const struct judge *j, uint32_t i, enum node_why why)
{
    const struct judge_node *node = &j->nodes[i];
    const struct judge_sample *s = &node->sample;
    struct node_status status = {.role = role_of(j, i, why), .why = why};
    if (!node->sampled)
        return status;
    status.timeline = s->timeline;
    status.insert_lsn = s->insert_lsn;
    status.flush_lsn = s->flush_lsn;
    status.replay_lsn = s->replay_lsn;
    status.receive_lsn = s->receive_lsn;
    status.begun_ns = s->begun_ns;
    status.sampled_ns = s->at_ns;
    status.sample = s->number;
    status.system_id = s->system_id;
    status.postmaster_start_us = s->postmaster_start_us;
    status.wal_writer_delay_ms = s->wal_writer_delay_ms;
    if (s->in_recovery) {
        status.lag_ms = (uint64_t)node->lag_ms;
        status.lag_bytes = node->lag_bytes;
        memcpy(status.receiver, s->receiver, sizeof status.receiver);
        memcpy(status.upstream, s->upstream, sizeof status.upstream);
    }
    return status;
}

void judge_decide(struct judge *j, uint64_t now_ns, const struct judge_limits *lim,
                  struct judge_verdict *v)
{
    if (pick_primary(j, now_ns, lim))
        add_primary_sample(j);
    guess_primary(j);
    *v = (struct judge_verdict){.primary = j->primary, .recheck_ns = UINT64_MAX};
    for (uint32_t i = 0; i < j->node_n; i++) {
        const struct judge_node *node = &j->nodes[i];
        enum node_why why = why_of(j, i, now_ns, lim);
        v->nodes[i] = status_of(j, i, why);
        if (why == NODE_FINE)
            v->readable |= 1U << i;
        if (why == NODE_UNREACHABLE || why == NODE_NO_ADDRESS || why == NODE_SAMPLE_OLD)
            v->unreachable |= 1U << i;
        if (why == NODE_IS_PRIMARY && i != j->primary)
            v->rivals |= 1U << i;
        uint64_t old_ns = node->sample.at_ns + lim->max_age_ns + 1;
        if (is_fresh(node, now_ns, lim) && old_ns < v->recheck_ns)
            v->recheck_ns = old_ns;
    }
}
