/* conf/lookup.c: find entries of a snapshot, and what holds for them. */
#include "base/check.h"
#include "conf/conf.h"

#include <stdlib.h>

/* bsearch() by the name that every element starts with. */
static int name_order(const void *key, const void *element)
{
    const struct slice *name = key;
    const char *have;
    memcpy(&have, element, sizeof have);
    size_t have_n = strlen(have), n = name->n < have_n ? name->n : have_n;
    int c = n ? memcmp(name->p, have, n) : 0;
    return c ? c : (name->n > have_n) - (name->n < have_n);
}
_Static_assert(offsetof(struct conf_database, name) == 0, "name_order() reads the first field");
_Static_assert(offsetof(struct conf_user, name) == 0, "name_order() reads the first field");
_Static_assert(offsetof(struct conf_secret, name) == 0, "name_order() reads the first field");

static const void *find(struct slice name, const void *list, size_t n, size_t element_bytes)
{
    return n ? bsearch(&name, list, n, element_bytes, name_order) : NULL;
}

const struct conf_database *conf_database(const struct conf *conf, struct slice name)
{
    if (conf_is_console(name))
        return NULL;
    const size_t bytes = sizeof *conf->databases;
    const struct conf_database *db = find(name, conf->databases, conf->database_n, bytes);
    return db ? db : find(slice_of("*"), conf->databases, conf->database_n, bytes);
}

enum conf_access conf_cut_access(const struct conf *conf, struct slice *name)
{
    static const char read_only[] = "@ro", primary[] = "@rw";
    const size_t n = sizeof read_only - 1;
    if (name->n <= n || find(*name, conf->databases, conf->database_n, sizeof *conf->databases))
        return CONF_ACCESS_PLAIN;
    struct slice cut = {name->p, name->n - n}, suffix = slice_skip(*name, name->n - n);
    bool ro = slice_is(suffix, read_only), rw = slice_is(suffix, primary);
    if ((!ro && !rw) || !conf_database(conf, cut))
        return CONF_ACCESS_PLAIN;
    *name = cut;
    return ro ? CONF_ACCESS_READ_ONLY : CONF_ACCESS_PRIMARY;
}

const struct conf_user *conf_user(const struct conf *conf, struct slice name)
{
    return find(name, conf->users, conf->user_n, sizeof *conf->users);
}

const char *conf_secret(const struct conf *conf, struct slice user)
{
    const struct conf_secret *s = find(user, conf->secrets, conf->secret_n, sizeof *conf->secrets);
    return s ? s->secret : NULL;
}

bool conf_list_has(const char *list, struct slice name)
{
    while (*list) {
        list += strspn(list, " \t,");
        size_t all = strcspn(list, ","), n = all;
        while (n > 0 && (list[n - 1] == ' ' || list[n - 1] == '\t'))
            n--;
        if (n > 0 && slice_equals(name, (struct slice){(const uint8_t *)list, n}))
            return true;
        list += all;
    }
    return false;
}

/* Whose value holds: the user's, the database's, or NULL for the global one. */
static const struct conf_overrides *owner(const struct conf_database *db,
                                          const struct conf_user *user, uint32_t what)
{
    if (user && (user->own.set & what))
        return &user->own;
    return db && (db->own.set & what) ? &db->own : NULL;
}

uint32_t conf_pool_size(const struct conf *conf, const struct conf_database *db,
                        const struct conf_user *user)
{
    const struct conf_overrides *own = owner(db, user, CONF_SET_POOL_SIZE);
    return own ? own->pool_size : conf->default_pool_size;
}

uint32_t conf_share_of(struct conf_share share, uint32_t whole)
{
    uint64_t of = (uint64_t)whole * share.percent;
    return share.percent ? (uint32_t)((of + 99) / 100) : share.n;
}

uint32_t conf_min_pool_size(const struct conf *conf, const struct conf_database *db)
{
    const struct conf_overrides *own = owner(db, NULL, CONF_SET_MIN_POOL_SIZE);
    return own ? own->min_pool_size : conf->min_pool_size;
}

uint32_t conf_reserve_pool_size(const struct conf *conf, const struct conf_database *db,
                                const struct conf_user *user)
{
    const struct conf_overrides *own = owner(db, user, CONF_SET_RESERVE_POOL_SIZE);
    return own ? own->reserve_pool_size : conf->reserve_pool_size;
}

