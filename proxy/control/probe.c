#include "proxy/control/probe.h"

#include "base/check.h"
#include "proxy/control/pg.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAUSE_MIN_MS 100
#define PAUSE_MAX_MS 2000
#define ASK_GAP_MS 2      /* between two samples of a node, however urgent */
#define CONNECT_GAP_MS 20 /* the same for attempts to connect */
#define LOST_GAP_MS 1000  /* a server that hangs up more often than this is paused for */
#define ROTATE_GAP_MS 1000
#define STALL_MS 1000 /* a timer this late: we stood still (a VM pause), not the node */

/* One round trip, on primary and replica, PostgreSQL 13 and later. Recovery is asked once: a
 * promotion in between must not give half of each. The system identifier cannot change under a
 * connection, and reading it means reading a file, so only the first sample asks for it. A
 * walreceiver's columns are NULL without pg_monitor; the control file then knows the timeline, only
 * later. */
#define SAMPLE_SQL(system_id, receiver, timeline)                                     \
    "SELECT r,"                                                                       \
    " CASE WHEN NOT r THEN pg_current_wal_insert_lsn() END,"                          \
    " CASE WHEN NOT r THEN pg_current_wal_flush_lsn() END,"                           \
    " CASE WHEN NOT r THEN pg_walfile_name(pg_current_wal_flush_lsn()) END,"          \
    " CASE WHEN r THEN pg_last_wal_replay_lsn() END,"                                 \
    " CASE WHEN r THEN pg_last_wal_receive_lsn() END,"                                \
    " (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint, " system_id \
    ", " receiver ", " timeline ","                                                   \
    " CASE WHEN NOT r THEN (extract(epoch FROM"                                       \
    " current_setting('wal_writer_delay')::interval) * 1000)::int END"                \
    " FROM (SELECT pg_is_in_recovery() AS r OFFSET 0) AS s"
#define SYSTEM_SQL "(SELECT system_identifier FROM pg_control_system())"
#define RECEIVER_SQL                                                 \
    "(SELECT coalesce(status, 'hidden') FROM pg_stat_wal_receiver)," \
    " (SELECT sender_host || ':' || sender_port FROM pg_stat_wal_receiver)"
#define TIMELINE_SQL                                                             \
    "CASE WHEN r THEN coalesce((SELECT received_tli FROM pg_stat_wal_receiver)," \
    " (SELECT min_recovery_end_timeline FROM pg_control_recovery())) END"

enum column {
    COL_IN_RECOVERY,
    COL_INSERT,
    COL_FLUSH,
    COL_WALFILE,
    COL_REPLAY,
    COL_RECEIVE,
    COL_STARTED,
    COL_SYSTEM,
    COL_RECEIVER,
    COL_UPSTREAM,
    COL_TIMELINE,
    COL_DELAY,
    COL_N
};

/* What a server refuses to answer is left out, level by level. */
static const char *const level_sql[] = {
    SAMPLE_SQL("NULL", RECEIVER_SQL, TIMELINE_SQL),
    SAMPLE_SQL("NULL", RECEIVER_SQL, "(SELECT received_tli FROM pg_stat_wal_receiver)"),
    SAMPLE_SQL("NULL", "'hidden', NULL", "NULL"),
};
#define LEVEL_N (sizeof level_sql / sizeof *level_sql)
static const char first_sql[] = SAMPLE_SQL(SYSTEM_SQL, RECEIVER_SQL, TIMELINE_SQL);

static void start_connect(struct probe *p);

static uint64_t later(const struct probe *p, uint64_t ms)
{
    return p->loop->now_ms + ms;
}

/* The only function that writes p->state. */
static void enter(struct probe *p, enum probe_state state, uint64_t until_ms)
{
    p->state = state;
    if (until_ms == TIMER_NEVER)
        timer_stop(&p->loop->timers, &p->timer);
    else
        timer_start(&p->loop->timers, &p->timer, until_ms);
}

/* ---- closing ---- */

static void finish_close(struct probe *p)
{
    PQfinish(p->conn);
    p->conn = NULL;
    switch (p->next) {
    case NEXT_CONNECT:
        start_connect(p);
        break;
    case NEXT_PAUSE:
        enter(p, PROBE_PAUSED, later(p, p->retry_ms));
        break;
    case NEXT_GONE:
        enter(p, PROBE_OFF, TIMER_NEVER);
        watch_close(&p->watch);
        p->ops->gone(p);
        break;
    }
}

/* The ring's poll holds the socket, so libpq's close would not reach the server before it. */
static void close_then(struct probe *p, enum probe_next next)
{
    p->next = next;
    if (p->watch.armed) {
        if (p->state != PROBE_CLOSING)
            watch_cancel(&p->watch);
        enter(p, PROBE_CLOSING, TIMER_NEVER);
    } else {
        finish_close(p);
    }
}

