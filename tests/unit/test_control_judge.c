/* proxy/control/judge: each test is a story of samples; after each step the verdict must hold. */
#include "proxy/control/judge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define MS 1000000ULL
#define NONE NODE_NONE
#define PAGE 8192U
#define SYSTEM 77U

enum act {
    ACT_WRITER, /* a sample out of recovery: timeline, lsn = flush */
    ACT_READER, /* a sample in recovery: timeline, lsn = replay */
    ACT_LOST,   /* judge_lost(why) */
    ACT_SAW,    /* judge_saw_role(lsn != 0) */
    ACT_WAIT,   /* time passes */
};

struct step {
    uint64_t at_ms;
    enum act act;
    uint8_t node;
    uint32_t timeline;
    uint64_t lsn;
    uint8_t primary; /* what must hold then */
    uint32_t readable;
    enum node_why why;  /* of the node */
    uint64_t system_id; /* 0: SYSTEM */
    uint64_t lag_ms;    /* checked when not 0 */
};

static const struct judge_limits limits = {.max_age_ns = 1000 * MS, .max_lag_ms = 500};

static void run_step(struct judge *j, const struct step *s, const struct judge_limits *lim)
{
    uint64_t system_id = s->system_id ? s->system_id : SYSTEM;
    uint64_t now_ns = s->at_ms * MS;
    struct judge_sample sample = {.in_recovery = s->act == ACT_READER,
                                  .timeline = s->timeline,
                                  .system_id = system_id,
                                  .number = s->at_ms,
                                  .begun_ns = now_ns,
                                  .at_ns = now_ns};
    if (s->act == ACT_READER)
        sample.replay_lsn = sample.receive_lsn = s->lsn;
    else
        sample.insert_lsn = sample.flush_lsn = s->lsn;
    if (s->act == ACT_WRITER || s->act == ACT_READER)
        judge_take(j, s->node, &sample, lim);
    else if (s->act == ACT_LOST)
        judge_lost(j, s->node, s->why);
    else if (s->act == ACT_SAW)
        judge_saw_role(j, s->node, s->lsn != 0);
}

static void run_story(uint32_t node_n, const struct step *steps, size_t n,
                      const struct judge_limits *lim)
{
    static struct judge j;
    judge_init(&j, node_n);
    for (size_t i = 0; i < n; i++) {
        const struct step *s = &steps[i];
        struct judge_verdict v;
        run_step(&j, s, lim);
        judge_decide(&j, s->at_ms * MS, lim, &v);
        bool good = v.primary == s->primary && v.readable == s->readable &&
                    v.nodes[s->node].why == s->why &&
                    (s->lag_ms == 0 || v.nodes[s->node].lag_ms == s->lag_ms);
        if (!good)
            print_error("step %zu: primary %u (want %u), readable %x (%x), node %u is '%s' ('%s'), "
                        "lag %llu (%llu)\n",
                        i, v.primary, s->primary, v.readable, s->readable, s->node,
                        node_why_text(v.nodes[s->node].why), node_why_text(s->why),
                        (unsigned long long)v.nodes[s->node].lag_ms, (unsigned long long)s->lag_ms);
        assert_true(good);
        for (uint32_t k = 0; k < node_n; k++) { /* what no story may break */
            bool is_primary = v.nodes[k].role == NODE_PRIMARY;
            assert_true(!is_primary || k == v.primary);
            assert_true(node_n == 1 || !(v.readable >> k & 1U) || v.nodes[k].role == NODE_REPLICA);
        }
    }
}

#define STORY(node_n, steps) run_story(node_n, steps, sizeof steps / sizeof *steps, &limits)

#define W(t, node, tli, lsn) t, ACT_WRITER, node, tli, lsn
#define R(t, node, tli, lsn) t, ACT_READER, node, tli, lsn
#define LOST(t, node) t, ACT_LOST, node, 0, 0
#define SAW(t, node, replica) t, ACT_SAW, node, 0, replica
#define WAIT(t, node) t, ACT_WAIT, node, 0, 0

