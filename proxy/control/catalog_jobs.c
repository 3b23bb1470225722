#include "proxy/control/catalog_jobs.h"

#include "base/check.h"
#include "proxy/control/catalog_load.h"
#include "proxy/control/inside.h"
#include "proxy/io/log.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS 200     /* texts that are classified in one turn: well under a millisecond each 100 */
#define STEP_GAP_MS 1 /* between two such turns: probes and mail come first */
#define CONNECT_MS 5000  /* for a login */
#define PAUSE_MIN_MS 200 /* after a failure, doubling */
#define PAUSE_MAX_MS 10000
#define LOAD_GAP_MS \
    20 /* between two loads; a load's own time is added: half of it is pause at most */
#define WISH_GAP_MS 1000 /* between two looks at the fingerprint that an unknown name asks for */
#define UNUSED_MS 60000  /* without a client */

enum job_state { JOB_PAUSED, JOB_CONNECTING, JOB_READING, JOB_PROVING, JOB_IDLE, JOB_CLOSING };

struct job {
    struct list link;
    struct control *control;
    struct catalog_slot *slot; /* a reference */
    enum job_state state;
    bool gone;    /* CLOSING: it ends */
    bool named;   /* an entry names its database */
    uint8_t node; /* of the connection */
    unsigned address_edition;
    uint8_t loaded_node;
    unsigned loaded_address_edition;
    struct watch watch;
    struct timer timer;
    PGconn *conn;
    struct catalog_load load;
    bool loaded;        /* there is a catalog */
    bool loaded_here;   /* ... from this connection: the fingerprint may be compared */
    uint64_t covers;    /* the slot's changes when this load began */
    uint64_t published; /* ... that the catalog covers */
    uint64_t begun_ms, ended_ms, load_ms, used_ms;
    uint32_t failed_n;
    char fingerprint[CATALOG_FINGERPRINT_BYTES]; /* of the catalog */
    char told[CATALOG_ERROR_BYTES];              /* the error that was logged last; "": none */
};

static void connect_now(struct job *j);

static uint64_t now_ms(const struct job *j)
{
    return j->control->loop->now_ms;
}

/* The only function that writes j->state. */
static void enter(struct job *j, enum job_state state, uint64_t until_ms)
{
    j->state = state;
    if (until_ms == TIMER_NEVER)
        timer_stop(&j->control->loop->timers, &j->timer);
    else
        timer_start(&j->control->loop->timers, &j->timer, until_ms);
}

static uint8_t primary_of(const struct job *j)
{
    return cluster_view(catalog_slot_cluster(j->slot)).primary;
}

/* ---- closing: the ring holds the socket until the poll's last completion ---- */

static void job_free(struct job *j)
{
    list_remove(&j->link);
    timer_stop(&j->control->loop->timers, &j->timer);
    watch_close(&j->watch);
    catalog_slot_unref(j->slot);
    free(j);
}

static uint32_t pause_ms(const struct job *j)
{
    uint32_t ms = PAUSE_MIN_MS;
    for (uint32_t i = 1; i < j->failed_n && ms < PAUSE_MAX_MS; i++)
        ms *= 2;
    return ms < PAUSE_MAX_MS ? ms : PAUSE_MAX_MS;
}

static void finish_close(struct job *j)
{
    catalog_load_end(&j->load);
    if (j->conn)
        PQfinish(j->conn);
    j->conn = NULL;
    j->loaded_here = false;
    if (j->gone)
        job_free(j);
    else
        enter(j, JOB_PAUSED, now_ms(j) + (j->failed_n ? pause_ms(j) : 0));
}

static void close_job(struct job *j)
{
    if (j->state == JOB_CLOSING)
        return;
    enter(j, JOB_CLOSING, TIMER_NEVER);
    if (j->watch.armed)
        watch_cancel(&j->watch);
    else
        finish_close(j);
}

/* ---- failing ---- */

