/* proxy/pool/hub.c: a worker's pool sets: made, found, swept, freed; a new configuration, the end. */
#include "proxy/pool/cancel.h"
#include "proxy/pool/inside.h"

#include "base/check.h"
#include "proxy/pool/cancel.h"
#include "proxy/wire/crypto.h"

#include <stdlib.h>
#include <string.h>

#define SWEEP_MS 1000

/* ---- greetings ---- */

static struct slice settings_of(const struct label *label)
{
    return (struct slice){label->text, label->bytes};
}

bool pool_find_greeting(struct pool_set *set, struct label *label)
{
    uint32_t n;
    if (label->greeting)
        return true;
    uint8_t *known = budget_greeting(set->pools[0].budget, settings_of(label), &n);
    if (!known)
        return false;
    label_set_greeting(label, (struct slice){known, n});
    free(known);
    return true;
}

struct told *pool_told(struct server *server)
{
    uint8_t bytes[SERVER_GREETING_MAX];
    struct put o = put_into(bytes, sizeof bytes);
    if (server->told)
        return server->told;
    server_greeting(server, &o);
    if (o.full) /* then nobody is told of changes */
        o = put_into(bytes, 0);
    server->told = told_find(&server->pool->set->tolds, put_slice(&o));
    return server->told;
}

void pool_keep_greeting(struct pool_set *set, struct label *label, struct slice messages)
{
    label_set_greeting(label, messages);
    budget_set_greeting(set->pools[0].budget, settings_of(label), messages);
}

/* ---- sets ---- */

static void use_snapshot(struct pool_set *set, struct snapshot *snapshot,
                         const struct conf_database *db)
{
    struct snapshot *was = set->snapshot;
    const struct conf *conf = snapshot->conf;
    struct slice user = slice_of(set->user);
    const char *secret = conf_secret(conf, user);
    bool own = db->user[0] != '\0' && slice_is(user, db->user) && db->password[0] != '\0';
    const struct conf_user *of = conf_user(conf, user);
    set->snapshot = snapshot_ref(snapshot);
    set->db = db;
    limits_configure(set);
    set->queue_ms[WANT_PRIMARY] = conf_queue_timeout_ms(conf, db, of, false);
    set->queue_ms[WANT_READ] = conf_queue_timeout_ms(conf, db, of, true);
    set->shed_severity = conf_shed_severity(conf, db, of);
    set->limits = conf_client_limits(conf, db, of);
    set->min_pool_size = set->own ? 0 : conf_min_pool_size(conf, db);
    nodes_configure(set);
    const char *password = own || (db->password[0] && db->user[0] == '\0') ? db->password
                           : secret                                        ? secret
                                                                           : "";
    free(set->password);
    set->password = strdup(password);
    CHECK(set->password != NULL);
    snapshot_unref(was);
}

static char *copy_text(struct slice text)
{
    char *copy = malloc(text.n + 1);
    CHECK(copy != NULL);
    memcpy(copy, text.p, text.n);
    copy[text.n] = '\0';
    return copy;
}

#define OWN_NODE 64 /* a budget of its own: see pool_set_own() */
_Static_assert(NODES_MAX <= OWN_NODE && NODE_NONE > 2 * OWN_NODE, "no number means two nodes");

/* The pools of a set of a session's own are nobody else's: other workers do not know them. */
static void begin_pool(struct pool_set *set, uint32_t node, const char *entry)
{
    struct pool *pool = &set->pools[node];
    pool->set = set;
    pool->node = node;
    list_init(&pool->idle);
    list_init(&pool->busy);
    timer_init(&pool->retry, pool_on_retry);
    uint32_t of = set->own ? OWN_NODE + node : node;
    struct budget_key key = {BUDGET_POOL, set->cluster, of, entry, set->database, set->user};
    limits_begin(pool, budget_find(&key), entry);
    if (!set->own)
        pool->budget->pools[set->hub->worker] = pool;
}

