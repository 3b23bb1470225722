/* proxy/session/reply.c: the server's messages: heads are read, bodies pass by reference.
 *
 * Every message that answers something is matched with what is expected; see enum reply. A message
 * that fits nothing closes the server: it would reach the wrong place otherwise.
 */
#include "proxy/session/session.h"
#include "proxy/session/settings.h"

#include "base/check.h"
#include "proxy/io/log.h"

#include <stdlib.h>

#define RING_FIRST 16
#define WHOLE_MAX \
    (64U << 10) /* of a server message that we look into; a longer one passes unread */

/* ---- what is expected ---- */

void reply_push(struct session *s, enum reply reply)
{
    struct reply_ring *r = &s->replies;
    if (r->n == r->cap) {
        uint16_t cap = r->cap ? (uint16_t)(r->cap * 2) : RING_FIRST;
        uint8_t *p = malloc(cap);
        CHECK(p != NULL && cap > r->cap);
        for (uint16_t i = 0; i < r->n; i++)
            p[i] = r->p[(r->head + i) & (r->cap - 1)];
        free(r->p);
        *r = (struct reply_ring){.p = p, .n = r->n, .cap = cap};
    }
    r->p[(r->head + r->n) & (r->cap - 1)] = (uint8_t)reply;
    if (++r->n == 1)
        deadline_asked(s);
}

bool reply_will_be_ready(const struct session *s)
{
    const struct reply_ring *r = &s->replies;
    for (uint16_t i = 0; i < r->n; i++)
        if (r->p[(r->head + i) & (r->cap - 1)] >= REPLY_SYNC)
            return true;
    return false;
}

static bool expects(const struct session *s, enum reply reply)
{
    return s->replies.n > 0 && s->replies.p[s->replies.head] == reply;
}

static bool expects_query(const struct session *s)
{
    return expects(s, REPLY_QUERY) || expects(s, REPLY_RESTORE);
}

/* What ends it has come: PostgreSQL says ReadyForQuery behind that, never before. */
static void note_end(struct session *s)
{
    s->end_seen = s->end_seen || expects_query(s) || expects(s, REPLY_FUNCTION);
}

static bool expects_sync(const struct session *s)
{
    return expects(s, REPLY_SYNC) || expects(s, REPLY_SYNC_INJECT);
}

static bool expects_our_describe(const struct session *s)
{
    return expects(s, REPLY_DESCRIBE_INJECT) || expects(s, REPLY_DESCRIBE_LEARN);
}

static enum reply pop(struct session *s)
{
    struct reply_ring *r = &s->replies;
    CHECK(r->n > 0);
    enum reply reply = (enum reply)r->p[r->head];
    r->head = (uint16_t)((r->head + 1) & (r->cap - 1));
    r->n--;
    return reply;
}

/* ---- towards the client ---- */

void reply_say(struct session *s, const void *bytes, size_t n)
{
    if (s->guard)
        seg_push_copy(&s->worker->loop->bufs, &s->held, bytes, n);
    else
        conn_out_copy(s->conn, bytes, n);
}

void reply_say_fakes(struct session *s)
{
    static const uint8_t close_complete[] = {'3', 0, 0, 0, 4};
    if (s->server_body_left > 0)
        return; /* not in the middle of another message */
    while (expects(s, REPLY_CLOSE_FAKE)) {
        statement_complete(s, pop(s));
        reply_say(s, close_complete, sizeof close_complete);
    }
}

/* The answer is good: what was held back goes out, and the segment will not be needed again. */
void reply_guard_passed(struct session *s)
{
    if (!s->guard)
        return;
    s->guard = false;
    statement_guard_passed(s);
    seg_drop(&s->worker->loop->bufs, &s->replay, s->replay.bytes);
    conn_out_queue(s->conn, &s->held);
}

void reply_ask(struct session *s)
{
    static const uint8_t flush[] = {'H', 0, 0, 0, 4};
    conn_out_copy(s->server->conn, flush, sizeof flush);
}

/* ---- errors ---- */

/* The rest of the segment gets no reply: the server skips to Sync. */
static void skip_expected(struct session *s)
{
    if (expects_query(s) || expects(s, REPLY_FUNCTION) || expects_sync(s))
        return; /* ReadyForQuery follows by itself */
    if (s->replies.n > 0)
        statement_failed(s, pop(s));
    while (s->replies.n > 0 && !expects_sync(s))
        statement_dropped(s, pop(s));
    if (s->replies.n == 0)
        s->skipping = true;
}