/* A server that answers, but not what we need: what we have may be wrong by now. */
static void fail(struct job *j, bool refused, const char *text)
{
    bool holds = j->loaded && catalog_slot_changes(j->slot) == j->published;
    const char *hint = refused ? "reads of tables stay on the primary; see probe_user"
                       : holds ? "what was loaded before stays in use"
                               : "reads of tables stay on the primary until it is loaded";
    j->failed_n++;
    if (strcmp(j->told, text) != 0)
        LOG(LOG_WARN, "catalog.load_failed", LF_S("database", catalog_slot_database(j->slot)),
            LF_S("error", text), LF_U("retry_ms", pause_ms(j)), LF_S("hint", hint));
    snprintf(j->told, sizeof j->told, "%s", text);
    if (refused && (j->loaded || j->failed_n == 1)) {
        catalog_slot_publish(j->slot, NULL, 0, (struct catalog_position){0});
        j->loaded = false;
    }
    close_job(j);
}

static void lose(struct job *j)
{
    char error[CATALOG_ERROR_BYTES];
    pg_copy_error(PQerrorMessage(j->conn), error, sizeof error);
    fail(j, false, error);
}

/* ---- connecting ---- */

static void connect_now(struct job *j)
{
    struct cluster *cluster = catalog_slot_cluster(j->slot);
    const uint8_t primary = primary_of(j);
    struct login login;
    if (primary == NODE_NONE) { /* catalog_jobs_primary() tells of the next one */
        enter(j, JOB_PAUSED, now_ms(j) + PAUSE_MAX_MS);
        return;
    }
    j->address_edition = node_address_edition(&cluster->nodes[primary]);
    const struct node_address address = node_address(&cluster->nodes[primary]);
    const char *database = catalog_slot_database(j->slot);
    if (!login_choose(j->control->snapshot, cluster, database, &login)) {
        fail(j, true, "no user to log in with");
        return;
    }
    login.part[LOGIN_DBNAME] = database;
    if (address.bytes == 0) {
        fail(j, false, "the primary's address is not known");
        return;
    }
    j->node = primary;
    j->conn = pg_connect_start(&cluster->nodes[primary], &address, &login, CATALOG_APPLICATION,
                               CATALOG_OPTIONS);
    enter(j, JOB_CONNECTING, now_ms(j) + CONNECT_MS);
    if (PQstatus(j->conn) == CONNECTION_BAD)
        lose(j);
    else
        watch_poll(&j->watch, PQsocket(j->conn), POLLOUT);
}

/* ---- reading ---- */

static void await_input(struct job *j)
{
    if (!j->watch.armed)
        watch_poll(&j->watch, PQsocket(j->conn), POLLIN);
}

static void read_on(struct job *j, enum catalog_want want)
{
    catalog_slot_heard(j->slot);
    j->covers = catalog_slot_changes(j->slot);
    j->begun_ms = now_ms(j);
    enter(j, JOB_READING, now_ms(j) + CATALOG_STATEMENT_MS + CONNECT_MS);
    /* A question fits into an empty socket. */
    if (!catalog_load_begin(&j->load, j->conn, want) || PQflush(j->conn) != 0)
        lose(j);
    else
        await_input(j);
}

static bool is_stale(const struct job *j)
{
    return !j->loaded || !j->loaded_here || catalog_slot_changes(j->slot) != j->published;
}

/* When to look again: at once where it is stale, as far as the gaps allow. */
static uint64_t next_ms(const struct job *j)
{
    const uint64_t poll_ms = j->control->snapshot->conf->catalog_poll_interval_ms;
    if (is_stale(j))
        return j->ended_ms + LOAD_GAP_MS + j->load_ms;
    const uint64_t gap_ms =
        catalog_slot_asked(j->slot) && WISH_GAP_MS < poll_ms ? WISH_GAP_MS : poll_ms;
    return j->begun_ms + gap_ms;
}

static void rest(struct job *j)
{
    enter(j, JOB_IDLE, next_ms(j));
    await_input(j); /* so that a lost server is seen at once */
}

