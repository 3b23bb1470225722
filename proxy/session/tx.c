/* proxy/session/tx.c: transactions that begin before a server is known, and that move between nodes.
 *
 *   BEGIN alone        answered by tx_answer.c. The first statement chooses the server, and our BEGIN goes ahead of
 *                      it, as Parse, Bind, Execute and Close: should it fail, the server skips the statement.
 *   on a replica       each segment is collected before it is sent; what the primary must do moves there.
 *   no server          the client is told, and tx_answer.c says 25P02 from then on until it ends the transaction.
 */
#include "proxy/session/session.h"

#include "base/check.h"
#include "proxy/wire/take.h"

#define BEGIN_ANSWERS 4 /* 3 if its portal is not closed */
#define CLOSE_BYTES 7

static const struct conf *conf_of(const struct session *s)
{
    return s->worker->hub.snapshot->conf;
}

/* What a transaction of this session is when it says nothing; once it has a server, there. */
static struct tx_modes session_modes(const struct session *s)
{
    return tx_modes_over(s->label->tx, s->server ? s->server->tx : s->set->tx);
}

void tx_read(const struct session *s, struct slice sql, struct tx_statement *st)
{
    tx_parse(sql, !s->odd_strings, st);
}

/* ---- idle in transaction ---- */

static uint64_t idle_timeout_ms(const struct session *s)
{
    uint64_t ours = s->set->limits.idle_transaction_ms;
    uint64_t theirs = s->server ? 0 : s->label->idle_in_tx_ms; /* a server sees to it itself */
    return !ours || (theirs && theirs < ours) ? theirs : ours;
}

/* A server that is held sees to that itself, too. */
static uint64_t session_timeout_ms(const struct session *s)
{
    return s->server || !s->label ? 0 : s->label->idle_ms;
}

void tx_idles(struct session *s)
{
    struct loop *loop = s->worker->loop;
    uint64_t timeout_ms = s->tx_status == 'I' ? session_timeout_ms(s) : idle_timeout_ms(s);
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
    if (s->state != SESSION_READY || busy)
        return;
    if (s->tx_status == 'I' && s->server) /* the next lease's end starts it again */
        return;
    if (s->tx_status == 'I')
        session_fatal(s, "57P05", "terminating connection due to idle-session timeout", NULL, NULL);
    else
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
}

/* ---- the segment, while it is collected ---- */

