/* proxy/io/conn.h: a socket with an input queue and an output queue.
 *
 * Life    conn_new() or conn_connect() -> OPEN -> conn_close() -> last completion -> on_gone() ->
 *         freed. Closing is a request: the conn stays valid until on_gone() returns. The first
 *         reason stays.
 * Input   bytes lie in `in` until the owner drops them. What the owner leaves there over a turn is
 *         copied out of the provided buffers. Over in_limit the recv is stopped until it is drained.
 * Output  by reference (conn_out_ref) or copied (conn_out_copy, conn_out_reserve). One send in
 *         flight. Over CONN_OUT_HIGH conn_out_full() is true and the owner stops the source;
 *         on_drained() comes when it has fallen below CONN_OUT_LOW.
 * Upcalls run in step 4 of the turn, never from inside a call of the owner's. After any of them
 *         the conn may be closing, never freed.
 * Limits  CONN_SEND_MAX bytes in one send; CONN_CLOSE_MS for the last bytes of a closing conn, then
 *         CONN_LINGER_MS for the peer to hang up.
 */
#ifndef IO_CONN_H
#define IO_CONN_H

#include "proxy/io/loop.h"

#define CONN_OUT_HIGH (256U << 10)
#define CONN_OUT_LOW (64U << 10)
#define CONN_IN_LIMIT (64U << 10)
#define CONN_SEND_MAX (512U << 10)
#define CONN_BULK_AFTER (1U << 20) /* bytes received in a row before the bulk buffers are used */
#define CONN_CLOSE_MS 2000
#define CONN_LINGER_MS 300 /* for the peer to hang up once the last byte has been sent */

struct conn;
struct tls;

struct conn_ops {
    const char *name;
    void (*on_connected)(struct conn *conn, int err); /* connect: 0 or -errno */
    void (*on_tls)(struct conn *conn, bool ok);       /* the TLS handshake ended */
    void (*on_input)(struct conn *conn);   /* new bytes in conn->in, or conn->ended turned true */
    void (*on_drained)(struct conn *conn); /* the output fell below CONN_OUT_LOW */
    void (*on_quiet)(struct conn *conn);   /* answer to conn_quiesce() */
    void (*on_gone)(struct conn *conn);    /* the last completion came; conn is freed after this */
};

enum conn_recv { RECV_OFF, RECV_ARMED, RECV_STOPPING };

struct conn {
    uint32_t magic;
    uint32_t slot;
    struct loop *loop;
    const struct conn_ops *ops;
    void *owner;
    struct tls *tls;
    struct seg_queue in, out;
    struct list run_node, flush_node, starved_node, sending_node;
    struct timer close_timer;
    int fd;
    uint32_t sent_bytes; /* in the send that is in flight; 0: none */
    uint32_t in_limit;
    uint32_t recv_run; /* bytes received since the owner last called conn_expect_small() */
    uint16_t inflight; /* operations whose last event has not come */
    int16_t end_err;   /* ended: 0 for end of stream, else errno */
    uint8_t recv;      /* enum conn_recv */
    uint8_t recv_group;
    uint8_t upcalls; /* what to tell the owner */
    bool one_shot;   /* AF_UNIX: one recv at a time (spec/io_uring.md 2.4) */
    bool essential;  /* it receives whatever BUF_HELD_MAX says: its bytes free others' */
    bool paused;     /* the owner wants no more input now */
    bool poll_first; /* the next recv waits for data first */
    bool send_again; /* the next send waits for room first */
    bool cancelling; /* a cancel of the recv is in flight */
    bool unpinning;  /* a cancel of the send is in flight */
    bool out_high;   /* the output went over CONN_OUT_HIGH and on_drained() is owed */
    bool connecting; /* nothing is sent or received yet */
    bool eof;        /* the socket will bring no more bytes */
    bool ended;      /* and the owner has been shown all of them */
    bool closing;
    bool closing_flush; /* closing, but what is queued is sent first */
    bool shut;
    bool quiescing;
    const char *why; /* why it was closed: an event word for the log */
};

/* Take a connected socket. The conn starts to receive at once. */
struct conn *conn_new(struct loop *loop, int fd, bool unix_socket, const struct conn_ops *ops,
                      void *owner);
/* Start to connect; on_connected() follows. addr is copied. NULL: no socket (errno). */
struct conn *conn_connect(struct loop *loop, const struct sockaddr *addr, socklen_t addr_bytes,
                          const struct conn_ops *ops, void *owner);

/* Close now; queued output is dropped. why: a word that does not change. */
void conn_close(struct conn *conn, const char *why);
/* Send what is queued, then close; at most CONN_CLOSE_MS. Input is ignored from now on. */
void conn_close_flushed(struct conn *conn, const char *why);

/* Back-pressure: stop and start receiving. */
void conn_pause(struct conn *conn);
void conn_resume(struct conn *conn);
static inline void conn_expect_small(struct conn *conn)
{
    conn->recv_run = 0;
}

/* Input. */
void conn_in_drop(struct conn *conn, size_t n);
const uint8_t *conn_in_contiguous(struct conn *conn, size_t n);
/* Call on_input() again in this turn or the next (bytes were left, and the owner can go on now). */
void conn_in_again(struct conn *conn);

/* Output. */
struct seg_queue *conn_out(struct conn *conn); /* the queue that plain bytes go to */
void conn_out_ref(struct conn *conn, struct buf *buf, struct slice bytes);
void conn_out_copy(struct conn *conn, const void *bytes, size_t n);
uint8_t *conn_out_reserve(struct conn *conn, size_t n);
void conn_out_commit(struct conn *conn, size_t n);
void conn_out_queue(struct conn *conn, struct seg_queue *from); /* takes all of it */
bool conn_out_full(struct conn *conn);
uint32_t conn_out_bytes(const struct conn *conn);

/* Bring the conn to rest (no operation in flight); on_quiet() follows. Then either conn_take_fd()
 * or conn_resume(). */
void conn_quiesce(struct conn *conn);
/* In on_quiet(), nothing queued, not ended: take the socket and TLS state away to give them to
 * another loop; the conn goes away without on_gone(). */
int conn_take_fd(struct conn *conn, struct tls **tls);
/* The other loop's half. */
void conn_adopt_tls(struct conn *conn, struct tls *tls);

/* Begin TLS on this conn. ssl: an SSL *, taken over. server_side: we accept. on_tls() follows.
 * false: bytes are waiting in `in` that came before TLS; the caller must close. */
bool conn_start_tls(struct conn *conn, void *ssl);

/* ---- for loop.c ---- */
void conn_record(struct conn *conn, enum loop_op op, const struct port_event *event);
void conn_run(struct conn *conn);
void conn_flush(struct conn *conn);
void conn_unpin(struct conn *conn);

#endif
