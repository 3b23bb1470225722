/* bench/bench_router.c: what classification costs: ns for typical statements, MB/s for long ones.
 *
 * `make bench-router`. Each figure is the best of ROUNDS; the parser of libpg_query runs beside ours.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <pg_query.h>

#include "router/classify.h"

#define ROUNDS 100 /* short ones: on a busy machine few are left alone */
#define CALLS 2000
#define PARSER_CALLS 50
#define CATALOG_NAMES 3000
#define LONG_BYTES (1 << 20)

static const char *const statements[] = {
    "SELECT abalance FROM pgbench_accounts WHERE aid = 12345",
    "UPDATE pgbench_accounts SET abalance = abalance + 100 WHERE aid = 12345 -- a comment of "
    "thirty bytes..",
    "SELECT u.id, u.name, o.total FROM users u JOIN orders o ON o.user_id = u.id WHERE u.email = "
    "$1 LIMIT 10",
    "SELECT count(*), max(o.created_at) FROM orders o WHERE o.status IN ('new', 'paid') AND "
    "o.total > 100.50",
    "SELECT \"auth_user\".\"id\", \"auth_user\".\"email\" FROM \"auth_user\" WHERE "
    "\"auth_user\".\"id\" = 42 LIMIT 21",
    "WITH recent AS (SELECT * FROM events WHERE at > now() - interval '1 day') SELECT kind, "
    "count(*) FROM recent GROUP BY kind",
    "select u1_0.id,u1_0.email,u1_0.name from users u1_0 where u1_0.name like $1 and u1_0.id>$2 "
    "order by u1_0.id",
};

static const struct sql_env env = {.standard_conforming_strings = true};
static volatile unsigned sink;

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double best_ns(struct slice sql, const struct sql_env *with, int calls)
{
    double best = 1e18;
    for (int round = 0; round < ROUNDS; round++) {
        const double from = now_ns();
        for (int i = 0; i < calls; i++) {
            struct sql_facts facts;
            sql_classify(sql, with, &facts);
            sink += facts.class;
        }
        const double ns = (now_ns() - from) / calls;
        best = ns < best ? ns : best;
    }
    return best;
}

static double parser_ns(const char *sql)
{
    double best = 1e18;
    for (int round = 0; round < ROUNDS; round++) {
        const double from = now_ns();
        for (int i = 0; i < PARSER_CALLS; i++)
            pg_query_free_parse_result(pg_query_parse(sql));
        const double ns = (now_ns() - from) / PARSER_CALLS;
        best = ns < best ? ns : best;
    }
    return best;
}

/* The tables of the statements above among thousands of names. */
static struct catalog *bench_catalog(void)
{
    static const char *const tables[] = {"pgbench_accounts", "users", "orders", "auth_user",
                                         "events"};
    struct catalog *catalog = catalog_new(1);
    char name[32];
    for (int i = 0; i < CATALOG_NAMES; i++) {
        snprintf(name, sizeof name, "some_table_%d", i);
        catalog_put(catalog, (enum catalog_kind)(i % 3 == 2 ? CATALOG_FIELD : i % 3),
                    slice_of("public"), slice_of(name), SQL_READ, ROUTE_WHY_READ);
    }
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        catalog_put(catalog, CATALOG_RELATION, slice_of("public"), slice_of(tables[i]), SQL_READ,
                    ROUTE_WHY_READ);
    return catalog;
}

static void bench_typical(const char *text, const struct sql_env *with_catalog)
{
    struct sql_facts facts;
    const struct slice sql = slice_of(text);
    sql_classify(sql, with_catalog, &facts);
    const double ns = best_ns(sql, &env, CALLS), with = best_ns(sql, with_catalog, CALLS);
    const double parser = parser_ns(text);
    printf("%8.1f ns  %8.1f ns with a catalog  %8.0f ns parser, %4.0f x  %3zu bytes  %-8s %.50s\n",
           ns, with, parser, parser / ns, sql.n, sql_class_text((enum sql_class)facts.class), text);
}

static void bench_long(const char *what, const char *head, const char *unit, const char *tail)
{
    char *text = malloc(LONG_BYTES + 1024), *end = stpcpy(text, head);
    while (end < text + LONG_BYTES)
        end = stpcpy(end, unit);
    const size_t n = (size_t)(stpcpy(end, tail) - text);
    const double ns = best_ns((struct slice){(const uint8_t *)text, n}, &env, 1);
    printf("%8.0f MB/s  %s\n", (double)n * 1e3 / ns, what);
    free(text);
}

int main(void)
{
    struct catalog *catalog = bench_catalog();
    const struct sql_env with_catalog = {.standard_conforming_strings = true, .catalog = catalog};
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++)
        bench_typical(statements[i], &with_catalog);
    catalog_free(catalog);
    bench_long("1 MB: one string", "SELECT '", "abcdefgh ijklmnop ", "'");
    bench_long("1 MB: dollar quote", "SELECT $x$", "abcdefgh ijklmnop ", "$x$");
    bench_long("1 MB: IN list of numbers", "SELECT 1 FROM t WHERE a IN (1", ", 123456789", ")");
    bench_long("1 MB: INSERT rows", "INSERT INTO t VALUES (1, 'x')",
               ", (12345, 'some text of a row')", "");
    bench_long("1 MB: columns and ANDs", "SELECT 1 FROM t WHERE true",
               " AND some_column = other_column", "");
    bench_long("1 MB: comment", "/* ", "words of a comment ", "*/ SELECT 1");
    return 0;
}
