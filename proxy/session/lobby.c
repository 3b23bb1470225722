/* proxy/session/lobby.c: clients that have come, until a worker takes them in.
 *
 * What    worker 0 accepts and hands each client to the worker with the fewest, so that 16 clients on 8 workers are 2
 *         each. While as many as may be (places.c) have not proved who they are, who comes waits in the lobby, unread:
 *         a socket and nothing else. Whoever has said something goes in when there is a place, in order; who finds none
 *         within client_login_timeout is told so.
 * Silent  a client says at once what it wants, a flood of connections does not. So nobody goes in from the lobby who
 *         has not, and who stays silent for LOBBY_SILENT_MS is sent away: from the lobby, and from the workers if
 *         somebody waits for that place.
 * Limits  LOBBY_MAX, and who had been accepted by then; file descriptors. Beyond, the kernel's backlog holds who comes.
 * Threads a lobby is its worker's; fleet->unwelcome_n, how many silent ones may be sent off, is everybody's.
 */
#include "proxy/session/session.h"

#include "base/check.h"
#include "proxy/io/log.h"
#include "proxy/wire/put.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define FD_RESERVE 64 /* descriptors that clients leave for servers */
#define ACCEPT_PAUSE_MS 100
#define LOBBY_MAX 4096
#define LOBBY_LOOK_MS 20
#define LOBBY_SILENT_MS 3000 /* for a machine that does many other things */

struct newcomer {
    struct mail mail; /* first */
    struct list node;
    uint64_t since_ms;
    int fd;
    bool spoke;   /* there is something to be read, or the end */
    bool in_vain; /* it has waited too long */
};

static const char too_many[] = "sorry, too many clients already";
static const char silent[] = "Others want to log in, and this connection has said nothing.";
static const char retry[] = "Retry with backoff and jitter.";

/* Who sits here has sent nothing, or there is no descriptor to be careful with: the message goes out at once, or not at
 * all. */
