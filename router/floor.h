/* router/floor.h: what a client has seen, and which nodes may therefore serve its next read.
 *
 * Pure    no I/O, no allocation, no clock, no globals: sample numbers, LSNs and time come in.
 * Rule    DESIGN.md section 6, "Floors" and "After". After anything on the primary the floor is pending
 *         until a primary sample that was begun later says how far WAL was. After a read on a replica
 *         the client stays there (it is home) until a later sample of it says how far it was. Another
 *         node may serve the client once it has replayed that much on the same timeline. Home always
 *         may, while it is the same instance: a restarted standby can be older than it was.
 * After   is a matter of counters: a sample's number is taken before its query is sent, so a sample with
 *         a greater number than the one noted began after the noted moment. No clock is compared.
 * Asked   a token (floor_raise) or other clients of the database (floor_join) may ask for more than the
 *         client has seen. Then home has to be seen to have it too.
 * Flush   a floor is the primary's insert LSN, because synchronous_commit = off tells the client before
 *         the flush. On an idle primary that LSN can stay unflushed, hence unsent, for 15 s: pruning
 *         and open transactions insert WAL that nobody flushes. But the WAL writer flushes an
 *         asynchronous commit within 3 x wal_writer_delay, and any other commit is flushed before
 *         anybody is told. So what had been inserted when the floor was settled, and is beyond the
 *         flush LSN of a sample begun 3 x wal_writer_delay later, holds no commit that anybody was
 *         told of: that flush LSN will do (floor_need()). It rests on the WAL writer's promise: a
 *         primary whose WAL writer hangs for longer, with synchronous_commit = off, breaks it. A flush
 *         LSN in the middle of a record (a page's end) is of no use, then the floor waits on.
 * Units   numbers of samples start at 1; 0 is "none". LSNs are bytes of WAL. Nodes are 0..31.
 */
#ifndef ROUTER_FLOOR_H
#define ROUTER_FLOOR_H

#include "router/freshness.h"

#define FLOOR_TOKEN_BYTES (11 + LSN_TEXT_BYTES) /* "4294967295-" and an LSN */
#define FLOOR_NODES 32
#define FLOOR_PAGE_BYTES \
    8192 /* of WAL; the page header has 24 bytes, 40 at the start of a segment */

/* All zero: the client has seen nothing. */
struct floor {
    uint64_t lsn;           /* settled: a node must have replayed this much */
    uint64_t settled_ns;    /* when all up to lsn was known to be inserted */
    uint64_t pending_after; /* not 0: a primary sample with a greater number has to come first */
    uint64_t sticky_after;  /* not 0: likewise a sample of home, for other nodes than it */
    /* not 0: others asked for this much, so home has to have replayed it. lsn does not tell: it can be what home
     * has received and not replayed. */
    uint64_t home_needs;
    int64_t home_instance;
    uint32_t timeline; /* of lsn; 0 with lsn 0 */
    uint8_t
        primary;  /* pending_after: the node that the client used; its samples are numbered apart */
    uint8_t home; /* has_home: the replica of the last answer */
    bool has_home;
};

/* The newest sample of one node. number 0: there is none. */
struct floor_sample {
    uint64_t number;
    uint32_t timeline;
    uint64_t seen_lsn; /* what it may have shown. Primary: insert LSN. Replica: see floor_shown() */
    uint64_t replay_lsn;      /* replica */
    uint64_t flush_lsn;       /* primary */
    int64_t instance;         /* its postmaster's start */
    uint64_t begun_ns, at_ns; /* our monotonic clock: the query was sent, the answer seen */
};

/* The client had an answer from the primary, which is this node. begun: the number of the newest sample
 * of it begun by then. */
void floor_used_primary(struct floor *floor, uint8_t node, uint64_t begun);
/* The client had an answer from this replica; begun: likewise of that replica. */
void floor_used_replica(struct floor *floor, uint8_t node, int64_t instance, uint64_t begun);

/* Home cannot tell any more what it showed: this primary has to, in a later sample than number `begun`. */
void floor_lost_home(struct floor *floor, uint8_t primary, uint64_t begun);

/* Others ask for it: the answers of the primary `node` up to its sample number after - 1 ... */
void floor_join(struct floor *floor, uint8_t node, uint64_t after);
/* ... and all up to this LSN. */
void floor_raise(struct floor *floor, uint32_t timeline, uint64_t lsn, uint64_t now_ns);

/* A sample may settle what is pending. True: nothing of this kind is pending any more. */
bool floor_settle_primary(struct floor *floor, const struct floor_sample *sample);
bool floor_settle_replica(struct floor *floor, uint8_t node, const struct floor_sample *sample);

/* The LSN that a node must have replayed, by the newest sample of the primary. window_ns: 3 times its
 * wal_writer_delay; 0: not known. */
uint64_t floor_need(const struct floor *floor, const struct floor_sample *primary,
                    uint64_t window_ns);
/* Which of the nodes in mask may serve the client now, need being floor_need(). samples has an entry
 * for every bit of it, and for home. */
uint32_t floor_nodes(struct floor *floor, uint64_t need, uint32_t mask,
                     const struct floor_sample *samples);

/* How far a replica may have shown WAL; 0: that is not known. A commit is visible a moment before the replay
 * LSN counts it, so only the receive LSN bounds it, and not while WAL from elsewhere is replayed: after a
 * restart, or out of an archive. */
static inline uint64_t floor_shown(uint64_t receive_lsn, uint64_t replay_lsn)
{
    return receive_lsn >= replay_lsn ? receive_lsn : 0;
}

/* An LSN that lies exactly behind a page header is the page's start: the replay position of an idle
 * cluster stays there, while the insert position has gone past the header. */
uint64_t floor_normalise(uint64_t lsn);

/* A floor as text, "TIMELINE-LSN" ("3-0/16B3748"), that another connection, process or proxy can ask for.
 * Read: also an LSN alone, timeline 0. Writing always ends with NUL; returns the length without it. */
bool floor_token_read(struct slice text, uint32_t *timeline, uint64_t *lsn);
size_t floor_token_write(uint32_t timeline, uint64_t lsn, char text[FLOOR_TOKEN_BYTES]);

#endif
