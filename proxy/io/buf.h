/* proxy/io/buf.h: counted memory blocks, and queues of slices of them.
 *
 * What    a struct buf is a provided buffer of the port, lent to us by a recv, or a heap block.
 *         Bytes are forwarded by queueing {buf, slice} on another connection; nothing is copied.
 * Owns    each slice in a queue holds one reference. The last reference gives a provided buffer
 *         back to the port and frees a heap block.
 * Threads a pool and everything of it belong to one loop.
 * Limits  held_max bounds heap bytes in queues (BUF_HELD_MAX); over it no recv is armed.
 */
#ifndef IO_BUF_H
#define IO_BUF_H

#include "base/slice.h"
#include "proxy/io/port.h"

#define BUF_SMALL_BYTES 512 /* heap blocks up to this size are kept for reuse */
#define BUF_SMALL_KEPT 1024
#define BUF_HELD_MAX (256U << 20)

enum buf_kind { BUF_PROVIDED_SMALL = PORT_SMALL, BUF_PROVIDED_BULK = PORT_BULK, BUF_HEAP };

struct buf {
    uint32_t refs;
    uint16_t kind; /* enum buf_kind */
    uint16_t id;   /* provided: the port's number for it */
    uint32_t cap, used;
    uint8_t *data;
};

/* A slice in a queue. */
struct seg {
    struct seg *next;
    struct buf *buf;
    const uint8_t *p;
    uint32_t n;
};

struct seg_queue {
    struct seg *head, *tail;
    uint32_t bytes;
};

struct buf_pool {
    struct port *port;
    struct buf *provided[PORT_GROUPS];
    uint32_t lent[PORT_GROUPS]; /* provided buffers that we hold */
    uint64_t heap_bytes;        /* in heap blocks that are in use */
    uint32_t heap_n;
    struct seg *free_segs;
    struct buf *free_small; /* linked through data */
    uint32_t free_small_n;
};

void buf_pool_init(struct buf_pool *pool, struct port *port);
/* Frees what is kept for reuse. Everything lent must be back. */
void buf_pool_destroy(struct buf_pool *pool);

/* The provided buffer that an event named, with one reference. */
struct buf *buf_provided(struct buf_pool *pool, enum port_group group, int32_t id);
/* A heap block for n bytes (n > 0), with one reference, used = 0. */
struct buf *buf_heap(struct buf_pool *pool, size_t n);
void buf_unref(struct buf_pool *pool, struct buf *buf);

/* Queue bytes that lie in buf; takes a new reference. n may be 0: nothing happens. */
void seg_push(struct buf_pool *pool, struct seg_queue *q, struct buf *buf, const uint8_t *p,
              size_t n);
/* Queue a copy of the bytes; short runs share one heap block. */
void seg_push_copy(struct buf_pool *pool, struct seg_queue *q, const void *bytes, size_t n);
/* Room for up to n bytes at the end of the queue, to be filled and then committed with the real
 * number. */
uint8_t *seg_reserve(struct buf_pool *pool, struct seg_queue *q, size_t n);
void seg_commit(struct buf_pool *pool, struct seg_queue *q, size_t n);
/* Drop n bytes from the front; n <= q->bytes. */
void seg_drop(struct buf_pool *pool, struct seg_queue *q, size_t n);
/* Move everything of from behind to. */
void seg_move(struct seg_queue *to, struct seg_queue *from);
/* Make the first n bytes lie in one piece and return them; n <= q->bytes, n > 0. */
const uint8_t *seg_contiguous(struct buf_pool *pool, struct seg_queue *q, size_t n);
/* Copy what lies in provided buffers to heap blocks of exact size, so that the buffers go back.
 * skip bytes at the front are left as they are (the kernel is sending them). */
void seg_unpin(struct buf_pool *pool, struct seg_queue *q, size_t skip);
bool seg_has_provided(const struct seg_queue *q);

static inline struct slice seg_front(const struct seg_queue *q)
{
    return q->head ? (struct slice){q->head->p, q->head->n} : SLICE_NONE;
}

#endif
