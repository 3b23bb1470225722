/* proxy/session/settings_answer.c: the messages that are about statements of ours, and what they are answered:
 * without a server, where a segment is about nothing else, or in their place among what a server answers. */
#include "proxy/session/settings_inside.h"

#include "base/check.h"
#include "proxy/session/session.h"
#include "proxy/wire/take.h"

#include <stdio.h>
#include <strings.h>

#define OID_TEXT 25

/* ---- texts ---- */

static void read_text(const struct session *s, struct slice text, struct setting_statement *out)
{
    setting_read(text, !s->odd_strings, out);
}

/* Parse: a word that cannot begin a statement of ours is no reason to scan. */
static bool may_begin(struct slice text)
{
    size_t i = 0;
    while (i < text.n && (text.p[i] == ' ' || (text.p[i] >= '\t' && text.p[i] <= '\r')))
        i++;
    if (text.n - i < 3)
        return false;
    const char *p = (const char *)text.p + i;
    return *p == '/' || *p == '-' || *p == ';' || strncasecmp(p, "set", 3) == 0 ||
           strncasecmp(p, "res", 3) == 0 || strncasecmp(p, "sho", 3) == 0;
}

static bool is_ours(enum setting_kind kind)
{
    return kind != SETTING_NONE && kind != SETTING_RESET_ALL;
}

static struct slice body_of(const struct message *m)
{
    return (struct slice){m->p + FRAME_HEAD_BYTES, m->bytes - FRAME_HEAD_BYTES};
}

/* What a simple query asks for. */
static void read_query(const struct session *s, const struct message *m,
                       const struct sql_facts *facts, struct setting_statement *out)
{
    struct slice text = client_query_text(m);
    read_text(s, text, out);
    if (facts->flags & SQL_F_MULTI && setting_within(text, !s->odd_strings))
        out->kind = SETTING_MIXED;
}

/* The statement that a Parse brings, or a Bind or a Describe names. */
static bool read_named(const struct session *s, const struct message *m,
                       struct setting_statement *out)
{
    struct slice body = body_of(m), name, text;
    out->kind = SETTING_NONE;
    if (m->type == 'P') {
        if (!take_cstr(&body, &name) || !take_cstr(&body, &text) || !may_begin(text))
            return false;
    } else {
        if (m->type == 'D' && (body.n < 2 || *body.p != 'S'))
            return false;
        if (m->type == 'D')
            body = slice_skip(body, 1);
        if ((m->type == 'B' && !take_cstr(&body, &name)) || !take_cstr(&body, &name))
            return false;
        const struct stmt *stmt = statement_find(s, name);
        if (!stmt || !settings_may_be(&stmt->facts))
            return false;
        text = stmt_text(stmt);
    }
    read_text(s, text, out);
    return out->kind != SETTING_NONE;
}

bool settings_is_ours(struct session *s, const struct message *m, const struct sql_facts *facts)
{
    struct setting_statement st;
    if (m->type == 'Q')
        read_query(s, m, facts, &st);
    else
        read_named(s, m, &st);
    return is_ours(st.kind);
}

/* ---- answering ---- */

static void put_column_name(struct put *o, const char *name)
{
    put_row_description(o, &(struct put_column){name, OID_TEXT}, 1);
}

/* Without a server the rest of the segment is dropped by us; with one, a Bind that fails there makes it
 * drop the rest, and its transaction fail. */
static void refuse(struct session *s, const struct failure *f)
{
    settings_failed(s);
    if (s->server) {
        settings_of(s)->failure = *f;
        s->segment_open = true;
        statement_poison(s, REPLY_SETTING);
        return;
    }
    session_error(s, f->sqlstate, f->message, NULL, f->hint[0] ? f->hint : NULL);
    tx_refused(s);
    s->skip_to_sync = true;
}

void settings_say_error(struct session *s)
{
    const struct failure *f = &settings_of(s)->failure;
    session_error(s, f->sqlstate, f->message, NULL, f->hint[0] ? f->hint : NULL);
}

static void say_put(struct session *s, const struct put *o)
{
    CHECK(!o->full);
    reply_say(s, o->p, o->n);
}

static void malformed(struct session *s)
{
    session_fatal(s, "08P01", "invalid message format", NULL, NULL);
}

static void answer_parse(struct session *s, const struct message *m)
{
    uint8_t bytes[8];
    struct put o = put_into(bytes, sizeof bytes);
    struct failure f;
    switch (statement_adopt(s, m->p, m->bytes, true)) {
    case ADOPTED:
        put_parse_complete(&o);
        say_put(s, &o);
        return;
    case ADOPT_TAKEN:
        failure_is(&f, "42P05", "the prepared statement already exists, or its Parse is malformed");
        break;
    case ADOPT_FULL:
        failure_is(&f, "53400", statement_full_message);
        break;
    }
    refuse(s, &f);
}

static bool portal_is(const struct settings *t, struct slice name)
{
    return t && t->portal && slice_equals(name, (struct slice){t->portal_name, t->portal_name_n});
}

