#include "proxy/admin/console.h"

#include "base/check.h"
#include "proxy/control/control.h"
#include "router/freshness.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define TEXT_OID 25
#define INT4_OID 23
#define INT8_OID 20
#define COLUMNS_MAX 16
#define ROW_MAX 2048

static struct control *the_control;

void console_init(struct control *control)
{
    the_control = control;
}

/* ---- writing rows ---- */

static void send_put(struct session *s, const struct put *o)
{
    CHECK(!o->full);
    conn_out_copy(s->conn, o->p, o->n);
}

static void send_columns(struct session *s, const struct put_column *columns, size_t n)
{
    uint8_t bytes[ROW_MAX];
    struct put o = put_into(bytes, sizeof bytes);
    put_row_description(&o, columns, (uint16_t)n);
    send_put(s, &o);
}

struct row {
    uint16_t n;
    struct slice values[COLUMNS_MAX];
    size_t used;
    char text[ROW_MAX / 2];
};

static void add_text(struct row *r, const char *text)
{
    CHECK(r->n < COLUMNS_MAX);
    r->values[r->n++] = slice_of(text);
}

static void add_null(struct row *r)
{
    CHECK(r->n < COLUMNS_MAX);
    r->values[r->n++] = SLICE_NONE;
}

static void add_number(struct row *r, uint64_t number)
{
    int n = snprintf(r->text + r->used, sizeof r->text - r->used, "%" PRIu64, number);
    CHECK(r->n < COLUMNS_MAX && n > 0 && (size_t)n < sizeof r->text - r->used);
    r->values[r->n++] = (struct slice){(const uint8_t *)r->text + r->used, (size_t)n};
    r->used += (size_t)n;
}

static void add_lsn(struct row *r, uint64_t lsn)
{
    char text[LSN_TEXT_BYTES];
    size_t n = lsn_format(lsn, text);
    CHECK(r->n < COLUMNS_MAX && r->used + n < sizeof r->text);
    memcpy(r->text + r->used, text, n);
    r->values[r->n++] = (struct slice){(const uint8_t *)r->text + r->used, n};
    r->used += n;
}

static void send_row(struct session *s, const struct row *r)
{
    uint8_t bytes[ROW_MAX];
    struct put o = put_into(bytes, sizeof bytes);
    put_data_row(&o, r->values, r->n);
    send_put(s, &o);
}

static void send_end(struct session *s, const char *tag)
{
    uint8_t bytes[64];
    struct put o = put_into(bytes, sizeof bytes);
    put_command_complete(&o, tag);
    put_ready(&o, 'I');
    send_put(s, &o);
}

static void send_failure(struct session *s, const char *sqlstate, const char *message,
                         const char *hint)
{
    session_error(s, sqlstate, message, NULL, hint);
    session_notice_ready(s);
}

/* ---- asking all workers ---- */

struct pool_row {
    char database[CONF_NAME_MAX + 1], user[CONF_USER_MAX + 1];
    const char *mode;
    uint64_t cl_active, cl_waiting, sv_active, sv_idle, sv_used, sv_login, maxwait_us;
};

struct gathering {
    struct mail mail; /* first; in the mail of one worker after the other */
    struct fleet *fleet;
    uint32_t at, asker; /* worker that has it, worker that asked */
    uint32_t pid;       /* of the session that asked */
    size_t n, cap;
    struct pool_row *rows;
};

static struct pool_row *row_of(struct gathering *g, const struct pool_set *set)
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
    bool session =
        conf_pool_mode(conf, set->db, conf_user(conf, slice_of(set->user))) == CONF_POOL_SESSION;
    row->mode = session ? "session" : "transaction";
    return row;
}

static uint64_t wait_us(const struct list *queue, uint64_t now_ms)
{
    if (list_empty(queue))
        return 0;
    return (now_ms - LIST_ENTRY(queue->next, struct waiter, node)->since_ms) * 1000;
}

