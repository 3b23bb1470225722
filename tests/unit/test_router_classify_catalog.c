/* tests/unit/test_router_classify_catalog.c: what the catalog's facts change in a statement's class. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "router/classify.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

struct fact {
    enum catalog_kind kind;
    const char *schema, *name;
    uint8_t class, reason;
};

#define READS SQL_READ, ROUTE_WHY_READ

static const struct fact facts[] = {
    {CATALOG_RELATION, "public", "t", READS},
    {CATALOG_RELATION, "public", "u", READS},
    {CATALOG_RELATION, "public", "v", READS},
    {CATALOG_RELATION, "s", "t", READS},
    {CATALOG_RELATION, "s", "only_in_s", READS},
    {CATALOG_RELATION, "public", "rows", READS},
    {CATALOG_RELATION, "public", "values", READS},
    {CATALOG_RELATION, "public", "Mixed", READS},
    {CATALOG_RELATION, "public",
     "stra\xc3\x9f"
     "e",
     READS},
    {CATALOG_RELATION, "public",
     "\xc3\x9c"
     "BER",
     READS},
    {CATALOG_RELATION, "public", "unlogged", SQL_PRIMARY_RELATION, ROUTE_WHY_UNLOGGED},
    {CATALOG_RELATION, "public", "two", READS},
    {CATALOG_RELATION, "s", "two", SQL_PRIMARY_RELATION, ROUTE_WHY_FOREIGN},
    {CATALOG_RELATION, "public", "a\"\"b", READS},
    {CATALOG_FUNCTION, "public", "safe", READS},
    {CATALOG_FUNCTION, "public", "writes", SQL_WRITER_FUNCTION, ROUTE_WHY_USER_FUNCTION},
    {CATALOG_FUNCTION, "s", "lower", SQL_WRITER_FUNCTION, ROUTE_WHY_USER_FUNCTION},
    {CATALOG_FUNCTION, "public", "upper", READS},
    {CATALOG_FUNCTION, "public", "nextval", READS},
    {CATALOG_FUNCTION, "s", "substring", SQL_WRITER_FUNCTION, ROUTE_WHY_USER_FUNCTION},
    {CATALOG_FIELD, "public", "full_name", READS},
    {CATALOG_FIELD, "public", "audit", SQL_WRITER_FUNCTION, ROUTE_WHY_USER_FUNCTION},
    {CATALOG_TYPE, "public", "mood", READS},
    {CATALOG_TYPE, "public", "checked", SQL_UNKNOWN, ROUTE_WHY_USER_TYPE},
    {CATALOG_TYPE, "public", "date", SQL_UNKNOWN, ROUTE_WHY_USER_TYPE},
    {CATALOG_TYPE, "public", "int", SQL_UNKNOWN, ROUTE_WHY_USER_TYPE},
    {CATALOG_OPERATOR, "public", "===", READS},
    {CATALOG_OPERATOR, "public", "&&&", SQL_UNKNOWN, ROUTE_WHY_USER_OPERATOR},
    {CATALOG_OPERATOR, "public", "||", SQL_UNKNOWN, ROUTE_WHY_USER_OPERATOR},
    {CATALOG_OPERATOR, "public", "~~*", SQL_UNKNOWN, ROUTE_WHY_USER_OPERATOR},
    {CATALOG_OPERATOR, "public", "<>", SQL_UNKNOWN, ROUTE_WHY_USER_OPERATOR},
    {CATALOG_FUNCTION, "pg_catalog", "reverse", SQL_WRITER_FUNCTION, ROUTE_WHY_USER_FUNCTION},
    {CATALOG_OPERATOR, "pg_catalog", "-", SQL_UNKNOWN, ROUTE_WHY_USER_OPERATOR},
    {CATALOG_TYPE, "pg_catalog", "uuid", SQL_UNKNOWN, ROUTE_WHY_USER_TYPE},
};

struct expected {
    enum sql_class class;
    enum route_reason reason;
    const char *sql;
};

#define R READS
#define NO_RELATION SQL_UNKNOWN, ROUTE_WHY_UNKNOWN_RELATION
#define NO_FUNCTION SQL_UNKNOWN, ROUTE_WHY_UNKNOWN_FUNCTION
#define NO_TYPE SQL_UNKNOWN, ROUTE_WHY_UNKNOWN_TYPE
#define NO_OPERATOR SQL_UNKNOWN, ROUTE_WHY_UNKNOWN_OPERATOR
#define CATALOG SQL_CATALOG_READ, ROUTE_WHY_CATALOG_READ
#define TEMPORARY SQL_PRIMARY_RELATION, ROUTE_WHY_PRIMARY_RELATION
#define COPIED SQL_COPY_OUT, ROUTE_WHY_COPY_OUT
#define USER_FUNCTION SQL_WRITER_FUNCTION, ROUTE_WHY_USER_FUNCTION
#define USER_TYPE SQL_UNKNOWN, ROUTE_WHY_USER_TYPE
#define USER_OPERATOR SQL_UNKNOWN, ROUTE_WHY_USER_OPERATOR
#define UNLOGGED SQL_PRIMARY_RELATION, ROUTE_WHY_UNLOGGED
#define FOREIGN SQL_PRIMARY_RELATION, ROUTE_WHY_FOREIGN

static const struct expected statements[] = {
#include "tests/unit/test_router_statements_catalog.def"
};

static struct catalog *catalog_of_facts(void)
{
    struct catalog *catalog = catalog_new(1);
    for (size_t i = 0; i < COUNT(facts); i++)
        catalog_put(catalog, facts[i].kind, slice_of(facts[i].schema), slice_of(facts[i].name),
                    facts[i].class, facts[i].reason);
    return catalog;
}

static struct sql_facts classified(const char *sql, const struct catalog *catalog)
{
    const struct sql_env env = {.standard_conforming_strings = true, .catalog = catalog};
    const size_t n = strlen(sql);
    uint8_t *copy = malloc(n ? n : 1); /* exact size: ASan sees one byte too far */
    assert_non_null(copy);
    memcpy(copy, sql, n);
    struct sql_facts out;
    sql_classify((struct slice){copy, n}, &env, &out);
    struct sql_facts in_full;
    sql_classify_in_full((struct slice){copy, n}, &env, &in_full);
    assert_memory_equal(&out, &in_full, sizeof out);
    free(copy);
    return out;
}