/* The server skips the segment that was sent. What ends it, and stays expected; REPLY_EXECUTE: its end is not
 * sent yet. */
enum reply reply_drop_segment(struct session *s)
{
    while (s->replies.n > 0 && !expects_sync(s) && !expects_query(s) && !expects(s, REPLY_FUNCTION))
        statement_dropped(s, pop(s));
    if (s->replies.n == 0)
        return REPLY_EXECUTE;
    return expects_sync(s) ? REPLY_SYNC : REPLY_QUERY;
}

/* As PostgreSQL 15 says it. Drivers tell by the routine that they must prepare anew. */
static const uint8_t stale_error[] = "E\0\0\0\x6cSERROR\0VERROR\0"
                                     "C0A000\0Mcached plan must not change result type\0"
                                     "Fplancache.c\0L730\0RRevalidateCachedQuery\0";
_Static_assert(sizeof stale_error == 1 + 0x6c, "the length counts all but the type");

/* The poison has failed: in place of its error, the one that is meant. Another error, such as that of
 * an aborted transaction, is the truth. */
static bool say_poisoned(struct session *s, const struct error_fields *f)
{
    if (!slice_is(f->sqlstate, "26000"))
        return false;
    bool refused = expects(s, REPLY_REFUSED), setting = expects(s, REPLY_SETTING);
    bool stale = expects(s, REPLY_STALE), full = expects(s, REPLY_FULL);
    if (refused || setting || stale || full)
        reply_guard_passed(s);
    if (refused)
        session_error(s, "0A000", client_refusal_message, NULL, client_refusal_hint);
    else if (setting)
        settings_say_error(s);
    else if (stale)
        reply_say(s, stale_error, sizeof stale_error);
    else if (full)
        statement_say_full(s);
    return refused || setting || stale || full;
}

static bool shows_name(const struct session *s, const struct error_fields *f)
{
    return expects(s, REPLY_DUPLICATE) ||
           (expects(s, REPLY_BIND) && slice_is(f->sqlstate, "08P01")) ||
           (expects(s, REPLY_EXECUTE) && slice_is(f->sqlstate, "42601"));
}

enum pass { PASS, SWALLOW, STOP };

static enum pass on_error(struct session *s, struct slice body)
{
    struct error_fields f;
    error_fields_read(body, &f);
    note_end(s);
    s->copy_in = false;
    if (s->sync_ignored)
        reply_ask_copy(s);
    bool begins = s->tx.begin_left > 0; /* the error is our BEGIN's */
    bool stale = s->guard && expects(s, REPLY_STALE);
    if (stale)
        guard_elsewhere(s);
    if (stale || (s->guard && guard_refused(s, &f))) {
        if (begins)
            tx_begin_fails(s);
        else
            skip_expected(s);
        return SWALLOW;
    }
    bool fatal = slice_is(f.severity, "FATAL") || slice_is(f.severity, "PANIC");
    if (fatal && tx_survives(s))
        return SWALLOW;
    guard_error_of_primary(s, &f);
    if (fatal)
        s->fatal_seen = true;
    settings_failed(s);
    state_error(s);
    if (expects_query(s))
        statement_query_error(s, f.sqlstate);
    if (s->forget_names) /* maybe it has run, and what failed is the commit behind it */
        stmt_set_doubt(&s->server->stmts);
    if (slice_is(f.sqlstate, "0A000") && slice_is(f.routine, "RevalidateCachedQuery"))
        statement_replan(s);
    bool poisoned = !begins && say_poisoned(s, &f);
    reply_guard_passed(s);
    if (!begins && shows_name(s, &f))
        poisoned = statement_tell_error(s, body, f.message);
    if (begins)
        tx_begin_fails(s);
    else
        skip_expected(s);
    if (s->bringing && !begins)
        statement_query_failed(s);
    return poisoned ? SWALLOW : PASS;
}

/* ---- COPY IN ----
 *
 * A server that reads COPY data throws Syncs away, one whose COPY has failed answers them: how many, is known to it
 * alone. So when an error comes behind such a Sync, we send Sync, Close and Flush of ours and nothing else, until
 * CloseComplete tells that all is answered. What came ahead of it, less one ReadyForQuery, is the client's.
 */

