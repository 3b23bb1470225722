/* proxy/session/tx.c: transactions that begin before a server is known, and that move between nodes.
 *
 *   BEGIN alone        answered here. The first statement chooses the server, and our BEGIN goes ahead of it,
 *                      as Parse, Bind and Execute: should it fail, the server skips the statement.
 *   on a replica       each segment is collected before it is sent; what the primary must do moves there.
 *   no server          the client is told, and 25P02 from then on until it ends the transaction.
 *   SET default_...    changes the client's label once PostgreSQL has accepted it; the server is not kept.
 */
#include "proxy/session/session.h"

#include "base/check.h"
#include "proxy/session/settings.h"
#include "proxy/wire/take.h"

#define BEGIN_ANSWERS 3
#define WARNING_MAX 256

static const char aborted[] =
    "current transaction is aborted, commands ignored until end of transaction block";

static const struct conf *conf_of(const struct session *s)
{
    return s->worker->hub.snapshot->conf;
}

/* What a transaction of this session is when it says nothing; once it has a server, there. */
static struct tx_modes session_modes(const struct session *s)
{
    return tx_modes_over(s->label->tx, s->server ? s->server->tx : s->set->tx);
}

static void parse(const struct session *s, struct slice sql, struct tx_statement *st)
{
    tx_parse(sql, statement_sql_env(s).standard_conforming_strings, st);
}

/* ---- idle in transaction ---- */

static uint64_t idle_timeout_ms(const struct session *s)
{
    uint64_t ours = conf_of(s)->idle_transaction_timeout_ms;
    uint64_t theirs = s->server ? 0 : s->label->idle_in_tx_ms; /* a server sees to it itself */
    return !ours || (theirs && theirs < ours) ? theirs : ours;
}

void tx_idles(struct session *s)
{
    struct loop *loop = s->worker->loop;
    uint64_t timeout_ms = s->tx_status == 'I' ? 0 : idle_timeout_ms(s);
    if (timeout_ms > 0)
        timer_start(&loop->timers, &s->tx.idle_timer, loop->now_ms + timeout_ms);
    else
        timer_stop(&loop->timers, &s->tx.idle_timer);
}

static void on_idle_timer(struct timer *timer)
{
    struct session *s = LIST_ENTRY(timer, struct session, tx.idle_timer);
    bool busy = s->replies.n > 0 || s->segment_open || s->copy_in ||
                s->floor_wait != FLOOR_WAIT_NONE || waiter_waits(&s->waiter) || s->syncing;
    if (s->state == SESSION_READY && s->tx_status != 'I' && !busy)
        session_fatal(s, "25P03", "terminating connection due to idle-in-transaction timeout",
                      "idle_transaction_timeout of pgweir, or idle_in_transaction_session_timeout.",
                      NULL);
}

void tx_init(struct session *s)
{
    timer_init(&s->tx.idle_timer, on_idle_timer);
}

void tx_stop(struct session *s)
{
    timer_stop(&s->worker->loop->timers, &s->tx.idle_timer);
    label_unref(s->tx.startup_label);
    label_unref(s->tx.next_label);
    s->tx.startup_label = s->tx.next_label = NULL;
}

/* ---- the segment, while it is collected ---- */

void tx_segment_starts(struct session *s)
{
    struct tx *tx = &s->tx;
    tx->said = (struct tx_modes){0};
    tx->fate = TX_STAYS;
    tx->statements = 0;
    tx->begins = tx->leaves_state = false;
    tx->reads = true;
}

static struct slice message_text(struct session *s, const struct message *m)
{
    struct slice body = {m->p + FRAME_HEAD_BYTES, m->bytes - FRAME_HEAD_BYTES}, first, second;
    if (m->type == 'Q')
        return client_query_text(m);
    if (!take_cstr(&body, &first) || !take_cstr(&body, &second))
        return SLICE_NONE;
    return m->type == 'P' ? second : statement_text(s, second);
}

/* A portal that is named, or read in parts, has to stay where it is. */
static bool keeps_portal(const struct message *m)
{
    struct slice body = {m->p + FRAME_HEAD_BYTES, m->bytes - FRAME_HEAD_BYTES}, portal;
    if (!take_cstr(&body, &portal))
        return false;
    return portal.n > 0 || (m->type == 'E' && body.n == 4 && slice_u32(body.p) != 0);
}

