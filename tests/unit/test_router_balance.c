/* tests/unit/test_router_balance.c: shares of the nodes, drawn at rest and in a small model of clients. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "router/balance.h"

#define DRAWS 100000
#define W(n) ((n)*BALANCE_WEIGHT_ONE)
#define CLIENTS_MAX 64

static uint64_t seed = 1;

static uint64_t random64(void)
{
    seed += UINT64_C(0x9E3779B97F4A7C15);
    uint64_t z = seed;
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static void percents(const unsigned *n, unsigned *percent)
{
    unsigned sum = 0;
    for (int i = 0; i < BALANCE_NODES; i++)
        sum += n[i];
    for (int i = 0; i < BALANCE_NODES; i++)
        percent[i] = (n[i] * 100 + sum / 2) / sum;
}

/* Percent of the draws that each node gets, with nothing but turns changing. */
static void shares(enum balance_policy policy, const struct balance_node *nodes, uint32_t mask,
                   unsigned *percent)
{
    struct balance_turns turns = {{0}};
    unsigned n[BALANCE_NODES] = {0};
    for (int i = 0; i < DRAWS; i++) {
        const int node = balance_pick(policy, &turns, nodes, mask, random64());
        assert_true(node >= 0 && (mask >> node & 1));
        balance_took(&turns, nodes, mask, node);
        n[node]++;
    }
    percents(n, percent);
}

static const enum balance_policy policies[] = {BALANCE_P2C, BALANCE_ROUND_ROBIN,
                                               BALANCE_LEAST_CONNECTIONS};

static void no_node_and_one_node(void **state)
{
    (void)state;
    static const struct balance_node nodes[BALANCE_NODES];
    const struct balance_turns turns = {{0}};
    for (size_t p = 0; p < 3; p++) {
        assert_int_equal(balance_pick(policies[p], &turns, nodes, 0, 1), BALANCE_NONE);
        for (int i = 0; i < BALANCE_NODES; i++)
            assert_int_equal(balance_pick(policies[p], &turns, nodes, UINT32_C(1) << i, random64()),
                             i);
    }
}

static void equal_nodes_share_equally(void **state)
{
    (void)state;
    const struct balance_node nodes[4] = {
        {0, 500, W(1)}, {0, 500, W(1)}, {0, 500, W(1)}, {0, 500, W(1)}};
    unsigned p[BALANCE_NODES];
    for (size_t k = 0; k < 3; k++) {
        shares(policies[k], nodes, 0xF, p);
        for (int i = 0; i < 4; i++)
            assert_in_range(p[i], 24, 26);
        shares(policies[k], nodes, 0xA, p);
        assert_in_range(p[1], 49, 51);
        assert_in_range(p[3], 49, 51);
    }
}

static void a_slow_or_busy_node_gets_a_quarter(void **state)
{
    (void)state;
    const struct balance_node slow[2] = {{0, 500, W(1)}, {0, 20500, W(1)}};
    const struct balance_node busy[2] = {{0, 500, W(1)}, {9, 500, W(1)}};
    const struct balance_node noise[2] = {{0, 500, W(1)}, {0, 590, W(1)}};
    unsigned p[BALANCE_NODES];
    shares(BALANCE_P2C, slow, 3, p);
    assert_in_range(p[1], 24, 26);
    shares(BALANCE_P2C, busy, 3, p);
    assert_in_range(p[1], 24, 26);
    shares(BALANCE_P2C, noise, 3, p);
    assert_in_range(p[1], 49, 51);
    shares(BALANCE_LEAST_CONNECTIONS, busy, 3, p);
    assert_int_equal(p[1], 0);
    shares(BALANCE_ROUND_ROBIN, slow, 3, p);
    assert_int_equal(p[1], 50);
}

static void weights_share_by_weight(void **state)
{
    (void)state;
    const struct balance_node idle[2] = {{0, 500, W(3)}, {0, 500, W(1)}};
    const struct balance_node loaded[2] = {{30, 500, W(3)}, {10, 500, W(1)}};
    const struct balance_node off[2] = {{0, 500, 0}, {50, 90000, W(1)}};
    const struct balance_node all_off[2] = {{0, 500, 0}, {0, 500, 0}};
    const struct balance_turns turns = {{0}};
    unsigned p[BALANCE_NODES];
    for (size_t k = 0; k < 3; k++) {
        shares(policies[k], idle, 3, p);
        assert_in_range(p[0], 74, 76);
        shares(policies[k], loaded, 3, p);
        assert_in_range(p[0], 74, 76);
        shares(policies[k], off, 3, p);
        assert_int_equal(p[1], 100);
        assert_int_equal(balance_pick(policies[k], &turns, all_off, 2, 5), 1);
    }
}

