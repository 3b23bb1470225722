#include "proxy/io/buf.h"

#include "base/check.h"

#include <stdlib.h>

#define UNPIN_BLOCK_MAX (64U << 10)

void buf_pool_init(struct buf_pool *pool, struct port *port)
{
    *pool = (struct buf_pool){.port = port};
    for (int g = 0; g < PORT_GROUPS; g++) {
        const struct port_buffers *b = &port->buffers[g];
        pool->provided[g] = calloc(b->count ? b->count : 1, sizeof(struct buf));
        CHECK(pool->provided[g] != NULL);
        for (uint32_t id = 0; id < b->count; id++)
            pool->provided[g][id] = (struct buf){.kind = (uint16_t)g,
                                                 .id = (uint16_t)id,
                                                 .cap = b->bytes,
                                                 .data = b->base + (size_t)id * b->bytes};
    }
}

static void free_small(struct buf_pool *pool)
{
    while (pool->free_small) {
        struct buf *b = pool->free_small;
        memcpy(&pool->free_small, b->data, sizeof pool->free_small);
        free(b);
    }
    pool->free_small_n = 0;
}

void buf_pool_destroy(struct buf_pool *pool)
{
    CHECK(pool->heap_n == 0);
    for (int g = 0; g < PORT_GROUPS; g++) {
        CHECK(pool->lent[g] == 0);
        free(pool->provided[g]);
    }
    free_small(pool);
    while (pool->free_segs) {
        struct seg *s = pool->free_segs;
        pool->free_segs = s->next;
        free(s);
    }
}

struct buf *buf_provided(struct buf_pool *pool, enum port_group group, int32_t id)
{
    CHECK(id >= 0 && (uint32_t)id < pool->port->buffers[group].count);
    struct buf *b = &pool->provided[group][id];
    CHECK(b->refs == 0);
    b->refs = 1;
    pool->lent[group]++;
    return b;
}

struct buf *buf_heap(struct buf_pool *pool, size_t n)
{
    CHECK(n > 0 && n <= UINT32_MAX);
    struct buf *b;
    size_t cap = n <= BUF_SMALL_BYTES ? BUF_SMALL_BYTES : n;
    if (cap == BUF_SMALL_BYTES && pool->free_small) {
        b = pool->free_small;
        memcpy(&pool->free_small, b->data, sizeof pool->free_small);
        pool->free_small_n--;
    } else {
        b = malloc(sizeof *b + cap);
        CHECK(b != NULL); /* held_max keeps us far below what the machine has */
    }
    *b =
        (struct buf){.refs = 1, .kind = BUF_HEAP, .cap = (uint32_t)cap, .data = (uint8_t *)(b + 1)};
    pool->heap_bytes += cap;
    pool->heap_n++;
    return b;
}

static void release_heap(struct buf_pool *pool, struct buf *b)
{
    pool->heap_bytes -= b->cap;
    pool->heap_n--;
    if (b->cap == BUF_SMALL_BYTES && pool->free_small_n < BUF_SMALL_KEPT) {
        memcpy(b->data, &pool->free_small, sizeof pool->free_small);
        pool->free_small = b;
        pool->free_small_n++;
        return;
    }
    free(b);
}

void buf_unref(struct buf_pool *pool, struct buf *buf)
{
    CHECK(buf->refs > 0);
    if (--buf->refs > 0)
        return;
    if (buf->kind == BUF_HEAP) {
        release_heap(pool, buf);
        return;
    }
    CHECK(pool->lent[buf->kind] > 0);
    pool->lent[buf->kind]--;
    pool->port->ops->buf_return(pool->port, (enum port_group)buf->kind, buf->id);
}

static struct seg *seg_new(struct buf_pool *pool)
{
    if (!pool->free_segs) {
        /* One by one: slabs would have to live for ever, and this list only grows to the peak. */
        struct seg *s = malloc(sizeof *s);
        CHECK(s != NULL);
        s->next = NULL;
        pool->free_segs = s;
    }
    struct seg *s = pool->free_segs;
    pool->free_segs = s->next;
    return s;
}

static void seg_free(struct buf_pool *pool, struct seg *s)
{
    buf_unref(pool, s->buf);
    s->next = pool->free_segs;
    pool->free_segs = s;
}

/* Append without taking a reference: the caller's goes into the queue. */
static void append(struct buf_pool *pool, struct seg_queue *q, struct buf *buf, const uint8_t *p,
                   size_t n)
{
    struct seg *s = seg_new(pool);
    *s = (struct seg){.buf = buf, .p = p, .n = (uint32_t)n};
    if (q->tail)
        q->tail->next = s;
    else
        q->head = s;
    q->tail = s;
    q->bytes += (uint32_t)n;
}

void seg_push(struct buf_pool *pool, struct seg_queue *q, struct buf *buf, const uint8_t *p,
              size_t n)
{
    if (n == 0)
        return;
    struct seg *t = q->tail;
    if (t && t->buf == buf && t->p + t->n == p) { /* the slice goes on: no new piece */
        t->n += (uint32_t)n;
        q->bytes += (uint32_t)n;
        return;
    }
    buf->refs++;
    append(pool, q, buf, p, n);
}

