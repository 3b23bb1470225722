/* tests/unit/test_router_freshness.c: lag over time as a primary, a replica and a receiver live. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "router/freshness.h"

#define MS INT64_C(1000000)
#define POLL_MS 100
#define MB UINT64_C(1048576)

static struct lag_ring ring;

static int64_t lag(uint64_t replay, int64_t now_ms)
{
    return lag_ring_ms(&ring, replay, now_ms * MS);
}

static void add(uint64_t lsn, int64_t now_ms)
{
    lag_ring_add(&ring, lsn, now_ms * MS);
}

static void an_idle_primary_gives_no_lag(void **state)
{
    (void)state;
    lag_ring_reset(&ring);
    for (int64_t t = 0; t < 3600 * 1000; t += POLL_MS) {
        add(1000, t); /* an open idle transaction moves the insert LSN only, not this one */
        assert_int_equal(lag(1000, t), 0);
    }
    assert_int_equal(ring.n, 1);
    add(2000, 3600 * 1000); /* the first write after an idle hour is not an hour of lag */
    assert_int_equal(lag(1000, 3600 * 1000 + 30), 30);
    assert_int_equal(lag(2000, 3600 * 1000 + 30), 0);
    assert_int_equal(lag(3000, 3600 * 1000 + 30), 0);
}

static void a_dead_receiver_and_a_paused_replay_grow(void **state)
{
    (void)state;
    lag_ring_reset(&ring);
    for (int64_t t = 0; t <= 10000; t += POLL_MS)
        add(1000 + (uint64_t)t, t);
    assert_int_equal(lag(1000 + 10000, 10000), 0);
    assert_int_equal(lag(1000 + 5000, 10000), 10000 - 5100);
    assert_int_equal(lag(1000 + 5000, 60000),
                     60000 - 5100); /* the primary went idle, lag goes on */
    assert_int_equal(lag(1000 + 5099, 60000), 60000 - 5100);
    assert_int_equal(lag(1000 + 5100, 60000), 60000 - 5200);
}

static void before_the_first_sample_nothing_is_known(void **state)
{
    (void)state;
    lag_ring_reset(&ring);
    assert_true(lag(0, 0) == LAG_UNKNOWN_MS);
    assert_int_equal(lag_ring_newest(&ring), 0);
    add(5000, 0);
    assert_true(lag(4999, 1) == LAG_UNKNOWN_MS);
    assert_int_equal(lag(5000, 1), 0);
    assert_int_equal(lag_ring_newest(&ring), 5000);
}

static void an_lsn_that_goes_back_is_another_primary(void **state)
{
    (void)state;
    lag_ring_reset(&ring);
    add(5000, 0);
    add(6000, 100);
    add(3000, 200);
    assert_int_equal(ring.n, 1);
    assert_int_equal(lag(3000, 500), 0);
    assert_true(lag(2000, 500) == LAG_UNKNOWN_MS);
}

static void a_clock_that_stands_still_gives_no_negative_lag(void **state)
{
    (void)state;
    lag_ring_reset(&ring);
    add(1000, 100);
    add(2000, 200);
    assert_int_equal(lag(1000, 150), 0);
}

/* A day of bulk load: 864 000 samples in 600 places. Never less than the truth, near it when it
 * is small, and within an eighth of it when it is large. */
static void bulk_load_over_a_day_stays_measurable(void **state)
{
    (void)state;
    lag_ring_reset(&ring);
    const int64_t day_ms = INT64_C(24) * 3600 * 1000;
    for (int64_t t = 0; t <= day_ms; t += POLL_MS) {
        add(MB + (uint64_t)t * 1000, t);
        assert_true(ring.n <= LAG_SAMPLES);
    }
    for (int64_t behind = 0; behind <= day_ms; behind += 977 * 100) {
        const int64_t truth = behind == 0 ? 0 : behind - POLL_MS;
        const int64_t got = lag(MB + (uint64_t)(day_ms - behind) * 1000, day_ms);
        assert_true(got >= truth);
        assert_true(got <= truth + truth / 8 + 2 * POLL_MS);
    }
    for (int64_t behind = POLL_MS; behind <= 20 * 1000; behind += POLL_MS) /* exact when recent */
        assert_int_equal(lag(MB + (uint64_t)(day_ms - behind) * 1000, day_ms), behind - POLL_MS);
    for (uint32_t i = 1; i < ring.n; i++) {
        assert_true(ring.samples[i].flush_lsn > ring.samples[i - 1].flush_lsn);
        assert_true(ring.samples[i].at_ns > ring.samples[i - 1].at_ns);
    }
}

