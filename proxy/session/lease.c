/* proxy/session/lease.c: where a segment goes, getting a server for it, and giving it back. */
#include "proxy/session/session.h"
#include "proxy/session/settings.h"

#include "base/check.h"
#include "proxy/io/log.h"
#include "proxy/pool/cancel.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- deciding ---- */

static const struct conf *conf_of(const struct session *s)
{
    return s->worker->hub.snapshot->conf;
}

static void log_route(struct session *s, const struct route *route, const struct server *server)
{
    struct node *node = &s->set->cluster->nodes[server->pool->node];
    uint64_t waited_ns = s->worker->loop->now_ns - s->asked_ns;
    LOG(LOG_INFO, "route.decision", LF_U("client", s->serial), LF_S("db", s->set->database),
        LF_S("class", sql_class_text((enum sql_class)s->segment.class)),
        LF_S("route", route_target_text(route->target)),
        LF_S("reason", route_reason_text((enum route_reason)route->reason)),
        LF_S("node", node->label), LF_U("lag_ms", node_status(node).lag_ms),
        LF_U("wait_us", waited_ns / 1000));
}

static void log_if_asked(struct session *s, const struct route *route, const struct server *server)
{
    enum conf_log_routes how = conf_of(s)->log_routes;
    if (how == CONF_ROUTES_ALL ||
        (how == CONF_ROUTES_SAMPLE && hub_random(&s->worker->hub) % 100 == 0))
        log_route(s, route, server);
}

static enum route_policy policy_of(const struct session *s)
{
    uint8_t word;
    bool set = settings_get(s, SETTING_ROUTE, &word);
    return (enum route_policy)(set ? word : s->policy);
}

/* The floor is looked at only where it counts: that costs. */
static uint32_t replicas_for(struct session *s, struct cluster_view view, enum route_policy policy,
                             enum route_tx tx)
{
    bool may = policy == ROUTE_POLICY_REPLICA || tx == ROUTE_TX_READ_ONLY ||
               tx == ROUTE_TX_OPTIMISTIC || s->segment.flags & (SQL_F_READ | SQL_F_BEGIN_READ_ONLY);
    s->floor_ignored = policy == ROUTE_POLICY_ANY;
    return may && !s->floor_ignored ? floors_readable(s, view) : view.readable;
}

static struct route decide(struct session *s)
{
    enum route_policy policy = policy_of(s);
    catalogs_check_segment(s);
    struct cluster_view view = cluster_view(s->set->cluster);
    uint32_t nodes = (uint32_t)((1ULL << s->set->cluster->node_n) - 1);
    uint32_t not_primary = view.primary == NODE_NONE ? nodes : nodes & ~(1U << view.primary);
    enum route_tx tx = tx_route(s);
    struct route_input in = {
        .pinned = s->session_pooling, /* else it would hold its server */
        .read_write_split = s->set->cluster->node_n > 1,
        .segment_complete = !s->segment_cut,
        .policy = policy,
        .hint = (enum hint_route)s->hint,
        .class = s->segment.class,
        .class_reason = s->segment.reason,
        .flags = s->segment.flags,
        .tx = tx,
        .replica_mask =
            replicas_for(s, view, route_policy_of((enum hint_route)s->hint, policy), tx) &
            ~s->avoid,
        .replica_all_mask = not_primary | view.readable,
    };
    struct route route;
    route_decide(&in, &route);
    if (s->avoid)
        route.reason = ROUTE_WHY_RERUN;
    else if (route.reason == ROUTE_WHY_NO_FRESH_REPLICA && view.readable)
        route.reason = ROUTE_WHY_FLOOR;
    else if (route.target == ROUTE_REPLICA && guard_knows(s))
        route = (struct route){.target = ROUTE_PRIMARY, .reason = ROUTE_WHY_LEARNED};
    return route;
}

/* ---- reads while no replica may serve them ---- */

static uint64_t primary_samples(struct session *s, bool begun)
{
    uint8_t primary = cluster_view(s->set->cluster).primary;
    if (primary == NODE_NONE)
        return 0;
    struct node *node = &s->set->cluster->nodes[primary];
    return begun ? atomic_load(&node->samples_begun) : node_status(node).sample;
}

/* What this client did on the primary no replica can be known to have: until the next sample its reads go
 * there whatever becomes of the replicas. They do not count in primary_read_budget, nor do they renew this. */
