/* proxy/session/shed.c: how long a client waits for a server, and what it is told when it gets none.
 *
 *   53300  all servers are busy: its deadline came, its queue is full, or stands (pool/queue.h)
 *   57P03  no node may serve it: no primary within failover_wait, no replica with primary_reads = never
 *   53200  memory_limit is near (control/pressure.h)
 *   57P01  pgweir stops: always FATAL
 *
 * DETAIL begins with a code of its own for each reason; HINT says what to do. The client stays connected, in a failed
 * transaction if we had answered its BEGIN; shed_severity says otherwise. What it had pipelined behind the segment
 * before that began to wait is refused with it.
 */
#include "proxy/session/session.h"
#include "proxy/session/settings.h"

#include "base/check.h"

#include <inttypes.h>
#include <stdio.h>

_Static_assert(SHED_REASON_N <= 8, "session.shed_why has 3 bits");

static const char retry[] = "The database is saturated; retry with backoff and jitter.";
static const char retry_nodes[] = "Retry with backoff and jitter; see SHOW NODES on the console.";

static const struct conf *conf_of(const struct session *s)
{
    return s->worker->hub.snapshot->conf;
}

/* ---- how long ---- */

/* No node can take what belongs on the primary. The last known one counts as long as it answers. */
static bool primary_is_out(const struct session *s)
{
    struct cluster_view view = cluster_view(s->set->cluster);
    if (view.primary == NODE_NONE)
        return true;
    enum node_why why = node_status(&s->set->cluster->nodes[view.primary]).why;
    return why == NODE_UNREACHABLE || why == NODE_NO_ADDRESS || why == NODE_SAMPLE_OLD;
}

/* What waits, waits for the primary: so do reads while there is no replica. */
static bool takes_primary(const struct session *s, enum want want)
{
    bool spills = pool_reads_spill(s->set, cluster_view(s->set->cluster));
    return want == WANT_PRIMARY ||
           (spills && conf_of(s)->primary_reads != CONF_PRIMARY_READS_NEVER);
}

/* A failover is a pause, not an error. */
uint64_t shed_patience_ms(const struct session *s, enum want want)
{
    enum setting_id kind =
        want == WANT_READ ? SETTING_READ_QUEUE_TIMEOUT : SETTING_WRITE_QUEUE_TIMEOUT;
    uint64_t queue_ms = settings_queue_timeout_ms(s, kind);
    uint64_t failover_ms = conf_of(s)->failover_wait_ms;
    bool shorter = failover_ms != 0 && (queue_ms == 0 || failover_ms < queue_ms);
    return shorter && takes_primary(s, want) && primary_is_out(s) ? failover_ms : queue_ms;
}

/* queue_timeout has passed: for what waits for a primary, failover_wait may not have. */
uint64_t shed_more_ms(struct waiter *waiter)
{
    const struct session *s = waiter->owner;
    uint64_t waited_ms = s->worker->loop->now_ms - waiter->since_ms;
    uint64_t failover_ms = conf_of(s)->failover_wait_ms;
    bool waits = takes_primary(s, waiter->want) && primary_is_out(s) && waited_ms < failover_ms;
    return waits ? failover_ms - waited_ms : 0;
}

bool shed_waits_long(struct waiter *waiter)
{
    struct session *s = waiter->owner;
    const char *least = label_value(s->label, "client_min_messages");
    bool wants_it = !least || (strcmp(least, "warning") != 0 && strcmp(least, "error") != 0);
    uint8_t bytes[256];
    struct put o = put_into(bytes, sizeof bytes);
    if (s->state != SESSION_READY || !wants_it)
        return false;
    put_notice(&o, &(struct wire_error){
                       "NOTICE", "00000", "waiting for a free server connection",
                       "query_wait_notify: all servers that may serve this are busy.", NULL});
    CHECK(!o.full);
    conn_out_copy(s->conn, o.p, o.n);
    return true;
}

/* ---- telling the client ---- */

/* What DETAIL begins with, and the options that decided it. */
static const struct {
    const char *code, *options;
} texts[SHED_REASON_N] = {
    [SHED_QUEUE_TIMEOUT] = {"PGWEIR-QUEUE-TIMEOUT", "queue_timeout, default_pool_size"},
    [SHED_QUEUE_FULL] = {"PGWEIR-QUEUE-FULL", "queue_max, default_pool_size"},
    [SHED_CODEL] = {"PGWEIR-CODEL", "queue_discipline, codel_target, default_pool_size"},
    [SHED_READ_BUDGET] = {"PGWEIR-READ-BUDGET", "primary_read_budget, queue_timeout"},
};

/* The newest login that a node refused, if it still refuses them. */
static const char *failure_of(const struct pool_set *set)
{
    for (uint32_t i = 0; i < set->cluster->node_n; i++)
        if (set->pools[i].failure)
            return set->pools[i].failure;
    return NULL;
}

/* In numbers of all workers: nobody waits while a server is idle, so those that there are are busy. */
static void write_detail(struct session *s, enum shed_reason why, char *out, size_t size)
{
    const struct pool_set *set = s->set;
    enum want want = (enum want)s->waiter.want;
    uint32_t limit = 0, busy = 0, nodes = pool_nodes_for(set, &s->waiter);
    const char *full = why == SHED_READ_BUDGET ? NULL : pool_full_limit(set, nodes);
    for (; nodes; nodes &= nodes - 1, limit += set->pool_size)
        busy += atomic_load(&set->pools[__builtin_ctz(nodes)].budget->used);
    if (why == SHED_READ_BUDGET) {
        limit = set->spill_limit;
        busy = atomic_load(&set->spill->used);
    }
    const char *failure = failure_of(set);
    snprintf(out, size,
             "%s pool=%.63s/%.63s role=%s limit=%" PRIu32 " busy=%" PRIu32 " waiting=%" PRIu32
             " (%s%s%s)%s%.200s",
             texts[why].code, set->database, set->user, want == WANT_PRIMARY ? "primary" : "read",
             limit, busy, pool_waiting(set, want), texts[why].options, full ? ", " : "",
             full ? full : "", failure ? "; the newest login at a node failed: " : "",
             failure ? failure : "");
}

