/* proxy/session/tx_answer.c: what of a transaction is answered here, because no server knows of it (tx.h, tx_step()).
 *
 *   deferred   BEGIN, and a COMMIT or ROLLBACK right behind it: alone in a Query, or in a segment of the extended
 *              protocol that does nothing else. It is looked through first, and answered only if all of it can be.
 *              SET TRANSACTION, alone in a Query: our BEGIN will say it. What comes behind it decides the node, as the
 *              SET TRANSACTION SNAPSHOT of pg_dump -j does.
 *   failed     everything, until the client ends it.
 */
#include "proxy/session/session.h"

#include "base/check.h"
#include "proxy/session/settings.h"
#include "proxy/wire/take.h"

static const char aborted[] =
    "current transaction is aborted, commands ignored until end of transaction block";

/* ---- answers of ours ---- */

static void say(struct session *s, enum tx_answer answer, bool start)
{
    uint8_t bytes[64];
    struct put o = put_into(bytes, sizeof bytes);
    put_command_complete(&o, answer == TX_SAYS_COMMIT     ? "COMMIT"
                             : answer == TX_SAYS_ROLLBACK ? "ROLLBACK"
                             : start                      ? "START TRANSACTION"
                                                          : "BEGIN");
    CHECK(!o.full);
    conn_out_copy(s->conn, o.p, o.n);
}

static enum tx_event event_of(const struct tx_statement *st)
{
    switch ((enum tx_statement_kind)st->kind) {
    case TX_BEGIN:
        return TX_EV_BEGIN;
    case TX_COMMIT:
        return TX_EV_COMMIT;
    case TX_ROLLBACK:
        return TX_EV_ROLLBACK;
    case TX_OTHER:
    case TX_SET:
    case TX_SET_SESSION:
        break;
    }
    return TX_EV_OTHER;
}

/* Run it here: it is of the kind that tx_step() lets us answer. */
static void run_here(struct session *s, const struct tx_statement *st)
{
    struct tx *tx = &s->tx;
    enum tx_answer answer = tx_step(&tx->state, event_of(st));
    CHECK(answer > TX_TO_SERVER);
    if (tx->state == TX_DEFERRED)
        tx->modes = tx_modes_over(st->modes, tx->modes);
    else if (st->chain) /* ... of a failed one: the next is as that was */
        CHECK(tx_step(&tx->state, TX_EV_BEGIN) == TX_SAYS_BEGIN);
    else
        tx_forget(tx);
    if (tx->state == TX_NONE)
        s->worker->stats.transactions++;
    s->tx_status = (uint8_t)tx_status((enum tx_state)tx->state);
    s->worker->stats.queries++;
    if (answer == TX_SAYS_COMMIT || answer == TX_SAYS_ROLLBACK)
        settings_tag(s, slice_of(answer == TX_SAYS_COMMIT ? "COMMIT" : "ROLLBACK"));
    say(s, answer, st->start);
}

static bool sets_modes(struct session *s, const struct tx_statement *st)
{
    static const uint8_t tag[] = {'C', 0, 0, 0, 8, 'S', 'E', 'T', 0};
    if (st->kind != TX_SET || s->tx.state != TX_DEFERRED)
        return false;
    s->tx.modes = tx_modes_over(st->modes, s->tx.modes);
    s->worker->stats.queries++;
    conn_out_copy(s->conn, tag, sizeof tag);
    return true;
}

/* A lone statement that needs no server in this state. */
static bool is_ours(const struct session *s, const struct tx_statement *st)
{
    uint8_t state = s->tx.state;
    return !st->chain && tx_step(&state, event_of(st)) > TX_TO_SERVER;
}

static bool answers_query(struct session *s, const struct message *m)
{
    struct tx_statement st;
    tx_read(s, client_query_text(m), &st);
    bool set = sets_modes(s, &st);
    if (!set && !is_ours(s, &st))
        return false;
    statement_forget_unnamed(s); /* as a simple query does */
    s->tx.portal = false;
    if (!set)
        run_here(s, &st);
    client_drop(s, m->bytes);
    settings_ready(s);
    session_notice_ready(s);
    return true;
}

/* ---- the same in the extended protocol: a segment that does nothing else ---- */

struct walk {
    bool say; /* else it is only looked whether all can be answered */
    bool parsed, bound, ran;
    struct slice name; /* of the statement that was parsed; while looking only */
    struct tx_statement st;
};

