/* router/reasons.h: the reason codes of classes and routes, one table for code, logs and SHOW. */
#ifndef ROUTER_REASONS_H
#define ROUTER_REASONS_H

enum route_reason {
#define REASON(name, text) ROUTE_WHY_##name,
#include "router/reasons.def"
#undef REASON
    ROUTE_WHY_N
};

/* The stable text of a reason, as in logs ("no_replica"). */
const char *route_reason_text(enum route_reason reason);

#endif