static struct pool_set *set_new(struct hub *hub, struct cluster *cluster,
                                const struct conf_database *db, struct slice database,
                                struct slice user, bool own)
{
    struct pool_set *set = calloc(1, sizeof *set + cluster->node_n * sizeof(struct pool));
    CHECK(set != NULL);
    struct label_draft empty = {0};
    set->hub = hub;
    set->cluster = cluster_ref(cluster);
    set->database = copy_text(database);
    set->user = copy_text(user);
    set->gate = gate_find(db->name);
    set->floor = shared_floor_find(cluster, set->database);
    list_init(&set->writers);
    list_init(&set->readers);
    list_init(&set->labels);
    list_init(&set->tolds);
    stmt_set_init(&set->proven, &cluster->altered);
    label_steps_init(&set->label_steps);
    set->base = label_find(&set->labels, &empty);
    set->own = own;
    for (uint32_t i = 0; i < cluster->node_n; i++)
        begin_pool(set, i, db->name);
    timer_init(&set->reserve, limits_on_reserve);
    use_snapshot(set, hub->snapshot, db);
    if (!own) {
        catalog_use_begin(&set->catalog, catalog_slot_get(cluster, database));
        hub_want_catalog(hub, set, true);
    }
    list_push_back(&hub->sets, &set->node);
    return set;
}

struct pool_set *pool_set_get(struct hub *hub, struct cluster *cluster,
                              const struct conf_database *db, struct slice database,
                              struct slice user)
{
    for (struct list *n = hub->sets.next; n != &hub->sets; n = n->next) {
        struct pool_set *set = LIST_ENTRY(n, struct pool_set, node);
        if (!set->own && set->cluster == cluster && strcmp(set->db->name, db->name) == 0 &&
            slice_is(user, set->user) && slice_is(database, set->database)) {
            set->refs++;
            return set;
        }
    }
    struct pool_set *set = set_new(hub, cluster, db, database, user, false);
    set->refs++;
    if (set->min_pool_size > 0)
        hub_sweep_begin(hub);
    return set;
}

struct pool_set *pool_set_own(struct hub *hub, struct cluster *cluster,
                              const struct conf_database *db, struct slice database,
                              struct slice user, struct slice params)
{
    struct pool_set *set = set_new(hub, cluster, db, database, user, true);
    uint8_t *copy = malloc(params.n + 1);
    CHECK(copy != NULL);
    memcpy(copy, params.p, params.n);
    set->params = (struct slice){copy, params.n};
    set->refs++;
    return set;
}

bool pool_set_has_room(const struct pool_set *set)
{
    uint8_t primary = cluster_view(set->cluster).primary;
    const struct budget *budget = set->pools[primary == NODE_NONE ? 0 : primary].budget;
    return set->pool_size == 0 || atomic_load(&budget->used) < set->pool_size;
}

void pool_set_unref(struct pool_set *set)
{
    CHECK(set->refs > 0);
    set->refs--; /* while it has servers it stays: they serve the next client */
    set_free_if_unused(set);
}

static void set_free(struct pool_set *set)
{
    for (uint32_t i = 0; i < set->cluster->node_n; i++) {
        struct pool *pool = &set->pools[i];
        CHECK(list_empty(&pool->idle) && list_empty(&pool->busy));
        timer_stop(&set->hub->loop->timers, &pool->retry);
        free(pool->failure);
        if (!set->own) {
            waits_set(&pool->budget->wanting, set->hub->worker, 0);
            pool->budget->pools[set->hub->worker] = NULL;
        }
        limits_forget(pool);
    }
    timer_stop(&set->hub->loop->timers, &set->reserve);
    if (!set->own) /* others of this worker may wait for a unit, too */
        spill_tell(set);
    budget_unref(set->spill);
    stmt_set_clear(&set->proven);
    catalog_use_end(&set->catalog);
    label_steps_clear(&set->label_steps);
    custom_settings_free(&set->custom_settings);
    label_unref(set->base);
    label_unref(set->connected);
    CHECK(list_empty(&set->labels) && list_empty(&set->tolds));
    list_remove(&set->node);
    shared_floor_unref(set->floor);
    cluster_unref(set->cluster);
    snapshot_unref(set->snapshot);
    free((void *)(uintptr_t)set->params.p);
    free(set->database);
    free(set->user);
    free(set->password);
    free(set);
}

void set_free_if_unused(struct pool_set *set)
{
    if (set->refs > 0 || set->hub->stopping)
        return;
    if (!set->own && gate_is_paused(set->gate)) /* who comes now can be greeted by it alone */
        return;
    for (uint32_t i = 0; i < set->cluster->node_n; i++)
        if (!list_empty(&set->pools[i].idle) || !list_empty(&set->pools[i].busy))
            return;
    set_free(set);
}

