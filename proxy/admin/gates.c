#include "proxy/admin/gates.h"

#include "base/check.h"
#include "proxy/admin/gather.h"
#include "proxy/admin/rows.h"
#include "proxy/io/log.h"
#include "proxy/pool/gate.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_MS 20

struct command;

/* A command on its way: it visits all workers, then it may have to wait. */
struct gate_work {
    struct gathering g; /* first */
    const struct command *command;
    size_t n;
    struct gate *gates[];
};

struct command {
    const char *word, *shown;
    bool one;                        /* it needs a database */
    void (*set)(struct gate *gate);  /* once, before the workers see it */
    bool kills;                      /* clients and servers go at once */
    bool (*done)(struct gate *gate); /* NULL: when all workers have seen it */
};

static void set_paused(struct gate *gate)
{
    atomic_store(&gate->paused, true);
}

static void set_resumed(struct gate *gate)
{
    atomic_store(&gate->paused, false);
}

static void set_disabled(struct gate *gate)
{
    atomic_store(&gate->disabled, true);
}

static void set_enabled(struct gate *gate)
{
    atomic_store(&gate->disabled, false);
}

static void set_epoch(struct gate *gate)
{
    atomic_fetch_add(&gate->epoch, 1);
}

static void set_nothing(struct gate *gate)
{
    (void)gate;
}

static bool has_no_server(struct gate *gate)
{
    /* Somebody else may have said RESUME meanwhile. */
    return atomic_load(&gate->server_n) == 0 || !gate_is_paused(gate);
}

static bool has_no_stale_server(struct gate *gate)
{
    return atomic_load(&gate->stale_n) == 0;
}

static const struct command commands[] = {
    {"pause", "PAUSE [database]", false, set_paused, false, has_no_server},
    {"resume", "RESUME [database]", false, set_resumed, false, NULL},
    {"kill", "KILL [database]", false, set_paused, true, has_no_server},
    {"disable", "DISABLE database", true, set_disabled, false, NULL},
    {"enable", "ENABLE database", true, set_enabled, false, NULL},
    {"reconnect", "RECONNECT [database]", false, set_epoch, false, NULL},
    {"wait_close", "WAIT_CLOSE [database]", false, set_nothing, false, has_no_stale_server},
};
#define COMMANDS_N (sizeof commands / sizeof *commands)

const char *gates_help(size_t index)
{
    return index < COMMANDS_N ? commands[index].shown : NULL;
}

/* ---- the visits ---- */

static void kill_clients(struct worker *worker, const struct gate *gate)
{
    struct list *next;
    for (struct list *n = worker->sessions.next; n != &worker->sessions; n = next) {
        next = n->next;
        struct session *s = LIST_ENTRY(n, struct session, node);
        if (s->set && s->set->gate == gate && s->state != SESSION_CLOSING)
            session_end(s, "57P01", "terminating connection due to administrator command",
                        "KILL was said on the console.");
    }
}

static void collect(struct gathering *g, struct worker *worker)
{
    const struct gate_work *work = (struct gate_work *)(void *)g;
    for (size_t i = 0; i < work->n; i++) {
        if (work->command->kills)
            kill_clients(worker, work->gates[i]);
        hub_gate_changed(&worker->hub, work->gates[i], work->command->kills);
    }
}

/* ---- the end ---- */

static bool is_done(const struct gate_work *work)
{
    for (size_t i = 0; work->command->done && i < work->n; i++)
        if (!work->command->done(work->gates[i]))
            return false;
    return true;
}

static void end(struct session *s, const struct command *command)
{
    char tag[16];
    size_t n = 0;
    for (; command->word[n]; n++)
        tag[n] = (char)toupper((unsigned char)command->word[n]);
    tag[n] = '\0';
    rows_end(s, tag);
}

/* The work belongs to the session from here on, which frees it when it leaves first. */
static void answer(struct gathering *g, struct session *s)
{
    const struct gate_work *work = (struct gate_work *)(void *)g;
    if (is_done(work)) {
        end(s, work->command);
        return;
    }
    size_t bytes = sizeof *work + work->n * sizeof(struct gate *);
    s->console_wait = malloc(bytes);
    CHECK(s->console_wait != NULL);
    memcpy(s->console_wait, work, bytes);
    s->console_busy = true;
    gates_look(s);
}

void gates_look(struct session *s)
{
    const struct gate_work *work = s->console_wait;
    if (!is_done(work)) {
        timer_start(&s->worker->loop->timers, &s->timer, s->worker->loop->now_ms + LOOK_MS);
        return;
    }
    const struct command *command = work->command;
    free(s->console_wait);
    s->console_wait = NULL;
    s->console_busy = false;
    end(s, command);
    conn_in_again(s->conn);
}

static void free_work(struct gathering *g)
{
    free(g);
}

/* ---- the command ---- */

static struct gate_work *work_of(struct session *s, const struct command *command, struct slice arg)
{
    const struct conf *conf = s->worker->hub.snapshot->conf;
    struct gate_work *work = calloc(1, sizeof *work + conf->database_n * sizeof(struct gate *));
    CHECK(work != NULL);
    work->command = command;
    for (size_t i = 0; i < conf->database_n; i++)
        if (arg.n == 0 || slice_is(arg, conf->databases[i].name))
            work->gates[work->n++] = gate_find(conf->databases[i].name);
    return work;
}

static bool fail(struct session *s, const char *sqlstate, const char *message, const char *hint)
{
    session_error(s, sqlstate, message, NULL, hint);
    session_notice_ready(s);
    return true;
}

static bool run(struct session *s, const struct command *command, struct slice arg)
{
    static const struct gather_ops ops = {collect, answer, free_work};
    char text[CONF_NAME_MAX + 64];
    if (!s->admin)
        return fail(s, "42501", "admin access needed", "The user must be in admin_users.");
    if (command->one && arg.n == 0)
        return fail(s, "42601", "a database is needed", command->shown);
    struct gate_work *work = work_of(s, command, arg);
    if (arg.n > 0 && work->n == 0) {
        free(work);
        snprintf(text, sizeof text, "no such database: %.*s",
                 (int)(arg.n < CONF_NAME_MAX ? arg.n : CONF_NAME_MAX), (const char *)arg.p);
        return fail(s, "3D000", text, "The names are those of [databases].");
    }
    for (size_t i = 0; i < work->n; i++) {
        command->set(work->gates[i]);
        LOG(LOG_INFO, "console.command", LF_S("command", command->word),
            LF_S("db", work->gates[i]->name));
    }
    gather_start(s, &work->g, &ops);
    return true;
}

bool gates_command(struct session *s, const char *word, struct slice arg)
{
    for (size_t i = 0; i < COMMANDS_N; i++)
        if (strcmp(commands[i].word, word) == 0)
            return run(s, &commands[i], arg);
    return false;
}