/* A BEGIN that comes first, or a SET TRANSACTION. */
static bool says_modes(struct session *s, const struct message *m, bool first)
{
    struct tx_statement st;
    parse(s, message_text(s, m), &st);
    if (st.kind != TX_SET && (st.kind != TX_BEGIN || !first))
        return false;
    s->tx.said = tx_modes_over(st.modes, s->tx.said);
    if (st.kind == TX_SET &&
        (st.modes.access == TX_READ_WRITE || st.modes.isolation == TX_SERIALIZABLE))
        s->tx.fate = s->tx.fate > TX_MOVES ? s->tx.fate : TX_MOVES;
    s->tx.begins = s->tx.begins || st.kind == TX_BEGIN;
    return st.kind == TX_BEGIN;
}

void tx_saw(struct session *s, const struct message *m, const struct sql_facts *facts)
{
    const uint32_t other = SQL_F_NOT_READ | SQL_F_SAVEPOINT | SQL_F_TX_STATE | SQL_F_BEGIN;
    struct tx *tx = &s->tx;
    bool runs = m->type == 'Q' || m->type == 'E', first = s->segment.statements == 0;
    bool may_say = facts->class == SQL_TX_CONTROL || facts->class == SQL_TX_STATE ||
                   facts->class == SQL_SESSION_STATE;
    if (runs && tx->statements < 2)
        tx->statements = (uint8_t)(tx->statements + (facts->statements > 1 ? 2 : 1));
    if (m->type == 'B' || m->type == 'E')
        tx->leaves_state = tx->leaves_state || keeps_portal(m);
    if (may_say && strchr("QPB", m->type) && (first || !(facts->flags & SQL_F_BEGIN)) &&
        says_modes(s, m, first))
        return;
    if (m->type == 'B' && tx->begins && facts->flags & SQL_F_BEGIN) /* of the BEGIN parsed above */
        return;
    enum tx_fate fate = m->type == 'F' ? TX_PRIMARY_ONLY : tx_fate(facts); /* F: by its oid */
    tx->fate = fate > tx->fate ? (uint8_t)fate : tx->fate;
    tx->leaves_state = tx->leaves_state || tx_leaves_state(facts);
    tx->reads = tx->reads && !(facts->flags & other);
}

/* ---- where it runs ---- */

static bool is_optimistic(const struct session *s)
{
    const struct conf *conf = conf_of(s);
    return conf_tx_reads(conf, s->set->db, conf_user(conf, slice_of(s->set->user))) ==
           CONF_TX_READS_OPTIMISTIC;
}

/* A transaction of these modes, with this segment as its first. */
static enum route_tx route_of(const struct session *s, struct tx_modes said)
{
    const struct tx *tx = &s->tx;
    switch (tx_place(said, session_modes(s), is_optimistic(s))) {
    case TX_SERIALIZABLE_ON_PRIMARY:
        return ROUTE_TX_SERIALIZABLE;
    case TX_ON_REPLICA:
        return tx->fate == TX_STAYS ? ROUTE_TX_READ_ONLY : ROUTE_TX_PRIMARY;
    case TX_ON_ANY:
        return tx->reads && !tx->leaves_state && !s->segment_cut ? ROUTE_TX_OPTIMISTIC
                                                                 : ROUTE_TX_PRIMARY;
    case TX_ON_PRIMARY:
        break;
    }
    return ROUTE_TX_PRIMARY;
}

