/* tests/unit/test_control_catalog_rows.c: rows as PostgreSQL would send them, and what SQL then is. */
#include "proxy/control/catalog_rows.h"

#include "router/classify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

/* fields: separated by '|'; "\\N" is a null. */
static bool take(struct catalog_rows *rows, enum catalog_query query, const char *fields)
{
    struct slice split[CATALOG_FIELDS_MAX];
    const char *at = fields;
    for (unsigned i = 0; i < catalog_rows_fields(query); i++) {
        const size_t n = strcspn(at, "|");
        split[i] = (struct slice){(const uint8_t *)at, n};
        if (slice_is(split[i], "\\N"))
            split[i] = SLICE_NONE;
        at += n + (at[n] != '\0');
    }
    assert_int_equal(*at, '\0');
    return catalog_rows_take(rows, query, split);
}

#define ROW(query, fields) assert_true(take(rows, CATALOG_Q_##query, fields))

static struct catalog *finish(struct catalog_rows *rows)
{
    struct catalog_counts counts;
    enum catalog_progress progress;
    do
        progress = catalog_rows_prove(rows, 1); /* the smallest steps give the same */
    while (progress == CATALOG_MORE);
    assert_int_equal(progress, CATALOG_DONE);
    struct catalog *catalog = catalog_rows_finish(rows, &counts);
    catalog_rows_free(rows);
    return catalog;
}

static void expect(const struct catalog *catalog, const char *sql, enum route_reason reason)
{
    const struct sql_env env = {.standard_conforming_strings = true, .catalog = catalog};
    struct sql_facts facts;
    sql_classify(slice_of(sql), &env, &facts);
    const bool read = (facts.flags & SQL_F_READ) != 0;
    if (facts.reason != reason || read != (reason == ROUTE_WHY_READ))
        fail_msg("%s: %s, %s", sql, sql_class_text((enum sql_class)facts.class),
                 route_reason_text((enum route_reason)facts.reason));
}

static void functions_by_their_worst_overload(void **state)
{
    (void)state;
    struct catalog_rows *rows = catalog_rows_new(1);
    ROW(FUNCTIONS, "public|over|f|f");
    ROW(FUNCTIONS, "public|over|t|f");
    ROW(FUNCTIONS, "public|over|f|f");
    ROW(FUNCTIONS, "public|fine|f|t");
    ROW(FUNCTIONS, "public|lower|t|t");
    ROW(AGGREGATES, "public|total|t|t");
    struct catalog *c = finish(rows);
    expect(c, "SELECT fine(1)", ROUTE_WHY_READ);
    expect(c, "SELECT over(1)", ROUTE_WHY_USER_FUNCTION);
    expect(c, "SELECT lower('A')", ROUTE_WHY_USER_FUNCTION);
    expect(c, "SELECT total(1)", ROUTE_WHY_USER_FUNCTION);
    expect(c, "SELECT neither(1)", ROUTE_WHY_UNKNOWN_FUNCTION);
    catalog_free(c);
}

static void relations_by_kind_and_persistence(void **state)
{
    (void)state;
    static const struct {
        const char *row, *sql;
        enum route_reason reason;
    } cases[] = {
        {"20000|public|a|r|p", "SELECT * FROM a", ROUTE_WHY_READ},
        {"20001|public|a|m|p", "SELECT * FROM public.a", ROUTE_WHY_READ},
        {"20002|public|a|p|p", "TABLE a", ROUTE_WHY_READ},
        {"20003|public|a|r|u", "SELECT * FROM a", ROUTE_WHY_UNLOGGED},
        {"20004|public|a|m|u", "SELECT * FROM a", ROUTE_WHY_UNLOGGED},
        {"20005|public|a|f|p", "SELECT * FROM a", ROUTE_WHY_FOREIGN},
        {"20006|public|a|S|p", "SELECT * FROM a", ROUTE_WHY_SEQUENCE},
        {"20007|public|a|r|t", "SELECT * FROM a", ROUTE_WHY_TEMPORARY},
        {"20008|public|a|v|p", "SELECT * FROM a", ROUTE_WHY_VIEW}, /* its text did not come */
        {"20009|public|a|?|p", "SELECT * FROM a", ROUTE_WHY_UNKNOWN_RELATION},
        {"20010|public|a|c|p", "SELECT * FROM a", ROUTE_WHY_UNKNOWN_RELATION}, /* a type */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct catalog_rows *rows = catalog_rows_new(1);
        ROW(RELATIONS, cases[i].row);
        struct catalog *c = finish(rows);
        expect(c, cases[i].sql, cases[i].reason);
        catalog_free(c);
    }
}

