#include "proxy/admin/console.h"

#include "base/check.h"
#include "proxy/admin/gates.h"
#include "proxy/admin/gather.h"
#include "proxy/admin/leavers.h"
#include "proxy/admin/limits_show.h"
#include "proxy/admin/pins.h"
#include "proxy/admin/queues.h"
#include "proxy/admin/routes.h"
#include "proxy/admin/rows.h"
#include "proxy/control/control.h"
#include "proxy/pool/cancel.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

static struct control *the_control;

void console_init(struct control *control)
{
    the_control = control;
}

static void send_failure(struct session *s, const char *sqlstate, const char *message,
                         const char *hint)
{
    session_error(s, sqlstate, message, NULL, hint);
    session_notice_ready(s);
}

/* ---- SHOW POOLS ---- */

struct pool_row {
    char database[CONF_NAME_MAX + 1], user[CONF_USER_MAX + 1];
    const char *mode;
    uint64_t cl_active, cl_waiting, sv_active, sv_idle, sv_used, sv_login, maxwait_us;
    uint64_t cl_active_cancel, cl_waiting_cancel, sv_active_cancel, sv_being_canceled;
};

struct pools {
    struct gathering g; /* first */
    size_t n, cap;
    struct pool_row *rows;
};

static struct pool_row *row_of(struct pools *g, const struct pool_set *set)
{
    for (size_t i = 0; i < g->n; i++)
        if (strcmp(g->rows[i].database, set->db->name) == 0 &&
            strcmp(g->rows[i].user, set->user) == 0)
            return &g->rows[i];
    if (g->n == g->cap) {
        g->cap = g->cap ? g->cap * 2 : 16;
        struct pool_row *rows = realloc(g->rows, g->cap * sizeof *rows);
        CHECK(rows != NULL);
        g->rows = rows;
    }
    struct pool_row *row = &g->rows[g->n++];
    *row = (struct pool_row){0};
    snprintf(row->database, sizeof row->database, "%s", set->db->name);
    snprintf(row->user, sizeof row->user, "%s", set->user);
    const struct conf *conf = set->snapshot->conf;
#define MODE(constant, text) [constant] = text,
    static const char *const modes[] = {CONF_ENUM_pool_mode(MODE)};
#undef MODE
    row->mode = modes[conf_pool_mode(conf, set->db, conf_user(conf, slice_of(set->user)))];
    return row;
}

static uint64_t wait_us(const struct list *queue, uint64_t now_ms)
{
    if (list_empty(queue))
        return 0;
    return (now_ms - LIST_ENTRY(queue->next, struct waiter, node)->since_ms) * 1000;
}

static uint64_t waiting_for_cancels(const struct pool *pool)
{
    uint64_t n = 0;
    for (struct list *at = pool->busy.next; at != &pool->busy; at = at->next) {
        const struct server *s = LIST_ENTRY(at, const struct server, node);
        n += s->state == SERVER_CLEANING && s->cancels > 0;
    }
    return n;
}

static void gather_set(struct pools *g, const struct pool_set *set)
{
    struct pool_row *row = row_of(g, set);
    uint64_t now_ms = set->hub->loop->now_ms;
    uint64_t writer_us = wait_us(&set->writers, now_ms), reader_us = wait_us(&set->readers, now_ms);
    uint64_t longest_us = writer_us > reader_us ? writer_us : reader_us;
    struct cancel_counts cancels = cancel_count(set);
    row->cl_waiting += set->writer_n + set->reader_n;
    row->cl_active_cancel += cancels.sent;
    row->cl_waiting_cancel += cancels.waiting;
    row->sv_active_cancel += cancels.conns;
    if (longest_us > row->maxwait_us)
        row->maxwait_us = longest_us;
    for (uint32_t i = 0; i < set->cluster->node_n; i++) {
        const struct pool *pool = &set->pools[i];
        row->cl_active += pool->leased_n;
        row->sv_active += pool->leased_n;
        row->sv_idle += pool->idle_n;
        row->sv_used += pool->cleaning_n;
        row->sv_login += pool->dialing_n;
        row->sv_being_canceled += waiting_for_cancels(pool);
    }
}

static int by_name(const void *a, const void *b)
{
    const struct pool_row *x = a, *y = b;
    int order = strcmp(x->database, y->database);
    return order ? order : strcmp(x->user, y->user);
}

