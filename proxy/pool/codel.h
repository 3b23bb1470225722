/* proxy/pool/codel.h: is a queue only a burst, or does it stand?
 *
 * What    the oldest waiter's age is looked at again and again. While it is longer than target for a whole interval,
 *         work comes in faster than it is done: the queue stands, until that age has been at or below target once.
 *         While it stands nobody needs to wait longer than codel_patience_ms(): who does is refused, and the newest is
 *         served first, since those who came first will have given up first.
 * Pure    no clock, no I/O.
 * Source  Nichols and Jacobson, "Controlling Queue Delay" (ACM Queue 10/5); Maurer, "Fail at Scale" (ACM Queue 13/8):
 *         judge by the minimum over an interval, drop late, and only while it stands.
 */
#ifndef POOL_CODEL_H
#define POOL_CODEL_H

#include <stdbool.h>
#include <stdint.h>

struct codel {
    uint64_t end_ms;   /* of the interval that runs */
    uint64_t least_ms; /* the smallest age seen in it */
    bool stands;
};

struct codel_limits {
    uint64_t interval_ms, target_ms;
};

/* The oldest waiter has waited so long now; 0: nobody waits. Call it whenever somebody comes or goes. */
void codel_look(struct codel *codel, const struct codel_limits *limits, uint64_t now_ms,
                uint64_t age_ms);

/* The longest wait while it stands. */
static inline uint64_t codel_patience_ms(const struct codel_limits *limits)
{
    return 2 * limits->target_ms;
}

#endif
