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
    return (struct floor_sample){.number = number,
                                 .timeline = 1,
                                 .seen_lsn = replay_lsn,
                                 .replay_lsn = replay_lsn,
                                 .instance = 77};
}

static void a_new_client_may_read_anywhere(void **state)
{
    (void)state;
    struct floor f = {0};
    struct floor_sample samples[2] = {at(1, 100), at(1, 90)};
    assert_int_equal(floor_nodes(&f, f.lsn, BOTH, samples), BOTH);
}

static void after_the_primary_no_replica_until_a_later_sample(void **state)
{
    (void)state;
    struct floor f = {0};
    struct floor_sample samples[2] = {at(9, 1000), at(9, 1000)};
    floor_used_primary(&f, B, 7);
    assert_int_equal(floor_nodes(&f, f.lsn, BOTH, samples), 0);
    /* number 7 was begun before the answer came: it may have looked before the commit */
    assert_false(floor_settle_primary(&f, &primary(7, 1, 500)));
    assert_int_equal(floor_nodes(&f, f.lsn, BOTH, samples), 0);
    assert_true(floor_settle_primary(&f, &primary(8, 1, 600)));
    assert_int_equal(f.lsn, 600);
    assert_int_equal(floor_nodes(&f, f.lsn, BOTH, samples), BOTH);
}