/* ---- failures ---- */

static uint32_t pause_ms(const struct probe *p)
{
    uint32_t ms = PAUSE_MIN_MS;
    for (uint32_t i = 1; i < p->failed_n && ms < PAUSE_MAX_MS; i++)
        ms *= 2;
    if (ms > PAUSE_MAX_MS)
        ms = PAUSE_MAX_MS;
    uint64_t mixed = (p->loop->now_ns ^ (uintptr_t)p) * 0x9e3779b97f4a7c15ULL;
    return ms - ms / 4 + (uint32_t)((mixed >> 33) % (ms / 2 + 1)); /* 75 to 125 % */
}

static void fail(struct probe *p, enum node_why why, const char *text)
{
    if (why == NODE_UNREACHABLE && p->state == PROBE_CONNECTING && p->tried_n + 1 < p->address_n) {
        p->tried_n++;
        p->address = (p->address + 1) % p->address_n;
        close_then(p, NEXT_CONNECT);
        return;
    }
    p->tried_n = 0;
    p->failed_n++;
    p->retry_ms = pause_ms(p);
    p->ops->failed(p, why, text);
    close_then(p, NEXT_PAUSE);
}

static void copy_error(struct probe *p, const char *text)
{
    pg_copy_error(text, p->error, sizeof p->error);
}

static enum node_why why_refused(const struct probe *p)
{
    return pg_login_refused(p->conn, p->error) ? NODE_LOGIN_FAILED : NODE_UNREACHABLE;
}

/* An established connection ended: a restart, or somebody's pg_terminate_backend(). One try to
 * connect comes before a verdict. */
static void lose(struct probe *p)
{
    copy_error(p, PQerrorMessage(p->conn));
    uint64_t now_ms = p->loop->now_ms;
    if (!p->answered || now_ms < p->lost_ms + LOST_GAP_MS) {
        fail(p, NODE_UNREACHABLE, p->error);
        return;
    }
    p->lost_ms = now_ms;
    close_then(p, NEXT_CONNECT);
}

/* ---- addresses ---- */

static bool same_address(const struct node_address *a, const struct node_address *b)
{
    return a->bytes == b->bytes && memcmp(&a->addr, &b->addr, a->bytes) == 0;
}

static void publish_address(struct probe *p, bool leave_old)
{
    const struct node_address was = node_address(p->node);
    if (same_address(&was, &p->addresses[p->address]))
        return;
    node_publish_address(p->node, &p->addresses[p->address]);
    if (leave_old)
        node_leave_address(p->node);
    p->ops->moved(p);
}

/* ---- connecting ---- */

static PGconn *connect_start(struct probe *p)
{
    char options[160];
    snprintf(options, sizeof options,
             "-c statement_timeout=%u -c lock_timeout=%u -c default_transaction_read_only=on"
             " -c search_path=pg_catalog",
             p->timeout_ms, p->timeout_ms);
    return pg_connect_start(p->node, &p->addresses[p->address], p->login, "pgweir_probe", options);
}

static void start_connect(struct probe *p)
{
    if (!p->login || p->address_n == 0) {
        enter(p, PROBE_OFF, TIMER_NEVER);
        return;
    }
    p->conn = connect_start(p);
    p->begun_ms = p->loop->now_ms;
    p->answered = p->again = false;
    p->level = 0;
    p->system_id = 0;
    enter(p, PROBE_CONNECTING, later(p, p->timeout_ms));
    if (PQstatus(p->conn) == CONNECTION_BAD) {
        copy_error(p, PQerrorMessage(p->conn));
        fail(p, NODE_UNREACHABLE, p->error);
        return;
    }
    watch_poll(&p->watch, PQsocket(p->conn), POLLOUT);
}

/* ---- asking ---- */

static void await_input(struct probe *p)
{
    if (!p->watch.armed)
        watch_poll(&p->watch, PQsocket(p->conn), POLLIN);
}

static void ask(struct probe *p)
{
    const char *sql = p->level == 0 && !p->answered ? first_sql : level_sql[p->level];
    p->got = p->retry = p->again = false;
    p->error[0] = '\0';
    p->begun_ms = p->loop->now_ms;
    p->begun_ns = p->loop->now_ns;
    p->number = atomic_fetch_add(&p->node->samples_begun, 1) + 1;
    enter(p, PROBE_ASKING, later(p, p->timeout_ms));
    /* A question that does not fit into an empty socket is not worth waiting for. */
    if (!PQsendQuery(p->conn, sql) || PQflush(p->conn) != 0) {
        copy_error(p, PQerrorMessage(p->conn));
        fail(p, NODE_UNREACHABLE, p->error[0] ? p->error : "the query could not be sent");
        return;
    }
    await_input(p);
}

