/* proxy/session/explain.c: counting decisions, and which reads stayed on the primary, for SHOW.
 *
 * Cost    a read on a replica: one increment. A read on the primary: a look into one bucket more.
 */
#include "proxy/session/session.h"

#include "router/mask.h"

/* Classes whose statements begin as queries do. */
static const bool query_classes[SQL_CLASS_N] = {
    [SQL_READ] = true,
    [SQL_COPY_OUT] = true,
    [SQL_CATALOG_READ] = true,
    [SQL_NODE_IDENTITY] = true,
    [SQL_PRIMARY_RELATION] = true,
    [SQL_XID] = true,
    [SQL_SESSION_FUNCTION] = true,
    [SQL_LOCKING_READ] = true,
    [SQL_WRITER_FUNCTION] = true,
    [SQL_RUNS_SQL] = true,
    [SQL_HIDDEN_WRITE] = true,
};

/* Of those that are not understood, the ones that were read far enough for another reason than that. */
static bool is_query(const struct sql_facts *facts)
{
    if (facts->statements != 1)
        return false;
    if (facts->class != SQL_UNKNOWN)
        return query_classes[facts->class];
    return facts->fingerprint != 0 && facts->reason != ROUTE_WHY_UNKNOWN &&
           facts->reason != ROUTE_WHY_BAD_TOKEN;
}

static void note(struct session *s, const struct sql_facts *facts, enum route_reason why,
                 struct slice text)
{
    struct hitter *new_one = hitters_count(&s->worker->primary_reads, facts->fingerprint,
                                           (uint8_t)why, s->worker->loop->now_ms);
    if (new_one)
        new_one->text_n = (uint8_t)sql_mask(text, !s->odd_strings, new_one->text, HITTERS_TEXT_MAX);
}

void explain_routed(struct session *s, const struct route *route)
{
    struct worker_stats *stats = &s->worker->stats;
    const struct sql_facts *facts = &s->segment;
    bool replica = route->target == ROUTE_REPLICA;
    stats->routes[replica][facts->class][route->reason]++;
    if (replica)
        stats->to_replica++;
    else
        stats->to_primary++;
    if (!replica && s->set->cluster->node_n > 1 && is_query(facts))
        note(s, facts, (enum route_reason)route->reason, client_segment_text(s));
}

void explain_held(struct session *s, const struct sql_facts *facts, struct slice text)
{
    if (!s->on_replica && s->collected_bytes == 0 && s->set->cluster->node_n > 1 &&
        facts->class == SQL_READ && facts->statements == 1)
        note(s, facts,
             state_keeps_server(s) || s->session_pooling ? ROUTE_WHY_HELD_PINNED : ROUTE_WHY_HELD,
             text);
}
