#include "proxy/pool/snapshot.h"

#include "base/check.h"
#include "proxy/io/tls.h"

#include <stdlib.h>

static const char *or_null(const char *text)
{
    return text[0] ? text : NULL;
}

static bool make_client_tls(struct snapshot *s, char *error, size_t error_bytes)
{
    const struct conf *conf = s->conf;
    if (conf->client_tls_sslmode == CONF_CLIENT_TLS_DISABLE)
        return true;
    s->client_tls = tls_context_new(&(struct tls_settings){.server_side = true,
                                                           .cert_file = conf->client_tls_cert_file,
                                                           .key_file = conf->client_tls_key_file},
                                    error, error_bytes);
    return s->client_tls != NULL;
}

static bool make_server_tls(struct snapshot *s, char *error, size_t error_bytes)
{
    const struct conf *conf = s->conf;
    if (conf->server_tls_sslmode == CONF_SERVER_TLS_DISABLE)
        return true;
    s->server_tls = tls_context_new(
        &(struct tls_settings){.cert_file = or_null(conf->server_tls_cert_file),
                               .key_file = or_null(conf->server_tls_key_file),
                               .ca_file = or_null(conf->server_tls_ca_file),
                               .verify = conf->server_tls_sslmode >= CONF_SERVER_TLS_VERIFY_CA},
        error, error_bytes);
    return s->server_tls != NULL;
}

static struct cluster *find_same(struct cluster *const *clusters, size_t n,
                                 const struct conf_database *db)
{
    for (size_t i = 0; i < n; i++)
        if (cluster_same_hosts(clusters[i], db->hosts, db->host_n))
            return clusters[i];
    return NULL;
}

static void make_clusters(struct snapshot *s, const struct snapshot *was)
{
    s->clusters = calloc(s->conf->database_n, sizeof(struct cluster *));
    CHECK(s->clusters != NULL);
    for (size_t i = 0; i < s->conf->database_n; i++) {
        const struct conf_database *db = &s->conf->databases[i];
        struct cluster *same = find_same(s->clusters, i, db);
        if (!same && was)
            same = find_same(was->clusters, was->conf->database_n, db);
        s->clusters[i] = same ? cluster_ref(same) : cluster_new(db->hosts, db->host_n);
    }
}

struct snapshot *snapshot_new(struct conf *conf, const struct snapshot *was, char *error,
                              size_t error_bytes)
{
    struct snapshot *s = calloc(1, sizeof *s);
    CHECK(s != NULL);
    atomic_init(&s->refs, 1);
    s->conf = conf;
    if (!make_client_tls(s, error, error_bytes) || !make_server_tls(s, error, error_bytes)) {
        tls_context_free(s->client_tls);
        free(s);
        return NULL;
    }
    make_clusters(s, was);
    return s;
}

struct snapshot *snapshot_ref(struct snapshot *snapshot)
{
    atomic_fetch_add(&snapshot->refs, 1);
    return snapshot;
}

void snapshot_unref(struct snapshot *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) > 1)
        return;
    for (size_t i = 0; i < s->conf->database_n; i++)
        cluster_unref(s->clusters[i]);
    free(s->clusters);
    tls_context_free(s->client_tls);
    tls_context_free(s->server_tls);
    conf_free(s->conf);
    free(s);
}

const struct conf_database *snapshot_find(const struct snapshot *s, struct slice name,
                                          struct cluster **cluster)
{
    const struct conf_database *db = conf_database(s->conf, name);
    if (db)
        *cluster = s->clusters[db - s->conf->databases];
    return db;
}

bool snapshot_is_first(const struct snapshot *snapshot, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (snapshot->clusters[i] == snapshot->clusters[index])
            return false;
    return true;
}
