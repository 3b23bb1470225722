/* proxy/session/settings_inside.h: what settings.c (values) and settings_answer.c (messages) share. Not for others. */
#ifndef SESSION_SETTINGS_INSIDE_H
#define SESSION_SETTINGS_INSIDE_H

#include "proxy/pool/stmt.h"
#include "proxy/session/settings.h"
#include "proxy/wire/put.h"
#include "router/setting.h"

#define PORTAL_NAME_MAX 63

#define SETTING_TIME_FIRST SETTING_QUEUE_TIMEOUT
#define SETTING_TIME_N (SETTING_N - SETTING_TIME_FIRST)

struct layer {
    uint8_t values[SETTING_N];
    uint32_t ms[SETTING_TIME_N]; /* of those that are times, where values says that there is one */
};

struct failure {
    char sqlstate[6], message[160], hint[240];
};

struct settings {
    struct layer startup, session, local;
    struct layer before; /* session, when the transaction began that has changed something */
    bool changed;
    bool savepoint;      /* what follows may be undone by ROLLBACK TO */
    bool failed, undone; /* in the transaction: an error came; ROLLBACK was run */
    struct stmt *portal; /* of ours, bound; NULL: none */
    uint8_t portal_name_n;
    uint8_t portal_name[PORTAL_NAME_MAX];
    struct failure failure; /* that a poison stands for */
};

struct settings *settings_of(struct session *s); /* made when it is not there yet */
void settings_drop_portal(struct settings *t);

/* Says why; returns false. */
bool failure_is(struct failure *f, const char *sqlstate, const char *message);

enum ran { RAN, RAN_FAILED, RAN_WAITS };
/* The statement's DataRow and CommandComplete. FAILED: f says why. WAITS: session_run() is called again. */
enum ran settings_run(struct session *s, const struct setting_statement *st, struct put *o,
                      struct failure *f);
/* RESET ALL is PostgreSQL's, and ours too if it succeeds. */
void settings_note_reset_all(struct session *s);

#endif
