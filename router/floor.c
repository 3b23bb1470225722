#include "router/floor.h"

#include "base/check.h"

#include <inttypes.h>
#include <stdio.h>

#define SHORT_HEADER 24
#define LONG_HEADER 40

uint64_t floor_normalise(uint64_t lsn)
{
    uint64_t in_page = lsn % FLOOR_PAGE_BYTES;
    return in_page == SHORT_HEADER || in_page == LONG_HEADER ? lsn - in_page : lsn;
}

/* A later timeline makes what was seen on an earlier one unknown: its LSNs mean something else. An LSN
 * that stays keeps its time: what has not been flushed since then holds nothing. */
static bool raise_to(struct floor *floor, uint32_t timeline, uint64_t lsn, uint64_t at_ns)
{
    bool rises = timeline > floor->timeline || (timeline == floor->timeline && lsn > floor->lsn);
    if (rises) {
        floor->timeline = timeline;
        floor->lsn = lsn;
        floor->settled_ns = at_ns;
    }
    return rises;
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

void floor_lost_home(struct floor *floor, uint8_t primary, uint64_t begun)
{
    floor->has_home = false;
    floor->sticky_after = 0;
    floor_join(floor, primary, begun + 1);
}

void floor_join(struct floor *floor, uint8_t node, uint64_t after)
{
    CHECK(node < FLOOR_NODES && after > 0);
    if (floor->pending_after == 0 || floor->primary != node || floor->pending_after < after) {
        floor->primary = node;
        floor->pending_after = after;
    }
}

void floor_raise(struct floor *floor, uint32_t timeline, uint64_t lsn, uint64_t now_ns)
{
    uint64_t asked = floor_normalise(lsn);
    bool rises = raise_to(floor, timeline, asked, now_ns);
    if (rises || (timeline == floor->timeline && asked > floor->home_needs))
        floor->home_needs = asked;
}

bool floor_settle_primary(struct floor *floor, const struct floor_sample *sample)
{
    if (floor->pending_after == 0)
        return true;
    if (sample->number < floor->pending_after)
        return false;
    floor_raise(floor, sample->timeline, sample->seen_lsn, sample->at_ns);
    floor->pending_after = 0;
    return true;
}

bool floor_settle_replica(struct floor *floor, uint8_t node, const struct floor_sample *sample)
{
    if (floor->sticky_after == 0 || floor->home != node)
        return true;
    bool vouches = sample->instance == floor->home_instance && sample->seen_lsn > 0;
    if (sample->number < floor->sticky_after || !vouches)
        return false;
    raise_to(floor, sample->timeline, floor_normalise(sample->seen_lsn), sample->at_ns);
    floor->sticky_after = 0;
    return true;
}

uint64_t floor_need(const struct floor *floor, const struct floor_sample *primary,
                    uint64_t window_ns)
{
    bool old = window_ns > 0 && primary->begun_ns >= floor->settled_ns + window_ns;
    bool inserted = primary->timeline == floor->timeline && primary->seen_lsn >= floor->lsn;
    bool flushed_less = primary->flush_lsn > 0 && primary->flush_lsn < floor->lsn;
    return old && inserted && flushed_less ? floor_normalise(primary->flush_lsn) : floor->lsn;
}

static bool has_reached(const struct floor *floor, uint64_t need, const struct floor_sample *sample)
{
    return sample->timeline == floor->timeline && sample->replay_lsn >= need;
}

/* Home may, while it is the same instance. */
static uint32_t home_mask(struct floor *floor, uint64_t need, const struct floor_sample *samples)
{
    if (!floor->has_home || samples[floor->home].instance != floor->home_instance)
        return 0;
    uint64_t asked = floor->home_needs < need ? floor->home_needs : need;
    if (floor->home_needs && !has_reached(floor, asked, &samples[floor->home]))
        return 0;
    floor->home_needs = 0;
    return 1U << floor->home;
}

uint32_t floor_nodes(struct floor *floor, uint64_t need, uint32_t mask,
                     const struct floor_sample *samples)
{
    if (floor->pending_after)
        return 0;
    uint32_t may = mask & home_mask(floor, need, samples);
    if (floor->sticky_after)
        return may;
    if (floor->lsn == 0)
        return mask;
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        uint32_t node = (uint32_t)__builtin_ctz(rest);
        if (has_reached(floor, need, &samples[node]))
            may |= 1U << node;
    }
    return may;
}

/* ---- tokens ---- */

static bool read_timeline(struct slice digits, uint32_t *timeline)
{
    uint64_t value = 0;
    if (digits.n == 0 || digits.n > 10)
        return false;
    for (size_t i = 0; i < digits.n; i++) {
        if (digits.p[i] < '0' || digits.p[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(digits.p[i] - '0');
    }
    *timeline = (uint32_t)value;
    return value <= UINT32_MAX;
}

bool floor_token_read(struct slice text, uint32_t *timeline, uint64_t *lsn)
{
    const uint8_t *dash = text.n > 0 ? memchr(text.p, '-', text.n) : NULL;
    if (!dash) {
        *timeline = 0;
        return lsn_parse(text, lsn);
    }
    size_t n = (size_t)(dash - text.p);
    return read_timeline((struct slice){text.p, n}, timeline) &&
           lsn_parse(slice_skip(text, n + 1), lsn);
}

size_t floor_token_write(uint32_t timeline, uint64_t lsn, char text[FLOOR_TOKEN_BYTES])
{
    char lsn_text[LSN_TEXT_BYTES];
    lsn_format(lsn, lsn_text);
    int n = snprintf(text, FLOOR_TOKEN_BYTES, "%" PRIu32 "-%s", timeline, lsn_text);
    CHECK(n > 0 && n < FLOOR_TOKEN_BYTES);
    return (size_t)n;
}
