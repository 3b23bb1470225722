/* router/balance.c: weighted power of two choices. */
#include "router/balance.h"

#include "base/check.h"

/* In a 64-bit product of load, latency and the other one's weight nothing may overflow. */
#define IN_FLIGHT_MAX 0xFFFFFu   /* 20 bits */
#define LATENCY_MAX_US 0xFFFFFFu /* 24 bits: 16 s */

static uint32_t weight_of(const struct balance_node *nodes, uint32_t mask)
{
    uint32_t sum = 0;
    for (uint32_t left = mask; left != 0; left &= left - 1)
        sum += nodes[__builtin_ctz(left)].weight;
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

/* Scale 32 random bits to 0 .. below-1 without a division. */
static uint32_t scale(uint32_t random, uint32_t below)
{
    return (uint32_t)((uint64_t)random * below >> 32);
}

/* (in_flight / weight + 1) x latency, times both weights. */
static uint64_t cost(const struct balance_node *node, uint32_t other_weight)
{
    const uint64_t in_flight = node->in_flight < IN_FLIGHT_MAX ? node->in_flight : IN_FLIGHT_MAX;
    const uint64_t latency = node->latency_us < LATENCY_MAX_US ? node->latency_us : LATENCY_MAX_US;
    return (in_flight + node->weight) * (latency + 1) * other_weight;
}

int balance_pick(const struct balance_node *nodes, uint32_t mask, uint64_t random)
{
    if (mask == 0)
        return BALANCE_NONE;
    const uint32_t weight = weight_of(nodes, mask);
    if (weight == 0) /* every node of the mask is meant to be idle, yet one has to do it */
        return __builtin_ctz(mask);
    const int a = node_at(nodes, mask, scale((uint32_t)random, weight));
    const int b = node_at(nodes, mask, scale((uint32_t)(random >> 32), weight));
    return cost(&nodes[b], nodes[a].weight) < cost(&nodes[a], nodes[b].weight) ? b : a;
}

void balance_observe(struct balance_node *node, uint32_t latency_us)
{
    if (node->latency_us == 0) {
        node->latency_us = latency_us > 0 ? latency_us : 1;
        return;
    }
    const int64_t moved = (int64_t)node->latency_us + ((int64_t)latency_us - node->latency_us) / 8;
    node->latency_us = moved > 0 ? (uint32_t)moved : 1;
}