static bool follows_own_write(struct session *s)
{
    return s->primary_until && primary_samples(s, false) <= s->primary_until;
}

static enum want want_of(struct session *s, const struct route *route)
{
    bool spills =
        route->reason == ROUTE_WHY_NO_FRESH_REPLICA || route->reason == ROUTE_WHY_NO_REPLICA;
    s->own_read = spills && follows_own_write(s);
    return route->target == ROUTE_REPLICA || (spills && !s->own_read) ? WANT_READ : WANT_PRIMARY;
}

static void count(struct session *s, const struct route *route)
{
    s->reason = route->reason;
    explain_routed(s, route);
}

/* ---- attaching ---- */

#define SEQUENCES_KEPT_MS 1000 /* for a client that may ask for currval() */
#define SEQUENCES_UNREAD_MAX 4 /* calls of nextval() that nobody asked after: it will not do so */
#define SEQUENCES_UNREAD_SEEN_MAX 64 /* ... writes, where somebody does */
#define SEQUENCES_LOOK_MAX 4096      /* bytes of a text that are looked at for nextval() */

static bool names_nextval(struct session *s)
{
    struct slice text = client_segment_text(s);
    size_t n = text.n < SEQUENCES_LOOK_MAX ? text.n : SEQUENCES_LOOK_MAX;
    return n > 0 && (memmem(text.p, n, "nextval", 7) || memmem(text.p, n, "setval", 6));
}

/* currval() and lastval() must tell what this client's nextval() gave, and nobody else's. So a client that calls that,
 * or writes where somebody has asked for such a value, has a server without others' values, and finds it again as
 * long as nobody needs it; and a client that never asks is not treated so for long. */
static bool tracks_sequences(struct session *s)
{
    const struct sql_facts *facts = &s->segment;
    if (facts->flags & SQL_F_SEQUENCE || s->session_pooling)
        return !s->session_pooling;
    bool seen = s->set->uses_currval;
    return facts->class >= SQL_WRITER_FUNCTION &&
           s->sequences_unread < (seen ? SEQUENCES_UNREAD_SEEN_MAX : SEQUENCES_UNREAD_MAX) &&
           (seen || names_nextval(s));
}

/* They would be told by this server. */
static bool keep_sequences(struct session *s)
{
    struct server *server = s->server;
    bool reads = s->segment.flags & SQL_F_SEQUENCE;
    if (!s->waiter.sequences_of)
        return false;
    server->kept_ms = s->worker->loop->now_ms + SEQUENCES_KEPT_MS;
    s->sequences_unread = reads ? 0 : (uint8_t)(s->sequences_unread + 1);
    s->set->uses_currval = s->set->uses_currval || reads;
    return server->sequences_of != 0 && server->sequences_of != s->serial;
}

/* A server with other settings gets ours first; what the client asked waits for that answer, so that
 * nothing runs under wrong settings (spec/pooling.md 0.5). */
static enum step sync_label(struct session *s, bool strange)
{
    if (s->server->label == s->label && !strange)
        return STEP_DONE;
    struct put o = put_into(conn_out_reserve(s->server->conn, LABEL_SQL_MAX), LABEL_SQL_MAX);
    uint8_t text[LABEL_SQL_MAX];
    struct put sql = put_into(text, sizeof text - 64);
    CHECK(label_sql(s->server->label, s->label, &sql)); /* bounded by LABEL_BYTES_MAX */
    if (strange) {
        put_bytes(&sql, slice_of(";DISCARD SEQUENCES"));
        s->server->sequences_of = 0;
    }
    CHECK(!sql.full);
    put_query(&o, put_slice(&sql));
    conn_out_commit(s->server->conn, o.n);
    stmt_set_unnamed(&s->server->stmts, NULL); /* a simple query destroys it */
    s->worker->hub.label_syncs++;
    label_unref(s->server->label);
    s->server->label = NULL; /* until it has answered */
    server_chore_begin(s->server);
    s->syncing = true;
    s->sync_failed = false;
    return STEP_WAIT;
}

/* Servers may differ in what they report: their configuration has changed, or is another one. */
static void tell(struct session *s)
{
    struct told *is = pool_told(s->server);
    uint8_t bytes[SERVER_GREETING_MAX];
    struct put o = put_into(bytes, sizeof bytes);
    if (is == s->told || s->state != SESSION_READY)
        return;
    told_difference(s->told, is, &o);
    if (o.full)
        return;
    conn_out_copy(s->conn, o.p, o.n);
    told_unref(s->told);
    s->told = told_ref(is);
}