enum route_tx tx_route(const struct session *s)
{
    const struct tx *tx = &s->tx;
    if (tx->moved)
        return ROUTE_TX_MOVED;
    if (tx->state == TX_DEFERRED)
        return route_of(s, tx_modes_over(tx->said, tx->modes));
    if (tx->begins) {
        enum route_tx route = route_of(s, tx->said);
        bool all_on_standby =
            s->segment.flags & SQL_F_BEGIN_READ_ONLY || tx->said.access == TX_ACCESS_NONE;
        if (route == ROUTE_TX_READ_ONLY &&
            !all_on_standby) /* READ WRITE, READ ONLY: as it is written */
            return ROUTE_TX_PRIMARY;
        return route == ROUTE_TX_PRIMARY ? ROUTE_TX_BY_CLASS : route;
    }
    /* Autocommit, or a BEGIN among other statements of one message. */
    struct tx_modes session = session_modes(s);
    if (session.isolation == TX_SERIALIZABLE)
        return ROUTE_TX_SERIALIZABLE;
    bool control = s->segment.flags & (SQL_F_BEGIN | SQL_F_TX_END | SQL_F_SAVEPOINT);
    if (session.access == TX_READ_ONLY && !control && !s->segment_cut && tx->fate == TX_STAYS)
        return ROUTE_TX_READ_ONLY;
    return ROUTE_TX_BY_CLASS;
}

/* Each statement of READ COMMITTED has a snapshot of its own: the next one may have it elsewhere. */
static bool can_move(const struct session *s)
{
    struct tx_modes is = tx_modes_over(s->tx.modes, session_modes(s));
    return !s->tx.stuck && is.isolation != TX_REPEATABLE_READ && is.isolation != TX_SERIALIZABLE;
}

bool tx_looks_ahead(const struct session *s)
{
    return s->on_replica && s->tx.state == TX_OPEN && s->tx_status == 'T' && !s->tx.checked &&
           s->collected_bytes == 0 && !s->segment_open && s->replies.n == 0;
}

enum step tx_held_segment(struct session *s, bool is_local)
{
    struct tx *tx = &s->tx;
    if (is_local)
        return STEP_DONE;
    bool stays =
        tx->optimistic ? tx->reads && !tx->leaves_state && !s->segment_cut : tx->fate == TX_STAYS;
    s->second_try = false;
    if ((!stays || guard_knows(s)) && can_move(s)) {
        tx->moved = true;
        return lease_move(s);
    }
    tx->checked = s->segment_cut;
    if (tx_may_rerun(s) && !s->segment_cut)
        lease_guard(s);
    tx->modes = tx_modes_over(tx->said, tx->modes);
    tx->stuck = tx->stuck || tx->leaves_state || s->segment_cut;
    return STEP_DONE;
}

bool tx_may_rerun(const struct session *s)
{
    return !s->tx.shown || can_move(s);
}

bool tx_survives(const struct session *s)
{
    return s->on_replica && s->state == SESSION_READY && s->tx.state == TX_OPEN &&
           s->tx_status == 'T' && s->replies.n == 0 && !s->segment_open && s->stream_left == 0 &&
           !s->fatal_seen && can_move(s);
}

/* What writes in it fails on the primary too. */
bool tx_is_read_only(const struct session *s)
{
    struct tx_modes said = s->tx.state == TX_NONE ? s->tx.said : s->tx.modes;
    return tx_modes_over(said, session_modes(s)).access == TX_READ_ONLY ||
           (s->segment.flags & SQL_F_BEGIN_READ_ONLY);
}

/* ---- our BEGIN ---- */

void tx_attached(struct session *s)
{
    struct tx *tx = &s->tx;
    if (tx->state != TX_DEFERRED || s->state != SESSION_READY)
        return;
    tx->begin_due = true;
    tx->checked = s->segment_cut;
    tx->optimistic = s->on_replica && tx_place(tx_modes_over(tx->said, tx->modes), session_modes(s),
                                               true) == TX_ON_ANY;
    tx->stuck = tx->leaves_state || s->segment_cut;
}

void tx_begin_ahead(struct session *s)
{
    static const uint8_t bind_execute[] = "B\0\0\0\x0c\0\0\0\0\0\0\0\0"
                                          "E\0\0\0\x09\0\0\0\0";
    struct tx *tx = &s->tx;
    char text[TX_BEGIN_MAX];
    uint8_t bytes[TX_BEGIN_MAX + 16];
    struct put o = put_into(bytes, sizeof bytes);
    size_t n = tx_begin_text(tx->modes, text);
    put_parse(&o, SLICE_NONE, (struct slice){(const uint8_t *)text, n}, SLICE_NONE);
    CHECK(!o.full && tx_step(&tx->state, TX_EV_SENT) == TX_QUIET);
    conn_out_copy(s->server->conn, o.p, o.n);
    conn_out_copy(s->server->conn, bind_execute, sizeof bind_execute);
    stmt_set_unnamed(&s->server->stmts, NULL); /* it holds our BEGIN */
    tx->begin_due = false;
    tx->begin_left = BEGIN_ANSWERS;
    tx->modes = tx_modes_over(tx->said, tx->modes); /* should it begin once more, elsewhere */
}

