/* proxy/pool/inside.h: what pool.c, hub.c and borrow.c share. Not for others. */
#ifndef POOL_INSIDE_H
#define POOL_INSIDE_H

#include "proxy/pool/jitter.h"
#include "proxy/pool/pool.h"

static inline struct pool *pool_at(struct pool_set *set, uint32_t node)
{
    return &set->pools[node];
}

/* ---- pool.c ---- */
/* An idle server with this label (NULL: any), or NULL. It stays in the list. */
/* client: not one that is kept for another; 0: any. */
struct server *pool_take_idle(struct pool *pool, const struct label *label, uint64_t client);
/* It is too old, or of no use any more. */
bool pool_should_close(const struct server *server);
/* One of its servers that had rested did not answer: the others that have are asked for a word before anybody gets them. */
void pool_doubt(struct pool *pool);
void pool_refuse(struct waiter *waiter, enum refusal why, const struct refused_text *text);
/* Since when a waiter of ours could use a server of this node; 0: none. */
uint64_t pool_waiting_since(struct pool_set *set, uint32_t node);
/* Open servers for waiters that no server under way will serve. False: some are left without one. */
bool pool_dial_for_all(struct pool_set *set);
void pool_on_retry(struct timer *timer);
/* One more, if it may be. */
bool pool_dial(struct pool *pool);
/* A MOVING server leaves this worker. */
void pool_server_leaves(struct server *server);

/* ---- queue.c ---- */
static inline const char *queue_role_text(enum want want)
{
    return want == WANT_PRIMARY ? "primary" : "read";
}
/* Join the queue. False: it is full. */
bool queue_enter(struct waiter *waiter, uint64_t timeout_ms);
void queue_leave(struct waiter *waiter);
void queue_served(struct waiter *waiter); /* the same, with a server */
bool queue_is_newest_first(const struct pool_set *set, enum want want);
/* While it stands: who has waited too long goes. */
void queue_shed_late(struct pool_set *set, enum want want);

/* ---- nodes.c ---- */
/* Weights and zones, of set->db. */
void nodes_configure(struct pool_set *set);
/* The balancer's choice, of a mask that is not empty: to lend a server, to open one. */
uint32_t nodes_pick(struct pool_set *set, uint32_t mask);
uint32_t nodes_pick_to_dial(struct pool_set *set, uint32_t mask);
/* A server was lent, out of these nodes; its lease ended; its first byte is here; its node failed us. */
void nodes_lent(struct server *s, uint32_t mask);
void nodes_returned(struct server *s);
void nodes_answered(struct server *s);
void nodes_failed(struct pool *pool);

/* ---- spill.c ---- */
/* What set->snapshot says of primary_read_budget. */
void spill_configure(struct pool_set *set);
/* There is a unit for one more read on the primary. */
bool spill_left(const struct pool_set *set);
/* This server is about to be lent: false if it needs a unit and none is left. */
bool spill_take(struct server *s, const struct waiter *w);
void spill_give(struct server *s);
/* Let the others know since when we wait for a unit, or that we do not any more. */
void spill_tell(struct pool_set *set);

/* ---- limits.c ---- */
/* A pool's budgets: `own`, a reference, is its own; those of its database, user and node are found. */
void limits_begin(struct pool *pool, struct budget *own, const char *entry);
void limits_forget(struct pool *pool);
/* What set->snapshot says of them. */
void limits_configure(struct pool_set *set);
/* A unit of each, for one more server. False: none; pool->refused_by says where it ended. */
bool limits_take(struct pool *pool, struct units *units);
void limits_give(struct hub *hub, struct units *units);
/* Its server is being closed: who looks whether there are too many need not count it. */
void limits_leaving(struct units *units);
/* Its connect and login are over. */
void limits_logged_in(struct hub *hub, struct units *units);
/* No server can be opened for it: another limit than its size is used up. */
bool limits_are_full(const struct pool *pool);
/* There are more servers than a reload allows, or one of the reserve that nobody waits for. */
bool limits_exceeded(const struct pool *pool);
/* Its unit is for another pool that has waited clearly longer: it is closed. */
bool limits_want(struct server *server);
/* Let the others know since when we starve, or that we do not any more. */
void limits_tell(struct pool_set *set);
void limits_on_reserve(struct timer *timer);

/* ---- borrow.c ---- */
/* Let the other workers know since when we wait, or that we do not any more. */
void borrow_tell(struct pool_set *set);
/* Whether a waiter of another worker has clearly waited longer than ours. */
bool borrow_other_first(struct pool *pool);

/* ---- hub.c ---- */
void hub_sweep_begin(struct hub *hub);
/* min_pool_size: what there should be without anybody asking. */
void hub_fill(struct pool *pool);
void set_free_if_unused(struct pool_set *set);

#endif