static void gather_set(struct gathering *g, const struct pool_set *set)
{
    struct pool_row *row = row_of(g, set);
    uint64_t now_ms = set->hub->loop->now_ms;
    uint64_t writer_us = wait_us(&set->writers, now_ms), reader_us = wait_us(&set->readers, now_ms);
    uint64_t longest_us = writer_us > reader_us ? writer_us : reader_us;
    row->cl_waiting += set->writer_n + set->reader_n;
    if (longest_us > row->maxwait_us)
        row->maxwait_us = longest_us;
    for (uint32_t i = 0; i < set->cluster->node_n; i++) {
        const struct pool *pool = &set->pools[i];
        row->cl_active += pool->leased_n;
        row->sv_active += pool->leased_n;
        row->sv_idle += pool->idle_n;
        row->sv_used += pool->cleaning_n;
        row->sv_login += pool->dialing_n;
    }
}

static int by_name(const void *a, const void *b)
{
    const struct pool_row *x = a, *y = b;
    int order = strcmp(x->database, y->database);
    return order ? order : strcmp(x->user, y->user);
}

/* Columns and order are PgBouncer's (spec/pgbouncer-compat.md 2b). */
static void send_pools(struct session *s, struct gathering *g)
{
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
    send_columns(s, columns, sizeof columns / sizeof *columns);
    if (g->n)
        qsort(g->rows, g->n, sizeof *g->rows, by_name);
    for (size_t i = 0; i < g->n; i++) {
        const struct pool_row *p = &g->rows[i];
        struct row r = {0};
        add_text(&r, p->database);
        add_text(&r, p->user);
        add_number(&r, p->cl_active);
        add_number(&r, p->cl_waiting);
        add_number(&r, 0);
        add_number(&r, 0);
        add_number(&r, p->sv_active);
        add_number(&r, 0);
        add_number(&r, 0);
        add_number(&r, p->sv_idle);
        add_number(&r, p->sv_used);
        add_number(&r, 0);
        add_number(&r, p->sv_login);
        add_number(&r, p->maxwait_us / 1000000);
        add_number(&r, p->maxwait_us % 1000000);
        add_text(&r, p->mode);
        send_row(s, &r);
    }
    send_end(s, "SHOW");
}

static void finish_gathering(struct loop *loop, struct gathering *g)
{
    struct session *s = worker_find_pid(worker_of(loop), g->pid);
    if (s && s->state == SESSION_READY && s->console_busy) {
        s->console_busy = false;
        send_pools(s, g);
        conn_in_again(s->conn);
    }
    free(g->rows);
    free(g);
}

/* Visit one worker after the other, and come home. */
static void on_gathering(struct loop *loop, struct mail *mail)
{
    struct gathering *g = (struct gathering *)(void *)mail;
    if (g->at == g->fleet->worker_n) {
        finish_gathering(loop, g);
        return;
    }
    struct hub *hub = loop->context;
    for (struct list *n = hub->sets.next; n != &hub->sets; n = n->next)
        gather_set(g, LIST_ENTRY(n, struct pool_set, node));
    g->at++;
    uint32_t next = g->at < g->fleet->worker_n ? g->at : g->asker;
    loop_post(g->fleet->workers[next].loop, &g->mail);
}

static void show_pools(struct session *s)
{
    struct gathering *g = calloc(1, sizeof *g);
    CHECK(g != NULL);
    *g = (struct gathering){.mail.deliver = on_gathering,
                            .fleet = s->worker->fleet,
                            .asker = s->worker->id,
                            .pid = s->pid};
    s->console_busy = true;
    loop_post(g->fleet->workers[0].loop, &g->mail);
}

/* ---- the other commands ---- */

static void show_version(struct session *s)
{
    static const struct put_column columns[] = {{"version", TEXT_OID}};
    struct row r = {0};
    send_columns(s, columns, 1);
    add_text(&r, "pgweir " PGWEIR_VERSION);
    send_row(s, &r);
    send_end(s, "SHOW");
}