/* Views in every order: each proof may need the ones behind it. */
static void views_are_proven_by_their_text(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "|SELECT id FROM public.t;",
        "|SELECT id FROM public.v0;",
        "|SELECT v1.id FROM (public.v1 JOIN public.v0 USING (id));",
        "|SELECT public.bad(id) AS bad FROM public.v2;",
        "|SELECT * FROM public.v3;",
    };
    for (int turn = 0; turn < 5; turn++) {
        struct catalog_rows *rows = catalog_rows_new(1);
        ROW(FUNCTIONS, "public|bad|t|f");
        ROW(RELATIONS, "20000|public|t|r|p");
        for (int i = 0; i < 5; i++) {
            char row[64];
            snprintf(row, sizeof row, "%d|public|v%d|v|p", 20001 + i, (i + turn) % 5);
            ROW(RELATIONS, row);
        }
        for (int i = 0; i < 5; i++) {
            char row[128];
            snprintf(row, sizeof row, "%d%s", 20001 + i, texts[(i + turn) % 5]);
            ROW(VIEWS, row);
        }
        struct catalog *c = finish(rows);
        expect(c, "SELECT * FROM v0, v1, v2", ROUTE_WHY_READ);
        expect(c, "SELECT * FROM v3", ROUTE_WHY_VIEW);
        expect(c, "SELECT * FROM v4", ROUTE_WHY_VIEW);
        catalog_free(c);
    }
}

static void policies_and_checks_are_proven_too(void **state)
{
    (void)state;
    struct catalog_rows *rows = catalog_rows_new(1);
    ROW(FUNCTIONS, "public|bad|t|f");
    ROW(TYPES, "19000|public|fine|f|0");
    ROW(TYPES, "19001|public|checked|f|0");
    ROW(TYPES, "19002|public|on_checked|f|0");
    ROW(TYPE_DEPS, "19002|19001");
    ROW(RELATIONS, "20000|public|open|r|p");
    ROW(RELATIONS, "20001|public|shut|r|p");
    ROW(RELATIONS, "20002|public|parent|p|p");
    ROW(RELATIONS, "20003|public|typed|r|p");
    ROW(COLUMNS, "20003|19002");
    ROW(INHERITS, "20002|20001");
    ROW(CHECKS, "19000|(VALUE > 0)");
    ROW(CHECKS, "19001|(VALUE > 0)");
    ROW(CHECKS, "19001|public.bad(VALUE)");
    ROW(POLICIES, "20000|(owner = CURRENT_USER)");
    ROW(POLICIES,
        "20000|(id IN ( SELECT parent.id FROM public.open parent))"); /* by itself: never */
    ROW(POLICIES, "20001|public.bad(id)");
    struct catalog *c = finish(rows);
    expect(c, "SELECT 1::fine", ROUTE_WHY_READ);
    expect(c, "SELECT 1::checked", ROUTE_WHY_USER_TYPE);
    expect(c, "SELECT 1::on_checked", ROUTE_WHY_USER_TYPE);
    expect(c, "SELECT * FROM typed", ROUTE_WHY_USER_TYPE);
    expect(c, "SELECT * FROM open", ROUTE_WHY_ROW_SECURITY);
    expect(c, "SELECT * FROM shut", ROUTE_WHY_ROW_SECURITY);
    expect(c, "SELECT * FROM parent", ROUTE_WHY_ROW_SECURITY);
    catalog_free(c);
}

static void a_dependency_that_nobody_described_is_not_good(void **state)
{
    (void)state;
    struct catalog_rows *rows = catalog_rows_new(1);
    ROW(RELATIONS, "20000|public|t|r|p");
    ROW(COLUMNS, "20000|19999");
    struct catalog *c = finish(rows);
    expect(c, "SELECT * FROM t", ROUTE_WHY_UNKNOWN_TYPE);
    catalog_free(c);
}

static void operators_and_casts(void **state)
{
    (void)state;
    struct catalog_rows *rows = catalog_rows_new(1);
    ROW(OPERATORS, "public|###|t");
    ROW(OPERATORS, "public|@@@|f");
    ROW(TYPES, "19000|public|target|f|0");
    ROW(CASTS, "19000|public|target|f");
    ROW(CASTS, "1700|pg_catalog|numeric|f");
    ROW(CASTS, "1700|pg_catalog|decimal|f");
    ROW(RELATIONS, "20000|public|t|r|p");
    ROW(COLUMNS, "20000|19000");
    struct catalog *c = finish(rows);
    expect(c, "SELECT 1 @@@ 1", ROUTE_WHY_READ);
    expect(c, "SELECT 1 ### 1", ROUTE_WHY_USER_OPERATOR);
    expect(c, "SELECT 'x'::target", ROUTE_WHY_USER_CAST);
    expect(c, "SELECT 1::decimal(3, 1)", ROUTE_WHY_USER_CAST);
    expect(c, "SELECT 1::pg_catalog.numeric", ROUTE_WHY_USER_CAST);
    expect(c, "SELECT 1::int", ROUTE_WHY_READ);
    expect(c, "SELECT * FROM t", ROUTE_WHY_READ); /* reading the column casts nothing */
    assert_int_equal(catalog_rule(c, CATALOG_EVERYWHERE).class, SQL_READ);
    catalog_free(c);
}

