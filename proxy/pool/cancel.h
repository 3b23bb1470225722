/* proxy/pool/cancel.h: carry a CancelRequest to the server that a client holds.
 *
 * Rule    sent only while what it is to end is not answered (server->work); the server is not lent again before the
 *         cancel's connection has ended, so it can never hit the next client. By TLS if the server's connection is.
 *         Requests for the same work share a connection as long as nothing has been sent on it.
 * Source  PostgreSQL documentation, "Canceling Requests in Progress".
 * Limits  CANCELS_MAX connections of a worker, beside those of its pools; more wait for their turn, until what they
 *         are to end has ended. CANCELS_OF_SERVER_MAX for one server; cancel_wait_timeout from start to end.
 */
#ifndef POOL_CANCEL_H
#define POOL_CANCEL_H

#include "proxy/pool/pool.h"

#define CANCELS_MAX 64
#define CANCELS_OF_SERVER_MAX 4

/* Who asked waits for it: what he sends after that is not hit. */
struct cancel_wish {
    struct cancel_wish *next; /* of the same cancel */
    void (*ended)(struct cancel_wish *wish);
};

/* Cancel what this leased server runs; wish->ended() is called when it has reached the server, or will not.
 * False: enough are on their way, or none can be. */
bool cancel_start(struct server *server, struct cancel_wish *wish);
/* Its client has left: what it ran is cancelled, so that it does not run on for nobody; also when the server is closed
 * meanwhile. */
void cancel_abandoned(struct server *server);
/* All cancels for this server which have not been sent are not wanted any more. */
void cancel_forget(struct server *server);
void cancel_stop_all(struct hub *hub); /* at the end of the worker */
/* Requests of clients that are on their way, and that wait; connections for them. */
struct cancel_counts {
    uint32_t sent, waiting, conns;
};
struct cancel_counts cancel_count(const struct pool_set *set);

#endif
