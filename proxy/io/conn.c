#include "proxy/io/conn.h"

#include "base/check.h"
#include "proxy/io/tls.h"

#include <errno.h>
#include <stdlib.h>

#define CONN_MAGIC 0x434f4e4eU

enum upcall {
    UP_CONNECTED = 1,
    UP_TLS_OK = 2,
    UP_TLS_FAILED = 4,
    UP_INPUT = 8,
    UP_DRAINED = 16,
    UP_QUIET = 32,
    UP_SETTLE = 64, /* look whether the last completion has come */
};

static struct buf_pool *pool_of(const struct conn *conn)
{
    return &conn->loop->bufs;
}

static const struct port_ops *port_of(const struct conn *conn)
{
    return conn->loop->port->ops;
}

static void owe(struct conn *conn, enum upcall what)
{
    conn->upcalls |= (uint8_t)what;
    if (list_empty(&conn->run_node))
        list_push_back(&conn->loop->run, &conn->run_node);
}

/* An operation ended: a closing or quiescing conn may have come to rest. */
static void look_settled(struct conn *conn)
{
    if (conn->closing)
        owe(conn, UP_SETTLE);
    if (conn->quiescing)
        owe(conn, UP_QUIET);
}

static void want_flush(struct conn *conn)
{
    if (list_empty(&conn->flush_node))
        list_push_back(&conn->loop->flush, &conn->flush_node);
}

static uint64_t token(const struct conn *conn, enum loop_op op)
{
    return loop_token(conn->loop, op, conn->slot);
}

/* ---- life ---- */

static void close_now(struct conn *conn);

static void close_deadline(struct timer *timer)
{
    struct conn *conn = LIST_ENTRY(timer, struct conn, close_timer);
    close_now(conn);
}

static struct conn *conn_alloc(struct loop *loop, int fd, bool unix_socket,
                               const struct conn_ops *ops, void *owner)
{
    struct conn *conn = calloc(1, sizeof *conn);
    CHECK(conn != NULL);
    conn->magic = CONN_MAGIC;
    conn->loop = loop;
    conn->ops = ops;
    conn->owner = owner;
    conn->fd = fd;
    conn->one_shot = unix_socket;
    conn->in_limit = CONN_IN_LIMIT;
    list_init(&conn->run_node);
    list_init(&conn->flush_node);
    list_init(&conn->starved_node);
    list_init(&conn->sending_node);
    timer_init(&conn->close_timer, close_deadline);
    conn->slot = loop_slot_take(loop, SLOT_CONN, conn);
    loop->conn_n++;
    return conn;
}

struct conn *conn_new(struct loop *loop, int fd, bool unix_socket, const struct conn_ops *ops,
                      void *owner)
{
    struct conn *conn = conn_alloc(loop, fd, unix_socket, ops, owner);
    want_flush(conn); /* arms the recv */
    return conn;
}

struct conn *conn_connect(struct loop *loop, const struct sockaddr *addr, socklen_t addr_bytes,
                          const struct conn_ops *ops, void *owner)
{
    int fd = loop->port->ops->socket(loop->port, addr->sa_family);
    if (fd < 0) {
        errno = -fd;
        return NULL;
    }
    struct conn *conn = conn_alloc(loop, fd, addr->sa_family == AF_UNIX, ops, owner);
    conn->connecting = true;
    conn->inflight++;
    loop->port->ops->connect(loop->port, token(conn, OP_CONNECT), fd, addr, addr_bytes);
    return conn;
}

static void drop_queues(struct conn *conn)
{
    seg_drop(pool_of(conn), &conn->in, conn->in.bytes);
    if (conn->sent_bytes == 0)
        seg_drop(pool_of(conn), &conn->out, conn->out.bytes);
    if (conn->tls) {
        seg_drop(pool_of(conn), &conn->tls->cipher_in, conn->tls->cipher_in.bytes);
        seg_drop(pool_of(conn), &conn->tls->plain_out, conn->tls->plain_out.bytes);
    }
}

static void conn_forget(struct conn *conn)
{
    struct loop *loop = conn->loop;
    drop_queues(conn);
    if (conn->tls)
        tls_free(conn->tls);
    timer_stop(&loop->timers, &conn->close_timer);
    list_remove(&conn->run_node);
    list_remove(&conn->flush_node);
    list_remove(&conn->starved_node);
    list_remove(&conn->sending_node);
    loop_slot_give(loop, conn->slot);
    loop->conn_n--;
    conn->magic = 0;
    free(conn);
}

