/* proxy/session/restore.c: RESET, and behind it what the client's login had set.
 *
 * PostgreSQL's RESET goes back to what its own session began with, and a server's began without the client. So SQL of
 * ours follows a RESET of such a setting, in its transaction: a statement more in its Query, or behind its Execute.
 * ParameterStatus comes with ReadyForQuery, so a client hears of a value only when it is another one.
 *
 * Limits  what stands behind a RESET in the same Query reads the server's value; and if that sets something itself, or
 *         ends a transaction, the login's values come back when the transaction has ended (state.c).
 */
#include "proxy/session/session.h"

#include "base/check.h"
#include "router/reset.h"
#include "router/split.h"

#define NAME "_pgweir_restore" /* of our statement and its portal */

/* Adds what sets again what such a RESET takes away. */
static void put_restoring(const struct session *s, const struct reset *reset, struct put *out)
{
    for (struct entry e = {0}; entry_next(label_text(s->state_of.startup), &e);) {
        if (reset->kind != RESET_ALL && strcmp(e.name, reset->name) != 0)
            continue;
        put_bytes(out, slice_of(out->n > 0 ? "," : "SELECT "));
        label_put_setting(out, e.name, e.value);
    }
}

/* What was RESET ahead of it may not be what is to be set again behind it. */
static bool sets_or_ends(const struct session *s, struct slice statement)
{
    const uint32_t sets =
        SQL_F_SET | SQL_F_SET_FUNCTION | SQL_F_TX_STATE | SQL_F_BODY | SQL_F_HIDING | SQL_F_EXECUTE;
    const uint32_t ends = SQL_F_TX_END | SQL_F_SAVEPOINT | SQL_F_BEGIN;
    struct sql_env env = statement_sql_env(s);
    struct sql_facts facts;
    sql_classify(statement, &env, &facts);
    return (facts.flags & (sets | ends)) != 0;
}

/* Of all statements of a Query; returns how many there are. */
static unsigned put_restoring_all(const struct session *s, struct slice text, struct put *out)
{
    struct split part;
    struct reset reset;
    unsigned n = 0;
    for (; split_next(text, true, !s->odd_strings, &part); text = slice_skip(text, part.used)) {
        if (part.blank || part.statement.n == 0)
            continue;
        n++;
        reset_read(part.statement, !s->odd_strings, &reset);
        if (reset.kind != RESET_OTHER)
            put_restoring(s, &reset, out);
        else if (out->n > 0 && sets_or_ends(s, part.statement))
            out->n = 0;
    }
    return n;
}

/* Which answers are whose is counted for one Query at a time. */
static bool may_restore(const struct session *s, const struct sql_facts *facts)
{
    return facts->flags & SQL_F_SET && s->state_of.startup->bytes > 0 && !s->skipping &&
           !s->copy_in && (facts->statements == 1 || s->replies.n == 0);
}

bool restore_query(struct session *s, const struct sql_facts *facts, struct slice text)
{
    uint8_t sql[LABEL_SQL_MAX], head[FRAME_HEAD_BYTES];
    struct put more = put_into(sql, sizeof sql), o = put_into(head, sizeof head);
    if (!may_restore(s, facts))
        return false;
    unsigned n = put_restoring_all(s, text, &more);
    if (n != facts->statements || more.n == 0 || more.full)
        return false;
    s->state_of.sole = false; /* what it does is this client's alone */
    if (n > 1)
        s->state_of.ahead = (uint16_t)(n - 1);
    put_u8(&o, 'Q');
    put_u32(&o, (uint32_t)(4 + text.n + 2 + more.n + 1));
    conn_out_copy(s->server->conn, o.p, o.n);
    conn_out_copy(s->server->conn, text.p, text.n);
    conn_out_copy(s->server->conn, "\n;", 2); /* the text may end in a comment */
    conn_out_copy(s->server->conn, more.p, more.n);
    conn_out_copy(s->server->conn, "", 1);
    return true;
}

bool restore_follows(const struct session *s, const struct stmt *stmt)
{
    struct reset reset;
    if (stmt->facts.class != SQL_SESSION_STATE || stmt->facts.statements != 1 ||
        s->state_of.startup->bytes == 0)
        return false;
    reset_read(stmt_text(stmt), !s->odd_strings, &reset);
    return reset.kind != RESET_OTHER;
}

bool restore_behind_execute(struct session *s, const struct stmt *stmt)
{
    static const uint8_t rest[] = "B\0\0\0\x2a" NAME "\0" NAME "\0\0\0\0\0\0\0"
                                  "E\0\0\0\x18" NAME "\0\0\0\0\0"
                                  "C\0\0\0\x15S" NAME "\0"
                                  "C\0\0\0\x15P" NAME;
    _Static_assert(sizeof NAME == 16 && sizeof rest == 1 + 0x2a + 1 + 0x18 + 2 * (1 + 0x15),
                   "the lengths count all but the types");
    uint8_t sql[LABEL_SQL_MAX], bytes[LABEL_SQL_MAX + 64];
    struct put text = put_into(sql, sizeof sql), o = put_into(bytes, sizeof bytes);
    struct reset reset;
    reset_read(stmt_text(stmt), !s->odd_strings, &reset);
    put_restoring(s, &reset, &text);
    CHECK(!text.full); /* LABEL_BYTES_MAX of names and values */
    if (text.n == 0)
        return false;
    s->state_of.sole = false;
    put_parse(&o, slice_of(NAME), put_slice(&text), SLICE_NONE);
    CHECK(!o.full);
    conn_out_copy(s->server->conn, o.p, o.n);
    conn_out_copy(s->server->conn, rest, sizeof rest);
    return true;
}
