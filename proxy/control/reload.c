/* proxy/control/reload.c: reading files again, off the loop. One helper (pgweir-files) at a time:
 * a request that comes while it reads is run after it, so the newest file always counts. */
#include "base/check.h"
#include "proxy/control/catalog_jobs.h"
#include "proxy/control/inside.h"
#include "proxy/control/outbox.h"
#include "proxy/io/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHANGES_SHOWN 16

struct job {
    struct mail mail; /* first */
    struct control *control;
    struct outbox *outbox;      /* a reference */
    struct snapshot *was;       /* a reference */
    struct conf_sources source; /* what it points to outlives the process's helpers */
    bool reload;                /* false: the log file alone */
    /* the result */
    struct snapshot *snapshot; /* a reference, or NULL: failed, or not asked for */
    struct conf_errors errors;
    char error[300]; /* beside errors; "": none */
    int log_fd;      /* -1: failed */
};

int reload_open_log(const char *path)
{
    if (!path[0])
        return STDERR_FILENO;
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
}

void reload_configure_log(const struct conf *conf)
{
    _Static_assert((int)CONF_LOG_ERROR == (int)LOG_ERROR && (int)CONF_LOG_JSON == (int)LOG_JSON,
                   "conf's values are the log's");
    log_configure((enum log_level)conf->log_level, (enum log_format)conf->log_format);
}

/* ---- the helper thread ---- */

static void job_free(struct job *job)
{
    if (job->log_fd > STDERR_FILENO)
        close(job->log_fd);
    snapshot_unref(job->snapshot);
    snapshot_unref(job->was);
    conf_errors_free(&job->errors);
    outbox_unref(job->outbox);
    free(job);
}

static const struct conf *load(struct job *job)
{
    if (!job->reload)
        return job->was->conf;
    struct conf *conf = conf_load(&job->source, &job->errors);
    if (!conf)
        return NULL;
    job->snapshot = snapshot_new(conf, job->was, job->error, sizeof job->error);
    if (!job->snapshot)
        conf_free(conf);
    return job->snapshot ? conf : NULL;
}

static void *run_job(void *argument)
{
    struct job *job = argument;
    const struct conf *conf = load(job);
    if (conf) {
        job->log_fd = reload_open_log(conf->logfile);
        if (job->log_fd < 0)
            snprintf(job->error, sizeof job->error, "logfile: %s: %s", conf->logfile,
                     strerror(errno));
    }
    if (!outbox_post(job->outbox, &job->mail))
        job_free(job);
    return NULL;
}

/* ---- the control thread ---- */

static void log_messages(const struct job *job, bool failed)
{
    for (size_t i = 0; i < job->errors.n; i++) {
        const struct conf_message *m = &job->errors.list[i];
        if (m->severity == CONF_ERROR)
            LOG(LOG_ERROR, "config.reload_failed", LF_S("error", m->text));
        else
            LOG(LOG_WARN, "config.warning", LF_S("warning", m->text));
    }
    if (failed && job->error[0])
        LOG(LOG_ERROR, "config.reload_failed", LF_S("error", job->error));
}

static void log_restart_changes(const struct conf *was, const struct conf *now)
{
    const char *names[CHANGES_SHOWN];
    char list[LOG_VALUE_MAX] = "";
    size_t n = conf_restart_changes(was, now, names, CHANGES_SHOWN), at = 0;
    for (size_t i = 0; i < n && i < CHANGES_SHOWN && at < sizeof list; i++)
        at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", i > 0 ? "," : "", names[i]);
    if (n > 0)
        LOG(LOG_WARN, "config.needs_restart", LF_S("options", list), LF_U("count", n));
}

static void take_log(struct job *job)
{
    log_switch(job->log_fd);
    job->log_fd = -1;
}

static void take_snapshot(struct control *c, struct job *job)
{
    struct snapshot *now = job->snapshot;
    job->snapshot = NULL;
    snapshot_unref(c->snapshot); /* job->was keeps it until we are done */
    c->snapshot = now;
    reload_configure_log(now->conf);
    take_log(job);
    log_restart_changes(job->was->conf, now->conf);
    observe_follow(c);
    catalog_jobs_follow(c);
    LOG(LOG_INFO, "config.reloaded", LF_S("file", now->conf->path),
        LF_U("databases", now->conf->database_n));
    c->hooks.snapshot_ready(c->hooks.context, snapshot_ref(now));
}

static void start_job(struct control *c, bool reload);

static void deliver_job(struct loop *loop, struct mail *mail)
{
    (void)loop;
    struct job *job = (struct job *)(void *)mail;
    struct control *c = job->control;
    bool failed = job->log_fd < 0;
    c->files_busy = false;
    if (job->reload)
        log_messages(job, failed);
    else if (failed)
        LOG(LOG_ERROR, "log.reopen_failed", LF_S("error", job->error));
    if (!failed && !c->stopping && job->reload) {
        take_snapshot(c, job);
    } else if (!failed && !c->stopping) {
        take_log(job);
        LOG(LOG_INFO, "log.reopened", LF_S("file", c->snapshot->conf->logfile));
    }
    job_free(job);
    if (c->reload_again || c->reopen_again)
        start_job(c, c->reload_again);
}

static void start_job(struct control *c, bool reload)
{
    if (reload)
        c->reload_again = true;
    else
        c->reopen_again = true;
    if (c->files_busy || c->stopping)
        return;
    struct job *job = calloc(1, sizeof *job);
    CHECK(job != NULL);
    *job = (struct job){.mail.deliver = deliver_job,
                        .control = c,
                        .outbox = outbox_ref(c->outbox),
                        .was = snapshot_ref(c->snapshot),
                        .source = *c->sources,
                        .reload = c->reload_again,
                        .log_fd = -1};
    c->reload_again = c->reopen_again = false; /* a reload opens the log again, too */
    c->files_busy = helper_start("pgweir-files", run_job, job);
    if (c->files_busy)
        return;
    LOG(LOG_ERROR, "config.reload_failed", LF_S("error", strerror(errno)));
    job_free(job);
}

void reload_request(struct control *c)
{
    start_job(c, true);
}

void reload_request_reopen(struct control *c)
{
    start_job(c, false);
}