/* ---- the hub ---- */

uint64_t hub_random(struct hub *hub)
{
    /* xorshift*: spreads reads; no secret hangs on it. */
    hub->random ^= hub->random >> 12;
    hub->random ^= hub->random << 25;
    hub->random ^= hub->random >> 27;
    return hub->random * 0x2545F4914F6CDD1DULL;
}

void hub_evidence(struct hub *hub, struct cluster *cluster)
{
    if (hub->reports.evidence)
        hub->reports.evidence(hub->reports.context, cluster);
}

void hub_want_catalog(struct hub *hub, struct pool_set *set, bool load)
{
    struct catalog_slot *slot = set->catalog.slot;
    if (slot && hub->reports.catalog && catalog_slot_ask(slot, load))
        hub->reports.catalog(hub->reports.context, slot);
}

void hub_sweep_begin(struct hub *hub)
{
    if (!timer_running(&hub->sweep))
        timer_start(&hub->loop->timers, &hub->sweep, hub->loop->now_ms + SWEEP_MS);
}

/* It was opened before the node was sampled, or the node has been restarted since. */
static bool is_other_instance(const struct server *s, int64_t sampled)
{
    return sampled && s->instance && s->instance != sampled;
}

/* Servers to be kept while somebody may want them. */
static uint32_t pool_least(const struct pool_set *set)
{
    return set->refs > 0 && !set->hub->stopping ? set->min_pool_size : 0;
}

static void sweep_pool(struct pool *pool)
{
    const struct conf *conf = pool->set->snapshot->conf;
    int64_t sampled = node_status(&pool->set->cluster->nodes[pool->node]).postmaster_start_us;
    uint64_t now_ms = pool->set->hub->loop->now_ms;
    uint32_t spare = atomic_load(&pool->budget->used), least = pool_least(pool->set);
    struct list *next;
    spare -= spare < least ? spare : least;
    for (struct list *n = pool->idle.next; n != &pool->idle; n = next) {
        next = n->next;
        struct server *s = LIST_ENTRY(n, struct server, node);
        bool idle_long =
            conf->server_idle_timeout_ms && now_ms - s->idle_ms > conf->server_idle_timeout_ms;
        idle_long = idle_long && spare > 0;
        spare -= idle_long;
        if (idle_long || pool_should_close(s) || is_other_instance(s, sampled))
            server_leave(s, idle_long ? "server_idle_timeout" : "retired");
    }
}

void hub_fill(struct pool *pool)
{
    while (atomic_load(&pool->budget->used) < pool_least(pool->set) && pool_dial(pool))
        ;
}

static void on_sweep(struct timer *timer)
{
    struct hub *hub = LIST_ENTRY(timer, struct hub, sweep);
    bool fills = false;
    for (struct list *n = hub->sets.next; n != &hub->sets; n = n->next) {
        struct pool_set *set = LIST_ENTRY(n, struct pool_set, node);
        for (uint32_t i = 0; i < set->cluster->node_n; i++) {
            sweep_pool(&set->pools[i]);
            hub_fill(&set->pools[i]);
        }
        fills = fills || pool_least(set) > 0;
    }
    if (hub->server_n > 0 || fills) /* an idle process sleeps */
        hub_sweep_begin(hub);
}

void hub_init(struct hub *hub, struct loop *loop, uint32_t worker, struct snapshot *snapshot)
{
    *hub = (struct hub){.loop = loop, .worker = worker, .snapshot = snapshot_ref(snapshot)};
    hub->random = loop->now_ns | 1;
    list_init(&hub->sets);
    list_init(&hub->cancels);
    list_init(&hub->cancels_waiting);
    list_init(&hub->starved);
    stmt_table_init(&hub->stmts, worker);
    timer_init(&hub->sweep, on_sweep);
}

void hub_free(struct hub *hub)
{
    timer_stop(&hub->loop->timers, &hub->sweep);
    while (!list_empty(&hub->sets))
        set_free(LIST_ENTRY(hub->sets.next, struct pool_set, node));
    stmt_table_free(&hub->stmts);
    snapshot_unref(hub->snapshot);
}

