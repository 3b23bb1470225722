/* proxy/session/client_send.c: one message, with a server. */
#include "proxy/session/client_inside.h"
#include "proxy/session/settings.h"

#include "base/check.h"

/* ---- what SQL does to the session ---- */

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

/* ---- the messages ---- */

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
    if (m->bytes <= MESSAGE_WHOLE_MAX && !client_query_is_whole(m))
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

/* What a name means is known when what is on its way in this very segment has been answered: DEALLOCATE ALL, DISCARD ALL,
 * a Parse of a name that PREPARE may have taken. So the server is asked to answer now. */
static bool waits_for_names(struct session *s, bool unsure)
{
    if (!unsure || s->replies.n == 0 || s->copy_in) {
        s->flush_sent = false;
        return false;
    }
    if (!s->flush_sent)
        reply_ask(s);
    s->flush_sent = true;
    return true;
}

static enum step send_execute(struct session *s, const struct message *m)
{
    enum settings_rc ours = s->settings ? settings_message(s, m) : SETTINGS_PASS;
    if (ours != SETTINGS_PASS)
        return ours == SETTINGS_WAIT ? STEP_WAIT : STEP_DONE;
    struct slice body = {m->p + FRAME_HEAD_BYTES, m->bytes - FRAME_HEAD_BYTES};
    if (waits_for_names(s, statement_execute_is_unsure(s, body)))
        return STEP_WAIT;
    bool more = statement_execute(s, body);
    send_counted(s, m, REPLY_EXECUTE);
    if (more)
        statement_behind_execute(s);
    return STEP_DONE;
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
        client_wait_for(s, have);
        return STEP_WAIT;
    }
    const uint8_t *p = conn_in_contiguous(s->conn, have);
    struct message there = {m->type, n, p};
    enum settings_rc ours = whole ? settings_message(s, &there) : SETTINGS_PASS;
    if (ours != SETTINGS_PASS)
        return ours == SETTINGS_WAIT ? STEP_WAIT : STEP_DONE;
    if (statement_is_unsettled(s, m->type, p, have) || waits_for_names(s, s->forget_names))
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
    if (!s->copy_flushed)
        reply_ask(s);
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
        client_wait_for(s, m->bytes);
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
    bool wrong_length = client_is_type(*type);
    if (s->on_replica || wrong_length) {
        client_bad_message(s, 0);
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

enum step client_send_message(struct session *s)
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
        return send_execute(s, &m);
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
        client_leave(s);
        return STEP_WAIT;
    }
    client_wait_for(s, m.bytes);
    return STEP_WAIT;
}
