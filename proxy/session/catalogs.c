/* proxy/session/catalogs.c: what a session knows of its database's catalog, and what it tells about it.
 *
 * DDL makes the loaded catalog stale before its answer leaves us: whoever has seen the answer, on any
 * connection, is routed by a catalog that was loaded later, or to the primary. */
#include "proxy/session/session.h"

void catalogs_begin_segment(struct session *s)
{
    sql_facts_init(&s->segment);
    s->segment_catalog = catalog_use_moment(&s->set->catalog);
}

static bool is_unknown(enum route_reason reason)
{
    return reason == ROUTE_WHY_UNKNOWN_RELATION || reason == ROUTE_WHY_UNKNOWN_FUNCTION ||
           reason == ROUTE_WHY_UNKNOWN_TYPE || reason == ROUTE_WHY_UNKNOWN_OPERATOR ||
           reason == ROUTE_WHY_CATALOG_STALE || reason == ROUTE_WHY_CATALOG_NOT_LOADED;
}

void catalogs_check_segment(struct session *s)
{
    const struct catalog *now = catalog_use_now(&s->set->catalog);
    struct sql_facts *facts = &s->segment;
    if (s->segment_catalog != catalog_use_moment(&s->set->catalog)) {
        facts->flags =
            (facts->flags & ~(uint32_t)(SQL_F_READ | SQL_F_BEGIN_READ_ONLY)) | SQL_F_NOT_READ;
        if (facts->class <= SQL_COPY_OUT)
            facts->reason = ROUTE_WHY_CATALOG_STALE;
    }
    struct catalog_position position;
    if (s->set->cluster->node_n > 1 &&
        catalog_use_position(&s->set->catalog, &s->catalog_seen, &position))
        floors_raise(s, position.timeline, position.lsn);
    if (!now || !is_unknown((enum route_reason)facts->reason))
        return;
    hub_want_catalog(&s->worker->hub, s->set, false);
    facts->reason = (uint8_t)catalog_reason(now, (enum route_reason)facts->reason);
}

/* A temporary object alone is this session's, which stays where it is. */
void catalogs_note(struct session *s, const struct sql_facts *facts)
{
    const bool temporary = (facts->flags & SQL_F_TEMP) && facts->statements == 1;
    const bool hidden = (facts->flags & SQL_F_BODY) || facts->class == SQL_TWO_PHASE;
    const bool ddl = (facts->flags & SQL_F_DDL) && !temporary;
    s->ddl_ran = s->ddl_ran || hidden || ddl;
    s->ddl_seen = s->ddl_seen || ddl;
    /* What a session that has temporary objects drops or alters are those, as a rule. */
    s->alters = s->alters || (ddl && !(s->state_of.left & LEFT_TEMP));
}

void catalogs_answered(struct session *s, bool ends)
{
    if (!s->ddl_ran)
        return;
    bool ddl = s->ddl_seen;
    s->ddl_ran = !ends;
    s->ddl_seen = ddl && !ends;
    if (ends && s->alters) {
        atomic_fetch_add(&s->set->cluster->altered, 1);
        s->alters = false;
    }
    if (!s->set->catalog.slot)
        return;
    catalog_slot_changed(s->set->catalog.slot, ddl);
    if (ends)
        hub_want_catalog(&s->worker->hub, s->set, true);
}
