#include "proxy/admin/routes.h"

#include "base/check.h"
#include "proxy/admin/gather.h"
#include "proxy/admin/rows.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- SHOW ROUTES ---- */

typedef uint64_t route_counts[2][SQL_CLASS_N][ROUTE_WHY_N];

struct routes {
    struct gathering g; /* first */
    route_counts counts;
};

struct route_line {
    uint64_t count;
    uint8_t replica, class, reason;
};

static void collect_routes(struct gathering *g, struct worker *worker)
{
    struct routes *r = (struct routes *)(void *)g;
    const uint64_t *from = &worker->stats.routes[0][0][0];
    uint64_t *to = &r->counts[0][0][0];
    for (size_t i = 0; i < sizeof r->counts / sizeof *to; i++)
        to[i] += from[i];
}

static int by_count(const void *a, const void *b)
{
    const struct route_line *x = a, *y = b;
    return x->count < y->count ? 1 : x->count > y->count ? -1 : 0;
}

/* The lines that are not zero, largest first. */
static size_t route_lines(const struct routes *r, struct route_line *lines, uint64_t *total)
{
    size_t n = 0;
    *total = 0;
    for (unsigned replica = 0; replica < 2; replica++)
        for (unsigned class = 0; class < SQL_CLASS_N; class ++)
            for (unsigned why = 0; why < ROUTE_WHY_N; why++) {
                uint64_t count = r->counts[replica][class][why];
                if (count > 0)
                    lines[n++] =
                        (struct route_line){count, (uint8_t)replica, (uint8_t) class, (uint8_t)why};
                *total += count;
            }
    qsort(lines, n, sizeof *lines, by_count);
    return n;
}

static void answer_routes(struct gathering *g, struct session *s)
{
    static const struct put_column columns[] = {{"class", TEXT_OID},
                                                {"route", TEXT_OID},
                                                {"reason", TEXT_OID},
                                                {"count", INT8_OID},
                                                {"share", TEXT_OID}};
    const struct routes *routes = (struct routes *)(void *)g;
    struct route_line *lines = malloc(sizeof(route_counts) / sizeof(uint64_t) * sizeof *lines);
    uint64_t total;
    CHECK(lines != NULL);
    size_t n = route_lines(routes, lines, &total);
    rows_columns(s, columns, sizeof columns / sizeof *columns);
    for (size_t i = 0; i < n; i++) {
        const struct route_line *l = &lines[i];
        struct row r = {0};
        char share[16];
        snprintf(share, sizeof share, "%.1f%%", 100.0 * (double)l->count / (double)total);
        row_text(&r, sql_class_text((enum sql_class)l->class));
        row_text(&r, route_target_text(l->replica ? ROUTE_REPLICA : ROUTE_PRIMARY));
        row_text(&r, route_reason_text((enum route_reason)l->reason));
        row_number(&r, l->count);
        row_text(&r, share);
        rows_send(s, &r);
    }
    rows_end(s, "SHOW");
    free(lines);
}

static void free_plain(struct gathering *g)
{
    free(g);
}

void show_routes(struct session *s)
{
    static const struct gather_ops ops = {collect_routes, answer_routes, free_plain};
    struct routes *r = calloc(1, sizeof *r);
    CHECK(r != NULL);
    gather_start(s, &r->g, &ops);
}

/* ---- SHOW PRIMARY_READS ---- */

struct primary_reads {
    struct gathering g; /* first */
    size_t n, cap;
    struct hitter *found;
};

static struct hitter *same_as(struct primary_reads *p, const struct hitter *h)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->found[i].fingerprint == h->fingerprint && p->found[i].reason == h->reason)
            return &p->found[i];
    return NULL;
}

static void merge(struct primary_reads *p, const struct hitter *h)
{
    struct hitter *same = same_as(p, h);
    if (same) {
        same->count += h->count;
        same->error += h->error;
        same->last_ms = h->last_ms > same->last_ms ? h->last_ms : same->last_ms;
        return;
    }
    if (p->n == p->cap) {
        p->cap = p->cap ? p->cap * 2 : (size_t)HITTERS_BUCKETS * HITTERS_WAYS;
        p->found = realloc(p->found, p->cap * sizeof *p->found);
        CHECK(p->found != NULL);
    }
    p->found[p->n++] = *h;
}

static void collect_primary_reads(struct gathering *g, struct worker *worker)
{
    struct primary_reads *p = (struct primary_reads *)(void *)g;
    for (size_t i = 0; i < HITTERS_BUCKETS; i++)
        for (size_t k = 0; k < HITTERS_WAYS; k++)
            if (worker->primary_reads.entries[i][k].count > 0)
                merge(p, &worker->primary_reads.entries[i][k]);
}

static int by_sure_count(const void *a, const void *b)
{
    const struct hitter *x = a, *y = b;
    uint64_t m = x->count - x->error, n = y->count - y->error;
    return m < n ? 1 : m > n ? -1 : 0;
}