void reply_ask_copy(struct session *s)
{
    uint8_t bytes[64];
    struct put o = put_into(bytes, sizeof bytes);
    if (s->copy_asked && !s->copy_due)
        return;
    s->copy_due = s->stream_left > 0 && !s->stream_drop;
    if (!s->copy_asked)
        s->copy_told = false;
    s->copy_asked = true;
    if (s->copy_due)
        return;
    put_sync(&o);
    put_close_statement(&o, slice_of("_pgweir_none"));
    put_flush(&o);
    CHECK(!o.full);
    conn_out_copy(s->server->conn, o.p, o.n);
}

/* The first is swallowed, so each that follows tells the client of one more. False: it was that first one. */
static bool copy_is_told(struct session *s)
{
    bool client = s->copy_told;
    s->copy_told = true;
    if (client) { /* a Sync behind the error */
        reply_push(s, REPLY_SYNC);
        s->skipping = s->segment_open = false;
        s->segment_serial++;
    }
    return client;
}

static void on_copy_in(struct session *s)
{
    s->copy_in = true;
    s->copy_flushed = false;
    if (!expects(s, REPLY_EXECUTE) && !expects_query(s))
        return;
    enum reply asked = pop(s);
    while (expects(s, REPLY_SYNC)) { /* sent ahead */
        pop(s);
        s->sync_ignored = true;
    }
    struct reply_ring *r = &s->replies; /* CommandComplete still answers it */
    r->head = (uint16_t)((r->head + r->cap - 1) & (r->cap - 1));
    r->p[r->head] = (uint8_t)asked;
    r->n++;
}

/* ---- ReadyForQuery ---- */

/* A statement has ended, and a transaction has not. */
static bool is_block_refused(const struct session *s)
{
    return s->statement_pooling && s->tx_status != 'I';
}

static enum pass on_ready(struct session *s, struct slice body)
{
    if (body.n != 1 || !memchr("ITE", *body.p, 3))
        return STOP;
    if (s->copy_asked && s->replies.n == 0 && !copy_is_told(s))
        return SWALLOW;
    if (s->replies.n == 0)
        return STOP;
    enum reply reply = pop(s);
    bool query = reply == REPLY_QUERY || reply == REPLY_RESTORE;
    bool ours = reply == REPLY_SYNC_INJECT;
    bool ended = s->end_seen && (query || reply == REPLY_FUNCTION);
    if (reply != REPLY_SYNC && !ours && !ended)
        return STOP;
    s->end_seen = false;
    if (ours && !s->guard_failed) {
        s->tx_status = *body.p;
        return SWALLOW;
    }
    s->state_of.restored = false;
    s->state_of.ahead = 0;
    if (query) { /* which destroyed what was parsed ahead of it */
        stmt_set_unnamed(&s->server->stmts, NULL);
        statement_forget_unnamed(s);
        statement_query_drop(s);
    }
    s->copy_in = s->sync_ignored = s->copy_flushed = false;
    if (s->replies.n == 0) { /* the answer to DISCARD ALL too: nothing is sent behind it */
        s->forget_names = false;
        state_answered(s);
        s->server->work++;
    }
    s->tx_status = *body.p;
    if (s->tx_status == 'I')
        s->worker->stats.transactions++;
    catalogs_answered(s, s->tx_status == 'I' && s->replies.n == 0); /* more DDL may be on its way */
    if (s->guard_failed)
        return SWALLOW;
    if (!state_saw_no_data(s))
        floors_answered(s);
    reply_guard_passed(s);
    if (s->state_of.discarded)
        state_discard(s);
    settings_ready(s);
    tx_ready(s);
    deadline_ready(s);
    return s->tx.begin_failed || is_block_refused(s) ? SWALLOW : PASS;
}

/* ---- one message ---- */

static enum pass answer(struct session *s, enum reply plain, enum reply injected)
{
    if (expects(s, plain)) {
        statement_complete(s, pop(s));
        return PASS;
    }
    if (expects(s, injected)) {
        statement_complete(s, pop(s));
        return SWALLOW;
    }
    return STOP;
}

/* All prepared statements are gone, whatever becomes of the transaction. */
static void note_command(struct session *s, struct slice tag)
{
    if (!slice_is(tag, "DEALLOCATE ALL") && !slice_is(tag, "DISCARD ALL"))
        return;
    stmt_set_clear(&s->server->stmts);
    stmt_names_clear(&s->names);
    if (slice_is(tag, "DISCARD ALL"))
        settings_discard(s);
}

