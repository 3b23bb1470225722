/* The pure pieces of the pool: labels, tables of statements, what a server holds, budgets. */
#include "proxy/pool/budget.h"
#include "proxy/pool/label.h"
#include "proxy/pool/stmt.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NAMES 300
#define THREADS 4
#define LIMIT 3

static const struct sql_env env = {.standard_conforming_strings = true};

/* "name=value name=value" */
static struct label *label_of(struct list *labels, const char *text)
{
    struct label_draft draft = {0};
    for (size_t name, value; *text; text += value + (text[value] == ' ')) {
        name = strcspn(text, "=");
        value = strcspn(text, " ");
        assert_true(
            label_draft_set(&draft, (struct slice){(const uint8_t *)text, name},
                            (struct slice){(const uint8_t *)text + name + 1, value - name - 1}));
    }
    return label_find(labels, &draft);
}

static void expect_change(const char *from, const char *to, const char *wanted)
{
    struct list labels;
    static uint8_t bytes[LABEL_SQL_MAX];
    list_init(&labels);
    struct label *a = label_of(&labels, from), *b = label_of(&labels, to);
    struct put o = put_into(bytes, sizeof bytes - 1);
    assert_true(label_sql(a, b, &o));
    bytes[o.n] = '\0';
    assert_string_equal((char *)bytes, wanted);
    label_unref(a);
    label_unref(b);
    assert_true(list_empty(&labels));
}

#define ANEW LABEL_SQL_FIRST "RESET SESSION AUTHORIZATION;RESET ALL"
#define SETS(name, value) ";SELECT pg_catalog.set_config(" name "," value ",false)"

static void only_what_differs_is_set_where_that_says_the_same(void **state)
{
    (void)state;
    expect_change("", "work_mem=5MB", ";SET \"work_mem\"=E'5MB'");
    expect_change("work_mem=5MB", "", ";RESET \"work_mem\"");
    expect_change("jit=on work_mem=5MB", "jit=on time=it's",
                  ";RESET \"work_mem\";SET \"time\"=E'it''s'");
    expect_change("search_path=a work_mem=5MB", "search_path=a work_mem=6MB",
                  ";SET \"work_mem\"=E'6MB'");
    expect_change("", "search_path=a,b", ANEW SETS("E'search_path'", "E'a,b'"));
    expect_change("search_path=a", "", ANEW);
    expect_change("datestyle=SQL", "datestyle=ISO", ANEW SETS("E'datestyle'", "E'ISO'"));
    expect_change("", "a.b=c", ANEW SETS("E'a.b'", "E'c'"));
    expect_change("role=r", "role=r jit=on", ANEW SETS("E'jit'", "E'on'") SETS("E'role'", "E'r'"));
    expect_change("role=r", "", ANEW);
    expect_change("session_authorization=r", "", ANEW);
}

static void a_text_is_read_in_the_encoding_of_its_label(void **state)
{
    (void)state;
    expect_change("jit=on", "application_name=\xe9 client_encoding=LATIN1",
                  ANEW SETS("E'client_encoding'", "E'LATIN1'")
                      SETS("E'application_name'",
                           "pg_catalog.convert_from(pg_catalog.decode('e9','hex'),"
                           "pg_catalog.current_setting('client_encoding'))"));
}

static void expect_sql(const char *name, const char *value, const char *tail)
{
    struct list labels;
    struct label_draft draft = {0};
    static uint8_t bytes[LABEL_SQL_MAX];
    list_init(&labels);
    assert_true(label_draft_set(&draft, slice_of(name), slice_of(value)));
    struct label *label = label_find(&labels, &draft);
    struct put o = put_into(bytes, sizeof bytes);
    assert_true(label_sql(NULL, label, &o) && o.n > strlen(tail));
    assert_memory_equal(o.p + o.n - strlen(tail), tail, strlen(tail));
    label_unref(label);
    assert_true(list_empty(&labels));
}

static void settings_are_quoted_whatever_they_hold(void **state)
{
    (void)state;
    expect_sql("a", "", "set_config(E'a',E'',false)");
    expect_sql("a", "it's", "set_config(E'a',E'it''s',false)");
    expect_sql("a", "\\'; DROP TABLE t --", "set_config(E'a',E'\\\\''; DROP TABLE t --',false)");
    expect_sql("My.Name", "\n", "set_config(E'my.name',E'\n',false)");
    expect_sql("a'b", "x", "set_config(E'a''b',E'x',false)");
}

