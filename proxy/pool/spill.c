/* proxy/pool/spill.c: reads on the primary because no replica is readable, within primary_read_budget.
 *
 * What    one budget for each cluster, over its databases, users and all workers. A unit is taken when a
 *         server of the primary is lent to such a read, and given back when that lease ends.
 * Not     counted: reads that their own client's floor, class or policy keeps on the primary, and the second
 *         try of a read that a replica refused.
 * Waiting as for servers (borrow.c): who waits says since when. A unit that comes back goes by mail to the
 *         worker that waits clearly longer than we do, so no worker feeds only itself; whoever begins to wait
 *         looks once more, so no unit is missed.
 * Limits  after a reload that sets the budget for the first time, reads that run already are not counted.
 */
#include "proxy/pool/inside.h"

#include "base/check.h"

#include <stdlib.h>

struct unit {
    struct mail mail; /* first */
    struct budget *spill;
    bool carried;  /* the unit itself; else only word that there is one */
    uint32_t hops; /* workers that had it and left it */
};

static uint32_t limit_of(const struct pool_set *set)
{
    return set->snapshot->conf->primary_read_budget;
}

bool spill_left(const struct pool_set *set)
{
    return limit_of(set) == 0 || atomic_load(&set->spill->used) < limit_of(set);
}

bool spill_take(struct server *s, const struct waiter *w)
{
    struct pool_set *set = s->pool->set;
    struct cluster_view view = cluster_view(set->cluster);
    if (limit_of(set) == 0 || w->want != WANT_READ || s->pool->node != view.primary ||
        !pool_reads_spill(set, view))
        return true;
    s->spills = budget_take(set->spill, limit_of(set));
    return s->spills;
}

/* ---- between workers ---- */

static bool is_used_up(const struct budget *spill, uint32_t limit)
{
    return limit && atomic_load(&spill->used) >= limit;
}

static void on_unit(struct loop *loop, struct mail *mail);

static void post(struct hub *to, struct budget *spill, bool carried, uint32_t hops)
{
    struct unit *unit = malloc(sizeof *unit);
    CHECK(unit != NULL);
    atomic_fetch_add(&spill->refs, 1);
    *unit =
        (struct unit){.mail.deliver = on_unit, .spill = spill, .carried = carried, .hops = hops};
    loop_post(to->loop, &unit->mail);
}

static uint64_t oldest_reader_ms(const struct pool_set *set)
{
    return LIST_ENTRY(set->readers.next, struct waiter, node)->since_ms;
}

/* The set of this worker whose oldest reader waits longest for a unit, or NULL. */
static struct pool_set *longest_here(const struct hub *hub, const struct budget *spill)
{
    struct pool_set *longest = NULL;
    for (struct list *n = hub->sets.next; n != &hub->sets; n = n->next) {
        struct pool_set *set = LIST_ENTRY(n, struct pool_set, node);
        if (set->spill != spill || set->reader_n == 0 || limit_of(set) == 0 ||
            !pool_reads_spill(set, cluster_view(set->cluster)))
            continue;
        if (!longest || oldest_reader_ms(set) < oldest_reader_ms(longest))
            longest = set;
    }
    return longest;
}

static uint64_t waits_since(const struct hub *hub, const struct budget *spill)
{
    const struct pool_set *set = longest_here(hub, spill);
    return set ? oldest_reader_ms(set) : 0;
}

void spill_tell(struct pool_set *set)
{
    struct hub *hub = set->hub;
    uint64_t was = atomic_load(&set->spill->wanting.since_ms[hub->worker]);
    uint64_t since = limit_of(set) || was ? waits_since(hub, set->spill) : 0;
    if (since == was)
        return;
    waits_set(&set->spill->wanting, hub->worker, since);
    if (was == 0 && spill_left(set) && hub->peers) /* one that came back just before told nobody */
        post(hub, set->spill, false, 0);
}

/* By mail to this worker, too: the reader that waits may be of another set. */
void spill_give(struct server *s)
{
    struct pool_set *set = s->pool->set;
    struct hub *hub = set->hub;
    if (!s->spills)
        return;
    s->spills = false;
    uint64_t since = 0, ours = waits_since(hub, set->spill);
    int worker = hub->stopping ? -1 : waits_longest(&set->spill->wanting, hub->worker, &since);
    bool other = worker >= 0 && (uint32_t)worker < hub->peer_n;
    bool carried = other && (ours == 0 || since + POOL_FAIR_MS < ours);
    if (!carried)
        budget_give(set->spill);
    if (other)
        post(hub->peers[worker], set->spill, carried, 0);
    if (ours && !carried && !hub->stopping && hub->peers)
        post(hub, set->spill, false, 0);
}

/* A unit is here, or may be: whoever waits longest in this worker may take it, else any other, as the first may lack a
 * server, too; else word goes on, once around. */
static void on_unit(struct loop *loop, struct mail *mail)
{
    struct unit *unit = (struct unit *)(void *)mail;
    struct hub *hub = loop->context;
    struct budget *spill = unit->spill;
    uint32_t limit = hub->snapshot->conf->primary_read_budget;
    if (unit->carried)
        budget_give(spill);
    struct pool_set *longest = longest_here(hub, spill);
    if (longest)
        pool_pump(longest);
    for (struct list *n = hub->sets.next, *next; n != &hub->sets && !is_used_up(spill, limit);
         n = next) {
        next = n->next;
        struct pool_set *set = LIST_ENTRY(n, struct pool_set, node);
        if (set->spill == spill)
            pool_pump(set);
    }
    uint64_t since;
    bool wanted = waits_longest(&spill->wanting, hub->worker, &since) >= 0;
    if (wanted && unit->hops + 1 < hub->peer_n && !is_used_up(spill, limit) && !hub->stopping)
        post(hub->peers[(hub->worker + 1) % hub->peer_n], spill, false, unit->hops + 1);
    budget_unref(spill);
    free(unit);
}
