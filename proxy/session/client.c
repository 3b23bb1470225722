/* proxy/session/client.c: the client's messages: collect a segment, then send it message by message. */
#include "proxy/session/session.h"
#include "proxy/session/settings.h"

#include "base/check.h"
#include "proxy/wire/take.h"

#include <stdio.h>

/* ---- reading heads ---- */

static bool is_client_type(uint8_t type)
{
    return strchr("QPBEDCSHFdcfX", type) != NULL && type != '\0';
}

/* PostgreSQL's own limits (spec/pooling.md 4, Size limits). */
static uint32_t body_limit(uint8_t type)
{
    return strchr("QPBFd", type) ? CLIENT_BODY_MAX : 10000;
}

enum found client_look(struct session *s, size_t offset, struct message *m)
{
    struct conn *conn = s->conn;
    struct frame_head head;
    if (conn->in.bytes < offset + FRAME_HEAD_BYTES)
        return FOUND_NOTHING;
    const uint8_t *p = conn_in_contiguous(conn, offset + FRAME_HEAD_BYTES) + offset;
    if (!is_client_type(*p) ||
        frame_read_head((struct slice){p, FRAME_HEAD_BYTES}, body_limit(*p), &head) != FRAME_OK)
        return FOUND_BAD;
    *m = (struct message){head.type, (size_t)FRAME_HEAD_BYTES + head.body_bytes, p};
    if (conn->in.bytes - offset < m->bytes)
        return FOUND_PART;
    if (m->bytes <= MESSAGE_WHOLE_MAX)
        m->p = conn_in_contiguous(conn, offset + m->bytes) + offset;
    return FOUND_MESSAGE;
}

/* The message `offset` bytes into the input, as PostgreSQL says it. */
static void bad_message(struct session *s, size_t offset)
{
    char text[64] = "invalid message length";
    uint8_t type = conn_in_contiguous(s->conn, offset + 1)[offset];
    if (!is_client_type(type))
        snprintf(text, sizeof text, "invalid frontend message type %u", type);
    session_fatal(s, "08P01", text, NULL, NULL);
}

/* A message that has to be seen whole may be larger than what a client may usually leave unread. */
static void wait_for(struct session *s, size_t bytes)
{
    if (bytes > CONN_IN_LIMIT && s->worker->loop->bufs.heap_bytes > HELD_FOR_LONG_MAX) {
        session_fatal(s, "53200", "out of memory for long messages",
                      "Too many clients of this worker are in the middle of a long message.",
                      "Retry with backoff.");
        return;
    }
    s->conn->in_limit = bytes > CONN_IN_LIMIT ? (uint32_t)bytes : CONN_IN_LIMIT;
    conn_resume(s->conn);
}

/* ---- sending ---- */

static void uncollect(struct session *s, size_t n)
{
    s->collected_bytes -= s->collected_bytes < n ? s->collected_bytes : (uint32_t)n;
}

void client_forward(struct session *s, size_t n)
{
    struct conn *conn = s->conn;
    uncollect(s, n);
    while (n > 0) {
        struct seg *seg = conn->in.head;
        size_t part = n < seg->n ? n : seg->n;
        conn_out_ref(s->server->conn, seg->buf, (struct slice){seg->p, part});
        conn_in_drop(conn, part);
        n -= part;
    }
}

void client_drop(struct session *s, size_t n)
{
    uncollect(s, n);
    conn_in_drop(s->conn, n);
}

/* Bytes of a message that is too big to be kept, or needs no look. */
static bool stream(struct session *s)
{
    size_t n = s->conn->in.bytes < s->stream_left ? s->conn->in.bytes : s->stream_left;
    if (n == 0)
        return false;
    bool drop = s->stream_drop || !s->server;
    if (drop)
        client_drop(s, n);
    else
        client_forward(s, n);
    s->stream_left -= (uint32_t)n;
    if (s->stream_left == 0 && s->copy_due)
        reply_ask_copy(s);
    if (s->stream_left == 0 && !drop)
        lease_end_if_idle(s);
    return true;
}

