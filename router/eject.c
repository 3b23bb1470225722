/* router/eject.c: outliers by their share of failures. */
#include "router/eject.h"

static void begin_window(struct eject_node *node, struct eject_counts now)
{
    node->base = now;
    node->answers = node->failures = 0;
    node->on_probation = false;
}

static void look(struct eject_node *node, struct eject_counts now)
{
    node->answers = now.answers - node->base.answers;
    node->failures = now.failures - node->base.failures;
}

/* Its share of failures is at least twice that of the others together. */
static bool is_outlier(const struct eject *e, uint32_t i, uint32_t candidates)
{
    uint64_t failures = 0, all = 0;
    for (uint32_t rest = candidates & ~(UINT32_C(1) << i); rest; rest &= rest - 1) {
        const struct eject_node *other = &e->nodes[__builtin_ctz(rest)];
        failures += other->failures;
        all += (uint64_t)other->failures + other->answers;
    }
    const struct eject_node *node = &e->nodes[i];
    const uint64_t own = (uint64_t)node->failures + node->answers;
    return node->failures * all >= 2 * failures * own;
}

static bool must_go(const struct eject *e, uint32_t i, uint32_t candidates)
{
    const struct eject_node *node = &e->nodes[i];
    const uint32_t least = node->on_probation ? 1 : EJECT_FAILURES_MIN;
    return node->failures >= least && node->failures >= node->answers / 3 &&
           is_outlier(e, i, candidates);
}

static void send_out(struct eject_node *node, uint64_t now_ms)
{
    if (node->for_ms && now_ms - node->until_ms >= EJECT_FORGIVE_MS)
        node->for_ms = 0;
    node->for_ms = node->for_ms == 0 ? EJECT_FIRST_MS : 2 * node->for_ms;
    if (node->for_ms > EJECT_MOST_MS)
        node->for_ms = EJECT_MOST_MS;
    node->until_ms = now_ms + node->for_ms;
    node->out = true;
}

static void let_in(struct eject_node *node, struct eject_counts counts, uint64_t now_ms)
{
    begin_window(node, counts);
    node->until_ms = now_ms;
    node->out = false;
    node->on_probation = true;
}

/* The one whose time is up first. */
static uint32_t first_back(const struct eject *e, uint32_t out)
{
    uint32_t first = (uint32_t)__builtin_ctz(out);
    for (uint32_t rest = out; rest; rest &= rest - 1) {
        const uint32_t i = (uint32_t)__builtin_ctz(rest);
        if (e->nodes[i].until_ms < e->nodes[first].until_ms)
            first = i;
    }
    return first;
}

/* New windows begin together, so that the nodes can be compared. One that is on probation keeps its own
 * until it has lasted for long enough. */
static void turn_windows(struct eject *e, const struct eject_counts *counts, uint64_t now_ms)
{
    const bool over = now_ms - e->window_ms >= EJECT_WINDOW_MS;
    if (over)
        e->window_ms = now_ms;
    for (uint32_t i = 0; i < EJECT_NODES && over; i++) {
        struct eject_node *node = &e->nodes[i];
        if (!node->on_probation || now_ms - node->until_ms >= EJECT_WINDOW_MS)
            begin_window(node, counts[i]);
    }
}

static unsigned count(uint32_t mask)
{
    return (unsigned)__builtin_popcount(mask);
}

uint32_t eject_update(struct eject *e, const struct eject_counts *counts, uint32_t candidates,
                      uint32_t max_percent, uint64_t now_ms)
{
    const unsigned allowed = count(candidates) * max_percent / 100;
    uint32_t out = 0;
    for (uint32_t i = 0; i < EJECT_NODES; i++) {
        struct eject_node *node = &e->nodes[i];
        if (!(candidates >> i &
              1)) /* out for a reason of its own: what fails meanwhile says nothing new */
            begin_window(node, counts[i]);
        else
            look(node, counts[i]);
        if (node->out && now_ms >= node->until_ms)
            let_in(node, counts[i], now_ms);
        out |= (uint32_t)node->out << i;
    }
    out &= candidates;
    while (count(out) > allowed) { /* others have gone: it is needed */
        const uint32_t i = first_back(e, out);
        let_in(&e->nodes[i], counts[i], now_ms);
        out &= ~(UINT32_C(1) << i);
    }
    for (uint32_t rest = candidates & ~out; rest && count(out) < allowed; rest &= rest - 1) {
        const uint32_t i = (uint32_t)__builtin_ctz(rest);
        if (!must_go(e, i, candidates & ~out))
            continue;
        send_out(&e->nodes[i], now_ms);
        out |= UINT32_C(1) << i;
    }
    turn_windows(e, counts, now_ms);
    return out;
}

uint64_t eject_next_ms(const struct eject *e, uint32_t out)
{
    return out ? e->nodes[first_back(e, out)].until_ms : UINT64_MAX;
}
