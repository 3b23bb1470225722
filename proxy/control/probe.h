/* proxy/control/probe.h: one libpq connection to one node, asked for a sample again and again.
 *
 * Life     probe_init() -> probe_configure() and probe_set_addresses() in any order, also later
 *          -> probe_stop() -> ops->gone(), after which its memory may go.
 *
 *   OFF --login and address--> CONNECTING --login done--> ASKING --answer--> IDLE --interval--+
 *    ^                            |    ^                    |  ^                 |            |
 *    |                       fails or  | pause over,        |  +-----------------|------------+
 *    no login, no address    expires   | nudge              +--expires, fails,--+  lost
 *                                 v    |                                        v
 *                               PAUSED <---- last completion of the poll ---- CLOSING
 *
 *   OFF         conn NULL, timer stopped
 *   PAUSED      conn NULL, timer = next attempt (100 ms, doubling to 2 s, with jitter)
 *   CONNECTING  conn, poll armed, timer = deadline
 *   IDLE        conn, poll armed for input (so that a lost server is seen at once), timer = next
 *               sample
 *   ASKING      as IDLE, timer = deadline
 *   CLOSING     conn, poll armed and cancelled: the ring holds the socket until the last completion
 *
 * Blocks   libpq reads the certificate files of server_tls_* at each connect; nothing else.
 */
#ifndef CONTROL_PROBE_H
#define CONTROL_PROBE_H

#include "proxy/control/dns.h"
#include "proxy/control/judge.h"
#include "proxy/control/login.h"

#define PROBE_TEXT_BYTES 256

struct pg_conn;
struct probe;

struct probe_ops {
    void (*answered)(struct probe *probe, const struct judge_sample *sample);
    /* why NODE_FINE: this sample failed, but the node answers. text: libpq's or ours. */
    void (*failed)(struct probe *probe, enum node_why why, const char *text);
    /* Somebody waits for the next sample: it follows at once. */
    bool (*awaited)(struct probe *probe);
    void (*moved)(struct probe *probe); /* it published another address of the node */
    void (*gone)(struct probe *probe);
};

enum probe_state {
    PROBE_OFF,
    PROBE_PAUSED,
    PROBE_CONNECTING,
    PROBE_IDLE,
    PROBE_ASKING,
    PROBE_CLOSING,
};

enum probe_next { NEXT_CONNECT, NEXT_PAUSE, NEXT_GONE };

struct probe {
    struct loop *loop;
    const struct probe_ops *ops;
    void *owner;
    struct node *node;
    const struct login *login; /* NULL: none */
    uint32_t interval_ms, timeout_ms;
    struct node_address addresses[DNS_ADDRESSES_MAX];
    uint32_t address_n, address; /* the one in use */

    enum probe_state state;
    enum probe_next next; /* CLOSING: what follows */
    struct watch watch;
    struct timer timer;
    struct pg_conn *conn;
    uint32_t tried_n;  /* addresses that failed in this attempt */
    uint32_t failed_n; /* attempts in a row */
    uint32_t retry_ms; /* the pause after the last failure */
    uint64_t begun_ms; /* the newest connect or query */
    uint64_t lost_ms;  /* the newest loss that was followed by a connect at once */
    uint64_t begun_ns, number;
    uint64_t system_id; /* of this connection's server */
    bool answered;      /* on this connection */
    uint32_t level;     /* of what may be asked on this connection; 0: everything */
    bool again;         /* a nudge came while it was being asked */
    bool got, retry;    /* of the query in flight: a sample; it was refused, ask for less */
    char error[PROBE_TEXT_BYTES]; /* of the query in flight */
    struct judge_sample sample;
};

void probe_init(struct probe *probe, struct loop *loop, struct node *node,
                const struct probe_ops *ops, void *owner);
/* login: NULL or one that lives until the next call. changed: it is not what it was before. */
void probe_configure(struct probe *probe, const struct login *login, bool changed,
                     uint64_t interval_ms, uint64_t timeout_ms);
/* n > 0. Publishes the first if the published one is not among them. */
void probe_set_addresses(struct probe *probe, const struct node_address *addresses, uint32_t n);
/* A sample, or an attempt to connect, as soon as may be. */
void probe_nudge(struct probe *probe);
void probe_stop(struct probe *probe);

#endif