static void turns_alternate_and_make_up_for_who_was_passed_over(void **state)
{
    (void)state;
    const struct balance_node nodes[3] = {{0, 0, W(2)}, {0, 0, W(1)}, {0, 0, W(1)}};
    struct balance_turns turns = {{0}};
    static const int expected[] = {0, 1, 2, 0, 0, 1, 2, 0};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        const int node = balance_pick(BALANCE_ROUND_ROBIN, &turns, nodes, 7, 0);
        assert_int_equal(node, expected[i]);
        balance_took(&turns, nodes, 7, node);
    }
    for (int i = 0; i < 1000; i++) /* node 2 had no server */
        balance_took(&turns, nodes, 7, i % 2);
    unsigned in_a_row = 0;
    while (balance_pick(BALANCE_ROUND_ROBIN, &turns, nodes, 7, 0) == 2) {
        balance_took(&turns, nodes, 7, 2);
        in_a_row++;
    }
    assert_in_range(in_a_row, 1, 16); /* not 1000 / 4: what can be saved up is bounded */
}

static void extremes_do_not_overflow(void **state)
{
    (void)state;
    const uint32_t most = BALANCE_WEIGHT_MAX * BALANCE_WEIGHT_ONE;
    const struct balance_node nodes[2] = {{UINT32_MAX, UINT32_MAX, most}, {0, 0, most}};
    struct balance_node many[BALANCE_NODES];
    unsigned p[BALANCE_NODES];
    shares(BALANCE_P2C, nodes, 3, p);
    assert_in_range(p[1], 74, 76);
    shares(BALANCE_LEAST_CONNECTIONS, nodes, 3, p);
    assert_int_equal(p[1], 100);
    for (int i = 0; i < BALANCE_NODES; i++)
        many[i] = (struct balance_node){7, 7, most};
    for (size_t k = 0; k < 3; k++) {
        shares(policies[k], many, UINT32_MAX, p);
        for (int i = 0; i < BALANCE_NODES; i++)
            assert_in_range(p[i], 2, 4);
    }
}

static void the_average_follows_and_fades(void **state)
{
    (void)state;
    const uint64_t now = UINT32_MAX - 3; /* the time wraps in between */
    assert_int_equal(balance_latency_us(0, 12345), 0);
    uint64_t a = balance_observe(0, 800, now);
    assert_int_equal(balance_latency_us(a, now), 800);
    a = balance_observe(a, 1600, now + 10);
    assert_int_equal(balance_latency_us(a, now + 10), 900);
    assert_int_equal(balance_latency_us(a, now + 5), 900); /* another thread's clock is behind */
    assert_int_equal(balance_latency_us(a, now + 10 + BALANCE_HALF_LIFE_MS), 450);
    assert_int_equal(balance_latency_us(a, now + 10 + 64 * BALANCE_HALF_LIFE_MS), 0);
    for (int i = 0; i < 200; i++)
        a = balance_observe(a, 0, now + 20);
    assert_in_range(balance_latency_us(a, now + 20), 1, 10);
    a = balance_observe(a, UINT32_MAX, now + 20);
    assert_true(balance_latency_us(a, now + 20) > 1000);
}

static void a_weight_grows_back(void **state)
{
    (void)state;
    assert_int_equal(balance_weight(3, 0, 0), W(3)); /* off */
    assert_int_equal(balance_weight(0, 5, 10), 0);
    assert_int_equal(balance_weight(1, 0, 10000), 1);
    assert_int_equal(balance_weight(2, 5000, 10000), W(1));
    assert_int_equal(balance_weight(2, 10000, 10000), W(2));
    assert_int_equal(balance_weight(BALANCE_WEIGHT_MAX, UINT64_MAX, UINT64_MAX - 1),
                     W(BALANCE_WEIGHT_MAX));
    uint32_t was = 0;
    for (uint64_t ms = 0; ms <= 10000; ms += 100) {
        const uint32_t weight = balance_weight(BALANCE_WEIGHT_MAX, ms, 10000);
        assert_true(weight > was);
        was = weight;
    }
}

/* ---- clients that read without a pause, in a model of the nodes ---- */

struct model {
    unsigned node_n, client_n;
    uint64_t now_us;
    uint64_t back_us[4];    /* slow start since then; 0: it was never away */
    uint32_t service_us[4]; /* of an answer, +-20 % */
    uint32_t weight[4];
    uint64_t average[4];
    uint32_t in_flight[4];
    struct balance_turns turns;
    struct {
        uint64_t began_us, ends_us;
        int node;
    } clients[CLIENTS_MAX];
};