/* What rows are, or that there are none. */
static enum pass described(struct session *s, uint8_t type, struct slice body)
{
    bool ours = expects_our_describe(s), types = expects(s, REPLY_DESCRIBE_TYPES);
    if (ours || expects(s, REPLY_DESCRIBE_TOLD)) {
        statement_described(s, type, body);
        statement_complete(s, pop(s));
    } else if (expects(s, REPLY_DESCRIBE) || types) {
        pop(s);
    }
    return ours || types || s->state_of.restored ? SWALLOW : PASS;
}

/* ... and parameters: what rows are follows. */
static enum pass described_types(struct session *s, struct slice body)
{
    bool ours = expects_our_describe(s);
    if (ours || expects(s, REPLY_DESCRIBE_TOLD))
        statement_described_types(s, body);
    else if (!expects(s, REPLY_DESCRIBE) && !expects(s, REPLY_DESCRIBE_TYPES))
        return STOP;
    return ours ? SWALLOW : PASS;
}

/* What puts back what a RESET took away is being answered. */
static bool is_ours(const struct session *s)
{
    return s->state_of.restored || expects(s, REPLY_EXECUTE_INJECT);
}

static void restored_one(struct session *s)
{
    struct state_of *st = &s->state_of;
    st->restored = st->ahead == 0;
    st->ahead -= !st->restored;
}

/* A row, or the end of a command: this is the answer. */
static enum pass result(struct session *s, bool ends)
{
    reply_guard_passed(s);
    if (ends) { /* if it was a COPY, it has read all Syncs */
        s->sync_ignored = s->copy_flushed = false;
        note_end(s);
    }
    bool ours = is_ours(s);
    if (expects(s, REPLY_EXECUTE) || expects(s, REPLY_EXECUTE_INJECT)) {
        if (ends)
            pop(s);
        return ours ? SWALLOW : PASS;
    }
    if (!expects_query(s))
        return STOP;
    if (ends && expects(s, REPLY_RESTORE))
        restored_one(s);
    return ours ? SWALLOW : PASS;
}

/* Behind DISCARD ALL those are the server's own, and the client is told of its login's (state_discard()). */
static enum pass note_status(struct session *s, struct slice body)
{
    struct slice name, value;
    if (!server_note_status(s->server, body) || !auth_read_param_status(body, &name, &value))
        return STOP;
    if (s->state_of.discarded)
        return SWALLOW;
    startup_note_status(s, name, value);
    told_unref(s->told);
    s->told = told_ref(pool_told(s->server));
    state_reported(s);
    return PASS;
}

/* A notification names a server's process. Who sent it by a client of ours is called what that client was told at its
 * login: it tells its own by that. */
static enum pass on_notification(struct session *s, struct slice body)
{
    uint8_t head[FRAME_HEAD_BYTES + 4];
    struct put o = put_into(head, sizeof head);
    if (body.n < 4)
        return STOP;
    uint32_t backend = slice_u32(body.p);
    uint32_t client =
        backend == s->server->backend_pid ? s->pid : cluster_client_of(s->set->cluster, backend);
    if (!client)
        return PASS;
    put_u8(&o, 'A');
    put_u32(&o, (uint32_t)(4 + body.n));
    put_u32(&o, client);
    reply_say(s, o.p, o.n);
    reply_say(s, body.p + 4, body.n - 4);
    return SWALLOW;
}

static enum pass on_message(struct session *s, uint8_t type, struct slice body)
{
    if (s->tx.begin_left > 0 && !strchr("ENAS", type))
        return tx_begin_answered(s, type) ? SWALLOW : STOP;
    switch (type) {
    case 'D': /* DataRow */
    case 'd': /* CopyData */
    case 'c': /* CopyDone: CommandComplete follows */
    case 'H': /* CopyOutResponse */
        return result(s, false);
    case 'C': /* CommandComplete */
        if (body.n > 0 && !is_ours(s)) {
            settings_tag(s, (struct slice){body.p, body.n - 1});
            if (s->forget_names)
                note_command(s, (struct slice){body.p, body.n - 1});
            state_tag(s, (struct slice){body.p, body.n - 1});
        }
        if (expects_query(s))
            statement_query_tag(s);
        catalogs_answered(s, false);
        return result(s, true);
    case 'I': /* EmptyQueryResponse */
    case 's': /* PortalSuspended */
        return result(s, true);
    case 'T': /* RowDescription */
    case 'n': /* NoData */
        return described(s, type, body);
    case 't': /* ParameterDescription */
        return described_types(s, body);
    case 'Z':
        return on_ready(s, body);
    case 'E':
        return on_error(s, body);
    case '1':
        return answer(s, REPLY_PARSE, REPLY_PARSE_INJECT);
    case '2':
        return answer(s, REPLY_BIND, REPLY_BIND_INJECT);
    case '3':
        if (s->copy_asked && s->copy_told && s->replies.n == 0) {
            s->copy_asked = s->sync_ignored = false;
            return SWALLOW;
        }
        return answer(s, REPLY_CLOSE, REPLY_CLOSE_INJECT);
    case 'G':
        reply_guard_passed(s);
        on_copy_in(s);
        return PASS;
    case 'V':
        note_end(s);
        return expects(s, REPLY_FUNCTION) ? PASS : STOP;
    case 'S':
        return note_status(s, body);
    case 'N': /* of a statement that its client has prepared before, it was told then */
        return expects(s, REPLY_PARSE_INJECT) ? SWALLOW : PASS;
    case 'A':
        return on_notification(s, body);
    default:
        return STOP;
    }
}

