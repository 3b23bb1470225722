/* A worker whose loop does not come round any more: its clients would wait for ever, beside others that are served. */
#include "proxy/control/inside.h"
#include "proxy/io/log.h"

#include <stdlib.h>

/* Looks are counted, not time: a process that was stopped as a whole has not been looked at meanwhile. */
static bool is_stuck(struct heartbeat *h, uint32_t turn, uint64_t timeout_ms)
{
    h->looks = turn == LOOP_SLEEPS || turn != h->turn ? 0 : h->looks + 1;
    h->turn = turn;
    return timeout_ms > 0 && h->looks * (uint64_t)CONTROL_LOOK_MS >= timeout_ms;
}

void watchdog_look(struct control *c)
{
    uint64_t timeout_ms = c->snapshot->conf->watchdog_timeout_ms;
    for (uint32_t i = 0; i < c->hooks.worker_n; i++) {
        if (!is_stuck(&c->heartbeats[i], c->hooks.beat(c->hooks.context, i), timeout_ms))
            continue;
        LOG(LOG_ERROR, "worker.stuck", LF_U("worker", i), LF_U("waited_ms", timeout_ms),
            LF_S("option", "watchdog_timeout"), LF_S("action", "abort"));
        log_stop();
        abort(); /* for a core with its stack; who supervises us starts a new process */
    }
}
