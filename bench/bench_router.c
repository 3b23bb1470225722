/* bench/bench_router.c: what classification costs: ns for typical statements, MB/s for long ones.
 *
 * gcc -O2 -std=gnu17 -I. -D_GNU_SOURCE -o /tmp/bench_router bench/bench_router.c router/[a-z]*.c
 * base/check.c /tmp/bench_router
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "router/classify.h"

#define ROUNDS 9
#define CALLS 100000
#define LONG_BYTES (1 << 20)

static const char *const statements[] = {
    "SELECT abalance FROM pgbench_accounts WHERE aid = 12345",
    "SELECT u.id, u.name, o.total FROM users u JOIN orders o ON o.user_id = u.id WHERE u.email = "
    "$1 LIMIT 10",
    "SELECT count(*), max(o.created_at) FROM orders o WHERE o.status IN ('new', 'paid') AND "
    "o.total > 100.50",
    "SELECT \"auth_user\".\"id\", \"auth_user\".\"email\" FROM \"auth_user\" WHERE "
    "\"auth_user\".\"id\" = 42 LIMIT 21",
    "UPDATE pgbench_accounts SET abalance = abalance + 100 WHERE aid = 12345 -- a comment of "
    "thirty bytes..",
    "WITH recent AS (SELECT * FROM events WHERE at > now() - interval '1 day') SELECT kind, "
    "count(*) FROM recent GROUP BY kind",
    "BEGIN",
};

static const struct sql_env env = {.standard_conforming_strings = true};
static volatile unsigned sink;

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double best_ns(struct slice sql, int calls)
{
    double best = 1e18;
    for (int round = 0; round < ROUNDS; round++) {
        const double from = now_ns();
        for (int i = 0; i < calls; i++) {
            struct sql_facts facts;
            sql_classify(sql, &env, &facts);
            sink += facts.class;
        }
        const double ns = (now_ns() - from) / calls;
        best = ns < best ? ns : best;
    }
    return best;
}

static void bench_long(const char *what, const char *head, const char *unit, const char *tail)
{
    char *text = malloc(LONG_BYTES + 1024), *end = stpcpy(text, head);
    while (end < text + LONG_BYTES)
        end = stpcpy(end, unit);
    const size_t n = (size_t)(stpcpy(end, tail) - text);
    const double ns = best_ns((struct slice){(const uint8_t *)text, n}, 10);
    printf("%8.0f MB/s  %s\n", (double)n * 1e3 / ns, what);
    free(text);
}

int main(void)
{
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
        struct sql_facts facts;
        const struct slice sql = slice_of(statements[i]);
        sql_classify(sql, &env, &facts);
        printf("%8.1f ns  %3zu bytes  %-14s %.70s\n", best_ns(sql, CALLS), sql.n,
               sql_class_text((enum sql_class)facts.class), statements[i]);
    }
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