void client_stream(struct session *s, size_t n, bool drop)
{
    s->stream_left = (uint32_t)n;
    s->stream_drop = drop;
    stream(s);
}

bool client_drop_query(struct session *s)
{
    struct message m;
    enum found found = client_look(s, 0, &m);
    if ((found != FOUND_MESSAGE && found != FOUND_PART) || (m.type != 'Q' && m.type != 'F'))
        return false;
    client_stream(s, m.bytes, true);
    return true;
}

/* ---- what SQL does to the session ---- */

struct slice client_query_text(const struct message *m)
{
    size_t n = m->bytes - FRAME_HEAD_BYTES;
    const uint8_t *text = m->p + FRAME_HEAD_BYTES;
    return (struct slice){text, n > 0 && text[n - 1] == '\0' ? n - 1 : n};
}

void client_note_facts(struct session *s, const struct sql_facts *facts)
{
    uint32_t flags = facts->flags;
    if (flags & SQL_F_DDL)
        stmt_set_clear(&s->set->proven); /* what was accepted may fail now */
    catalogs_note(s, facts);
    if (flags & (SQL_F_DISCARD | SQL_F_DEALLOCATE_ALL))
        s->forget_names = true;
    if (flags & SQL_F_SAVEPOINT)
        settings_savepoint(s);
    if (facts->class >= SQL_WRITER_FUNCTION || flags & (SQL_F_EXECUTE | SQL_F_CURSOR))
        server_note_sequences(s->server, s->serial);
    if (facts->class >= SQL_NOTIFY || flags & (SQL_F_EXECUTE | SQL_F_CURSOR))
        cluster_note_backend(s->set->cluster, s->server->backend_pid, s->pid);
    if (flags & SQL_F_COMMIT || (s->tx_status == 'I' && !(flags & (SQL_F_READ | SQL_F_BEGIN))))
        s->writes = true;
}

/* What a replica would take and do wrongly for ever: state that belongs on the primary. */
bool client_must_refuse(const struct session *s, const struct sql_facts *facts)
{
    return s->on_replica && tx_fate(facts) == TX_PRIMARY_ONLY;
}

/* PostgreSQL itself raises the error, so that the transaction fails as it would there. */
#define REFUSAL \
    "this statement cannot run in a READ ONLY transaction that pgweir placed on a replica"
#define REFUSAL_HINT "Begin the transaction without READ ONLY: it then runs on the primary."
const char client_refusal_message[] = REFUSAL, client_refusal_hint[] = REFUSAL_HINT;
static const char refusal_sql[] =
    "DO $pgweir$BEGIN RAISE EXCEPTION USING ERRCODE = '0A000', MESSAGE = '" REFUSAL
    "', HINT = '" REFUSAL_HINT "'; END$pgweir$";

/* In place of the next message of the input, a Query or a FunctionCall of so many bytes. */
static void send_refusal(struct session *s, size_t bytes)
{
    uint8_t buffer[512];
    struct put o = put_into(buffer, sizeof buffer);
    put_query(&o, slice_of(refusal_sql));
    CHECK(!o.full);
    stmt_set_unnamed(&s->server->stmts, NULL);
    conn_out_copy(s->server->conn, o.p, o.n);
    client_stream(s, bytes, true);
}

/* ---- one message, with a server ---- */

static struct sql_facts query_facts(struct session *s, const struct message *m, bool collected)
{
    struct sql_facts facts = s->segment;
    if (m->bytes > MESSAGE_WHOLE_MAX) {
        sql_facts_init(&facts); /* too long to be read: a write, as far as we know */
        facts.flags = SQL_F_NOT_READ;
    } else if (!collected) {
        struct sql_env env = statement_sql_env(s);
        sql_classify(client_query_text(m), &env, &facts);
    }
    return facts;
}