static void answer_with(struct session *s, struct walk *w, void (*put)(struct put *o))
{
    uint8_t bytes[16];
    struct put o = put_into(bytes, sizeof bytes);
    if (!w->say)
        return;
    put(&o);
    conn_out_copy(s->conn, o.p, o.n);
}

static void put_no_parameters(struct put *o)
{
    static const uint8_t none[] = {'t', 0, 0, 0, 6, 0, 0};
    put_bytes(o, (struct slice){none, sizeof none});
}

static bool walk_parse(struct session *s, struct walk *w, const struct message *m)
{
    struct slice body = {m->p + FRAME_HEAD_BYTES, m->bytes - FRAME_HEAD_BYTES}, text;
    if (w->parsed || w->ran || !take_cstr(&body, &w->name) || !take_cstr(&body, &text) ||
        body.n != 2 || slice_u16(body.p) != 0 ||
        statement_adopt(s, m->p, m->bytes, w->say) != ADOPTED)
        return false;
    tx_read(s, text, &w->st);
    w->parsed = true;
    answer_with(s, w, put_parse_complete);
    return true;
}

/* The statement of this name, which is the parsed one or an earlier one. */
static bool walk_name(struct session *s, struct walk *w, struct slice name)
{
    struct tx_statement st = {.kind = TX_OTHER};
    if (w->say || (w->parsed && slice_equals(name, w->name)))
        return w->say ? true : is_ours(s, &w->st);
    if (w->parsed)
        return false;
    const struct stmt *stmt = statement_find(s, name);
    if (stmt && stmt->oids_n == 0) /* else PostgreSQL wants values for them */
        tx_read(s, stmt_text(stmt), &st);
    w->st = st;
    return is_ours(s, &st);
}

static bool walk_bind(struct session *s, struct walk *w, const struct message *m)
{
    struct slice body = {m->p + FRAME_HEAD_BYTES, m->bytes - FRAME_HEAD_BYTES}, portal, name;
    if (w->bound || !take_cstr(&body, &portal) || !take_cstr(&body, &name) || portal.n > 0)
        return false;
    /* No parameters; formats of nothing at all. */
    size_t formats = body.n >= 2 ? slice_u16(body.p) : 2, at = 2 + 2 * formats;
    if (formats > 1 || body.n < at + 4 || slice_u16(body.p + at) != 0 ||
        body.n != at + 4 + 2 * (size_t)slice_u16(body.p + at + 2) || !walk_name(s, w, name))
        return false;
    w->bound = true;
    answer_with(s, w, put_bind_complete);
    return true;
}

static bool walk_describe(struct session *s, struct walk *w, const struct message *m)
{
    struct slice body = {m->p + FRAME_HEAD_BYTES, m->bytes - FRAME_HEAD_BYTES}, name;
    if (body.n < 2)
        return false;
    bool statement = *body.p == 'S';
    body = slice_skip(body, 1);
    if (!take_cstr(&body, &name) ||
        (statement ? !walk_name(s, w, name) : !w->bound || w->ran || name.n > 0))
        return false;
    if (statement)
        answer_with(s, w, put_no_parameters);
    answer_with(s, w, put_no_data);
    return true;
}

static bool walk_execute(struct session *s, struct walk *w, const struct message *m)
{
    struct slice body = {m->p + FRAME_HEAD_BYTES, m->bytes - FRAME_HEAD_BYTES}, portal;
    if (!w->bound || w->ran || !take_cstr(&body, &portal) || portal.n > 0 || body.n != 4)
        return false;
    w->ran = true;
    if (w->say)
        run_here(s, &w->st);
    if (w->say && s->tx.state == TX_DEFERRED)
        s->tx.portal = true;
    return true;
}

static bool walk_message(struct session *s, struct walk *w, const struct message *m)
{
    switch (m->type) {
    case 'P':
        return walk_parse(s, w, m);
    case 'B':
        return walk_bind(s, w, m);
    case 'D':
        return walk_describe(s, w, m);
    case 'E':
        return walk_execute(s, w, m);
    case 'S':
        if (w->say)
            session_notice_ready(s);
        return w->ran;
    default:
        return false;
    }
}

