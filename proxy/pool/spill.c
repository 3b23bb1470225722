/* proxy/pool/spill.c: reads on the primary because no replica is readable, within primary_read_budget.
 *
 * What    a budget over all workers: a percentage is one for each pool, that is (entry, database, user); a number
 *         one for each cluster. A unit is taken when a server of the primary is lent to such a read, and given
 *         back to where it came from when that lease ends, whatever a reload has made of the set's budget.
 * Not     counted: reads that their own client's floor, class or policy keeps on the primary, and the second
 *         try of a read that a replica refused; and all, where there is no login for probes.
 * Waiting as for servers (borrow.c): who waits says since when. A unit that comes back goes by mail to the
 *         worker that waits clearly longer than we do, so no worker feeds only itself; whoever begins to wait
 *         looks once more, so no unit is missed.
 * Limits  after a reload that sets the budget for the first time, or another one of the two, reads that run already
 *         are not counted in it.
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

bool spill_left(const struct pool_set *set)
{
    return set->spill_limit == 0 || atomic_load(&set->spill->used) < set->spill_limit;
}

/* Where nobody looks for replicas that may be read, none is lost. */
static bool is_limited(const struct pool_set *set, struct cluster_view view)
{
    return set->spill_limit > 0 && pool_reads_spill(set, view) &&
           !atomic_load_explicit(&set->cluster->unprobed, memory_order_relaxed);
}

bool spill_take(struct server *s, const struct waiter *w)
{
    struct pool_set *set = s->pool->set;
    struct cluster_view view = cluster_view(set->cluster);
    CHECK(!s->spill);
    if (w->want != WANT_READ || s->pool->node != view.primary || !is_limited(set, view))
        return true;
    if (!budget_take(set->spill, set->spill_limit))
        return false;
    atomic_fetch_add(&set->spill->refs, 1);
    s->spill = set->spill;
    return true;
}

/* ---- between workers ---- */

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

/* It has readers that could use a unit. */
static bool waits(const struct pool_set *set)
{
    return set->reader_n > 0 && is_limited(set, cluster_view(set->cluster));
}

/* The set of this worker whose oldest reader waits longest for a unit, or NULL. */
static struct pool_set *longest_here(const struct hub *hub, const struct budget *spill)
{
    struct pool_set *longest = NULL;
    for (struct list *n = hub->sets.next; n != &hub->sets; n = n->next) {
        struct pool_set *set = LIST_ENTRY(n, struct pool_set, node);
        if (set->spill != spill || !waits(set))
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

static void tell(struct hub *hub, struct budget *spill)
{
    uint64_t was = atomic_load(&spill->wanting.since_ms[hub->worker]);
    uint64_t since = waits_since(hub, spill);
    if (since == was)
        return;
    waits_set(&spill->wanting, hub->worker, since);
    if (was == 0 && !budget_is_full(spill) && hub->peers) /* it just came back, and told nobody */
        post(hub, spill, false, 0);
}

void spill_tell(struct pool_set *set)
{
    if (waits(set) || atomic_load(&set->spill->wanting.since_ms[set->hub->worker]))
        tell(set->hub, set->spill);
}

void spill_configure(struct pool_set *set)
{
    struct conf_share share = set->snapshot->conf->primary_read_budget;
    struct budget_key key = {.kind = BUDGET_SPILL, .cluster = set->cluster};
    struct budget *was = set->spill;
    if (share.percent) {
        key.entry = set->db->name;
        key.database = set->database;
        key.user = set->user;
    }
    set->spill = budget_find(&key);
    set->spill_limit = conf_share_of(share, set->pool_size);
    atomic_store(&set->spill->limit, set->spill_limit);
    if (!was)
        return;
    if (was != set->spill) /* who waits does so elsewhere now: see spill_tell() */
        tell(set->hub, was);
    budget_unref(was);
}

/* By mail to this worker, too: the reader that waits may be of another set. */
void spill_give(struct server *s)
{
    struct hub *hub = s->pool->set->hub;
    struct budget *spill = s->spill;
    if (!spill)
        return;
    s->spill = NULL;
    uint64_t since = 0, ours = waits_since(hub, spill);
    int worker = hub->stopping ? -1 : waits_longest(&spill->wanting, hub->worker, &since);
    bool other = worker >= 0 && (uint32_t)worker < hub->peer_n;
    bool carried = other && (ours == 0 || since + POOL_FAIR_MS < ours);
    if (!carried)
        budget_give(spill);
    if (other)
        post(hub->peers[worker], spill, carried, 0);
    if (ours && !carried && !hub->stopping && hub->peers)
        post(hub, spill, false, 0);
    budget_unref(spill);
}

/* A unit is here, or may be: whoever waits longest in this worker may take it, else any other, as the first may lack a
 * server, too; else word goes on, once around. */
static void on_unit(struct loop *loop, struct mail *mail)
{
    struct unit *unit = (struct unit *)(void *)mail;
    struct hub *hub = loop->context;
    struct budget *spill = unit->spill;
    if (unit->carried)
        budget_give(spill);
    struct pool_set *longest = longest_here(hub, spill);
    if (longest)
        pool_pump(longest);
    for (struct list *n = hub->sets.next, *next; n != &hub->sets && !budget_is_full(spill);
         n = next) {
        next = n->next;
        struct pool_set *set = LIST_ENTRY(n, struct pool_set, node);
        if (set->spill == spill)
            pool_pump(set);
    }
    uint64_t since;
    bool wanted = waits_longest(&spill->wanting, hub->worker, &since) >= 0;
    if (wanted && unit->hops + 1 < hub->peer_n && !budget_is_full(spill) && !hub->stopping)
        post(hub->peers[(hub->worker + 1) % hub->peer_n], spill, false, unit->hops + 1);
    budget_unref(spill);
    free(unit);
}
