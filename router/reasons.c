/* router/reasons.c: the texts of the reason codes. */
#include "router/reasons.h"

#include "base/check.h"

static const char *const texts[] = {
#define REASON(name, text) [ROUTE_WHY_##name] = text,
#include "router/reasons.def"
#undef REASON
};

_Static_assert(sizeof texts / sizeof texts[0] == ROUTE_WHY_N, "a text for every reason");

const char *route_reason_text(enum route_reason reason)
{
    CHECK(reason < ROUTE_WHY_N);
    return texts[reason];
}
