#include "proxy/admin/route_cli.h"

#include "base/check.h"
#include "base/utf8.h"
#include "proxy/control/catalog_load.h"
#include "router/decide.h"
#include "router/split.h"
#include "router/tx.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define EXIT_USAGE 64
#define EXIT_DATA 65
#define EXIT_NO_INPUT 66
#define EXIT_UNAVAILABLE 69
#define EXIT_IO 74
#define INPUT_FIRST (64UL << 10)
#define SHOWN_MAX 100 /* bytes of a statement in the table */

static int usage(FILE *out, int code)
{
    fputs("usage: pgweir route [--json] [--catalog DSN] [-f FILE] [SQL ...]\n"
          "Says for each statement its class, where pgweir would send it when a replica is\n"
          "fresh, and why. Semicolons separate statements, as in psql. Without SQL and FILE\n"
          "they come from standard input.\n"
          "  --json         one JSON object per statement: sql, class, route, reason\n"
          "  --catalog DSN  read from this primary what its tables, views, functions and types\n"
          "                 are: libpq's words, as in \"host=pg1 dbname=app user=probe\".\n"
          "                 Without it a relation counts as a permanent table, and a function\n"
          "                 that is not built in as one that writes\n"
          "  -f FILE        statements from a file\n"
          "  --             what follows is SQL, also when it begins with a dash\n"
          "Behind BEGIN READ ONLY reads are for a replica, behind another BEGIN for the primary,\n"
          "until COMMIT or ROLLBACK.\n",
          out);
    return code;
}

/* ---- explaining ---- */

/* Where the transaction of the statements before this one is. */
enum open_tx {
    NOT_OPEN,
    BEGUN /* no statement yet: SET TRANSACTION may change it */,
    ON_PRIMARY,
    ON_REPLICA
};

struct explainer {
    struct sql_env env;
    enum open_tx open;
    struct tx_modes said;    /* by the open transaction */
    struct tx_modes session; /* by SET default_transaction_... and its like */
    bool stuck;              /* it cannot leave its replica any more */
    bool json;
};

struct verdict {
    enum sql_class class;
    enum route_target target; /* ROUTE_PRIMARY or ROUTE_REPLICA */
    enum route_reason reason;
};

static enum route_tx place_of(const struct explainer *e, const struct sql_facts *facts)
{
    switch (tx_place(e->said, e->session, false)) {
    case TX_SERIALIZABLE_ON_PRIMARY:
        return ROUTE_TX_SERIALIZABLE;
    case TX_ON_REPLICA:
        return tx_fate(facts) == TX_STAYS ? ROUTE_TX_READ_ONLY : ROUTE_TX_PRIMARY;
    case TX_ON_ANY:
    case TX_ON_PRIMARY:
        break;
    }
    return e->open == NOT_OPEN ? ROUTE_TX_BY_CLASS : ROUTE_TX_PRIMARY;
}

/* Of a BEGIN, and of what sets modes right behind it. */
static enum route_tx place_at_start(const struct explainer *e)
{
    static const struct sql_facts nothing = {.class = SQL_READ, .flags = SQL_F_READ | SQL_F_EMPTY};
    return place_of(e, &nothing);
}

/* On a replica: the statement may stay, has to move, or the client gets an error where it is. */
static enum route_tx place_on_replica(const struct explainer *e, const struct sql_facts *facts)
{
    enum tx_fate fate = tx_fate(facts);
    bool stays = fate == TX_STAYS || (fate == TX_MOVES && e->stuck);
    return stays ? ROUTE_TX_READ_ONLY : ROUTE_TX_MOVED;
}

static enum route_tx place_in(const struct explainer *e, const struct sql_facts *facts)
{
    if (e->open == ON_PRIMARY)
        return ROUTE_TX_PRIMARY;
    return e->open == ON_REPLICA ? place_on_replica(e, facts) : place_of(e, facts);
}

static struct verdict decide(const struct sql_facts *facts, enum route_tx tx, enum hint_route hint)
{
    struct route_input in = {.read_write_split = true,
                             .segment_complete = true,
                             .tx = tx,
                             .hint = hint,
                             .class = facts->class,
                             .class_reason = facts->reason,
                             .flags = facts->flags,
                             .replica_mask = 1,
                             .replica_all_mask = 1};
    struct route route;
    route_decide(&in, &route);
    return (struct verdict){(enum sql_class)facts->class, route.target,
                            (enum route_reason)route.reason};
}

static void take_session_modes(struct tx_modes *session, const struct tx_statement *st)
{
    if (st->reset & TX_RESET_ISOLATION)
        session->isolation = 0;
    if (st->reset & TX_RESET_ACCESS)
        session->access = 0;
    if (st->reset & TX_RESET_DEFERRABLE)
        session->deferrable = 0;
    *session = tx_modes_over(st->modes, *session);
}

static void begins(struct explainer *e, struct tx_modes said)
{
    e->open = BEGUN;
    e->said = said;
    e->stuck = false;
}

