/* A worker whose loop does not come round any more: its clients would wait for ever, beside others that are served. */
#include "base/check.h"
#include "proxy/control/inside.h"
#include "proxy/io/log.h"

#include <stdlib.h>

#define LOOK_MS 500

/* Looks are counted, not time: a process that was stopped as a whole has not been looked at meanwhile. */
static bool is_stuck(struct heartbeat *h, uint32_t turn, uint64_t timeout_ms)
{
    h->looks = turn == LOOP_SLEEPS || turn != h->turn ? 0 : h->looks + 1;
    h->turn = turn;
    return timeout_ms > 0 && h->looks * (uint64_t)LOOK_MS >= timeout_ms;
}

static void on_look(struct timer *timer)
{
    struct control *c = LIST_ENTRY(timer, struct control, watchdog_timer);
    uint64_t timeout_ms = c->snapshot->conf->watchdog_timeout_ms;
    for (uint32_t i = 0; i < c->hooks.worker_n; i++) {
        if (!is_stuck(&c->heartbeats[i], c->hooks.beat(c->hooks.context, i), timeout_ms))
            continue;
        LOG(LOG_ERROR, "worker.stuck", LF_U("worker", i), LF_U("waited_ms", timeout_ms),
            LF_S("option", "watchdog_timeout"), LF_S("action", "abort"));
        log_stop();
        abort(); /* for a core with its stack; who supervises us starts a new process */
    }
    timer_start(&c->loop->timers, timer, c->loop->now_ms + LOOK_MS);
}

void watchdog_start(struct control *c)
{
    c->heartbeats = calloc(c->hooks.worker_n + 1, sizeof *c->heartbeats);
    CHECK(c->heartbeats != NULL);
    timer_init(&c->watchdog_timer, on_look);
    on_look(&c->watchdog_timer);
}

void watchdog_stop(struct control *c)
{
    timer_stop(&c->loop->timers, &c->watchdog_timer);
    free(c->heartbeats);
    c->heartbeats = NULL;
}