static void a_replica_of_an_idle_primary_has_no_lag(void **state)
{
    (void)state;
    static const struct step steps[] = {
        {W(1000, 0, 1, 100), 0, 0, NODE_IS_PRIMARY, 0, 0},
        {R(1010, 1, 1, 100), 0, 0, NODE_LAGS, 0, 0}, /* one good sample is none */
        {R(1110, 1, 1, 100), 0, 2, NODE_FINE, 0, 0},
        {W(1900, 0, 1, 100), 0, 2, NODE_IS_PRIMARY, 0, 0},
        {R(1950, 1, 1, 100), 0, 2, NODE_FINE, 0, 0},
        {W(2800, 0, 1, 100), 0, 2, NODE_IS_PRIMARY, 0, 0},
        {R(2850, 1, 1, 100), 0, 2, NODE_FINE, 0, 0},
    };
    STORY(2, steps);
}

static void lag_grows_without_a_walreceiver_and_the_way_back_has_hysteresis(void **state)
{
    (void)state;
    static const struct step steps[] = {
        {W(1000, 0, 1, 100), 0, 0, NODE_IS_PRIMARY, 0, 0},
        {R(1000, 1, 1, 100), 0, 0, NODE_LAGS, 0, 0},
        {R(1100, 1, 1, 100), 0, 2, NODE_FINE, 0, 0},
        {W(1100, 0, 1, 200), 0, 2, NODE_IS_PRIMARY, 0, 0},
        {R(1200, 1, 1, 100), 0, 2, NODE_FINE, 0, 100},
        {R(1600, 1, 1, 100), 0, 2, NODE_FINE, 0, 500}, /* at the limit is within it */
        {W(1650, 0, 1, 200), 0, 2, NODE_IS_PRIMARY, 0, 0},
        {R(1700, 1, 1, 100), 0, 0, NODE_LAGS, 0, 600},
        {W(1800, 0, 1, 300), 0, 0, NODE_IS_PRIMARY, 0, 0},
        {R(2250, 1, 1, 200), 0, 0, NODE_LAGS, 0, 450}, /* above 75 % of the limit */
        {R(2260, 1, 1, 300), 0, 0, NODE_LAGS, 0, 0},
        {R(2360, 1, 1, 300), 0, 2, NODE_FINE, 0, 0},
    };
    STORY(2, steps);
}

static void bytes_are_a_limit_of_their_own(void **state)
{
    (void)state;
    static const struct judge_limits bytes = {.max_age_ns = 1000 * MS, .max_lag_bytes = 1000};
    static const struct step steps[] = {
        {W(1000, 0, 1, 100), 0, 0, NODE_IS_PRIMARY, 0, 0},
        {R(1000, 1, 1, 100), 0, 0, NODE_LAGS, 0, 0},
        {R(1100, 1, 1, 100), 0, 2, NODE_FINE, 0, 0},
        {W(1100, 0, 1, 1101), 0, 2, NODE_IS_PRIMARY, 0, 0},
        {R(1200, 1, 1, 100), 0, 0, NODE_LAGS_BYTES, 0, 100},
    };
    run_story(2, steps, sizeof steps / sizeof *steps, &bytes);
}

static void a_stopped_replica_is_out_when_its_sample_is_old(void **state)
{
    (void)state;
    static const struct step steps[] = {
        {W(1000, 0, 1, 100), 0, 0, NODE_IS_PRIMARY, 0, 0},
        {R(1000, 1, 1, 100), 0, 0, NODE_LAGS, 0, 0},
        {R(1100, 1, 1, 100), 0, 2, NODE_FINE, 0, 0},
        {W(2000, 0, 1, 100), 0, 2, NODE_IS_PRIMARY, 0, 0},
        {WAIT(2100, 1), 0, 2, NODE_FINE, 0, 0},
        {WAIT(2101, 1), 0, 0, NODE_SAMPLE_OLD, 0, 0},
        {R(2200, 1, 1, 100), 0, 2, NODE_FINE, 0, 0}, /* its gate never shut */
        {LOST(2300, 1), 0, 0, NODE_UNREACHABLE, 0, 0},
        {WAIT(2310, 1), 0, 0, NODE_UNREACHABLE, 0, 0},
        {R(2400, 1, 1, 100), 0, 2, NODE_FINE, 0, 0},
    };
    STORY(2, steps);
}

