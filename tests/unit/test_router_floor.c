/* tests/unit/test_router_floor.c: floors, by what a client may and may not be shown. */
#include "router/floor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define A 0
#define B 1
#define BOTH (1U << A | 1U << B)

#define primary(n, tl, lsn) ((struct floor_sample){.number = n, .timeline = tl, .seen_lsn = lsn})

static struct floor_sample at(uint64_t number, uint64_t replay_lsn)
{
    return (struct floor_sample){number, 1, replay_lsn, replay_lsn, 77};
}

static void a_new_client_may_read_anywhere(void **state)
{
    (void)state;
    struct floor f = {0};
    struct floor_sample samples[2] = {at(1, 100), at(1, 90)};
    assert_int_equal(floor_nodes(&f, BOTH, samples), BOTH);
}

static void after_the_primary_no_replica_until_a_later_sample(void **state)
{
    (void)state;
    struct floor f = {0};
    struct floor_sample samples[2] = {at(9, 1000), at(9, 1000)};
    floor_used_primary(&f, B, 7);
    assert_int_equal(floor_nodes(&f, BOTH, samples), 0);
    /* number 7 was begun before the answer came: it may have looked before the commit */
    assert_false(floor_settle_primary(&f, &primary(7, 1, 500)));
    assert_int_equal(floor_nodes(&f, BOTH, samples), 0);
    assert_true(floor_settle_primary(&f, &primary(8, 1, 600)));
    assert_int_equal(f.lsn, 600);
    assert_int_equal(floor_nodes(&f, BOTH, samples), BOTH);
}

static void only_replicas_that_have_replayed_it_serve(void **state)
{
    (void)state;
    for (uint64_t replayed = 598; replayed <= 602; replayed++) {
        struct floor f = {.lsn = 600, .timeline = 1};
        struct floor_sample samples[2] = {at(1, replayed), at(1, 700)};
        assert_int_equal(floor_nodes(&f, BOTH, samples), replayed >= 600 ? BOTH : 1U << B);
    }
}

static void a_first_use_before_any_sample_is_pending_too(void **state)
{
    (void)state;
    struct floor f = {0};
    floor_used_primary(&f, B, 0);
    assert_false(floor_settle_primary(&f, &primary(0, 0, 0)));
    assert_true(floor_settle_primary(&f, &primary(1, 1, 10)));
}

static void a_reader_stays_until_its_replica_was_sampled_after_the_read(void **state)
{
    (void)state;
    struct floor f = {0};
    struct floor_sample samples[2] = {at(4, 100), at(9, 900)};
    floor_used_replica(&f, A, 77, 4);
    assert_int_equal(floor_nodes(&f, BOTH, samples), 1U << A);
    assert_false(floor_settle_replica(&f, A, &samples[A]));
    assert_true(floor_settle_replica(&f, B, &samples[B])); /* another node's sample says nothing */
    assert_int_equal(floor_nodes(&f, 1U << B, samples), 0);
    samples[A] = (struct floor_sample){5, 1, 950, 940, 77}; /* received more than replayed */
    assert_true(floor_settle_replica(&f, A, &samples[A]));
    assert_int_equal(f.lsn, 950);
    assert_int_equal(floor_nodes(&f, BOTH, samples), 1U << A); /* home stays good */
    samples[B].replay_lsn = 950;
    assert_int_equal(floor_nodes(&f, BOTH, samples), BOTH);
}

static void a_restarted_home_is_a_stranger(void **state)
{
    (void)state;
    struct floor f = {0};
    struct floor_sample samples[2] = {at(4, 100), at(9, 100)};
    floor_used_replica(&f, A, 77, 4);
    samples[A].instance = 78;
    assert_int_equal(floor_nodes(&f, BOTH, samples), 0);
    floor_used_primary(&f, B, 1); /* whoever used the primary since has no home */
    assert_true(floor_settle_primary(&f, &primary(2, 1, 100)));
    assert_int_equal(floor_nodes(&f, BOTH, samples), BOTH);
}

static void floors_only_rise(void **state)
{
    (void)state;
    struct floor f = {.lsn = 600, .timeline = 1};
    floor_used_replica(&f, A, 77, 1);
    assert_true(floor_settle_replica(&f, A, &primary(2, 1, 500)));
    assert_int_equal(f.lsn, 600);
}

static void a_new_timeline_has_lsns_of_its_own(void **state)
{
    (void)state;
    struct floor f = {.lsn = 600, .timeline = 1};
    struct floor_sample samples[2] = {{9, 2, 9000, 9000, 77}, at(9, 9000)};
    assert_int_equal(floor_nodes(&f, BOTH, samples), 1U << B);
    floor_used_primary(&f, B, 3);
    assert_true(floor_settle_primary(&f, &primary(4, 2, 100)));
    assert_int_equal(f.timeline, 2);
    assert_int_equal(floor_nodes(&f, BOTH, samples), 1U << A);
    floor_used_primary(&f, B, 5); /* an old primary's sample does not take it back */
    assert_true(floor_settle_primary(&f, &primary(6, 1, 99999)));
    assert_int_equal(f.timeline, 2);
}

static void the_end_of_a_page_header_is_the_start_of_the_page(void **state)
{
    (void)state;
    assert_int_equal(floor_normalise(3 * 8192 + 24), 3 * 8192);
    assert_int_equal(floor_normalise(16777216 + 40), 16777216);
    for (uint64_t in_page = 0; in_page < 8192; in_page++)
        if (in_page != 24 && in_page != 40)
            assert_int_equal(floor_normalise(8192 + in_page), 8192 + in_page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_client_may_read_anywhere),
        cmocka_unit_test(after_the_primary_no_replica_until_a_later_sample),
        cmocka_unit_test(only_replicas_that_have_replayed_it_serve),
        cmocka_unit_test(a_first_use_before_any_sample_is_pending_too),
        cmocka_unit_test(a_reader_stays_until_its_replica_was_sampled_after_the_read),
        cmocka_unit_test(a_restarted_home_is_a_stranger),
        cmocka_unit_test(floors_only_rise),
        cmocka_unit_test(a_new_timeline_has_lsns_of_its_own),
        cmocka_unit_test(the_end_of_a_page_header_is_the_start_of_the_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
