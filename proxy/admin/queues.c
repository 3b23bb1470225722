#include "proxy/admin/queues.h"

#include "base/check.h"
#include "proxy/admin/gather.h"
#include "proxy/admin/rows.h"

#include <stdio.h>
#include <stdlib.h>

struct queue_row {
    char database[CONF_NAME_MAX + 1], user[CONF_USER_MAX + 1];
    enum want want;
    uint64_t waiting, longest_ms;
    bool stands;
    struct queue sum;
};

struct queues {
    struct gathering g; /* first */
    size_t n, cap;
    struct queue_row *rows;
};

static struct queue_row *row_of(struct queues *q, const struct pool_set *set, enum want want)
{
    for (size_t i = 0; i < q->n; i++)
        if (q->rows[i].want == want && strcmp(q->rows[i].database, set->db->name) == 0 &&
            strcmp(q->rows[i].user, set->user) == 0)
            return &q->rows[i];
    if (q->n == q->cap) {
        q->cap = q->cap ? q->cap * 2 : 16;
        struct queue_row *rows = realloc(q->rows, q->cap * sizeof *rows);
        CHECK(rows != NULL);
        q->rows = rows;
    }
    struct queue_row *row = &q->rows[q->n++];
    *row = (struct queue_row){.want = want};
    snprintf(row->database, sizeof row->database, "%s", set->db->name);
    snprintf(row->user, sizeof row->user, "%s", set->user);
    return row;
}

static void add(struct queues *q, const struct pool_set *set, enum want want)
{
    struct queue_row *row = row_of(q, set, want);
    const struct queue *queue = &set->queues[want];
    const struct list *list = want == WANT_PRIMARY ? &set->writers : &set->readers;
    row->waiting += want == WANT_PRIMARY ? set->writer_n : set->reader_n;
    row->stands = row->stands || queue->codel.stands;
    row->sum.waited += queue->waited;
    row->sum.waited_ms += queue->waited_ms;
    row->sum.abandoned += queue->abandoned;
    row->sum.notified += queue->notified;
    for (unsigned i = 0; i < SHED_REASON_N; i++)
        row->sum.sheds[i] += queue->sheds[i];
    if (list_empty(list))
        return;
    uint64_t ms = set->hub->loop->now_ms - LIST_ENTRY(list->next, struct waiter, node)->since_ms;
    row->longest_ms = ms > row->longest_ms ? ms : row->longest_ms;
}

static void collect(struct gathering *g, struct worker *worker)
{
    struct queues *q = (struct queues *)(void *)g;
    const struct hub *hub = &worker->hub;
    for (struct list *n = hub->sets.next; n != &hub->sets; n = n->next) {
        add(q, LIST_ENTRY(n, struct pool_set, node), WANT_PRIMARY);
        add(q, LIST_ENTRY(n, struct pool_set, node), WANT_READ);
    }
}

static int by_name(const void *a, const void *b)
{
    const struct queue_row *x = a, *y = b;
    int order = strcmp(x->database, y->database);
    order = order ? order : strcmp(x->user, y->user);
    return order ? order : (int)x->want - (int)y->want;
}

static void answer(struct gathering *g, struct session *s)
{
#define COLUMN(constant, text) {text, INT8_OID},
    static const struct put_column columns[] = {
        {"database", TEXT_OID}, {"user", TEXT_OID},       {"role", TEXT_OID},
        {"waiting", INT8_OID},  {"maxwait_ms", INT8_OID}, {"stands", TEXT_OID},
        {"served", INT8_OID},   {"waited_ms", INT8_OID},  {"abandoned", INT8_OID},
        {"notified", INT8_OID}, SHED_REASONS(COLUMN)};
#undef COLUMN
    struct queues *q = (struct queues *)(void *)g;
    rows_columns(s, columns, sizeof columns / sizeof *columns);
    if (q->n)
        qsort(q->rows, q->n, sizeof *q->rows, by_name);
    for (size_t i = 0; i < q->n; i++) {
        const struct queue_row *row = &q->rows[i];
        struct row r = {0};
        row_text(&r, row->database);
        row_text(&r, row->user);
        row_text(&r, row->want == WANT_PRIMARY ? "primary" : "read");
        row_number(&r, row->waiting);
        row_number(&r, row->longest_ms);
        row_text(&r, row->stands ? "yes" : "no");
        row_number(&r, row->sum.waited);
        row_number(&r, row->sum.waited_ms);
        row_number(&r, row->sum.abandoned);
        row_number(&r, row->sum.notified);
        for (unsigned reason = 0; reason < SHED_REASON_N; reason++)
            row_number(&r, row->sum.sheds[reason]);
        rows_send(s, &r);
    }
    rows_end(s, "SHOW");
}

static void free_queues(struct gathering *g)
{
    struct queues *q = (struct queues *)(void *)g;
    free(q->rows);
    free(q);
}

void show_queues(struct session *s)
{
    static const struct gather_ops ops = {collect, answer, free_queues};
    struct queues *q = calloc(1, sizeof *q);
    CHECK(q != NULL);
    gather_start(s, &q->g, &ops);
}