static void every_statement_has_its_class_and_reason(void **state)
{
    (void)state;
    unsigned wrong = 0;
    struct catalog *catalog = catalog_of_facts();
    for (size_t i = 0; i < COUNT(statements); i++) {
        const struct expected *e = &statements[i];
        const struct sql_facts f = classified(e->sql, catalog);
        if (f.class == e->class && f.reason == e->reason)
            continue;
        print_error("%s (%s), not %s (%s): %s\n", sql_class_text((enum sql_class)f.class),
                    route_reason_text((enum route_reason)f.reason), sql_class_text(e->class),
                    route_reason_text(e->reason), e->sql);
        wrong++;
    }
    catalog_free(catalog);
    assert_int_equal(wrong, 0);
}

/* The plain statements of the other table, wherever the catalog does not know their names. */
static void a_catalog_without_names_makes_no_more_reads(void **state)
{
    (void)state;
    static const struct {
        enum sql_class class;
        const char *sql;
    } plain[] = {
#include "tests/unit/test_router_statements.def"
    };
    struct catalog *catalog = catalog_new(2);
    for (size_t i = 0; i < COUNT(plain); i++) {
        const struct sql_facts with = classified(plain[i].sql, catalog);
        const struct sql_facts without = classified(plain[i].sql, NULL);
        assert_true(with.class >= without.class);
        assert_int_equal(with.flags & ~(uint32_t)(SQL_F_READ | SQL_F_NOT_READ),
                         without.flags & ~(uint32_t)(SQL_F_READ | SQL_F_NOT_READ));
        assert_true(with.fingerprint == without.fingerprint);
    }
    catalog_free(catalog);
}

static void what_holds_everywhere_holds_for_relations_and_parameters(void **state)
{
    (void)state;
    struct catalog *catalog = catalog_of_facts();
    catalog_put_rule(catalog, CATALOG_EVERYWHERE, SQL_UNKNOWN, ROUTE_WHY_USER_CAST);
    static const char *const held[] = {"SELECT a FROM t",
                                       "SELECT $1",
                                       "TABLE t",
                                       "COPY t TO STDOUT",
                                       "SELECT 1; SELECT 1 + $1",
                                       "WITH x AS (SELECT a FROM t) SELECT * FROM x"};
    static const char *const free_of_it[] = {"SELECT 1", "VALUES (1)",
                                             "SELECT * FROM generate_series(1, 2)"};
    for (size_t i = 0; i < COUNT(held); i++) {
        const struct sql_facts f = classified(held[i], catalog);
        assert_int_equal(f.class, SQL_UNKNOWN);
        assert_int_equal(f.reason, ROUTE_WHY_USER_CAST);
    }
    for (size_t i = 0; i < COUNT(free_of_it); i++)
        assert_int_equal(classified(free_of_it[i], catalog).class, SQL_READ);
    catalog_free(catalog);
}

