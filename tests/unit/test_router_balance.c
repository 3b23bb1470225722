/* tests/unit/test_router_balance.c: shares of two choices. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "router/balance.h"

#define DRAWS 100000

static uint64_t seed = 1;

static uint64_t random64(void)
{
    seed += UINT64_C(0x9E3779B97F4A7C15);
    uint64_t z = seed;
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* Percent of the draws that each node gets. */
static void shares(const struct balance_node *nodes, uint32_t mask, unsigned *percent)
{
    unsigned n[BALANCE_NODES] = {0};
    for (int i = 0; i < DRAWS; i++) {
        const int node = balance_pick(nodes, mask, random64());
        assert_true(node >= 0 && (mask >> node & 1));
        n[node]++;
    }
    for (int i = 0; i < BALANCE_NODES; i++)
        percent[i] = (n[i] * 100 + DRAWS / 2) / DRAWS;
}

static void no_node_and_one_node(void **state)
{
    (void)state;
    static const struct balance_node nodes[BALANCE_NODES];
    assert_int_equal(balance_pick(nodes, 0, 1), BALANCE_NONE);
    for (int i = 0; i < BALANCE_NODES; i++)
        assert_int_equal(balance_pick(nodes, UINT32_C(1) << i, random64()), i);
}

static void equal_nodes_share_equally(void **state)
{
    (void)state;
    const struct balance_node nodes[4] = {{0, 500, 1}, {0, 500, 1}, {0, 500, 1}, {0, 500, 1}};
    unsigned p[BALANCE_NODES];
    shares(nodes, 0xF, p);
    for (int i = 0; i < 4; i++)
        assert_in_range(p[i], 24, 26);
}

static void a_slow_or_busy_node_gets_a_quarter(void **state)
{
    (void)state;
    const struct balance_node slow[2] = {{0, 500, 1}, {0, 20500, 1}};
    const struct balance_node busy[2] = {{0, 500, 1}, {9, 500, 1}};
    unsigned p[BALANCE_NODES];
    shares(slow, 3, p);
    assert_in_range(p[1], 24, 26);
    shares(busy, 3, p);
    assert_in_range(p[1], 24, 26);
}

static void weights_share_by_weight(void **state)
{
    (void)state;
    const struct balance_node idle[2] = {{0, 500, 3}, {0, 500, 1}};
    const struct balance_node loaded[2] = {{30, 500, 3}, {10, 500, 1}};
    const struct balance_node off[2] = {{0, 500, 0}, {50, 90000, 1}};
    const struct balance_node all_off[2] = {{0, 500, 0}, {0, 500, 0}};
    unsigned p[BALANCE_NODES];
    shares(idle, 3, p);
    assert_in_range(p[0], 74, 76);
    shares(loaded, 3, p);
    assert_in_range(p[0], 74, 76);
    shares(off, 3, p);
    assert_int_equal(p[1], 100);
    assert_int_equal(balance_pick(all_off, 2, 5), 1);
}

static void extremes_do_not_overflow(void **state)
{
    (void)state;
    const struct balance_node nodes[2] = {{UINT32_MAX, UINT32_MAX, UINT16_MAX}, {0, 0, UINT16_MAX}};
    unsigned p[BALANCE_NODES];
    shares(nodes, 3, p);
    assert_in_range(p[1], 74, 76);
}

static void the_average_follows(void **state)
{
    (void)state;
    struct balance_node n = {0, 0, 1};
    balance_observe(&n, 800);
    assert_int_equal(n.latency_us, 800);
    balance_observe(&n, 1600);
    assert_int_equal(n.latency_us, 900);
    for (int i = 0; i < 200; i++)
        balance_observe(&n, 0);
    assert_in_range(n.latency_us, 1, 10);
    balance_observe(&n, UINT32_MAX);
    assert_true(n.latency_us > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_node_and_one_node),
        cmocka_unit_test(equal_nodes_share_equally),
        cmocka_unit_test(a_slow_or_busy_node_gets_a_quarter),
        cmocka_unit_test(weights_share_by_weight),
        cmocka_unit_test(extremes_do_not_overflow),
        cmocka_unit_test(the_average_follows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
