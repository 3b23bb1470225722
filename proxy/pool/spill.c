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
    bool carried; /* the unit itself; else only word that there is one */
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

static void on_unit(struct loop *loop, struct mail *mail);

static void post(struct hub *to, struct budget *spill, bool carried)
{
    struct unit *unit = malloc(sizeof *unit);
    CHECK(unit != NULL);
    atomic_fetch_add(&spill->refs, 1);
    *unit = (struct unit){.mail.deliver = on_unit, .spill = spill, .carried = carried};
    loop_post(to->loop, &unit->mail);
}

/* Since when the oldest reader of this worker waits for a unit; 0: none does. */
static uint64_t waits_since(const struct hub *hub, const struct budget *spill)
{
    uint64_t oldest = 0;
    for (struct list *n = hub->sets.next; n != &hub->sets; n = n->next) {
        const struct pool_set *set = LIST_ENTRY(n, struct pool_set, node);
        if (set->spill != spill || set->reader_n == 0 || limit_of(set) == 0 ||
            !pool_reads_spill(set, cluster_view(set->cluster)))
            continue;
        uint64_t since = LIST_ENTRY(set->readers.next, struct waiter, node)->since_ms;
        if (oldest == 0 || since < oldest)
            oldest = since;
    }
    return oldest;
}

void spill_tell(struct pool_set *set)
{
    struct hub *hub = set->hub;
    uint64_t was = atomic_load(&set->spill->since_ms[hub->worker]);
    uint64_t since = limit_of(set) || was ? waits_since(hub, set->spill) : 0;
    if (since == was)
        return;
    budget_wait(set->spill, hub->worker, since);
    if (was == 0 && spill_left(set) && hub->peers) /* one that came back just before told nobody */
        post(hub, set->spill, false);
}

void spill_give(struct server *s)
{
    struct pool_set *set = s->pool->set;
    struct hub *hub = set->hub;
    if (!s->spills)
        return;
    s->spills = false;
    uint64_t since = 0, ours = waits_since(hub, set->spill);
    int worker = hub->stopping ? -1 : budget_longest_waiting(set->spill, hub->worker, &since);
    bool other = worker >= 0 && (uint32_t)worker < hub->peer_n;
    bool carried = other && (ours == 0 || since + POOL_FAIR_MS < ours);
    if (!carried)
        budget_give(set->spill);
    if (other)
        post(hub->peers[worker], set->spill, carried);
}

/* A unit is here, or may be: whoever waits in this worker may take it; else word goes on. */
static void on_unit(struct loop *loop, struct mail *mail)
{
    struct unit *unit = (struct unit *)(void *)mail;
    struct hub *hub = loop->context;
    struct budget *spill = unit->spill;
    uint32_t limit = hub->snapshot->conf->primary_read_budget;
    if (unit->carried)
        budget_give(spill);
    for (struct list *n = hub->sets.next, *next; n != &hub->sets; n = next) {
        next = n->next;
        struct pool_set *set = LIST_ENTRY(n, struct pool_set, node);
        if (set->spill == spill)
            pool_pump(set);
    }
    uint64_t since;
    bool used_up = limit && atomic_load(&spill->used) >= limit;
    int worker = used_up || hub->stopping || waits_since(hub, spill) != 0
                     ? -1
                     : budget_longest_waiting(spill, hub->worker, &since);
    if (worker >= 0 && (uint32_t)worker < hub->peer_n)
        post(hub->peers[worker], spill, false);
    budget_unref(spill);
    free(unit);
}