static void a_declared_parameter_may_run_what_its_type_runs(void **state)
{
    (void)state;
    static const uint8_t bad[] = {0, 0, 0, 23, 0, 0, 0x50, 0},
                         other[] = {0, 0, 0, 23, 0, 0, 0x50, 1};
    const struct slice oids = {bad, sizeof bad}, other_oids = {other, sizeof other};
    struct catalog *catalog = catalog_of_facts(), *blind = catalog_new(4);
    catalog_put(catalog, CATALOG_PARAMETER, slice_of("pg_type"), slice_of("20480"),
                SQL_WRITER_FUNCTION, ROUTE_WHY_USER_TYPE);
    catalog_put_rule(blind, CATALOG_MISSING, SQL_UNKNOWN, ROUTE_WHY_CATALOG_STALE);
    struct sql_facts f = classified("SELECT $2", catalog);
    sql_facts_declare(&f, other_oids, catalog);
    assert_true(f.class == SQL_READ && f.flags & SQL_F_READ);
    sql_facts_declare(&f, oids, NULL);
    assert_true(f.class == SQL_READ && f.flags & SQL_F_READ);
    sql_facts_declare(&f, oids, catalog);
    assert_int_equal(f.class, SQL_WRITER_FUNCTION);
    assert_int_equal(f.reason, ROUTE_WHY_USER_TYPE);
    assert_int_equal(f.flags & (SQL_F_READ | SQL_F_NOT_READ), SQL_F_NOT_READ);
    f = classified("SELECT $1", blind);
    sql_facts_declare(&f, (struct slice){bad, 4}, blind);
    assert_int_equal(f.class, SQL_READ);
    sql_facts_declare(&f, other_oids, blind);
    assert_int_equal(f.reason, ROUTE_WHY_CATALOG_STALE);
    f = classified("INSERT INTO t VALUES ($1)", catalog);
    sql_facts_declare(&f, oids, catalog);
    assert_int_equal(f.class, SQL_WRITE);
    catalog_free(catalog);
    catalog_free(blind);
}

/* A user's function, operator or type may go before a built-in one; nobody knows while the facts are missing. */
static void without_all_facts_built_in_names_are_unknown(void **state)
{
    (void)state;
    struct catalog *catalog = catalog_new(3);
    catalog_put_rule(catalog, CATALOG_MISSING, SQL_UNKNOWN, ROUTE_WHY_CATALOG_STALE);
    static const char *const doubtful[] = {"SELECT lower('a')",  "SELECT pg_catalog.lower('a')",
                                           "SELECT 1 + 1",       "SELECT 'a'::text",
                                           "SELECT count(*)",    "SELECT 1 IN (1)",
                                           "SELECT (ROW(1)).f1", "SELECT 1::int"};
    static const char *const free_of_it[] = {"SELECT 1", "SELECT 'a', NULL, $1",
                                             "WITH x AS (SELECT 1) SELECT * FROM x"};
    for (size_t i = 0; i < COUNT(doubtful); i++) {
        assert_int_equal(classified(doubtful[i], catalog).class, SQL_UNKNOWN);
        assert_int_equal(classified(doubtful[i], catalog).reason, ROUTE_WHY_CATALOG_STALE);
    }
    for (size_t i = 0; i < COUNT(free_of_it); i++)
        assert_int_equal(classified(free_of_it[i], catalog).class, SQL_READ);
    assert_int_equal(classified("SELECT f()", catalog).reason, ROUTE_WHY_UNKNOWN_FUNCTION);
    assert_int_equal(classified("TABLE t", catalog).reason, ROUTE_WHY_UNKNOWN_RELATION);
    catalog_free(catalog);
}

/* Names of WITH beyond the limit count as relations, and then they are unknown. */
static void more_with_queries_than_the_limit_are_unknown(void **state)
{
    (void)state;
    struct catalog *catalog = catalog_of_facts();
    for (unsigned n = 1; n < 40; n++) {
        char sql[4096];
        int at = snprintf(sql, sizeof sql, "WITH c0 AS (SELECT 1)");
        for (unsigned i = 1; i < n; i++)
            at += snprintf(sql + at, sizeof sql - (size_t)at, ", c%u AS (SELECT 1)", i);
        snprintf(sql + at, sizeof sql - (size_t)at, " SELECT * FROM c%u", n - 1);
        assert_int_equal(classified(sql, catalog).class, n <= 32 ? SQL_READ : SQL_UNKNOWN);
    }
    catalog_free(catalog);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_statement_has_its_class_and_reason),
        cmocka_unit_test(a_catalog_without_names_makes_no_more_reads),
        cmocka_unit_test(what_holds_everywhere_holds_for_relations_and_parameters),
        cmocka_unit_test(without_all_facts_built_in_names_are_unknown),
        cmocka_unit_test(a_declared_parameter_may_run_what_its_type_runs),
        cmocka_unit_test(more_with_queries_than_the_limit_are_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
