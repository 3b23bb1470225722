/* proxy/control/judge.h: from the samples of a cluster's nodes to roles and eligibility.
 *
 * Pure      no I/O, no allocation, no clock, no globals: every time comes in, in our monotonic ns.
 * Rules     the primary is the node out of recovery on the newest timeline of the cluster's system.
 *           Once a newer timeline has been seen, an older one is never the primary again. The
 *           newest known primary stays until a sample contradicts it: a probe that hangs is no
 *           reason to stop writes. A replica is readable while its probe answers, it belongs to
 *           the same system and timeline, and its lag gate is open. Unknown is not readable.
 * One node  is always the primary for routing: there is nowhere else to go, and its own 25006 is
 *           the clearest answer should it be a replica.
 * Limits    NODES_MAX nodes.
 */
#ifndef CONTROL_JUDGE_H
#define CONTROL_JUDGE_H

#include "proxy/pool/cluster.h"
#include "router/freshness.h"

struct judge_limits {
    uint64_t max_age_ns; /* a sample older than this proves nothing */
    int64_t max_lag_ms;  /* 0: no limit */
    uint64_t max_lag_bytes;
};

/* What a node answered. */
struct judge_sample {
    bool in_recovery;
    uint32_t timeline;                /* 0: not known */
    uint64_t insert_lsn, flush_lsn;   /* out of recovery */
    uint64_t replay_lsn, receive_lsn; /* in recovery; 0: not known */
    uint64_t system_id;               /* 0: not known */
    int64_t postmaster_start_us;
    uint64_t number;                    /* node->samples_begun of the query */
    uint32_t wal_writer_delay_ms;       /* out of recovery; 0: not known */
    char receiver[NODE_RECEIVER_BYTES]; /* in recovery: see struct node_status */
    char upstream[NODE_UPSTREAM_BYTES];
    uint64_t begun_ns, at_ns; /* the query was sent, the answer seen */
};

enum judge_seen { SEEN_NOTHING, SEEN_PRIMARY, SEEN_REPLICA };

struct judge_node {
    struct judge_sample sample;
    bool sampled;
    enum node_why fault;  /* why no sample can be had now; NODE_FINE: none known */
    enum judge_seen seen; /* by in_hot_standby of other servers' logins */
    struct lag_gate gate;
    int64_t lag_ms;
    uint64_t lag_bytes;
};

struct judge {
    uint32_t node_n;
    uint8_t primary;        /* or NODE_NONE */
    bool settled;           /* a primary was found by its sample: system_id and timeline hold */
    bool switched;          /* the newest timeline has risen since then */
    uint32_t timeline;      /* the newest seen */
    uint64_t system_id;     /* of the cluster; 0: not known */
    uint64_t flush_lsn;     /* the primary's newest */
    struct lag_sample held; /* at a page boundary, see judge.c; flush_lsn 0: none */
    struct lag_ring ring;
    struct judge_node nodes[NODES_MAX];
};

struct judge_verdict {
    uint8_t primary;
    uint32_t readable;    /* masks of nodes */
    uint32_t unreachable; /* no sample for too long, or none can be had */
    uint32_t rivals;      /* out of recovery on the primary's own timeline, and not it */
    struct node_status nodes[NODES_MAX];
    uint64_t recheck_ns; /* the verdict may change then without news; UINT64_MAX: never */
};

void judge_init(struct judge *judge, uint32_t node_n);
/* A node answered. */
void judge_take(struct judge *judge, uint32_t node, const struct judge_sample *sample,
                const struct judge_limits *limits);
/* No sample can be had: NODE_UNREACHABLE, NODE_NO_ADDRESS, NODE_LOGIN_FAILED (this one also: no
 * login is known) or NODE_SAMPLE_OLD (it hangs). The next judge_take() lifts it. */
void judge_lost(struct judge *judge, uint32_t node, enum node_why fault);
/* in_hot_standby, as a server's login said. Counts only as long as no probe has ever found a
 * primary. */
void judge_saw_role(struct judge *judge, uint32_t node, bool in_recovery);
void judge_decide(struct judge *judge, uint64_t now_ns, const struct judge_limits *limits,
                  struct judge_verdict *verdict);

#endif
