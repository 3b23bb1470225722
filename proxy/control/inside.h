/* proxy/control/inside.h: what the files of this folder share. Not for others.
 *
 * control.c   life: start, run, stop, and the mail of other threads
 * observe.c   the clusters under observation: probes in, verdicts out, logs, names
 * probe.c     one node's libpq connection        judge.c   samples -> roles and eligibility (pure)
 * login.c     whom the probes log in as (pure)   dns.c     host names -> addresses
 * ejection.c  replicas that fail more often than the others
 * pg.c        libpq                              catalog_*.c what the primary's catalog says of user objects
 * reload.c    reading files again                signals.c what the operator sends
 * pressure.c  memory, and its limit
 * certificate.c their last days         watchdog.c workers that do not answer
 * takeover.c  the listening sockets, from one process to the next
 */
#ifndef CONTROL_INSIDE_H
#define CONTROL_INSIDE_H

#include "proxy/control/control.h"
#include "proxy/control/dns.h"
#include "proxy/control/pressure.h"
#include "proxy/control/takeover.h"

/* A socket and what waits for it. */
struct channel {
    struct watch watch;
    int fd; /* -1: none */
};

struct takeover {
    struct control *control;
    struct channel offer, newer, older; /* where others ask; who has asked; whom we asked */
    bool has_older;                     /* for good: written before the workers start */
    unsigned n;
    int fds[TAKEOVER_FDS_MAX];
};

/* One that was told to be near its end, or behind it. */
struct certificate {
    int64_t end_s, days; /* days: -1 behind it */
};

/* Of a worker: its last turn that was seen, and how often in a row. */
struct heartbeat {
    uint32_t turn, looks;
};

struct control {
    struct loop *loop;
    struct snapshot *snapshot; /* the newest; a reference */
    const struct conf_sources *sources;
    struct control_hooks hooks;
    bool running; /* workers may be there: hooks are called */
    bool stopping, closed;
    /* observe.c */
    struct list observed;
    struct dns *dns;
    struct timer resolve_timer;
    struct list catalogs; /* catalog_jobs.c */
    /* signals.c */
    int signal_fd;
    struct watch signal_watch;
    unsigned stage; /* enum control_stage, 0: none yet */
    struct takeover takeover;
    struct timer look_timer;
    struct heartbeat *heartbeats; /* by worker */
    struct certificate client_certificate, server_certificate;
    enum pressure pressure;
    bool taken_over; /* a new process has our sockets */
    /* reload.c */
    struct outbox *outbox;
    int log_fd; /* opened by control_new() for control_run() */
    bool files_busy, reload_again, reopen_again;
    /* mail of other threads; the flag says that it is on its way */
    struct mail stop_mail, reload_mail;
    atomic_bool stop_posted, reload_posted;
};

/* ---- observe.c ---- */
/* Make what is observed follow control->snapshot. */
void observe_follow(struct control *control);
void observe_start_names(struct control *control);
void observe_nudge(struct control *control, struct cluster *cluster);
void observe_role_seen(struct control *control, struct cluster *cluster, uint32_t node,
                       bool in_recovery);
/* The list empties over the next turns. */
void observe_stop(struct control *control);

/* ---- signals.c ---- */
void signals_start(struct control *control);
void signals_stop(struct control *control);

/* A new process listens: as after SIGTERM, but nobody has to be waited for. */
void control_taken_over(struct control *control);

/* ---- what is looked at every CONTROL_LOOK_MS while workers run ---- */
#define CONTROL_LOOK_MS 500
void pressure_look(struct control *control);
void certificate_look(struct control *control);
void watchdog_look(struct control *control);

/* ---- takeover.c ---- */
void takeover_init(struct control *control);
void takeover_stop(struct control *control);
bool takeover_waits(const struct control *control);
void takeover_close(struct control *control);

/* ---- reload.c ---- */
/* Blocks: for start-up and the helper. -1: errno; "" is stderr. */
int reload_open_log(const char *path);
void reload_configure_log(const struct conf *conf);
void reload_request(struct control *control);
void reload_request_reopen(struct control *control);

#endif