/* What it EXECUTEs is what runs. *text: of that, when nothing else does. */
static void join_executed(struct session *s, struct sql_facts *facts, struct slice *text)
{
    struct sql_env env = statement_sql_env(s);
    bool alone = facts->class == SQL_EXECUTE && facts->statements == 1;
    unsigned i = 0;
    for (struct stmt *runs; (runs = statement_query_runs(s, &i)) != NULL;) {
        const struct sql_facts *more = stmt_facts(runs, &env);
        if (alone) {
            *facts = *more;
            *text = stmt_text(runs);
            continue;
        }
        if (!client_must_refuse(s, more))
            state_saw(s, more, stmt_text(runs), SLICE_NONE);
        sql_facts_join(facts, more);
    }
}

static void note_query(struct session *s, const struct sql_facts *facts, struct slice text,
                       bool whole)
{
    client_note_facts(s, facts);
    if (whole)
        state_saw(s, facts, text, SLICE_NONE);
    else
        state_saw_unread(s);
}

static bool ends_with_its_nul(const struct message *m)
{
    size_t n = m->bytes - FRAME_HEAD_BYTES;
    const uint8_t *text = m->p + FRAME_HEAD_BYTES;
    return n > 0 && memchr(text, '\0', n) == text + n - 1;
}

/* A Query that PostgreSQL cannot read: it says so, and nothing has happened, to the unnamed statement either. */
static enum step send_unreadable(struct session *s, const struct message *m)
{
    s->unnamed_new = false;
    reply_push(s, REPLY_FUNCTION); /* an error, and ReadyForQuery */
    s->segment_serial++;
    s->segment_open = false;
    client_forward(s, m->bytes);
    return STEP_DONE;
}

static enum step send_query(struct session *s, const struct message *m, bool collected)
{
    if (m->bytes <= MESSAGE_WHOLE_MAX && !ends_with_its_nul(m))
        return send_unreadable(s, m);
    struct sql_facts facts = query_facts(s, m, collected);
    enum settings_rc ours = settings_may_be(&facts) ? settings_query(s, m, &facts) : SETTINGS_PASS;
    if (ours != SETTINGS_PASS)
        return ours == SETTINGS_WAIT ? STEP_WAIT : STEP_DONE;
    bool whole = m->bytes <= MESSAGE_WHOLE_MAX;
    struct slice text = whole ? client_query_text(m) : SLICE_NONE;
    if (whole && statement_query(s, &facts, text) == STEP_WAIT)
        return STEP_WAIT;
    if (facts.class == SQL_WAIT)
        floors_waits_for(s, text);
    join_executed(s, &facts, &text);
    bool refuse = client_must_refuse(s, &facts);
    if (!refuse)
        note_query(s, &facts, text, whole);
    if (!collected && whole)
        explain_held(s, &facts, text);
    s->worker->stats.queries++;
    statement_forget_unnamed(s); /* a simple query destroys the unnamed statement */
    s->unnamed_new = false;
    stmt_set_unnamed(&s->server->stmts, NULL);
    statement_query_ahead(s);
    bool restores = !refuse && whole && restore_query(s, &facts, client_query_text(m));
    reply_push(s, restores ? REPLY_RESTORE : REPLY_QUERY);
    s->segment_serial++;
    s->segment_open = false;
    if (refuse)
        send_refusal(s, m->bytes);
    else if (restores)
        client_drop(s, m->bytes);
    else if (whole)
        client_forward(s, m->bytes);
    else
        client_stream(s, m->bytes, false);
    statement_query_behind(s);
    return STEP_DONE;
}

static void send_counted(struct session *s, const struct message *m, enum reply reply)
{
    if (s->skipping) {
        client_drop(s, m->bytes);
        return;
    }
    reply_push(s, reply);
    s->segment_open = true;
    client_forward(s, m->bytes);
}

static void send_sync(struct session *s, const struct message *m)
{
    /* In COPY the server ignores Sync: no ReadyForQuery will answer it, unless the COPY has failed. */
    if (s->copy_in) {
        s->sync_ignored = true;
    } else {
        statement_before_sync(s);
        s->skipping = false;
        reply_push(s, REPLY_SYNC);
        s->segment_serial++;
        s->segment_open = false;
    }
    client_forward(s, m->bytes);
    reply_say_fakes(s);
    if (!s->copy_in)
        statement_behind_sync(s);
}