static void a_new_timeline_takes_the_writes_and_the_old_one_never_gets_them_back(void **state)
{
    (void)state;
    static const struct step steps[] = {
        {W(1000, 0, 1, 100), 0, 0, NODE_IS_PRIMARY, 0, 0},
        {R(1000, 1, 1, 100), 0, 0, NODE_LAGS, 0, 0},
        {R(1000, 2, 1, 100), 0, 0, NODE_LAGS, 0, 0},
        {R(1100, 1, 1, 100), 0, 2, NODE_FINE, 0, 0},
        {R(1100, 2, 1, 100), 0, 6, NODE_FINE, 0, 0},
        {LOST(1200, 0), 0, 6, NODE_UNREACHABLE, 0, 0},     /* nobody else yet */
        {W(1300, 1, 2, 150), 1, 0, NODE_IS_PRIMARY, 0, 0}, /* node 2 follows the old one */
        {R(1310, 2, 1, 150), 1, 0, NODE_OLD_TIMELINE, 0, 0},
        {R(1400, 2, 2, 150), 1, 4, NODE_FINE, 0, 0}, /* the second good sample on the new WAL */
        {W(1500, 0, 1, 900), 1, 4, NODE_OLD_TIMELINE, 0, 0}, /* back, writable, and wrong */
        {LOST(1600, 1), 1, 4, NODE_UNREACHABLE, 0, 0},
        {W(1700, 0, 1, 950), 1, 4, NODE_OLD_TIMELINE, 0, 0},
        {R(1800, 0, 2, 150), 1, 4, NODE_LAGS, 0, 0}, /* it follows now */
        {R(1900, 0, 2, 150), 1, 5, NODE_FINE, 0, 0},
    };
    STORY(3, steps);
}

static void a_replica_that_shows_a_newer_timeline_stops_writes_to_the_older(void **state)
{
    (void)state;
    static const struct step steps[] = {
        {W(1000, 0, 1, 100), 0, 0, NODE_IS_PRIMARY, 0, 0},
        {R(1100, 2, 2, 100), NONE, 0, NODE_LAGS, 0, 0},
        {WAIT(1110, 0), NONE, 0, NODE_OLD_TIMELINE, 0, 0},
        {W(1200, 1, 2, 120), 1, 0, NODE_IS_PRIMARY, 0, 0},
    };
    STORY(3, steps);
}

static void two_primaries_on_one_timeline_leave_the_first_in_place(void **state)
{
    (void)state;
    static const struct step steps[] = {
        {W(1000, 1, 1, 100), 1, 0, NODE_IS_PRIMARY, 0, 0},
        {W(1010, 0, 1, 500), 1, 0, NODE_IS_PRIMARY, 0, 0},
        {W(1100, 1, 1, 110), 1, 0, NODE_IS_PRIMARY, 0, 0},
        {LOST(1200, 1), 0, 0, NODE_UNREACHABLE, 0, 0}, /* not older, and the only one left */
        {W(1300, 1, 1, 110), 0, 0, NODE_IS_PRIMARY, 0, 0},
    };
    STORY(2, steps);
}

static void rivals_are_told(void **state)
{
    (void)state;
    static struct judge j;
    struct judge_verdict v;
    judge_init(&j, 2);
    run_step(&j, &(struct step){W(1000, 0, 3, 100), 0, 0, NODE_FINE, 0, 0}, &limits);
    run_step(&j, &(struct step){W(1000, 1, 3, 100), 0, 0, NODE_FINE, 0, 0}, &limits);
    judge_decide(&j, 1000 * MS, &limits, &v);
    assert_int_equal(v.primary, 0);
    assert_int_equal(v.rivals, 2);
    assert_int_equal(v.nodes[1].role, NODE_UNKNOWN);
    assert_int_equal(v.recheck_ns, 2000 * MS + 1);
}

static void a_demoted_primary_leaves_no_primary(void **state)
{
    (void)state;
    static const struct step steps[] = {
        {W(1000, 0, 1, 100), 0, 0, NODE_IS_PRIMARY, 0, 0},
        {R(1100, 0, 1, 100), NONE, 0, NODE_LAGS, 0, 0},
        {R(1200, 0, 1, 100), NONE, 1, NODE_FINE, 0, 0},
        {W(1300, 1, 2, 100), 1, 0, NODE_IS_PRIMARY, 0, 0},
    };
    STORY(2, steps);
}

