/* proxy/session/statement_sql.c: SQL's EXECUTE, PREPARE and DEALLOCATE of names that the protocol knows,
 * themselves prepared by the protocol. In a Query: statement_query.c. */
#include "proxy/session/statement_inside.h"

#include "base/check.h"
#include "proxy/wire/take.h"

#include <stdlib.h>

#define EXECUTE_DEPTH_MAX 8

static struct stmt *find_sql(const struct session *s, const struct named *named)
{
    return statement_find(s, (struct slice){named->name, named->name_n});
}

/* `text` with another name in the place of the one that is written there. */
static struct put rename_in(struct slice text, struct slice written, struct slice name)
{
    size_t n = text.n - written.n + name.n, before = (size_t)(written.p - text.p);
    uint8_t *bytes = malloc(n + 1);
    CHECK(bytes != NULL);
    struct put o = put_into(bytes, n);
    put_bytes(&o, (struct slice){text.p, before});
    put_bytes(&o, name);
    put_bytes(&o, slice_skip(text, before + written.n));
    CHECK(!o.full);
    return o;
}

static struct stmt *intern_like(struct session *s, const struct stmt *stmt, struct slice text)
{
    struct sql_env env = statement_sql_env(s);
    return stmt_intern(&s->worker->hub.stmts, text, stmt_oids(stmt), state_parse_env(s), &env);
}

/* Up to the depth of the server's stack, as it does there. */
static struct stmt *execute_itself(struct session *s, const struct stmt *stmt,
                                   const struct named *named)
{
    struct put text = rename_in(stmt_text(stmt), named->written, slice_of(ITSELF));
    struct stmt *other = intern_like(s, stmt, put_slice(&text));
    free(text.p);
    statement_close_name(s, slice_of(ITSELF));
    statement_send_parse(s, slice_of(ITSELF), other);
    statement_expect(s, REPLY_PARSE_INJECT, SLICE_NONE, NULL, 0);
    return other;
}

/* The one name that DEALLOCATE means. */
static struct slice deallocated(const struct session *s, const struct stmt *stmt,
                                struct deallocate *d)
{
    deallocate_read(stmt_text(stmt), !s->odd_strings, d);
    return d->kind == DEALLOCATE_ONE ? (struct slice){d->name, d->name_n} : SLICE_NONE;
}

/* The server has it by that name while it is executed; names like ours stay ours. */
static struct slice deallocated_at_server(struct slice name)
{
    return statement_name_is_ours(name) ? slice_of(POISON) : name;
}

static struct stmt *deallocate_at_server(struct session *s, struct stmt *stmt)
{
    struct deallocate d;
    bool ours = statement_name_is_ours(deallocated(s, stmt, &d));
    return ours ? intern_like(s, stmt, slice_of("DEALLOCATE " POISON)) : stmt_ref(stmt);
}

static struct stmt *executed_at_server(struct session *s, struct stmt *runs, unsigned depth);

/* EXECUTE: the same of the server's name, which has to be there. It may execute another EXECUTE, but not for ever. */
static struct stmt *execute_at_server(struct session *s, struct stmt *stmt, unsigned depth)
{
    struct named named;
    char buf[STMT_NAME_MAX];
    named_read(stmt_text(stmt), !s->odd_strings, &named);
    struct slice name = {named.name, named.name_n};
    struct stmt *runs = named.kind == NAMED_EXECUTE ? find_sql(s, &named) : NULL;
    bool ours = !runs && named.kind == NAMED_EXECUTE && statement_name_is_ours(name);
    if (runs == stmt)
        return execute_itself(s, stmt, &named);
    if ((!runs && !ours) || depth == EXECUTE_DEPTH_MAX)
        return stmt_ref(stmt);
    if (runs)
        runs = executed_at_server(s, runs, depth);
    if (runs)
        statement_ensure_named(s, runs);
    struct put text =
        rename_in(stmt_text(stmt), named.written, runs ? stmt_name(runs, buf) : slice_of(POISON));
    struct stmt *other = intern_like(s, stmt, put_slice(&text));
    stmt_unref(runs);
    free(text.p);
    return other;
}

static struct stmt *executed_at_server(struct session *s, struct stmt *runs, unsigned depth)
{
    if (runs->facts.class == SQL_EXECUTE)
        return execute_at_server(s, runs, depth + 1);
    return runs->facts.class == SQL_DEALLOCATE ? deallocate_at_server(s, runs) : stmt_ref(runs);
}

/* What the server gets in place of what the client prepared; with a reference. */
struct stmt *statement_at_server(struct session *s, struct stmt *stmt)
{
    if (!stmt)
        return NULL;
    if (s->tx_status == 'E' || stmt->facts.statements != 1)
        return stmt_ref(stmt);
    if (stmt->facts.class == SQL_EXECUTE)
        return execute_at_server(s, stmt, 0);
    return stmt->facts.class == SQL_DEALLOCATE ? deallocate_at_server(s, stmt) : stmt_ref(stmt);
}

/* ---- what a portal does to names, and what RESET takes away, when it is executed ---- */

void statement_drop_bound_sql(struct session *s)
{
    stmt_unref(s->bound_sql);
    s->bound_sql = NULL;
}

static bool is_followed(const struct session *s, const struct stmt *stmt)
{
    uint8_t class = stmt->facts.class;
    return class == SQL_DEALLOCATE || class == SQL_PREPARE || class == SQL_EXECUTE ||
           restore_follows(s, stmt);
}