static void no_statement(struct session *s)
{
    struct failure f;
    failure_is(&f, "26000", "prepared statement does not exist");
    refuse(s, &f);
}

/* A Bind or Describe: of a statement that is still there. It may have been closed behind its Parse. */
static bool names_ours(const struct session *s, const struct message *m)
{
    struct setting_statement st;
    return read_named(s, m, &st) && is_ours(st.kind);
}

static void answer_bind(struct session *s, const struct message *m)
{
    uint8_t bytes[8];
    struct put o = put_into(bytes, sizeof bytes);
    struct slice body = body_of(m), portal, name;
    struct failure f;
    if (!take_cstr(&body, &portal) || !take_cstr(&body, &name) || body.n < 2 ||
        body.n < 4 + 2 * (size_t)slice_u16(body.p)) {
        malformed(s);
        return;
    }
    if (!names_ours(s, m)) {
        no_statement(s);
        return;
    }
    struct settings *t = settings_of(s);
    settings_drop_portal(t);
    bool parameters = slice_u16(body.p + 2 + 2 * (size_t)slice_u16(body.p)) > 0;
    if (parameters || portal.n > PORTAL_NAME_MAX) {
        failure_is(&f, "08P01",
                   "a statement about pgweir.* takes no parameters and a short portal name");
        refuse(s, &f);
        return;
    }
    t->portal = stmt_ref(statement_find(s, name));
    t->portal_name_n = (uint8_t)portal.n;
    if (portal.n)
        memcpy(t->portal_name, portal.p, portal.n);
    put_bind_complete(&o);
    say_put(s, &o);
}

static void answer_describe(struct session *s, const struct message *m)
{
    static const uint8_t no_parameters[] = {'t', 0, 0, 0, 6, 0, 0};
    uint8_t bytes[256];
    struct put o = put_into(bytes, sizeof bytes);
    struct setting_statement st;
    if (m->p[FRAME_HEAD_BYTES] == 'S') {
        read_named(s, m, &st);
        put_bytes(&o, (struct slice){no_parameters, sizeof no_parameters});
    } else {
        read_text(s, stmt_text(s->settings->portal), &st);
    }
    if (st.kind == SETTING_SHOW)
        put_column_name(&o, st.name);
    else
        put_no_data(&o);
    say_put(s, &o);
}

/* False: it waits. */
static bool answer_execute(struct session *s)
{
    uint8_t bytes[512];
    struct put o = put_into(bytes, sizeof bytes);
    struct setting_statement st;
    struct failure f;
    read_text(s, stmt_text(s->settings->portal), &st);
    enum ran ran = settings_run(s, &st, &o, &f);
    if (ran == RAN)
        say_put(s, &o);
    else if (ran == RAN_FAILED)
        refuse(s, &f);
    return ran != RAN_WAITS;
}

static void no_portal(struct session *s)
{
    struct failure f;
    failure_is(&f, "34000", "portal does not exist");
    refuse(s, &f);
}

/* A message of the extended protocol that is about a statement or a portal of ours. False: it waits. */
static bool answer_extended(struct session *s, const struct message *m)
{
    struct slice body = body_of(m), name;
    const bool describes = m->type == 'D', of_portal = describes && body.n && *body.p == 'P';
    const bool portal = m->type == 'E' || of_portal;
    if (describes && !of_portal && (body.n == 0 || *body.p != 'S')) {
        malformed(s);
        return true;
    }
    if (describes)
        body = slice_skip(body, 1);
    if (portal && !take_cstr(&body, &name))
        malformed(s);
    else if (portal && !portal_is(s->settings, name))
        no_portal(s);
    else if (describes && !portal && !names_ours(s, m))
        no_statement(s);
    else if (m->type == 'P')
        answer_parse(s, m);
    else if (m->type == 'B')
        answer_bind(s, m);
    else if (m->type == 'D')
        answer_describe(s, m);
    else
        return answer_execute(s);
    return true;
}

/* ---- without a server ---- */

/* False: it waits. */
static bool answer_query(struct session *s, const struct setting_statement *st)
{
    uint8_t bytes[512];
    struct put o = put_into(bytes, sizeof bytes);
    struct failure f;
    if (st->kind == SETTING_SHOW)
        put_column_name(&o, st->name);
    enum ran ran = settings_run(s, st, &o, &f);
    if (ran == RAN_WAITS)
        return false;
    if (ran == RAN) {
        say_put(s, &o);
    } else {
        settings_failed(s);
        session_error(s, f.sqlstate, f.message, NULL, f.hint[0] ? f.hint : NULL);
        tx_refused(s); /* a transaction that no server knows fails here */
    }
    statement_forget_unnamed(s); /* as every simple query */
    settings_ready(s);
    session_notice_ready(s);
    return true;
}