static void another_system_is_out_until_it_is_all_there_is(void **state)
{
    (void)state;
    static const struct step steps[] = {
        {W(1000, 0, 1, 100), 0, 0, NODE_IS_PRIMARY, 0, 0},
        {W(1000, 1, 9, 100), 0, 0, NODE_OTHER_SYSTEM, 5, 0},
        {R(1100, 1, 9, 100), 0, 0, NODE_OTHER_SYSTEM, 5, 0},
        {LOST(1200, 0), 0, 0, NODE_UNREACHABLE, 0, 0},
        {W(1300, 1, 9, 100), 0, 0, NODE_OTHER_SYSTEM, 5, 0},
        {R(1400, 0, 9, 100), 1, 0, NODE_LAGS, 5, 0}, /* the cluster was made anew */
        {W(1450, 1, 9, 100), 1, 0, NODE_IS_PRIMARY, 5, 0},
        {R(1500, 0, 9, 100), 1, 1, NODE_FINE, 5, 0},
    };
    STORY(2, steps);
}

static void with_the_primary_dead_only_complete_replicas_serve(void **state)
{
    (void)state;
    /* No new WAL is written, so who had replayed all that was known has all there is. */
    static const struct step steps[] = {
        {W(1000, 0, 1, 100), 0, 0, NODE_IS_PRIMARY, 0, 0},
        {R(1000, 1, 1, 100), 0, 0, NODE_LAGS, 0, 0},
        {R(1000, 2, 1, 100), 0, 0, NODE_LAGS, 0, 0},
        {R(1100, 1, 1, 100), 0, 2, NODE_FINE, 0, 0},
        {R(1100, 2, 1, 100), 0, 6, NODE_FINE, 0, 0},
        {W(1200, 0, 1, 200), 0, 6, NODE_IS_PRIMARY, 0, 0},
        {LOST(1210, 0), 0, 6, NODE_UNREACHABLE, 0, 0},
        {R(1800, 1, 1, 200), 0, 6, NODE_FINE, 0, 0},
        {R(1800, 2, 1, 150), 0, 2, NODE_LAGS, 0, 600},
        {R(2700, 1, 1, 200), 0, 2, NODE_FINE, 0, 0},
        {R(9000, 1, 1, 200), 0, 2, NODE_FINE, 0, 0},
    };
    STORY(3, steps);
}

static void unknown_lag_at_the_start_is_not_eligible(void **state)
{
    (void)state;
    static const struct step steps[] = {
        {WAIT(900, 0), NONE, 0, NODE_NOT_SAMPLED, 0, 0},
        {R(1000, 1, 1, 100), NONE, 0, NODE_NO_PRIMARY, 0, 0},
        {R(1100, 1, 1, 100), NONE, 0, NODE_NO_PRIMARY, 0, 0},
        {W(1200, 0, 1, 300), 0, 0, NODE_IS_PRIMARY, 0, 0},
        {R(1300, 1, 1, 200), 0, 0, NODE_LAGS, 0, (uint64_t)LAG_UNKNOWN_MS},
        {R(1400, 1, 1, 300), 0, 0, NODE_LAGS, 0, 0},
        {R(1500, 1, 1, 300), 0, 2, NODE_FINE, 0, 0},
    };
    STORY(2, steps);
}

static void half_a_record_at_a_page_end_is_no_lag(void **state)
{
    (void)state;
    static const struct step steps[] = {
        {W(1000, 0, 1, 100), 0, 0, NODE_IS_PRIMARY, 0, 0},
        {R(1000, 1, 1, 100), 0, 0, NODE_LAGS, 0, 0},
        {R(1050, 1, 1, 100), 0, 2, NODE_FINE, 0, 0},
        {W(1100, 0, 1, PAGE), 0, 2, NODE_IS_PRIMARY, 0, 0},
        {R(1150, 1, 1, PAGE - 50), 0, 2, NODE_FINE, 0, 0},
        {W(1900, 0, 1, PAGE), 0, 2, NODE_IS_PRIMARY, 0, 0},
        {R(2000, 1, 1, PAGE - 50), 0, 2, NODE_FINE, 0, 0}, /* idle for as long as it likes */
        {W(2100, 0, 1, 2 * PAGE), 0, 2, NODE_IS_PRIMARY, 0, 0},
        {R(2150, 1, 1, PAGE - 50), 0, 0, NODE_LAGS, 0, 1050}, /* there was more: its own time */
        {W(2200, 0, 1, 2 * PAGE + 10), 0, 0, NODE_IS_PRIMARY, 0, 0},
        {R(2250, 1, 1, PAGE), 0, 0, NODE_LAGS, 0, 150},
    };
    STORY(2, steps);
}