/* A database's and a user's are two limits: none takes the place of the other. */
uint32_t conf_max_db_connections(const struct conf *conf, const struct conf_database *db)
{
    const struct conf_overrides *own = owner(db, NULL, CONF_SET_MAX_CONNECTIONS);
    return own ? own->max_connections : conf->max_db_connections;
}

uint32_t conf_max_user_connections(const struct conf *conf, const struct conf_user *user)
{
    const struct conf_overrides *own = owner(NULL, user, CONF_SET_MAX_CONNECTIONS);
    return own ? own->max_connections : conf->max_user_connections;
}

uint32_t conf_max_db_client_connections(const struct conf *conf, const struct conf_database *db)
{
    const struct conf_overrides *own = owner(db, NULL, CONF_SET_MAX_CLIENT_CONNECTIONS);
    return own ? own->max_client_connections : conf->max_db_client_connections;
}

uint32_t conf_max_user_client_connections(const struct conf *conf, const struct conf_user *user)
{
    const struct conf_overrides *own = owner(NULL, user, CONF_SET_MAX_CLIENT_CONNECTIONS);
    return own ? own->max_client_connections : conf->max_user_client_connections;
}

enum conf_pool_mode conf_pool_mode(const struct conf *conf, const struct conf_database *db,
                                   const struct conf_user *user)
{
    const struct conf_overrides *own = owner(db, user, CONF_SET_POOL_MODE);
    return own ? own->pool_mode : conf->pool_mode;
}

/* False: this scope says nothing of it. */
static bool queue_timeout_of(const struct conf_overrides *own, bool reads, uint64_t *ms)
{
    uint64_t kind_ms = reads ? own->read_queue_timeout_ms : own->write_queue_timeout_ms;
    if (kind_ms == 0 && !(own->set & CONF_SET_QUEUE_TIMEOUT))
        return false;
    *ms = kind_ms ? kind_ms : own->queue_timeout_ms;
    return true;
}

uint64_t conf_queue_timeout_ms(const struct conf *conf, const struct conf_database *db,
                               const struct conf_user *user, bool reads)
{
    uint64_t ms, kind_ms = reads ? conf->read_queue_timeout_ms : conf->write_queue_timeout_ms;
    if ((user && queue_timeout_of(&user->own, reads, &ms)) ||
        (db && queue_timeout_of(&db->own, reads, &ms)))
        return ms;
    return kind_ms ? kind_ms : conf->queue_timeout_ms;
}

enum conf_shed_severity conf_shed_severity(const struct conf *conf, const struct conf_database *db,
                                           const struct conf_user *user)
{
    const struct conf_overrides *own = owner(db, user, CONF_SET_SHED_SEVERITY);
    return own ? own->shed_severity : conf->shed_severity;
}

struct conf_client_limits conf_client_limits(const struct conf *conf,
                                             const struct conf_database *db,
                                             const struct conf_user *user)
{
    const struct conf_overrides *query = owner(db, user, CONF_SET_QUERY_TIMEOUT),
                                *tx = owner(db, user, CONF_SET_TRANSACTION_TIMEOUT),
                                *idle_tx = owner(db, user, CONF_SET_IDLE_TRANSACTION_TIMEOUT),
                                *idle = owner(db, user, CONF_SET_CLIENT_IDLE_TIMEOUT);
    return (struct conf_client_limits){
        .query_ms = query ? query->query_timeout_ms : conf->query_timeout_ms,
        .transaction_ms = tx ? tx->transaction_timeout_ms : conf->transaction_timeout_ms,
        .idle_transaction_ms =
            idle_tx ? idle_tx->idle_transaction_timeout_ms : conf->idle_transaction_timeout_ms,
        .idle_ms = idle ? idle->client_idle_timeout_ms : conf->client_idle_timeout_ms,
    };
}

uint64_t conf_server_lifetime_ms(const struct conf *conf, const struct conf_database *db)
{
    const struct conf_overrides *own = owner(db, NULL, CONF_SET_SERVER_LIFETIME);
    return own ? own->server_lifetime_ms : conf->server_lifetime_ms;
}

enum conf_route conf_route(const struct conf_database *db, const struct conf_user *user)
{
    const struct conf_overrides *own = owner(db, user, CONF_SET_ROUTE);
    return own ? own->route : CONF_ROUTE_AUTO;
}

enum conf_tx_reads conf_tx_reads(const struct conf *conf, const struct conf_database *db,
                                 const struct conf_user *user)
{
    const struct conf_overrides *own = owner(db, user, CONF_SET_TX_READS);
    return own ? own->tx_reads : conf->tx_reads;
}
