#include "proxy/admin/pins.h"

#include "base/check.h"
#include "proxy/admin/gather.h"
#include "proxy/admin/rows.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct reason {
    uint64_t clients, total;      /* pinned now; pins since the start */
    uint64_t client, fingerprint; /* of one that is pinned now: what pinned it last */
};

struct pins {
    struct gathering g; /* first */
    struct reason reasons[LEFT_N];
};

static void collect(struct gathering *g, struct worker *worker)
{
    struct pins *p = (struct pins *)(void *)g;
    for (unsigned i = 0; i < LEFT_N; i++)
        p->reasons[i].total += worker->stats.pins[i];
    for (struct list *n = worker->sessions.next; n != &worker->sessions; n = n->next) {
        const struct session *s = LIST_ENTRY(n, struct session, node);
        for (unsigned i = 0; i < LEFT_N; i++) {
            if (!(s->state_of.left & 1U << i))
                continue;
            p->reasons[i].clients++;
            p->reasons[i].client = s->serial;
            p->reasons[i].fingerprint = s->state_of.fingerprint;
        }
    }
}

static void answer(struct gathering *g, struct session *s)
{
    static const struct put_column columns[] = {{"reason", TEXT_OID},
                                                {"clients", INT8_OID},
                                                {"total", INT8_OID},
                                                {"client", INT8_OID},
                                                {"fingerprint", TEXT_OID}};
    const struct pins *p = (const struct pins *)(const void *)g;
    rows_columns(s, columns, sizeof columns / sizeof *columns);
    for (unsigned i = 0; i < LEFT_N; i++) {
        const struct reason *reason = &p->reasons[i];
        struct row r = {0};
        char fingerprint[24] = "";
        if (reason->clients)
            snprintf(fingerprint, sizeof fingerprint, "%" PRIu64, reason->fingerprint);
        row_text(&r, state_text((uint16_t)(1U << i)));
        row_number(&r, reason->clients);
        row_number(&r, reason->total);
        row_number(&r, reason->client);
        row_text(&r, fingerprint);
        rows_send(s, &r);
    }
    rows_end(s, "SHOW");
}

static void free_pins(struct gathering *g)
{
    free(g);
}

void show_pins(struct session *s)
{
    static const struct gather_ops ops = {collect, answer, free_pins};
    struct pins *p = calloc(1, sizeof *p);
    CHECK(p != NULL);
    gather_start(s, &p->g, &ops);
}
