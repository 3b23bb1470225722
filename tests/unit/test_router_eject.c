/* tests/unit/test_router_eject.c: who goes out, for how long, and how many at most. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "router/eject.h"

struct world {
    struct eject eject;
    struct eject_counts counts[EJECT_NODES];
    uint32_t candidates, percent;
    uint64_t now_ms;
};

static void begin(struct world *w, uint32_t candidates)
{
    *w = (struct world){.candidates = candidates, .percent = 50, .now_ms = 5000};
    for (unsigned i = 0; i < EJECT_NODES; i++)
        w->counts[i] = (struct eject_counts){UINT32_MAX - 5, UINT32_MAX - 1}; /* about to wrap */
    assert_int_equal(eject_update(&w->eject, w->counts, 0, 50, w->now_ms), 0);
}

static void seen(struct world *w, unsigned node, uint32_t answers, uint32_t failures)
{
    w->counts[node].answers += answers;
    w->counts[node].failures += failures;
}

static uint32_t after(struct world *w, uint64_t ms)
{
    w->now_ms += ms;
    return eject_update(&w->eject, w->counts, w->candidates, w->percent, w->now_ms);
}

static void one_that_fails_more_than_the_others_goes(void **state)
{
    (void)state;
    static const struct {
        uint32_t answers, failures, other_answers, other_failures, out;
    } cases[] = {
        {0, 3, 100, 0, 1},                            /* nothing but failures */
        {0, 2, 100, 0, 0},                            /* too few to tell */
        {9, 3, 100, 0, 1},                            /* a quarter of 12 */
        {12, 3, 100, 0, 0},                           /* less than that */
        {1000, 100, 1000, 0, 0}, {0, 3, 0, 0, 1},     /* the other one was not asked */
        {0, 9, 0, 9, 0},                              /* it fails everywhere */
        {10, 10, 10, 10, 0},     {10, 30, 90, 30, 1}, /* 75 % against 25 % */
        {10, 30, 10, 10, 0},                          /* 75 % against 50 % */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world w;
        begin(&w, 3);
        seen(&w, 0, cases[i].answers, cases[i].failures);
        seen(&w, 1, cases[i].other_answers, cases[i].other_failures);
        if (after(&w, 10) != cases[i].out)
            fail_msg("case %zu", i);
    }
}

static void failures_long_ago_do_not_count(void **state)
{
    (void)state;
    struct world w;
    begin(&w, 3);
    for (unsigned i = 0; i < 20; i++) {
        seen(&w, 0, 0, 1);
        seen(&w, 1, 5, 0);
        assert_int_equal(after(&w, EJECT_WINDOW_MS), 0);
    }
}

static void it_stays_out_longer_each_time_and_is_forgiven(void **state)
{
    (void)state;
    static const uint32_t expected[] = {1000, 2000, 4000, 8000, 16000, 30000, 30000};
    struct world w;
    begin(&w, 3);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        seen(&w, 0, 0, i == 0 ? EJECT_FAILURES_MIN : 1); /* on probation one is enough */
        seen(&w, 1, 100, 0);
        assert_int_equal(after(&w, 1), 1);
        assert_int_equal(w.eject.nodes[0].for_ms, expected[i]);
        assert_int_equal(eject_next_ms(&w.eject, 1), w.now_ms + expected[i]);
        seen(&w, 0, 0, 50); /* what was under way still fails: no reason to stay longer */
        assert_int_equal(after(&w, expected[i] - 1), 1);
        assert_int_equal(after(&w, 1), 0);
    }
    assert_int_equal(eject_next_ms(&w.eject, 0), UINT64_MAX);
    seen(&w, 0, 100, 0);
    seen(&w, 1, 100, 0);
    assert_int_equal(after(&w, EJECT_FORGIVE_MS), 0);
    seen(&w, 0, 0, EJECT_FAILURES_MIN - 1);
    assert_int_equal(after(&w, 1), 0); /* the probation is over */
    seen(&w, 0, 0, 1);
    assert_int_equal(after(&w, 1), 1);
    assert_int_equal(w.eject.nodes[0].for_ms, EJECT_FIRST_MS);
}

static void no_more_than_a_share_is_out(void **state)
{
    (void)state;
    for (unsigned node_n = 1; node_n <= EJECT_NODES; node_n++)
        for (uint32_t percent = 0; percent <= 100; percent += 10) {
            struct world w;
            uint32_t all = (uint32_t)((UINT64_C(1) << node_n) - 1);
            begin(&w, all);
            w.percent = percent;
            for (unsigned i = 0; i + 1 < node_n; i++)
                seen(&w, i, 0, 10);
            seen(&w, node_n - 1, 1000000, 0);
            for (unsigned k = 0; k < 4; k++) {
                uint32_t out = after(&w, 1);
                assert_int_equal(out & ~all, 0);
                assert_true((unsigned)__builtin_popcount(out) <= node_n * percent / 100);
            }
        }
}

static void a_lone_replica_is_let_in_again(void **state)
{
    (void)state;
    struct world w;
    begin(&w, 3);
    seen(&w, 0, 0, 5);
    seen(&w, 1, 50, 0);
    assert_int_equal(after(&w, 1), 1);
    w.candidates = 1; /* the other one has stopped */
    assert_int_equal(after(&w, 1), 0);
    seen(&w, 0, 0, 50);
    assert_int_equal(after(&w, 1), 0); /* half of one is none */
}

static void what_is_out_for_another_reason_is_not_judged(void **state)
{
    (void)state;
    struct world w;
    begin(&w, 3);
    w.candidates = 2;
    seen(&w, 0, 0, 100);
    seen(&w, 1, 100, 0);
    assert_int_equal(after(&w, 10), 0);
    w.candidates = 3; /* it is back, and none of that counts */
    assert_int_equal(after(&w, 10), 0);
    seen(&w, 0, 0, 3);
    assert_int_equal(after(&w, 10), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_fails_more_than_the_others_goes),
        cmocka_unit_test(failures_long_ago_do_not_count),
        cmocka_unit_test(it_stays_out_longer_each_time_and_is_forgiven),
        cmocka_unit_test(no_more_than_a_share_is_out),
        cmocka_unit_test(a_lone_replica_is_let_in_again),
        cmocka_unit_test(what_is_out_for_another_reason_is_not_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