/* The only place where a closing conn ends. */
static void settle(struct conn *conn)
{
    if (!conn->closing || !conn->shut || conn->inflight > 0)
        return;
    port_of(conn)->close(conn->loop->port, conn->fd);
    if (conn->ops->on_gone)
        conn->ops->on_gone(conn);
    conn_forget(conn);
}

static void stop_recv(struct conn *conn)
{
    if (conn->recv != RECV_ARMED)
        return;
    conn->recv = RECV_STOPPING;
    conn->cancelling = true;
    conn->inflight++;
    enum loop_op op = conn->recv_group == PORT_BULK ? OP_RECV_BULK : OP_RECV;
    port_of(conn)->cancel(conn->loop->port, token(conn, OP_CANCEL), token(conn, op));
}

/* shutdown() ends a blocked send. A connect in flight has to be cancelled, and so has the recv: on Linux 6.18 shutdown() now
 * and then leaves a multishot one armed until the peer hangs up, which a backend in a long query does not. */
static void close_now(struct conn *conn)
{
    conn->closing_flush = false;
    timer_stop(&conn->loop->timers, &conn->close_timer);
    if (conn->shut)
        return;
    conn->shut = true;
    drop_queues(conn);
    if (!conn->eof || conn->inflight > 0) /* else nothing waits for it, and close() follows */
        port_of(conn)->shutdown(conn->loop->port, conn->fd, SHUT_RDWR);
    stop_recv(conn);
    if (conn->connecting && conn->inflight > 0) {
        conn->inflight++;
        port_of(conn)->cancel(conn->loop->port, token(conn, OP_CANCEL), token(conn, OP_CONNECT));
    }
    owe(conn, UP_SETTLE);
}

void conn_close(struct conn *conn, const char *why)
{
    CHECK(conn->magic == CONN_MAGIC);
    if (!conn->closing) {
        conn->closing = true;
        conn->why = why;
    }
    close_now(conn);
}

void conn_close_flushed(struct conn *conn, const char *why)
{
    CHECK(conn->magic == CONN_MAGIC);
    if (conn->closing)
        return;
    conn->closing = true;
    conn->why = why;
    if (conn->eof && conn->end_err) {
        close_now(conn);
        return;
    }
    conn->closing_flush = true;
    timer_start(&conn->loop->timers, &conn->close_timer, conn->loop->now_ms + CONN_CLOSE_MS);
    want_flush(conn);
}

/* ---- receiving ---- */

static bool in_is_full(const struct conn *conn)
{
    uint32_t held = conn->in.bytes + (conn->tls ? conn->tls->cipher_in.bytes : 0);
    return held > conn->in_limit;
}

static bool may_recv(const struct conn *conn)
{
    /* A closing conn reads on to see the peer's end, so that no reset eats its last message. */
    if (conn->shut || conn->eof || conn->recv != RECV_OFF || conn->cancelling || conn->quiescing)
        return false;
    return conn->closing || (!conn->paused && !in_is_full(conn));
}

static void arm_recv(struct conn *conn)
{
    if (!may_recv(conn))
        return;
    struct loop *loop = conn->loop;
    const struct buf_pool *bufs = &loop->bufs;
    uint32_t small = loop->port->buffers[PORT_SMALL].count;
    uint32_t bulk = loop->port->buffers[PORT_BULK].count;
    bool use_bulk = conn->recv_run > CONN_BULK_AFTER && bulk - bufs->lent[PORT_BULK] > bulk / 8;
    bool none_free = !use_bulk && bufs->lent[PORT_SMALL] == small;
    if (none_free || (bufs->heap_bytes > BUF_HELD_MAX && !conn->essential)) {
        if (list_empty(&conn->starved_node)) {
            loop->stats.starved++;
            list_push_back(&loop->starved, &conn->starved_node);
        }
        return;
    }
    conn->recv_group = use_bulk ? PORT_BULK : PORT_SMALL;
    conn->recv = RECV_ARMED;
    conn->inflight++;
    unsigned flags =
        (conn->poll_first ? PORT_POLL_FIRST : 0) | (conn->one_shot ? PORT_ONE_SHOT : 0);
    conn->poll_first = false;
    port_of(conn)->recv(loop->port, token(conn, use_bulk ? OP_RECV_BULK : OP_RECV), conn->fd,
                        use_bulk ? PORT_BULK : PORT_SMALL, flags);
}

void conn_pause(struct conn *conn)
{
    conn->paused = true;
    stop_recv(conn);
}

void conn_resume(struct conn *conn)
{
    conn->quiescing = false;
    conn->paused = false;
    want_flush(conn);
    if (conn->tls && conn->tls->full && conn->in.bytes < conn->in_limit)
        owe(conn, UP_INPUT); /* the limit was raised, and what is needed may be here already */
}

