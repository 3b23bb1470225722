/* Buffer queues against a plain array of bytes, under random operations. */
#include "base/check.h"
#include "proxy/io/buf.h"
#include "tests/unit/port_sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define QUEUES 3
#define MODEL_BYTES 200000
#define KEPT 8

struct model {
    struct seg_queue q;
    uint8_t *bytes;
    uint32_t n;
};

struct bench {
    struct sim *sim;
    struct port *port;
    struct buf_pool pool;
    struct model models[QUEUES];
    struct buf *kept[KEPT]; /* references of our own, as an owner in the middle of a message has */
    uint8_t next;
};

static void check_queue(const struct model *m)
{
    uint32_t n = 0;
    const struct seg *last = NULL;
    for (const struct seg *s = m->q.head; s; last = s, s = s->next) {
        CHECK(s->n > 0 && s->buf->refs > 0 && n + s->n <= m->n);
        CHECK(memcmp(s->p, m->bytes + n, s->n) == 0);
        n += s->n;
    }
    CHECK(n == m->n && m->q.bytes == n && m->q.tail == last);
}

static void model_add(struct model *m, const uint8_t *bytes, size_t n)
{
    memcpy(m->bytes + m->n, bytes, n);
    m->n += (uint32_t)n;
}

static void model_drop(struct model *m, uint32_t n)
{
    m->n -= n;
    memmove(m->bytes, m->bytes + n, m->n);
}

static void fill(struct bench *b, uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        bytes[i] = b->next++;
}

/* A heap block in the place of what a recv brings, cut into slices. */
static void push_slices(struct bench *b, struct model *m)
{
    uint32_t n = 1 + sim_random(b->sim, 2000), at = 0;
    struct buf *buf = buf_heap(&b->pool, n);
    fill(b, buf->data, n);
    buf->used = n;
    while (at < n) {
        uint32_t take = sim_chunk(b->sim, n - at);
        if (sim_random(b->sim, 5)) {
            seg_push(&b->pool, &m->q, buf, buf->data + at, take);
            model_add(m, buf->data + at, take);
        }
        at += take;
    }
    struct buf **kept = &b->kept[sim_random(b->sim, KEPT)];
    if (*kept)
        buf_unref(&b->pool, *kept);
    *kept = buf;
}

static void push_copy(struct bench *b, struct model *m)
{
    uint8_t bytes[1500];
    uint32_t n = sim_random(b->sim, sim_random(b->sim, 2) ? 20 : sizeof bytes);
    fill(b, bytes, n);
    if (sim_random(b->sim, 2)) {
        seg_push_copy(&b->pool, &m->q, bytes, n);
    } else {
        memcpy(seg_reserve(&b->pool, &m->q, n + 1 + sim_random(b->sim, 600)), bytes, n);
        seg_commit(&b->pool, &m->q, n);
    }
    model_add(m, bytes, n);
}

static void random_step(struct bench *b)
{
    struct model *m = &b->models[sim_random(b->sim, QUEUES)];
    struct model *other = &b->models[sim_random(b->sim, QUEUES)];
    uint32_t n = m->n ? 1 + sim_random(b->sim, m->n) : 0;
    switch (sim_random(b->sim, 6)) {
    case 0:
        push_slices(b, m);
        break;
    case 1:
        push_copy(b, m);
        break;
    case 2:
        seg_drop(&b->pool, &m->q, n);
        model_drop(m, n);
        break;
    case 3:
        if (n > 0)
            CHECK(memcmp(seg_contiguous(&b->pool, &m->q, n), m->bytes, n) == 0);
        break;
    case 4:
        if (m != other && m->n + other->n < MODEL_BYTES / 2) {
            seg_move(&other->q, &m->q);
            model_add(other, m->bytes, m->n);
            m->n = 0;
        }
        break;
    default:
        seg_unpin(&b->pool, &m->q, n);
        break;
    }
    check_queue(m);
    check_queue(other);
    if (m->n > MODEL_BYTES / 4) {
        seg_drop(&b->pool, &m->q, m->q.bytes);
        m->n = 0;
    }
}

static void run_seed(uint64_t seed)
{
    struct bench *b = calloc(1, sizeof *b);
    struct sim_config config = {.seed = seed};
    assert_non_null(b);
    b->sim = sim_new(&config);
    b->port = sim_port(b->sim);
    buf_pool_init(&b->pool, b->port);
    for (int i = 0; i < QUEUES; i++)
        b->models[i].bytes = malloc(MODEL_BYTES);
    for (int i = 0; i < 1000; i++)
        random_step(b);
    for (int i = 0; i < QUEUES; i++) {
        seg_drop(&b->pool, &b->models[i].q, b->models[i].q.bytes);
        free(b->models[i].bytes);
    }
    for (int i = 0; i < KEPT; i++)
        if (b->kept[i])
            buf_unref(&b->pool, b->kept[i]);
    CHECK(b->pool.heap_n == 0 && b->pool.heap_bytes == 0);
    buf_pool_destroy(&b->pool);
    b->port->ops->destroy(b->port);
    sim_free(b->sim);
    free(b);
}

static void queues_hold_what_was_put_in(void **state)
{
    (void)state;
    uint64_t first = sim_seed(1), n = sim_seed_count();
    for (uint64_t seed = first; seed < first + n; seed++)
        run_seed(seed);
}

/* A peer that sends byte by byte: each byte comes in a provided buffer of its own. */
static void unpinned_bytes_share_blocks(void **state)
{
    (void)state;
    struct sim_config config = {.seed = 1, .calm = true, .small_count = 16};
    struct sim *sim = sim_new(&config);
    struct port *port = sim_port(sim);
    struct buf_pool pool;
    struct seg_queue q = {0};
    struct port_event ev;
    int fd[2];
    buf_pool_init(&pool, port);
    sim_pair(sim, fd);
    for (int i = 0; i < 3000; i++) {
        uint8_t byte = (uint8_t)i;
        sim_write(sim, fd[1], &byte, 1);
        port->ops->recv(port, 7, fd[0], PORT_SMALL, PORT_ONE_SHOT);
        port->ops->wait(port, 0);
        assert_int_equal(port->ops->reap(port, &ev, 1), 1);
        struct buf *buf = buf_provided(&pool, PORT_SMALL, ev.buf_id);
        seg_push(&pool, &q, buf, buf->data, (size_t)ev.res);
        buf_unref(&pool, buf);
        if (i % 10 == 9)
            seg_unpin(&pool, &q, 0);
    }
    assert_false(seg_has_provided(&q));
    assert_int_equal(pool.lent[PORT_SMALL], 0);
    assert_int_equal(q.bytes, 3000);
    assert_true(pool.heap_bytes <= 3000 + 2 * BUF_SMALL_BYTES);
    const uint8_t *all = seg_contiguous(&pool, &q, 3000);
    for (int i = 0; i < 3000; i++)
        assert_int_equal(all[i], (uint8_t)i);
    seg_drop(&pool, &q, 3000);
    buf_pool_destroy(&pool);
    sim_close(sim, fd[0]);
    sim_close(sim, fd[1]);
    port->ops->destroy(port);
    sim_free(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queues_hold_what_was_put_in),
        cmocka_unit_test(unpinned_bytes_share_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
