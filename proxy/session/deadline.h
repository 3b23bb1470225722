/* proxy/session/deadline.h: how long a client may do what: query_timeout, transaction_timeout, client_idle_timeout.
 *
 * What    of the limits that apply to what it does now, the one that ends first. A session's timer is set to it when
 *         something begins, and never moved when that ends: at its end it is looked again. So a limit that is not
 *         reached costs a store for each query, and a limit that nobody set nothing.
 * Pure    deadline_next(): times come in as arguments.
 * Not     waiting for a server (queue.h), and being idle in a transaction (tx.c).
 */
#ifndef SESSION_DEADLINE_H
#define SESSION_DEADLINE_H

#include "conf/conf.h"

struct client_doing {
    uint64_t
        since_ms; /* when its query was sent to the server; if it has none, since when it does nothing */
    uint64_t began_ms; /* its transaction; 0: there is none */
    bool asks;         /* a server owes it an answer */
    bool waits;        /* for a server */
};

enum deadline_of { DEADLINE_NONE, DEADLINE_QUERY, DEADLINE_TRANSACTION, DEADLINE_IDLE };

struct deadline {
    enum deadline_of of;
    uint64_t at_ms;
};

struct deadline deadline_next(const struct conf_client_limits *limits,
                              const struct client_doing *doing);

static inline bool deadline_any(const struct conf_client_limits *limits)
{
    return (limits->query_ms | limits->transaction_ms | limits->idle_ms) != 0;
}

#endif
