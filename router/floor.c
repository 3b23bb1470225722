#include "router/floor.h"

#include "base/check.h"

#define SHORT_HEADER 24
#define LONG_HEADER 40

uint64_t floor_normalise(uint64_t lsn)
{
    uint64_t in_page = lsn % FLOOR_PAGE_BYTES;
    return in_page == SHORT_HEADER || in_page == LONG_HEADER ? lsn - in_page : lsn;
}

/* A later timeline makes what was seen on an earlier one unknown: its LSNs mean something else. */
static void raise_to(struct floor *floor, uint32_t timeline, uint64_t lsn)
{
    if (timeline > floor->timeline || (timeline == floor->timeline && lsn > floor->lsn)) {
        floor->timeline = timeline;
        floor->lsn = lsn;
    }
}

void floor_used_primary(struct floor *floor, uint8_t node, uint64_t begun)
{
    CHECK(node < FLOOR_NODES);
    floor->primary = node;
    floor->pending_after = begun + 1; /* begun may be 0, and 0 means "nothing is pending" */
    floor->sticky_after = 0;          /* the primary is ahead of every replica */
    floor->has_home = false;
}

void floor_used_replica(struct floor *floor, uint8_t node, int64_t instance, uint64_t begun)
{
    CHECK(node < FLOOR_NODES);
    floor->has_home = true;
    floor->home = node;
    floor->home_instance = instance;
    floor->sticky_after = begun + 1;
}

bool floor_settle_primary(struct floor *floor, const struct floor_sample *sample)
{
    if (floor->pending_after == 0)
        return true;
    if (sample->number < floor->pending_after)
        return false;
    raise_to(floor, sample->timeline, floor_normalise(sample->seen_lsn));
    floor->pending_after = 0;
    return true;
}

bool floor_settle_replica(struct floor *floor, uint8_t node, const struct floor_sample *sample)
{
    if (floor->sticky_after == 0 || floor->home != node)
        return true;
    if (sample->number < floor->sticky_after)
        return false;
    raise_to(floor, sample->timeline, floor_normalise(sample->seen_lsn));
    floor->sticky_after = 0;
    return true;
}

uint32_t floor_nodes(const struct floor *floor, uint32_t mask, const struct floor_sample *samples)
{
    if (floor->pending_after)
        return 0;
    uint32_t may = 0;
    if (floor->has_home && samples[floor->home].instance == floor->home_instance)
        may = mask & 1U << floor->home;
    if (floor->sticky_after)
        return may;
    if (floor->lsn == 0)
        return mask;
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        uint32_t node = (uint32_t)__builtin_ctz(rest);
        const struct floor_sample *s = &samples[node];
        if (s->timeline == floor->timeline && s->replay_lsn >= floor->lsn)
            may |= 1U << node;
    }
    return may;
}
