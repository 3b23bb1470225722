/* proxy/session/shutdown.c: the end of a process, in the order that load balancers and clients need.
 *
 * Grace   for drain_grace all goes on as before, but "pgweir health" fails, so that new clients are sent elsewhere.
 * Drain   nobody new is accepted. Clients outside of a transaction are told 57P01, after a twentieth of drain_timeout
 *         and spread over up to half of it, so that they do not all log in elsewhere at once; the others at the end of
 *         their transaction.
 * End     at drain_timeout, or when all clients have left, or at a second signal: what is left is cut.
 */
#include "proxy/session/session.h"

#include "base/check.h"
#include "proxy/io/log.h"

#include <stdlib.h>

#define PACE_MS 10 /* between two clients of a worker that leave, if there is time for that */
#define FIRST_PART \
    20 /* of drain_timeout: before that nobody is told, for many come with one query and leave */
#define LOGIN_MS 2000 /* for who has just been accepted */
#define ABORT_MS 2000

struct drain_mail {
    struct mail mail; /* first */
    enum worker_stage stage;
    uint64_t grace_ms, timeout_ms;
};

static void on_drain_mail(struct loop *loop, struct mail *mail)
{
    struct drain_mail *m = (struct drain_mail *)(void *)mail;
    struct worker *w = worker_of(loop);
    if (m->stage > w->stage) {
        w->stage = m->stage;
        w->stage_until_ms = loop->now_ms + m->grace_ms;
        w->drain_timeout_ms = m->timeout_ms;
    }
    free(m);
}

static void post_all(struct fleet *fleet, const struct drain_mail *model)
{
    for (uint32_t i = 0; i < fleet->worker_n; i++) {
        struct drain_mail *m = malloc(sizeof *m);
        CHECK(m != NULL);
        *m = *model;
        m->mail.deliver = on_drain_mail;
        loop_post(fleet->workers[i].loop, &m->mail);
    }
}

void fleet_drain(struct fleet *fleet, uint64_t grace_ms, uint64_t timeout_ms)
{
    atomic_store(&fleet->draining, true);
    LOG(LOG_INFO, "process.draining", LF_U("grace_ms", grace_ms), LF_U("timeout_ms", timeout_ms),
        LF_S("hint", "a second signal ends at once"));
    post_all(fleet, &(struct drain_mail){
                        .stage = WORKER_GRACE, .grace_ms = grace_ms, .timeout_ms = timeout_ms});
}

void fleet_abort(struct fleet *fleet)
{
    atomic_store(&fleet->draining, true);
    post_all(fleet, &(struct drain_mail){.stage = WORKER_ENDS});
}

/* ---- a client leaves ---- */

void session_leave(struct session *s)
{
    bool half = s->server && (s->replies.n > 0 || s->copy_in || s->segment_open);
    s->leaving = true;
    if (s->tx_status == 'I' && !half)
        session_fatal(s, "57P01", "terminating connection due to shutdown of pgweir", NULL,
                      "Connect again: another process may be there already.");
}

/* Its turn comes somewhen in the time that all of the worker's clients share. */
void session_take_turn(struct session *s)
{
    struct worker *w = s->worker;
    struct loop *loop = w->loop;
    uint64_t share_ms = (uint64_t)w->session_n * PACE_MS, most_ms = w->drain_timeout_ms / 2;
    uint64_t in_ms = hub_random(&w->hub) % ((share_ms < most_ms ? share_ms : most_ms) + 1);
    in_ms += w->drain_timeout_ms / FIRST_PART;
    if (s->cancel)
        session_close(s, "cancel_request");
    else if (s->state == SESSION_STARTUP || s->state == SESSION_AUTH)
        timer_start(&loop->timers, &s->timer, loop->now_ms + LOGIN_MS);
    else if (s->state == SESSION_READY && !s->half_closed_ms)
        timer_start(&loop->timers, &s->timer, loop->now_ms + in_ms);
}

/* ---- the stages ---- */

void worker_each_session(struct worker *w, void (*fn)(struct session *s))
{
    struct list *next;
    for (struct list *n = w->sessions.next; n != &w->sessions; n = next) {
        next = n->next;
        fn(LIST_ENTRY(n, struct session, node));
    }
}

static void on_last_client(struct loop *loop, struct mail *mail)
{
    worker_of(loop)->no_more_clients = true;
    free(mail);
}

/* The worker that accepts has nobody left in hand: its mail to the others comes behind the last client. */
static void tell_last_client(struct worker *w)
{
    for (uint32_t i = 0; i < w->fleet->worker_n; i++) {
        struct mail *m = calloc(1, sizeof *m);
        CHECK(m != NULL);
        m->deliver = on_last_client;
        loop_post(w->fleet->workers[i].loop, m);
    }
}

static void drain(struct worker *w)
{
    bool accepts = w->id == 0;
    while (w->stage == WORKER_DRAINS && (w->session_n > 0 || !w->no_more_clients) &&
           w->loop->now_ms < w->stage_until_ms) {
        if (accepts && w->loop->stopping_n == 0) {
            accepts = false;
            tell_last_client(w);
        }
        loop_turn(w->loop, w->stage_until_ms);
    }
}

static void begin_drain(struct worker *w)
{
    w->stage = WORKER_DRAINS;
    w->stage_until_ms = w->loop->now_ms + w->drain_timeout_ms;
    lobby_close(w);
    worker_each_session(w, session_take_turn);
}

static void abort_session(struct session *s)
{
    session_close(s, "shutdown");
    conn_close(s->conn, "shutdown");
}

void worker_run(struct worker *w)
{
    struct loop *loop = w->loop;
    while (w->stage == WORKER_RUNS)
        loop_turn(loop, TIMER_NEVER);
    while (w->stage == WORKER_GRACE && loop->now_ms < w->stage_until_ms)
        loop_turn(loop, w->stage_until_ms);
    if (w->stage == WORKER_GRACE)
        begin_drain(w);
    drain(w);
    w->stage = WORKER_ENDS;
    lobby_close(w);
    worker_each_session(w, abort_session);
    hub_abort(&w->hub);
    loop_drain(loop, loop->now_ms + ABORT_MS);
    /* A server may be on its way to us from a worker that was slower: all are stopping now, so what
     * is in the mail is the last of it. The slowest may have a whole drain_timeout to go. */
    atomic_store(&w->finished, true);
    pthread_barrier_wait(&w->fleet->stopping);
    loop_turn(loop, loop->now_ms + 1);
    loop_drain(loop, loop->now_ms + ABORT_MS);
}