static void the_longest_label_fits_its_sql(void **state)
{
    (void)state;
    struct list labels;
    struct label_draft draft = {0};
    static uint8_t bytes[LABEL_SQL_MAX - 64];
    static char value[LABEL_BYTES_MAX];
    char names[LABEL_ENTRIES_MAX][3];
    list_init(&labels);
    for (unsigned i = 0; i + 1 < LABEL_ENTRIES_MAX; i++) {
        names[i][0] = (char)('a' + i % 26);
        names[i][1] = (char)('a' + i / 26);
        names[i][2] = '\0';
        assert_true(label_draft_set(&draft, slice_of(names[i]), slice_of("'")));
    }
    memset(value, '\'', sizeof value);
    size_t most = LABEL_BYTES_MAX - (LABEL_ENTRIES_MAX - 1) * 5 - 4;
    assert_true(label_draft_set(&draft, slice_of("zz"), (struct slice){(uint8_t *)value, most}));
    struct label *label = label_find(&labels, &draft), *same = label_find(&labels, &draft);
    assert_non_null(label);
    assert_ptr_equal(label, same);
    struct put o = put_into(bytes, sizeof bytes);
    assert_true(label_sql(NULL, label, &o));
    assert_false(label_draft_set(&draft, slice_of("one more"), slice_of("x")));
    assert_true(
        label_draft_set(&draft, slice_of("ZZ"), (struct slice){(uint8_t *)value, most + 1}));
    assert_null(label_find(&labels, &draft)); /* a byte over the limit */
    label_unref(label);
    label_unref(same);
}

static struct stmt *intern(struct stmt_table *t, const char *text)
{
    return stmt_intern(t, slice_of(text), SLICE_NONE, SLICE_NONE, &env);
}

static void names_know_what_they_cost(void **state)
{
    (void)state;
    struct stmt_table t;
    struct stmt_names names = {0};
    stmt_table_init(&t, 0);
    struct stmt *stmts[] = {intern(&t, "SELECT 1"), intern(&t, "SELECT 1, 2")};
    const uint64_t none = stmt_names_cost(0, 0, 0, 0);
    assert_true(none > sizeof(struct stmt));
    assert_int_equal(stmt_names_cost(1, 20, 300, 4000), none + 4321);
    uint64_t bytes = 0;
    for (unsigned i = 0; i < 40; i++) { /* through several sizes of the table */
        char name[16];
        snprintf(name, sizeof name, "n%u", i);
        bytes +=
            none + strlen(name) + stmts[i % 2]->text_n + stmts[i % 2]->oids_n + stmts[i % 2]->env_n;
        stmt_names_put(&names, slice_of(name), stmts[i % 2]); /* a text counts for each name */
        assert_int_equal(names.bytes, bytes);
    }
    stmt_names_put(&names, slice_of("n0"), stmts[1]); /* in the place of the other */
    bytes += stmts[1]->text_n - stmts[0]->text_n;
    assert_int_equal(names.bytes, bytes);
    stmt_names_remove(&names, slice_of("nobody"));
    assert_int_equal(names.bytes, bytes);
    stmt_names_remove(&names, slice_of("n1"));
    assert_int_equal(names.bytes, bytes - stmt_names_cost(2, stmts[1]->text_n, stmts[1]->oids_n,
                                                          stmts[1]->env_n));
    stmt_names_clear(&names);
    assert_int_equal(names.bytes, 0);
    stmt_unref(stmts[0]);
    stmt_unref(stmts[1]);
    stmt_table_free(&t);
}

static void names_survive_every_removal(void **state)
{
    (void)state;
    struct stmt_table t;
    struct stmt_names names = {0};
    struct stmt *stmts[NAMES];
    char text[NAMES][16];
    stmt_table_init(&t, 0);
    for (unsigned i = 0; i < NAMES; i++) {
        snprintf(text[i], sizeof text[i], "SELECT %u", i);
        stmts[i] = intern(&t, text[i]);
        stmt_names_put(&names, slice_of(text[i]), stmts[i]);
    }
    for (unsigned step = 0; step < NAMES; step++) {
        stmt_names_remove(&names, slice_of(text[step * 7 % NAMES]));
        stmt_names_remove(&names, slice_of(text[step * 7 % NAMES])); /* again: nothing */
        for (unsigned at = 0; at < NAMES; at++) {
            unsigned i = at * 7 % NAMES;
            assert_ptr_equal(stmt_names_get(&names, slice_of(text[i])),
                             at > step ? stmts[i] : NULL);
        }
    }
    stmt_names_clear(&names);
    for (unsigned i = 0; i < NAMES; i++)
        stmt_unref(stmts[i]);
    stmt_table_free(&t); /* checks that it is empty */
}

