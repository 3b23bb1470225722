/* proxy/pool/nodes.c: which nodes a waiter may use, and which of them it gets.
 *
 * Eligible  reads: the readable nodes that its session allows; of them those with a weight; of them those in
 *           prefer_zone. Only when a step leaves none, the step is skipped. The primary: where no replica of
 *           the cluster is readable (primary_reads), and where some are, but none has what the client saw.
 * Shared    reads in flight, latency and evidence of a node are one cache line for all workers: relaxed
 *           atomics. A sample that two workers write at once is lost, which harms no average.
 */
#include "proxy/pool/inside.h"

#include "base/check.h"

_Static_assert((int)BALANCE_P2C == (int)CONF_BALANCE_P2C &&
                   (int)BALANCE_ROUND_ROBIN == (int)CONF_BALANCE_ROUND_ROBIN &&
                   (int)BALANCE_LEAST_CONNECTIONS == (int)CONF_BALANCE_LEAST_CONNECTIONS,
               "the option's values are the balancer's");
_Static_assert(CONF_WEIGHT_MAX == BALANCE_WEIGHT_MAX, "conf checks what the balancer can bear");
_Static_assert(NODES_MAX == BALANCE_NODES, "a mask of nodes is a mask of nodes");

static const struct conf *conf_of(const struct pool_set *set)
{
    return set->snapshot->conf;
}

static struct node_load *load_of(const struct pool *pool)
{
    return &pool->set->cluster->nodes[pool->node].load;
}

void nodes_configure(struct pool_set *set)
{
    const char *zone = conf_of(set)->prefer_zone;
    set->usual = set->near = 0;
    CHECK(set->db->host_n == set->cluster->node_n); /* or it would be another cluster */
    for (uint32_t i = 0; i < set->cluster->node_n; i++) {
        const struct conf_host *host = &set->db->hosts[i];
        set->pools[i].weight = host->weight;
        if (host->weight > 0)
            set->usual |= 1U << i;
        if (zone[0] && strcmp(host->zone, zone) == 0)
            set->near |= 1U << i;
    }
}

/* ---- eligible ---- */

static uint32_t first_choice(const struct pool_set *set, uint32_t mask)
{
    uint32_t usual = mask & set->usual ? mask & set->usual : mask;
    return usual & set->near ? usual & set->near : usual;
}

bool pool_reads_spill(const struct pool_set *set, struct cluster_view view)
{
    return !view.readable && set->cluster->node_n > 1;
}

/* Reads while no replica is readable. */
static uint32_t spill_nodes(const struct pool_set *set, uint32_t primary)
{
    if (set->cluster->node_n == 1)
        return primary;
    if (conf_of(set)->primary_reads == CONF_PRIMARY_READS_NEVER || !spill_left(set))
        return 0;
    return primary;
}

uint32_t pool_nodes_for(const struct pool_set *set, struct waiter *w)
{
    struct cluster_view view = cluster_view(set->cluster);
    uint32_t primary = view.primary == NODE_NONE ? 0 : 1U << view.primary;
    if (gate_is_paused(set->gate))
        return 0;
    if (w->want == WANT_PRIMARY)
        return primary;
    if (!view.readable)
        return spill_nodes(set, primary);
    uint32_t readable = view.readable & w->nodes;
    if (!readable && w->ops) /* since it was routed the nodes have changed */
        readable = w->ops->readable(w, view) & view.readable;
    else if (!readable)
        readable = view.readable;
    if (!readable)
        return primary; /* what the client has seen is nowhere else yet */
    if (conf_of(set)->primary_reads == CONF_PRIMARY_READS_WEIGHTED)
        readable |= primary;
    return first_choice(set, readable);
}

/* ---- choosing ---- */