static void begin(struct model *m, unsigned client, enum balance_policy policy)
{
    struct balance_node nodes[4];
    const uint64_t now_ms = m->now_us / 1000;
    for (unsigned i = 0; i < m->node_n; i++) {
        const uint64_t since = m->back_us[i] ? now_ms - m->back_us[i] / 1000 : UINT64_MAX;
        nodes[i] = (struct balance_node){m->in_flight[i], balance_latency_us(m->average[i], now_ms),
                                         balance_weight(m->weight[i], since, 10000)};
    }
    const uint32_t mask = (1U << m->node_n) - 1;
    const int node = balance_pick(policy, &m->turns, nodes, mask, random64());
    balance_took(&m->turns, nodes, mask, node);
    m->in_flight[node]++;
    const uint64_t jitter = random64() % (m->service_us[node] * 2 / 5 + 1);
    m->clients[client].node = node;
    m->clients[client].began_us = m->now_us;
    m->clients[client].ends_us = m->now_us + m->service_us[node] * 4 / 5 + jitter;
}

static void run(struct model *m, enum balance_policy policy, uint64_t for_us, unsigned *percent)
{
    unsigned n[BALANCE_NODES] = {0};
    const uint64_t end = m->now_us + for_us;
    while (m->now_us < end) {
        unsigned next = 0;
        for (unsigned c = 0; c < m->client_n; c++)
            if (m->clients[c].ends_us < m->clients[next].ends_us)
                next = c;
        if (m->clients[next].ends_us > m->now_us)
            m->now_us = m->clients[next].ends_us;
        const int node = m->clients[next].node;
        if (m->clients[next].began_us) {
            const uint64_t took = m->now_us - m->clients[next].began_us;
            m->average[node] = balance_observe(m->average[node], (uint32_t)took, m->now_us / 1000);
            m->in_flight[node]--;
            n[node]++;
        }
        begin(m, next, policy);
    }
    percents(n, percent);
}

static struct model model(unsigned clients, uint32_t us0, uint32_t us1)
{
    return (struct model){.node_n = 2,
                          .client_n = clients,
                          .now_us = 1000000,
                          .service_us = {us0, us1},
                          .weight = {1, 1}};
}

static void a_node_that_is_20_ms_slower(void **state)
{
    (void)state;
    static const unsigned clients[] = {1, 2, 8, 32};
    for (size_t i = 0; i < sizeof clients / sizeof *clients; i++) {
        struct model m = model(clients[i], 500, 20500);
        unsigned p[BALANCE_NODES];
        run(&m, BALANCE_P2C, 2000000, p);
        assert_in_range(p[1], 1, 35);
        m.service_us[1] = 500; /* it recovers, and is seen to */
        run(&m, BALANCE_P2C, 2000000, p);
        run(&m, BALANCE_P2C, 2000000, p);
        assert_in_range(p[1], 45, 55);
    }
}

static void weights_hold_under_load(void **state)
{
    (void)state;
    for (size_t k = 0; k < 3; k++)
        for (unsigned clients = 1; clients <= 16; clients *= 4) {
            struct model m = model(clients, 500, 500);
            unsigned p[BALANCE_NODES];
            m.weight[1] = 3;
            run(&m, policies[k], 3000000, p);
            assert_in_range(p[1], 68, 82);
        }
}

static void slow_start_is_gradual(void **state)
{
    (void)state;
    for (size_t k = 0; k < 3; k++) {
        struct model m = model(8, 500, 500);
        unsigned first[BALANCE_NODES], later[BALANCE_NODES], full[BALANCE_NODES];
        m.back_us[1] = m.now_us;
        run(&m, policies[k], 1000000, first);
        run(&m, policies[k], 4000000, later);
        run(&m, policies[k], 6000000, full);
        run(&m, policies[k], 2000000, full);
        assert_in_range(first[1], 0, 20);
        assert_true(later[1] > first[1]);
        assert_in_range(full[1], 45, 55);
    }
}

/* Four workers choose by themselves, but see each other's reads in flight: nobody is herded. */
static void choosers_do_not_follow_each_other(void **state)
{
    (void)state;
    struct balance_node nodes[4] = {{0, 500, W(1)}, {0, 500, W(1)}, {0, 500, W(1)}, {0, 500, W(1)}};
    for (unsigned i = 0; i < 64; i++)
        nodes[balance_pick(BALANCE_P2C, NULL, nodes, 0xF, random64())].in_flight++;
    for (unsigned i = 0; i < 4; i++)
        assert_in_range(nodes[i].in_flight, 12, 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_node_and_one_node),
        cmocka_unit_test(equal_nodes_share_equally),
        cmocka_unit_test(a_slow_or_busy_node_gets_a_quarter),
        cmocka_unit_test(weights_share_by_weight),
        cmocka_unit_test(turns_alternate_and_make_up_for_who_was_passed_over),
        cmocka_unit_test(extremes_do_not_overflow),
        cmocka_unit_test(the_average_follows_and_fades),
        cmocka_unit_test(a_weight_grows_back),
        cmocka_unit_test(a_node_that_is_20_ms_slower),
        cmocka_unit_test(weights_hold_under_load),
        cmocka_unit_test(slow_start_is_gradual),
        cmocka_unit_test(choosers_do_not_follow_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