static void what_works_unnamed_holds_everywhere(void **state)
{
    (void)state;
    static const struct {
        enum catalog_query query;
        const char *row;
        enum route_reason reason;
    } cases[] = {
        {CATALOG_Q_OPERATORS, "public|=|t", ROUTE_WHY_USER_OPERATOR},
        {CATALOG_Q_OPERATORS, "public|!~~*|t", ROUTE_WHY_USER_OPERATOR},
        {CATALOG_Q_OPCLASSES, "t", ROUTE_WHY_USER_OPERATOR},
        {CATALOG_Q_CASTS, "25|pg_catalog|text|t", ROUTE_WHY_USER_CAST},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct catalog_rows *rows = catalog_rows_new(1);
        assert_true(take(rows, cases[i].query, cases[i].row));
        struct catalog *c = finish(rows);
        assert_true(catalog_rule(c, CATALOG_EVERYWHERE).class > SQL_READ);
        assert_int_equal(catalog_rule(c, CATALOG_EVERYWHERE).reason, cases[i].reason);
        catalog_free(c);
    }
}

static void a_single_byte_encoding_keeps_other_letters_unknown(void **state)
{
    (void)state;
    for (int single = 0; single <= 1; single++) {
        struct catalog_rows *rows = catalog_rows_new(1);
        ROW(DATABASE, single ? "t" : "f");
        ROW(RELATIONS, "20000|public|gr\xc3\xbcn|r|p");
        struct catalog *c = finish(rows);
        expect(c, "SELECT * FROM gr\xc3\xbcn",
               single ? ROUTE_WHY_UNKNOWN_RELATION : ROUTE_WHY_READ);
        catalog_free(c);
    }
}

/* t.F\xdc may be a call of it, and nobody knows how the server folds that. */
static void a_writing_field_with_such_letters_holds_everywhere(void **state)
{
    (void)state;
    for (int single = 0; single <= 1; single++) {
        struct catalog_rows *rows = catalog_rows_new(1);
        ROW(DATABASE, single ? "t" : "f");
        ROW(FUNCTIONS, "public|f\xfc|t|t");
        ROW(RELATIONS, "20000|public|t|r|p");
        struct catalog *c = finish(rows);
        expect(c, "SELECT * FROM t", single ? ROUTE_WHY_USER_FUNCTION : ROUTE_WHY_READ);
        catalog_free(c);
    }
}

