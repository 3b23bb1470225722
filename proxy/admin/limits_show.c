/* proxy/admin/limits_show.c: SHOW LIMITS: every limit that is set, how much of it is in use, and who waits for it. */
#include "proxy/admin/limits_show.h"

#include "base/check.h"
#include "proxy/admin/rows.h"

#include <stdio.h>
#include <stdlib.h>

struct limit_row {
    enum budget_kind kind;
    char of[2 * CONF_NAME_MAX + CONF_USER_MAX + NODE_LABEL_MAX + 16];
    uint32_t used, limit, waiting;
    uint64_t longest_ms;
};

struct limit_rows {
    size_t n, cap;
    uint64_t now_ms;
    struct limit_row *rows;
};

/* Entries may share a database of the servers; those that the entry "*" stands for have no name but its. */
static const char *entry_of(const struct budget *b)
{
    return strcmp(b->entry, "*") == 0 ? b->database : b->entry;
}

/* "app/joe/1" is a pool's: the entry, the user, the node's number in the entry. "app/joe" is those of all nodes; none: a
 * cluster's. */
static void name_of(const struct budget *b, char *to, size_t cap)
{
    if (b->kind == BUDGET_POOL)
        snprintf(to, cap, "%s/%s/%u", entry_of(b), b->user, (unsigned)b->node);
    else if (b->kind == BUDGET_SPILL && b->user[0])
        snprintf(to, cap, "%s/%s", entry_of(b), b->user);
    else if (b->kind == BUDGET_DATABASE || b->kind == BUDGET_DATABASE_CLIENTS)
        snprintf(to, cap, "%s", entry_of(b));
    else
        snprintf(to, cap, "%s%s", b->entry, b->user); /* one of them is empty */
}

/* Workers that wait for a unit: reads for their place on the primary (pool/spill.c), all else to open a server. */
static const struct waits *waits_of(const struct budget *b)
{
    return b->kind == BUDGET_SPILL ? &b->wanting : &b->starving;
}

static void add_row(const struct budget *b, void *context)
{
    struct limit_rows *rows = context;
    uint32_t limit = atomic_load(&b->limit);
    uint64_t since_ms = 0;
    if (limit == 0)
        return;
    if (rows->n == rows->cap) {
        rows->cap = rows->cap ? rows->cap * 2 : 64;
        rows->rows = realloc(rows->rows, rows->cap * sizeof *rows->rows);
        CHECK(rows->rows != NULL);
    }
    struct limit_row *row = &rows->rows[rows->n++];
    *row = (struct limit_row){.kind = b->kind,
                              .limit = limit,
                              .used = atomic_load(&b->used),
                              .waiting = atomic_load(&waits_of(b)->n)};
    if (waits_longest(waits_of(b), WORKERS_MAX, &since_ms) >= 0 && rows->now_ms > since_ms)
        row->longest_ms = rows->now_ms - since_ms;
    name_of(b, row->of, sizeof row->of);
}

static int by_limit(const void *a, const void *b)
{
    const struct limit_row *x = a, *y = b;
    return x->kind != y->kind ? (int)x->kind - (int)y->kind : strcmp(x->of, y->of);
}

void show_limits(struct session *s)
{
    static const struct put_column columns[] = {
        {"limit", TEXT_OID},
        {"of", TEXT_OID},
        {"max", INT4_OID},
        {"used", INT4_OID},
        {"waiting_workers", INT4_OID},
        {"maxwait_ms", INT8_OID},
    };
    struct limit_rows rows = {.now_ms = s->worker->loop->now_ms};
    budget_each(add_row, &rows);
    if (rows.n)
        qsort(rows.rows, rows.n, sizeof *rows.rows, by_limit);
    rows_columns(s, columns, sizeof columns / sizeof *columns);
    for (size_t i = 0; i < rows.n; i++) {
        const struct limit_row *l = &rows.rows[i];
        struct row r = {0};
        row_text(&r, budget_option(l->kind));
        row_text(&r, l->of);
        row_number(&r, l->limit);
        row_number(&r, l->used);
        row_number(&r, l->waiting);
        row_number(&r, l->longest_ms);
        rows_send(s, &r);
    }
    rows_end(s, "SHOW");
    free(rows.rows);
}
