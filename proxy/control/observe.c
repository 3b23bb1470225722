/* proxy/control/observe.c: the clusters under observation. Probes and names bring news, the judge
 * decides, and the verdict is published, logged and told to the workers. */
#include "base/check.h"
#include "proxy/control/catalog_jobs.h"
#include "proxy/control/ejection.h"
#include "proxy/control/inside.h"
#include "proxy/control/probe.h"
#include "proxy/io/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_TICK_MS 1000 /* how often names are looked at; also the pause after a failure */
#define REASON_SETTLE_NS 1000000000U /* a reason that stays this long is logged */

struct observed_node {
    struct probe probe;
    bool named;     /* its address comes from the DNS */
    bool resolving; /* the DNS has been asked */
    bool failing;   /* probe.failed was logged */
    uint64_t asked_ms;
    char told[PROBE_TEXT_BYTES]; /* the error that was logged last; "": none */
    char name_told[128];         /* the same of the DNS */
    enum node_role known_role;   /* the last one that was not unknown */
    enum node_why why, logged_why;
    uint64_t why_since_ns;
};

struct observed {
    struct list link;
    struct control *control;
    struct cluster *cluster;      /* a reference */
    char name[CONF_NAME_MAX + 1]; /* of the first [databases] entry */
    struct login login;
    bool has_login;
    bool wanted;      /* by the snapshot; else it is closing */
    uint32_t alive_n; /* probes that are not gone */
    struct judge judge;
    struct judge_limits limits;
    struct judge_verdict verdict;
    struct ejection ejection;
    struct timer recheck;
    struct observed_node nodes[];
};

static const struct conf *conf_of(const struct observed *o)
{
    return o->control->snapshot->conf;
}

static struct observed *find(const struct control *c, const struct cluster *cluster)
{
    for (struct list *n = c->observed.next; n != &c->observed; n = n->next) {
        struct observed *o = LIST_ENTRY(n, struct observed, link);
        if (o->cluster == cluster && o->wanted)
            return o;
    }
    return NULL;
}

static const char *label_of(const struct observed *o, uint32_t node)
{
    return node == NODE_NONE ? "none" : o->cluster->nodes[node].label;
}

/* ---- what is logged of a verdict ---- */

static bool has_node(uint32_t mask, uint32_t node)
{
    return (mask & 1U << node) != 0;
}

static void log_role(struct observed *o, uint32_t i, const struct node_status *now)
{
    struct observed_node *node = &o->nodes[i];
    if (now->role == NODE_UNKNOWN || now->role == node->known_role)
        return;
    LOG(LOG_INFO, "node.role", LF_S("database", o->name), LF_S("node", label_of(o, i)),
        LF_S("was", node_role_text(node->known_role)), LF_S("role", node_role_text(now->role)),
        LF_U("timeline", now->timeline));
    node->known_role = now->role;
}

static void log_eligible(struct observed *o, uint32_t i, const struct node_status *now,
                         bool readable)
{
    const struct conf *conf = conf_of(o);
    o->nodes[i].logged_why = now->why;
    if (conf->log_routes == CONF_ROUTES_NONE)
        return;
    if (readable)
        LOG(LOG_INFO, "route.node_eligible", LF_S("database", o->name),
            LF_S("node", label_of(o, i)), LF_U("lag_ms", now->lag_ms),
            LF_U("max_lag_ms", conf->max_lag_ms), LF_U("lag_bytes", now->lag_bytes));
    else if (now->why == NODE_LAGS && now->lag_ms == (uint64_t)LAG_UNKNOWN_MS)
        LOG(LOG_WARN, "route.node_ineligible", LF_S("database", o->name),
            LF_S("node", label_of(o, i)), LF_S("reason", node_why_text(now->why)),
            LF_S("lag_ms", "unknown"), LF_U("max_lag_ms", conf->max_lag_ms),
            LF_U("lag_bytes", now->lag_bytes), LF_S("walreceiver", now->receiver));
    else if (now->why == NODE_LAGS || now->why == NODE_LAGS_BYTES)
        LOG(LOG_WARN, "route.node_ineligible", LF_S("database", o->name),
            LF_S("node", label_of(o, i)), LF_S("reason", node_why_text(now->why)),
            LF_U("lag_ms", now->lag_ms), LF_U("max_lag_ms", conf->max_lag_ms),
            LF_U("lag_bytes", now->lag_bytes), LF_U("max_lag_bytes", conf->max_lag_bytes),
            LF_S("walreceiver", now->receiver));
    else
        LOG(LOG_WARN, "route.node_ineligible", LF_S("database", o->name),
            LF_S("node", label_of(o, i)), LF_S("reason", node_why_text(now->why)));
}

