/* tests/unit/test_pool_queue.c: when a queue stands, alone and in a queue over simulated time; spread times. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/pool/codel.h"
#include "proxy/pool/jitter.h"

#define BORN_MAX 20000
#define SERVERS 4
#define SERVICE_MS 20

static const struct codel_limits limits = {.interval_ms = 1000, .target_ms = 100};

/* Looks every 10 ms, from `now` on, at an age that stays as it is. */
static bool after(struct codel *c, uint64_t *now_ms, uint64_t ms, uint64_t age_ms)
{
    for (uint64_t end_ms = *now_ms + ms; *now_ms < end_ms; *now_ms += 10)
        codel_look(c, &limits, *now_ms, age_ms);
    return c->stands;
}

static void a_queue_stands_when_a_whole_interval_was_late(void **state)
{
    (void)state;
    struct codel c = {0};
    uint64_t now_ms = 77;
    assert_false(after(&c, &now_ms, 2000, 100));
    assert_false(after(&c, &now_ms, 990, 101)); /* the interval began with 100 */
    assert_true(after(&c, &now_ms, 1020, 101));
    assert_true(after(&c, &now_ms, 5000, 5000));
}

static void one_look_on_time_ends_it_at_once(void **state)
{
    (void)state;
    struct codel c = {0};
    uint64_t now_ms = 1;
    assert_true(after(&c, &now_ms, 2020, 300));
    assert_false(after(&c, &now_ms, 10, 100));
    assert_false(after(&c, &now_ms, 900, 300)); /* a whole interval anew */
    assert_true(after(&c, &now_ms, 1100, 300));
    assert_false(after(&c, &now_ms, 10, 0));
}

static void a_burst_does_not_stand(void **state)
{
    (void)state;
    struct codel c = {0};
    uint64_t now_ms = 1;
    for (int burst = 0; burst < 20; burst++) {
        assert_false(after(&c, &now_ms, 700, 4000));
        assert_false(after(&c, &now_ms, 50, 0));
    }
}

static void an_idle_queue_is_not_judged_by_its_last_wait(void **state)
{
    (void)state;
    struct codel c = {0};
    codel_look(&c, &limits, 1000, 90);
    codel_look(&c, &limits, 90000, 0);
    assert_false(c.stands);
    codel_look(&c, &limits, 90500, 500);
    codel_look(&c, &limits, 91100, 500);
    assert_false(c.stands);
    assert_int_equal(codel_patience_ms(&limits), 200);
}

/* ---- a queue over time ---- */

struct run {
    struct codel codel;
    uint64_t now_ms, waiting[BORN_MAX], busy_until_ms[SERVERS];
    unsigned first, n; /* of waiting: a list of births, oldest first */
    unsigned served, shed;
    uint64_t served_late; /* after more than patience and a service */
};

static uint64_t age(const struct run *r)
{
    return r->n > r->first ? r->now_ms - r->waiting[r->first] : 0;
}

static void serve(struct run *r, uint64_t *busy_until_ms)
{
    if (r->n == r->first || *busy_until_ms > r->now_ms)
        return;
    uint64_t born_ms = r->codel.stands ? r->waiting[--r->n] : r->waiting[r->first++];
    *busy_until_ms = r->now_ms + SERVICE_MS;
    r->served++;
    r->served_late += r->now_ms - born_ms > 3000;
}

/* rate: clients that come in each 10 ms. */
static void run(struct run *r, uint64_t ms, unsigned rate)
{
    for (uint64_t end_ms = r->now_ms + ms; r->now_ms < end_ms; r->now_ms++) {
        for (unsigned i = 0; r->now_ms % 10 == 0 && i < rate; i++)
            r->waiting[r->n++] = r->now_ms;
        codel_look(&r->codel, &limits, r->now_ms, age(r));
        while (r->codel.stands && age(r) > codel_patience_ms(&limits)) {
            r->first++;
            r->shed++;
        }
        for (int i = 0; i < SERVERS; i++)
            serve(r, &r->busy_until_ms[i]);
    }
}

static void overload_stands_serves_at_full_speed_and_ends_with_the_load(void **state)
{
    (void)state;
    static struct run r;
    r = (struct run){.now_ms = 10};
    run(&r, 2000, 1); /* half of capacity: 100 of 200 per second */
    assert_false(r.codel.stands);
    assert_int_equal(r.shed, 0);
    run(&r, 10000, 10); /* five times capacity */
    assert_true(r.codel.stands);
    assert_true(age(&r) <= codel_patience_ms(&limits));
    assert_in_range(r.served, 2100, 2300); /* nothing of the capacity is lost */
    assert_int_equal(r.served_late, 0);
    unsigned shed = r.shed;
    run(&r, 1000, 1); /* within a second it is as if nothing had been */
    assert_false(r.codel.stands);
    assert_int_equal(r.n, r.first);
    shed = r.shed;
    run(&r, 3000, 1);
    assert_int_equal(r.shed, shed);
}

static void a_deadline_is_up_to_a_tenth_early_and_never_late(void **state)
{
    (void)state;
    uint64_t least = UINT64_MAX, most = 0;
    for (uint64_t random = 0; random < 2000; random++) {
        uint64_t ms = jitter_below_ms(5000, random * 0x9E3779B97F4A7C15ULL);
        least = ms < least ? ms : least;
        most = ms > most ? ms : most;
    }
    assert_in_range(least, 4500, 4520);
    assert_in_range(most, 4980, 5000);
    assert_int_equal(jitter_below_ms(9, UINT64_MAX), 9);
    assert_int_equal(jitter_below_ms(0, 12345), 0);
}

static void a_pause_doubles_up_to_a_limit_and_is_never_shorter_than_that(void **state)
{
    (void)state;
    uint64_t wait_ms = 0, total_ms = 0;
    const uint64_t pauses_ms[] = {100, 200, 400, 800, 1000, 1000};
    for (size_t i = 0; i < sizeof pauses_ms / sizeof *pauses_ms; i++) {
        wait_ms = backoff_ms(wait_ms, 1000);
        assert_int_equal(wait_ms, pauses_ms[i]);
    }
    for (uint64_t random = 0; random < 1000; random++) {
        uint64_t ms = jitter_above_ms(1000, random * 0x9E3779B97F4A7C15ULL);
        assert_in_range(ms, 1000, 1250);
        total_ms += ms;
    }
    assert_in_range(total_ms / 1000, 1110, 1140); /* and they differ */
    assert_int_equal(backoff_ms(0, 20), 20);
    assert_int_equal(backoff_ms(0, 0), 0);
    assert_int_equal(jitter_above_ms(0, 7), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_queue_stands_when_a_whole_interval_was_late),
        cmocka_unit_test(one_look_on_time_ends_it_at_once),
        cmocka_unit_test(a_burst_does_not_stand),
        cmocka_unit_test(an_idle_queue_is_not_judged_by_its_last_wait),
        cmocka_unit_test(overload_stands_serves_at_full_speed_and_ends_with_the_load),
        cmocka_unit_test(a_pause_doubles_up_to_a_limit_and_is_never_shorter_than_that),
        cmocka_unit_test(a_deadline_is_up_to_a_tenth_early_and_never_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
