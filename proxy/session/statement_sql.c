/* proxy/session/statement_sql.c: SQL's EXECUTE, PREPARE and DEALLOCATE of names that the protocol knows. */
#include "proxy/session/statement_inside.h"

#include "base/check.h"

#include <stdlib.h>

/* ---- in statements of the protocol ---- */

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

/* EXECUTE: the same of the server's name, which has to be there. What an EXECUTE executes is not looked up again. */
static struct stmt *execute_at_server(struct session *s, struct stmt *stmt)
{
    struct named named;
    char buf[STMT_NAME_MAX];
    named_read(stmt_text(stmt), !s->odd_strings, &named);
    struct slice name = {named.name, named.name_n};
    struct stmt *runs = named.kind == NAMED_EXECUTE ? find_sql(s, &named) : NULL;
    if (runs && runs->facts.class == SQL_EXECUTE)
        return stmt_ref(stmt);
    if (!runs && !(named.kind == NAMED_EXECUTE && statement_name_is_ours(name)))
        return stmt_ref(stmt);
    if (runs)
        statement_ensure_named(s, runs);
    struct put text =
        rename_in(stmt_text(stmt), named.written, runs ? stmt_name(runs, buf) : slice_of(POISON));
    struct stmt *other = intern_like(s, stmt, put_slice(&text));
    free(text.p);
    return other;
}

/* The name that DEALLOCATE means; none: it is not known, or all are. */
static struct slice deallocated(const struct session *s, const struct stmt *stmt,
                                struct deallocate *d)
{
    deallocate_read(stmt_text(stmt), !s->odd_strings, d);
    struct slice name = {d->name, d->name_n};
    bool one =
        d->kind == DEALLOCATE_ONE && (statement_find(s, name) || statement_name_is_ours(name));
    return one ? name : SLICE_NONE;
}

/* What the server gets in place of what the client prepared; with a reference. */
struct stmt *statement_at_server(struct session *s, struct stmt *stmt)
{
    struct deallocate d;
    if (!stmt)
        return NULL;
    if (s->tx_status == 'E' || stmt->facts.statements != 1)
        return stmt_ref(stmt);
    if (stmt->facts.class == SQL_EXECUTE)
        return execute_at_server(s, stmt);
    if (stmt->facts.class != SQL_DEALLOCATE)
        return stmt_ref(stmt);
    struct slice name = deallocated(s, stmt, &d);
    if (name.n == 0)
        return stmt_ref(stmt);
    return intern_like(
        s, stmt, slice_of(statement_find(s, name) ? "DEALLOCATE " GONE : "DEALLOCATE " POISON));
}

/* Behind a Bind of a DEALLOCATE its name is not known any more, and there is something for it to deallocate. */
void statement_bind_deallocate(struct session *s, const struct stmt *stmt)
{
    struct deallocate d;
    uint8_t bytes[128];
    struct put o = put_into(bytes, sizeof bytes);
    if (stmt->facts.class != SQL_DEALLOCATE || s->tx_status == 'E' || stmt->facts.statements != 1)
        return;
    struct slice name = deallocated(s, stmt, &d);
    if (name.n == 0 || !statement_find(s, name))
        return;
    put_close_statement(&o, slice_of(GONE)); /* of a DEALLOCATE that was bound and not executed */
    put_parse(&o, slice_of(GONE), SLICE_NONE, SLICE_NONE);
    CHECK(!o.full);
    conn_out_copy(s->server->conn, o.p, o.n);
    statement_expect(s, REPLY_CLOSE_INJECT, name, NULL, FOR_CLIENT);
    statement_expect(s, REPLY_PARSE_INJECT, SLICE_NONE, NULL, 0);
}

/* What an EXECUTE that is bound will run. */
struct stmt *statement_runs_another(struct session *s, const struct sql_facts *facts,
                                    struct slice text)
{
    struct named named;
    if (facts->class != SQL_EXECUTE || facts->statements != 1)
        return NULL;
    named_read(text, !s->odd_strings, &named);
    return named.kind == NAMED_EXECUTE ? find_sql(s, &named) : NULL;
}

/* ---- DEALLOCATE, in a query ---- */

/* On the server nothing goes: others use it. A statement of nothing is prepared there and goes, which brings the
 * tag in its place. Nobody reaches one of ours by its name. */
