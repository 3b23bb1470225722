#include "proxy/control/ejection.h"

#include "proxy/io/log.h"

#define MS_NS 1000000U

static void log_ejected(const struct ejection *e, const char *database,
                        const struct cluster *cluster, uint32_t i)
{
    const struct eject_node *node = &e->eject.nodes[i];
    LOG(LOG_WARN, "node.ejected", LF_S("database", database), LF_S("node", cluster->nodes[i].label),
        LF_U("failures", node->failures), LF_U("answers", node->answers),
        LF_U("for_ms", node->for_ms));
}

static void log_changes(const struct ejection *e, const char *database,
                        const struct cluster *cluster, uint32_t out)
{
    for (uint32_t i = 0; i < cluster->node_n; i++) {
        bool is = out >> i & 1, was = e->out >> i & 1;
        if (is && !was)
            log_ejected(e, database, cluster, i);
        else if (was && !is && !e->eject.nodes[i].out)
            LOG(LOG_INFO, "node.on_probation", LF_S("database", database),
                LF_S("node", cluster->nodes[i].label));
    }
}

static void note_returns(struct ejection *e, struct cluster *cluster, uint32_t readable,
                         uint64_t now_ms)
{
    uint32_t back = readable & ~e->readable & e->ever;
    for (uint32_t rest = back; rest; rest &= rest - 1)
        atomic_store_explicit(&cluster->nodes[__builtin_ctz(rest)].load.returned_ms, now_ms,
                              memory_order_relaxed);
    e->readable = readable;
    e->ever |= readable;
}

void ejection_apply(struct ejection *e, const char *database, struct cluster *cluster,
                    uint32_t max_percent, uint64_t now_ns, struct judge_verdict *v)
{
    struct eject_counts counts[EJECT_NODES] = {{0}};
    for (uint32_t i = 0; i < cluster->node_n; i++) {
        const struct node_load *load = &cluster->nodes[i].load;
        counts[i].answers = atomic_load_explicit(&load->answers, memory_order_relaxed);
        counts[i].failures = atomic_load_explicit(&load->failures, memory_order_relaxed);
    }
    uint64_t now_ms = now_ns / MS_NS;
    uint32_t out = eject_update(&e->eject, counts, v->readable, max_percent, now_ms);
    log_changes(e, database, cluster, out);
    e->out = out;
    for (uint32_t rest = out; rest; rest &= rest - 1)
        v->nodes[__builtin_ctz(rest)].why = NODE_EJECTED;
    v->readable &= ~out;
    uint64_t next_ms = eject_next_ms(&e->eject, out);
    if (next_ms != UINT64_MAX && next_ms * MS_NS < v->recheck_ns)
        v->recheck_ns = next_ms * MS_NS;
    note_returns(e, cluster, v->readable, now_ms);
}