bool tx_begin_answered(struct session *s, uint8_t type)
{
    static const char order[BEGIN_ANSWERS + 1] = "C21";
    if (type != (uint8_t)order[s->tx.begin_left - 1])
        return false;
    s->tx.begin_left--;
    return true;
}

/* The server skips what was sent behind it up to a Sync; a Query has none. */
void tx_begin_fails(struct session *s)
{
    static const uint8_t sync[] = {'S', 0, 0, 0, 4};
    s->tx.begin_left = 0;
    s->tx.begin_failed = !s->guard_failed;
    enum reply end = reply_drop_segment(s);
    if (end == REPLY_SYNC)
        return;
    if (end == REPLY_EXECUTE || s->stream_left > 0) { /* none: it has not been sent whole */
        if (!s->fatal_seen && !s->guard_failed)       /* or reply_input() runs it elsewhere */
            session_fatal(s, "08006", "the transaction could not be begun", NULL, NULL);
        return;
    }
    conn_out_copy(s->server->conn, sync, sizeof sync);
}

/* ---- what becomes of it ---- */

static void forget(struct tx *tx)
{
    tx->modes = (struct tx_modes){0};
    tx->optimistic = tx->stuck = tx->shown = tx->moved = tx->checked = tx->begin_due = false;
}

static void fails(struct session *s)
{
    CHECK(tx_step(&s->tx.state, TX_EV_REFUSED) == TX_QUIET);
    s->tx_status = (uint8_t)tx_status((enum tx_state)s->tx.state);
    s->tx.bound = TX_OTHER;
    s->tx.moved = false;
}

void tx_refused(struct session *s)
{
    if (s->tx.state == TX_DEFERRED)
        fails(s);
}

void tx_away(struct session *s)
{
    struct tx *tx = &s->tx;
    CHECK(tx->state == TX_FAILED || tx_step(&tx->state, TX_EV_AWAY) == TX_QUIET);
    s->tx_status = (uint8_t)tx_status((enum tx_state)tx->state);
    tx->begin_due = tx->begin_failed = tx->checked = tx->optimistic = false;
    tx->begin_left = 0;
    label_unref(tx->next_label);
    tx->next_label = NULL;
}

/* PostgreSQL has accepted a SET of the session. */
static void settle_label(struct session *s)
{
    struct tx *tx = &s->tx;
    struct label *was = s->label;
    bool known = s->server->label == was && !tx->reset_differs;
    label_unref(s->server->label);
    s->server->label = known ? label_ref(tx->next_label) : NULL;
    s->unknown_label = s->unknown_label && !known; /* what it reported is what was set */
    if (tx->startup_label)
        label_unref(was);
    else
        tx->startup_label = was;
    s->label = tx->next_label;
    tx->next_label = NULL;
}

void tx_ready(struct session *s)
{
    struct tx *tx = &s->tx;
    if (tx->next_label && s->tx_status == 'I')
        settle_label(s);
    if (tx->begin_failed || (tx->state == TX_NONE && s->tx_status == 'I'))
        return;
    if (tx->state == TX_NONE) { /* the client's own BEGIN has passed */
        tx->modes = tx->said;
        tx->stuck = !tx->begins || tx->leaves_state;
        tx->optimistic =
            s->on_replica && tx->begins && tx_place(tx->said, session_modes(s), true) == TX_ON_ANY;
    }
    CHECK(tx_step(&tx->state, s->tx_status == 'I' ? TX_EV_ENDED : TX_EV_BEGUN) == TX_QUIET);
    if (tx->state == TX_NONE)
        forget(tx);
    tx->shown = tx->state == TX_OPEN;
    tx->checked = false;
    tx_idles(s);
}