void lease_guard(struct session *s)
{
    s->guard = true;
    if (s->collected_bytes)
        seg_push_copy(&s->worker->loop->bufs, &s->replay,
                      conn_in_contiguous(s->conn, s->collected_bytes), s->collected_bytes);
}

void lease_over_connect(struct session *s)
{
    struct label *under = s->set->connected;
    if (!under || s->over_connect)
        return;
    struct label *label = label_over(&s->set->labels, s->label, under);
    s->over_connect = true;
    if (!label) /* too much: the client's own come first */
        return;
    label_unref(s->label);
    label_unref(s->state_of.startup);
    s->label = label;
    s->state_of.startup = label_ref(label);
}

/* True: it is gone, or this client's for good. */
static bool is_too_used(struct session *s, struct server *server)
{
    if (server->in_recovery || !state_wants_new_server(s))
        return false;
    if (server->lease_serial > 1) {
        pool_discard(server, "a_new_one_is_wanted");
        return true;
    }
    state_pin(s, LEFT_OTHER);
    return false;
}

static enum step attach(struct session *s, struct server *server)
{
    lease_over_connect(s);
    uint8_t primary = cluster_view(s->set->cluster).primary;
    s->server = server;
    s->on_replica = server->pool->node != primary && s->waiter.want == WANT_READ;
    conn_expect_small(server->conn);
    tx_attached(s);
    if (s->state == SESSION_READY && s->on_replica && !s->second_try && !s->segment_cut)
        lease_guard(s);
    if (sync_label(s, keep_sequences(s)) == STEP_WAIT) {
        server_chore_first(server);
        return STEP_WAIT;
    }
    tell(s);
    if (s->waiter.want == WANT_READ)
        pool_asked(server);
    return STEP_DONE;
}

/* Since it was routed the nodes have changed. */
static uint32_t readable_now(struct waiter *waiter, struct cluster_view view)
{
    struct session *s = waiter->owner;
    return floors_readable(s, view) & ~s->avoid;
}

/* Cancelled before anything of it was sent. */
static bool is_cancelled(struct session *s)
{
    struct cancel_wish *wish = s->cancel_due;
    s->cancel_due = NULL;
    if (wish) {
        lease_refuse(s, "57014", "canceling statement due to user request", NULL, NULL);
        wish->ended(wish);
    }
    return wish != NULL;
}

enum step lease_for_segment(struct session *s)
{
    if (is_cancelled(s) || shed_along(s))
        return STEP_DONE;
    struct route route = decide(s);
    if (floors_wait(s, &route))
        return STEP_WAIT;
    if (route.target == ROUTE_REPLICA)
        floors_reached(s);
    count(s, &route);
    s->asked_ns = s->worker->loop->now_ns;
    enum want want = want_of(s, &route);
    s->waiter.client = s->serial;
    s->waiter.sequences_of = tracks_sequences(s) ? s->serial : 0;
    struct server *server;
    do { /* as many as are idle */
        server =
            pool_lease(s->set, &s->waiter, want, route.nodes, s->label, shed_patience_ms(s, want));
    } while (server && is_too_used(s, server));
    if (!server)
        return shed_or_wait(s);
    log_if_asked(s, &route, server);
    return attach(s, server);
}

void lease_for_greeting(struct session *s)
{
    bool any = cluster_view(s->set->cluster).primary == NODE_NONE && !s->replication;
    enum want want = any ? WANT_READ : WANT_PRIMARY;
    s->waiter.sequences_of = 0;
    struct server *server =
        pool_lease(s->set, &s->waiter, want, 0, s->label, shed_patience_ms(s, want));
    if (!server)
        shed_or_wait(s);
    else if (attach(s, server) == STEP_DONE)
        lease_after_sync(s);
}

static void finish_greeting(struct session *s)
{
    struct server *server = s->server;
    uint8_t bytes[SERVER_GREETING_MAX];
    struct put o = put_into(bytes, sizeof bytes);
    server_greeting(server, &o);
    if (s->set->own) { /* it keeps the server */
        s->sender_rests = s->replication;
        label_set_greeting(s->label, put_slice(&o));
        startup_greet(s);
        return;
    }
    pool_keep_greeting(s->set, s->label, put_slice(&o));
    s->server = NULL;
    s->tries = 0;
    pool_release(server);
    startup_greet(s);
}

