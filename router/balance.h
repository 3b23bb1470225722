/* router/balance.h: one node out of a mask, by weighted power of two choices.
 *
 * Pure      no I/O, no allocation, no clock, no globals: randomness comes in as an argument.
 * Rule      draw two nodes by weight (they may be the same one, so a slow node is still looked at),
 *           take the one with less (in_flight / weight + 1) x latency; the first one on a tie.
 * Limits    32 nodes; weight 0 is never chosen while another node of the mask has more.
 */
#ifndef ROUTER_BALANCE_H
#define ROUTER_BALANCE_H

#include <stdint.h>

#define BALANCE_NODES 32
#define BALANCE_NONE (-1)

struct balance_node {
    uint32_t in_flight;
    uint32_t latency_us; /* EWMA; 0 until the first answer */
    uint16_t weight;
};

/* nodes has an entry for every bit of the mask. random: 64 fresh random bits. Returns the number of
 * a node in the mask, or BALANCE_NONE if the mask is empty. */
int balance_pick(const struct balance_node *nodes, uint32_t mask, uint64_t random);

/* An answer took latency_us: move the average by 1/8 of the difference. */
void balance_observe(struct balance_node *node, uint32_t latency_us);

#endif
