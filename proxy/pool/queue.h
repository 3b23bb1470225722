/* proxy/pool/queue.h: those who wait for a server.
 *
 * What    a pool set has two queues in each worker, for the primary and for reads. Who waits leaves it when it is
 *         granted a server, at its deadline, when its queue stands (codel.h), when its client leaves, or with pgweir.
 * Limits  queue_max waiters of a queue over all workers, not counting those for whom a server comes or may come;
 *         QUEUE_SHEDS_MAX are refused at once because their queue stands, the rest at the next look.
 */
#ifndef POOL_QUEUE_H
#define POOL_QUEUE_H

#include "proxy/io/timer.h"
#include "proxy/pool/codel.h"

#define QUEUE_SHEDS_MAX 64

/* Why a client found no server. */
#define SHED_REASONS(V)                                                                  \
    V(SHED_QUEUE_TIMEOUT, "queue_timeout") /* its deadline came */                       \
    V(SHED_QUEUE_FULL, "queue_full")       /* queue_max */                               \
    V(SHED_CODEL, "codel")                 /* its queue stands */                        \
    V(SHED_READ_BUDGET, "read_budget")     /* no replica, and primary_read_budget */     \
    V(SHED_NO_TARGET, "no_target")         /* no node may serve it */                    \
    V(SHED_LOGIN_REFUSED, "login_refused") /* PostgreSQL takes no login of ours, ever */ \
    V(SHED_MEMORY, "memory")               /* memory_limit is near */                    \
    V(SHED_DRAINING, "draining")           /* pgweir stops */
#define SHED_CONSTANT(constant, text) constant,
enum shed_reason { SHED_REASONS(SHED_CONSTANT) SHED_REASON_N };
#undef SHED_CONSTANT

/* Of one of the two queues, in this worker. */
struct queue {
    struct codel codel;
    bool shedding;              /* who is refused may wait again at once: not refused within that */
    uint64_t waited, waited_ms; /* who got a server after a wait, and the sum of these waits */
    uint64_t abandoned;         /* whose client left */
    uint64_t notified;          /* who got the NOTICE of query_wait_notify */
    uint64_t sheds[SHED_REASON_N];
};

#endif