static void forget_lease(struct session *s);

static void give_back_unused(struct session *s)
{
    struct server *server = s->server;
    s->server = NULL;
    forget_lease(s);
    seg_drop(&s->worker->loop->bufs, &s->replay, s->replay.bytes);
    pool_release(server);
    is_cancelled(s);
}

void lease_after_sync(struct session *s)
{
    server_chore_end(s->server);
    if (s->sync_failed) { /* the client has been told; the server's settings are in doubt */
        struct server *server = s->server;
        s->server = NULL;
        pool_discard(server, "label_failed");
        session_close(s, "settings_refused");
        return;
    }
    if (s->server->label == NULL)
        s->server->label = label_ref(s->label);
    if (s->state == SESSION_GREETING) {
        finish_greeting(s);
        return;
    }
    if (s->cancel_due && s->collected_bytes > 0) {
        give_back_unused(s);
        return;
    }
    tell(s);
    if (s->waiter.want == WANT_READ)
        pool_asked(s->server);
    session_run(s);
    session_cancel_due(s);
}

void lease_after_look(struct session *s)
{
    state_looked(s);
    lease_end_if_idle(s);
    session_run(s);
    session_cancel_due(s);
}

/* The node may have been restarted while the read waited, and then be behind what it was chosen for. */
static bool is_still_fresh(struct session *s, const struct server *server)
{
    struct cluster_view view = cluster_view(s->set->cluster);
    uint32_t node = server->pool->node;
    if (s->state != SESSION_READY || s->waiter.want != WANT_READ || node == view.primary ||
        s->floor_ignored)
        return true;
    return (floors_readable(s, view) & 1U << node) != 0;
}

static void on_granted(struct waiter *waiter, struct server *server)
{
    struct session *s = waiter->owner;
    bool fresh = is_still_fresh(s, server), gone = fresh && is_too_used(s, server);
    if (!fresh) {
        s->avoid |= 1U << server->pool->node;
        pool_release(server);
    }
    if (!fresh || gone) {
        if (lease_for_segment(s) == STEP_DONE)
            session_run(s);
        return;
    }
    bool primary = server->pool->node == cluster_view(s->set->cluster).primary;
    struct route route = {.target = primary ? ROUTE_PRIMARY : ROUTE_REPLICA, .reason = s->reason};
    if (s->state == SESSION_READY)
        log_if_asked(s, &route, server);
    if (attach(s, server) == STEP_WAIT)
        return;
    if (s->state == SESSION_GREETING)
        lease_after_sync(s);
    else
        session_run(s);
}

/* ---- refusing ---- */

void lease_refuse(struct session *s, const char *sqlstate, const char *message, const char *detail,
                  const char *hint)
{
    if (s->state != SESSION_READY) {
        session_fatal(s, sqlstate, message, detail, hint);
        return;
    }
    session_error(s, sqlstate, message, detail, hint);
    client_drop(s, s->collected_bytes);
    tx_refused(s);
    s->avoid = 0;
    s->second_try = false;
    if (s->segment_cut && !client_drop_query(s))
        s->skip_to_sync = true;
    else
        session_notice_ready(s);
    session_run(s);
}

/* ---- the server's upcalls ---- */

static void on_server_input(void *lessee, struct server *server)
{
    (void)server;
    reply_input(lessee);
}

static void on_server_drained(void *lessee, struct server *server)
{
    (void)server;
    struct session *s = lessee;
    conn_resume(s->conn);
    session_run(s);
}

/* What was asked cannot be known to have failed when a commit was under way: 08007, never success,
 * never a second try (DESIGN.md section 5, promise 5). */
static void say_lost(struct session *s)
{
    if (s->fatal_seen) {
        session_close(s, "server_closed");
        return;
    }
    if (s->writes)
        session_fatal(
            s, "08007",
            "connection to the server was lost; the outcome of the transaction is unknown",
            "PGWEIR-OUTCOME-UNKNOWN: the server went away after a commit, or a write outside "
            "a transaction, was sent.",
            "Check whether the change is there before you send it again.");
    else
        session_fatal(s, "08006", "connection to the server was lost",
                      s->tx_status == 'I'
                          ? "PGWEIR-SERVER-LOST: nothing that was asked has changed data."
                          : "PGWEIR-SERVER-LOST: the transaction is rolled back.",
                      NULL);
}

