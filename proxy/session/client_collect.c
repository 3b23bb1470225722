/* proxy/session/client_collect.c: without a server messages are only looked at, until a segment is complete, or must go as it is. */
#include "proxy/session/client_inside.h"
#include "proxy/session/settings.h"

#include "proxy/wire/take.h"

/* ---- what it says ---- */

static bool is_parsed_here(const struct collecting *c, const struct message *m, struct slice name)
{
    const uint8_t *start = m->p - c->bytes;
    return c->parses && slice_equals(name, (struct slice){start + c->name_at, c->name_n});
}

/* The facts of one message. NULL: a name that we do not know, a call, or no text at all. */
static const struct sql_facts *message_facts(struct session *s, const struct message *m,
                                             struct collecting *c, struct sql_facts *facts)
{
    struct sql_env env = statement_sql_env(s);
    struct slice body = {m->p + FRAME_HEAD_BYTES, m->bytes - FRAME_HEAD_BYTES}, name, text;
    switch (m->type) {
    case 'Q':
        if (!client_query_is_whole(m)) /* PostgreSQL says what is wrong with it */
            return NULL;
        sql_classify(client_query_text(m), &env, facts);
        return facts;
    case 'P':
        if (!take_cstr(&body, &name) || !take_cstr(&body, &text))
            return NULL;
        sql_classify(text, &env, facts);
        sql_facts_declare(facts, slice_skip(body, body.n < 2 ? body.n : 2), env.catalog);
        if (facts->class == SQL_WAIT)
            floors_waits_for(s, text);
        c->parses = true;
        c->name_at = c->bytes + (uint32_t)(name.p - m->p);
        c->name_n = (uint32_t)name.n;
        /* Without rewriting the name lives on the server that gets it: that has to be the primary. */
        return name.n > 0 && s->worker->hub.snapshot->conf->max_prepared_statements == 0 ? NULL
                                                                                         : facts;
    case 'B':
        if (!take_cstr(&body, &text) || !take_cstr(&body, &name))
            return NULL;
        return is_parsed_here(c, m, name) ? facts : statement_facts(s, name);
    case 'D':
        if (body.n < 2 || body.p[0] != 'S')
            return facts;
        body = slice_skip(body, 1);
        if (!take_cstr(&body, &name))
            return NULL;
        return is_parsed_here(c, m, name) ? facts : statement_facts(s, name);
    case 'F':
        return NULL;
    default: /* Execute, Close, Sync say nothing of their own */
        return facts;
    }
}

static void note_ours(struct session *s, const struct message *m, struct collecting *c,
                      const struct sql_facts *known)
{
    bool says_nothing = known && known->class == SQL_EMPTY && m->type != 'Q' && m->type != 'P';
    if (says_nothing) { /* a SHOW that waited is looked at again from its Execute */
        c->ours = c->ours || (m->type == 'E' && settings_uses_portal(s, m));
        return;
    }
    if (known && settings_may_be(known) && settings_is_ours(s, m, known))
        c->ours = true;
    else
        c->not_ours = true;
}

/* What comments ask for: of a text that is here, or that a Bind names. */
static void join_hint(struct session *s, const struct message *m, struct collecting *c)
{
    struct slice body = {m->p + FRAME_HEAD_BYTES, m->bytes - FRAME_HEAD_BYTES}, name, text;
    struct hint hint;
    if (m->type == 'Q') {
        hint_read(client_query_text(m), !s->odd_strings, &hint);
    } else if (m->type == 'P') {
        if (!take_cstr(&body, &name) || !take_cstr(&body, &text))
            return;
        hint_read(text, !s->odd_strings, &hint);
    } else if (m->type == 'B' && take_cstr(&body, &text) && take_cstr(&body, &name)) {
        const struct stmt *stmt = is_parsed_here(c, m, name) ? NULL : statement_find(s, name);
        if (!stmt)
            return;
        hint = stmt->hint;
    } else {
        return;
    }
    s->hint = (uint8_t)(c->hinted ? hint_join((enum hint_route)s->hint, hint.route) : hint.route);
    c->hinted = true;
    if (hint.min_lsn.n)
        floors_raise_token(s, hint.min_lsn);
}

static void join_message(struct session *s, const struct message *m, struct collecting *c)
{
    struct sql_facts facts;
    sql_facts_init(&facts);
    const struct sql_facts *known = message_facts(s, m, c, &facts);
    note_ours(s, m, c, known);
    join_hint(s, m, c);
    if (!known) {
        facts.flags = SQL_F_NOT_READ;
        facts.class = SQL_UNKNOWN;
        facts.reason = ROUTE_WHY_UNKNOWN_NAME;
        facts.statements =
            1; /* a text of none says nothing, and an empty segment is for any node */
        known = &facts;
    }
    tx_saw(s, m, known);
    sql_facts_join(&s->segment, known);
}

struct slice client_segment_text(struct session *s)
{
    struct message m;
    for (size_t at = 0; at < s->collected_bytes; at += m.bytes) {
        if (client_look(s, at, &m) != FOUND_MESSAGE)
            break;
        struct slice body = {m.p + FRAME_HEAD_BYTES, m.bytes - FRAME_HEAD_BYTES}, name, text;
        if (m.type == 'Q')
            return client_query_text(&m);
        if (m.type == 'P' && take_cstr(&body, &name) && take_cstr(&body, &text))
            return text;
        if (m.type == 'B' && take_cstr(&body, &text) && take_cstr(&body, &name))
            return statement_text(s, name);
    }
    return SLICE_NONE;
}