static void bytes_of_lag(void **state)
{
    (void)state;
    assert_int_equal(lag_bytes(100, 40), 60);
    assert_int_equal(lag_bytes(100, 100), 0);
    assert_int_equal(lag_bytes(100, 140), 0);
}

static void the_gate_closes_at_once_and_opens_slowly(void **state)
{
    (void)state;
    struct lag_gate g = {0};
    assert_false(lag_update(&g, 0, 0, 1000, 0)); /* the first sample of a replica is not enough */
    assert_true(lag_update(&g, 0, 0, 1000, 0));
    assert_true(lag_update(&g, 1000, 0, 1000, 0));
    assert_false(lag_update(&g, 1001, 0, 1000, 0));
    assert_false(lag_update(&g, 900, 0, 1000, 0)); /* under the limit, above 75 % of it */
    assert_false(lag_update(&g, 750, 0, 1000, 0));
    assert_false(lag_update(&g, 751, 0, 1000, 0)); /* not in a row */
    assert_false(lag_update(&g, 750, 0, 1000, 0));
    assert_true(lag_update(&g, 750, 0, 1000, 0));
    assert_true(lag_update(&g, 10, 100, 1000, 100));
    assert_false(lag_update(&g, 10, 101, 1000, 100));
    assert_false(lag_update(&g, 10, 75, 1000, 100));
    assert_true(lag_update(&g, 10, 75, 1000, 100));
    assert_true(lag_update(&g, 1 << 30, UINT64_MAX, 0, 0)); /* 0 is no limit */
    assert_false(lag_update(&g, LAG_UNKNOWN_MS, 0, 0, 0));
}

static void lsn_texts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t lsn;
    } good[] = {{"0/16B3748", 0x16B3748},
                {"0/0", 0},
                {"FFFFFFFF/FFFFFFFF", UINT64_MAX},
                {"1/0", UINT64_C(1) << 32},
                {"ABC/DEF0", UINT64_C(0xABC0000DEF0)}};
    static const char *const bad[] = {"",     "/",    "0/",  "/0",          "0",    "0/1 ",
                                      " 0/1", "0//1", "g/0", "0/123456789", "0x/0", "0/-1"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        uint64_t lsn = 77;
        char text[LSN_TEXT_BYTES];
        assert_true(lsn_parse(slice_of(good[i].text), &lsn));
        assert_true(lsn == good[i].lsn);
        assert_int_equal(lsn_format(lsn, text), strlen(good[i].text));
        assert_string_equal(text, good[i].text);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint64_t lsn = 77;
        assert_false(lsn_parse(slice_of(bad[i]), &lsn));
        assert_int_equal(lsn, 77);
    }
}

static void timelines_of_wal_files(void **state)
{
    (void)state;
    uint32_t tli = 9;
    assert_true(timeline_of_walfile(slice_of("0000000300000001000000AB"), &tli));
    assert_int_equal(tli, 3);
    assert_false(timeline_of_walfile(slice_of("0000000300000001000000A"), &tli));
    assert_false(timeline_of_walfile(slice_of("0000000300000001000000AG"), &tli));
    assert_false(timeline_of_walfile(slice_of("0000000000000001000000AB"), &tli));
    assert_false(timeline_of_walfile(SLICE_NONE, &tli));
    assert_int_equal(tli, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_idle_primary_gives_no_lag),
        cmocka_unit_test(a_dead_receiver_and_a_paused_replay_grow),
        cmocka_unit_test(before_the_first_sample_nothing_is_known),
        cmocka_unit_test(an_lsn_that_goes_back_is_another_primary),
        cmocka_unit_test(a_clock_that_stands_still_gives_no_negative_lag),
        cmocka_unit_test(bulk_load_over_a_day_stays_measurable),
        cmocka_unit_test(bytes_of_lag),
        cmocka_unit_test(the_gate_closes_at_once_and_opens_slowly),
        cmocka_unit_test(lsn_texts),
        cmocka_unit_test(timelines_of_wal_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