void settings_answer(struct session *s, size_t bytes)
{
    struct message m;
    for (size_t done = 0; done < bytes && s->state == SESSION_READY && !s->skip_to_sync;
         done += m.bytes) {
        CHECK(client_look(s, 0, &m) == FOUND_MESSAGE); /* it was a moment ago */
        if (m.type == 'Q') {
            struct setting_statement st;
            struct sql_facts facts = s->segment;
            read_query(s, &m, &facts, &st);
            if (!answer_query(s, &st))
                return;
        } else if (m.type == 'C') {
            client_close_locally(s, &m);
        } else if (m.type == 'S') {
            settings_ready(s);
            session_notice_ready(s);
        } else if (!answer_extended(s, &m)) {
            return;
        }
        if (s->state == SESSION_READY)
            conn_in_drop(s->conn, m.bytes);
    }
}

/* ---- with a server ---- */

/* What was asked before has to be answered first, and the server is told to do so. */
static bool turn_has_come(struct session *s)
{
    if (s->replies.n == 0 && s->server_body_left == 0) {
        s->flush_sent = false;
        return true;
    }
    if (s->segment_open && !s->flush_sent) {
        reply_ask(s);
        s->flush_sent = true;
    }
    return false;
}

/* The server raises the error, so that its transaction fails. The texts hold nothing that ends a literal. */
static void raise_there(struct session *s, const struct failure *f)
{
    char sql[512];
    uint8_t bytes[600];
    struct put o = put_into(bytes, sizeof bytes);
    int n = snprintf(sql, sizeof sql,
                     "DO $pgweir$BEGIN RAISE EXCEPTION USING ERRCODE = '%s', MESSAGE = '%s', "
                     "HINT = '%s'; END$pgweir$",
                     f->sqlstate, f->message, f->hint);
    CHECK(n > 0 && (size_t)n < sizeof sql);
    put_query(&o, slice_of(sql));
    CHECK(!o.full);
    stmt_set_unnamed(&s->server->stmts, NULL);
    statement_forget_unnamed(s);
    reply_push(s, REPLY_QUERY);
    s->segment_serial++;
    s->segment_open = false;
    conn_out_copy(s->server->conn, o.p, o.n);
}

enum settings_rc settings_query(struct session *s, const struct message *m,
                                const struct sql_facts *facts)
{
    struct setting_statement st;
    struct failure f;
    uint8_t bytes[512];
    struct put o = put_into(bytes, sizeof bytes);
    if (s->skipping || s->copy_in)
        return SETTINGS_PASS;
    read_query(s, m, facts, &st);
    if (st.kind == SETTING_RESET_ALL)
        settings_note_reset_all(s);
    if (!is_ours(st.kind))
        return SETTINGS_PASS;
    if (!turn_has_come(s))
        return SETTINGS_WAIT;
    if (s->skipping || s->tx_status == 'E') /* PostgreSQL's own 25P02 */
        return SETTINGS_PASS;
    if (s->segment_open) { /* this query ends what was begun without a Sync: the server has to see one */
        failure_is(&f, "0A000", "a statement about pgweir.* cannot end a pipeline without Sync");
        raise_there(s, &f);
    } else if (s->tx_status == 'I') {
        if (!answer_query(s, &st))
            return SETTINGS_WAIT;
    } else {
        if (st.kind == SETTING_SHOW)
            put_column_name(&o, st.name);
        enum ran ran = settings_run(s, &st, &o, &f);
        if (ran == RAN_WAITS)
            return SETTINGS_WAIT;
        if (ran == RAN) {
            say_put(s, &o);
            statement_forget_unnamed(s);
            session_notice_ready(s);
        } else {
            raise_there(s, &f);
        }
    }
    client_drop(s, m->bytes);
    return SETTINGS_DONE;
}

bool settings_uses_portal(struct session *s, const struct message *m)
{
    struct slice body = body_of(m), name;
    if (!s->settings || !s->settings->portal)
        return false;
    if (m->type == 'D' && body.n >= 2 && *body.p == 'P')
        body = slice_skip(body, 1);
    else if (m->type != 'E' && m->type != 'B')
        return false;
    return take_cstr(&body, &name) && portal_is(s->settings, name);
}

enum settings_rc settings_message(struct session *s, const struct message *m)
{
    struct setting_statement st = {0};
    struct failure f;
    bool portal = settings_uses_portal(s, m);
    if (s->copy_in || s->skipping)
        return SETTINGS_PASS;
    if (m->type != 'E')
        read_named(s, m, &st);
    if (m->type == 'B' && st.kind == SETTING_RESET_ALL)
        settings_note_reset_all(s);
    if (m->type == 'B' && portal && !is_ours(st.kind)) { /* another statement takes its place */
        settings_drop_portal(s->settings);
        return SETTINGS_PASS;
    }
    if (!portal && !is_ours(st.kind))
        return SETTINGS_PASS;
    if (!turn_has_come(s))
        return SETTINGS_WAIT;
    if (s->skipping)
        return SETTINGS_PASS;
    if (s->tx_status == 'E' && !s->segment_open) {
        failure_is(
            &f, "25P02",
            "current transaction is aborted, commands ignored until end of transaction block");
        refuse(s, &f);
    } else if (!answer_extended(s, m)) {
        return SETTINGS_WAIT;
    }
    if (s->state == SESSION_READY)
        client_drop(s, m->bytes);
    return SETTINGS_DONE;
}