static void lost_between(struct session *s);

/* Nothing of the client's was asked there. */
static void greet_again(struct session *s)
{
    s->server_body_left = 0;
    lease_for_greeting(s);
}

static void on_server_lost(void *lessee, struct server *server)
{
    struct session *s = lessee;
    if (s->replication && s->state == SESSION_READY) {
        replication_to_client(s); /* the server's last words */
        session_close(s, "server_closed");
        return;
    }
    bool again = s->guard && s->state == SESSION_READY && !s->fatal_seen;
    bool between = tx_survives(s);
    bool greeting = s->state == SESSION_GREETING && !s->set->own;
    bool sent = !(s->syncing && s->collected_bytes > 0);
    guard_avoid_node(s);
    s->server = NULL;
    catalogs_answered(s, true); /* what became of its DDL is not known */
    hub_evidence(&s->worker->hub, s->set->cluster);
    pool_discard(server, "lost");
    if (s->state == SESSION_READY && !sent)
        again = true; /* not a byte of the segment has gone out */
    s->syncing = false;
    if (between)
        lost_between(s);
    else if (s->sync_failed && s->state == SESSION_READY) /* which the client has been told */
        session_close(s, "settings_refused");
    else if (again && s->tries++ < TRIES_MAX)
        lease_rerun(s, sent);
    else if (greeting && !s->sync_failed && s->tries++ < TRIES_MAX)
        greet_again(s);
    else if (s->state == SESSION_GREETING)
        session_fatal(s, "08006", "connection to the server was lost during login", NULL, NULL);
    else
        say_lost(s);
}

static const struct lessee_ops session_lessee_ops = {
    .on_input = on_server_input,
    .on_drained = on_server_drained,
    .on_lost = on_server_lost,
};

const struct waiter_ops lease_waiter_ops = {
    .lessee = &session_lessee_ops,
    .readable = readable_now,
    .granted = on_granted,
    .more_ms = shed_more_ms,
    .waits_long = shed_waits_long,
    .refused = shed_refused,
};

/* ---- giving back ---- */

static void forget_lease(struct session *s)
{
    catalogs_answered(s, true); /* what became of its DDL is not known */
    struct buf_pool *bufs = &s->worker->loop->bufs;
    s->replies.n = 0;
    statement_drop_pending(s);
    seg_drop(bufs, &s->held, s->held.bytes);
    s->server_body_left = 0;
    s->guard = s->guard_failed = s->syncing = s->sync_ignored = false;
    s->copy_asked = s->copy_due = s->copy_flushed = false;
    s->end_seen = s->skipping = s->copy_in = s->forget_names = s->segment_open = s->writes = false;
    s->on_replica = false;
    s->bringing = BRING_NONE;
    statement_query_drop(s);
    s->tx_status = 'I';
    state_lost(s);
    tx_away(s);
}

/* Nothing was asked: the transaction goes on, on the server that its next statement finds. */
static void lost_between(struct session *s)
{
    forget_lease(s);
    conn_resume(s->conn);
    session_run(s);
}

enum step lease_move(struct session *s)
{
    struct server *server = s->server;
    s->server = NULL;
    forget_lease(s);
    pool_release_after(server, CLEAN_ROLLBACK);
    return lease_for_segment(s);
}

/* The replica refused or vanished, and nothing of its answer has left us: once more, elsewhere. */
void lease_rerun(struct session *s, bool was_sent)
{
    struct buf_pool *bufs = &s->worker->loop->bufs;
    CHECK(s->server == NULL && !(was_sent && s->second_try));
    s->second_try = s->second_try || was_sent;
    forget_lease(s);
    s->worker->stats.reruns++;
    if (s->replay.bytes >
        0) { /* all of the segment; what had not been sent of it is in the input too */
        seg_drop(bufs, &s->conn->in, s->collected_bytes);
        struct seg_queue rest = s->conn->in;
        s->conn->in = s->replay;
        s->replay = (struct seg_queue){0};
        seg_move(&s->conn->in, &rest);
    }
    s->collected_bytes = 0;
    if (s->conn->paused)
        conn_resume(s->conn);
    session_run(s);
    session_cancel_due(s);
}

