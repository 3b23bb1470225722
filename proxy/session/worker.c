#include "proxy/session/worker.h"

#include "base/check.h"
#include "proxy/io/log.h"
#include "proxy/pool/random.h"
#include "proxy/session/session.h"

#include <stdio.h>
#include <stdlib.h>

#define SQ_ENTRIES 512
#define CQ_ENTRIES 16384
#define SMALL_BYTES 16384
#define BULK_BYTES 65536
#define BULK_COUNT 64

/* ---- virtual pids ---- */

static struct session **pid_slot(struct session **table, uint32_t cap, uint32_t pid)
{
    for (uint32_t i = pid * 2654435761U;; i++) {
        struct session **slot = &table[i & (cap - 1)];
        if (!*slot || (*slot)->pid == pid)
            return slot;
    }
}

struct session *worker_find_pid(struct worker *w, uint32_t pid)
{
    return w->by_pid_n ? *pid_slot(w->by_pid, w->by_pid_cap, pid) : NULL;
}

static void grow_pids(struct worker *w)
{
    uint32_t cap = w->by_pid_cap ? w->by_pid_cap * 2 : 256;
    struct session **table = calloc(cap, sizeof *table);
    CHECK(table != NULL);
    for (uint32_t i = 0; i < w->by_pid_cap; i++)
        if (w->by_pid[i])
            *pid_slot(table, cap, w->by_pid[i]->pid) = w->by_pid[i];
    free(w->by_pid);
    w->by_pid = table;
    w->by_pid_cap = cap;
}

uint32_t worker_take_pid(struct worker *w, struct session *s)
{
    uint32_t pid;
    if (w->by_pid_n * 2 >= w->by_pid_cap)
        grow_pids(w);
    do {
        random_bytes(&pid, sizeof pid);
        pid = (pid & ((1U << WORKER_PID_BITS) - 1)) | w->id << WORKER_PID_BITS;
    } while (!(pid & WORKER_PID_VIRTUAL) || *pid_slot(w->by_pid, w->by_pid_cap, pid));
    *pid_slot(w->by_pid, w->by_pid_cap, pid) = s;
    w->by_pid_n++;
    s->pid = pid;
    return pid;
}

void worker_drop_pid(struct worker *w, struct session *s)
{
    struct session **slot = pid_slot(w->by_pid, w->by_pid_cap, s->pid);
    CHECK(*slot == s);
    *slot = NULL;
    w->by_pid_n--;
    for (uint32_t i = (uint32_t)(slot - w->by_pid);;) { /* what was pushed past the hole moves up */
        i = (i + 1) & (w->by_pid_cap - 1);
        struct session *moved = w->by_pid[i];
        if (!moved)
            return;
        w->by_pid[i] = NULL;
        *pid_slot(w->by_pid, w->by_pid_cap, moved->pid) = moved;
    }
}

/* ---- mail from the control thread ---- */

struct control_mail {
    struct mail mail; /* first */
    struct snapshot *snapshot;
    struct cluster *cluster;
};

static void post_all(struct fleet *fleet, const struct control_mail *model)
{
    for (uint32_t i = 0; i < fleet->worker_n; i++) {
        struct control_mail *m = malloc(sizeof *m);
        CHECK(m != NULL);
        *m = *model;
        if (m->snapshot)
            snapshot_ref(m->snapshot);
        if (m->cluster)
            cluster_ref(m->cluster);
        loop_post(fleet->workers[i].loop, &m->mail);
    }
}

static void on_snapshot_mail(struct loop *loop, struct mail *mail)
{
    struct control_mail *m = (struct control_mail *)(void *)mail;
    hub_set_snapshot(loop->context, m->snapshot);
    worker_each_session(worker_of(loop), deadline_look); /* its limits may be new */
    free(m);
}

void fleet_snapshot(struct fleet *fleet, struct snapshot *snapshot)
{
    post_all(fleet, &(struct control_mail){.mail.deliver = on_snapshot_mail, .snapshot = snapshot});
    snapshot_unref(snapshot);
}

static void each_session_of(struct worker *w, struct cluster *cluster)
{
    struct list *next;
    for (struct list *n = w->sessions.next; n != &w->sessions; n = next) {
        next = n->next;
        session_cluster_changed(LIST_ENTRY(n, struct session, node), cluster);
    }
}

static void on_cluster_mail(struct loop *loop, struct mail *mail)
{
    struct control_mail *m = (struct control_mail *)(void *)mail;
    struct worker *w = worker_of(loop);
    hub_cluster_changed(&w->hub, m->cluster);
    each_session_of(w, m->cluster);
    cluster_unref(m->cluster);
    free(m);
}

void fleet_cluster_changed(struct fleet *fleet, struct cluster *cluster)
{
    post_all(fleet, &(struct control_mail){.mail.deliver = on_cluster_mail, .cluster = cluster});
}

