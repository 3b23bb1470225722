#include "proxy/control/control.h"

#include "base/check.h"
#include "proxy/control/catalog_jobs.h"
#include "proxy/control/inside.h"
#include "proxy/control/outbox.h"
#include "proxy/control/pg.h"
#include "proxy/io/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CLOSE_MS 5000 /* for the last completions; the kernel needs none of it */

static void deliver_stop(struct loop *loop, struct mail *mail);
static void deliver_reload(struct loop *loop, struct mail *mail);

/* ---- life ---- */

static struct loop *make_loop(struct control *c)
{
    /* It receives through libpq, not through the ring: the fewest buffers will do. */
    struct port_config config = {
        .sq_entries = 64,
        .cq_entries = 1024,
        .buffers = {{.bytes = 256, .count = 32}, {.bytes = 256, .count = 32}}};
    struct port_failure failure = {0};
    struct port *port = port_uring_create(&config, &failure);
    if (!port) {
        char text[512];
        port_uring_explain(&failure, text, sizeof text);
        LOG(LOG_ERROR, "control.failed", LF_S("error", text));
        return NULL;
    }
    return loop_new(port, CONTROL_LOOP_ID, c);
}

static bool open_log(struct control *c)
{
    const char *path = c->snapshot->conf->logfile;
    c->log_fd = reload_open_log(path);
    if (c->log_fd < 0)
        LOG(LOG_ERROR, "control.failed", LF_S("logfile", path), LF_S("error", strerror(errno)));
    return c->log_fd >= 0;
}

static void on_look(struct timer *timer)
{
    struct control *c = LIST_ENTRY(timer, struct control, look_timer);
    pressure_look(c);
    certificate_look(c);
    watchdog_look(c);
    timer_start(&c->loop->timers, timer, c->loop->now_ms + CONTROL_LOOK_MS);
}

struct control *control_new(struct snapshot *first, const struct conf_sources *sources,
                            const struct control_hooks *hooks)
{
    struct control *c = calloc(1, sizeof *c);
    CHECK(c != NULL);
    *c = (struct control){.snapshot = snapshot_ref(first),
                          .sources = sources,
                          .hooks = *hooks,
                          .signal_fd = -1,
                          .stop_mail.deliver = deliver_stop,
                          .reload_mail.deliver = deliver_reload};
    list_init(&c->observed);
    takeover_init(c);
    list_init(&c->catalogs);
    reload_configure_log(first->conf);
    if (open_log(c))
        c->loop = make_loop(c);
    if (!c->loop) {
        if (c->log_fd > STDERR_FILENO)
            close(c->log_fd);
        snapshot_unref(c->snapshot);
        free(c);
        return NULL;
    }
    pg_clean_environment();
    timer_init(&c->resolve_timer, NULL);
    timer_init(&c->look_timer, on_look);
    c->heartbeats = calloc(c->hooks.worker_n + 1, sizeof *c->heartbeats);
    CHECK(c->heartbeats != NULL);
    c->outbox = outbox_new(c->loop);
    observe_follow(c);
    catalog_jobs_follow(c);
    return c;
}

/* Everything that the loop still waits for comes to its end. */
static void close_all(struct control *c)
{
    c->stopping = c->closed = true;
    c->running = false;
    signals_stop(c);
    timer_stop(&c->loop->timers, &c->look_timer);
    takeover_stop(c);
    observe_stop(c);
    catalog_jobs_stop(c);
    outbox_close(c->outbox);
    uint64_t deadline_ms = c->loop->now_ms + CLOSE_MS;
    while ((!list_empty(&c->observed) || !list_empty(&c->catalogs) || c->signal_watch.armed ||
            takeover_waits(c) || atomic_load(&c->loop->inbox)) &&
           c->loop->now_ms < deadline_ms)
        loop_turn(c->loop, deadline_ms);
    if (c->signal_watch.loop && !c->signal_watch.armed)
        watch_close(&c->signal_watch);
    takeover_close(c);
}

