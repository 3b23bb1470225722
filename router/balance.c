/* router/balance.c: weighted power of two choices, round robin, least connections. */
#include "router/balance.h"

#include "base/check.h"

#include <stdbool.h>
#include <stddef.h>

/* In a 64-bit product of load, latency and the other one's weight nothing may overflow. */
#define IN_FLIGHT_MAX 0x7FFFu    /* 15 bits, and 8 of BALANCE_WEIGHT_ONE */
#define LATENCY_MAX_US 0xFFFFFFu /* 24 bits: 16 s */
#define WEIGHT_MAX (BALANCE_WEIGHT_MAX * BALANCE_WEIGHT_ONE)
#define CREDIT_TURNS 4 /* what a node can save up, in rounds: it may have been out for long */

static uint32_t weight_of(const struct balance_node *nodes, uint32_t mask)
{
    uint32_t sum = 0;
    for (uint32_t left = mask; left != 0; left &= left - 1) {
        const uint32_t weight = nodes[__builtin_ctz(left)].weight;
        CHECK(weight <= WEIGHT_MAX);
        sum += weight;
    }
    return sum;
}

/* The node on which the point falls when the weights of the mask are laid end to end. */
static int node_at(const struct balance_node *nodes, uint32_t mask, uint32_t point)
{
    for (uint32_t left = mask; left != 0; left &= left - 1) {
        const int node = __builtin_ctz(left);
        if (point < nodes[node].weight)
            return node;
        point -= nodes[node].weight;
    }
    CHECK_UNREACHABLE();
    return BALANCE_NONE;
}

/* Draw one by weight: 32 random bits scaled to 0 .. sum-1 without a division. */
static int draw(const struct balance_node *nodes, uint32_t mask, uint32_t sum, uint32_t random)
{
    return node_at(nodes, mask, (uint32_t)((uint64_t)random * sum >> 32));
}

/* ---- two choices ---- */

/* (in_flight / weight + 1) x latency, times both weights. */
static uint64_t cost(const struct balance_node *node, uint32_t other_weight)
{
    const uint64_t in_flight = node->in_flight < IN_FLIGHT_MAX ? node->in_flight : IN_FLIGHT_MAX;
    const uint64_t latency = node->latency_us < LATENCY_MAX_US ? node->latency_us : LATENCY_MAX_US;
    return (in_flight * BALANCE_WEIGHT_ONE + node->weight) * (latency + 1) * other_weight;
}

static int pick_of_two(const struct balance_node *nodes, uint32_t mask, uint32_t sum,
                       uint64_t random)
{
    const int a = draw(nodes, mask, sum, (uint32_t)random);
    const int b = draw(nodes, mask, sum, (uint32_t)(random >> 32));
    const uint64_t cost_a = cost(&nodes[a], nodes[b].weight);
    return cost(&nodes[b], nodes[a].weight) < cost_a - cost_a / 5 ? b : a;
}

/* ---- in turn ---- */

static int pick_in_turn(const struct balance_turns *turns, const struct balance_node *nodes,
                        uint32_t mask)
{
    int best = BALANCE_NONE;
    int64_t most = 0;
    for (uint32_t left = mask; left != 0; left &= left - 1) {
        const int node = __builtin_ctz(left);
        const int64_t credit = (int64_t)turns->credit[node] + nodes[node].weight;
        if (nodes[node].weight > 0 && (best == BALANCE_NONE || credit > most)) {
            best = node;
            most = credit;
        }
    }
    return best;
}

static int32_t bounded(int64_t credit, int64_t most)
{
    return (int32_t)(credit > most ? most : credit < -most ? -most : credit);
}

void balance_took(struct balance_turns *turns, const struct balance_node *nodes, uint32_t mask,
                  int node)
{
    CHECK(node >= 0 && node < BALANCE_NODES && (mask >> node & 1));
    const int64_t sum = weight_of(nodes, mask), most = CREDIT_TURNS * sum;
    for (uint32_t left = mask; left != 0; left &= left - 1) {
        const int i = __builtin_ctz(left);
        const int64_t paid = i == node ? sum : 0;
        turns->credit[i] = bounded(turns->credit[i] + (int64_t)nodes[i].weight - paid, most);
    }
}

/* ---- fewest reads ---- */

/* Less in_flight / weight than the other one. */
static bool has_fewer(const struct balance_node *a, const struct balance_node *b)
{
    return (uint64_t)a->in_flight * b->weight < (uint64_t)b->in_flight * a->weight;
}

static int pick_fewest(const struct balance_node *nodes, uint32_t mask, uint32_t random)
{
    uint32_t fewest = 0; /* nodes that are equal to each other */
    for (uint32_t left = mask; left != 0; left &= left - 1) {
        const int node = __builtin_ctz(left);
        const struct balance_node *best = fewest ? &nodes[__builtin_ctz(fewest)] : NULL;
        if (nodes[node].weight == 0 || (best && has_fewer(best, &nodes[node])))
            continue;
        if (best && has_fewer(&nodes[node], best))
            fewest = 0;
        fewest |= UINT32_C(1) << node;
    }
    return draw(nodes, fewest, weight_of(nodes, fewest), random);
}

int balance_pick(enum balance_policy policy, const struct balance_turns *turns,
                 const struct balance_node *nodes, uint32_t mask, uint64_t random)
{
    if (mask == 0)
        return BALANCE_NONE;
    const uint32_t sum = weight_of(nodes, mask);
    if (sum == 0) /* every node of the mask is meant to be idle, yet one has to do it */
        return __builtin_ctz(mask);
    switch (policy) {
    case BALANCE_P2C:
        return pick_of_two(nodes, mask, sum, random);
    case BALANCE_ROUND_ROBIN:
        return pick_in_turn(turns, nodes, mask);
    case BALANCE_LEAST_CONNECTIONS:
        return pick_fewest(nodes, mask, (uint32_t)random);
    }
    CHECK_UNREACHABLE();
    return BALANCE_NONE;
}

/* ---- latency: the average in the upper half of the word, the time of the last answer in the lower ---- */

uint32_t balance_latency_us(uint64_t average, uint64_t now_ms)
{
    const uint32_t age_ms = (uint32_t)now_ms - (uint32_t)average;
    const uint32_t halves =
        age_ms > INT32_MAX ? 0 : age_ms / BALANCE_HALF_LIFE_MS; /* or newer than now */
    return halves > 31 ? 0 : (uint32_t)(average >> 32) >> halves;
}

uint64_t balance_observe(uint64_t average, uint32_t latency_us, uint64_t now_ms)
{
    int64_t moved = latency_us;
    if (average != 0) {
        const int64_t was = balance_latency_us(average, now_ms);
        moved = was + (moved - was) / 8;
    }
    return (uint64_t)(moved > 0 ? moved : 1) << 32 | (uint32_t)now_ms;
}

/* ---- weight ---- */

uint32_t balance_weight(uint32_t weight, uint64_t since_ms, uint64_t slow_start_ms)
{
    CHECK(weight <= BALANCE_WEIGHT_MAX);
    const uint32_t whole = weight * BALANCE_WEIGHT_ONE;
    if (since_ms >= slow_start_ms || weight == 0)
        return whole;
    const uint32_t part = (uint32_t)(whole * since_ms / slow_start_ms);
    return part > 0 ? part : 1;
}
