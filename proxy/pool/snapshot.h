/* proxy/pool/snapshot.h: what a configuration means at run time: options, clusters, TLS contexts.
 *
 * Life    made by the control side at start and at reload, complete or not at all; then only read.
 *         Workers get it by message and hold one reference each.
 * Owns    the conf, one reference per cluster, the TLS contexts.
 */
#ifndef POOL_SNAPSHOT_H
#define POOL_SNAPSHOT_H

#include "proxy/pool/cluster.h"

struct snapshot {
    atomic_uint refs;
    struct conf *conf;
    struct cluster **clusters; /* by the index of conf->databases */
    void *client_tls;          /* SSL_CTX *, or NULL */
    void *server_tls;          /* SSL_CTX *, or NULL */
};

/* Takes conf over on success. Clusters of `was` (may be NULL) with the same host list are shared.
 * NULL: a certificate or key cannot be used; error says which. Blocks on files. */
struct snapshot *snapshot_new(struct conf *conf, const struct snapshot *was, char *error,
                              size_t error_bytes);
struct snapshot *snapshot_ref(struct snapshot *snapshot);
void snapshot_unref(struct snapshot *snapshot);

/* The entry for a database name (or the "*" template), and its cluster. NULL: there is none. */
const struct conf_database *snapshot_find(const struct snapshot *snapshot, struct slice name,
                                          struct cluster **cluster);
/* No entry before this one has the same cluster. */
bool snapshot_is_first(const struct snapshot *snapshot, size_t index);

#endif