void control_run(struct control *c)
{
    CHECK(c->loop == loop_self && !c->closed);
    log_start(c->loop, c->log_fd);
    c->log_fd = -1; /* the log's now */
    signals_start(c);
    c->running = true;
    on_look(&c->look_timer);
    observe_start_names(c);
    while (!c->stopping)
        loop_turn(c->loop, TIMER_NEVER);
    close_all(c);
    log_stop();
}

void control_free(struct control *c)
{
    if (!c->closed)
        close_all(c);
    CHECK(list_empty(&c->observed));
    if (c->log_fd > STDERR_FILENO)
        close(c->log_fd);
    outbox_unref(c->outbox);
    loop_free(c->loop);
    snapshot_unref(c->snapshot);
    free(c->heartbeats);
    free(c);
}

struct loop *control_loop(struct control *c)
{
    return c->loop;
}

/* ---- from any thread ---- */

static void deliver_stop(struct loop *loop, struct mail *mail)
{
    (void)mail;
    ((struct control *)loop->context)->stopping = true;
}

void control_stop(struct control *c)
{
    if (!atomic_exchange(&c->stop_posted, true))
        loop_post(c->loop, &c->stop_mail);
}

static void deliver_reload(struct loop *loop, struct mail *mail)
{
    struct control *c = loop->context;
    (void)mail;
    atomic_store(&c->reload_posted, false); /* before the files are read: what comes now counts */
    reload_request(c);
}

void control_reload(struct control *c)
{
    if (!atomic_exchange(&c->reload_posted, true))
        loop_post(c->loop, &c->reload_mail);
}

struct news {
    struct mail mail;        /* first */
    struct cluster *cluster; /* a reference */
    uint32_t node;
    bool in_recovery;
};

static void post_news(struct control *c, struct cluster *cluster, const struct news *what)
{
    struct news *news = malloc(sizeof *news);
    CHECK(news != NULL);
    *news = *what;
    news->cluster = cluster_ref(cluster);
    loop_post(c->loop, &news->mail);
}

static void news_free(struct news *news)
{
    cluster_unref(news->cluster);
    free(news);
}

static void deliver_nudge(struct loop *loop, struct mail *mail)
{
    struct control *c = loop->context;
    struct news *news = (struct news *)(void *)mail;
    atomic_store(&news->cluster->nudged, false);
    if (!c->stopping)
        observe_nudge(c, news->cluster);
    news_free(news);
}

void control_nudge(struct control *c, struct cluster *cluster)
{
    if (!atomic_exchange(&cluster->nudged, true))
        post_news(c, cluster, &(struct news){.mail.deliver = deliver_nudge});
}

static void deliver_role(struct loop *loop, struct mail *mail)
{
    struct control *c = loop->context;
    struct news *news = (struct news *)(void *)mail;
    if (!c->stopping)
        observe_role_seen(c, news->cluster, news->node, news->in_recovery);
    news_free(news);
}

void control_role_seen(struct control *c, struct cluster *cluster, uint32_t node, bool in_recovery)
{
    CHECK(node < cluster->node_n);
    post_news(
        c, cluster,
        &(struct news){.mail.deliver = deliver_role, .node = node, .in_recovery = in_recovery});
}

struct wish {
    struct mail mail;          /* first */
    struct catalog_slot *slot; /* a reference */
};

static void deliver_wish(struct loop *loop, struct mail *mail)
{
    struct control *c = loop->context;
    struct wish *wish = (struct wish *)(void *)mail;
    if (!c->stopping)
        catalog_jobs_wish(c, wish->slot);
    catalog_slot_unref(wish->slot);
    free(wish);
}

void control_catalog(struct control *c, struct catalog_slot *slot)
{
    struct wish *wish = malloc(sizeof *wish);
    CHECK(wish != NULL);
    *wish = (struct wish){.mail.deliver = deliver_wish, .slot = catalog_slot_ref(slot)};
    loop_post(c->loop, &wish->mail);
}