static void publish(struct job *j)
{
    struct catalog_counts counts;
    struct catalog *catalog = catalog_rows_finish(j->load.rows, &counts);
    j->ended_ms = now_ms(j);
    j->load_ms = j->ended_ms - j->begun_ms;
    LOG(LOG_INFO, "catalog.loaded", LF_S("database", catalog_slot_database(j->slot)),
        LF_S("node", catalog_slot_cluster(j->slot)->nodes[j->node].label),
        LF_U("relations", counts.relations), LF_U("functions", counts.functions),
        LF_U("types", counts.types), LF_U("views", counts.views),
        LF_U("views_read", counts.views_read), LF_U("hiding", counts.hiding),
        LF_U("bytes", catalog_bytes(catalog)), LF_U("took_ms", j->load_ms));
    struct node *node = &catalog_slot_cluster(j->slot)->nodes[j->node];
    catalog_slot_publish(j->slot, catalog, j->covers,
                         (struct catalog_position){node_status(node).timeline, j->load.lsn});
    catalog_load_end(&j->load);
    snprintf(j->fingerprint, sizeof j->fingerprint, "%s", j->load.fingerprint);
    j->published = j->covers;
    j->loaded_node = j->node;
    j->loaded_address_edition = j->address_edition;
    j->loaded = j->loaded_here = true;
    j->failed_n = 0;
    j->told[0] = '\0';
}

static void prove(struct job *j)
{
    switch (catalog_rows_prove(j->load.rows, STEPS)) {
    case CATALOG_MORE:
        enter(j, JOB_PROVING, now_ms(j) + STEP_GAP_MS);
        return;
    case CATALOG_FAILED:
        fail(j, true, catalog_rows_error(j->load.rows));
        return;
    case CATALOG_DONE:
        publish(j);
        rest(j);
        return;
    }
}

static void all_read(struct job *j)
{
    if (j->load.in_recovery) {
        fail(j, false, "the node is in recovery: it is not the primary any more");
        return;
    }
    if (j->load.want == CATALOG_WANT_ALL) {
        prove(j);
        return;
    }
    if (strcmp(j->load.fingerprint, j->fingerprint) != 0)
        read_on(j, CATALOG_WANT_ALL);
    else
        rest(j);
}

static void step_input(struct job *j)
{
    if (!PQconsumeInput(j->conn)) {
        lose(j);
        return;
    }
    if (j->state != JOB_READING) { /* notices and settings; the end shows here, too */
        PQisBusy(j->conn);
        if (PQstatus(j->conn) == CONNECTION_BAD)
            lose(j);
        else
            await_input(j);
        return;
    }
    switch (catalog_load_step(&j->load)) {
    case CATALOG_MORE:
        await_input(j);
        break;
    case CATALOG_DONE:
        all_read(j);
        break;
    case CATALOG_FAILED:
        fail(j, PQstatus(j->conn) == CONNECTION_OK && !pg_says_not_now(j->load.error),
             j->load.error);
        break;
    }
}

static void connected(struct job *j)
{
    PQsetnonblocking(j->conn, 1);
    read_on(j, CATALOG_WANT_ALL);
}

static void step_connect(struct job *j)
{
    char error[CATALOG_ERROR_BYTES];
    switch (PQconnectPoll(j->conn)) {
    case PGRES_POLLING_READING:
        watch_poll(&j->watch, PQsocket(j->conn), POLLIN);
        return;
    case PGRES_POLLING_WRITING:
        watch_poll(&j->watch, PQsocket(j->conn), POLLOUT);
        return;
    case PGRES_POLLING_OK:
        connected(j);
        return;
    case PGRES_POLLING_ACTIVE:
    case PGRES_POLLING_FAILED:
        break;
    }
    pg_copy_error(PQerrorMessage(j->conn), error, sizeof error);
    fail(j, pg_login_refused(j->conn, error), error);
}

static void on_ready(struct watch *watch, int32_t res)
{
    struct job *j = LIST_ENTRY(watch, struct job, watch);
    (void)res; /* libpq finds out by itself what is wrong with its socket */
    switch (j->state) {
    case JOB_CLOSING:
        finish_close(j);
        break;
    case JOB_CONNECTING:
        step_connect(j);
        break;
    case JOB_READING:
    case JOB_PROVING:
    case JOB_IDLE:
        step_input(j);
        break;
    case JOB_PAUSED:
        CHECK_UNREACHABLE();
    }
}

/* ---- time ---- */