static void look(const struct pool_set *set, uint32_t mask, struct balance_node *nodes)
{
    uint64_t now_ms = set->hub->loop->now_ms, slow_start_ms = conf_of(set)->slow_start_ms;
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        const struct pool *pool = &set->pools[__builtin_ctz(rest)];
        struct node_load *load = load_of(pool);
        uint64_t back_ms = atomic_load_explicit(&load->returned_ms, memory_order_relaxed);
        uint64_t since_ms = back_ms == 0 ? slow_start_ms : now_ms > back_ms ? now_ms - back_ms : 0;
        nodes[pool->node] = (struct balance_node){
            .in_flight = atomic_load_explicit(&load->in_flight, memory_order_relaxed),
            .latency_us = balance_latency_us(
                atomic_load_explicit(&load->latency, memory_order_relaxed), now_ms),
            .weight = balance_weight(pool->weight, since_ms, slow_start_ms)};
    }
}

static uint32_t pick(struct pool_set *set, uint32_t mask, enum balance_policy policy)
{
    struct balance_node nodes[NODES_MAX];
    if ((mask & (mask - 1)) == 0)
        return (uint32_t)__builtin_ctz(mask);
    look(set, mask, nodes);
    int node = balance_pick(policy, &set->turns, nodes, mask, hub_random(set->hub));
    CHECK(node >= 0);
    return (uint32_t)node;
}

uint32_t nodes_pick(struct pool_set *set, uint32_t mask)
{
    return pick(set, mask, (enum balance_policy)conf_of(set)->balance);
}

/* A server that is opened takes no turn: with two nodes every second one would always be the same. */
uint32_t nodes_pick_to_dial(struct pool_set *set, uint32_t mask)
{
    return pick(set, mask, BALANCE_P2C);
}

/* ---- what is counted ---- */

void nodes_lent(struct server *s, uint32_t mask)
{
    struct pool_set *set = s->pool->set;
    struct balance_node nodes[NODES_MAX];
    atomic_fetch_add_explicit(&load_of(s->pool)->in_flight, 1, memory_order_relaxed);
    s->asked_ns = 0;
    bool choice = (mask & (mask - 1)) != 0 && (mask & 1U << s->pool->node) != 0;
    if (!choice || conf_of(set)->balance != CONF_BALANCE_ROUND_ROBIN)
        return;
    look(set, mask, nodes);
    balance_took(&set->turns, nodes, mask, (int)s->pool->node);
}

void nodes_returned(struct server *s)
{
    atomic_fetch_sub_explicit(&load_of(s->pool)->in_flight, 1, memory_order_relaxed);
    s->asked_ns = 0;
}

void pool_asked(struct server *s)
{
    s->asked_ns = s->conn->loop->now_ns;
}

void nodes_answered(struct server *s)
{
    struct node_load *load = load_of(s->pool);
    uint64_t took_us = (s->conn->loop->now_ns - s->asked_ns) / 1000;
    uint32_t latency_us = took_us < UINT32_MAX ? (uint32_t)took_us : UINT32_MAX;
    uint64_t average = atomic_load_explicit(&load->latency, memory_order_relaxed);
    average = balance_observe(average, latency_us, s->conn->loop->now_ms);
    atomic_store_explicit(&load->latency, average, memory_order_relaxed);
    atomic_fetch_add_explicit(&load->answers, 1, memory_order_relaxed);
    s->asked_ns = 0;
}

void nodes_failed(struct pool *pool)
{
    atomic_fetch_add_explicit(&load_of(pool)->failures, 1, memory_order_relaxed);
}

enum pool_shortage pool_shortage(const struct pool_set *set)
{
    if (!pool_reads_spill(set, cluster_view(set->cluster)))
        return POOL_SHORT_OF_SERVERS;
    if (conf_of(set)->primary_reads == CONF_PRIMARY_READS_NEVER)
        return POOL_SHORT_OF_REPLICAS;
    return spill_left(set) ? POOL_SHORT_OF_SERVERS : POOL_SHORT_OF_BUDGET;
}
