#include "proxy/admin/leavers.h"

#include "base/check.h"
#include "proxy/admin/gather.h"
#include "proxy/admin/rows.h"

#include <stdlib.h>

struct leavers {
    struct gathering g; /* first */
    uint64_t total[LEAVE_N];
};

static void collect(struct gathering *g, struct worker *worker)
{
    struct leavers *l = (struct leavers *)(void *)g;
    for (unsigned i = 0; i < LEAVE_N; i++)
        l->total[i] += worker->hub.leaves[i];
}

static void answer(struct gathering *g, struct session *s)
{
    static const struct put_column columns[] = {{"server", TEXT_OID}, {"total", INT8_OID}};
    static const char *const texts[LEAVE_N] = {[LEAVE_ROLLED_BACK] = "rolled_back",
                                               [LEAVE_DRAINED] = "drained",
                                               [LEAVE_CLOSED] = "closed"};
    const struct leavers *l = (const struct leavers *)(const void *)g;
    rows_columns(s, columns, sizeof columns / sizeof *columns);
    for (unsigned i = 0; i < LEAVE_N; i++) {
        struct row r = {0};
        row_text(&r, texts[i]);
        row_number(&r, l->total[i]);
        rows_send(s, &r);
    }
    rows_end(s, "SHOW");
}

static void free_leavers(struct gathering *g)
{
    free(g);
}

void show_leavers(struct session *s)
{
    static const struct gather_ops ops = {collect, answer, free_leavers};
    struct leavers *l = calloc(1, sizeof *l);
    CHECK(l != NULL);
    gather_start(s, &l->g, &ops);
}