/* At once when it comes or goes; and a reason that is new and stays. */
static void log_route(struct observed *o, uint32_t i, const struct judge_verdict *now)
{
    struct observed_node *node = &o->nodes[i];
    const struct node_status *s = &now->nodes[i];
    bool readable = has_node(now->readable, i), was = has_node(o->verdict.readable, i);
    uint64_t now_ns = o->control->loop->now_ns;
    if (s->why != node->why)
        node->why_since_ns = now_ns;
    node->why = s->why;
    bool settled = now_ns - node->why_since_ns >= REASON_SETTLE_NS;
    if (i == now->primary || s->why == NODE_IS_PRIMARY || s->why == NODE_NOT_SAMPLED)
        return; /* cluster.primary_changed and probe.failed say it */
    if (readable != was || (!readable && settled && s->why != node->logged_why))
        log_eligible(o, i, s, readable);
}

static void log_alerts(const struct observed *o, uint32_t i, const struct judge_verdict *now)
{
    const struct node_status *s = &now->nodes[i];
    bool turned = s->why != o->verdict.nodes[i].why;
    if (has_node(now->rivals, i) && !has_node(o->verdict.rivals, i))
        LOG(LOG_ERROR, "cluster.two_primaries", LF_S("database", o->name),
            LF_S("used", label_of(o, now->primary)), LF_S("not_used", label_of(o, i)),
            LF_U("timeline", s->timeline));
    if (turned && s->why == NODE_OLD_TIMELINE && s->role != NODE_REPLICA)
        LOG(LOG_ERROR, "node.old_timeline", LF_S("database", o->name), LF_S("node", label_of(o, i)),
            LF_U("timeline", s->timeline), LF_U("newest_timeline", o->judge.timeline));
    if (turned && s->why == NODE_OTHER_SYSTEM)
        LOG(LOG_ERROR, "node.other_system", LF_S("database", o->name), LF_S("node", label_of(o, i)),
            LF_U("system_identifier", s->system_id), LF_U("expected", o->judge.system_id));
}

static void log_verdict(struct observed *o, const struct judge_verdict *now)
{
    for (uint32_t i = 0; i < o->cluster->node_n; i++) {
        log_role(o, i, &now->nodes[i]);
        log_alerts(o, i, now);
        log_route(o, i, now);
    }
    if (now->primary != o->verdict.primary)
        LOG(now->primary == NODE_NONE ? LOG_WARN : LOG_INFO, "cluster.primary_changed",
            LF_S("database", o->name), LF_S("was", label_of(o, o->verdict.primary)),
            LF_S("primary", label_of(o, now->primary)), LF_U("timeline", o->judge.timeline));
}

/* ---- the verdict ---- */

static void tell_workers(const struct observed *o)
{
    const struct control *c = o->control;
    if (c->running)
        c->hooks.cluster_changed(c->hooks.context, o->cluster);
}

/* Statuses first: who sees the view finds them at least as new. */
static void decide(struct observed *o)
{
    struct judge_verdict now;
    struct loop *loop = o->control->loop;
    if (!o->wanted)
        return;
    judge_decide(&o->judge, loop->now_ns, &o->limits, &now);
    ejection_apply(&o->ejection, o->name, o->cluster, conf_of(o)->eject_max_percent, loop->now_ns,
                   &now);
    for (uint32_t i = 0; i < o->cluster->node_n; i++)
        node_publish_status(&o->cluster->nodes[i], &now.nodes[i]);
    bool changed = cluster_publish(o->cluster, now.readable, now.primary);
    bool reach = now.unreachable != o->verdict.unreachable;
    log_verdict(o, &now);
    o->verdict = now;
    if (now.recheck_ns != UINT64_MAX)
        timer_start(&loop->timers, &o->recheck, now.recheck_ns / 1000000U + 1);
    if (changed)
        catalog_jobs_primary(o->control, o->cluster);
    if (changed || reach)
        tell_workers(o);
}

static void on_recheck(struct timer *timer)
{
    decide(LIST_ENTRY(timer, struct observed, recheck));
}

/* ---- names ---- */

static void ask_name(struct observed *o, uint32_t i)
{
    struct observed_node *node = &o->nodes[i];
    struct control *c = o->control;
    if (!node->named || node->resolving || !c->dns)
        return;
    if (node->asked_ms != 0 && c->loop->now_ms < node->asked_ms + NAMES_TICK_MS)
        return;
    node->resolving = true;
    node->asked_ms = c->loop->now_ms;
    dns_ask(c->dns, o->cluster, i);
}

static void ask_names(struct observed *o)
{
    uint64_t ttl_ms = conf_of(o)->dns_max_ttl_ms, now_ms = o->control->loop->now_ms;
    for (uint32_t i = 0; i < o->cluster->node_n && o->wanted; i++) {
        const struct observed_node *node = &o->nodes[i];
        if (node->asked_ms == 0 || node->probe.address_n == 0 || now_ms >= node->asked_ms + ttl_ms)
            ask_name(o, i);
    }
}