/* Case P9 of tests/differ sends these two. */
static void texts_of_one_hash_stay_apart(void **state)
{
    (void)state;
    struct stmt_table t;
    stmt_table_init(&t, 0);
    struct stmt *one = intern(&t, "SELECT 'statementNumber1'");
    struct stmt *two = intern(&t, "SELECT 'WdAvdZMwGdMrMhRX'");
    assert_int_equal(one->hash, two->hash);
    assert_ptr_not_equal(one, two);
    struct stmt *again = intern(&t, "SELECT 'statementNumber1'");
    assert_ptr_equal(again, one);
    stmt_unref(again);
    stmt_unref(two);
    stmt_unref(one);
    stmt_table_free(&t);
}

static void settings_and_types_tell_texts_apart(void **state)
{
    (void)state;
    struct stmt_table t;
    stmt_table_init(&t, 0);
    static const uint8_t int4[] = {0, 0, 0, 23};
    const struct slice text = slice_of("SELECT $1"), oids = {int4, 4}, path = slice_of("path");
    struct stmt *plain = stmt_intern(&t, text, SLICE_NONE, SLICE_NONE, &env);
    struct stmt *others[] = {stmt_intern(&t, text, oids, SLICE_NONE, &env),
                             stmt_intern(&t, text, SLICE_NONE, path, &env),
                             stmt_intern(&t, text, oids, path, &env)};
    for (unsigned i = 0; i < 3; i++) {
        assert_ptr_not_equal(others[i], plain);
        assert_ptr_not_equal(others[i], others[(i + 1) % 3]);
    }
    for (unsigned i = 0; i < 3; i++)
        stmt_unref(others[i]);
    stmt_unref(plain);
    stmt_table_free(&t);
}

/* Roles and databases may have standard_conforming_strings of their own. */
static void a_text_is_read_as_its_client_has_it(void **state)
{
    (void)state;
    struct stmt_table t;
    stmt_table_init(&t, 0);
    static const char text[] = "SELECT '\\', pg_advisory_lock(1) --'";
    static const struct sql_env odd = {.standard_conforming_strings = false};
    struct stmt *a = stmt_intern(&t, slice_of(text), SLICE_NONE, SLICE_NONE, &odd);
    struct stmt *b = stmt_intern(&t, slice_of(text), SLICE_NONE, SLICE_NONE, &env);
    assert_ptr_not_equal(a, b);
    assert_false(stmt_facts(a, &env)->flags & SQL_F_ADVISORY); /* whoever asks */
    assert_true(stmt_facts(b, &odd)->flags & SQL_F_ADVISORY);
    a->catalog = b->catalog = 1; /* another one: they are read again */
    assert_false(stmt_facts(a, &env)->flags & SQL_F_ADVISORY);
    assert_true(stmt_facts(b, &odd)->flags & SQL_F_ADVISORY);
    stmt_unref(a);
    stmt_unref(b);
    stmt_table_free(&t);
}

static void what_a_client_was_told_goes_with_the_statement(void **state)
{
    (void)state;
    struct stmt_table t;
    struct stmt_names names = {0};
    stmt_table_init(&t, 0);
    struct stmt *a = intern(&t, "SELECT 1"), *b = intern(&t, "SELECT 2");
    stmt_names_put(&names, slice_of("x"), a);
    stmt_names_put(&names, slice_of("y"), a);
    stmt_names_tell(&names, slice_of("x"), (struct stmt_shape){.rows = 3});
    assert_int_equal(stmt_names_told(&names, slice_of("x")).rows, 3);
    assert_int_equal(stmt_names_told(&names, slice_of("y")).rows, 0);
    assert_int_equal(stmt_names_told(&names, slice_of("z")).rows, 0);
    stmt_names_put(&names, slice_of("x"), b);
    assert_int_equal(stmt_names_told(&names, slice_of("x")).rows, 0);
    stmt_names_clear(&names);
    stmt_unref(a);
    stmt_unref(b);
    stmt_table_free(&t);
}

