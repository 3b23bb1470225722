/* proxy/pool/gate.h: what an operator says of a database: PAUSE, DISABLE, RECONNECT.
 *
 * What    one gate for each name in [databases], over all workers. It outlives reloads, and stays for ever:
 *         there are as many as names were ever configured.
 * Paused  no server is lent or opened, those that come back are closed; who needs one waits, and is not shed.
 * Threads all of it; the flags are read without a lock on the data path.
 */
#ifndef POOL_GATE_H
#define POOL_GATE_H

#include <stdatomic.h>
#include <stdbool.h>

struct gate {
    struct gate *next;
    atomic_bool paused, disabled;
    atomic_uint epoch;    /* of RECONNECT: a server of an older one is closed when it comes back */
    atomic_uint server_n; /* open, or being opened or closed */
    atomic_uint stale_n;  /* ... of an older epoch */
    char name[];
};

/* The gate of this entry of [databases]. */
struct gate *gate_find(const char *name);

static inline bool gate_is_paused(const struct gate *gate)
{
    return atomic_load_explicit(&gate->paused, memory_order_relaxed);
}

#endif