static void send_away(struct worker *w, int fd, const char *detail)
{
    uint8_t bytes[256];
    struct put o = put_into(bytes, sizeof bytes);
    put_error(&o, &(struct wire_error){"FATAL", "53300", too_many, detail, retry});
    w->stats.sheds++;
    if (send(fd, o.p, o.n, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
        shutdown(fd, SHUT_WR);
    close(fd);
}

/* ---- taking in ---- */

static void take_in(struct worker *w, struct newcomer *n)
{
    if (w->stage == WORKER_ENDS) {
        w->stats.sheds++;
        close(n->fd);
        places_give_unproved(w->fleet);
        atomic_fetch_sub(&w->fleet->per_worker[w->id], 1);
    } else {
        struct session *s = session_accept(w, n->fd);
        w->stats.sheds += n->in_vain;
        if (n->in_vain)
            session_fatal(s, "53300", too_many,
                          "More clients want to log in than can do so within "
                          "client_login_timeout.",
                          retry);
    }
    free(n);
}

static void on_newcomer(struct loop *loop, struct mail *mail)
{
    take_in(worker_of(loop), (struct newcomer *)(void *)mail);
}

/* It has a place among those who have not proved yet who they are. */
static void hand_on(struct worker *self, struct newcomer *n)
{
    struct fleet *fleet = self->fleet;
    uint32_t best = 0;
    for (uint32_t i = 1; i < fleet->worker_n; i++)
        if (atomic_load(&fleet->per_worker[i]) < atomic_load(&fleet->per_worker[best]))
            best = i;
    atomic_fetch_add(&fleet->per_worker[best], 1);
    n->mail.deliver = on_newcomer;
    if (best == self->id)
        take_in(self, n);
    else
        loop_post(fleet->workers[best].loop, &n->mail);
}

/* ---- the lobby ---- */

static bool take_unwelcome(struct fleet *fleet)
{
    unsigned n = atomic_load(&fleet->unwelcome_n);
    do {
        if (n == 0)
            return false;
    } while (!atomic_compare_exchange_weak(&fleet->unwelcome_n, &n, n - 1));
    return true;
}

static void on_make_room(struct loop *loop, struct mail *mail)
{
    struct worker *w = worker_of(loop);
    struct list *next;
    for (struct list *n = w->silent.next; n != &w->silent; n = next) {
        next = n->next;
        struct session *s = LIST_ENTRY(n, struct session, silent);
        if (loop->now_ms < s->since_ms + LOBBY_SILENT_MS)
            break;
        if (s->conn->in.bytes > 0) /* it is about to be heard */
            continue;
        if (!take_unwelcome(w->fleet))
            break;
        w->stats.sheds++;
        session_fatal(s, "53300", too_many, silent, retry);
    }
    free(mail);
}

static void leave_lobby(struct worker *w, struct newcomer *n)
{
    list_remove(&n->node);
    w->lobby_n--;
}

static void see_who_speaks(struct worker *w)
{
    struct pollfd *fds = calloc(w->lobby_n, sizeof *fds);
    CHECK(fds != NULL);
    nfds_t i = 0;
    for (struct list *n = w->lobby.next; n != &w->lobby; n = n->next, i++) {
        const struct newcomer *c = LIST_ENTRY(n, struct newcomer, node);
        fds[i] = (struct pollfd){.fd = c->spoke ? -1 : c->fd, .events = POLLIN};
    }
    if (poll(fds, i, 0) > 0) {
        i = 0;
        for (struct list *n = w->lobby.next; n != &w->lobby; n = n->next, i++)
            if (fds[i].revents)
                LIST_ENTRY(n, struct newcomer, node)->spoke = true;
    }
    free(fds);
}

/* True: it waits on. */
static bool waits_on(struct worker *w, struct newcomer *n)
{
    uint64_t waited_ms = w->loop->now_ms - n->since_ms;
    uint64_t timeout_ms = w->hub.snapshot->conf->client_login_timeout_ms;
    bool late = timeout_ms && waited_ms >= timeout_ms;
    if (!n->spoke && !late && waited_ms < LOBBY_SILENT_MS)
        return true;
    if (!n->spoke) {
        leave_lobby(w, n);
        send_away(w, n->fd, silent);
        free(n);
        return false;
    }
    n->in_vain = !places_take_unproved(w);
    if (n->in_vain && !late)
        return true;
    if (n->in_vain)
        places_force_unproved(w->fleet);
    leave_lobby(w, n);
    hand_on(w, n);
    return false;
}

/* How many have spoken and find no place. */
static unsigned let_in(struct worker *w)
{
    unsigned waiting = 0;
    struct list *next;
    see_who_speaks(w);
    for (struct list *n = w->lobby.next; n != &w->lobby; n = next) {
        next = n->next;
        struct newcomer *c = LIST_ENTRY(n, struct newcomer, node);
        waiting += waits_on(w, c) && c->spoke;
    }
    return waiting;
}

static void on_look(struct timer *timer)
{
    struct worker *w = LIST_ENTRY(timer, struct worker, lobby_timer);
    struct fleet *fleet = w->fleet;
    unsigned waiting = let_in(w);
    atomic_store(&fleet->unwelcome_n, waiting);
    for (uint32_t i = 0; waiting > 0 && i < fleet->worker_n; i++) {
        struct mail *m = calloc(1, sizeof *m);
        CHECK(m != NULL);
        m->deliver = on_make_room;
        loop_post(fleet->workers[i].loop, m);
    }
    if (w->lobby_n > 0)
        timer_start(&w->loop->timers, timer, w->loop->now_ms + LOBBY_LOOK_MS);
}

/* ---- accepting ---- */

/* The kernel hands out the lowest descriptor that is free, so its number tells how many are left. */
static bool is_near_limit(int fd, unsigned reserve)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 && (rlim_t)fd + reserve >= limit.rlim_cur;
}

static void on_accept_timer(struct timer *timer)
{
    struct worker *w = LIST_ENTRY(timer, struct worker, accept_timer);
    int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    bool near = fd < 0 || is_near_limit(fd, FD_RESERVE);
    if (fd >= 0)
        close(fd);
    if (near || w->lobby_n >= LOBBY_MAX) {
        timer_start(&w->loop->timers, timer, w->loop->now_ms + ACCEPT_PAUSE_MS);
        return;
    }
    for (unsigned i = 0; i < w->listener_n; i++)
        listener_resume(w->listeners[i]);
    LOG(LOG_INFO, "accept.resumed");
}

/* Who comes now waits in the backlog. */
static void pause_accepting(struct worker *w, const char *reason, const char *limit)
{
    if (timer_running(&w->accept_timer))
        return;
    for (unsigned i = 0; i < w->listener_n; i++)
        listener_pause(w->listeners[i]);
    timer_start(&w->loop->timers, &w->accept_timer, w->loop->now_ms + ACCEPT_PAUSE_MS);
    LOG(LOG_WARN, "accept.paused", LF_S("reason", reason), LF_S("limit", limit));
}

static void on_accept(struct loop *loop, int fd, void *context)
{
    struct worker *w = context;
    /* Descriptors are kept free for servers: without those no client could leave. */
    if (is_near_limit(fd, FD_RESERVE))
        pause_accepting(w, "few file descriptors are left", "RLIMIT_NOFILE");
    if (is_near_limit(fd, FD_RESERVE / 2)) { /* of those that had been accepted by then */
        send_away(w, fd, "Few file descriptors are left.");
        return;
    }
    struct newcomer *n = calloc(1, sizeof *n);
    CHECK(n != NULL);
    *n = (struct newcomer){.fd = fd, .since_ms = loop->now_ms};
    if (w->stage >= WORKER_DRAINS) { /* the last ones */
        places_force_unproved(w->fleet);
        hand_on(w, n);
        return;
    }
    if (w->lobby_n == 0 && places_take_unproved(w)) {
        hand_on(w, n);
        return;
    }
    list_push_back(&w->lobby, &n->node);
    if (++w->lobby_n == LOBBY_MAX)
        pause_accepting(w, "many wait to log in", "max_client_conn");
    if (!timer_running(&w->lobby_timer))
        timer_start(&loop->timers, &w->lobby_timer, loop->now_ms + LOBBY_LOOK_MS);
}

void lobby_init(struct worker *w)
{
    list_init(&w->lobby);
    list_init(&w->silent);
    timer_init(&w->lobby_timer, on_look);
    timer_init(&w->accept_timer, on_accept_timer);
}

void lobby_open(struct worker *w)
{
    struct fleet *fleet = w->fleet;
    for (unsigned i = 0; i < fleet->listen_n; i++)
        w->listeners[w->listener_n++] = listener_start(w->loop, fleet->listen_fds[i], on_accept, w);
}

void lobby_close(struct worker *w)
{
    timer_stop(&w->loop->timers, &w->accept_timer);
    timer_stop(&w->loop->timers, &w->lobby_timer);
    for (unsigned i = 0; i < w->listener_n; i++)
        listener_stop(w->listeners[i]);
    w->listener_n = 0;
    while (!list_empty(&w->lobby)) {
        struct newcomer *n = LIST_ENTRY(w->lobby.next, struct newcomer, node);
        leave_lobby(w, n);
        places_force_unproved(w->fleet);
        hand_on(w, n);
    }
}
