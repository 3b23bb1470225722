/* proxy/pool/cancel.h: carry a CancelRequest to the server that a client holds.
 *
 * Rule    sent only while the same lease lasts; the server is not lent again before the cancel's
 *         connection has ended, so it can never hit the next client.
 * Source  PostgreSQL documentation, "Canceling Requests in Progress".
 * Limits  cancel_wait_timeout from start to end.
 */
#ifndef POOL_CANCEL_H
#define POOL_CANCEL_H

#include "proxy/pool/pool.h"

/* Who asked waits for it: what he sends after that is not hit. */
struct cancel_wish {
    void (*ended)(struct cancel_wish *wish);
};

/* Cancel what this leased server runs; wish->ended() is called when it has reached the server, or will not.
 * False: enough are on their way, or none can be. */
bool cancel_start(struct server *server, struct cancel_wish *wish);
/* Its client has left and the server will be closed; the cancel is sent all the same, so that the query does not run
 * on for nobody. */
void cancel_abandoned(struct server *server);
/* At the end none is waited for: its server may never answer. */
void cancels_abort(struct hub *hub);

#endif
