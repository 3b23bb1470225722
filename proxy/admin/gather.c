#include "proxy/admin/gather.h"

static void finish(struct loop *loop, struct gathering *g)
{
    struct session *s = worker_find_pid(worker_of(loop), g->pid);
    if (s && s->state == SESSION_READY && s->console_busy) {
        s->console_busy = false;
        g->ops->answer(g, s);
        conn_in_again(s->conn);
    }
    g->ops->free(g);
}

/* Visit one worker after the other, and come home. */
static void on_gathering(struct loop *loop, struct mail *mail)
{
    struct gathering *g = (struct gathering *)(void *)mail;
    if (g->at == g->fleet->worker_n) {
        finish(loop, g);
        return;
    }
    g->ops->collect(g, worker_of(loop));
    g->at++;
    uint32_t next = g->at < g->fleet->worker_n ? g->at : g->asker;
    loop_post(g->fleet->workers[next].loop, &g->mail);
}

void gather_start(struct session *s, struct gathering *g, const struct gather_ops *ops)
{
    g->mail.deliver = on_gathering;
    g->ops = ops;
    g->fleet = s->worker->fleet;
    g->at = 0;
    g->asker = s->worker->id;
    g->pid = s->pid;
    s->console_busy = true;
    loop_post(g->fleet->workers[0].loop, &g->mail);
}