static void mark_end(struct conn *conn, int err)
{
    if (!conn->eof || conn->end_err == 0)
        conn->end_err = (int16_t)err;
    conn->eof = true;
}

static void end_input(struct conn *conn, int err)
{
    mark_end(conn, err);
    if (!conn->closing)
        owe(conn, UP_INPUT);
    else if (err || !conn->closing_flush) /* who only stopped sending still gets our last bytes */
        close_now(conn);
}

static void take_bytes(struct conn *conn, enum port_group group, const struct port_event *ev)
{
    struct buf *buf = buf_provided(pool_of(conn), group, ev->buf_id);
    if (ev->res > 0 && !conn->closing) {
        CHECK((uint32_t)ev->res <= buf->cap);
        struct seg_queue *q = conn->tls ? &conn->tls->cipher_in : &conn->in;
        seg_push(pool_of(conn), q, buf, buf->data, (size_t)ev->res);
        conn->recv_run += (uint32_t)ev->res;
        owe(conn, UP_INPUT);
    }
    buf_unref(pool_of(conn), buf);
}

static void recv_ended(struct conn *conn, const struct port_event *ev)
{
    conn->inflight--;
    conn->recv = RECV_OFF;
    if (ev->res == -ENOBUFS) {
        conn->loop->stats.enobufs++;
        conn->poll_first = true;
        if (list_empty(&conn->starved_node))
            list_push_back(&conn->loop->starved, &conn->starved_node);
    } else if (ev->res == -EAGAIN) {
        conn->poll_first = true;
        want_flush(conn);
    } else if (ev->res == 0) {
        end_input(conn, 0);
    } else if (ev->res < 0 && ev->res != -ECANCELED && ev->res != -EINTR) {
        end_input(conn, -ev->res);
    } else {
        want_flush(conn);
    }
    look_settled(conn);
}

static void on_recv(struct conn *conn, enum port_group group, const struct port_event *ev)
{
    if (ev->buf_id != PORT_NO_BUF)
        take_bytes(conn, group, ev);
    if (!ev->more)
        recv_ended(conn, ev);
}

static void on_connect(struct conn *conn, const struct port_event *ev)
{
    conn->inflight--;
    conn->connecting = false;
    owe(conn, UP_CONNECTED);
    if (ev->res == 0) {
        want_flush(conn); /* what was queued meanwhile, and the recv */
        return;
    }
    mark_end(conn, -ev->res);
    if (conn->closing)
        close_now(conn);
}

/* ---- sending ---- */

struct seg_queue *conn_out(struct conn *conn)
{
    return conn->tls ? &conn->tls->plain_out : &conn->out;
}

uint32_t conn_out_bytes(const struct conn *conn)
{
    return conn->out.bytes + (conn->tls ? conn->tls->plain_out.bytes : 0);
}

bool conn_out_full(struct conn *conn)
{
    if (conn_out_bytes(conn) < CONN_OUT_HIGH)
        return false;
    conn->out_high = true;
    return true;
}

void conn_out_ref(struct conn *conn, struct buf *buf, struct slice bytes)
{
    if (conn->closing)
        return;
    seg_push(pool_of(conn), conn_out(conn), buf, bytes.p, bytes.n);
    want_flush(conn);
}

void conn_out_copy(struct conn *conn, const void *bytes, size_t n)
{
    if (conn->closing)
        return;
    seg_push_copy(pool_of(conn), conn_out(conn), bytes, n);
    want_flush(conn);
}

uint8_t *conn_out_reserve(struct conn *conn, size_t n)
{
    return seg_reserve(pool_of(conn), conn_out(conn), n);
}

void conn_out_commit(struct conn *conn, size_t n)
{
    seg_commit(pool_of(conn), conn_out(conn), conn->closing ? 0 : n);
    want_flush(conn);
}

void conn_out_queue(struct conn *conn, struct seg_queue *from)
{
    if (conn->closing) {
        seg_drop(pool_of(conn), from, from->bytes);
        return;
    }
    seg_move(conn_out(conn), from);
    want_flush(conn);
}

