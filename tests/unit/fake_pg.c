#include "tests/unit/fake_pg.h"

#include "base/check.h"
#include "base/slice.h"
#include "proxy/pool/label.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BACKENDS_MAX 64
#define STMTS_MAX 64
#define TEXT_MAX 256

/* ---- bytes ---- */

void bytes_add(struct bytes *b, const void *p, size_t n)
{
    if (b->n + n > b->cap) {
        b->cap = (b->n + n) * 2;
        b->p = realloc(b->p, b->cap);
        CHECK(b->p != NULL);
    }
    if (n)
        memcpy(b->p + b->n, p, n);
    b->n += n;
}

void bytes_drop(struct bytes *b, size_t n)
{
    CHECK(n <= b->n);
    b->n -= n;
    if (b->n)
        memmove(b->p, b->p + n, b->n);
}

static void add_u32(struct bytes *b, uint32_t v)
{
    uint8_t p[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    bytes_add(b, p, sizeof p);
}

void bytes_message(struct bytes *b, char type, const void *body, size_t n)
{
    if (type)
        bytes_add(b, &type, 1);
    add_u32(b, (uint32_t)n + 4);
    bytes_add(b, body, n);
}

void bytes_format(struct bytes *b, char type, const char *format, ...)
{
    struct bytes body = {0};
    va_list args;
    va_start(args, format);
    for (; *format; format++) {
        uint32_t v = *format == 's' || *format == 'z' ? 0 : va_arg(args, uint32_t);
        uint8_t two[2] = {(uint8_t)(v >> 8), (uint8_t)v};
        if (*format == 'h') {
            bytes_add(&body, two, 2);
        } else if (*format == 'w') {
            add_u32(&body, v);
        } else if (*format == 'b') {
            bytes_add(&body, &two[1], 1);
        } else {
            const char *text = va_arg(args, const char *);
            bytes_add(&body, text, strlen(text) + (*format == 's'));
        }
    }
    va_end(args);
    bytes_message(b, type, body.p, body.n);
    free(body.p);
}

size_t bytes_whole(const struct bytes *b, bool startup)
{
    size_t head = startup ? 4 : 5;
    if (b->n < head)
        return 0;
    size_t n = slice_u32(b->p + head - 4) + head - 4;
    return b->n >= n ? n : 0;
}

/* ---- backends ---- */

enum step { NEW, RUNS, COPIES };

struct statement {
    char name[64], text[TEXT_MAX];
};

struct backend {
    bool used, skip, extended, answered, copy_bad, cancelled, started, ends, is_cancel;
    enum step step;
    char tx;
    int fd;
    unsigned node;
    uint32_t pid, key;
    struct bytes in, out;
    size_t flushed; /* of out: may be sent */
    uint64_t busy_until_ms;
    struct statement stmts[STMTS_MAX];
    bool has_unnamed, has_portal;
    char unnamed[TEXT_MAX], portal[TEXT_MAX], param[TEXT_MAX];
    char work_mem[64], application_name[64];
    bool listens;
};

struct fake_pg {
    struct sim *sim;
    uint32_t fault_per_mille, next_pid;
    struct backend backends[BACKENDS_MAX];
    uint8_t inserted[FAKE_CLIENTS_MAX][FAKE_INSERTS_MAX];
};

struct fake_pg *fake_pg_new(struct sim *sim, uint32_t fault_per_mille)
{
    struct fake_pg *pg = calloc(1, sizeof *pg);
    CHECK(pg != NULL);
    pg->sim = sim;
    pg->fault_per_mille = fault_per_mille;
    pg->next_pid = 1000;
    return pg;
}

void fake_pg_calm(struct fake_pg *pg)
{
    pg->fault_per_mille = 0;
}

bool fake_pg_inserted(const struct fake_pg *pg, unsigned client, unsigned n)
{
    return pg->inserted[client][n];
}

void fake_pg_adopt(struct fake_pg *pg, int fd, unsigned node)
{
    for (unsigned i = 0; i < BACKENDS_MAX; i++) {
        struct backend *b = &pg->backends[i];
        if (b->used)
            continue;
        *b = (struct backend){
            .used = true, .fd = fd, .node = node, .tx = 'I', .pid = pg->next_pid++};
        b->key = sim_random(pg->sim, 1U << 30);
        return;
    }
    CHECK_UNREACHABLE();
}

static void end(struct fake_pg *pg, struct backend *b, bool reset)
{
    if (reset)
        sim_reset(pg->sim, b->fd);
    else
        sim_close(pg->sim, b->fd);
    free(b->in.p);
    free(b->out.p);
    b->used = false;
}

void fake_pg_free(struct fake_pg *pg)
{
    for (unsigned i = 0; i < BACKENDS_MAX; i++)
        if (pg->backends[i].used)
            end(pg, &pg->backends[i], false);
    free(pg);
}

static void flush(struct backend *b)
{
    b->flushed = b->out.n;
}

static void ready(struct backend *b)
{
    bytes_message(&b->out, 'Z', &b->tx, 1);
    b->answered = false;
    flush(b);
}

static void error(struct backend *b, const char *severity, const char *sqlstate,
                  const char *message)
{
    bytes_format(&b->out, 'E', "bsbsbsbsb", 'S', severity, 'V', severity, 'C', sqlstate, 'M',
                 message, 0);
    flush(b);
    if (b->tx == 'T')
        b->tx = 'E';
    b->skip = b->extended;
}

static void complete(struct backend *b, const char *tag)
{
    bytes_message(&b->out, 'C', tag, strlen(tag) + 1);
}

static void row_head(struct backend *b)
{
    bytes_format(&b->out, 'T', "hswhwhwh", 1, "c", 0, 0, 25, 0xffff, 0xffffffff, 0);
}

static void row(struct backend *b, const char *sql, const char *param)
{
    char text[1024];
    int n = snprintf(text, sizeof text, "%s|%s|%s|%s|%d", sql, param, b->work_mem,
                     b->application_name, b->listens);
    bytes_format(&b->out, 'D', "hwz", 1, (uint32_t)n, text);
}

static bool starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static void reset_settings(struct backend *b)
{
    b->work_mem[0] = b->application_name[0] = '\0';
}

static void forget_statements(struct backend *b)
{
    for (unsigned i = 0; i < STMTS_MAX; i++)
        b->stmts[i].name[0] = '\0';
}

/* The value between quotes that follows `before`. */
static void quoted_after(const char *text, const char *before, char *to, size_t cap)
{
    const char *at = strstr(text, before);
    size_t n = 0;
    if (!at)
        return;
    for (at += strlen(before); *at && *at != '\'' && n + 1 < cap; at++)
        to[n++] = *at;
    to[n] = '\0';
}

static void setting_row(struct backend *b, const char *name, const char *value)
{
    if (*value)
        bytes_format(&b->out, 'D', "hwzwzwz", 3, 1, "s", (uint32_t)strlen(name), name,
                     (uint32_t)strlen(value), value);
}

/* From one label to another: ;SET "name"=E'value';RESET "name" */
static void change_settings(struct backend *b, const char *sql)
{
    for (const char *at = sql; (at = strchr(at, ';')); at++) {
        bool set = starts(at, ";SET ");
        if (strncmp(strchr(at, '"'), "\"work_mem\"", 10) == 0) {
            b->work_mem[0] = '\0';
            quoted_after(at, ";SET \"work_mem\"=E'", b->work_mem, sizeof b->work_mem);
        } else {
            CHECK(strncmp(strchr(at, '"'), "\"application_name\"", 18) == 0);
            b->application_name[0] = '\0';
            quoted_after(at, ";SET \"application_name\"=E'", b->application_name,
                         sizeof b->application_name);
        }
        complete(b, set ? "SET" : "RESET");
    }
}

/* What pgweir itself asks: the settings of a label; what is left of a session; which instance this is. */
static bool run_internal(struct fake_pg *pg, struct backend *b, const char *sql)
{
    if (*sql == ';') {
        change_settings(b, sql);
        return true;
    }
    if (!starts(sql, LABEL_SQL_FIRST))
        return false;
    sql += strlen(LABEL_SQL_FIRST);
    complete(b, "SET");
    if (starts(sql, "RESET SESSION AUTHORIZATION;RESET ALL")) {
        reset_settings(b);
        quoted_after(sql, "E'application_name',E'", b->application_name,
                     sizeof b->application_name);
        quoted_after(sql, "E'work_mem',E'", b->work_mem, sizeof b->work_mem);
        complete(b, "RESET");
        complete(b, "RESET");
        for (const char *at = sql; (at = strstr(at, "set_config")); at++) {
            row_head(b);
            row(b, "", "");
            complete(b, "SELECT 1");
        }
        return true;
    }
    if (starts(sql, "SELECT NULL,NULL,NULL WHERE false") && sim_random(pg->sim, 16) == 0) {
        error(b, "ERROR", "57014", "canceling statement due to statement timeout");
        return true;
    }
    if (starts(sql, "SELECT NULL,NULL,NULL WHERE false")) {
        row_head(b);
        if (strstr(sql, "pg_listening_channels") && b->listens)
            bytes_format(&b->out, 'D', "hwzww", 3, 1, "l", 0, 0);
        if (strstr(sql, "pg_settings")) {
            setting_row(b, "role", "none");
            setting_row(b, "work_mem", b->work_mem);
            setting_row(b, "application_name", b->application_name);
        }
        complete(b, "SELECT 3");
        return true;
    }
    if (starts(sql, "SELECT (extract")) {
        row_head(b);
        bytes_format(&b->out, 'D', "hwzwzwz", 3, 4, "1234", 14, "read committed", 3, "off");
        complete(b, "SELECT 1");
        return true;
    }
    return false;
}

static void run_insert(struct fake_pg *pg, struct backend *b, const char *sql, const char *param)
{
    unsigned client, n;
    if (b->node != 0) {
        error(b, "ERROR", "25006", "cannot execute INSERT in a read-only transaction");
        return;
    }
    const char *at = strstr(sql, "'i");
    CHECK(at && sscanf(at, "'i%u_%u", &client, &n) == 2 && client < FAKE_CLIENTS_MAX &&
          n < FAKE_INSERTS_MAX);
    CHECK((b->tx == 'T') ==
          (strstr(sql, "INTO tx") != NULL)); /* nothing of a transaction runs alone */
    CHECK(!pg->inserted[client][n]);         /* nothing that ran on the primary runs again */
    pg->inserted[client][n] = 1;
    if (!b->extended)
        row_head(b);
    row(b, sql, param);
    complete(b, "INSERT 0 1");
}

static void run_repeat(struct fake_pg *pg, struct backend *b, const char *sql)
{
    row_head(b);
    for (uint32_t n = sim_random(pg->sim, 4000); n > 0; n--)
        row(b, sql, "");
    complete(b, "SELECT many");
}

static bool run_control(struct backend *b, const char *sql)
{
    if (starts(sql, "BEGIN")) {
        b->tx = 'T';
        complete(b, "BEGIN");
    } else if (starts(sql, "COMMIT") || starts(sql, "ROLLBACK")) {
        complete(b, b->tx == 'E' || *sql == 'R' ? "ROLLBACK" : "COMMIT");
        b->tx = 'I';
    } else if (b->tx == 'E') {
        error(b, "ERROR", "25P02", "current transaction is aborted");
    } else if (starts(sql, "SET work_mem")) {
        quoted_after(sql, "= '", b->work_mem, sizeof b->work_mem);
        complete(b, "SET");
    } else if (starts(sql, "DISCARD ALL")) {
        if (b->tx != 'I') {
            error(b, "ERROR", "25001", "DISCARD ALL cannot run inside a transaction block");
            return true;
        }
        reset_settings(b);
        forget_statements(b);
        b->listens = false;
        complete(b, "DISCARD ALL");
    } else if (starts(sql, "LISTEN") || starts(sql, "UNLISTEN")) {
        b->listens = *sql == 'L';
        complete(b, b->listens ? "LISTEN" : "UNLISTEN");
    } else if (starts(sql, "DEALLOCATE ALL")) {
        forget_statements(b);
        complete(b, "DEALLOCATE ALL");
    } else {
        return false;
    }
    return true;
}

static void run_copy(struct backend *b, const char *sql)
{
    if (strstr(sql, "FROM STDIN")) {
        bytes_format(&b->out, 'G', "bhh", 0, 1, 0);
        flush(b);
        b->step = COPIES;
        b->copy_bad = false;
        return;
    }
    bytes_format(&b->out, 'H', "bhh", 0, 1, 0);
    bytes_message(&b->out, 'd', sql, strlen(sql));
    bytes_message(&b->out, 'c', NULL, 0);
    complete(b, "COPY 1");
}

static void run(struct fake_pg *pg, struct backend *b, const char *sql, const char *param)
{
    if (run_internal(pg, b, sql) || run_control(b, sql))
        return;
    bool first = !b->answered;
    b->answered = true;
    if (b->node != 0 && b->tx == 'I' && first && sim_random(pg->sim, 8) == 0) {
        static const char *const codes[] = {"40001", "57P03", "42P01", "53300"};
        bool for_good =
            sim_random(pg->sim, 100) == 0; /* seldom: reads of that kind go elsewhere then */
        if (!b->extended && sim_random(pg->sim, 2))
            row_head(b); /* a standby describes before it refuses */
        error(b, "ERROR", for_good ? "25006" : codes[sim_random(pg->sim, 4)],
              "conflict with recovery");
    } else if (starts(sql, "INSERT")) {
        run_insert(pg, b, sql, param);
    } else if (starts(sql, "COPY")) {
        run_copy(b, sql);
    } else if (strstr(sql, "repeat(")) {
        run_repeat(pg, b, sql);
    } else if (strstr(sql, "fail(")) {
        error(b, "ERROR", "22012", sql);
    } else {
        CHECK(starts(sql, "SELECT"));
        if (!b->extended)
            row_head(b);
        row(b, sql, param);
        complete(b, "SELECT 1");
    }
}

/* ---- messages ---- */

static const char *cstr(const uint8_t **at, const uint8_t *stop)
{
    const char *text = (const char *)*at;
    const uint8_t *nul = memchr(*at, 0, (size_t)(stop - *at));
    CHECK(nul != NULL);
    *at = nul + 1;
    return text;
}

static struct statement *find(struct backend *b, const char *name)
{
    for (unsigned i = 0; i < STMTS_MAX; i++)
        if (strcmp(b->stmts[i].name, name) == 0)
            return &b->stmts[i];
    return NULL;
}

static void do_parse(struct backend *b, const uint8_t *p, const uint8_t *stop)
{
    const char *name = cstr(&p, stop), *text = cstr(&p, stop);
    struct statement *s = NULL;
    if (!*name)
        b->has_unnamed = false;
    if (b->tx == 'E' && !starts(text, "ROLLBACK") && !starts(text, "COMMIT")) {
        error(b, "ERROR", "25P02", "current transaction is aborted");
        return;
    }
    if (*name && find(b, name)) {
        error(b, "ERROR", "42P05", name);
        return;
    }
    if (strstr(text, "syntax")) {
        error(b, "ERROR", "42601", text);
        return;
    }
    if (*name) {
        s = find(b, "");
        CHECK(s != NULL);
        snprintf(s->name, sizeof s->name, "%s", name);
        snprintf(s->text, sizeof s->text, "%s", text);
    } else {
        b->has_unnamed = true;
        snprintf(b->unnamed, sizeof b->unnamed, "%s", text);
    }
    bytes_message(&b->out, '1', NULL, 0);
}

static void do_bind(struct backend *b, const uint8_t *p, const uint8_t *stop)
{
    cstr(&p, stop);
    const char *name = cstr(&p, stop), *text = b->unnamed;
    const struct statement *s = *name ? find(b, name) : NULL;
    if (*name ? !s : !b->has_unnamed) {
        error(b, "ERROR", "26000", *name ? name : "unnamed prepared statement does not exist");
        return;
    }
    text = s ? s->text : text;
    if (b->tx == 'E' && !starts(text, "ROLLBACK")) {
        error(b, "ERROR", "25P02", "current transaction is aborted");
        return;
    }
    uint16_t formats = slice_u16(p);
    p += 2 + 2 * formats;
    b->param[0] = '\0';
    if (slice_u16(p) == 1)
        snprintf(b->param, sizeof b->param, "%.*s", (int)slice_u32(p + 2), (const char *)p + 6);
    snprintf(b->portal, sizeof b->portal, "%s", text);
    b->has_portal = true;
    bytes_message(&b->out, '2', NULL, 0);
}

static void do_describe(struct backend *b, const uint8_t *p, const uint8_t *stop)
{
    bool statement = *p++ == 'S';
    const char *name = cstr(&p, stop);
    if (statement && (*name ? !find(b, name) : !b->has_unnamed)) {
        error(b, "ERROR", "26000", name);
        return;
    }
    if (statement)
        bytes_format(&b->out, 't', "h", 0);
    row_head(b);
}

static void do_close(struct backend *b, const uint8_t *p, const uint8_t *stop)
{
    bool statement = *p++ == 'S';
    const char *name = cstr(&p, stop);
    struct statement *s = *name ? find(b, name) : NULL;
    if (statement && s)
        s->name[0] = '\0';
    if (statement && !*name)
        b->has_unnamed = false;
    bytes_message(&b->out, '3', NULL, 0);
}

static void do_sync(struct backend *b)
{
    b->skip = b->has_portal = b->extended = false;
    ready(b);
}

static void after_simple(struct backend *b)
{
    if (b->step != COPIES)
        ready(b);
}

static void do_message(struct fake_pg *pg, struct backend *b, char type, const uint8_t *p, size_t n)
{
    const uint8_t *stop = p + n;
    b->extended = type != 'Q';
    if (b->skip && type != 'S' && type != 'X')
        return;
    switch (type) {
    case 'Q':
        b->has_unnamed = false;
        run(pg, b, cstr(&p, stop), "");
        after_simple(b);
        break;
    case 'P':
        do_parse(b, p, stop);
        break;
    case 'B':
        do_bind(b, p, stop);
        break;
    case 'D':
        do_describe(b, p, stop);
        break;
    case 'E':
        if (b->has_portal)
            run(pg, b, b->portal, b->param);
        else
            error(b, "ERROR", "34000", "portal does not exist");
        break;
    case 'C':
        do_close(b, p, stop);
        break;
    case 'S':
        do_sync(b);
        break;
    case 'H':
        flush(b);
        break;
    case 'd': /* late, of a COPY that failed */
    case 'c':
    case 'f':
        break;
    default:
        CHECK(type == 'X');
        b->ends = true;
    }
}

static void do_copy(struct backend *b, char type, const uint8_t *p, size_t n)
{
    bool bad = type == 'd' && n >= 3 && memcmp(p, "bad", 3) == 0;
    if (type == 'S' || type == 'H' || (type == 'd' && !bad))
        return;
    b->step = RUNS;
    if (type == 'c')
        complete(b, "COPY 1");
    else
        error(b, "ERROR", bad ? "22P04" : "57014", bad ? "bad data" : "COPY from stdin failed");
    if (!b->extended)
        ready(b);
}

/* ---- startup and cancel ---- */

static void do_cancel(struct fake_pg *pg, struct backend *b, const uint8_t *p)
{
    for (unsigned i = 0; i < BACKENDS_MAX; i++) {
        struct backend *to = &pg->backends[i];
        if (to->used && to->pid == slice_u32(p) && to->key == slice_u32(p + 4) && to->started)
            to->cancelled = true;
    }
    b->ends = b->is_cancel = true;
}

static void do_startup(struct fake_pg *pg, struct backend *b, const uint8_t *p)
{
    if (slice_u32(p) == 80877102) {
        do_cancel(pg, b, p + 4);
        return;
    }
    if (pg->fault_per_mille && sim_random(pg->sim, 30) == 0) {
        error(b, "FATAL", "53300", "sorry, too many clients already");
        b->ends = true;
        return;
    }
    bytes_format(&b->out, 'R', "w", 0);
    bytes_format(&b->out, 'S', "ss", "server_version", "16.0");
    bytes_format(&b->out, 'S', "ss", "in_hot_standby", b->node ? "on" : "off");
    bytes_format(&b->out, 'S', "ss", "standard_conforming_strings", "on");
    bytes_format(&b->out, 'K', "ww", b->pid, b->key);
    b->step = RUNS;
    ready(b);
}

/* ---- turns ---- */

static void receive(struct fake_pg *pg, struct backend *b)
{
    uint8_t chunk[4096];
    size_t n = sim_read(pg->sim, b->fd, chunk, sim_chunk(pg->sim, sizeof chunk));
    bytes_add(&b->in, chunk, n);
}

/* A statement may take its time; a cancel ends it. */
static bool is_slow(struct fake_pg *pg, struct backend *b, char type)
{
    uint64_t now_ms = sim_now_ms(pg->sim);
    if (b->skip || (type != 'Q' && type != 'E'))
        return false;
    if (!b->started) {
        b->started = true;
        b->cancelled = false;
        b->busy_until_ms = sim_random(pg->sim, 4) ? 0 : now_ms + sim_random(pg->sim, 60);
    }
    if (now_ms < b->busy_until_ms && !b->cancelled)
        return true;
    b->started = false;
    return false;
}

static bool work_once(struct fake_pg *pg, struct backend *b)
{
    size_t n = bytes_whole(&b->in, b->step == NEW);
    if (n == 0 || b->ends)
        return false;
    char type = (char)b->in.p[0];
    if (b->step == RUNS && is_slow(pg, b, type))
        return false;
    if (b->step == NEW) {
        do_startup(pg, b, b->in.p + 4);
    } else if (b->step == COPIES) {
        do_copy(b, type, b->in.p + 5, n - 5);
    } else if (b->cancelled) {
        b->extended = type != 'Q';
        b->cancelled = false;
        error(b, "ERROR", "57014", "canceling statement due to user request");
        if (type == 'Q')
            ready(b);
    } else {
        do_message(pg, b, type, b->in.p + 5, n - 5);
    }
    bytes_drop(&b->in, n);
    return true;
}

static void transmit(struct fake_pg *pg, struct backend *b)
{
    if (b->out.n > 2000)
        flush(b);
    if (b->flushed == 0)
        return;
    size_t n = sim_write(pg->sim, b->fd, b->out.p, sim_chunk(pg->sim, (uint32_t)b->flushed));
    bytes_drop(&b->out, n);
    b->flushed -= n;
}

static void fault(struct fake_pg *pg, struct backend *b)
{
    if (sim_random(pg->sim, 3) == 0) {
        error(b, "FATAL", "57P01", "terminating connection due to administrator command");
        b->ends = true;
    } else {
        end(pg, b, sim_random(pg->sim, 2));
    }
}

void fake_pg_step(struct fake_pg *pg)
{
    for (unsigned i = 0; i < BACKENDS_MAX; i++) {
        struct backend *b = &pg->backends[i];
        if (!b->used || sim_random(pg->sim, 3) == 0)
            continue;
        receive(pg, b);
        for (uint32_t most = 1 + sim_random(pg->sim, 6); most > 0 && work_once(pg, b); most--)
            ;
        transmit(pg, b);
        bool done = b->ends && (b->out.n == 0 || sim_ended(pg->sim, b->fd)) &&
                    (!b->is_cancel || sim_random(pg->sim, 4) == 0);
        if (done || (b->in.n == 0 && sim_ended(pg->sim, b->fd)))
            end(pg, b, false);
        else if (!b->ends && sim_random(pg->sim, 10000) < pg->fault_per_mille)
            fault(pg, b);
    }
}