static void on_sampled_mail(struct loop *loop, struct mail *mail)
{
    struct control_mail *m = (struct control_mail *)(void *)mail;
    struct worker *w = worker_of(loop);
    atomic_store(&m->cluster->told[w->id], false); /* first: what comes now is told again */
    floors_sampled(w, m->cluster);
    cluster_unref(m->cluster);
    free(m);
}

void fleet_sampled(struct fleet *fleet, struct cluster *cluster)
{
    for (uint32_t i = 0; i < fleet->worker_n; i++) {
        if (!atomic_load(&cluster->waiting[i]) || atomic_exchange(&cluster->told[i], true))
            continue;
        struct control_mail *m = malloc(sizeof *m);
        CHECK(m != NULL);
        *m =
            (struct control_mail){.mail.deliver = on_sampled_mail, .cluster = cluster_ref(cluster)};
        loop_post(fleet->workers[i].loop, &m->mail);
    }
}

/* ---- the thread ---- */

static void on_pressure_mail(struct loop *loop, struct mail *mail)
{
    hub_spare_memory(loop->context);
    free(mail);
}

void fleet_pressure(struct fleet *fleet, unsigned level)
{
    atomic_store(&fleet->pressure, level);
    if (level >= FLEET_PRESSURE_CRITICAL)
        post_all(fleet, &(struct control_mail){.mail.deliver = on_pressure_mail});
}

static struct port *make_port(struct fleet *fleet)
{
    const struct conf *conf = fleet->first->conf;
    uint32_t small = 32;
    while (small < conf->recv_buffers && small < 32768)
        small *= 2;
    struct port_config config = {
        .sq_entries = SQ_ENTRIES,
        .cq_entries = CQ_ENTRIES,
        .buffers = {[PORT_SMALL] = {.bytes = SMALL_BYTES, .count = small},
                    [PORT_BULK] = {.bytes = BULK_BYTES, .count = BULK_COUNT}},
    };
    struct port_failure failure;
    struct port *port = port_uring_create(&config, &failure);
    if (!port) {
        pthread_mutex_lock(&fleet->lock);
        fleet->failure = failure;
        fleet->failed_n++;
        pthread_cond_signal(&fleet->changed);
        pthread_mutex_unlock(&fleet->lock);
    }
    return port;
}

static void wait_until_all_ready(struct fleet *fleet)
{
    pthread_mutex_lock(&fleet->lock);
    fleet->ready_n++;
    pthread_cond_broadcast(&fleet->changed);
    while (fleet->ready_n + fleet->failed_n < fleet->worker_n)
        pthread_cond_wait(&fleet->changed, &fleet->lock);
    pthread_mutex_unlock(&fleet->lock);
}

/* What is still in flight: the line that shows zeros, unless something would not end in time. */
static void finish_worker(struct worker *w)
{
    struct loop *loop = w->loop;
    struct fleet *fleet = w->fleet;
    unsigned buffers = loop->bufs.lent[PORT_SMALL] + loop->bufs.lent[PORT_BULK];
    loop_tell_left(loop);
    LOG(loop->conn_n || w->hub.server_n || loop->bufs.heap_n ? LOG_WARN : LOG_INFO,
        "worker.stopped", LF_U("worker", w->id), LF_U("clients", w->session_n),
        LF_U("servers", w->hub.server_n), LF_U("conns", loop->conn_n),
        LF_U("buffers_small", loop->bufs.lent[PORT_SMALL]),
        LF_U("buffers_bulk", loop->bufs.lent[PORT_BULK]), LF_U("heap_blocks", loop->bufs.heap_n),
        LF_U("turns", loop->stats.turns), LF_U("enters", loop->port->stats.enters),
        LF_U("enobufs", loop->stats.enobufs), LF_U("starved", loop->stats.starved),
        LF_U("unpins", loop->stats.unpins), LF_U("cq_overflow", loop->port->stats.cq_overflow),
        LF_U("queries", w->stats.queries), LF_U("transactions", w->stats.transactions),
        LF_U("to_primary", w->stats.to_primary), LF_U("to_replica", w->stats.to_replica),
        LF_U("reruns", w->stats.reruns), LF_U("sheds", w->stats.sheds), LF_U("moves", w->hub.moves),
        LF_U("dials", w->hub.dials), LF_U("label_syncs", w->hub.label_syncs),
        LF_U("looks", w->stats.looks));
    atomic_fetch_add(&fleet->left.clients, w->session_n);
    atomic_fetch_add(&fleet->left.servers, w->hub.server_n);
    atomic_fetch_add(&fleet->left.conns, loop->conn_n);
    atomic_fetch_add(&fleet->left.buffers, buffers);
    atomic_fetch_add(&fleet->left.heap_blocks, loop->bufs.heap_n);
}

/* Others may still post to us: control until its own loop has ended, which fleet_join() waits for, and
 * workers that pass mail on, each piece at most once per worker. */
