/* tests/unit/test_router_guard.c: the table of refusals, and the set of what was learnt from them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>

#include "router/guard.h"
#include "router/learned.h"

/* ---- the table ---- */

struct said {
    const char *sqlstate, *message, *detail, *file;
    enum guard_action action;
};

static struct slice or_none(const char *text)
{
    return text ? slice_of(text) : SLICE_NONE;
}

static void each_answer_has_its_action(void **state)
{
    (void)state;
    static const struct said said[] = {
        {"25006", "cannot execute INSERT in a read-only transaction", NULL, "utility.c",
         GUARD_LEARN},
        {"25006", NULL, NULL, NULL, GUARD_LEARN},
        {"0A000", "cannot access temporary or unlogged relations during recovery", NULL,
         "plancat.c", GUARD_LEARN},
        {"0A000", "auf temporäre oder ungeloggte Relationen kann nicht zugegriffen werden", NULL,
         "plancat.c", GUARD_LEARN},
        {"0A000", "cannot use serializable mode in a hot standby", NULL, "predicate.c",
         GUARD_LEARN},
        {"0A000", "cannot use serializable mode in a hot standby", NULL, NULL, GUARD_LEARN},
        {"0A000", "kann serialisierbaren Modus nicht verwenden", NULL, "predicate.c", GUARD_LEARN},
        {"0A000", "cached plan must not change result type", NULL, "plancache.c", GUARD_PASS},
        {"0A000", "set-returning functions are not allowed in CASE", NULL, "parse_func.c",
         GUARD_PASS},
        {"55000", "recovery is in progress", NULL, "xlogfuncs.c", GUARD_LEARN},
        {"55000", "Wiederherstellung läuft", NULL, "xlogfuncs.c", GUARD_LEARN},
        {"55000", "currval of sequence \"s\" is not yet defined in this session", NULL,
         "sequence.c", GUARD_PASS},
        {"42P01", "relation \"t\" does not exist", NULL, "parse_relation.c", GUARD_PRIMARY},
        {"42703", NULL, NULL, NULL, GUARD_PRIMARY},
        {"42883", NULL, NULL, NULL, GUARD_PRIMARY},
        {"42704", NULL, NULL, NULL, GUARD_PRIMARY},
        {"3F000", NULL, NULL, NULL, GUARD_PRIMARY},
        {"42501", "permission denied for table t", NULL, "aclchk.c", GUARD_PRIMARY},
        {"40001", "canceling statement due to conflict with recovery", "User query might ...",
         "postgres.c", GUARD_ELSEWHERE},
        {"40001", "storniere Anfrage wegen Konflikt", NULL, "postgres.c", GUARD_ELSEWHERE},
        {"40001", "canceling statement due to conflict with recovery", NULL, NULL, GUARD_ELSEWHERE},
        {"40P01", "canceling statement due to conflict with recovery",
         "User transaction caused buffer deadlock with recovery.", "standby.c", GUARD_ELSEWHERE},
        {"40P01", "Konflikt", "Puffer", "standby.c", GUARD_ELSEWHERE},
        {"40001", "could not serialize access due to concurrent update", NULL, "nodeModifyTable.c",
         GUARD_PASS},
        {"40001", "raised by a function", NULL, "pl_exec.c", GUARD_PASS},
        {"40P01", "deadlock detected", "Process 1 waits for ...", "deadlock.c", GUARD_PASS},
        {"57P01", "terminating connection due to administrator command", NULL, "postgres.c",
         GUARD_ELSEWHERE},
        {"57P02", NULL, NULL, NULL, GUARD_ELSEWHERE},
        {"57P03", NULL, NULL, NULL, GUARD_ELSEWHERE},
        {"57P04", NULL, NULL, NULL, GUARD_ELSEWHERE},
        {"57P05", NULL, NULL, NULL, GUARD_ELSEWHERE},
        {"53300", NULL, NULL, NULL, GUARD_ELSEWHERE},
        {"08000", NULL, NULL, NULL, GUARD_ELSEWHERE},
        {"08006", NULL, NULL, NULL, GUARD_ELSEWHERE},
        {"08P01", NULL, NULL, NULL, GUARD_ELSEWHERE},
        {"57014", "canceling statement due to user request", NULL, "postgres.c", GUARD_PASS},
        {"57014", "canceling statement due to conflict with recovery", NULL, "postgres.c",
         GUARD_PASS},
        {"22012", "division by zero", NULL, NULL, GUARD_PASS},
        {"42601", NULL, NULL, NULL, GUARD_PASS},
        {"53200", NULL, NULL, NULL, GUARD_PASS},
        {"XX000", NULL, NULL, NULL, GUARD_PASS},
        {NULL, "no code at all", NULL, NULL, GUARD_PASS},
        {"08", NULL, NULL, NULL, GUARD_PASS},
        {"2500", NULL, NULL, NULL, GUARD_PASS},
    };
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        const struct said *s = &said[i];
        struct guard_error e = {.sqlstate = or_none(s->sqlstate),
                                .message = or_none(s->message),
                                .detail = or_none(s->detail),
                                .file = or_none(s->file)};
        if (guard_judge(&e) != s->action)
            fail_msg("%s %s %s: %d", s->sqlstate, s->message, s->file, guard_judge(&e));
    }
}