/* Half of a message may be on its way, after a COPY that failed: the next client's bytes must not
 * come behind it. */
void lease_end_if_idle(struct session *s)
{
    struct server *server = s->server;
    bool half_sent = s->stream_left > 0 && !s->stream_drop;
    if (!server || s->tx_status != 'I' || s->replies.n > 0 || s->segment_open || s->copy_in ||
        s->copy_asked || s->illegal || s->skipping || s->syncing || s->guard_failed || half_sent ||
        s->state_of.look || s->bringing)
        return;
    s->writes = s->second_try = false;
    s->avoid = 0;
    s->tries = 0;
    if (!s->session_pooling && state_asks(s))
        return;
    if (s->session_pooling || state_keeps_server(s)) {
        sync_label(s, false); /* DISCARD ALL takes what the login has set, too */
        return;
    }
    if (s->waiter.want == WANT_PRIMARY && !s->own_read)
        s->primary_until = primary_samples(s, true);
    s->server = NULL;
    s->on_replica = false;
    const struct conf *conf = conf_of(s);
    if (conf->server_reset_query_always && conf->server_reset_query[0])
        pool_release_after(server, CLEAN_RESET);
    else
        pool_release(server);
    tx_idles(s);
    if (s->conn->paused) /* until the server would read on, and it need not any more */
        conn_resume(s->conn);
}

/* ---- leaving ---- */

/* Nothing is asked, nothing is open but a transaction. */
static bool is_at_rest(const struct session *s)
{
    return s->replies.n == 0 && s->tx.begin_left == 0 && !s->copy_in && !s->segment_open &&
           !s->skipping && s->stream_left == 0 && !s->syncing && !s->guard_failed &&
           s->server->conn->in.bytes == 0 && s->server_body_left == 0 && !s->copy_asked &&
           !s->illegal && !s->state_of.look;
}

/* Why the server cannot go on; NULL: it can. */
static const char *why_lost(const struct session *s, bool at_rest)
{
    bool half_sent = s->stream_left > 0 && !s->stream_drop;
    bool fills = s->copy_in && s->stream_left <= DRAIN_FILL_MAX;
    if (s->fatal_seen || s->illegal)
        return "ends"; /* by itself */
    if (state_is_soiled(s))
        return "tainted"; /* by state that nothing cleans */
    if (half_sent && !fills)
        return "half_a_message";
    return !at_rest && conf_of(s)->abandon_timeout_ms == 0 ? "client_left" : NULL;
}

static struct drain_plan plan_of(const struct session *s, unsigned clean)
{
    return (struct drain_plan){
        .body_left = s->server_body_left,
        .fill = s->stream_drop ? 0 : s->stream_left,
        .runs = s->replies.n > 0,
        .open = s->segment_open,
        .names_change = s->pending || s->guarded || s->forget_names || s->bringing ||
                        s->query_names || s->taken_n > 0,
        .ddl = s->ddl_ran,
        .clean = clean,
    };
}

/* The client has gone: what it leaves on its server ends there, and the server is kept if that can be. */
void lease_abandon(struct session *s)
{
    struct server *server = s->server;
    uint64_t *leaves = s->worker->hub.leaves;
    if (s->replication) {
        s->server = NULL;
        if (!s->sender_rests)
            cancel_abandoned(server); /* it may run for hours otherwise */
        pool_discard(server, "client_left");
        return;
    }
    bool at_rest = is_at_rest(s), in_tx = s->tx_status != 'I';
    const char *lost = why_lost(s, at_rest);
    unsigned clean = state_keeps_server(s) || s->session_pooling ? CLEAN_RESET : 0;
    struct drain_plan plan = plan_of(s, clean);
    s->server = NULL;
    forget_lease(s);
    if (lost) {
        leaves[LEAVE_CLOSED]++;
        if (!at_rest)
            cancel_abandoned(server); /* it may run for hours otherwise */
        pool_discard(server, lost);
    } else if (!at_rest) {
        pool_release_left(server, &plan);
    } else if (in_tx || clean) {
        leaves[LEAVE_ROLLED_BACK] += in_tx;
        pool_release_after(server, clean | (in_tx ? CLEAN_ROLLBACK : 0));
    } else {
        pool_release(server);
    }
}