static void ends(struct explainer *e)
{
    e->open = NOT_OPEN;
    e->said = (struct tx_modes){0};
}

/* What the statement leaves behind for the next one. */
static void step(struct explainer *e, const struct sql_facts *facts, const struct tx_statement *st,
                 const struct verdict *v)
{
    struct tx_modes is = tx_modes_over(e->said, e->session);
    if (st->kind == TX_SET_SESSION)
        take_session_modes(&e->session, st);
    if (e->open == NOT_OPEN && facts->flags & SQL_F_BEGIN)
        begins(e, st->modes);
    else if (facts->flags & SQL_F_TX_CLOSED)
        ends(e);
    else if (e->open != NOT_OPEN && facts->flags & SQL_F_BEGIN && st->chain)
        begins(e, e->said);
    else if (e->open == BEGUN && st->kind == TX_SET)
        e->said = tx_modes_over(st->modes, e->said);
    else if (e->open != NOT_OPEN && facts->statements > 0)
        e->open = v->target == ROUTE_REPLICA ? ON_REPLICA : ON_PRIMARY;
    e->stuck = e->stuck || tx_leaves_state(facts) || is.isolation == TX_REPEATABLE_READ;
}

static struct verdict explain(struct explainer *e, struct slice sql)
{
    struct sql_facts facts;
    struct tx_statement st;
    struct hint hint;
    sql_classify(sql, &e->env, &facts);
    hint_read(sql, e->env.standard_conforming_strings, &hint);
    tx_parse(sql, true, &st);
    struct explainer then = *e; /* BEGIN and SET TRANSACTION go where they lead */
    bool starts = e->open == NOT_OPEN && st.kind == TX_BEGIN;
    bool sets = e->open == BEGUN && st.kind == TX_SET;
    if (starts)
        begins(&then, st.modes);
    else if (sets)
        then.said = tx_modes_over(st.modes, e->said);
    enum route_tx place = starts || sets ? place_at_start(&then) : place_in(e, &facts);
    struct verdict v = decide(&facts, place, hint.route);
    step(e, &facts, &st, &v);
    return v;
}

/* ---- printing ---- */

/* JSON is UTF-8: every byte that is part of no character becomes U+FFFD. */
static json_t *json_text(struct slice sql)
{
    json_t *text = json_stringn((const char *)sql.p, sql.n);
    if (text)
        return text;
    char *copy = malloc(sql.n * 3 + 1);
    CHECK(copy != NULL);
    size_t out = 0;
    for (size_t i = 0; i < sql.n;) {
        size_t bytes = utf8_bytes(slice_skip(sql, i));
        memcpy(copy + out, bytes ? (const char *)sql.p + i : "\xEF\xBF\xBD", bytes ? bytes : 3);
        out += bytes ? bytes : 3;
        i += bytes ? bytes : 1;
    }
    text = json_stringn(copy, out);
    CHECK(text != NULL);
    free(copy);
    return text;
}

static void print_json(struct slice sql, const struct verdict *v)
{
    json_t *object =
        json_pack("{s:o,s:s,s:s,s:s}", "sql", json_text(sql), "class", sql_class_text(v->class),
                  "route", route_target_text(v->target), "reason", route_reason_text(v->reason));
    CHECK(object != NULL);
    json_dumpf(object, stdout, JSON_COMPACT); /* a full disk is seen by finish() */
    putchar('\n');
    json_decref(object);
}

/* One line that no terminal misreads: white space is one blank, control bytes and what is no UTF-8 a '?'. */
static void print_shown(struct slice sql)
{
    size_t shown = 0, i = 0;
    while (i < sql.n && shown < SHOWN_MAX) {
        uint8_t c = sql.p[i];
        size_t bytes = utf8_bytes(slice_skip(sql, i));
        if (c == ' ' || (c >= '\t' && c <= '\r')) {
            while (i < sql.n && (sql.p[i] == ' ' || (sql.p[i] >= '\t' && sql.p[i] <= '\r')))
                i++;
            putchar(' ');
            shown++;
            continue;
        }
        if (bytes == 0 || utf8_is_control((struct slice){sql.p + i, bytes}))
            putchar('?');
        else
            fwrite(sql.p + i, 1, bytes, stdout);
        shown += bytes ? bytes : 1;
        i += bytes ? bytes : 1;
    }
    puts(i < sql.n ? " ..." : "");
}

static int class_width(void)
{
    size_t width = 0;
    for (int i = 0; i < SQL_CLASS_N; i++) {
        size_t n = strlen(sql_class_text((enum sql_class)i));
        width = n > width ? n : width;
    }
    return (int)width;
}

static int reason_width(void)
{
    size_t width = 0;
    for (int i = 0; i < ROUTE_WHY_N; i++) {
        size_t n = strlen(route_reason_text((enum route_reason)i));
        width = n > width ? n : width;
    }
    return (int)width;
}

