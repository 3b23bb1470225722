/* proxy/session/client.c: the client's messages: what is there, where its bytes go, whose turn it is. */
#include "proxy/session/client_inside.h"

#include <stdio.h>

/* ---- reading heads ---- */

bool client_is_type(uint8_t type)
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
    if (!client_is_type(*p) ||
        frame_read_head((struct slice){p, FRAME_HEAD_BYTES}, body_limit(*p), &head) != FRAME_OK)
        return FOUND_BAD;
    *m = (struct message){head.type, (size_t)FRAME_HEAD_BYTES + head.body_bytes, p};
    if (conn->in.bytes - offset < m->bytes)
        return FOUND_PART;
    if (m->bytes <= MESSAGE_WHOLE_MAX)
        m->p = conn_in_contiguous(conn, offset + m->bytes) + offset;
    return FOUND_MESSAGE;
}

void client_bad_message(struct session *s, size_t offset)
{
    char text[64] = "invalid message length";
    uint8_t type = conn_in_contiguous(s->conn, offset + 1)[offset];
    if (!client_is_type(type))
        snprintf(text, sizeof text, "invalid frontend message type %u", type);
    session_fatal(s, "08P01", text, NULL, NULL);
}

void client_wait_for(struct session *s, size_t bytes)
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

struct slice client_query_text(const struct message *m)
{
    size_t n = m->bytes - FRAME_HEAD_BYTES;
    const uint8_t *text = m->p + FRAME_HEAD_BYTES;
    return (struct slice){text, n > 0 && text[n - 1] == '\0' ? n - 1 : n};
}

bool client_query_is_whole(const struct message *m)
{
    size_t n = m->bytes - FRAME_HEAD_BYTES;
    const uint8_t *text = m->p + FRAME_HEAD_BYTES;
    return n > 0 && memchr(text, '\0', n) == text + n - 1;
}

/* ---- moving bytes ---- */

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

void client_leave(struct session *s)
{
    if (!session_owes(s))
        session_close(s, "client_left");
}

/* ---- the console ---- */

static enum step console_message(struct session *s)
{
    struct message m;
    enum found found = client_look(s, 0, &m);
    if (found == FOUND_NOTHING)
        return STEP_WAIT;
    if (found == FOUND_BAD || m.bytes > SEGMENT_MAX) {
        client_bad_message(s, 0);
        return STEP_WAIT;
    }
    if (found == FOUND_PART) {
        client_wait_for(s, m.bytes);
        return STEP_WAIT;
    }
    if (m.type == 'X') {
        client_leave(s);
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
    if (s->flushed || !s->segment_open || !s->server)
        return;
    reply_ask(s);
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
        return client_collect(s);
    if (state_asks_again(s))
        return STEP_WAIT;
    if (s->tx.begin_due)
        tx_begin_ahead(s);
    return client_send_message(s);
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
