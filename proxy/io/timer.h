/* proxy/io/timer.h: a wheel of deadlines, one per loop.
 *
 * Units    milliseconds of the loop's monotonic clock. A timer fires at its deadline or up to
 *          TIMER_TICK_MS after it, never before.
 * Owns     nothing: a struct timer lives inside its owner, who stops it before it goes away.
 * Cost     start, stop: O(1). A deadline beyond the wheel's span is looked at once per span.
 */
#ifndef IO_TIMER_H
#define IO_TIMER_H

#include "base/list.h"

#include <stdint.h>

#define TIMER_TICK_MS 4
#define TIMER_SLOTS 1024 /* span: 4.096 s */
#define TIMER_NEVER UINT64_MAX

struct timer {
    struct list node;
    uint64_t deadline_ms;
    void (*fire)(
        struct timer *timer); /* the timer is stopped when this is called; it may start it again */
};

struct timer_wheel {
    uint64_t tick;                   /* every slot up to this tick has been run */
    uint32_t running;                /* timers that are started */
    uint64_t busy[TIMER_SLOTS / 64]; /* a bit per slot that may hold timers */
    struct list slot[TIMER_SLOTS];
};

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_ms);
void timer_init(struct timer *timer, void (*fire)(struct timer *timer));

/* Start the timer, or move it to another deadline. */
void timer_start(struct timer_wheel *wheel, struct timer *timer, uint64_t deadline_ms);
/* Stop the timer; a stopped one may be stopped again. */
void timer_stop(struct timer_wheel *wheel, struct timer *timer);

/* Fire all timers that are due. */
void timer_run(struct timer_wheel *wheel, uint64_t now_ms);
/* When timer_run() should next be called: no later than the first deadline's tick; TIMER_NEVER: no
 * timer. */
uint64_t timer_next_ms(const struct timer_wheel *wheel);

static inline bool timer_running(const struct timer *timer)
{
    return !list_empty(&timer->node);
}

#endif