static void print_line(const char *class, const char *route, const char *reason, struct slice sql)
{
    printf("%-*s  %-7s  %-*s  ", class_width(), class, route, reason_width(), reason);
    print_shown(sql);
}

static void print_head(const struct explainer *e)
{
    if (!e->json)
        print_line("class", "route", "reason", slice_of("statement"));
}

static void print_one(struct explainer *e, struct slice sql)
{
    struct verdict v = explain(e, sql);
    if (e->json)
        print_json(sql, &v);
    else
        print_line(sql_class_text(v.class), route_target_text(v.target),
                   route_reason_text(v.reason), sql);
}

/* ---- reading ---- */

/* Prints what is complete; the bytes that it used. */
static size_t print_all(struct explainer *e, struct slice text, bool last)
{
    struct split one;
    size_t used = 0;
    while (split_next(slice_skip(text, used), last, true, &one)) {
        used += one.used;
        bool ended = text.p[used - 1] == ';'; /* comments at the very end are no statement */
        if (one.statement.n > 0 && (!one.blank || ended))
            print_one(e, one.statement);
    }
    return used;
}

struct input {
    uint8_t *p;
    size_t n, cap;
};

/* A statement whose end is not there is looked at again when there is twice as much of it: so a long
 * one costs linear time. False: it is too long. */
static bool make_room(struct input *in)
{
    if (in->n < in->cap)
        return true;
    if (in->cap >= ROUTE_STATEMENT_MAX)
        return false;
    in->cap = in->cap ? in->cap * 2 : INPUT_FIRST;
    in->p = realloc(in->p, in->cap);
    CHECK(in->p != NULL);
    return true;
}

static int read_statements(struct explainer *e, int fd, const char *name)
{
    struct input in = {0};
    ssize_t got = 1;
    size_t look_at = 1;
    int code = 0;
    while (got > 0 && code == 0) {
        if (!make_room(&in)) {
            fprintf(stderr, "pgweir: %s: a statement is longer than %lu bytes\n", name,
                    ROUTE_STATEMENT_MAX);
            code = EXIT_DATA;
            break;
        }
        fflush(stdout); /* who writes and reads in turns gets the answers so far */
        got = read(fd, in.p + in.n, in.cap - in.n);
        if (got < 0) {
            fprintf(stderr, "pgweir: cannot read %s: %s\n", name, strerror(errno));
            code = EXIT_NO_INPUT;
            break;
        }
        in.n += (size_t)got;
        if (in.n < look_at && got > 0)
            continue;
        size_t used = print_all(e, (struct slice){in.p, in.n}, got == 0);
        in.n -= used;
        memmove(in.p, in.p + used, in.n);
        look_at = in.n > INPUT_FIRST ? 2 * in.n : 1;
    }
    free(in.p);
    return code;
}

static int read_file(struct explainer *e, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        fprintf(stderr, "pgweir: cannot open %s: %s\n", path, strerror(errno));
        return EXIT_NO_INPUT;
    }
    int code = read_statements(e, fd, path);
    close(fd);
    return code;
}

static int finish(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    fprintf(stderr, "pgweir: cannot write: %s\n", strerror(errno));
    return EXIT_IO;
}

static int run(struct explainer *e, const char *file, char **texts)
{
    print_head(e);
    if (file)
        return read_file(e, file);
    if (!*texts)
        return read_statements(e, STDIN_FILENO, "standard input");
    for (; *texts; texts++)
        print_all(e, slice_of(*texts), true);
    return 0;
}

static struct catalog *load_catalog(const char *dsn)
{
    char error[CATALOG_ERROR_BYTES];
    struct catalog *catalog = catalog_load_blocking(dsn, error, sizeof error);
    if (!catalog)
        fprintf(stderr, "pgweir: cannot read the catalog: %s\n", error);
    return catalog;
}

int route_main(int argc, char **argv)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                                            {"file", required_argument, NULL, 'f'},
                                            {"catalog", required_argument, NULL, 'c'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct explainer e = {.env = {.standard_conforming_strings = true}};
    const char *file = NULL, *dsn = NULL;
    for (int c; (c = getopt_long(argc, argv, "+f:h", options, NULL)) != -1;) {
        if (c == 'j')
            e.json = true;
        else if (c == 'f')
            file = optarg;
        else if (c == 'c')
            dsn = optarg;
        else
            return usage(c == 'h' ? stdout : stderr, c == 'h' ? 0 : EXIT_USAGE);
    }
    if (file && optind < argc) {
        fputs("pgweir: give SQL or -f FILE, not both\n", stderr);
        return usage(stderr, EXIT_USAGE);
    }
    struct catalog *catalog = NULL;
    if (dsn && !(catalog = load_catalog(dsn)))
        return EXIT_UNAVAILABLE;
    e.env.catalog = catalog;
    int code = finish(run(&e, file, argv + optind));
    if (catalog)
        catalog_free(catalog);
    return code;
}
