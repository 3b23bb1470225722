#include "proxy/pool/catalog_slot.h"

#include "base/check.h"
#include "router/classify.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct catalog_edition {
    atomic_uint refs;
    struct catalog *catalog; /* NULL: none could be loaded */
    uint64_t covers;
    struct catalog_position position;
};

struct catalog_slot {
    struct catalog_slot *next;
    atomic_uint refs;
    struct cluster *cluster; /* a reference */
    char *database;
    atomic_uint_fast64_t changes; /* seen so far */
    atomic_uint_fast64_t ddl;     /* ... up to the newest that was DDL */
    atomic_uint_fast64_t version; /* grows with each edition */
    struct catalog_edition *newest;
    atomic_bool asked_look, asked_load;
};

/* Of the list and of each slot's newest: held for moments, never on the way of a query. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct catalog_slot *all;
static atomic_uint_fast64_t last_id;

uint64_t catalog_next_id(void)
{
    return atomic_fetch_add(&last_id, 1) + 1;
}

/* Catalogs without a name: with them the user's names are unknown, and what is built in may be another's. */
static struct catalog *not_loaded, *stale, *altered;
static pthread_once_t made = PTHREAD_ONCE_INIT;

static struct catalog *empty_one(enum route_reason why)
{
    struct catalog *catalog = catalog_new(catalog_next_id());
    catalog_put_rule(catalog, CATALOG_MISSING, SQL_UNKNOWN, (uint8_t)why);
    return catalog;
}

static void make_empty_ones(void)
{
    not_loaded = empty_one(ROUTE_WHY_CATALOG_NOT_LOADED);
    stale = empty_one(ROUTE_WHY_CATALOG_STALE);
    altered = empty_one(ROUTE_WHY_CATALOG_STALE);
    catalog_put_rule(altered, CATALOG_HIDES_WRITES, SQL_WRITER_FUNCTION, ROUTE_WHY_CATALOG_STALE);
}

/* ---- slots ---- */

static struct catalog_slot *slot_new(struct cluster *cluster, struct slice database)
{
    struct catalog_slot *slot = calloc(1, sizeof *slot);
    CHECK(slot != NULL);
    slot->cluster = cluster_ref(cluster);
    slot->database = strndup((const char *)database.p, database.n);
    CHECK(slot->database != NULL);
    return slot;
}

struct catalog_slot *catalog_slot_get(struct cluster *cluster, struct slice database)
{
    pthread_once(&made, make_empty_ones);
    pthread_mutex_lock(&lock);
    struct catalog_slot *slot = all;
    while (slot && (slot->cluster != cluster || !slice_is(database, slot->database)))
        slot = slot->next;
    if (!slot) {
        slot = slot_new(cluster, database);
        slot->next = all;
        all = slot;
    }
    atomic_fetch_add(&slot->refs, 1);
    pthread_mutex_unlock(&lock);
    return slot;
}

struct catalog_slot *catalog_slot_ref(struct catalog_slot *slot)
{
    atomic_fetch_add(&slot->refs, 1);
    return slot;
}

static void edition_unref(struct catalog_edition *edition)
{
    if (!edition || atomic_fetch_sub(&edition->refs, 1) > 1)
        return;
    catalog_free(edition->catalog);
    free(edition);
}

void catalog_slot_unref(struct catalog_slot *slot)
{
    if (!slot)
        return;
    pthread_mutex_lock(&lock);
    const bool last = atomic_fetch_sub(&slot->refs, 1) == 1;
    if (last) {
        struct catalog_slot **at = &all;
        while (*at != slot)
            at = &(*at)->next;
        *at = slot->next;
    }
    pthread_mutex_unlock(&lock);
    if (!last)
        return;
    edition_unref(slot->newest);
    cluster_unref(slot->cluster);
    free(slot->database);
    free(slot);
}

struct cluster *catalog_slot_cluster(const struct catalog_slot *slot)
{
    return slot->cluster;
}

const char *catalog_slot_database(const struct catalog_slot *slot)
{
    return slot->database;
}

uint32_t catalog_slot_refs(const struct catalog_slot *slot)
{
    return atomic_load(&slot->refs);
}