/* Columns and order are PgBouncer's (spec/pgbouncer-compat.md 2b). */
static void answer_pools(struct gathering *gathering, struct session *s)
{
    struct pools *g = (struct pools *)(void *)gathering;
    static const struct put_column columns[] = {
        {"database", TEXT_OID},
        {"user", TEXT_OID},
        {"cl_active", INT4_OID},
        {"cl_waiting", INT4_OID},
        {"cl_active_cancel_req", INT4_OID},
        {"cl_waiting_cancel_req", INT4_OID},
        {"sv_active", INT4_OID},
        {"sv_active_cancel", INT4_OID},
        {"sv_being_canceled", INT4_OID},
        {"sv_idle", INT4_OID},
        {"sv_used", INT4_OID},
        {"sv_tested", INT4_OID},
        {"sv_login", INT4_OID},
        {"maxwait", INT4_OID},
        {"maxwait_us", INT4_OID},
        {"pool_mode", TEXT_OID},
    };
    rows_columns(s, columns, sizeof columns / sizeof *columns);
    if (g->n)
        qsort(g->rows, g->n, sizeof *g->rows, by_name);
    for (size_t i = 0; i < g->n; i++) {
        const struct pool_row *p = &g->rows[i];
        struct row r = {0};
        row_text(&r, p->database);
        row_text(&r, p->user);
        row_number(&r, p->cl_active);
        row_number(&r, p->cl_waiting);
        row_number(&r, p->cl_active_cancel);
        row_number(&r, p->cl_waiting_cancel);
        row_number(&r, p->sv_active);
        row_number(&r, p->sv_active_cancel);
        row_number(&r, p->sv_being_canceled);
        row_number(&r, p->sv_idle);
        row_number(&r, p->sv_used);
        row_number(&r, 0);
        row_number(&r, p->sv_login);
        row_number(&r, p->maxwait_us / 1000000);
        row_number(&r, p->maxwait_us % 1000000);
        row_text(&r, p->mode);
        rows_send(s, &r);
    }
    rows_end(s, "SHOW");
}

static void collect_pools(struct gathering *g, struct worker *worker)
{
    const struct hub *hub = &worker->hub;
    for (struct list *n = hub->sets.next; n != &hub->sets; n = n->next)
        gather_set((struct pools *)(void *)g, LIST_ENTRY(n, struct pool_set, node));
}

static void free_pools(struct gathering *g)
{
    struct pools *pools = (struct pools *)(void *)g;
    free(pools->rows);
    free(pools);
}

static void show_pools(struct session *s)
{
    static const struct gather_ops ops = {collect_pools, answer_pools, free_pools};
    struct pools *pools = calloc(1, sizeof *pools);
    CHECK(pools != NULL);
    gather_start(s, &pools->g, &ops);
}

/* ---- the other commands ---- */

static void show_version(struct session *s)
{
    static const struct put_column columns[] = {{"version", TEXT_OID}};
    struct row r = {0};
    rows_columns(s, columns, 1);
    row_text(&r, "pgweir " PGWEIR_VERSION);
    rows_send(s, &r);
    rows_end(s, "SHOW");
}

static void show_node(struct session *s, const char *database, struct cluster *cluster,
                      uint32_t index)
{
    struct node *node = &cluster->nodes[index];
    struct node_status st = node_status(node);
    struct cluster_view view = cluster_view(cluster);
    uint64_t now_ns = s->worker->loop->now_ns;
    struct row r = {0};
    row_text(&r, database);
    row_text(&r, node->label);
    row_text(&r, node_role_text(st.role));
    row_number(&r, st.timeline);
    row_lsn(&r, st.role == NODE_REPLICA ? st.replay_lsn : st.flush_lsn);
    row_number(&r, st.lag_ms);
    row_number(&r, st.lag_bytes);
    if (st.sampled_ns && now_ns > st.sampled_ns)
        row_number(&r, (now_ns - st.sampled_ns) / 1000000);
    else if (st.sampled_ns)
        row_number(&r, 0);
    else
        row_null(&r);
    bool writes = view.primary == index;
    enum conf_primary_reads spill = s->worker->hub.snapshot->conf->primary_reads;
    bool primary_reads = view.readable ? spill == CONF_PRIMARY_READS_WEIGHTED
                                       : spill != CONF_PRIMARY_READS_NEVER || cluster->node_n == 1;
    bool reads = (view.readable & 1U << index) != 0 || (writes && primary_reads);
    row_text(&r, reads ? "yes" : "no");
    row_text(&r, writes ? "yes" : "no");
    row_text(&r, reads ? "" : node_why_text(st.why));
    rows_send(s, &r);
}

static void show_nodes(struct session *s)
{
    static const struct put_column columns[] = {
        {"database", TEXT_OID},  {"node", TEXT_OID},          {"role", TEXT_OID},
        {"timeline", INT8_OID},  {"lsn", TEXT_OID},           {"lag_ms", INT8_OID},
        {"lag_bytes", INT8_OID}, {"sample_age_ms", INT8_OID}, {"reads", TEXT_OID},
        {"writes", TEXT_OID},    {"why_not", TEXT_OID},
    };
    const struct snapshot *snapshot = s->worker->hub.snapshot;
    rows_columns(s, columns, sizeof columns / sizeof *columns);
    for (size_t i = 0; i < snapshot->conf->database_n; i++)
        if (snapshot_is_first(snapshot, i)) /* entries with the same hosts share their nodes */
            for (uint32_t n = 0; n < snapshot->clusters[i]->node_n; n++)
                show_node(s, snapshot->conf->databases[i].name, snapshot->clusters[i], n);
    rows_end(s, "SHOW");
}