static void on_names_tick(struct timer *timer)
{
    struct control *c = LIST_ENTRY(timer, struct control, resolve_timer);
    for (struct list *n = c->observed.next; n != &c->observed; n = n->next)
        ask_names(LIST_ENTRY(n, struct observed, link));
    timer_start(&c->loop->timers, timer, c->loop->now_ms + NAMES_TICK_MS);
}

static void name_failed(struct observed *o, uint32_t i, const char *error)
{
    struct observed_node *node = &o->nodes[i];
    if (strcmp(node->name_told, error) != 0)
        LOG(LOG_WARN, "node.resolve_failed", LF_S("database", o->name),
            LF_S("node", label_of(o, i)), LF_S("error", error));
    snprintf(node->name_told, sizeof node->name_told, "%s", error);
    if (node->probe.address_n > 0)
        return; /* the last good address is kept */
    judge_lost(&o->judge, i, NODE_NO_ADDRESS);
    decide(o);
}

static void take_answer(void *context, struct dns_answer *answer)
{
    struct control *c = context;
    struct observed *o = find(c, answer->cluster);
    if (o && !c->stopping) {
        struct observed_node *node = &o->nodes[answer->node];
        node->resolving = false;
        if (answer->address_n == 0) {
            name_failed(o, answer->node, answer->error);
        } else {
            node->name_told[0] = '\0';
            probe_set_addresses(&node->probe, answer->addresses, answer->address_n);
        }
    }
    dns_answer_free(answer);
}

void observe_start_names(struct control *c)
{
    c->dns = dns_start(c->loop, take_answer, c);
    if (!c->dns)
        LOG(LOG_ERROR, "control.no_thread", LF_S("thread", "pgweir-dns"),
            LF_S("error", strerror(errno)));
    timer_init(&c->resolve_timer, on_names_tick);
    on_names_tick(&c->resolve_timer);
}

/* ---- what the probes say ---- */

static struct observed *owner_of(struct probe *probe, struct observed_node **node)
{
    *node = LIST_ENTRY(probe, struct observed_node, probe);
    return probe->owner;
}

static void on_answered(struct probe *probe, const struct judge_sample *sample)
{
    struct observed_node *node;
    struct observed *o = owner_of(probe, &node);
    if (node->failing)
        LOG(LOG_INFO, "probe.recovered", LF_S("database", o->name),
            LF_S("node", probe->node->label));
    node->failing = false;
    node->told[0] = '\0';
    judge_take(&o->judge, probe->node->index, sample, &o->limits);
    decide(o);
    if (o->control->running && cluster_is_awaited(o->cluster))
        o->control->hooks.sampled(o->control->hooks.context, o->cluster);
}

static bool on_awaited(struct probe *probe)
{
    struct observed_node *node;
    return cluster_is_awaited(owner_of(probe, &node)->cluster);
}

static void on_failed(struct probe *probe, enum node_why why, const char *text)
{
    struct observed_node *node;
    struct observed *o = owner_of(probe, &node);
    if (strcmp(node->told, text) != 0)
        LOG(LOG_WARN, "probe.failed", LF_S("database", o->name), LF_S("node", probe->node->label),
            LF_S("error", text), LF_U("retry_ms", probe->retry_ms));
    snprintf(node->told, sizeof node->told, "%s", text);
    node->failing = true;
    if (why == NODE_FINE)
        return; /* its last sample counts until it is too old */
    if (why == NODE_UNREACHABLE)
        ask_name(o, probe->node->index);
    judge_lost(&o->judge, probe->node->index, why);
    decide(o);
}

static void on_moved(struct probe *probe)
{
    struct observed_node *node;
    struct observed *o = owner_of(probe, &node);
    const struct node_address to = node_address(probe->node);
    char host[64] = "unix socket";
    if (to.addr.ss_family != AF_UNIX)
        getnameinfo((const struct sockaddr *)(const void *)&to.addr, to.bytes, host, sizeof host,
                    NULL, 0, NI_NUMERICHOST);
    if (node->named)
        LOG(LOG_INFO, "node.address", LF_S("database", o->name), LF_S("node", probe->node->label),
            LF_S("address", host));
    tell_workers(o);
    catalog_jobs_primary(o->control, o->cluster);
}

static void on_gone(struct probe *probe)
{
    struct observed_node *node;
    struct observed *o = owner_of(probe, &node);
    if (--o->alive_n > 0)
        return;
    list_remove(&o->link);
    cluster_unref(o->cluster);
    free(o);
}

static const struct probe_ops probe_ops = {.answered = on_answered,
                                           .failed = on_failed,
                                           .awaited = on_awaited,
                                           .moved = on_moved,
                                           .gone = on_gone};

