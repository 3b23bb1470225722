#include "proxy/session/deadline.h"

#include "proxy/session/session.h"

static void take_earlier(struct deadline *d, enum deadline_of of, uint64_t since_ms,
                         uint64_t limit_ms)
{
    if (limit_ms && (d->of == DEADLINE_NONE || since_ms + limit_ms < d->at_ms))
        *d = (struct deadline){of, since_ms + limit_ms};
}

struct deadline deadline_next(const struct conf_client_limits *limits,
                              const struct client_doing *doing)
{
    struct deadline d = {DEADLINE_NONE, 0};
    if (doing->asks)
        take_earlier(&d, DEADLINE_QUERY, doing->since_ms, limits->query_ms);
    if (doing->began_ms)
        take_earlier(&d, DEADLINE_TRANSACTION, doing->began_ms, limits->transaction_ms);
    if (!doing->asks && !doing->began_ms && !doing->waits)
        take_earlier(&d, DEADLINE_IDLE, doing->since_ms, limits->idle_ms);
    return d;
}

static struct deadline next_of(const struct session *s)
{
    bool ends = s->half_closed_ms || s->console_wait || s->worker->stage >= WORKER_DRAINS;
    if (!s->set || s->replication || s->state != SESSION_READY || ends) /* its timer is for that */
        return (struct deadline){DEADLINE_NONE, 0};
    struct client_doing doing = {.since_ms = s->since_ms,
                                 .began_ms = s->began_ms,
                                 .asks = s->replies.n > 0,
                                 .waits = waiter_waits(&s->waiter)};
    return deadline_next(&s->set->limits, &doing);
}

void deadline_look(struct session *s)
{
    struct deadline d = next_of(s);
    bool later = !timer_running(&s->timer) || s->timer.deadline_ms > d.at_ms;
    if (d.of != DEADLINE_NONE && later)
        timer_start(&s->worker->loop->timers, &s->timer, d.at_ms);
}

void deadline_fires(struct session *s)
{
    static const struct {
        const char *sqlstate, *message, *detail;
    } texts[] = {
        [DEADLINE_QUERY] = {"57014", "terminating connection due to query timeout",
                            "query_timeout of pgweir; the query is cancelled."},
        [DEADLINE_TRANSACTION] = {"25P04", "terminating connection due to transaction timeout",
                                  "transaction_timeout of pgweir; the transaction is rolled back."},
        [DEADLINE_IDLE] = {"57P05", "terminating connection due to idle-session timeout",
                           "client_idle_timeout of pgweir."},
    };
    struct deadline d = next_of(s);
    if (d.of == DEADLINE_NONE)
        return;
    if (s->worker->loop->now_ms < d.at_ms) {
        deadline_look(s);
        return;
    }
    session_end(s, texts[d.of].sqlstate, texts[d.of].message, texts[d.of].detail);
}

void deadline_asked(struct session *s)
{
    s->since_ms = s->worker->loop->now_ms;
    if (s->began_ms == 0)
        s->began_ms = s->since_ms;
    if (s->set && deadline_any(&s->set->limits))
        deadline_look(s);
}

void deadline_ready(struct session *s)
{
    s->since_ms = s->worker->loop->now_ms;
    if (s->tx_status == 'I')
        s->began_ms = s->replies.n > 0 ? s->since_ms : 0;
    else if (s->began_ms == 0)
        s->began_ms = s->since_ms;
    if (s->set && deadline_any(&s->set->limits))
        deadline_look(s);
}