void tx_segment_starts(struct session *s)
{
    struct tx *tx = &s->tx;
    tx->said = (struct tx_modes){0};
    tx->fate = TX_STAYS;
    tx->begins = tx->leaves_state = tx->too_late = false;
    tx->queried = tx->queried && tx->state != TX_NONE;
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

/* Where its first query ran PostgreSQL refuses it (25001); a node that it moved to would take it, and what it has
 * read would be of another snapshot than the isolation that it asks for allows. */
static bool is_too_late(const struct session *s, struct tx_modes wanted)
{
    struct tx_modes is = tx_modes_over(s->tx.modes, session_modes(s));
    uint8_t level = is.isolation ? is.isolation : TX_READ_COMMITTED;
    bool other_level = wanted.isolation && wanted.isolation != level;
    bool writes = wanted.access == TX_READ_WRITE && is.access == TX_READ_ONLY;
    return s->tx.queried && (other_level || writes);
}

/* A BEGIN that comes first, or a SET TRANSACTION. */
static bool says_modes(struct session *s, const struct message *m, bool first)
{
    struct tx_statement st;
    tx_read(s, message_text(s, m), &st);
    if (st.kind != TX_SET && (st.kind != TX_BEGIN || !first))
        return false;
    s->tx.said = tx_modes_over(st.modes, s->tx.said);
    if (st.kind == TX_SET && is_too_late(s, st.modes))
        s->tx.too_late = true;
    else if (st.kind == TX_SET &&
             (st.modes.access == TX_READ_WRITE || st.modes.isolation == TX_SERIALIZABLE))
        s->tx.fate = s->tx.fate > TX_MOVES ? s->tx.fate : TX_MOVES;
    s->tx.begins = s->tx.begins || st.kind == TX_BEGIN;
    return st.kind == TX_BEGIN;
}

void tx_saw(struct session *s, const struct message *m, const struct sql_facts *facts)
{
    const uint32_t other = SQL_F_NOT_READ | SQL_F_SAVEPOINT | SQL_F_TX_STATE | SQL_F_BEGIN;
    struct tx *tx = &s->tx;
    bool first = s->segment.statements == 0;
    bool may_say = facts->class == SQL_TX_CONTROL || facts->class == SQL_TX_STATE ||
                   facts->class == SQL_SESSION_STATE;
    tx->queried = tx->queried || facts->class == SQL_READ || facts->class == SQL_CATALOG_READ;
    if (m->type == 'B' || m->type == 'E')
        tx->leaves_state = tx->leaves_state || keeps_portal(m);
    if (may_say && strchr("QPB", m->type) && (first || !(facts->flags & SQL_F_BEGIN)) &&
        says_modes(s, m, first))
        return;
    if (m->type == 'B' && tx->begins && facts->flags & SQL_F_BEGIN) /* of the BEGIN parsed above */
        return;
    bool goes_on = s->segment.flags & SQL_F_TX_CLOSED && facts->flags & SQL_F_NOT_READ;
    enum tx_fate fate =
        m->type == 'F' || goes_on ? TX_PRIMARY_ONLY : tx_fate(facts); /* F: by its oid */
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
    stays = stays || tx->too_late;
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
    static const uint8_t bind_execute_close[] = "B\0\0\0\x0c\0\0\0\0\0\0\0\0"
                                                "E\0\0\0\x09\0\0\0\0\0"
                                                "C\0\0\0\x06P";
    _Static_assert(sizeof bind_execute_close == 13 + 10 + CLOSE_BYTES, "the Close is the last");
    struct tx *tx = &s->tx;
    char text[TX_BEGIN_MAX];
    uint8_t bytes[TX_BEGIN_MAX + 16];
    struct put o = put_into(bytes, sizeof bytes);
    size_t n = tx_begin_text(tx->modes, text);
    put_parse(&o, SLICE_NONE, (struct slice){(const uint8_t *)text, n}, SLICE_NONE);
    CHECK(!o.full && tx_step(&tx->state, TX_EV_SENT) == TX_QUIET);
    conn_out_copy(s->server->conn, o.p, o.n);
    conn_out_copy(s->server->conn, bind_execute_close,
                  sizeof bind_execute_close - (tx->portal ? CLOSE_BYTES : 0));
    stmt_set_unnamed(&s->server->stmts, NULL); /* it holds our BEGIN */
    tx->begin_due = false;
    tx->begin_left = BEGIN_ANSWERS;
    tx->begin_keeps = tx->portal;
    tx->portal = false;
    tx->modes = tx_modes_over(tx->said, tx->modes); /* should it begin once more, elsewhere */
}

bool tx_begin_answered(struct session *s, uint8_t type)
{
    static const char order[BEGIN_ANSWERS + 1] = "3C21";
    struct tx *tx = &s->tx;
    if (type != (uint8_t)order[tx->begin_left - 1])
        return false;
    tx->begin_left--;
    if (tx->begin_left == 1 && tx->begin_keeps)
        tx->begin_left = 0;
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
    s->end_seen = true; /* of the Query, which the server skips */
    conn_out_copy(s->server->conn, sync, sizeof sync);
}

/* ---- what becomes of it ---- */

void tx_forget(struct tx *tx)
{
    tx->modes = (struct tx_modes){0};
    tx->optimistic = tx->stuck = tx->shown = tx->moved = tx->checked = tx->begin_due = false;
    tx->portal = false;
}

static void fails(struct session *s)
{
    CHECK(tx_step(&s->tx.state, TX_EV_REFUSED) == TX_QUIET);
    s->tx_status = (uint8_t)tx_status((enum tx_state)s->tx.state);
    s->tx.bound = TX_OTHER;
    s->tx.moved = false;
}

/* What its client has sent behind a BEGIN must not run without it, whether or not it is here yet. */
void tx_refused(struct session *s)
{
    const uint32_t begins = s->segment.flags & (SQL_F_BEGIN | SQL_F_TX_CLOSED);
    if (s->tx.state == TX_NONE && begins == SQL_F_BEGIN)
        CHECK(tx_step(&s->tx.state, TX_EV_BEGIN) == TX_SAYS_BEGIN);
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
}

void tx_ready(struct session *s)
{
    struct tx *tx = &s->tx;
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
        tx_forget(tx);
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