static void connected(struct probe *p)
{
    p->tried_n = 0;
    PQsetnonblocking(p->conn, 1);
    publish_address(p, true);
    ask(p);
}

static void step_connect(struct probe *p)
{
    switch (PQconnectPoll(p->conn)) {
    case PGRES_POLLING_READING:
        watch_poll(&p->watch, PQsocket(p->conn), POLLIN);
        return;
    case PGRES_POLLING_WRITING:
        watch_poll(&p->watch, PQsocket(p->conn), POLLOUT);
        return;
    case PGRES_POLLING_OK:
        connected(p);
        return;
    case PGRES_POLLING_ACTIVE:
    case PGRES_POLLING_FAILED:
        break;
    }
    copy_error(p, PQerrorMessage(p->conn));
    fail(p, why_refused(p), p->error);
}

/* ---- answers ---- */

static const char *value_of(const PGresult *result, enum column column)
{
    return PQgetisnull(result, 0, (int)column) ? "" : PQgetvalue(result, 0, (int)column);
}

static uint64_t lsn_of(const PGresult *result, enum column column)
{
    uint64_t lsn = 0;
    return lsn_parse(slice_of(value_of(result, column)), &lsn) ? lsn : 0;
}

static void read_sample(struct probe *p, const PGresult *result)
{
    uint64_t system_id = strtoull(value_of(result, COL_SYSTEM), NULL, 10);
    if (system_id != 0)
        p->system_id = system_id;
    p->sample = (struct judge_sample){
        .in_recovery = value_of(result, COL_IN_RECOVERY)[0] == 't',
        .timeline = (uint32_t)strtoul(value_of(result, COL_TIMELINE), NULL, 10),
        .insert_lsn = lsn_of(result, COL_INSERT),
        .flush_lsn = lsn_of(result, COL_FLUSH),
        .replay_lsn = lsn_of(result, COL_REPLAY),
        .receive_lsn = lsn_of(result, COL_RECEIVE),
        .postmaster_start_us = strtoll(value_of(result, COL_STARTED), NULL, 10),
        .system_id = p->system_id,
        .wal_writer_delay_ms = (uint32_t)strtoul(value_of(result, COL_DELAY), NULL, 10),
        .number = p->number,
        .begun_ns = p->begun_ns,
    };
    if (!p->sample.in_recovery)
        timeline_of_walfile(slice_of(value_of(result, COL_WALFILE)), &p->sample.timeline);
    const char *receiver = value_of(result, COL_RECEIVER);
    snprintf(p->sample.receiver, sizeof p->sample.receiver, "%s", receiver[0] ? receiver : "none");
    snprintf(p->sample.upstream, sizeof p->sample.upstream, "%s", value_of(result, COL_UPSTREAM));
    p->got = true;
}

/* Rights that were taken away, or a function that a relative of PostgreSQL does not have. */
static bool asked_too_much(const PGresult *result)
{
    static const char *const states[] = {"42501", "42883", "42P01", "42703", "0A000"};
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    for (size_t i = 0; state && i < sizeof states / sizeof *states; i++)
        if (strcmp(state, states[i]) == 0)
            return true;
    return false;
}

/* False: this is no answer to our question, so the connection is of no use. */
static bool read_result(struct probe *p, const PGresult *result)
{
    const ExecStatusType status = PQresultStatus(result); /* each version of libpq has more */
    if (status == PGRES_FATAL_ERROR) {
        copy_error(p, PQresultErrorMessage(result));
        p->retry = p->level + 1 < LEVEL_N && asked_too_much(result);
        return true;
    }
    if (status != PGRES_TUPLES_OK || PQntuples(result) != 1 || PQnfields(result) != COL_N)
        return false;
    read_sample(p, result);
    return true;
}

/* ReadyForQuery came: the query in flight has ended. */
static void finish_query(struct probe *p)
{
    if (p->retry) {
        p->level++;
        ask(p);
        return;
    }
    bool urgent = p->again || p->ops->awaited(p);
    enter(p, PROBE_IDLE, p->begun_ms + (urgent ? ASK_GAP_MS : p->interval_ms));
    if (p->got) {
        p->answered = true;
        p->failed_n = 0;
        p->sample.at_ns = p->loop->now_ns;
        p->ops->answered(p, &p->sample);
    } else {
        p->retry_ms = p->interval_ms;
        p->ops->failed(p, p->answered ? NODE_FINE : NODE_LOGIN_FAILED, p->error);
    }
}