static bool is_fatal(struct slice body)
{
    struct error_fields f;
    error_fields_read(body, &f);
    return slice_is(f.severity, "FATAL") || slice_is(f.severity, "PANIC");
}

/* A startup parameter is refused: PostgreSQL ends a session with that. */
static void say_fatal(struct session *s, struct slice body)
{
    size_t cap = FRAME_HEAD_BYTES + body.n + 2 * sizeof "FATAL";
    uint8_t *p = malloc(cap);
    CHECK(p != NULL);
    struct put o = put_into(p, cap);
    error_fields_put(&o, body, slice_of("FATAL"), SLICE_NONE);
    CHECK(!o.full);
    reply_say(s, o.p, o.n);
    free(p);
}

/* The answers to the label's SQL are ours. */
static enum pass on_sync_message(struct session *s, uint8_t type, struct slice body)
{
    switch (type) {
    case 'S':
        return server_note_status(s->server, body) ? SWALLOW : STOP;
    case 'E':
        if (is_fatal(body))
            return SWALLOW; /* the server goes, and with it what it said: nothing was asked of it yet */
        s->sync_failed = true;
        reply_guard_passed(s);
        if (s->state != SESSION_GREETING || body.n == 0)
            return PASS; /* PostgreSQL's own words about the setting */
        say_fatal(s, body);
        return SWALLOW;
    case 'Z':
        s->syncing = false;
        return body.n == 1 && *body.p == 'I' ? SWALLOW : STOP;
    case 'A':
        return on_notification(s, body);
    case 'T':
    case 'D':
    case 'C':
    case 'N':
        return SWALLOW;
    default:
        return STOP;
    }
}

static enum pass on_look_message(struct session *s, uint8_t type, struct slice body)
{
    switch (state_look_message(s, type, body)) {
    case LOOK_NOTIFICATION:
        return on_notification(s, body);
    case LOOK_STOP:
        return STOP;
    case LOOK_MORE:
    case LOOK_ENDED:
        return SWALLOW;
    }
    CHECK_UNREACHABLE();
}

/* ---- the stream ---- */

static bool looked_into(const struct session *s, uint8_t type)
{
    if ((type == 'T' || type == 't') &&
        (expects(s, REPLY_DESCRIBE_TOLD) || expects_our_describe(s)))
        return true;
    return type == 'Z' || type == 'E' || type == 'S' || type == 'A' ||
           (type == 'D' && s->state_of.look) ||
           (type == 'C' && (s->forget_names || s->state_of.touched || settings_watch(s)));
}

/* Move up to n bytes of the server's input to the client, or to nowhere. */
static size_t move(struct session *s, struct conn *from, size_t n, bool drop)
{
    struct seg *seg = from->in.head;
    size_t part = n < seg->n ? n : seg->n;
    if (!drop) {
        if (s->guard)
            seg_push_copy(&s->worker->loop->bufs, &s->held, seg->p, part);
        else
            conn_out_ref(s->conn, seg->buf, (struct slice){seg->p, part});
    }
    conn_in_drop(from, part);
    return part;
}

/* Rows that follow in the same slice go along: most of a large result takes this path. */
static size_t more_rows(const struct seg *seg, size_t n)
{
    while (seg->n - n >= FRAME_HEAD_BYTES && seg->p[n] == 'D') {
        uint32_t bytes = slice_u32(seg->p + n + 1);
        if (bytes < 4 || bytes > seg->n - n - 1)
            break;
        n += 1 + (size_t)bytes;
    }
    return n;
}