static bool can_walk(struct session *s, size_t bytes, struct walk *w)
{
    struct message m;
    for (size_t at = 0; at < bytes; at += m.bytes)
        if (client_look(s, at, &m) != FOUND_MESSAGE || !walk_message(s, w, &m))
            return false;
    return true;
}

static bool answers_extended(struct session *s, size_t bytes)
{
    struct walk look = {0};
    if (!can_walk(s, bytes, &look))
        return false;
    struct walk walk = {.say = true, .st = look.st};
    for (size_t done = 0; done < bytes;) {
        struct message m;
        CHECK(client_look(s, 0, &m) == FOUND_MESSAGE && walk_message(s, &walk, &m));
        done += m.bytes;
        client_drop(s, m.bytes);
    }
    return true;
}

bool tx_answers(struct session *s, size_t bytes)
{
    struct message m;
    bool sets = s->segment.class == SQL_TX_STATE && s->tx.state == TX_DEFERRED;
    if ((s->segment.class != SQL_TX_CONTROL && !sets) || s->server || s->session_pooling ||
        s->statement_pooling)
        return false;
    /* With more behind it, BEGIN saves nothing by coming later. */
    if (s->tx.state == TX_NONE && (!s->tx.begins || s->conn->in.bytes > bytes))
        return false;
    if (client_look(s, 0, &m) != FOUND_MESSAGE)
        return false;
    if (m.type == 'Q')
        return answers_query(s, &m);
    return !sets && answers_extended(s, bytes);
}

/* ---- a transaction that failed before any server knew of it ---- */

static void refuse(struct session *s, const char *sqlstate, const char *message)
{
    session_error(s, sqlstate, message, NULL, NULL);
    s->skip_to_sync = true;
}

static bool ends_it(const struct tx_statement *st)
{
    return st->kind == TX_COMMIT || st->kind == TX_ROLLBACK;
}

static void failed_query(struct session *s, const struct message *m)
{
    struct tx_statement st = {.kind = TX_OTHER};
    struct sql_facts facts;
    struct sql_env env = statement_sql_env(s);
    uint8_t bytes[8];
    struct put o = put_into(bytes, sizeof bytes);
    sql_facts_init(&facts);
    facts.flags = 0;
    if (m->bytes <= MESSAGE_WHOLE_MAX) {
        tx_read(s, client_query_text(m), &st);
        sql_classify(client_query_text(m), &env, &facts);
    }
    statement_forget_unnamed(s);
    if (ends_it(&st)) {
        run_here(s, &st);
    } else if (facts.flags & SQL_F_EMPTY) {
        put_empty_query(&o);
        conn_out_copy(s->conn, o.p, o.n);
    } else {
        session_error(s, "25P02", aborted, NULL, NULL);
    }
    session_notice_ready(s);
}

static void failed_parse(struct session *s, const struct message *m)
{
    struct slice body = {m->p + FRAME_HEAD_BYTES, m->bytes - FRAME_HEAD_BYTES}, name, text;
    struct tx_statement st = {.kind = TX_OTHER};
    struct walk w = {.say = true};
    if (!take_cstr(&body, &name) || !take_cstr(&body, &text)) {
        session_fatal(s, "08P01", "invalid message format", NULL, NULL);
        return;
    }
    if (name.n == 0)
        statement_forget_unnamed(s);
    tx_read(s, text, &st);
    if (!ends_it(&st)) {
        refuse(s, "25P02", aborted);
        return;
    }
    switch (statement_adopt(s, m->p, m->bytes, true)) {
    case ADOPTED:
        answer_with(s, &w, put_parse_complete);
        return;
    case ADOPT_TAKEN:
        refuse(s, "42P05", "prepared statement already exists");
        return;
    case ADOPT_FULL:
        refuse(s, "53400", statement_full_message);
        return;
    }
}

/* Of the statement of this name: what it is. False: refused. */
static bool failed_name(struct session *s, struct slice name, struct tx_statement *st)
{
    struct slice text = statement_text(s, name);
    if (!text.p) {
        refuse(s, "26000",
               name.n ? "prepared statement does not exist"
                      : "unnamed prepared statement does not exist");
        return false;
    }
    tx_read(s, text, st);
    if (!ends_it(st))
        refuse(s, "25P02", aborted);
    return ends_it(st);
}