static void a_read_only_transaction_of_the_client_is_its_own(void **state)
{
    (void)state;
    struct guard_error e = {.sqlstate = slice_of("25006"), .read_only = true};
    assert_int_equal(guard_judge(&e), GUARD_PASS);
    assert_false(guard_role_changed(&e));
    e.read_only = false;
    assert_int_equal(guard_judge(&e), GUARD_LEARN);
    assert_true(guard_role_changed(&e));
    e = (struct guard_error){
        .sqlstate = slice_of("0A000"), .file = slice_of("plancat.c"), .read_only = true};
    assert_int_equal(guard_judge(&e), GUARD_LEARN);
    assert_false(guard_role_changed(&e));
}

/* ---- what was learnt ---- */

static struct learned *new_learned(void)
{
    struct learned *l = calloc(1, sizeof *l);
    assert_non_null(l);
    return l;
}

static void what_was_learnt_is_known_for_an_hour(void **state)
{
    (void)state;
    struct learned *l = new_learned();
    uint64_t key = learned_key(42, "app");
    assert_false(learned_has(l, key, 5));
    assert_true(learned_put(l, key, 1000));
    assert_false(learned_put(l, key, 1000));
    assert_true(learned_has(l, key, 1000));
    assert_true(learned_has(l, key, 999)); /* a clock read a moment earlier */
    assert_true(learned_has(l, key, 1000 + LEARNED_MS - 1));
    assert_false(learned_has(l, key, 1000 + LEARNED_MS));
    assert_false(learned_has(l, learned_key(42, "other"), 1000));
    assert_false(learned_has(l, learned_key(43, "app"), 1000));
    assert_true(learned_put(l, key, 1000 + LEARNED_MS)); /* forgotten, so it is news */
    assert_true(learned_has(l, key, 1000 + LEARNED_MS));
    free(l);
}

static void a_new_mistake_renews_the_time(void **state)
{
    (void)state;
    struct learned *l = new_learned();
    assert_true(learned_put(l, 7, 0));
    assert_false(learned_put(l, 7, LEARNED_MS - 1));
    assert_true(learned_has(l, 7, 2 * LEARNED_MS - 2));
    free(l);
}

static void a_full_set_forgets_the_oldest(void **state)
{
    (void)state;
    enum { MANY = 100000, NEWEST = 500 };
    struct learned *l = new_learned();
    for (uint64_t i = 1; i <= MANY; i++)
        assert_true(learned_put(l, learned_key(i * 977, "app"), i));
    unsigned known = 0, newest = 0;
    for (uint64_t i = 1; i <= MANY; i++) {
        bool has = learned_has(l, learned_key(i * 977, "app"), MANY);
        known += has;
        newest += has && i > MANY - NEWEST;
    }
    assert_true(known <= LEARNED_BUCKETS * LEARNED_WAYS &&
                known > LEARNED_BUCKETS * LEARNED_WAYS * 9 / 10);
    assert_true(newest > NEWEST * 98 / 100);
    free(l);
}

static void *learn_and_ask(void *context)
{
    struct learned *l = context;
    for (uint64_t i = 1; i < 20000; i++) {
        learned_put(l, learned_key(i % 100, "app"), i);
        learned_has(l, learned_key(i % 200, "app"), i);
    }
    return NULL;
}

static void threads_share_it(void **state)
{
    (void)state;
    struct learned *l = new_learned();
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, learn_and_ask, l), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    for (uint64_t i = 0; i < 200; i++)
        assert_int_equal(learned_has(l, learned_key(i, "app"), 20000), i < 100);
    free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_answer_has_its_action),
        cmocka_unit_test(a_read_only_transaction_of_the_client_is_its_own),
        cmocka_unit_test(what_was_learnt_is_known_for_an_hour),
        cmocka_unit_test(a_new_mistake_renews_the_time),
        cmocka_unit_test(a_full_set_forgets_the_oldest),
        cmocka_unit_test(threads_share_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