/* DEALLOCATE ALL or DISCARD ALL is on its way in this very segment: what a name means is known when it
 * has been answered, so the server is asked to answer now. */
static bool names_may_go(struct session *s)
{
    static const uint8_t flush[] = {'H', 0, 0, 0, 4};
    if (!s->forget_names || s->replies.n == 0 || s->copy_in) {
        s->flush_sent = false;
        return false;
    }
    if (!s->flush_sent)
        conn_out_copy(s->server->conn, flush, sizeof flush);
    s->flush_sent = true;
    return true;
}

static enum step send_statement_message(struct session *s, const struct message *m)
{
    if (s->skipping) { /* the server throws it away until Sync; so do we */
        client_stream(s, m->bytes, true);
        return STEP_DONE;
    }
    /* Of those that are too long to be kept, Bind and Parse, the names are enough. */
    bool whole = m->bytes <= MESSAGE_WHOLE_MAX;
    size_t n = m->bytes, have = whole ? n : BIND_PREFIX_MAX;
    if (s->conn->in.bytes < have) {
        wait_for(s, have);
        return STEP_WAIT;
    }
    const uint8_t *p = conn_in_contiguous(s->conn, have);
    struct message there = {m->type, n, p};
    enum settings_rc ours = whole ? settings_message(s, &there) : SETTINGS_PASS;
    if (ours != SETTINGS_PASS)
        return ours == SETTINGS_WAIT ? STEP_WAIT : STEP_DONE;
    if (statement_is_unsettled(s, m->type, p, have) || names_may_go(s))
        return STEP_WAIT;
    s->segment_open = true;
    enum shape_rc shape = strchr("BD", m->type) ? statement_shape(s, m->type, p, have) : SHAPE_FITS;
    if (shape == SHAPE_WAIT)
        return STEP_WAIT;
    if (shape == SHAPE_CHANGED) {
        statement_stale(s, m->type, p, n);
    } else if (m->type == 'P' && whole)
        statement_parse(s, n);
    else if (m->type == 'P')
        statement_parse_long(s, p, have, n);
    else if (m->type == 'B')
        statement_bind(s, p, have, n);
    else if (m->type == 'D')
        statement_describe(s, p, n);
    else
        statement_close(s, p, n);
    return STEP_DONE;
}

/* What becomes of the next message depends on what the server says of those before it. */
static void ask_for_these(struct session *s)
{
    uint8_t bytes[8];
    struct put o = put_into(bytes, sizeof bytes);
    put_flush(&o);
    if (!s->copy_flushed)
        conn_out_copy(s->server->conn, o.p, o.n);
    s->copy_flushed = true;
}

static enum step send_copy(struct session *s, const struct message *m, enum found found)
{
    bool late = !s->copy_in && (s->skipping || s->replies.n == 0); /* of a COPY that failed */
    if (!s->copy_in && !late) { /* it has not begun, and may not */
        ask_for_these(s);
        return STEP_WAIT;
    }
    s->copy_flushed = false;
    if (m->type != 'd' && found == FOUND_PART) {
        wait_for(s, m->bytes);
        return STEP_WAIT;
    }
    client_stream(s, m->bytes, late);
    if (m->type == 'd' || late)
        return STEP_DONE;
    s->copy_in = false;
    if (s->sync_ignored)
        ask_for_these(s);
    return STEP_DONE;
}

/* PostgreSQL ends a session at such a byte, in its own words, once it has answered what came before. */
static void send_illegal(struct session *s)
{
    const uint8_t *type = conn_in_contiguous(s->conn, 1);
    bool wrong_length = is_client_type(*type);
    if (s->on_replica || wrong_length) {
        bad_message(s, 0);
        return;
    }
    conn_out_copy(s->server->conn, type, 1);
    s->illegal = true;
}

static bool is_query(uint8_t type)
{
    return type == 'Q' || type == 'F';
}