static void a_server_forgets_the_least_recently_used_first(void **state)
{
    (void)state;
    struct stmt_table t;
    struct stmt_set set;
    struct stmt *stmts[200];
    char text[32];
    stmt_table_init(&t, 0);
    atomic_uint_fast64_t altered = 0;
    stmt_set_init(&set, &altered);
    for (unsigned i = 0; i < 200; i++) { /* more than there are buckets */
        snprintf(text, sizeof text, "SELECT %u", i);
        stmts[i] = intern(&t, text);
        stmt_set_add(&set, stmts[i]);
        stmt_set_add(&set, stmts[i]);
        stmt_unref(stmts[i]);
    }
    assert_int_equal(set.n, 200);
    assert_true(stmt_set_has(&set, stmts[0]));
    assert_ptr_equal(stmt_set_oldest(&set), stmts[1]);
    stmt_set_unnamed(&set, stmts[1]);
    stmt_set_remove(&set, stmts[1]);
    assert_false(stmt_set_has(&set, stmts[1]));
    assert_int_equal(set.n, 199);
    assert_false(stmt_set_is_stale(&set, stmts[0]));
    altered++;
    assert_true(stmt_set_is_stale(&set, stmts[0]));
    stmt_set_shape(&set, stmts[0], (struct stmt_shape){.rows = 5}); /* its server has just looked */
    assert_false(stmt_set_is_stale(&set, stmts[0]));
    assert_int_equal(stmt_set_shape_of(&set, stmts[0]).rows, 5);
    stmt_table_replan(&t);
    assert_true(stmt_set_is_stale(&set, stmts[0]));
    assert_false(stmt_set_is_stale(&set, stmts[1])); /* which it has not */
    stmt_set_add_stale(&set, stmts[0]);              /* which it has: nothing changes */
    stmt_set_shape(&set, stmts[0], (struct stmt_shape){.rows = 5});
    stmt_set_add_stale(&set, stmts[0]);
    assert_false(stmt_set_is_stale(&set, stmts[0]));
    struct stmt *more = intern(&t, "SELECT 'more'");
    stmt_set_add_stale(&set, more);
    assert_true(stmt_set_has(&set, more) && stmt_set_is_stale(&set, more));
    stmt_unref(more);
    stmt_set_doubt(&set);
    assert_true(stmt_set_has(&set, stmts[0]) && stmt_set_is_stale(&set, stmts[0]));
    stmt_set_clear(&set);
    assert_null(stmt_set_oldest(&set));
    stmt_table_free(&t);
}

static struct budget *budget;
static atomic_uint inside, most_inside;

static void *take_and_give(void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < 20000; i++) {
        if (!budget_take(budget, LIMIT))
            continue;
        unsigned now = atomic_fetch_add(&inside, 1) + 1, was = atomic_load(&most_inside);
        while (now > was && !atomic_compare_exchange_weak(&most_inside, &was, now))
            ;
        atomic_fetch_sub(&inside, 1);
        budget_give(budget);
    }
    return NULL;
}

static void a_budget_is_exact_over_threads(void **state)
{
    (void)state;
    char name[] = "h";
    struct conf_host host = {.host = name, .port = 1};
    struct cluster *cluster = cluster_new(&host, 1);
    pthread_t threads[THREADS];
    uint64_t since = 0;
    budget = budget_find(&(struct budget_key){BUDGET_POOL, cluster, 0, "e", "d", "u"});
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, NULL), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_true(atomic_load(&most_inside) <= LIMIT);
    assert_int_equal(atomic_load(&budget->used), 0);
    waits_set(&budget->wanting, 0, 5);
    waits_set(&budget->wanting, 2, 20);
    waits_set(&budget->wanting, 7, 10);
    assert_int_equal(waits_longest(&budget->wanting, 0, &since), 7); /* not oneself */
    waits_set(&budget->wanting, 7, 0);
    assert_int_equal(waits_longest(&budget->wanting, 0, &since), 2);
    waits_set(&budget->wanting, 2, 0);
    waits_set(&budget->wanting, 0, 0);
    assert_int_equal(waits_longest(&budget->wanting, 9, &since), -1);
    budget_unref(budget);
    cluster_unref(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_differs_is_set_where_that_says_the_same),
        cmocka_unit_test(a_text_is_read_in_the_encoding_of_its_label),
        cmocka_unit_test(settings_are_quoted_whatever_they_hold),
        cmocka_unit_test(the_longest_label_fits_its_sql),
        cmocka_unit_test(names_know_what_they_cost),
        cmocka_unit_test(names_survive_every_removal),
        cmocka_unit_test(texts_of_one_hash_stay_apart),
        cmocka_unit_test(settings_and_types_tell_texts_apart),
        cmocka_unit_test(a_text_is_read_as_its_client_has_it),
        cmocka_unit_test(what_a_client_was_told_goes_with_the_statement),
        cmocka_unit_test(a_server_forgets_the_least_recently_used_first),
        cmocka_unit_test(a_budget_is_exact_over_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
