/* router/eject.h: which nodes to leave out because they fail more often than the others.
 *
 * Pure      no I/O, no allocation, no clock, no globals: time comes in as an argument.
 * Evidence  per node, how often it answered a read and how often it failed: a connection lost, refused or
 *           not made in time, a login refused. What the proxy itself lacks (a full pool) is no evidence.
 * Rule      out: EJECT_FAILURES_MIN failures within a window, a quarter of all that was tried or more, and
 *           twice as often as at the other candidates: what fails everywhere is not the node's fault.
 * Back      after 1 s, as a probe: its first failure in the window that then begins sends it out again for
 *           twice as long, up to 30 s. Who stays for EJECT_FORGIVE_MS begins at 1 s again.
 * Limits    32 nodes; no more than a share of the candidates is out.
 */
#ifndef ROUTER_EJECT_H
#define ROUTER_EJECT_H

#include <stdbool.h>
#include <stdint.h>

#define EJECT_NODES 32
#define EJECT_WINDOW_MS 2000
#define EJECT_FAILURES_MIN 3
#define EJECT_FIRST_MS 1000
#define EJECT_MOST_MS 30000
#define EJECT_FORGIVE_MS 30000

struct eject_counts { /* since the beginning; they may wrap */
    uint32_t answers, failures;
};

struct eject_node {
    struct eject_counts base;   /* at the beginning of the window */
    uint32_t answers, failures; /* in it, up to the newest look */
    uint32_t for_ms;            /* how long it was out the last time; 0: never, or forgiven */
    uint64_t until_ms;          /* out: until then. In: since then, if for_ms is not 0 */
    bool out;
    bool on_probation; /* it came back in this window */
};

/* All zero: nobody is out. */
struct eject {
    uint64_t window_ms; /* when the window began */
    struct eject_node nodes[EJECT_NODES];
};

/* counts: the evidence of each candidate. candidates: the nodes that would be used if nobody were out.
 * Returns the mask of those that are out. */
uint32_t eject_update(struct eject *eject, const struct eject_counts *counts, uint32_t candidates,
                      uint32_t max_percent, uint64_t now_ms);

/* When the answer may change without news; UINT64_MAX: never. */
uint64_t eject_next_ms(const struct eject *eject, uint32_t out);

#endif