static void show_config(struct session *s)
{
    static const struct put_column columns[] = {
        {"key", TEXT_OID}, {"value", TEXT_OID}, {"default", TEXT_OID}, {"changeable", TEXT_OID}};
    const struct conf *conf = s->worker->hub.snapshot->conf;
    rows_columns(s, columns, 4);
    for (size_t i = 0; i < conf_show_count(); i++) {
        struct conf_shown shown;
        struct row r = {0};
        char value[ROW_MAX / 4];
        conf_show(conf, i, &shown);
        snprintf(value, sizeof value, "%s", shown.value);
        row_text(&r, shown.key);
        row_text(&r, value);
        row_text(&r, shown.default_value);
        row_text(&r, shown.changeable ? "yes" : "no");
        rows_send(s, &r);
    }
    rows_end(s, "SHOW");
}

static void reload(struct session *s)
{
    if (!s->admin) {
        send_failure(s, "42501", "admin access needed", "The user must be in admin_users.");
        return;
    }
    control_reload(the_control);
    rows_end(s, "RELOAD");
}

static void help(struct session *s);

static const struct command {
    const char *words, *shown;
    void (*run)(struct session *s);
} commands[] = {
    {"show version", "SHOW VERSION", show_version},
    {"show nodes", "SHOW NODES", show_nodes},
    {"show lag", "SHOW LAG", show_lag},
    {"show routes", "SHOW ROUTES", show_routes},
    {"show primary_reads", "SHOW PRIMARY_READS", show_primary_reads},
    {"show pins", "SHOW PINS", show_pins},
    {"show leavers", "SHOW LEAVERS", show_leavers},
    {"show pools", "SHOW POOLS", show_pools},
    {"show queues", "SHOW QUEUES", show_queues},
    {"show limits", "SHOW LIMITS", show_limits},
    {"show config", "SHOW CONFIG", show_config},
    {"show help", "SHOW HELP", help},
    {"reload", "RELOAD", reload},
};

static void help(struct session *s)
{
    static const struct put_column columns[] = {{"command", TEXT_OID}};
    rows_columns(s, columns, 1);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        struct row r = {0};
        row_text(&r, commands[i].shown);
        rows_send(s, &r);
    }
    for (size_t i = 0; gates_help(i); i++) {
        struct row r = {0};
        row_text(&r, gates_help(i));
        rows_send(s, &r);
    }
    rows_end(s, "SHOW");
}

/* "Known: SHOW VERSION, ..., RELOAD." */
static void unknown_command(struct session *s)
{
    char known[512];
    size_t n = 0;
    for (size_t i = 0; i < sizeof commands / sizeof *commands && n < sizeof known; i++)
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s",
                              i ? ", " : "Known: ", commands[i].shown);
    CHECK(n + 1 < sizeof known);
    snprintf(known + n, sizeof known - n, ".");
    send_failure(s, "42601", "unknown console command", known);
}

/* Lower case, single blanks, no trailing semicolon. */
static size_t normalise(struct slice sql, char *out, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < sql.n && n + 1 < cap; i++) {
        char c = (char)sql.p[i];
        if (c == '\n' || c == '\t' || c == '\r')
            c = ' ';
        if (c == ' ' && (n == 0 || out[n - 1] == ' '))
            continue;
        out[n++] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
    }
    while (n > 0 && (out[n - 1] == ' ' || out[n - 1] == ';'))
        n--;
    out[n] = '\0';
    return n;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* What follows the first word, as it was written, but without double quotes around it. */
static struct slice argument(struct slice sql)
{
    size_t at = 0, end = sql.n;
    while (at < end && is_blank(sql.p[at]))
        at++;
    while (at < end && !is_blank(sql.p[at]) && sql.p[at] != ';')
        at++;
    while (at < end && is_blank(sql.p[at]))
        at++;
    while (end > at && (is_blank(sql.p[end - 1]) || sql.p[end - 1] == ';'))
        end--;
    if (end - at >= 2 && sql.p[at] == '"' && sql.p[end - 1] == '"') {
        at++;
        end--;
    }
    return (struct slice){sql.p + at, end - at};
}

void console_query(struct session *s, struct slice sql)
{
    char text[256];
    if (normalise(sql, text, sizeof text) == 0) {
        uint8_t bytes[32];
        struct put o = put_into(bytes, sizeof bytes);
        put_empty_query(&o);
        put_ready(&o, 'I');
        rows_put(s, &o);
        return;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(text, commands[i].words) == 0) {
            commands[i].run(s);
            return;
        }
    text[strcspn(text, " ")] = '\0';
    if (!gates_command(s, text, argument(sql)))
        unknown_command(s);
}