static bool is_held_back(struct session *s, const struct message *m)
{
    /* That COPY has failed before, or fails by our question as it would by this message. */
    if (s->copy_in && s->sync_ignored && !strchr("dcfSHX", m->type)) {
        reply_ask_copy(s);
        return true;
    }
    /* It runs, unless an error is among the answers of its segment. */
    bool inside = s->segment_open && s->replies.n > 0 && !s->copy_in && is_query(m->type);
    if (inside)
        ask_for_these(s);
    return inside;
}

static void send_function_call(struct session *s, const struct message *m)
{
    s->writes = s->writes || s->tx_status == 'I';
    state_saw_unread(s);
    s->unnamed_new = false;
    reply_push(s, REPLY_FUNCTION);
    s->segment_serial++;
    s->segment_open = false;
    if (s->on_replica)
        send_refusal(s, m->bytes);
    else
        client_stream(s, m->bytes, false);
}

/* Terminate comes in its turn: what was asked before it is answered first. */
static void leave(struct session *s)
{
    if (!session_owes(s))
        session_close(s, "client_left");
}

static enum step send_message(struct session *s)
{
    struct message m;
    enum found found = client_look(s, 0, &m);
    bool collected = s->collected_bytes > 0;
    if (found == FOUND_NOTHING)
        return STEP_WAIT;
    if (found == FOUND_BAD) {
        send_illegal(s);
        return STEP_WAIT;
    }
    if (is_held_back(s, &m))
        return STEP_WAIT;
    if (s->skipping && is_query(m.type)) { /* the server throws it away until Sync; so do we */
        client_stream(s, m.bytes, true);
        return STEP_DONE;
    }
    switch (m.type) {
    case 'Q':
        if (found == FOUND_PART && m.bytes <= MESSAGE_WHOLE_MAX)
            break;
        return send_query(s, &m, collected);
    case 'P':
    case 'B':
    case 'D':
    case 'C':
        return send_statement_message(s, &m);
    case 'd':
    case 'c':
    case 'f':
        return send_copy(s, &m, found);
    case 'F':
        send_function_call(s, &m);
        return STEP_DONE;
    case 'E':
        if (found == FOUND_PART)
            break;
        enum settings_rc ours = s->settings ? settings_message(s, &m) : SETTINGS_PASS;
        if (ours != SETTINGS_PASS)
            return ours == SETTINGS_WAIT ? STEP_WAIT : STEP_DONE;
        struct slice body = {m.p + FRAME_HEAD_BYTES, m.bytes - FRAME_HEAD_BYTES};
        bool more = statement_execute(s, body);
        send_counted(s, &m, REPLY_EXECUTE);
        if (more)
            statement_behind_execute(s);
        return STEP_DONE;
    case 'S':
        if (found == FOUND_PART)
            break;
        send_sync(s, &m);
        return STEP_DONE;
    case 'H':
        if (found == FOUND_PART)
            break;
        client_forward(s, m.bytes);
        reply_say_fakes(s);
        return STEP_DONE;
    default: /* 'X' */
        leave(s);
        return STEP_WAIT;
    }
    wait_for(s, m.bytes);
    return STEP_WAIT;
}