static void count(struct session *s, enum shed_reason why)
{
    s->set->queues[s->waiter.want].sheds[why]++;
    s->worker->stats.shed_for[why]++;
    s->worker->stats.sheds++;
}

static void refuse(struct session *s, const char *sqlstate, const char *message, const char *detail,
                   const char *hint)
{
    switch (s->set->shed_severity) {
    case CONF_SHED_ERROR:
        lease_refuse(s, sqlstate, message, detail, hint);
        return;
    case CONF_SHED_FATAL:
        session_fatal(s, sqlstate, message, detail, hint);
        return;
    case CONF_SHED_PGBOUNCER:
        session_fatal(s, "08P01", "query_wait_timeout", NULL, NULL);
        return;
    }
    CHECK_UNREACHABLE();
}

static void say_no_target(struct session *s)
{
    if (pool_shortage(s->set) == POOL_SHORT_OF_REPLICAS && s->waiter.want == WANT_READ)
        refuse(s, "57P03", "no replica is able to serve this read",
               "PGWEIR-NO-REPLICA: no replica of this database may serve reads, and "
               "primary_reads = never keeps them from the primary.",
               retry_nodes);
    else
        refuse(s, "57P03", "the database system is not accepting connections",
               "PGWEIR-NO-PRIMARY: no node of this database is known to be the primary and answers "
               "(failover_wait, queue_timeout).",
               retry_nodes);
}

static void say_saturated(struct session *s, enum shed_reason why)
{
    char message[128], detail[640];
    uint64_t waited_ms = s->worker->loop->now_ms - s->waiter.since_ms;
    write_detail(s, why, detail, sizeof detail);
    if (why == SHED_QUEUE_FULL)
        snprintf(message, sizeof message, "too many clients wait for a server connection");
    else
        snprintf(message, sizeof message,
                 "no server connection became available within %" PRIu64 " ms", waited_ms);
    refuse(s, "53300", message, detail, retry);
}

/* Why a server refused our login: for those behind the one that has been told by REFUSED_BY_SERVER. */
static void say_login_refused(struct session *s, const struct refused_text *text)
{
    static const struct refused_text over = {"57P03", "a server refused the login of pgweir"};
    text = text ? text : &over;
    lease_refuse(s, text->sqlstate, text->message, "The server refused the login of pgweir.", NULL);
}

static void say(struct session *s, enum shed_reason why)
{
    count(s, why);
    if (why == SHED_NO_TARGET)
        say_no_target(s);
    else if (why == SHED_MEMORY)
        refuse(s, "53200", "pgweir is short of memory",
               "PGWEIR-MEMORY: memory_limit is near, so nobody waits for a server.", retry);
    else if (why == SHED_LOGIN_REFUSED)
        say_login_refused(s, s->refused_text);
    else
        say_saturated(s, why);
}

/* ---- refusing ---- */

static enum shed_reason reason_of(const struct session *s)
{
    enum want want = (enum want)s->waiter.want;
    enum pool_shortage shortage = want == WANT_READ ? pool_shortage(s->set) : POOL_SHORT_OF_SERVERS;
    if (shortage == POOL_SHORT_OF_REPLICAS || (takes_primary(s, want) && primary_is_out(s)))
        return SHED_NO_TARGET;
    return shortage == POOL_SHORT_OF_BUDGET ? SHED_READ_BUDGET : SHED_QUEUE_TIMEOUT;
}

/* With it goes what its client had sent behind it before it began to wait: see shed_along(). */
static void shed(struct session *s, enum shed_reason why)
{
    uint32_t have = s->conn->in.bytes;
    s->late_bytes = have > s->here_bytes ? have - s->here_bytes : 0;
    s->shed_along = true;
    s->shed_why = why & 7;
    say(s, why);
    s->shed_along = s->running; /* else session_run() has been here */
    s->refused_text = NULL;
}

void shed_refused(struct waiter *waiter, enum refusal why, const struct refused_text *text)
{
    struct session *s = waiter->owner;
    switch (why) {
    case REFUSED_TIMEOUT:
        shed(s, reason_of(s));
        return;
    case REFUSED_CODEL:
        shed(s, SHED_CODEL);
        return;
    case REFUSED_BY_SERVER:
        s->refused_text = text;
        shed(s, SHED_LOGIN_REFUSED);
        return;
    case REFUSED_MEMORY:
        shed(s, SHED_MEMORY);
        return;
    case REFUSED_SHUTDOWN:
        count(s, SHED_DRAINING);
        session_fatal(s, "57P01", "terminating connection due to shutdown of pgweir",
                      "PGWEIR-DRAINING: it waited for a server.", NULL);
        return;
    }
}

/* Even if there is a server for it now: the rest of a transaction must not run without its BEGIN. */
bool shed_along(struct session *s)
{
    bool goes = s->shed_along && s->collected_bytes > 0 &&
                s->collected_bytes + s->late_bytes <= s->conn->in.bytes;
    if (goes)
        say(s, (enum shed_reason)s->shed_why);
    return goes;
}

enum step shed_or_wait(struct session *s)
{
    s->here_bytes = s->conn->in.bytes;
    if (waiter_waits(&s->waiter))
        return STEP_WAIT;
    s->waiter.since_ms = s->worker->loop->now_ms;
    shed(s, SHED_QUEUE_FULL);
    return STEP_DONE;
}