void catalog_slot_changed(struct catalog_slot *slot, bool ddl)
{
    uint64_t now = atomic_fetch_add(&slot->changes, 1) + 1, was = atomic_load(&slot->ddl);
    while (ddl && was < now && !atomic_compare_exchange_weak(&slot->ddl, &was, now))
        ;
}

uint64_t catalog_slot_changes(const struct catalog_slot *slot)
{
    return atomic_load(&slot->changes);
}

bool catalog_slot_ask(struct catalog_slot *slot, bool load)
{
    atomic_bool *asked = load ? &slot->asked_load : &slot->asked_look;
    return !atomic_load_explicit(asked, memory_order_relaxed) && !atomic_exchange(asked, true);
}

bool catalog_slot_asked(const struct catalog_slot *slot)
{
    return atomic_load(&slot->asked_look) || atomic_load(&slot->asked_load);
}

void catalog_slot_heard(struct catalog_slot *slot)
{
    atomic_store(&slot->asked_look, false);
    atomic_store(&slot->asked_load, false);
}

void catalog_slot_publish(struct catalog_slot *slot, struct catalog *catalog, uint64_t covers,
                          struct catalog_position position)
{
    struct catalog_edition *edition = calloc(1, sizeof *edition), *was;
    CHECK(edition != NULL);
    *edition = (struct catalog_edition){
        .refs = 1, .catalog = catalog, .covers = covers, .position = position};
    pthread_mutex_lock(&lock);
    was = slot->newest;
    slot->newest = edition;
    atomic_fetch_add(&slot->version, 1);
    pthread_mutex_unlock(&lock);
    edition_unref(was);
}

/* ---- a reader ---- */

void catalog_use_begin(struct catalog_use *use, struct catalog_slot *slot)
{
    *use = (struct catalog_use){.slot = slot};
}

void catalog_use_end(struct catalog_use *use)
{
    edition_unref(use->edition);
    catalog_slot_unref(use->slot);
    *use = (struct catalog_use){0};
}

static void take_newest(struct catalog_use *use)
{
    struct catalog_edition *was = use->edition;
    pthread_mutex_lock(&lock);
    use->edition = use->slot->newest;
    use->version = atomic_load(&use->slot->version);
    if (use->edition)
        atomic_fetch_add(&use->edition->refs, 1);
    pthread_mutex_unlock(&lock);
    edition_unref(was);
}

const struct catalog *catalog_use_now(struct catalog_use *use)
{
    struct catalog_slot *slot = use->slot;
    if (!slot)
        return NULL;
    if (atomic_load_explicit(&slot->version, memory_order_acquire) != use->version)
        take_newest(use);
    if (!use->edition || !use->edition->catalog)
        return not_loaded;
    if (atomic_load(&slot->changes) == use->edition->covers)
        return use->edition->catalog;
    return atomic_load(&slot->ddl) > use->edition->covers ? altered : stale;
}

bool catalog_use_position(const struct catalog_use *use, uint64_t *seen,
                          struct catalog_position *position)
{
    const struct catalog_edition *edition = use->edition;
    if (!edition || *seen == use->version || atomic_load(&use->slot->changes) != edition->covers)
        return false;
    *seen = use->version;
    *position = edition->position;
    return true;
}

uint64_t catalog_use_moment(const struct catalog_use *use)
{
    const struct catalog_slot *slot = use->slot;
    return slot ? atomic_load(&slot->version) + atomic_load(&slot->changes) : 0;
}

enum route_reason catalog_reason(const struct catalog *catalog, enum route_reason reason)
{
    const bool unknown = reason == ROUTE_WHY_UNKNOWN_RELATION ||
                         reason == ROUTE_WHY_UNKNOWN_FUNCTION || reason == ROUTE_WHY_UNKNOWN_TYPE ||
                         reason == ROUTE_WHY_UNKNOWN_OPERATOR;
    if (!unknown || !catalog)
        return reason;
    if (catalog == not_loaded)
        return ROUTE_WHY_CATALOG_NOT_LOADED;
    return catalog == stale || catalog == altered ? ROUTE_WHY_CATALOG_STALE : reason;
}