void statement_bind_sql(struct session *s, struct slice portal, struct stmt *stmt)
{
    bool does = stmt && is_followed(s, stmt) && stmt->facts.statements == 1 && s->tx_status != 'E';
    bool same = slice_equals(portal, (struct slice){s->bound_portal, s->bound_portal_n});
    if (s->bound_sql && same)
        statement_drop_bound_sql(s);
    if (!does || portal.n > sizeof s->bound_portal)
        return;
    statement_drop_bound_sql(s);
    struct stmt *runs = statement_runs_another(s, &stmt->facts, stmt_text(stmt));
    s->bound_sql = stmt_ref(runs && runs->facts.class == SQL_DEALLOCATE ? runs : stmt);
    s->bound_portal_n = (uint8_t)portal.n;
    if (portal.n)
        memcpy(s->bound_portal, portal.p, portal.n);
}

/* There is something for it to deallocate. True: the name is not known any more once it has run. */
static bool execute_deallocate(struct session *s)
{
    struct deallocate d;
    uint8_t bytes[256];
    struct put o = put_into(bytes, sizeof bytes);
    struct slice name = deallocated(s, s->bound_sql, &d);
    if (name.n == 0 || !statement_find(s, name))
        return false;
    struct slice at_server = deallocated_at_server(name);
    put_close_statement(&o, at_server); /* should one have been left */
    put_parse(&o, at_server, SLICE_NONE, SLICE_NONE);
    CHECK(!o.full);
    conn_out_copy(s->server->conn, o.p, o.n);
    statement_expect(s, REPLY_CLOSE_INJECT, SLICE_NONE, NULL, 0);
    statement_expect(s, REPLY_PARSE_INJECT, SLICE_NONE, NULL, 0);
    return true;
}

static bool is_bound(const struct session *s, struct slice body)
{
    struct slice portal, bound = {s->bound_portal, s->bound_portal_n};
    return s->bound_sql && !s->skipping && s->tx_status != 'E' && take_cstr(&body, &portal) &&
           slice_equals(portal, bound);
}

/* The portal runs PREPARE, of a name that the protocol knows. */
static bool prepares_known(struct session *s, struct named *named)
{
    const struct stmt *another =
        statement_runs_another(s, &s->bound_sql->facts, stmt_text(s->bound_sql));
    const struct stmt *runs = another ? another : s->bound_sql;
    if (runs->facts.class != SQL_PREPARE)
        return false;
    named_read(stmt_text(runs), !s->odd_strings, named);
    return named->kind == NAMED_PREPARE && find_sql(s, named);
}

bool statement_execute_is_unsure(struct session *s, struct slice body)
{
    struct named named;
    return statement_sql_prepared(s) && is_bound(s, body) && prepares_known(s, &named) &&
           statement_is_pending(s, (struct slice){named.name, named.name_n});
}

/* It fails, for the name is there, up to the end of the segment. */
static void execute_prepare(struct session *s)
{
    struct named named;
    if (s->taken_n > 0 || !prepares_known(s, &named))
        return;
    struct slice name = {named.name, named.name_n};
    statement_take_name(s, name);
    memcpy(s->taken, name.p, name.n);
    s->taken_n = (uint8_t)name.n;
}

bool statement_execute(struct session *s, struct slice body)
{
    s->unnamed_new = false;
    if (!is_bound(s, body))
        return false;
    if (s->bound_sql->facts.class == SQL_DEALLOCATE)
        return execute_deallocate(s);
    execute_prepare(s);
    return s->bound_sql->facts.class == SQL_SESSION_STATE;
}

/* Should the Execute fail, the server skips what is here, and so do we. */
static void restore(struct session *s)
{
    if (!restore_behind_execute(s, s->bound_sql))
        return;
    statement_expect(s, REPLY_PARSE_INJECT, SLICE_NONE, NULL, 0);
    reply_push(s, REPLY_BIND_INJECT);
    reply_push(s, REPLY_EXECUTE_INJECT);
    statement_expect(s, REPLY_CLOSE_INJECT, SLICE_NONE, NULL, 0);
    statement_expect(s, REPLY_CLOSE_INJECT, SLICE_NONE, NULL, 0);
}

void statement_behind_execute(struct session *s)
{
    struct deallocate d;
    if (s->bound_sql->facts.class == SQL_SESSION_STATE) {
        restore(s);
        return;
    }
    struct slice name = deallocated(s, s->bound_sql, &d);
    statement_send_close(s, deallocated_at_server(name));
    statement_expect(s, REPLY_CLOSE_INJECT, name, NULL, FOR_CLIENT);
}

void statement_behind_sync(struct session *s)
{
    static const uint8_t sync[] = {'S', 0, 0, 0, 4};
    if (s->taken_n == 0)
        return;
    statement_close_name(s, (struct slice){s->taken, s->taken_n});
    s->taken_n = 0;
    conn_out_copy(s->server->conn, sync, sizeof sync);
    reply_push(s, REPLY_SYNC_INJECT);
}

/* What an EXECUTE that is bound will run, at last. */
struct stmt *statement_runs_another(struct session *s, const struct sql_facts *facts,
                                    struct slice text)
{
    struct named named;
    struct stmt *runs = NULL;
    if (facts->class != SQL_EXECUTE || facts->statements != 1)
        return NULL;
    for (unsigned depth = 0; depth <= EXECUTE_DEPTH_MAX; depth++) {
        named_read(text, !s->odd_strings, &named);
        struct stmt *next = named.kind == NAMED_EXECUTE ? find_sql(s, &named) : NULL;
        if (!next)
            break;
        runs = next;
        text = stmt_text(runs);
    }
    return runs;
}
