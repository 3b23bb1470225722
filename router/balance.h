/* router/balance.h: one node out of a mask, by weighted power of two choices, in turn, or by fewest reads.
 *
 * Pure      no I/O, no allocation, no clock, no globals: time and randomness come in as arguments.
 * p2c       draw two nodes by weight (they may be the same one, so a slow node is still looked at), take
 *           the second if its (in_flight / weight + 1) x latency is lower by more than a fifth: less than
 *           that is noise, and noise must not undo the weights.
 * turns     smooth weighted round robin: each choice is paid for, so whoever was passed over comes next.
 * fewest    least in_flight / weight; of equal ones one drawn by weight.
 * Latency   an average that halves with each BALANCE_HALF_LIFE_MS without an answer: nobody stays slow by
 *           what it was long ago, so a node that is not asked any more is asked again.
 * Limits    32 nodes; weight 0 is never chosen while another node of the mask has more.
 */
#ifndef ROUTER_BALANCE_H
#define ROUTER_BALANCE_H

#include <stdint.h>

#define BALANCE_NODES 32
#define BALANCE_NONE (-1)
#define BALANCE_HALF_LIFE_MS 2000
#define BALANCE_WEIGHT_MAX 255
#define BALANCE_WEIGHT_ONE 256 /* weight 1 of the configuration */

enum balance_policy { BALANCE_P2C, BALANCE_ROUND_ROBIN, BALANCE_LEAST_CONNECTIONS };

struct balance_node {
    uint32_t in_flight;
    uint32_t latency_us; /* balance_latency_us(); 0 until the first answer */
    uint32_t weight;     /* balance_weight(), BALANCE_WEIGHT_MAX * BALANCE_WEIGHT_ONE at most */
};

/* Whose turn it is; all zero at first. One for each chooser: several of them take turns of their own. */
struct balance_turns {
    int32_t credit[BALANCE_NODES];
};

/* nodes has an entry for every bit of the mask; random: 64 fresh random bits. Returns the number of a node
 * in the mask, or BALANCE_NONE if the mask is empty. */
int balance_pick(enum balance_policy policy, const struct balance_turns *turns,
                 const struct balance_node *nodes, uint32_t mask, uint64_t random);

/* This node of the mask was taken, whoever was picked. */
void balance_took(struct balance_turns *turns, const struct balance_node *nodes, uint32_t mask,
                  int node);

/* A latency average and when it was last moved, in one word, so that threads can share it; 0: no answer yet. */
uint64_t balance_observe(uint64_t average, uint32_t latency_us, uint64_t now_ms);
uint32_t balance_latency_us(uint64_t average, uint64_t now_ms);

/* The weight of a node that came back since_ms ago; over slow_start_ms it grows from next to nothing. */
uint32_t balance_weight(uint32_t weight, uint64_t since_ms, uint64_t slow_start_ms);

#endif
