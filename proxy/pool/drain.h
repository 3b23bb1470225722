/* proxy/pool/drain.h: a server whose client left in the middle of something becomes clean again.
 *
 * What    1. ends what is open: CopyFail, which only a COPY hears; in an open segment a Bind that fails, so that nothing
 *            of it commits, as it would not for a client that hung up; Sync. What runs is cancelled (cancel.h).
 *         2. when no cancel is on its way any more: Bind of a name that nobody can guess, and Sync. All ahead of that
 *            error goes nowhere; the ReadyForQuery behind it says whether a transaction is open.
 *         3. ROLLBACK, the reset query, DEALLOCATE ALL: as far as they are needed (pool_clean()).
 * Owns    itself; goes with step 2 or its server.
 * Limits  abandon_timeout for steps 1 and 2, DRAIN_BYTES_MAX of answers; DRAIN_FILL_MAX to end a CopyData that
 *         was sent in part. Past them the server is closed.
 */
#ifndef POOL_DRAIN_H
#define POOL_DRAIN_H

#include <stdbool.h>
#include <stdint.h>

#define DRAIN_BYTES_MAX (64U << 20)
#define DRAIN_FILL_MAX (1U << 20)
#define DRAIN_AGAIN_MS \
    100 /* when what runs is cancelled again; then after twice as long, and so on */

struct server;

/* What becomes of a server whose client left in the middle of something. */
enum leave { LEAVE_ROLLED_BACK, LEAVE_DRAINED, LEAVE_CLOSED, LEAVE_N };

struct drain_plan {
    uint32_t body_left; /* bytes of a server's message whose beginning has been read */
    uint32_t fill;      /* bytes of a CopyData that have not been sent */
    bool runs;          /* something of the client's may run: it is cancelled */
    bool open;          /* a segment without its Sync has been sent */
    bool names_change; /* prepared statements come or go: which are there is not known afterwards */
    bool ddl;          /* what runs changes the catalog */
    unsigned clean;    /* afterwards: CLEAN_RESET, or 0 */
};

/* ---- inside pool/ ---- */
void drain_begin(struct server *server, const struct drain_plan *plan);
void drain_ask(struct server *server); /* no cancel is on its way: step 2 */
void drain_input(struct server *server);
void drain_stop(struct server *server); /* it is being closed */

#endif