bool statement_deallocates(struct session *s, struct slice sql)
{
    struct deallocate d;
    uint8_t bytes[128];
    struct put o = put_into(bytes, sizeof bytes);
    if (s->skipping || s->copy_in || s->tx_status == 'E')
        return false;
    deallocate_read(sql, !s->odd_strings, &d);
    struct slice name = {d.name, d.name_n};
    bool known = d.kind == DEALLOCATE_ONE && statement_find(s, name) != NULL;
    if (!known && !(d.kind == DEALLOCATE_ONE && statement_name_is_ours(name)))
        return false;
    if (known) {
        put_parse(&o, slice_of(GONE), SLICE_NONE, SLICE_NONE);
        statement_expect(s, REPLY_PARSE_INJECT, SLICE_NONE, NULL, 0);
        stmt_names_remove(&s->names, name);
    }
    put_query(&o, slice_of(known ? "DEALLOCATE " GONE : "DEALLOCATE " POISON));
    CHECK(!o.full);
    conn_out_copy(s->server->conn, o.p, o.n);
    return true;
}

/* ---- EXECUTE and PREPARE, in a query ---- */

static bool names_one(const struct session *s, const struct sql_facts *facts, enum sql_class class)
{
    return facts->class == class && facts->statements == 1 && !s->skipping && !s->copy_in &&
           !s->segment_open && s->tx_status != 'E';
}

struct stmt *statement_executed(struct session *s, const struct sql_facts *facts, struct slice sql)
{
    struct named named;
    if (!names_one(s, facts, SQL_EXECUTE))
        return NULL;
    named_read(sql, !s->odd_strings, &named);
    struct stmt *stmt = named.kind == NAMED_EXECUTE ? find_sql(s, &named) : NULL;
    return stmt && stmt->facts.class != SQL_EXECUTE ? stmt : NULL;
}

/* In a segment of its own: a query behind a Parse that fails would be skipped with it, up to a Sync. */
bool statement_bring(struct session *s, struct stmt *stmt)
{
    static const uint8_t sync[] = {'S', 0, 0, 0, 4};
    bool came = s->bringing == BRING_WAITS;
    s->bringing = BRING_NONE;
    if (came || (statement_on_server(s, stmt) && !stmt_set_is_stale(&s->server->stmts, stmt)))
        return true;
    statement_ensure_named(s, stmt);
    conn_out_copy(s->server->conn, sync, sizeof sync);
    reply_push(s, REPLY_SYNC_INJECT);
    s->bringing = BRING_WAITS;
    return false;
}

void statement_send_execute(struct session *s, struct slice sql, const struct stmt *stmt)
{
    struct named named;
    char buf[STMT_NAME_MAX];
    uint8_t head[FRAME_HEAD_BYTES];
    named_read(sql, !s->odd_strings, &named);
    struct put text = rename_in(sql, named.written, stmt_name(stmt, buf));
    statement_put_head(head, 'Q', text.n + 1);
    conn_out_copy(s->server->conn, head, sizeof head);
    conn_out_copy(s->server->conn, text.p, text.n);
    conn_out_copy(s->server->conn, "", 1);
    free(text.p);
}

bool statement_prepares_taken(struct session *s, const struct sql_facts *facts, struct slice sql)
{
    struct named named;
    if (!names_one(s, facts, SQL_PREPARE))
        return false;
    named_read(sql, !s->odd_strings, &named);
    if (named.kind != NAMED_PREPARE || !find_sql(s, &named))
        return false;
    statement_take_name(s, (struct slice){named.name, named.name_n});
    return true;
}

void statement_behind_taken(struct session *s, struct slice sql)
{
    struct named named;
    static const uint8_t sync[] = {'S', 0, 0, 0, 4};
    named_read(sql, !s->odd_strings, &named);
    uint8_t bytes[DEALLOCATE_NAME_MAX + 32];
    struct put o = put_into(bytes, sizeof bytes);
    put_close_statement(&o, (struct slice){named.name, named.name_n});
    CHECK(!o.full);
    conn_out_copy(s->server->conn, o.p, o.n);
    conn_out_copy(s->server->conn, sync, sizeof sync);
    statement_expect(s, REPLY_CLOSE_INJECT, SLICE_NONE, NULL, 0);
    reply_push(s, REPLY_SYNC_INJECT);
}
