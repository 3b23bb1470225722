/* tests/unit/test_router_catalog.c: what may be asked of a catalog, against a plain list. */
#include "router/catalog.h"

#include "router/classify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void put(struct catalog *c, enum catalog_kind kind, const char *schema, const char *name,
                uint8_t class)
{
    catalog_put(c, kind, slice_of(schema), slice_of(name), class, ROUTE_WHY_USER_FUNCTION);
}

/* The class of what stands in SQL as text, SQL_CLASS_N: unknown. "name" is quoted. In heap blocks
 * of exactly its size: ASan sees what reads past it. */
static struct catalog_name name_of(const char *sql, uint8_t **block)
{
    const bool quoted = sql[0] == '"';
    const size_t n = strlen(sql) - (quoted ? 2 : 0);
    *block = malloc(n ? n : 1);
    memcpy(*block, sql + quoted, n);
    return (struct catalog_name){{*block, n}, quoted, 0};
}

static unsigned ask(const struct catalog *c, enum catalog_kind kind, const char *schema,
                    const char *name)
{
    uint8_t *blocks[2] = {NULL, NULL};
    const struct catalog_name asked = name_of(name, &blocks[0]);
    const struct catalog_name in = name_of(schema ? schema : "", &blocks[1]);
    const struct catalog_answer answer = catalog_find(c, kind, schema ? &in : NULL, &asked);
    free(blocks[0]);
    free(blocks[1]);
    return answer.known ? answer.class : SQL_CLASS_N;
}

static void nothing_is_known_at_first(void **state)
{
    (void)state;
    struct catalog *c = catalog_new(7);
    assert_int_equal(catalog_id(c), 7);
    for (int kind = 0; kind < CATALOG_KIND_N; kind++) {
        assert_int_equal(ask(c, (enum catalog_kind)kind, NULL, "t"), SQL_CLASS_N);
        assert_int_equal(ask(c, (enum catalog_kind)kind, "public", "t"), SQL_CLASS_N);
    }
    assert_int_equal(catalog_rule(c, CATALOG_EVERYWHERE).class, SQL_READ);
    catalog_free(c);
    catalog_free(NULL);
}

static void a_name_is_found_in_its_schema_and_its_kind_only(void **state)
{
    (void)state;
    struct catalog *c = catalog_new(1);
    put(c, CATALOG_RELATION, "public", "t", SQL_READ);
    assert_int_equal(ask(c, CATALOG_RELATION, "public", "t"), SQL_READ);
    assert_int_equal(ask(c, CATALOG_RELATION, NULL, "t"), SQL_READ);
    assert_int_equal(ask(c, CATALOG_RELATION, "other", "t"), SQL_CLASS_N);
    assert_int_equal(ask(c, CATALOG_RELATION, NULL, "public"), SQL_CLASS_N); /* a schema */
    for (int kind = CATALOG_RELATION + 1; kind < CATALOG_KIND_N; kind++)
        assert_int_equal(ask(c, (enum catalog_kind)kind, NULL, "t"), SQL_CLASS_N);
    catalog_free(c);
}

static void without_a_schema_the_worst_one_counts(void **state)
{
    (void)state;
    static const char *const schemas[] = {"a", "b", "c"};
    /* every order in which three schemas can come, each of them the bad one */
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (int order = 0; order < 6; order++)
        for (int bad = 0; bad < 3; bad++) {
            struct catalog *c = catalog_new(1);
            for (int i = 0; i < 3; i++)
                put(c, CATALOG_FUNCTION, schemas[orders[order][i]], "f",
                    i == bad ? SQL_WRITER_FUNCTION : SQL_READ);
            assert_int_equal(ask(c, CATALOG_FUNCTION, NULL, "f"), SQL_WRITER_FUNCTION);
            for (int i = 0; i < 3; i++)
                assert_int_equal(ask(c, CATALOG_FUNCTION, schemas[orders[order][i]], "f"),
                                 i == bad ? SQL_WRITER_FUNCTION : SQL_READ);
            catalog_free(c);
        }
}

static void a_second_put_replaces_the_first(void **state)
{
    (void)state;
    struct catalog *c = catalog_new(1);
    put(c, CATALOG_RELATION, "a", "v", SQL_UNKNOWN);
    put(c, CATALOG_RELATION, "b", "v", SQL_UNKNOWN);
    put(c, CATALOG_RELATION, "a", "v", SQL_READ);
    assert_int_equal(ask(c, CATALOG_RELATION, NULL, "v"), SQL_UNKNOWN);
    put(c, CATALOG_RELATION, "b", "v", SQL_PRIMARY_RELATION);
    assert_int_equal(ask(c, CATALOG_RELATION, NULL, "v"), SQL_PRIMARY_RELATION);
    put(c, CATALOG_RELATION, "b", "v", SQL_READ);
    assert_int_equal(ask(c, CATALOG_RELATION, NULL, "v"), SQL_READ);
    put(c, CATALOG_RELATION, "a", "v", SQL_UNKNOWN);
    assert_int_equal(ask(c, CATALOG_RELATION, NULL, "v"), SQL_UNKNOWN);
    catalog_free(c);
}