static void failed_bind(struct session *s, const struct message *m)
{
    struct slice body = {m->p + FRAME_HEAD_BYTES, m->bytes - FRAME_HEAD_BYTES}, portal, name;
    struct tx_statement st;
    struct walk w = {.say = true};
    if (!take_cstr(&body, &portal) || !take_cstr(&body, &name)) {
        session_fatal(s, "08P01", "invalid message format", NULL, NULL);
        return;
    }
    if (!failed_name(s, name, &st))
        return;
    s->tx.bound = st.chain ? TX_OTHER : st.kind; /* a chain begins anew: only as a Query */
    answer_with(s, &w, put_bind_complete);
}

static void failed_describe(struct session *s, const struct message *m)
{
    struct slice body = {m->p + FRAME_HEAD_BYTES, m->bytes - FRAME_HEAD_BYTES}, name;
    struct tx_statement st;
    struct walk w = {.say = true};
    bool statement = body.n > 0 && *body.p == 'S';
    body = slice_skip(body, body.n > 0);
    if (!take_cstr(&body, &name)) {
        session_fatal(s, "08P01", "invalid message format", NULL, NULL);
        return;
    }
    if (statement && !failed_name(s, name, &st))
        return;
    if (!statement && s->tx.bound == TX_OTHER) {
        refuse(s, "34000", "portal does not exist");
        return;
    }
    if (statement)
        answer_with(s, &w, put_no_parameters);
    answer_with(s, &w, put_no_data);
}

static void failed_execute(struct session *s)
{
    struct tx_statement st = {.kind = s->tx.bound};
    if (s->tx.bound == TX_OTHER) {
        refuse(s, "34000", "portal does not exist");
        return;
    }
    s->tx.bound = TX_OTHER;
    run_here(s, &st);
}

static void failed_close(struct session *s, const struct message *m)
{
    struct slice body = {m->p + FRAME_HEAD_BYTES, m->bytes - FRAME_HEAD_BYTES}, name;
    struct walk w = {.say = true};
    bool statement = body.n > 0 && *body.p == 'S';
    body = slice_skip(body, body.n > 0);
    if (!take_cstr(&body, &name)) {
        session_fatal(s, "08P01", "invalid message format", NULL, NULL);
        return;
    }
    if (statement && name.n > 0)
        stmt_names_remove(&s->names, name);
    else if (statement)
        statement_forget_unnamed(s);
    else
        s->tx.bound = TX_OTHER;
    answer_with(s, &w, put_close_complete);
}

static void failed_statement_message(struct session *s, const struct message *m)
{
    switch (m->type) {
    case 'P':
        failed_parse(s, m);
        return;
    case 'B':
        failed_bind(s, m);
        return;
    case 'D':
        failed_describe(s, m);
        return;
    case 'E':
        failed_execute(s);
        return;
    case 'C':
        failed_close(s, m);
        return;
    case 'Q':
        failed_query(s, m);
        return;
    case 'F':
        session_error(s, "25P02", aborted, NULL, NULL);
        session_notice_ready(s);
        return;
    case 'S':
        s->skip_to_sync = false;
        session_notice_ready(s);
        return;
    default: /* Flush; data of a COPY that never began */
        return;
    }
}

enum step tx_failed_message(struct session *s)
{
    struct message m;
    enum found found = client_look(s, 0, &m);
    if (found == FOUND_NOTHING)
        return STEP_WAIT;
    if (found == FOUND_BAD) {
        session_fatal(s, "08P01", "invalid frontend message type or length", NULL, NULL);
        return STEP_WAIT;
    }
    if (m.type == 'X') {
        session_close(s, "client_left");
        return STEP_WAIT;
    }
    /* What is too long to be seen whole does not end a transaction. */
    bool is_long = m.bytes > CONN_IN_LIMIT;
    if (found == FOUND_PART && !is_long)
        return STEP_WAIT;
    if (s->skip_to_sync && m.type != 'S') {
        client_stream(s, m.bytes, true);
        return STEP_DONE;
    }
    if (is_long && strchr("PB", m.type))
        refuse(s, "25P02", aborted);
    else if (is_long && strchr("QF", m.type))
        session_error(s, "25P02", aborted, NULL, NULL);
    else if (!is_long)
        failed_statement_message(s, &m);
    if (is_long && strchr("QF", m.type))
        session_notice_ready(s);
    if (s->state == SESSION_READY)
        client_stream(s, m.bytes, true);
    return STEP_DONE;
}