/* A block may grow when nobody else looks at it and the piece ends where its bytes end. */
static bool ends_with_room(const struct seg *s, size_t n)
{
    return s->buf->kind == BUF_HEAP && s->buf->refs == 1 &&
           s->p + s->n == s->buf->data + s->buf->used && s->buf->cap - s->buf->used >= n;
}

uint8_t *seg_reserve(struct buf_pool *pool, struct seg_queue *q, size_t n)
{
    if (!q->tail || !ends_with_room(q->tail, n)) {
        struct buf *b = buf_heap(pool, n);
        append(pool, q, b, b->data, 0);
    }
    return q->tail->buf->data + q->tail->buf->used;
}

void seg_commit(struct buf_pool *pool, struct seg_queue *q, size_t n)
{
    struct seg *t = q->tail;
    CHECK(t && t->buf->kind == BUF_HEAP && t->buf->cap - t->buf->used >= n);
    t->buf->used += (uint32_t)n;
    t->n += (uint32_t)n;
    q->bytes += (uint32_t)n;
    if (t->n > 0)
        return;
    /* Nothing was written: take the empty piece out again. */
    struct seg **at = &q->head, *before = NULL;
    while (*at != t) {
        before = *at;
        at = &(*at)->next;
    }
    *at = NULL;
    q->tail = before;
    seg_free(pool, t);
}

void seg_push_copy(struct buf_pool *pool, struct seg_queue *q, const void *bytes, size_t n)
{
    if (n == 0)
        return;
    memcpy(seg_reserve(pool, q, n), bytes, n);
    seg_commit(pool, q, n);
}

void seg_drop(struct buf_pool *pool, struct seg_queue *q, size_t n)
{
    CHECK(n <= q->bytes);
    q->bytes -= (uint32_t)n;
    while (n > 0) {
        struct seg *s = q->head;
        if (n < s->n) {
            s->p += n;
            s->n -= (uint32_t)n;
            return;
        }
        n -= s->n;
        q->head = s->next;
        if (!q->head)
            q->tail = NULL;
        seg_free(pool, s);
    }
}

void seg_move(struct seg_queue *to, struct seg_queue *from)
{
    if (!from->head)
        return;
    if (to->tail)
        to->tail->next = from->head;
    else
        to->head = from->head;
    to->tail = from->tail;
    to->bytes += from->bytes;
    *from = (struct seg_queue){0};
}

const uint8_t *seg_contiguous(struct buf_pool *pool, struct seg_queue *q, size_t n)
{
    CHECK(n > 0 && n <= q->bytes);
    if (q->head->n >= n)
        return q->head->p;
    struct buf *whole = buf_heap(pool, n);
    while (whole->used < n) {
        size_t take = n - whole->used < q->head->n ? n - whole->used : q->head->n;
        memcpy(whole->data + whole->used, q->head->p, take);
        whole->used += (uint32_t)take;
        seg_drop(pool, q, take);
    }
    struct seg *s = seg_new(pool);
    *s = (struct seg){.next = q->head, .buf = whole, .p = whole->data, .n = (uint32_t)n};
    q->head = s;
    if (!q->tail)
        q->tail = s;
    q->bytes += (uint32_t)n;
    return s->p;
}

/* How many bytes lie in provided buffers from this piece on, up to the next heap block. */
static size_t provided_run(const struct seg *s)
{
    size_t n = s->n;
    while ((s = s->next) != NULL && s->buf->kind != BUF_HEAP && n + s->n <= UNPIN_BLOCK_MAX)
        n += s->n;
    return n;
}

static const uint8_t *append_bytes(struct buf *block, const struct seg *s)
{
    uint8_t *to = block->data + block->used;
    memcpy(to, s->p, s->n);
    block->used += s->n;
    return to;
}

/* A peer that sends byte by byte must not cost a block for each: neighbours become one piece. */
void seg_unpin(struct buf_pool *pool, struct seg_queue *q, size_t skip)
{
    struct seg *before = NULL, *next;
    for (struct seg *s = q->head; s; s = next) {
        next = s->next;
        bool sending = skip > 0; /* the kernel reads this piece, or the front of it */
        skip = skip > s->n ? skip - s->n : 0;
        if (sending || s->buf->kind == BUF_HEAP) {
            before = s;
        } else if (before && ends_with_room(before, s->n)) {
            append_bytes(before->buf, s);
            before->n += s->n;
            before->next = next;
            if (!next)
                q->tail = before;
            seg_free(pool, s);
        } else {
            struct buf *block = buf_heap(pool, provided_run(s));
            s->p = append_bytes(block, s);
            buf_unref(pool, s->buf);
            s->buf = block;
            before = s;
        }
    }
}

bool seg_has_provided(const struct seg_queue *q)
{
    for (const struct seg *s = q->head; s; s = s->next)
        if (s->buf->kind != BUF_HEAP)
            return true;
    return false;
}