static void only_replicas_that_have_replayed_it_serve(void **state)
{
    (void)state;
    for (uint64_t replayed = 598; replayed <= 602; replayed++) {
        struct floor f = {.lsn = 600, .timeline = 1};
        struct floor_sample samples[2] = {at(1, replayed), at(1, 700)};
        assert_int_equal(floor_nodes(&f, f.lsn, BOTH, samples), replayed >= 600 ? BOTH : 1U << B);
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
    assert_int_equal(floor_nodes(&f, f.lsn, BOTH, samples), 1U << A);
    assert_false(floor_settle_replica(&f, A, &samples[A]));
    assert_true(floor_settle_replica(&f, B, &samples[B])); /* another node's sample says nothing */
    assert_int_equal(floor_nodes(&f, f.lsn, 1U << B, samples), 0);
    samples[A] = at(5, 940);
    samples[A].seen_lsn = 950; /* received more than replayed */
    assert_true(floor_settle_replica(&f, A, &samples[A]));
    assert_int_equal(f.lsn, 950);
    assert_int_equal(floor_nodes(&f, f.lsn, BOTH, samples), 1U << A); /* home stays good */
    samples[B].replay_lsn = 950;
    assert_int_equal(floor_nodes(&f, f.lsn, BOTH, samples), BOTH);
}

static void a_restarted_home_is_a_stranger(void **state)
{
    (void)state;
    struct floor f = {0};
    struct floor_sample samples[2] = {at(4, 100), at(9, 100)};
    floor_used_replica(&f, A, 77, 4);
    samples[A] = at(5, 90); /* later than the read, and older than what it showed */
    samples[A].instance = 78;
    assert_false(floor_settle_replica(&f, A, &samples[A]));
    assert_int_equal(floor_nodes(&f, f.lsn, BOTH, samples), 0);
    floor_used_primary(&f, B, 1); /* whoever used the primary since has no home */
    samples[A].replay_lsn = 100;
    assert_true(floor_settle_primary(&f, &primary(2, 1, 100)));
    assert_int_equal(floor_nodes(&f, f.lsn, BOTH, samples), BOTH);
}

static void what_a_lost_home_showed_the_primary_tells(void **state)
{
    (void)state;
    struct floor f = {.lsn = 80, .timeline = 1};
    struct floor_sample samples[2] = {at(4, 100), at(9, 99)};
    floor_used_replica(&f, A, 77, 4);
    floor_lost_home(&f, B, 6);
    assert_false(floor_settle_primary(&f, &primary(6, 1, 99)));
    assert_int_equal(floor_nodes(&f, f.lsn, BOTH, samples), 0);
    assert_true(floor_settle_primary(&f, &primary(7, 1, 100)));
    assert_int_equal(floor_nodes(&f, f.lsn, BOTH, samples), 1U << A);
}

/* A commit is visible before the replay LSN counts it. */
static void a_replica_that_replays_what_it_did_not_receive_vouches_for_nothing(void **state)
{
    (void)state;
    assert_int_equal(floor_shown(100, 99), 100);
    assert_int_equal(floor_shown(100, 100), 100);
    assert_int_equal(floor_shown(99, 100), 0);
    assert_int_equal(floor_shown(0, 100), 0);
    struct floor f = {0};
    struct floor_sample samples[2] = {at(5, 100), at(9, 900)};
    samples[A].seen_lsn = 0;
    floor_used_replica(&f, A, 77, 4);
    assert_false(floor_settle_replica(&f, A, &samples[A]));
    assert_int_equal(floor_nodes(&f, f.lsn, BOTH, samples), 1U << A); /* home stays good */
}

static void floors_only_rise(void **state)
{
    (void)state;
    struct floor f = {.lsn = 600, .timeline = 1};
    floor_used_replica(&f, A, 77, 1);
    struct floor_sample less = at(2, 500);
    assert_true(floor_settle_replica(&f, A, &less));
    assert_int_equal(f.lsn, 600);
}

static void a_new_timeline_has_lsns_of_its_own(void **state)
{
    (void)state;
    struct floor f = {.lsn = 600, .timeline = 1};
    struct floor_sample samples[2] = {at(9, 9000), at(9, 9000)};
    samples[A].timeline = 2;
    assert_int_equal(floor_nodes(&f, f.lsn, BOTH, samples), 1U << B);
    floor_used_primary(&f, B, 3);
    assert_true(floor_settle_primary(&f, &primary(4, 2, 100)));
    assert_int_equal(f.timeline, 2);
    assert_int_equal(floor_nodes(&f, f.lsn, BOTH, samples), 1U << A);
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

static struct floor_sample primary_at(uint64_t number, uint64_t insert, uint64_t flush, uint64_t ns)
{
    return (struct floor_sample){.number = number,
                                 .timeline = 1,
                                 .seen_lsn = insert,
                                 .flush_lsn = flush,
                                 .begun_ns = ns,
                                 .at_ns = ns};
}

#define WINDOW 600

/* A client used the primary, whose insert LSN is 600 at time 1000, while 500 is flushed. */
static struct floor settled_at_600(void)
{
    struct floor f = {0};
    struct floor_sample p = primary_at(2, 600, 500, 1000);
    floor_used_primary(&f, B, 1);
    assert_true(floor_settle_primary(&f, &p));
    return f;
}

static void what_stays_unflushed_for_long_is_not_waited_for(void **state)
{
    (void)state;
    struct floor f = settled_at_600();
    struct floor_sample early = primary_at(8, 600, 500, 1000 + WINDOW - 1);
    struct floor_sample late = primary_at(9, 600, 500, 1000 + WINDOW);
    assert_int_equal(floor_need(&f, &early, WINDOW), 600);
    assert_int_equal(floor_need(&f, &late, WINDOW), 500);
    assert_int_equal(floor_need(&f, &late, 0), 600); /* wal_writer_delay is not known */
    struct floor_sample samples[2] = {at(9, 500), at(9, 499)};
    assert_int_equal(floor_nodes(&f, 500, BOTH, samples), 1U << A);
    assert_int_equal(floor_nodes(&f, 600, BOTH, samples), 0);
}

static void a_floor_that_is_settled_again_at_the_same_place_keeps_its_time(void **state)
{
    (void)state;
    struct floor f = settled_at_600();
    struct floor_sample again = primary_at(4, 600, 500, 1500), late = primary_at(6, 600, 500, 1700);
    floor_used_primary(&f, B, 3);
    assert_true(floor_settle_primary(&f, &again));
    assert_int_equal(floor_need(&f, &late, WINDOW), 500);
    struct floor_sample more = primary_at(7, 601, 500, 1700), later = primary_at(9, 601, 500, 2299);
    floor_used_primary(&f, B, 6);
    assert_true(floor_settle_primary(&f, &more)); /* something new was inserted: its own window */
    assert_int_equal(floor_need(&f, &later, WINDOW), 601);
}

static void
the_flush_position_never_asks_for_more_and_never_vouches_for_another_timeline(void **state)
{
    (void)state;
    struct floor f = settled_at_600();
    struct floor_sample ahead = primary_at(9, 900, 800, 5000),
                        other = primary_at(9, 700, 500, 5000);
    struct floor_sample none = primary_at(9, 700, 0, 5000);
    assert_int_equal(floor_need(&f, &ahead, WINDOW), 600);
    assert_int_equal(floor_need(&f, &none, WINDOW), 600);
    other.timeline = 2;
    assert_int_equal(floor_need(&f, &other, WINDOW), 600);
}

static void a_token_of_the_future_is_not_reached_by_waiting(void **state)
{
    (void)state;
    struct floor f = {0};
    struct floor_sample late = primary_at(9, 600, 600, 999999);
    floor_raise(&f, 1, 601, 0);
    assert_int_equal(floor_need(&f, &late, WINDOW), 601);
}

static void home_has_to_prove_what_a_token_asks_for(void **state)
{
    (void)state;
    struct floor f = {0};
    struct floor_sample samples[2] = {at(4, 100), at(9, 900)};
    floor_used_replica(&f, A, 77, 3);
    assert_int_equal(floor_nodes(&f, f.lsn, BOTH, samples), 1U << A);
    floor_raise(&f, 1, 120, 5);
    assert_int_equal(floor_nodes(&f, f.lsn, BOTH, samples), 0); /* B may be behind what A showed */
    samples[A] = at(5, 120);
    assert_int_equal(floor_nodes(&f, f.lsn, BOTH, samples), 1U << A);
    samples[A].replay_lsn = 100; /* an instance does not go back: it is not asked again */
    assert_int_equal(floor_nodes(&f, f.lsn, BOTH, samples), 1U << A);
}

/* A replica that is held back receives on: its client's floor is above what it shows. */
static void a_token_between_what_home_replayed_and_what_it_received_counts(void **state)
{
    (void)state;
    for (uint64_t asked = 99; asked <= 102; asked++) {
        struct floor f = {0};
        struct floor_sample samples[2] = {at(5, 100), at(9, 100)};
        samples[A].seen_lsn = 900;
        floor_used_replica(&f, A, 77, 4);
        assert_true(floor_settle_replica(&f, A, &samples[A]));
        floor_raise(&f, 1, asked, 5);
        assert_int_equal(f.lsn, 900);
        assert_int_equal(floor_nodes(&f, f.lsn, BOTH, samples), asked <= 100 ? 1U << A : 0);
        samples[A].replay_lsn = 102;
        assert_int_equal(floor_nodes(&f, f.lsn, BOTH, samples), 1U << A);
    }
}

static void what_others_wrote_is_pending_and_home_has_to_prove_it(void **state)
{
    (void)state;
    struct floor f = {0};
    struct floor_sample samples[2] = {at(4, 100), at(9, 900)};
    struct floor_sample p = primary_at(8, 300, 300, 50);
    floor_used_replica(&f, A, 77, 3);
    floor_join(&f, B, 8);
    assert_int_equal(floor_nodes(&f, f.lsn, BOTH, samples), 0);
    floor_join(&f, B, 6); /* an older word takes nothing back */
    struct floor_sample early = primary_at(7, 200, 200, 40);
    assert_false(floor_settle_primary(&f, &early));
    assert_true(floor_settle_primary(&f, &p));
    assert_int_equal(floor_nodes(&f, f.lsn, BOTH, samples), 0);
    assert_true(floor_settle_replica(&f, A, &samples[A]));
    assert_int_equal(floor_nodes(&f, f.lsn, BOTH, samples), 1U << B);
    samples[A] = at(5, 300);
    assert_int_equal(floor_nodes(&f, f.lsn, BOTH, samples), BOTH);
}

static void a_raise_to_less_changes_nothing(void **state)
{
    (void)state;
    struct floor f = {.lsn = 600, .timeline = 2};
    floor_raise(&f, 2, 600, 1);
    floor_raise(&f, 1, 9000, 1);
    assert_int_equal(f.lsn, 600);
    assert_int_equal(f.timeline, 2);
    assert_int_equal(f.home_needs, 600); /* home may have less: lsn can be what it has received */
}

static void tokens_are_read_as_they_are_written(void **state)
{
    (void)state;
    static const struct {
        uint32_t timeline;
        uint64_t lsn;
        const char *text;
    } good[] = {{1, 0x16B3748, "1-0/16B3748"},
                {UINT32_MAX, UINT64_MAX, "4294967295-FFFFFFFF/FFFFFFFF"},
                {0, 0, "0-0/0"}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char text[FLOOR_TOKEN_BYTES];
        uint32_t timeline = 77;
        uint64_t lsn = 77;
        size_t n = floor_token_write(good[i].timeline, good[i].lsn, text);
        assert_int_equal(n, strlen(text));
        assert_string_equal(text, good[i].text);
        assert_true(floor_token_read(slice_of(text), &timeline, &lsn));
        assert_int_equal(timeline, good[i].timeline);
        assert_int_equal(lsn, good[i].lsn);
    }
    uint32_t timeline = 77;
    uint64_t lsn = 0;
    assert_true(floor_token_read(slice_of("A/ff"), &timeline, &lsn)); /* an LSN alone */
    assert_int_equal(timeline, 0);
    assert_int_equal(lsn, 0xA000000ff);
    static const char *const bad[] = {
        "",       "-",     "1-",     "-0/1",    "4294967296-0/1", "99999999999-0/1", "1-0",
        "1 -0/1", "x-0/1", "1-0/1 ", "1-2-0/1", "0/1-1",          "1-0/123456789",   "+1-0/1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(floor_token_read(slice_of(bad[i]), &timeline, &lsn));
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
        cmocka_unit_test(what_a_lost_home_showed_the_primary_tells),
        cmocka_unit_test(a_replica_that_replays_what_it_did_not_receive_vouches_for_nothing),
        cmocka_unit_test(a_token_between_what_home_replayed_and_what_it_received_counts),
        cmocka_unit_test(floors_only_rise),
        cmocka_unit_test(a_new_timeline_has_lsns_of_its_own),
        cmocka_unit_test(the_end_of_a_page_header_is_the_start_of_the_page),
        cmocka_unit_test(what_stays_unflushed_for_long_is_not_waited_for),
        cmocka_unit_test(a_floor_that_is_settled_again_at_the_same_place_keeps_its_time),
        cmocka_unit_test(
            the_flush_position_never_asks_for_more_and_never_vouches_for_another_timeline),
        cmocka_unit_test(a_token_of_the_future_is_not_reached_by_waiting),
        cmocka_unit_test(home_has_to_prove_what_a_token_asks_for),
        cmocka_unit_test(what_others_wrote_is_pending_and_home_has_to_prove_it),
        cmocka_unit_test(a_raise_to_less_changes_nothing),
        cmocka_unit_test(tokens_are_read_as_they_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