static void rows_that_lie_end_it(void **state)
{
    (void)state;
    static const struct {
        enum catalog_query query;
        const char *row;
    } bad[] = {
        {CATALOG_Q_RELATIONS, "|public|t|r|p"},
        {CATALOG_Q_RELATIONS, "x|public|t|r|p"},
        {CATALOG_Q_RELATIONS, "4294967296|public|t|r|p"},
        {CATALOG_Q_RELATIONS, "99999999999999999999|public|t|r|p"},
        {CATALOG_Q_RELATIONS, "19999|public|t|r|p"}, /* behind 20000 */
        {CATALOG_Q_RELATIONS, "20000|public|t|r|p"},
        {CATALOG_Q_RELATIONS, "20001|public|t||p"},
        {CATALOG_Q_RELATIONS, "20001|\\N|t|r|p"},
        {CATALOG_Q_COLUMNS, "20000|-1"},
        {CATALOG_Q_VIEWS, "20000|SELECT 1"}, /* a table */
        {CATALOG_Q_VIEWS, "20007|SELECT 1"},
        {CATALOG_Q_POLICIES, "20000|\\N"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct catalog_rows *rows = catalog_rows_new(1);
        ROW(RELATIONS, "20000|public|t|r|p");
        assert_false(take(rows, bad[i].query, bad[i].row));
        assert_true(catalog_rows_error(rows)[0] != '\0');
        assert_int_equal(catalog_rows_prove(rows, 1), CATALOG_FAILED);
        catalog_rows_free(rows);
    }
}

static void a_text_that_is_too_long_stays_unproven(void **state)
{
    (void)state;
    static char text[CATALOG_TEXT_MAX + 2];
    for (size_t n = CATALOG_TEXT_MAX; n <= CATALOG_TEXT_MAX + 1; n++) {
        struct catalog_rows *rows = catalog_rows_new(1);
        ROW(RELATIONS, "20000|public|v|v|p");
        memset(text, ' ', sizeof text);
        memcpy(text, "SELECT 1", 8);
        const struct slice fields[] = {slice_of("20000"), {(const uint8_t *)text, n}};
        assert_true(catalog_rows_take(rows, CATALOG_Q_VIEWS, fields));
        struct catalog *c = finish(rows);
        expect(c, "SELECT * FROM v", n > CATALOG_TEXT_MAX ? ROUTE_WHY_VIEW : ROUTE_WHY_READ);
        catalog_free(c);
    }
}

static bool hides(const struct catalog *catalog, const char *sql)
{
    const struct sql_env env = {.standard_conforming_strings = true, .catalog = catalog};
    struct sql_facts facts, in_full;
    sql_classify(slice_of(sql), &env, &facts);
    sql_classify_in_full(slice_of(sql), &env, &in_full);
    assert_int_equal(facts.flags & SQL_F_HIDING, in_full.flags & SQL_F_HIDING);
    return (facts.flags & SQL_F_HIDING) != 0;
}

/* Marks come before what they are about, and change no route. */
static void what_may_leave_state_in_a_session_is_told(void **state)
{
    (void)state;
    struct catalog_rows *rows = catalog_rows_new(1);
    ROW(FUNCTIONS, "public|plain|f|t");
    ROW(FUNCTIONS, "public|hiding|f|t");
    ROW(HIDING, "f|hiding");
    ROW(HIDING, "f|nowhere");
    ROW(HIDING, "v|v");
    ROW(HIDING, "s|app.tenant");
    ROW(RELATIONS, "20000|public|t|r|p");
    ROW(RELATIONS, "20001|public|v|v|p");
    ROW(VIEWS, "20001|SELECT public.hiding(1) AS hiding;");
    struct catalog *c = finish(rows);
    expect(c, "SELECT hiding(1) FROM v", ROUTE_WHY_READ);
    assert_true(hides(c, "SELECT HIDING(1)"));
    assert_true(hides(c, "SELECT other.hiding(1)")); /* not known there */
    assert_true(hides(c, "SELECT public.\"hiding\"(1)"));
    assert_true(hides(c, "SELECT t.hiding FROM t"));
    assert_true(hides(c, "SELECT nowhere(1)"));
    assert_true(hides(c, "SELECT 1 FROM v"));
    assert_true(hides(c, "INSERT INTO t SELECT hiding(1)"));
    assert_false(hides(c, "SELECT plain(1), public.plain(t.plain) FROM t"));
    assert_false(hides(c, "INSERT INTO t VALUES (plain(1), of_an_extension(2))"));
    assert_true(hides(c, "CREATE TABLE made AS SELECT 1, hiding(1)"));
    assert_false(hides(c, "INSERT INTO hiding (a) VALUES (1)"));
    assert_false(hides(c, "CREATE TABLE made (a int)"));
    assert_true(slice_is(catalog_settings(c), "app.tenant "));
    catalog_free(c);
}

static void a_trigger_that_does_makes_writes_do_it(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct catalog_rows *rows = catalog_rows_new(1);
        ROW(HIDING, i == 0 ? "w|" : "a|");
        ROW(RELATIONS, "20000|public|t|r|p");
        struct catalog *c = finish(rows);
        assert_true(hides(c, "UPDATE t SET a = 1"));
        assert_true(hides(c, "WITH d AS (DELETE FROM t RETURNING 1) SELECT 1 FROM d"));
        assert_true(hides(c, "COPY t FROM STDIN"));
        assert_true(hides(c, "EXPLAIN ANALYZE DELETE FROM t"));
        assert_true(hides(c, "SELECT 1 FROM t") == (i == 1));
        assert_false(hides(c, "BEGIN"));
        catalog_free(c);
    }
    struct catalog_rows *rows = catalog_rows_new(1);
    assert_false(take(rows, CATALOG_Q_HIDING, "x|"));
    catalog_rows_free(rows);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_by_their_worst_overload),
        cmocka_unit_test(relations_by_kind_and_persistence),
        cmocka_unit_test(views_are_proven_by_their_text),
        cmocka_unit_test(policies_and_checks_are_proven_too),
        cmocka_unit_test(a_dependency_that_nobody_described_is_not_good),
        cmocka_unit_test(operators_and_casts),
        cmocka_unit_test(what_works_unnamed_holds_everywhere),
        cmocka_unit_test(a_single_byte_encoding_keeps_other_letters_unknown),
        cmocka_unit_test(a_writing_field_with_such_letters_holds_everywhere),
        cmocka_unit_test(rows_that_lie_end_it),
        cmocka_unit_test(a_text_that_is_too_long_stays_unproven),
        cmocka_unit_test(what_may_leave_state_in_a_session_is_told),
        cmocka_unit_test(a_trigger_that_does_makes_writes_do_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
