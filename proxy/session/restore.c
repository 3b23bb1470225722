/* proxy/session/restore.c: RESET, and behind it what the client's login had set.
 *
 * PostgreSQL's RESET goes back to what its own session began with, and a server's began without the client. So SQL of
 * ours follows a RESET of such a setting, in its transaction: a statement more in its Query, or behind its Execute.
 * ParameterStatus comes with ReadyForQuery, so a client hears of a value only when it is another one.
 *
 * Limits  of a Query with several statements the last one counts: what its others reset is set again when the
 *         transaction has ended (state.c), and what stands behind them in that Query reads the server's value.
 */
#include "proxy/session/session.h"

#include "base/check.h"
#include "router/reset.h"
#include "router/split.h"

#define NAME "_pgweir_restore" /* of our statement and its portal */

/* What sets again what a RESET of this kind takes away. False: nothing of it. */
static bool put_restoring(const struct session *s, const struct reset *reset, struct put *out)
{
    bool any = false;
    if (reset->kind == RESET_OTHER)
        return false;
    for (struct entry e = {0}; entry_next(label_text(s->state_of.startup), &e);) {
        if (reset->kind != RESET_ALL && strcmp(e.name, reset->name) != 0)
            continue;
        put_bytes(out, slice_of(any ? "," : "SELECT "));
        label_put_setting(out, e.name, e.value);
        any = true;
    }
    CHECK(!out->full); /* LABEL_BYTES_MAX of names and values */
    return any;
}

/* The last statement of a Query; *n: how many there are. */
static struct slice last_statement(const struct session *s, struct slice text, uint16_t *n)
{
    struct slice last = SLICE_NONE;
    struct split part;
    for (*n = 0; *n < UINT16_MAX && split_next(text, true, !s->odd_strings, &part);
         text = slice_skip(text, part.used)) {
        if (part.blank || part.statement.n == 0)
            continue;
        last = part.statement;
        ++*n;
    }
    return last;
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
    struct reset reset;
    uint16_t n;
    if (!may_restore(s, facts))
        return false;
    reset_read(last_statement(s, text, &n), !s->odd_strings, &reset);
    put_bytes(&more, slice_of("\n;")); /* the text may end in a comment */
    if (n != facts->statements || !put_restoring(s, &reset, &more))
        return false;
    put_u8(&more, '\0');
    CHECK(!more.full);
    s->state_of.sole = false; /* what it does is this client's alone */
    if (n > 1)
        s->state_of.ahead = (uint16_t)(n - 1);
    put_u8(&o, 'Q');
    put_u32(&o, (uint32_t)(4 + text.n + more.n));
    conn_out_copy(s->server->conn, o.p, o.n);
    conn_out_copy(s->server->conn, text.p, text.n);
    conn_out_copy(s->server->conn, more.p, more.n);
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
    if (!put_restoring(s, &reset, &text))
        return false;
    s->state_of.sole = false;
    put_parse(&o, slice_of(NAME), put_slice(&text), SLICE_NONE);
    CHECK(!o.full);
    conn_out_copy(s->server->conn, o.p, o.n);
    conn_out_copy(s->server->conn, rest, sizeof rest);
    return true;
}