static void names_fold_as_postgresql_folds_them(void **state)
{
    (void)state;
    struct catalog *c = catalog_new(1);
    put(c, CATALOG_RELATION, "public", "orders_of_today", SQL_READ);
    put(c, CATALOG_RELATION, "Public", "Orders", SQL_READ);
    put(c, CATALOG_RELATION, "public", "@[`{z", SQL_READ);
    put(c, CATALOG_RELATION, "public", "gr\xc3\xb6\xc3\x9f", SQL_READ);
    assert_int_equal(ask(c, CATALOG_RELATION, "PuBlIc", "ORDERS_of_TODAY"), SQL_READ);
    assert_int_equal(ask(c, CATALOG_RELATION, NULL, "\"orders_of_today\""), SQL_READ);
    assert_int_equal(ask(c, CATALOG_RELATION, NULL, "\"Orders_of_today\""), SQL_CLASS_N);
    assert_int_equal(ask(c, CATALOG_RELATION, NULL, "Orders"), SQL_CLASS_N);
    assert_int_equal(ask(c, CATALOG_RELATION, "\"Public\"", "\"Orders\""), SQL_READ);
    assert_int_equal(ask(c, CATALOG_RELATION, "Public", "\"Orders\""), SQL_CLASS_N);
    assert_int_equal(ask(c, CATALOG_RELATION, NULL, "@[`{Z"), SQL_READ); /* A-Z only */
    assert_int_equal(ask(c, CATALOG_RELATION, NULL, "GR\xc3\xb6\xc3\x9f"), SQL_READ);
    assert_int_equal(ask(c, CATALOG_RELATION, NULL, "GR\xc3\x96\xc3\x9f"), SQL_CLASS_N);
    catalog_free(c);
}

static void what_cannot_be_a_stored_name_is_unknown(void **state)
{
    (void)state;
    char longest[CATALOG_NAME_MAX + 2];
    memset(longest, 'x', sizeof longest - 1);
    longest[CATALOG_NAME_MAX + 1] = '\0';
    struct catalog *c = catalog_new(1);
    put(c, CATALOG_RELATION, "public", longest, SQL_READ); /* too long: not taken */
    assert_int_equal(ask(c, CATALOG_RELATION, NULL, longest), SQL_CLASS_N);
    longest[CATALOG_NAME_MAX] = '\0';
    put(c, CATALOG_RELATION, "public", longest, SQL_READ);
    assert_int_equal(ask(c, CATALOG_RELATION, NULL, longest), SQL_READ);
    put(c, CATALOG_RELATION, "public", "a\"\"b", SQL_READ);
    assert_int_equal(ask(c, CATALOG_RELATION, NULL, "\"a\"\"b\""), SQL_CLASS_N);
    put(c, CATALOG_RELATION, "public", "", SQL_READ);
    assert_int_equal(ask(c, CATALOG_RELATION, NULL, ""), SQL_CLASS_N);
    put(c, CATALOG_RELATION, "", "t", SQL_READ);
    assert_int_equal(ask(c, CATALOG_RELATION, NULL, "t"), SQL_CLASS_N);
    catalog_free(c);
}

static void what_holds_everywhere_only_gets_worse(void **state)
{
    (void)state;
    struct catalog *c = catalog_new(1);
    catalog_put_rule(c, CATALOG_EVERYWHERE, SQL_UNKNOWN, ROUTE_WHY_USER_CAST);
    catalog_put_rule(c, CATALOG_EVERYWHERE, SQL_WRITER_FUNCTION, ROUTE_WHY_USER_OPERATOR);
    assert_int_equal(catalog_rule(c, CATALOG_EVERYWHERE).class, SQL_UNKNOWN);
    assert_int_equal(catalog_rule(c, CATALOG_EVERYWHERE).reason, ROUTE_WHY_USER_CAST);
    catalog_free(c);
}

/* Ten thousand names in a hundred schemas, put in a mixed order and partly twice. */
static void many_names_are_all_found(void **state)
{
    (void)state;
    enum { N = 10000, SCHEMAS = 100 };
    static const uint8_t classes[] = {SQL_READ, SQL_PRIMARY_RELATION, SQL_UNKNOWN};
    static uint8_t expected[N];
    struct catalog *c = catalog_new(1);
    char schema[16], name[16];
    uint32_t random = 1;
    for (int i = 0; i < 3 * N; i++) {
        random = random * 1103515245 + 12345;
        const unsigned at = (random >> 8) % N;
        expected[at] = (uint8_t)(1 + (random >> 4) % 3);
        snprintf(schema, sizeof schema, "s%u", at % SCHEMAS);
        snprintf(name, sizeof name, "t%u", at / SCHEMAS);
        put(c, CATALOG_RELATION, schema, name, classes[expected[at] - 1]);
    }
    for (unsigned table = 0; table < N / SCHEMAS; table++) {
        unsigned worst = SQL_CLASS_N;
        snprintf(name, sizeof name, "T%u", table);
        for (unsigned in = 0; in < SCHEMAS; in++) {
            const uint8_t e = expected[table * SCHEMAS + in];
            const unsigned class = e ? classes[e - 1] : SQL_CLASS_N;
            snprintf(schema, sizeof schema, "s%u", in);
            assert_int_equal(ask(c, CATALOG_RELATION, schema, name), class);
            if (e && (worst == SQL_CLASS_N || class > worst))
                worst = class;
        }
        assert_int_equal(ask(c, CATALOG_RELATION, NULL, name), worst);
    }
    assert_true(catalog_bytes(c) < N * 100);
    catalog_free(c);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_known_at_first),
        cmocka_unit_test(a_name_is_found_in_its_schema_and_its_kind_only),
        cmocka_unit_test(without_a_schema_the_worst_one_counts),
        cmocka_unit_test(a_second_put_replaces_the_first),
        cmocka_unit_test(names_fold_as_postgresql_folds_them),
        cmocka_unit_test(what_cannot_be_a_stored_name_is_unknown),
        cmocka_unit_test(what_holds_everywhere_only_gets_worse),
        cmocka_unit_test(many_names_are_all_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
