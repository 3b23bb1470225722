/* router/decide.h: where a segment goes, and why, when its client holds no server. (Who holds one stays there; what
 * a replica that is held must not get tells tx_fate().)
 *
 * Pure      no I/O, no allocation, no clock, no globals. The caller does what the route says.
 * Order     of decision, first hit wins: pin, split off, incomplete segment, policy,
 *           transaction mode, class, freshness. Which node of the mask is balance_pick()'s.
 * Nodes     are numbered 0..31 by the caller; a mask has bit n for node n.
 */
#ifndef ROUTER_DECIDE_H
#define ROUTER_DECIDE_H

#include "router/classify.h"
#include "router/hint.h"

enum route_target {
    ROUTE_PRIMARY,
    ROUTE_REPLICA /* any node of the mask */
};

/* What somebody asks for: in the configuration, by the database's name, a setting or a hint. */
#define ROUTE_POLICIES(V)                                                              \
    V(ROUTE_POLICY_AUTO, "auto")       /* by class */                                  \
    V(ROUTE_POLICY_PRIMARY, "primary") /* everything to the primary */                 \
    V(ROUTE_POLICY_REPLICA, "replica") /* also reads of the catalog and of the node */ \
    V(ROUTE_POLICY_ANY, "any")         /* by class; reads need not wait for the floor */
#define ROUTE_POLICY_CONSTANT(constant, text) constant,
enum route_policy { ROUTE_POLICIES(ROUTE_POLICY_CONSTANT) ROUTE_POLICY_N };
#undef ROUTE_POLICY_CONSTANT

/* What the transaction that this segment belongs to says about its place; see router/tx.h. */
enum route_tx {
    ROUTE_TX_BY_CLASS, /* nothing: there is none, or the text itself tells */
    ROUTE_TX_PRIMARY,
    ROUTE_TX_SERIALIZABLE, /* the primary */
    ROUTE_TX_MOVED,        /* the primary: from a replica, for what that cannot do */
    ROUTE_TX_READ_ONLY,    /* a replica, all of it */
    ROUTE_TX_OPTIMISTIC,   /* a replica for now */
    ROUTE_TX_N
};

struct route_input {
    bool pinned;           /* the client keeps its server over transaction ends */
    bool read_write_split; /* the cluster has more than one node */
    bool segment_complete; /* false: a Flush or the size bound cut it, more may follow */
    enum route_policy policy;
    enum route_tx tx;
    enum hint_route hint;      /* of the segment's statements, joined: it beats the policy */
    uint8_t class;             /* sql_facts.class of the segment */
    uint8_t class_reason;      /* sql_facts.reason of the segment */
    uint32_t flags;            /* sql_facts.flags of the segment, joined by sql_facts_join() */
    uint32_t replica_mask;     /* replicas that are eligible now: role, health, lag, floor */
    uint32_t replica_all_mask; /* replicas by role: tells "none" from "none fresh enough" */
};

struct route {
    enum route_target target;
    uint32_t nodes; /* ROUTE_REPLICA: the mask to choose from; else 0 */
    uint8_t reason; /* enum route_reason */
};

/* What counts: the hint, else the policy. */
enum route_policy route_policy_of(enum hint_route hint, enum route_policy policy);

void route_decide(const struct route_input *in, struct route *out);

const char *route_target_text(enum route_target target);

#endif