/* ---- following the snapshot ---- */

static struct observed *begin(struct control *c, struct cluster *cluster, const char *name)
{
    struct observed *o = calloc(1, sizeof *o + cluster->node_n * sizeof(struct observed_node));
    CHECK(o != NULL);
    o->control = c;
    o->cluster = cluster_ref(cluster);
    o->alive_n = cluster->node_n;
    o->wanted = true;
    snprintf(o->name, sizeof o->name, "%s", name);
    judge_init(&o->judge, cluster->node_n);
    o->verdict.primary = NODE_NONE;
    timer_init(&o->recheck, on_recheck);
    list_push_back(&c->observed, &o->link);
    for (uint32_t i = 0; i < cluster->node_n; i++) {
        struct observed_node *node = &o->nodes[i];
        struct node_address address;
        probe_init(&node->probe, c->loop, &cluster->nodes[i], &probe_ops, o);
        node->named = !dns_at_once(&cluster->nodes[i], &address);
        if (!node->named)
            probe_set_addresses(&node->probe, &address, 1);
    }
    return o;
}

static void configure(struct observed *o, bool is_new)
{
    const struct conf *conf = conf_of(o);
    uint64_t age_ms = 3 * conf->lag_poll_interval_ms;
    if (age_ms < conf->probe_timeout_ms)
        age_ms = conf->probe_timeout_ms;
    o->limits = (struct judge_limits){.max_age_ns = age_ms * 1000000U,
                                      .max_lag_ms = (int64_t)conf->max_lag_ms,
                                      .max_lag_bytes = conf->max_lag_bytes};
    struct login login;
    bool has = login_choose(o->control->snapshot, o->cluster, NULL, &login);
    bool changed = is_new || has != o->has_login || (has && !login_equal(&login, &o->login));
    o->login = login;
    o->has_login = has;
    atomic_store(&o->cluster->unprobed, !has);
    for (uint32_t i = 0; i < o->cluster->node_n; i++) {
        probe_configure(&o->nodes[i].probe, has ? &o->login : NULL, changed,
                        conf->lag_poll_interval_ms, conf->probe_timeout_ms);
        if (!has)
            judge_lost(&o->judge, i, NODE_LOGIN_FAILED);
    }
    if (!has && changed && o->cluster->node_n > 1)
        LOG(LOG_WARN, "probe.no_login", LF_S("database", o->name),
            LF_S("hint", "set probe_user: without it replicas get no reads"));
    decide(o);
    ask_names(o);
}

static void end(struct observed *o)
{
    o->wanted = false;
    timer_stop(&o->control->loop->timers, &o->recheck);
    uint32_t n = o->cluster->node_n;
    for (uint32_t i = 0; i < n; i++) /* the last one may free o, but not before */
        probe_stop(&o->nodes[i].probe);
}

static bool in_snapshot(const struct snapshot *s, const struct cluster *cluster)
{
    for (size_t i = 0; i < s->conf->database_n; i++)
        if (s->clusters[i] == cluster)
            return true;
    return false;
}

void observe_follow(struct control *c)
{
    const struct snapshot *s = c->snapshot;
    for (struct list *n = c->observed.next, *next; n != &c->observed; n = next) {
        struct observed *o = LIST_ENTRY(n, struct observed, link);
        next = n->next;
        if (!o->wanted)
            continue;
        if (in_snapshot(s, o->cluster))
            configure(o, false);
        else
            end(o);
    }
    for (size_t i = 0; i < s->conf->database_n; i++)
        if (!find(c, s->clusters[i]))
            configure(begin(c, s->clusters[i], s->conf->databases[i].name), true);
}

void observe_stop(struct control *c)
{
    timer_stop(&c->loop->timers, &c->resolve_timer);
    if (c->dns)
        dns_stop(c->dns);
    c->dns = NULL;
    for (struct list *n = c->observed.next, *next; n != &c->observed; n = next) {
        struct observed *o = LIST_ENTRY(n, struct observed, link);
        next = n->next;
        if (o->wanted)
            end(o);
    }
}

/* ---- what the workers say ---- */

void observe_nudge(struct control *c, struct cluster *cluster)
{
    struct observed *o = find(c, cluster);
    if (o)
        decide(o); /* the workers' evidence counts at once */
    for (uint32_t i = 0; o && i < cluster->node_n; i++)
        probe_nudge(&o->nodes[i].probe);
}

void observe_role_seen(struct control *c, struct cluster *cluster, uint32_t node, bool in_recovery)
{
    struct observed *o = find(c, cluster);
    if (!o || node >= cluster->node_n)
        return;
    judge_saw_role(&o->judge, node, in_recovery);
    decide(o);
    if (o->has_login && (o->verdict.nodes[node].role == NODE_REPLICA) != in_recovery)
        observe_nudge(c, cluster);
}