static void in_doubt(struct session *s)
{
    LOG(LOG_WARN, "server.unexpected_message", LF_U("client", s->serial),
        LF_S("node", s->set->cluster->nodes[s->server->pool->node].label));
    struct server *server = s->server;
    s->server = NULL;
    pool_discard(server, "unexpected_message");
    session_end(s, "08P01", "the server sent a message that fits nothing that was asked", NULL);
}

enum next { NEXT_MESSAGE, NEXT_WAIT, NEXT_DONE };

static void after_ready(struct session *s)
{
    struct server *server = s->server;
    if (s->guard_failed) {
        bool other = s->replies.n == 0 && !s->segment_open;
        CHECK(other);
        s->server = NULL;
        if (s->tx_status == 'I' && !s->fatal_seen)
            pool_release(server);
        else if (!s->fatal_seen)
            pool_release_after(server, CLEAN_ROLLBACK);
        else
            pool_discard(server, "replica_refused");
        lease_rerun(s, true);
        return;
    }
    if (is_block_refused(s)) { /* the server rolls it back */
        session_fatal(s, "08P01", "transaction blocks not allowed in statement pooling mode", NULL,
                      NULL);
        return;
    }
    reply_say_fakes(s);
    if (s->tx_status == 'I')
        lease_end_if_idle(s);
    tx_after_ready(s);
}

static enum next take_message(struct session *s, struct conn *from)
{
    struct frame_head head;
    if (s->server_body_left > 0) {
        if (from->in.bytes == 0)
            return NEXT_WAIT;
        s->server_body_left -= (uint32_t)move(s, from, s->server_body_left, s->server_drop);
        reply_say_fakes(s);
        return NEXT_MESSAGE;
    }
    if (from->in.bytes < FRAME_HEAD_BYTES)
        return NEXT_WAIT;
    const uint8_t *p = conn_in_contiguous(from, FRAME_HEAD_BYTES);
    if (frame_read_head((struct slice){p, FRAME_HEAD_BYTES}, FRAME_BODY_MAX, &head) != FRAME_OK) {
        in_doubt(s);
        return NEXT_DONE;
    }
    size_t total = (size_t)FRAME_HEAD_BYTES + head.body_bytes;
    struct slice body = SLICE_NONE;
    if (looked_into(s, head.type) && total <= WHOLE_MAX) {
        if (from->in.bytes < total)
            return NEXT_WAIT;
        p = conn_in_contiguous(from, total);
        body = (struct slice){p + FRAME_HEAD_BYTES, head.body_bytes};
    }
    bool syncing = s->syncing, looking = s->state_of.look != NULL;
    enum pass pass = syncing   ? on_sync_message(s, head.type, body)
                     : looking ? on_look_message(s, head.type, body)
                               : on_message(s, head.type, body);
    if (pass == STOP) {
        in_doubt(s);
        return NEXT_DONE;
    }
    if (!s->server) /* that message was the session's end, and its input is gone */
        return NEXT_DONE;
    size_t run = pass == PASS && head.type == 'D' && total <= from->in.head->n && !s->guard
                     ? more_rows(from->in.head, total)
                     : total;
    s->server_drop = pass == SWALLOW;
    s->server_body_left = (uint32_t)(run - move(s, from, run, s->server_drop));
    if (head.type == 'Z') {
        if (syncing)
            lease_after_sync(s);
        else if (looking)
            lease_after_look(s);
        else
            after_ready(s);
        return s->server && !syncing && !looking ? NEXT_MESSAGE : NEXT_DONE;
    }
    if (s->replies.n > 0)
        reply_say_fakes(s);
    return NEXT_MESSAGE;
}

void reply_input(struct session *s)
{
    struct server *server = s->server;
    CHECK(server != NULL);
    if (s->replication) {
        replication_to_client(s);
        return;
    }
    struct conn *from = server->conn;
    enum next next = NEXT_MESSAGE;
    bool asked = s->copy_asked;
    while (next == NEXT_MESSAGE && s->server == server)
        next = take_message(s, from);
    if (asked && !s->copy_asked) /* which was the last that kept it */
        lease_end_if_idle(s);
    if (s->guard_failed && s->server == server && s->replies.n == 0) {
        s->server = NULL; /* it skips up to a Sync that was not sent: no ReadyForQuery will come */
        pool_discard(server, "replica_refused");
        lease_rerun(s, true);
    }
    if (s->guard && s->held.bytes > GUARD_HELD_MAX)
        reply_guard_passed(s);
    if (s->server == server && conn_out_full(s->conn))
        conn_pause(from);
    if (s->state == SESSION_READY)
        session_run(s);
}
