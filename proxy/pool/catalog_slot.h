/* proxy/pool/catalog_slot.h: the newest catalog of one (cluster, database), from the control thread to
 * every worker.
 *
 * What     an edition is a loaded catalog and what it covers: the value of the slot's counter of
 *          changes before its load began. A change seen later makes it stale, at once and for every
 *          worker, until an edition comes that covers it.
 * Threads  any. Slots and editions are counted; a use belongs to one thread. catalog_use_now() is two
 *          atomic loads as a rule; a lock is held for moments when a new edition is picked up.
 * Owns     an edition owns its catalog and frees it with its last reference.
 */
#ifndef POOL_CATALOG_SLOT_H
#define POOL_CATALOG_SLOT_H

#include "proxy/pool/cluster.h"
#include "router/catalog.h"
#include "router/reasons.h"

struct catalog_slot;

/* The slot of this database at the servers of this cluster, with a reference; made when it is new. */
struct catalog_slot *catalog_slot_get(struct cluster *cluster, struct slice database);
struct catalog_slot *catalog_slot_ref(struct catalog_slot *slot);
void catalog_slot_unref(struct catalog_slot *slot); /* NULL is fine */
struct cluster *catalog_slot_cluster(const struct catalog_slot *slot);
const char *catalog_slot_database(const struct catalog_slot *slot);
uint32_t catalog_slot_refs(const struct catalog_slot *slot);

/* The catalog may have changed: what is loaded is stale from now on. ddl: we saw what changes it, so triggers, defaults
 * and the like may be new: whatever writes may leave state in its session. */
void catalog_slot_changed(struct catalog_slot *slot, bool ddl);
uint64_t catalog_slot_changes(const struct catalog_slot *slot);

/* Somebody wants it looked at (an unknown name), or loaded (DDL, a first client). True: the caller has
 * to tell the control thread, nobody else has. */
bool catalog_slot_ask(struct catalog_slot *slot, bool load);
bool catalog_slot_asked(const struct catalog_slot *slot);
/* The control thread begins to look, and will compare catalog_slot_changes() afterwards: a later wish counts
 * anew. */
void catalog_slot_heard(struct catalog_slot *slot);

/* ---- the control thread ---- */
/* All that the catalog tells is in the WAL up to here. A replica that has not replayed it has another catalog:
 * a function that is harmless now may be the one that took locks there. */
struct catalog_position {
    uint32_t timeline; /* 0: not known */
    uint64_t lsn;
};
/* catalog: taken over; NULL: none can be loaded. covers: catalog_slot_changes() before it was begun. */
void catalog_slot_publish(struct catalog_slot *slot, struct catalog *catalog, uint64_t covers,
                          struct catalog_position position);
uint64_t catalog_next_id(void);

/* ---- a reader ---- */
struct catalog_edition;
struct catalog_use {
    struct catalog_slot *slot; /* NULL: this database needs none */
    struct catalog_edition *edition;
    uint64_t version;
};
void catalog_use_begin(struct catalog_use *use,
                       struct catalog_slot *slot); /* takes the reference over */
void catalog_use_end(struct catalog_use *use);
/* What SQL is to be classified with, until the next call: the newest edition, or a catalog that knows
 * no name while there is none or it is stale. NULL without a slot. */
const struct catalog *catalog_use_now(struct catalog_use *use);
/* The position of what catalog_use_now() has just given; once for each edition, as *seen tells. False: nothing new. */
bool catalog_use_position(const struct catalog_use *use, uint64_t *seen,
                          struct catalog_position *position);
/* Grows with each edition and each change: the same number twice means the same catalog all the time between. 0
 * without a slot. */
uint64_t catalog_use_moment(const struct catalog_use *use);
/* A statement was classified with this catalog. Why it is not known better, when that is the catalog's
 * fault; else the reason as it is. */
enum route_reason catalog_reason(const struct catalog *catalog, enum route_reason reason);

#endif
