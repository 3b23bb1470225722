/* proxy/session/guard.c: a replica refused a read, or vanished: whether and where it runs once more.
 *
 * Rule    once, never behind a byte that the client has seen, never a write (router/guard.h says what).
 */
#include "proxy/session/session.h"

#include "base/check.h"
#include "proxy/io/log.h"
#include "router/guard.h"

static const char *node_label(const struct session *s)
{
    return s->set->cluster->nodes[s->server->pool->node].label;
}

static uint64_t key_of(const struct session *s)
{
    return learned_key(s->segment.fingerprint, s->set->database);
}

bool guard_knows(const struct session *s)
{
    struct learned *learned = s->set->cluster->learned;
    return s->segment.fingerprint != 0 && learned_has(learned, key_of(s), s->worker->loop->now_ms);
}

static void learn(struct session *s, const char *sqlstate)
{
    if (s->segment.fingerprint == 0 ||
        !learned_put(s->set->cluster->learned, key_of(s), s->worker->loop->now_ms))
        return;
    LOG(LOG_INFO, "route.learned", LF_S("db", s->set->database),
        LF_U("fingerprint", s->segment.fingerprint), LF_S("sqlstate", sqlstate),
        LF_S("node", node_label(s)));
}

static struct guard_error guard_error_of(const struct session *s, const struct error_fields *f)
{
    return (struct guard_error){.sqlstate = f->sqlstate,
                                .message = f->message,
                                .detail = f->detail,
                                .file = f->file,
                                .read_only = tx_is_read_only(s)};
}

void guard_avoid_node(struct session *s)
{
    if (s->on_replica)
        s->avoid |= 1U << s->server->pool->node;
}

void guard_elsewhere(struct session *s)
{
    s->avoid = UINT32_MAX;
    s->guard_failed = true;
}

bool guard_refused(struct session *s, const struct error_fields *f)
{
    struct guard_error e = guard_error_of(s, f);
    enum guard_action action = guard_judge(&e);
    if (action == GUARD_PASS)
        return false;
    char code[6] = "";
    CHECK(f->sqlstate.n == 5); /* it stands in the table */
    memcpy(code, f->sqlstate.p, 5);
    LOG(LOG_INFO, "route.replica_refused", LF_U("client", s->serial), LF_S("node", node_label(s)),
        LF_S("sqlstate", code), LF_S("class", sql_class_text((enum sql_class)s->segment.class)),
        LF_U("fingerprint", s->segment.fingerprint));
    if (action == GUARD_LEARN)
        learn(s, code);
    guard_avoid_node(s);
    if (action != GUARD_ELSEWHERE)
        s->avoid = UINT32_MAX;
    if (action ==
        GUARD_PRIMARY) /* a name that the replica does not know: is it the catalog that is wrong? */
        hub_want_catalog(&s->worker->hub, s->set, false);
    s->guard_failed = true;
    return true;
}

void guard_error_of_primary(struct session *s, const struct error_fields *f)
{
    struct guard_error e = guard_error_of(s, f);
    if (!s->on_replica && guard_role_changed(&e))
        hub_evidence(&s->worker->hub, s->set->cluster);
}
