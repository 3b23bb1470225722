/* Timers: never early, at most a tick late, whatever the clock does. */
#include "base/check.h"
#include "proxy/io/timer.h"
#include "tests/unit/port_sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define TIMERS 200

struct probe {
    struct timer timer;
    struct bench *bench;
    bool running;
    unsigned fired;
};

struct bench {
    struct timer_wheel wheel;
    struct sim *sim;
    struct probe probes[TIMERS];
    uint64_t now_ms, last_run_ms; /* when timer_run() was called, and the time before */
};

static uint64_t some_deadline(struct bench *b)
{
    static const uint32_t spans[] = {1, 8, 100, 4096, 4100, 60000, 100000000};
    return b->now_ms + sim_random(b->sim, spans[sim_random(b->sim, 7)] + 1);
}

static void start_probe(struct probe *p, uint64_t deadline_ms)
{
    timer_start(&p->bench->wheel, &p->timer, deadline_ms);
    p->running = true;
}

static void on_fire(struct timer *timer)
{
    struct probe *p = LIST_ENTRY(timer, struct probe, timer);
    struct bench *b = p->bench;
    CHECK(p->running && !timer_running(timer));
    CHECK(timer->deadline_ms <= b->now_ms);
    /* The run before this one came too early for it, by a tick at most. */
    CHECK(timer->deadline_ms + TIMER_TICK_MS >= b->last_run_ms);
    p->running = false;
    p->fired++;
    if (sim_random(b->sim, 3) == 0) /* a timer that starts itself, or another, or stops another */
        start_probe(p, some_deadline(b));
    struct probe *other = &b->probes[sim_random(b->sim, TIMERS)];
    if (sim_random(b->sim, 4) == 0) {
        timer_stop(&b->wheel, &other->timer);
        other->running = false;
    }
}

static void check_nothing_is_overdue(const struct bench *b)
{
    uint64_t next_ms = timer_next_ms(&b->wheel);
    unsigned running = 0;
    for (int i = 0; i < TIMERS; i++) {
        const struct probe *p = &b->probes[i];
        CHECK(p->running == timer_running(&p->timer));
        running += p->running;
        if (!p->running)
            continue;
        CHECK(p->timer.deadline_ms + TIMER_TICK_MS >= b->now_ms);
        CHECK(next_ms <= p->timer.deadline_ms + TIMER_TICK_MS);
    }
    CHECK(running == b->wheel.running);
    CHECK(running > 0 || next_ms == TIMER_NEVER);
}

static void run_seed(uint64_t seed)
{
    struct bench *b = calloc(1, sizeof *b);
    struct sim_config config = {.seed = seed};
    assert_non_null(b);
    b->sim = sim_new(&config);
    b->now_ms = sim_random(b->sim, 100000);
    timer_wheel_init(&b->wheel, b->now_ms);
    for (int i = 0; i < TIMERS; i++) {
        b->probes[i].bench = b;
        timer_init(&b->probes[i].timer, on_fire);
    }
    for (unsigned turn = 0; turn < 500; turn++) {
        struct probe *p = &b->probes[sim_random(b->sim, TIMERS)];
        start_probe(p, some_deadline(b));
        if (sim_random(b->sim, 5) == 0) {
            timer_stop(&b->wheel, &p->timer);
            p->running = false;
        }
        b->last_run_ms = b->now_ms;
        uint64_t next_ms = timer_next_ms(&b->wheel);
        uint32_t kind = sim_random(b->sim, 4);
        if (kind == 0 && next_ms != TIMER_NEVER && next_ms > b->now_ms)
            b->now_ms = next_ms; /* as the loop does */
        else if (kind == 1)
            b->now_ms += sim_random(b->sim, 20000); /* a stopped process */
        else
            b->now_ms += sim_random(b->sim, 10);
        timer_run(&b->wheel, b->now_ms);
        check_nothing_is_overdue(b);
    }
    sim_free(b->sim);
    free(b);
}

static void timers_fire_in_time(void **state)
{
    (void)state;
    uint64_t first = sim_seed(1), n = sim_seed_count();
    for (uint64_t seed = first; seed < first + n; seed++)
        run_seed(seed);
}

static void count_fire(struct timer *timer)
{
    (void)timer;
    CHECK_UNREACHABLE();
}

static void never_is_never_and_costs_no_wakeups(void **state)
{
    (void)state;
    static struct timer_wheel wheel;
    struct timer timer;
    timer_wheel_init(&wheel, 5);
    assert_true(timer_next_ms(&wheel) == TIMER_NEVER);
    timer_init(&timer, count_fire);
    timer_stop(&wheel, &timer); /* a stopped one may be stopped */
    timer_start(&wheel, &timer, TIMER_NEVER);
    unsigned wakeups = 0;
    for (uint64_t now_ms = 5; now_ms < 3600000; wakeups++) {
        now_ms = timer_next_ms(&wheel);
        timer_run(&wheel, now_ms);
    }
    assert_true(wakeups < 3600000 / (TIMER_TICK_MS * (TIMER_SLOTS - 1)) + 10);
    timer_stop(&wheel, &timer);
    assert_true(timer_next_ms(&wheel) == TIMER_NEVER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_in_time),
        cmocka_unit_test(never_is_never_and_costs_no_wakeups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