void hub_set_snapshot(struct hub *hub, struct snapshot *snapshot)
{
    snapshot_unref(hub->snapshot);
    hub->snapshot = snapshot;
    for (struct list *n = hub->sets.next; n != &hub->sets; n = n->next) {
        struct pool_set *set = LIST_ENTRY(n, struct pool_set, node);
        for (size_t i = 0; i < snapshot->conf->database_n; i++)
            if (snapshot->clusters[i] == set->cluster &&
                strcmp(snapshot->conf->databases[i].name, set->db->name) == 0) {
                use_snapshot(set, snapshot, &snapshot->conf->databases[i]);
                break;
            }
        pool_pump(set);
    }
}

void hub_cluster_changed(struct hub *hub, struct cluster *cluster)
{
    for (struct list *n = hub->sets.next; n != &hub->sets; n = n->next) {
        struct pool_set *set = LIST_ENTRY(n, struct pool_set, node);
        if (set->cluster != cluster)
            continue;
        for (uint32_t i = 0; i < cluster->node_n; i++) {
            set->pools[i].retry_ms = 0; /* what the control thread saw is newer than our failure */
            sweep_pool(&set->pools[i]);
        }
        pool_pump(set);
    }
}

static void close_servers(struct list *servers, const char *why)
{
    struct list *next;
    for (struct list *n = servers->next; n != servers; n = next) {
        next = n->next;
        server_close(LIST_ENTRY(n, struct server, node), why);
    }
}

static void note_stale(struct list *servers)
{
    for (struct list *n = servers->next; n != servers; n = n->next) {
        struct server *s = LIST_ENTRY(n, struct server, node);
        if (s->stale || s->epoch == atomic_load(&s->gate->epoch))
            continue;
        s->stale = true;
        atomic_fetch_add(&s->gate->stale_n, 1);
    }
}

void hub_gate_changed(struct hub *hub, struct gate *gate, bool all)
{
    struct list *next;
    for (struct list *n = hub->sets.next; n != &hub->sets; n = next) {
        next = n->next; /* a set without clients goes with its last server */
        struct pool_set *set = LIST_ENTRY(n, struct pool_set, node);
        if (set->gate != gate)
            continue;
        set->refs++;
        for (uint32_t i = 0; i < set->cluster->node_n; i++) {
            struct pool *pool = &set->pools[i];
            note_stale(&pool->idle);
            note_stale(&pool->busy);
            if (all)
                close_servers(&pool->busy, "console");
            sweep_pool(pool);
        }
        pool_pump(set);
        pool_set_unref(set);
    }
}

/* Each once: who is refused may wait again at once. */
static void refuse_queue(struct list *queue, enum refusal why)
{
    struct list doomed;
    list_init(&doomed);
    while (!list_empty(queue)) {
        struct list *n = queue->next;
        list_remove(n);
        list_push_back(&doomed, n);
    }
    while (!list_empty(&doomed))
        pool_refuse(LIST_ENTRY(doomed.next, struct waiter, node), why, NULL);
}

static void refuse_waiters(struct pool_set *set, enum refusal why)
{
    refuse_queue(&set->writers, why);
    refuse_queue(&set->readers, why);
}

void hub_spare_memory(struct hub *hub)
{
    struct list *next;
    for (struct list *n = hub->sets.next; n != &hub->sets; n = next) {
        next = n->next;
        struct pool_set *set = LIST_ENTRY(n, struct pool_set, node);
        set->refs++;
        refuse_waiters(set, REFUSED_MEMORY);
        stmt_set_clear(&set->proven);
        label_steps_clear(&set->label_steps);
        borrow_tell(set);
        pool_set_unref(set);
    }
}

void hub_stop(struct hub *hub)
{
    hub->stopping = true;
    for (struct list *n = hub->sets.next; n != &hub->sets; n = n->next) {
        struct pool_set *set = LIST_ENTRY(n, struct pool_set, node);
        for (uint32_t i = 0; i < set->cluster->node_n; i++)
            close_servers(&set->pools[i].idle, "shutdown");
        refuse_waiters(set, REFUSED_SHUTDOWN);
    }
}

void hub_abort(struct hub *hub)
{
    hub_stop(hub);
    cancel_stop_all(hub);
    for (struct list *n = hub->sets.next; n != &hub->sets; n = n->next) {
        struct pool_set *set = LIST_ENTRY(n, struct pool_set, node);
        for (uint32_t i = 0; i < set->cluster->node_n; i++)
            close_servers(&set->pools[i].busy, "shutdown");
    }
}