static void one_node_is_always_the_primary(void **state)
{
    (void)state;
    static const struct step steps[] = {
        {WAIT(900, 0), 0, 0, NODE_NOT_SAMPLED, 0, 0},
        {LOST(1000, 0), 0, 0, NODE_LOGIN_FAILED, 0, 0},
        {R(1100, 0, 1, 100), 0, 0, NODE_IS_PRIMARY, 0, 0},
        {W(1200, 0, 2, 100), 0, 0, NODE_IS_PRIMARY, 0, 0},
        {W(1300, 0, 1, 50), 0, 0, NODE_IS_PRIMARY, 9, 0}, /* made anew */
        {LOST(1400, 0), 0, 0, NODE_UNREACHABLE, 0, 0},
    };
    STORY(1, steps);
}

static void without_a_login_roles_come_from_servers(void **state)
{
    (void)state;
    static const struct step steps[] = {
        {LOST(1000, 0), NONE, 0, NODE_LOGIN_FAILED, 0, 0}, /* the others may still answer */
        {LOST(1000, 1), NONE, 0, NODE_LOGIN_FAILED, 0, 0},
        {LOST(1000, 2), 0, 0, NODE_LOGIN_FAILED, 0, 0},
        {SAW(1100, 0, 1), 1, 0, NODE_LOGIN_FAILED, 0, 0}, /* a replica: try the next */
        {SAW(1200, 2, 0), 2, 0, NODE_LOGIN_FAILED, 0, 0},
        {SAW(1300, 1, 0), 1, 0, NODE_LOGIN_FAILED, 0, 0}, /* the newest word */
        {SAW(1400, 1, 1), 2, 0, NODE_LOGIN_FAILED, 0, 0},
        {SAW(1500, 2, 1), 0, 0, NODE_LOGIN_FAILED, 0, 0}, /* all replicas: begin again */
        {LOST(1600, 0), 1, 0, NODE_UNREACHABLE, 0, 0},
        {W(1700, 2, 1, 100), 2, 0, NODE_IS_PRIMARY, 0, 0}, /* a sample ends the guessing */
        {SAW(1800, 1, 0), 2, 0, NODE_LOGIN_FAILED, 0, 0},
    };
    STORY(3, steps);
}

static void a_timeline_that_cannot_be_read_counts_until_a_failover(void **state)
{
    (void)state;
    static const struct step steps[] = {
        {W(1000, 0, 1, 100), 0, 0, NODE_IS_PRIMARY, 0, 0},
        {R(1000, 1, 0, 100), 0, 0, NODE_LAGS, 0, 0},
        {R(1100, 1, 0, 100), 0, 2, NODE_FINE, 0, 0},
        {W(1200, 0, 2, 100), 0, 0, NODE_IS_PRIMARY, 0, 0},
        {R(1300, 1, 0, 100), 0, 0, NODE_OLD_TIMELINE, 0, 0},
        {R(1400, 1, 2, 100), 0, 2, NODE_FINE, 0, 0},
    };
    STORY(2, steps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replica_of_an_idle_primary_has_no_lag),
        cmocka_unit_test(lag_grows_without_a_walreceiver_and_the_way_back_has_hysteresis),
        cmocka_unit_test(bytes_are_a_limit_of_their_own),
        cmocka_unit_test(a_stopped_replica_is_out_when_its_sample_is_old),
        cmocka_unit_test(a_new_timeline_takes_the_writes_and_the_old_one_never_gets_them_back),
        cmocka_unit_test(a_replica_that_shows_a_newer_timeline_stops_writes_to_the_older),
        cmocka_unit_test(two_primaries_on_one_timeline_leave_the_first_in_place),
        cmocka_unit_test(rivals_are_told),
        cmocka_unit_test(a_demoted_primary_leaves_no_primary),
        cmocka_unit_test(another_system_is_out_until_it_is_all_there_is),
        cmocka_unit_test(with_the_primary_dead_only_complete_replicas_serve),
        cmocka_unit_test(unknown_lag_at_the_start_is_not_eligible),
        cmocka_unit_test(half_a_record_at_a_page_end_is_no_lag),
        cmocka_unit_test(one_node_is_always_the_primary),
        cmocka_unit_test(without_a_login_roles_come_from_servers),
        cmocka_unit_test(a_timeline_that_cannot_be_read_counts_until_a_failover),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