static void start_send(struct conn *conn)
{
    struct iovec iov[PORT_IOV_MAX];
    unsigned n = 0;
    size_t total = 0;
    for (struct seg *s = conn->out.head; s && n < PORT_IOV_MAX && total < CONN_SEND_MAX;
         s = s->next) {
        iov[n++] = (struct iovec){(void *)(uintptr_t)s->p, s->n};
        total += s->n;
    }
    unsigned flags = conn->send_again ? PORT_POLL_FIRST : 0;
    conn->send_again = false;
    conn->sent_bytes = (uint32_t)total;
    conn->inflight++;
    list_push_back(&conn->loop->sending, &conn->sending_node);
    if (n == 1)
        port_of(conn)->send(conn->loop->port, token(conn, OP_SEND), conn->fd, iov[0].iov_base,
                            total, flags);
    else
        port_of(conn)->sendv(conn->loop->port, token(conn, OP_SEND), conn->fd, iov, n, flags);
}

static void tell_drained(struct conn *conn)
{
    if (conn->out_high && conn_out_bytes(conn) <= CONN_OUT_LOW) {
        conn->out_high = false;
        owe(conn, UP_DRAINED);
    }
}

static void on_send(struct conn *conn, const struct port_event *ev)
{
    CHECK(conn->sent_bytes > 0);
    conn->inflight--;
    list_remove(&conn->sending_node);
    size_t asked = conn->sent_bytes;
    conn->sent_bytes = 0;
    look_settled(conn);
    if (conn->shut) {
        seg_drop(pool_of(conn), &conn->out, conn->out.bytes);
        return;
    }
    if (ev->res > 0) {
        CHECK((size_t)ev->res <= asked);
        seg_drop(pool_of(conn), &conn->out,
                 (size_t)ev->res); /* a part: the rest goes with the next */
        tell_drained(conn);
    } else if (ev->res == -EAGAIN) {
        conn->send_again = true;
    } else if (ev->res != -ECANCELED && ev->res != -EINTR) {
        seg_drop(pool_of(conn), &conn->out, conn->out.bytes);
        end_input(conn, ev->res ? -ev->res : EPIPE);
        return;
    }
    if (conn->unpinning) {
        conn->unpinning = false;
        conn->send_again = true;
        seg_unpin(pool_of(conn), &conn->out, 0);
    }
    want_flush(conn);
}

void conn_unpin(struct conn *conn)
{
    seg_unpin(pool_of(conn), &conn->out, conn->sent_bytes);
    if (conn->tls)
        seg_unpin(pool_of(conn), &conn->tls->plain_out, 0);
    if (conn->sent_bytes == 0 || conn->unpinning || !seg_has_provided(&conn->out))
        return;
    conn->unpinning = true;
    conn->loop->stats.unpins++;
    conn->inflight++;
    port_of(conn)->cancel(conn->loop->port, token(conn, OP_UNPIN), token(conn, OP_SEND));
}

static void flush_tls(struct conn *conn)
{
    if (conn->out.bytes >= CONN_OUT_LOW)
        return;
    if (tls_encrypt(conn->tls) == TLS_FAILED)
        end_input(conn, EPROTO);
    if (conn->closing_flush && conn->tls->plain_out.bytes == 0)
        tls_shutdown(conn->tls);
}

void conn_flush(struct conn *conn)
{
    if (conn->shut || conn->connecting)
        return;
    if (conn->tls)
        flush_tls(conn);
    if (conn->sent_bytes == 0 && conn->out.bytes > 0)
        start_send(conn);
    if (conn->closing_flush && conn_out_bytes(conn) == 0 && conn->sent_bytes == 0) {
        conn->closing_flush = false;
        if (conn->eof) {
            close_now(conn);
            return;
        }
        struct loop *loop = conn->loop;
        port_of(conn)->shutdown(loop->port, conn->fd, SHUT_WR);
        if (conn->close_timer.deadline_ms > loop->now_ms + CONN_LINGER_MS)
            timer_start(&loop->timers, &conn->close_timer, loop->now_ms + CONN_LINGER_MS);
    }
    arm_recv(conn);
}

/* ---- completions and upcalls ---- */

void conn_record(struct conn *conn, enum loop_op op, const struct port_event *ev)
{
    CHECK(conn->magic == CONN_MAGIC);
    CHECK(conn->inflight > 0);
    switch (op) {
    case OP_RECV:
        on_recv(conn, PORT_SMALL, ev);
        break;
    case OP_RECV_BULK:
        on_recv(conn, PORT_BULK, ev);
        break;
    case OP_SEND:
        on_send(conn, ev);
        break;
    case OP_CONNECT:
        on_connect(conn, ev);
        break;
    case OP_CANCEL: /* what became of the recv or the connect shows in its own event */
        conn->inflight--;
        conn->cancelling = false;
        want_flush(conn);
        look_settled(conn);
        break;
    case OP_UNPIN: /* of a stuck send, likewise */
        conn->inflight--;
        look_settled(conn);
        break;
    case OP_BELL:
    case OP_BELL_FAILED:
    case OP_WAKE:
    case OP_ACCEPT:
    case OP_WATCH:
        CHECK_UNREACHABLE();
    }
}