/* ---- its messages ---- */

static bool ends_segment(uint8_t type)
{
    return type == 'Q' || type == 'S' || type == 'F';
}

void client_close_locally(struct session *s, const struct message *m)
{
    static const uint8_t close_complete[] = {'3', 0, 0, 0, 4};
    struct slice body = {m->p + FRAME_HEAD_BYTES, m->bytes - FRAME_HEAD_BYTES}, name;
    if (body.p[0] == 'S') {
        body = slice_skip(body, 1);
        if (take_cstr(&body, &name) && name.n > 0)
            stmt_names_remove(&s->names, name);
        else
            statement_forget_unnamed(s);
    }
    conn_out_copy(s->conn, close_complete, sizeof close_complete);
}

/* Bytes that belong to a segment which we refused, or to a COPY that ended early. */
static enum step drop_message(struct session *s, const struct message *m, enum found found)
{
    if (m->type == 'S' || m->type == 'Q') {
        if (found != FOUND_MESSAGE && m->type == 'S')
            return STEP_WAIT;
        client_stream(s, m->bytes, true);
        if (m->type == 'S') {
            s->skip_to_sync = false;
            session_notice_ready(s);
        }
        return STEP_DONE;
    }
    client_stream(s, m->bytes, true);
    return STEP_DONE;
}

/* Its answer is known without PostgreSQL; what it says of a wrong one is its own affair. */
static bool is_local(const struct message *m)
{
    size_t n = m->bytes - FRAME_HEAD_BYTES;
    const uint8_t *body = m->p + FRAME_HEAD_BYTES;
    if (m->type != 'C')
        return m->type == 'S' && n == 0;
    return n >= 2 && (*body == 'S' || *body == 'P') && memchr(body, '\0', n) == body + n - 1;
}

enum collected { COLLECT_MORE, COLLECT_WAIT, COLLECT_WHOLE, COLLECT_CUT, COLLECT_DONE };

/* Take one more message into the segment. */
static enum collected collect_one(struct session *s, struct collecting *c)
{
    struct message m;
    enum found found = client_look(s, c->bytes, &m);
    if (found == FOUND_BAD && c->bytes > 0)
        return COLLECT_CUT; /* what came before it is answered first */
    if (found == FOUND_BAD) {
        client_bad_message(s, c->bytes);
        return COLLECT_WAIT;
    }
    if (found == FOUND_NOTHING)
        return COLLECT_WAIT; /* the rest is still under way */
    if (c->bytes == 0 && m.type == 'X') {
        client_leave(s);
        return COLLECT_WAIT;
    }
    if (c->bytes == 0 && (s->skip_to_sync || strchr("dcf", m.type)))
        return drop_message(s, &m, found) == STEP_DONE ? COLLECT_DONE : COLLECT_WAIT;
    if (c->bytes == 0 && m.type == 'H') { /* nothing to flush: a lone Flush takes no server */
        client_drop(s, m.bytes);
        return COLLECT_DONE;
    }
    if (m.bytes > MESSAGE_WHOLE_MAX || strchr("HXdcf", m.type))
        return COLLECT_CUT;
    if (found == FOUND_PART) {
        client_wait_for(s, c->bytes + m.bytes);
        return COLLECT_WAIT;
    }
    join_message(s, &m, c);
    c->not_local = c->not_local || !is_local(&m);
    c->not_parse = c->not_parse || (m.type != 'P' && !(m.type == 'S' && is_local(&m)));
    c->bytes += (uint32_t)m.bytes;
    if (ends_segment(m.type))
        return COLLECT_WHOLE;
    return c->bytes > SEGMENT_MAX ? COLLECT_CUT : COLLECT_MORE;
}

enum step client_collect(struct session *s)
{
    enum collected got;
    if (s->collecting.bytes == 0) {
        catalogs_begin_segment(s);
        tx_segment_starts(s);
        s->hint = HINT_NONE;
    }
    do {
        got = collect_one(s, &s->collecting);
    } while (got == COLLECT_MORE);
    if (got == COLLECT_WAIT)
        return STEP_WAIT;
    struct collecting c = s->collecting;
    s->collecting = (struct collecting){0};
    if (got == COLLECT_DONE || (got == COLLECT_WHOLE && answers_segment(s, &c)))
        return STEP_DONE;
    if (c.ours && !c.not_ours && !s->server) { /* up to a Flush too */
        settings_answer(s, c.bytes);
        return STEP_DONE;
    }
    if (got == COLLECT_WHOLE && tx_answers(s, c.bytes))
        return STEP_DONE;
    s->collected_bytes = c.bytes;
    s->segment_cut = got == COLLECT_CUT;
    if (s->server)
        return tx_held_segment(s, c.ours && !c.not_ours);
    enum step step = lease_for_segment(s);
    bool waits = step == STEP_WAIT && got == COLLECT_WHOLE;
    return waits && answers_while_waiting(s, &c) ? STEP_DONE : step;
}
