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

/* Cancel what this leased server runs. abandoned: its client has left and the server will be closed;
 * the cancel is sent all the same, so that the query does not run on for nobody. */
void cancel_start(struct server *server, bool abandoned);

#endif