static void answer_primary_reads(struct gathering *g, struct session *s)
{
    static const struct put_column columns[] = {{"fingerprint", TEXT_OID},
                                                {"reason", TEXT_OID},
                                                {"count", INT8_OID},
                                                {"last_seen_ms", INT8_OID},
                                                {"sample", TEXT_OID}};
    struct primary_reads *p = (struct primary_reads *)(void *)g;
    uint64_t now_ms = s->worker->loop->now_ms;
    rows_columns(s, columns, sizeof columns / sizeof *columns);
    if (p->n)
        qsort(p->found, p->n, sizeof *p->found, by_sure_count);
    for (size_t i = 0; i < p->n && i < PRIMARY_READS_SHOWN; i++) {
        const struct hitter *h = &p->found[i];
        struct row r = {0};
        char fingerprint[24];
        snprintf(fingerprint, sizeof fingerprint, "%" PRIu64, h->fingerprint);
        row_text(&r, fingerprint);
        row_text(&r, route_reason_text((enum route_reason)h->reason));
        row_number(&r, h->count - h->error);
        row_number(&r, now_ms > h->last_ms ? now_ms - h->last_ms : 0);
        row_slice(&r, (struct slice){(const uint8_t *)h->text, h->text_n});
        rows_send(s, &r);
    }
    rows_end(s, "SHOW");
}

static void free_primary_reads(struct gathering *g)
{
    struct primary_reads *p = (struct primary_reads *)(void *)g;
    free(p->found);
    free(p);
}

void show_primary_reads(struct session *s)
{
    static const struct gather_ops ops = {collect_primary_reads, answer_primary_reads,
                                          free_primary_reads};
    struct primary_reads *p = calloc(1, sizeof *p);
    CHECK(p != NULL);
    gather_start(s, &p->g, &ops);
}

/* ---- SHOW LAG ---- */

/* The entries that share these nodes, "app,reports". */
static void databases_of(const struct snapshot *snapshot, size_t index, char *text, size_t bytes)
{
    size_t n = 0;
    text[0] = '\0';
    for (size_t i = index; i < snapshot->conf->database_n && n < bytes; i++)
        if (snapshot->clusters[i] == snapshot->clusters[index])
            n += (size_t)snprintf(text + n, bytes - n, "%s%s", n ? "," : "",
                                  snapshot->conf->databases[i].name);
}

static void lsn_if(struct row *r, bool known, uint64_t lsn)
{
    if (known && lsn)
        row_lsn(r, lsn);
    else
        row_null(r);
}

static void number_if(struct row *r, bool known, uint64_t number)
{
    if (known)
        row_number(r, number);
    else
        row_null(r);
}

static void lag_row(struct session *s, const char *databases, struct cluster *cluster,
                    uint32_t index)
{
    struct node_status st = node_status(&cluster->nodes[index]);
    bool eligible = (cluster_view(cluster).readable & 1U << index) != 0, sampled = st.sampled_ns;
    bool primary = st.role == NODE_PRIMARY, replica = st.role == NODE_REPLICA;
    uint64_t now_ns = s->worker->loop->now_ns;
    struct row r = {0};
    row_text(&r, databases);
    row_text(&r, cluster->nodes[index].label);
    row_text(&r, node_role_text(st.role));
    number_if(&r, sampled && st.timeline, st.timeline);
    lsn_if(&r, primary, st.insert_lsn);
    lsn_if(&r, primary, st.flush_lsn);
    lsn_if(&r, replica, st.receive_lsn);
    lsn_if(&r, replica, st.replay_lsn);
    number_if(&r, sampled && replica, st.lag_ms);
    number_if(&r, sampled && replica, st.lag_bytes);
    number_if(&r, sampled, now_ns > st.sampled_ns ? (now_ns - st.sampled_ns) / 1000000 : 0);
    row_text(&r, eligible ? "yes" : "no");
    row_text(&r, eligible ? "" : node_why_text(st.why));
    rows_send(s, &r);
}

void show_lag(struct session *s)
{
    static const struct put_column columns[] = {
        {"databases", TEXT_OID},   {"node", TEXT_OID},          {"role", TEXT_OID},
        {"timeline", INT8_OID},    {"insert_lsn", TEXT_OID},    {"flush_lsn", TEXT_OID},
        {"receive_lsn", TEXT_OID}, {"replay_lsn", TEXT_OID},    {"lag_ms", INT8_OID},
        {"lag_bytes", INT8_OID},   {"sample_age_ms", INT8_OID}, {"eligible", TEXT_OID},
        {"why_not", TEXT_OID},
    };
    const struct snapshot *snapshot = s->worker->hub.snapshot;
    char databases[512];
    rows_columns(s, columns, sizeof columns / sizeof *columns);
    for (size_t i = 0; i < snapshot->conf->database_n; i++) {
        if (!snapshot_is_first(snapshot, i))
            continue;
        databases_of(snapshot, i, databases, sizeof databases);
        for (uint32_t n = 0; n < snapshot->clusters[i]->node_n; n++)
            lag_row(s, databases, snapshot->clusters[i], n);
    }
    rows_end(s, "SHOW");
}