static void run_handshake(struct conn *conn)
{
    enum tls_rc rc = tls_handshake(conn->tls);
    want_flush(conn); /* the answer to the peer, or its alert */
    if (rc == TLS_OK)
        conn->ops->on_tls(conn, true);
    else if (rc != TLS_MORE || conn->eof)
        conn->ops->on_tls(conn, false);
}

static void run_input(struct conn *conn)
{
    if (conn->tls && conn->tls->handshaking) {
        run_handshake(conn);
        if (conn->closing || conn->tls->handshaking)
            return;
    }
    enum tls_rc rc = conn->tls ? tls_decrypt(conn->tls) : TLS_MORE;
    if (rc == TLS_END || rc == TLS_FAILED)
        mark_end(conn, rc == TLS_END ? 0 : EPROTO);
    conn->ended = conn->eof && rc != TLS_OK; /* TLS_OK: more is waiting to be decrypted */
    if (conn->tls)
        conn->tls->full = rc == TLS_OK;
    conn->ops->on_input(conn);
    if (conn->closing)
        return;
    /* Bytes that stay must not keep the buffers which everybody receives into. */
    seg_unpin(pool_of(conn), &conn->in, 0);
    if (conn->tls)
        seg_unpin(pool_of(conn), &conn->tls->cipher_in, 0);
    if (in_is_full(conn))
        stop_recv(conn);
    if (conn->recv == RECV_OFF || conn->out.bytes > 0) /* OpenSSL may have something to say */
        want_flush(conn);
}

static void run_quiet(struct conn *conn)
{
    bool undecrypted = conn->tls && conn->tls->cipher_in.bytes > 0; /* UP_INPUT comes first */
    if (conn->inflight == 0 && conn_out_bytes(conn) == 0 && !undecrypted)
        conn->ops->on_quiet(conn);
}

void conn_run(struct conn *conn)
{
    uint8_t upcalls = conn->upcalls;
    conn->upcalls = 0;
    if (upcalls & UP_CONNECTED && !conn->closing)
        conn->ops->on_connected(conn, conn->eof ? -conn->end_err : 0);
    if (upcalls & UP_INPUT && !conn->closing)
        run_input(conn);
    if (upcalls & UP_DRAINED && !conn->closing && conn->ops->on_drained)
        conn->ops->on_drained(conn);
    if (conn->quiescing && !conn->closing) {
        run_quiet(conn); /* may free the conn */
        return;
    }
    settle(conn); /* may free the conn */
}

void conn_in_drop(struct conn *conn, size_t n)
{
    seg_drop(pool_of(conn), &conn->in, n);
    if (conn->recv == RECV_OFF)
        want_flush(conn);
    if (conn->tls && (conn->tls->cipher_in.bytes > 0 || conn->eof != conn->ended))
        owe(conn, UP_INPUT); /* there is room to decrypt more */
}

const uint8_t *conn_in_contiguous(struct conn *conn, size_t n)
{
    return seg_contiguous(pool_of(conn), &conn->in, n);
}

void conn_in_again(struct conn *conn)
{
    owe(conn, UP_INPUT);
}

/* ---- moving to another loop ---- */

void conn_quiesce(struct conn *conn)
{
    CHECK(!conn->closing);
    conn->quiescing = true;
    stop_recv(conn);
    owe(conn, UP_QUIET);
}

int conn_take_fd(struct conn *conn, struct tls **tls)
{
    CHECK(conn->inflight == 0 && !conn->closing && !conn->eof);
    CHECK(conn->in.bytes == 0 && conn_out_bytes(conn) == 0);
    CHECK(!conn->tls || conn->tls->cipher_in.bytes == 0);
    int fd = conn->fd;
    *tls = conn->tls;
    conn->tls = NULL;
    conn_forget(conn);
    return fd;
}

void conn_adopt_tls(struct conn *conn, struct tls *tls)
{
    if (tls)
        tls->conn = conn;
    conn->tls = tls;
}

bool conn_start_tls(struct conn *conn, void *ssl)
{
    if (conn->in.bytes > 0) {
        tls_session_free(ssl);
        return false;
    }
    conn->tls = tls_new(conn, ssl);
    CHECK(conn->tls != NULL);
    owe(conn, UP_INPUT); /* a client's hello does not wait for bytes */
    return true;
}
