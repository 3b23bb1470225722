/* proxy/pool/cluster.h: the nodes behind [databases] entries, and what is known about them.
 *
 * What    a cluster is one host list. Entries with the same list share it, and a reload that keeps
 *         the list keeps the cluster, so pools and samples survive.
 * Threads the control thread is the only writer. Workers read without locks: cluster_view() is one
 *         atomic word, statuses and addresses are read under a sequence counter.
 * Owns    counted references; the last cluster_unref() frees. Strings live as long as the cluster.
 * Limits  NODES_MAX nodes: a node set is a 32-bit mask.
 */
#ifndef POOL_CLUSTER_H
#define POOL_CLUSTER_H

#include "conf/conf.h"
#include "router/learned.h"

#include <stdatomic.h>
#include <sys/socket.h>

#define NODES_MAX 32
#define WORKERS_MAX 256
#define NODE_UPSTREAM_BYTES 72 /* "host:port", cut */
#define NODE_RECEIVER_BYTES 16
#define NODE_NONE 0xffU
#define NODE_LABEL_MAX 300
#define CLUSTER_BACKENDS 1024 /* places; a process id has one of them */

enum node_role { NODE_UNKNOWN, NODE_PRIMARY, NODE_REPLICA };

/* Why a node gets no reads. The text is the log's reason= and SHOW NODES' why. */
#define NODE_WHY(X)                                 \
    X(NODE_FINE, "")                                \
    X(NODE_NOT_SAMPLED, "not_sampled_yet")          \
    X(NODE_UNREACHABLE, "unreachable")              \
    X(NODE_NO_ADDRESS, "no_address")                \
    X(NODE_SAMPLE_OLD, "sample_old")                \
    X(NODE_LOGIN_FAILED, "probe_login_failed")      \
    X(NODE_LAGS, "lag")                             \
    X(NODE_LAGS_BYTES, "lag_bytes")                 \
    X(NODE_IS_PRIMARY, "is_primary")                \
    X(NODE_OTHER_SYSTEM, "other_system_identifier") \
    X(NODE_OLD_TIMELINE, "older_timeline")          \
    X(NODE_NO_PRIMARY, "no_primary_sample")         \
    X(NODE_EJECTED, "ejected_for_failures")
#define NODE_WHY_ENUM(name, text) name,
enum node_why { NODE_WHY(NODE_WHY_ENUM) NODE_WHY_N };
#undef NODE_WHY_ENUM
const char *node_why_text(enum node_why why);
const char *node_role_text(enum node_role role);

struct node_status {
    enum node_role role;
    enum node_why why;
    uint32_t timeline;
    uint64_t lag_ms, lag_bytes;
    uint64_t insert_lsn, flush_lsn;   /* primary */
    uint64_t replay_lsn, receive_lsn; /* replica */
    uint64_t begun_ns;                /* our monotonic clock: the newest sample's query was sent */
    uint64_t sampled_ns; /* ... its answer came; 0: never. So its age is now - sampled_ns */
    uint64_t sample;     /* its number, see samples_begun */
    uint64_t system_id;
    int64_t postmaster_start_us;
    uint64_t wal_writer_delay_ms;       /* primary; 0: not known */
    char receiver[NODE_RECEIVER_BYTES]; /* replica: walreceiver's status; "none", or "hidden" */
    char
        upstream[NODE_UPSTREAM_BYTES]; /* replica: what it streams from, also another replica; "" */
};

struct node_address {
    struct sockaddr_storage addr;
    socklen_t bytes; /* 0: not known (yet) */
};

/* What the workers count at a node, together: a cache line of its own. Relaxed, see pool/nodes.c. */
struct node_load {
    _Alignas(64) atomic_uint in_flight; /* servers that are lent */
    atomic_uint answers, failures;      /* evidence; for ever rising */
    atomic_uint_fast64_t latency;       /* balance_observe() */
    atomic_uint_fast64_t
        returned_ms; /* the control thread: since when it is readable again; 0: it always was */
};

struct node {
    uint32_t index;
    uint16_t port;
    const char *host;
    const char *label; /* "host:port", for logs and SHOW */
    /* Grows before a sample's query is sent: what was seen before reading n is covered by samples
     * with a number above n. */
    atomic_uint_fast64_t samples_begun;
    atomic_uint status_seq, address_seq;
    struct node_status status;
    struct node_address address;
    atomic_uint address_edition;
    struct node_load load;
};

struct cluster_view {
    uint32_t readable; /* replicas that may serve reads now */
    uint8_t primary;   /* node index, or NODE_NONE */
    uint32_t epoch;    /* grows with each change (24 bits) */
};

struct cluster {
    atomic_uint refs;
    atomic_uint_fast64_t view;
    atomic_bool unprobed; /* there is no login for probes: no replica will ever be readable */
    atomic_bool nudged;   /* a control_nudge() is on its way */
    atomic_uint_fast64_t altered; /* grows with DDL: statements of before are parsed anew */
    struct learned *learned;      /* reads that belong on the primary; any thread */
    /* Clients of each worker that wait for a sample: while there are any, samples follow each other at
     * once, and the worker is told of each by mail; told: such a mail is on its way. */
    atomic_uint waiting[WORKERS_MAX];
    atomic_bool told[WORKERS_MAX];
    /* Whose statements a server ran last that may notify: its process id, and the one that the client was told. */
    atomic_uint_fast64_t backends[CLUSTER_BACKENDS];
    uint32_t node_n;
    struct node nodes[];
};

/* A cluster for this host list, with one reference. Nothing is known about its nodes yet. */
struct cluster *cluster_new(const struct conf_host *hosts, size_t host_n);
bool cluster_same_hosts(const struct cluster *cluster, const struct conf_host *hosts,
                        size_t host_n);
struct cluster *cluster_ref(struct cluster *cluster);
void cluster_unref(struct cluster *cluster);

static inline struct cluster_view cluster_view(const struct cluster *cluster)
{
    uint64_t w = atomic_load_explicit(&cluster->view, memory_order_acquire);
    return (struct cluster_view){(uint32_t)w, (uint8_t)(w >> 32), (uint32_t)(w >> 40)};
}

/* The server with this process id, on the primary, works for the client that was told `client`. Any thread. */
void cluster_note_backend(struct cluster *cluster, uint32_t backend, uint32_t client);
/* What that client was told; 0: not known. */
uint32_t cluster_client_of(const struct cluster *cluster, uint32_t backend);

/* Somebody waits for a sample. Any thread. */
bool cluster_is_awaited(const struct cluster *cluster);

/* For the control thread. True: the view changed. */
bool cluster_publish(struct cluster *cluster, uint32_t readable, uint8_t primary);
void node_publish_status(struct node *node, const struct node_status *status);
void node_publish_address(struct node *node, const struct node_address *address);
void node_leave_address(struct node *node); /* after the new one was published */
/* From any thread. */
struct node_status node_status(struct node *node);
struct node_address node_address(struct node *node);
/* Grows when the last address was left: it is another node's now, or takes no connections. */
unsigned node_address_edition(const struct node *node);

#endif