static void free_worker(struct worker *w)
{
    struct loop *loop = w->loop;
    struct fleet *fleet = w->fleet;
    pthread_barrier_wait(&fleet->nobody_posts);
    for (uint32_t i = 0; i <= fleet->worker_n; i++) {
        loop_turn(loop, loop->now_ms);
        pthread_barrier_wait(&fleet->stopping);
    }
    if (loop->conn_n > 0 || w->hub.server_n > 0 || w->session_n > 0)
        return; /* the kernel cleans up; freeing now would only hide it */
    hub_free(&w->hub);
    loop_free(loop);
    free(w->by_pid);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct fleet *fleet = w->fleet;
    char name[16];
    snprintf(name, sizeof name, "pgweir-w%u", w->id);
    pthread_setname_np(pthread_self(), name);
    struct port *port = make_port(fleet);
    if (!port)
        return NULL;
    w->loop = loop_new(port, w->id, &w->hub);
    hub_init(&w->hub, w->loop, w->id, fleet->first);
    w->hub.peers = fleet->hubs;
    w->hub.peer_n = fleet->worker_n;
    w->hub.reports = fleet->reports;
    lobby_init(w);
    wait_until_all_ready(fleet);
    if (fleet->failed_n == 0) {
        if (w->id == 0)
            lobby_open(w);
        worker_run(w);
    }
    finish_worker(w);
    if (atomic_fetch_add(&fleet->stopped_n, 1) + 1 == fleet->worker_n && fleet->all_stopped)
        fleet->all_stopped(fleet->context);
    if (fleet->failed_n == 0)
        free_worker(w);
    return NULL;
}

int fleet_start(struct fleet *fleet, uint32_t worker_n, struct snapshot *snapshot,
                const int *listen_fds, unsigned listen_n)
{
    CHECK(worker_n > 0 && worker_n <= WORKER_PIDS_MAX);
    fleet->worker_n = worker_n;
    fleet->first = snapshot;
    fleet->listen_n = listen_n;
    fleet->listen_fds = calloc(listen_n ? listen_n : 1, sizeof *fleet->listen_fds);
    fleet->workers = calloc(worker_n, sizeof *fleet->workers);
    fleet->hubs = calloc(worker_n, sizeof(struct hub *));
    CHECK(fleet->workers && fleet->hubs && fleet->listen_fds);
    memcpy(fleet->listen_fds, listen_fds, listen_n * sizeof *listen_fds);
    random_bytes(fleet->secret, sizeof fleet->secret);
    pthread_mutex_init(&fleet->lock, NULL);
    pthread_cond_init(&fleet->changed, NULL);
    pthread_barrier_init(&fleet->stopping, NULL, worker_n);
    pthread_barrier_init(&fleet->nobody_posts, NULL, worker_n + 1);
    for (uint32_t i = 0; i < worker_n; i++) {
        struct worker *w = &fleet->workers[i];
        w->fleet = fleet;
        w->id = i;
        list_init(&w->sessions);
        list_init(&w->floor_waiters);
        fleet->hubs[i] = &w->hub;
    }
    for (uint32_t i = 0; i < worker_n; i++)
        CHECK(pthread_create(&fleet->workers[i].thread, NULL, worker_main, &fleet->workers[i]) ==
              0);
    pthread_mutex_lock(&fleet->lock);
    while (fleet->ready_n + fleet->failed_n < worker_n)
        pthread_cond_wait(&fleet->changed, &fleet->lock);
    unsigned failed_n = fleet->failed_n;
    pthread_mutex_unlock(&fleet->lock);
    return failed_n ? -1 : 0;
}

uint32_t fleet_beat(const struct fleet *fleet, uint32_t worker)
{
    const struct worker *w = &fleet->workers[worker];
    return atomic_load(&w->finished) ? LOOP_SLEEPS : loop_beat(w->loop);
}

void fleet_join(struct fleet *fleet)
{
    pthread_barrier_wait(&fleet->nobody_posts);
    for (uint32_t i = 0; i < fleet->worker_n; i++)
        pthread_join(fleet->workers[i].thread, NULL);
    LOG(LOG_INFO, "process.stopped", LF_U("clients", atomic_load(&fleet->left.clients)),
        LF_U("servers", atomic_load(&fleet->left.servers)),
        LF_U("conns", atomic_load(&fleet->left.conns)),
        LF_U("buffers", atomic_load(&fleet->left.buffers)),
        LF_U("heap_blocks", atomic_load(&fleet->left.heap_blocks)),
        LF_U("budget", budget_total_used()), LF_U("log_dropped", log_dropped()));
    pthread_barrier_destroy(&fleet->stopping);
    pthread_barrier_destroy(&fleet->nobody_posts);
    free(fleet->workers);
    free(fleet->hubs);
    free(fleet->listen_fds);
}