/* ---- collecting, without a server ---- */

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
        if (!ends_with_its_nul(m)) /* PostgreSQL says what is wrong with it */
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
        bad_message(s, c->bytes);
        return COLLECT_WAIT;
    }
    if (found == FOUND_NOTHING)
        return COLLECT_WAIT; /* the rest is still under way */
    if (c->bytes == 0 && m.type == 'X') {
        leave(s);
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
        wait_for(s, c->bytes + m.bytes);
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

/* Read on from the start of the input until a segment is complete, or must go as it is. */
static enum step collect(struct session *s)
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

/* ---- the console ---- */

static enum step console_message(struct session *s)
{
    struct message m;
    enum found found = client_look(s, 0, &m);
    if (found == FOUND_NOTHING)
        return STEP_WAIT;
    if (found == FOUND_BAD || m.bytes > SEGMENT_MAX) {
        bad_message(s, 0);
        return STEP_WAIT;
    }
    if (found == FOUND_PART) {
        wait_for(s, m.bytes);
        return STEP_WAIT;
    }
    if (m.type == 'X') {
        leave(s);
        return STEP_WAIT;
    }
    if (m.type == 'Q') {
        s->worker->fleet->console(s, client_query_text(&m));
    } else if (m.type == 'S') {
        session_notice_ready(s);
        s->skip_to_sync = false;
    } else if (!s->skip_to_sync) {
        s->skip_to_sync = true;
        session_error(s, "0A000", "the console understands simple queries only", NULL,
                      "Use psql, or a driver's simple query mode.");
    }
    if (s->state == SESSION_READY)
        conn_in_drop(s->conn, m.bytes);
    return STEP_DONE;
}

/* ---- the loop ---- */

/* No more is sent until some answers have come; a segment without its Sync has to be told so. */
static void ask_for_answers(struct session *s)
{
    uint8_t bytes[8];
    struct put o = put_into(bytes, sizeof bytes);
    if (s->flushed || !s->segment_open || !s->server)
        return;
    put_flush(&o);
    conn_out_copy(s->server->conn, o.p, o.n);
    s->flushed = true;
}

static bool is_blocked(struct session *s)
{
    if (waiter_waits(&s->waiter) || s->floor_wait != FLOOR_WAIT_NONE || s->syncing ||
        s->guard_failed || s->console_busy || s->tx.begin_failed || s->state_of.look ||
        s->shape_look == SHAPE_ASKED || (s->copy_asked && !s->copy_due) || s->illegal)
        return true;
    if (s->replies.n >= REPLIES_MAX) {
        ask_for_answers(s);
        return true;
    }
    s->flushed = false;
    if (s->bringing && s->replies.n > 0)
        return true;
    /* CopyDone behind a Sync: that COPY may have failed before it. */
    if (s->sync_ignored && !s->copy_in && s->replies.n > 0 && s->stream_left == 0)
        return true;
    /* DEALLOCATE ALL, DISCARD ALL: names are looked up again when it has been answered. */
    if (s->forget_names && !s->segment_open && s->replies.n > 0 && s->stream_left == 0)
        return true;
    /* What a Query does to names. */
    if (s->query_names && !s->bringing && s->replies.n > 0 && s->stream_left == 0)
        return true;
    /* A SET: with what settings the next statement is read, is known when it has been answered. */
    if (s->state_of.touched && s->tx_status == 'I' && !s->segment_open && !s->copy_in &&
        s->replies.n > 0 && s->stream_left == 0)
        return true;
    /* On a replica the next segment waits for the answer to this one: it may belong elsewhere. */
    if (s->on_replica && !s->segment_open && s->replies.n > 0 && s->stream_left == 0)
        return true;
    /* Should our BEGIN fail, nothing behind this segment may run. */
    if (s->tx.begin_left > 0 && !s->segment_open && s->replies.n > 0 && s->stream_left == 0)
        return true;
    if (conn_out_full(s->conn)) /* it asks and does not read: on_drained() goes on */
        return true;
    if (s->server && conn_out_full(s->server->conn)) {
        conn_pause(s->conn);
        return true;
    }
    return false;
}

static enum step run_one(struct session *s)
{
    if (s->stream_left > 0)
        return stream(s) ? STEP_DONE : STEP_WAIT;
    if (s->console)
        return console_message(s);
    if (s->tx.state == TX_FAILED)
        return tx_failed_message(s);
    if (!s->server || tx_looks_ahead(s))
        return collect(s);
    if (state_asks_again(s))
        return STEP_WAIT;
    if (s->tx.begin_due)
        tx_begin_ahead(s);
    return send_message(s);
}

void session_run(struct session *s)
{
    if (s->running)
        return;
    if (s->replication) {
        replication_to_server(s);
        return;
    }
    s->running = true;
    while (s->state == SESSION_READY && s->conn->in.bytes > 0 && !is_blocked(s))
        if (run_one(s) == STEP_WAIT)
            break;
    s->running = s->shed_along = false;
    if (s->conn->ended && s->state == SESSION_READY)
        session_ended(s);
    if (s->leaving && s->state == SESSION_READY)
        session_leave(s);
}