static void read_results(struct probe *p)
{
    while (p->state == PROBE_ASKING && !PQisBusy(p->conn)) {
        PGresult *result = PQgetResult(p->conn);
        if (!result) {
            finish_query(p);
            return;
        }
        bool ours = read_result(p, result);
        PQclear(result);
        if (PQstatus(p->conn) == CONNECTION_BAD) {
            lose(p);
            return;
        }
        if (!ours) {
            fail(p, NODE_LOGIN_FAILED, "an answer that is none to the probe's query");
            return;
        }
    }
}

static void step_input(struct probe *p)
{
    if (!PQconsumeInput(p->conn)) {
        lose(p);
        return;
    }
    if (p->state == PROBE_ASKING)
        read_results(p);
    else
        PQisBusy(p->conn); /* lets libpq swallow notices and settings */
    if (p->state == PROBE_IDLE || p->state == PROBE_ASKING)
        await_input(p);
}

static void on_ready(struct watch *watch, int32_t res)
{
    struct probe *p = LIST_ENTRY(watch, struct probe, watch);
    (void)res; /* libpq finds out by itself what is wrong with its socket */
    switch (p->state) {
    case PROBE_CLOSING:
        finish_close(p);
        break;
    case PROBE_CONNECTING:
        step_connect(p);
        break;
    case PROBE_IDLE:
    case PROBE_ASKING:
        step_input(p);
        break;
    case PROBE_OFF:
    case PROBE_PAUSED:
        CHECK_UNREACHABLE();
    }
}

static void on_timer(struct timer *timer)
{
    struct probe *p = LIST_ENTRY(timer, struct probe, timer);
    switch (p->state) {
    case PROBE_PAUSED:
        start_connect(p);
        break;
    case PROBE_IDLE:
        ask(p);
        break;
    case PROBE_CONNECTING:
    case PROBE_ASKING:
        if (p->loop->now_ms > timer->deadline_ms + STALL_MS)
            timer_start(&p->loop->timers, timer, later(p, p->timeout_ms));
        else if (p->state == PROBE_CONNECTING)
            fail(p, NODE_UNREACHABLE, "no answer to the login within probe_timeout");
        else
            fail(p, NODE_SAMPLE_OLD, "no answer to the query within probe_timeout");
        break;
    case PROBE_OFF:
    case PROBE_CLOSING:
        CHECK_UNREACHABLE();
    }
}

/* ---- for the owner ---- */

void probe_init(struct probe *p, struct loop *loop, struct node *node, const struct probe_ops *ops,
                void *owner)
{
    *p = (struct probe){.loop = loop, .node = node, .ops = ops, .owner = owner};
    watch_init(&p->watch, loop, on_ready);
    timer_init(&p->timer, on_timer);
}

/* Begin anew, with another login or address. */
static void restart(struct probe *p)
{
    p->tried_n = p->failed_n = 0;
    if (p->state == PROBE_CLOSING && p->next == NEXT_GONE)
        return;
    if (p->conn)
        close_then(p, NEXT_CONNECT);
    else
        start_connect(p);
}

void probe_configure(struct probe *p, const struct login *login, bool changed, uint64_t interval_ms,
                     uint64_t timeout_ms)
{
    p->login = login;
    p->interval_ms = (uint32_t)interval_ms;
    p->timeout_ms = (uint32_t)timeout_ms;
    if (changed)
        restart(p);
}

void probe_set_addresses(struct probe *p, const struct node_address *addresses, uint32_t n)
{
    CHECK(n > 0 && n <= DNS_ADDRESSES_MAX);
    const struct node_address published = node_address(p->node);
    uint32_t keep = n;
    for (uint32_t i = 0; i < n; i++)
        if (same_address(&addresses[i], &published))
            keep = i;
    memcpy(p->addresses, addresses, n * sizeof *addresses);
    p->address_n = n;
    p->address = keep < n ? keep : 0;
    p->tried_n = 0;
    if (keep < n)
        return;
    publish_address(p, true);
    restart(p);
}

void probe_nudge(struct probe *p)
{
    uint64_t at_ms = p->begun_ms + (p->state == PROBE_PAUSED ? CONNECT_GAP_MS : ASK_GAP_MS);
    switch (p->state) {
    case PROBE_PAUSED:
    case PROBE_IDLE:
        if (at_ms < p->timer.deadline_ms)
            timer_start(&p->loop->timers, &p->timer, at_ms);
        break;
    case PROBE_ASKING:
        p->again = true;
        break;
    case PROBE_OFF: /* nobody tries the addresses but those who nudge */
        if (p->address_n < 2 || p->loop->now_ms < p->begun_ms + ROTATE_GAP_MS)
            break;
        p->begun_ms = p->loop->now_ms;
        p->address = (p->address + 1) % p->address_n;
        publish_address(p, false); /* the last may be as good */
        break;
    case PROBE_CONNECTING:
    case PROBE_CLOSING:
        break;
    }
}

void probe_stop(struct probe *p)
{
    close_then(p, NEXT_GONE);
}