/* True: nobody has used it for long, so it ends. */
static bool expire(struct job *j)
{
    if (j->named || catalog_slot_refs(j->slot) > 1)
        j->used_ms = now_ms(j);
    if (now_ms(j) < j->used_ms + UNUSED_MS)
        return false;
    j->gone = true;
    catalog_slot_heard(j->slot); /* who comes now makes a new job */
    close_job(j);
    return true;
}

static void on_timer(struct timer *timer)
{
    struct job *j = LIST_ENTRY(timer, struct job, timer);
    switch (j->state) {
    case JOB_PAUSED:
        if (!expire(j))
            connect_now(j);
        break;
    case JOB_IDLE:
        if (!expire(j))
            read_on(j, is_stale(j) ? CATALOG_WANT_ALL : CATALOG_WANT_FINGERPRINT);
        break;
    case JOB_PROVING:
        prove(j);
        break;
    case JOB_CONNECTING:
        fail(j, false, "no answer to the login within 5 s");
        break;
    case JOB_READING:
        fail(j, false, "no answer to a query within 65 s");
        break;
    case JOB_CLOSING:
        CHECK_UNREACHABLE();
    }
}

/* ---- for the control thread ---- */

static struct job *find(const struct control *c, const struct catalog_slot *slot)
{
    for (struct list *n = c->catalogs.next; n != &c->catalogs; n = n->next) {
        struct job *j = LIST_ENTRY(n, struct job, link);
        if (j->slot == slot && !j->gone)
            return j;
    }
    return NULL;
}

static struct job *job_new(struct control *c, struct catalog_slot *slot)
{
    struct job *j = calloc(1, sizeof *j);
    CHECK(j != NULL);
    *j = (struct job){.control = c, .slot = catalog_slot_ref(slot), .loaded_node = NODE_NONE};
    j->used_ms = c->loop->now_ms;
    watch_init(&j->watch, c->loop, on_ready);
    timer_init(&j->timer, on_timer);
    list_push_back(&c->catalogs, &j->link);
    enter(j, JOB_PAUSED, c->loop->now_ms);
    return j;
}

void catalog_jobs_wish(struct control *c, struct catalog_slot *slot)
{
    struct job *j = find(c, slot);
    if (!j)
        job_new(c, slot);
    else if (j->state == JOB_IDLE)
        enter(j, JOB_IDLE, next_ms(j));
}

void catalog_jobs_primary(struct control *c, struct cluster *cluster)
{
    for (struct list *n = c->catalogs.next, *next; n != &c->catalogs; n = next) {
        struct job *j = LIST_ENTRY(n, struct job, link);
        next = n->next;
        const uint8_t primary = primary_of(j);
        if (j->gone || catalog_slot_cluster(j->slot) != cluster || primary == NODE_NONE)
            continue;
        const unsigned edition = node_address_edition(&cluster->nodes[primary]);
        if (j->loaded && (primary != j->loaded_node || edition != j->loaded_address_edition)) {
            catalog_slot_changed(j->slot, false); /* it may lack the last DDL of the old one */
            j->loaded_node = primary;
            j->loaded_address_edition = edition;
        }
        if (j->conn && (primary != j->node || edition != j->address_edition)) {
            j->failed_n = 0;
            close_job(j);
        } else if (j->state == JOB_PAUSED) {
            enter(j, JOB_PAUSED, c->loop->now_ms);
        }
    }
}

void catalog_jobs_follow(struct control *c)
{
    const struct snapshot *s = c->snapshot;
    for (struct list *n = c->catalogs.next; n != &c->catalogs; n = n->next)
        LIST_ENTRY(n, struct job, link)->named = false;
    for (size_t i = 0; i < s->conf->database_n; i++) {
        const char *dbname = s->conf->databases[i].dbname;
        if (!dbname[0])
            continue;
        struct catalog_slot *slot = catalog_slot_get(s->clusters[i], slice_of(dbname));
        struct job *j = find(c, slot);
        if (!j)
            j = job_new(c, slot);
        j->named = true;
        catalog_slot_unref(slot);
    }
}

void catalog_jobs_stop(struct control *c)
{
    for (struct list *n = c->catalogs.next, *next; n != &c->catalogs; n = next) {
        struct job *j = LIST_ENTRY(n, struct job, link);
        next = n->next;
        j->gone = true;
        close_job(j);
    }
}
