#include "proxy/pool/codel.h"

static void begin_interval(struct codel *codel, const struct codel_limits *limits, uint64_t now_ms,
                           uint64_t age_ms)
{
    codel->end_ms = now_ms + limits->interval_ms;
    codel->least_ms = age_ms;
}

void codel_look(struct codel *codel, const struct codel_limits *limits, uint64_t now_ms,
                uint64_t age_ms)
{
    if (codel->end_ms == 0)
        begin_interval(codel, limits, now_ms, age_ms);
    if (age_ms < codel->least_ms)
        codel->least_ms = age_ms;
    if (codel->least_ms <= limits->target_ms)
        codel->stands = false;
    if (now_ms < codel->end_ms)
        return;
    codel->stands = codel->least_ms > limits->target_ms;
    begin_interval(codel, limits, now_ms, age_ms);
}