void tx_after_ready(struct session *s)
{
    if (!s->tx.begin_failed)
        return;
    s->tx.begin_failed = false;
    fails(s);
    session_notice_ready(s);
}

void tx_error(struct session *s)
{
    label_unref(s->tx.next_label);
    s->tx.next_label = NULL;
}

/* ---- settings of the session ---- */

bool tx_tracks(struct session *s, const struct sql_facts *facts, struct slice sql)
{
    struct tx *tx = &s->tx;
    struct tx_statement st;
    struct put_param changes[TX_SETTINGS_N];
    const struct label *startup = tx->startup_label ? tx->startup_label : s->label;
    unsigned n = 0;
    if (facts->class != SQL_SESSION_STATE || !sql.p || s->tx_status != 'I' || s->pinned ||
        s->session_pooling || tx->statements != 1 || tx->state != TX_NONE)
        return false;
    parse(s, sql, &st);
    if (st.kind == TX_SET) /* of a transaction that ends with it */
        return true;
    if (st.kind != TX_SET_SESSION)
        return false;
    tx->reset_differs = false;
    for (unsigned i = 0; i < TX_SETTINGS_N; i++) {
        bool resets = st.reset & 1U << i;
        const char *name = tx_setting_name(i);
        const char *value = resets ? label_value(startup, name) : tx_setting_value(i, st.modes);
        if (!value && !resets)
            continue;
        tx->reset_differs = tx->reset_differs || (resets && value);
        changes[n++] = (struct put_param){slice_of(name), value ? slice_of(value) : SLICE_NONE};
    }
    label_unref(tx->next_label);
    tx->next_label = label_change(&s->set->labels, s->label, changes, n);
    return tx->next_label != NULL;
}

void tx_forget_settings(struct session *s)
{
    if (!s->tx.startup_label)
        return;
    label_unref(s->label);
    s->label = s->tx.startup_label;
    s->tx.startup_label = NULL;
}

/* ---- answers of ours ---- */

static void say(struct session *s, enum tx_answer answer, bool start)
{
    uint8_t bytes[WARNING_MAX];
    struct put o = put_into(bytes, sizeof bytes);
    const char *least = label_value(s->label, "client_min_messages");
    bool warns = answer == TX_WARNS_BEGIN && (!least || strcmp(least, "error") != 0);
    if (warns)
        put_notice(&o,
                   &(struct wire_error){"WARNING", "25001",
                                        "there is already a transaction in progress", NULL, NULL});
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
        forget(tx);
    if (tx->state == TX_NONE)
        s->worker->stats.transactions++;
    s->tx_status = (uint8_t)tx_status((enum tx_state)tx->state);
    s->worker->stats.queries++;
    if (answer == TX_SAYS_COMMIT || answer == TX_SAYS_ROLLBACK)
        settings_tag(s, slice_of(answer == TX_SAYS_COMMIT ? "COMMIT" : "ROLLBACK"));
    say(s, answer, st->start);
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
    parse(s, client_query_text(m), &st);
    if (!is_ours(s, &st))
        return false;
    statement_forget_unnamed(s); /* as a simple query does */
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
        body.n != 2 || slice_u16(body.p) != 0 || !statement_adopt(s, m->p, m->bytes, w->say))
        return false;
    parse(s, text, &w->st);
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
    struct slice text = statement_text(s, name);
    if (text.p)
        parse(s, text, &st);
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
    if (s->segment.class != SQL_TX_CONTROL || s->server || s->pinned || s->session_pooling)
        return false;
    /* With more behind it, BEGIN saves nothing by coming later. */
    if (s->tx.state == TX_NONE && (!s->tx.begins || s->conn->in.bytes > bytes))
        return false;
    if (client_look(s, 0, &m) != FOUND_MESSAGE)
        return false;
    return m.type == 'Q' ? answers_query(s, &m) : answers_extended(s, bytes);
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
        parse(s, client_query_text(m), &st);
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
    parse(s, text, &st);
    if (!ends_it(&st))
        refuse(s, "25P02", aborted);
    else if (!statement_adopt(s, m->p, m->bytes, true))
        refuse(s, "42P05", "prepared statement already exists");
    else
        answer_with(s, &w, put_parse_complete);
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
    parse(s, text, st);
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