static bool seen_before(const struct snapshot *snapshot, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (snapshot->clusters[i] == snapshot->clusters[index])
            return true;
    return false;
}

static void show_node(struct session *s, const char *database, struct cluster *cluster,
                      uint32_t index)
{
    struct node *node = &cluster->nodes[index];
    struct node_status st = node_status(node);
    struct cluster_view view = cluster_view(cluster);
    uint64_t now_ns = s->worker->loop->now_ns;
    struct row r = {0};
    add_text(&r, database);
    add_text(&r, node->label);
    add_text(&r, node_role_text(st.role));
    add_number(&r, st.timeline);
    add_lsn(&r, st.role == NODE_REPLICA ? st.replay_lsn : st.flush_lsn);
    add_number(&r, st.lag_ms);
    add_number(&r, st.lag_bytes);
    if (st.sampled_ns && now_ns > st.sampled_ns)
        add_number(&r, (now_ns - st.sampled_ns) / 1000000);
    else if (st.sampled_ns)
        add_number(&r, 0);
    else
        add_null(&r);
    bool writes = view.primary == index;
    enum conf_primary_reads spill = s->worker->hub.snapshot->conf->primary_reads;
    bool primary_reads = view.readable ? spill == CONF_PRIMARY_READS_WEIGHTED
                                       : spill != CONF_PRIMARY_READS_NEVER || cluster->node_n == 1;
    bool reads = (view.readable & 1U << index) != 0 || (writes && primary_reads);
    add_text(&r, reads ? "yes" : "no");
    add_text(&r, writes ? "yes" : "no");
    add_text(&r, reads ? "" : node_why_text(st.why));
    send_row(s, &r);
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
    send_columns(s, columns, sizeof columns / sizeof *columns);
    for (size_t i = 0; i < snapshot->conf->database_n; i++)
        if (!seen_before(snapshot, i)) /* entries with the same hosts share their nodes */
            for (uint32_t n = 0; n < snapshot->clusters[i]->node_n; n++)
                show_node(s, snapshot->conf->databases[i].name, snapshot->clusters[i], n);
    send_end(s, "SHOW");
}

static void show_config(struct session *s)
{
    static const struct put_column columns[] = {
        {"key", TEXT_OID}, {"value", TEXT_OID}, {"default", TEXT_OID}, {"changeable", TEXT_OID}};
    const struct conf *conf = s->worker->hub.snapshot->conf;
    send_columns(s, columns, 4);
    for (size_t i = 0; i < conf_show_count(); i++) {
        struct conf_shown shown;
        struct row r = {0};
        char value[ROW_MAX / 4];
        conf_show(conf, i, &shown);
        snprintf(value, sizeof value, "%s", shown.value);
        add_text(&r, shown.key);
        add_text(&r, value);
        add_text(&r, shown.default_value);
        add_text(&r, shown.changeable ? "yes" : "no");
        send_row(s, &r);
    }
    send_end(s, "SHOW");
}

static void reload(struct session *s)
{
    if (!s->admin) {
        send_failure(s, "42501", "admin access needed", "The user must be in admin_users.");
        return;
    }
    control_reload(the_control);
    send_end(s, "RELOAD");
}

static const struct command {
    const char *words;
    void (*run)(struct session *s);
} commands[] = {
    {"show version", show_version}, {"show nodes", show_nodes}, {"show pools", show_pools},
    {"show config", show_config},   {"reload", reload},
};

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

void console_query(struct session *s, struct slice sql)
{
    char text[256];
    if (normalise(sql, text, sizeof text) == 0) {
        uint8_t bytes[32];
        struct put o = put_into(bytes, sizeof bytes);
        put_empty_query(&o);
        put_ready(&o, 'I');
        send_put(s, &o);
        return;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(text, commands[i].words) == 0) {
            commands[i].run(s);
            return;
        }
    send_failure(s, "42601", "unknown console command",
                 "Known: SHOW VERSION, SHOW NODES, SHOW POOLS, SHOW CONFIG, RELOAD.");
}
