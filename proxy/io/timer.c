#include "proxy/io/timer.h"

#include "base/check.h"

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_ms)
{
    *wheel = (struct timer_wheel){.tick = now_ms / TIMER_TICK_MS};
    for (unsigned i = 0; i < TIMER_SLOTS; i++)
        list_init(&wheel->slot[i]);
}

void timer_init(struct timer *timer, void (*fire)(struct timer *timer))
{
    list_init(&timer->node);
    timer->deadline_ms = TIMER_NEVER;
    timer->fire = fire;
}

static uint64_t tick_of(uint64_t deadline_ms)
{
    return deadline_ms / TIMER_TICK_MS + (deadline_ms % TIMER_TICK_MS != 0); /* may be NEVER */
}

/* The slot of a far deadline is the last one of the span: it is looked at then, and put in again.
 */
static void put_in_slot(struct timer_wheel *wheel, struct timer *timer)
{
    uint64_t tick = tick_of(timer->deadline_ms);
    if (tick <= wheel->tick)
        tick = wheel->tick + 1;
    if (tick > wheel->tick + TIMER_SLOTS - 1)
        tick = wheel->tick + TIMER_SLOTS - 1;
    unsigned i = (unsigned)(tick % TIMER_SLOTS);
    list_push_back(&wheel->slot[i], &timer->node);
    wheel->busy[i / 64] |= 1ULL << (i % 64);
}

void timer_start(struct timer_wheel *wheel, struct timer *timer, uint64_t deadline_ms)
{
    CHECK(timer->fire != NULL);
    timer_stop(wheel, timer);
    timer->deadline_ms = deadline_ms;
    wheel->running++;
    put_in_slot(wheel, timer);
}

void timer_stop(struct timer_wheel *wheel, struct timer *timer)
{
    if (list_empty(&timer->node))
        return;
    list_remove(&timer->node);
    CHECK(wheel->running > 0);
    wheel->running--;
}

static void run_slot(struct timer_wheel *wheel, uint64_t now_ms)
{
    unsigned i = (unsigned)(wheel->tick % TIMER_SLOTS);
    if (!(wheel->busy[i / 64] & 1ULL << (i % 64)))
        return;
    wheel->busy[i / 64] &= ~(1ULL << (i % 64));
    /* Timers that fire may start timers; those go to later slots, so this list only shrinks. */
    struct list due;
    list_init(&due);
    for (struct list *n; (n = list_pop(&wheel->slot[i])) != NULL;)
        list_push_back(&due, n);
    for (struct list *n; (n = list_pop(&due)) != NULL;) {
        struct timer *timer = LIST_ENTRY(n, struct timer, node);
        if (timer->deadline_ms > now_ms) {
            put_in_slot(wheel, timer);
            continue;
        }
        wheel->running--;
        timer->fire(timer);
    }
}

void timer_run(struct timer_wheel *wheel, uint64_t now_ms)
{
    uint64_t now_tick = now_ms / TIMER_TICK_MS;
    if (wheel->running == 0 && now_tick > wheel->tick)
        wheel->tick = now_tick;
    if (now_tick > wheel->tick + TIMER_SLOTS) /* after a pause each slot is due once */
        wheel->tick = now_tick - TIMER_SLOTS;
    while (wheel->tick < now_tick) {
        wheel->tick++;
        run_slot(wheel, now_ms);
    }
}

uint64_t timer_next_ms(const struct timer_wheel *wheel)
{
    if (wheel->running == 0)
        return TIMER_NEVER;
    for (uint64_t t = wheel->tick + 1; t < wheel->tick + TIMER_SLOTS;) {
        unsigned i = (unsigned)(t % TIMER_SLOTS);
        uint64_t rest = wheel->busy[i / 64] >> (i % 64);
        if (rest)
            return (t + (uint64_t)__builtin_ctzll(rest)) * TIMER_TICK_MS;
        t += 64 - i % 64;
    }
    return (wheel->tick + TIMER_SLOTS - 1) * TIMER_TICK_MS;
}
