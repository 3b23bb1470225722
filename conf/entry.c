/* conf/entry.c: the lines of [databases] and [users]: name = key=value key='quoted value' ... */
#include "base/check.h"
#include "conf/loader.h"

#include <stdarg.h>
#include <stdlib.h>
#include <strings.h>

/* A key of an entry. Those with a note are accepted and do something else for now. */
struct entry_key {
    struct field field;
    uint32_t set; /* CONF_SET_*, or 0 */
    const char *note;
};

#define POOL_MAX 100000
#define CONNECTIONS_MAX 1000000
#define SETTING_MAX 128
#define YEAR_MS (365ull * 24 * 3600 * 1000)
#define DB(member) offsetof(struct database_draft, member)
#define USER(member) offsetof(struct user_draft, member)
#define TEXT(name, max, member)                                  \
    {                                                            \
        {name, KIND_TEXT, 1, max, "", NULL, DB(member)}, 0, NULL \
    }
#define LATER_ONLY(name, note)                        \
    {                                                 \
        {name, KIND_TEXT, 0, 0, "", NULL, 0}, 0, note \
    }
#define COUNT(name, own, member, max, set)                                                        \
    {                                                                                             \
        {name, KIND_U32, 0, max, "", NULL, (own) + offsetof(struct conf_overrides, member)}, set, \
            NULL                                                                                  \
    }
#define POOL_SIZE(own) COUNT("pool_size", own, pool_size, POOL_MAX, CONF_SET_POOL_SIZE)
#define MIN_POOL_SIZE(own) \
    COUNT("min_pool_size", own, min_pool_size, POOL_MAX, CONF_SET_MIN_POOL_SIZE)
#define RESERVE_POOL_SIZE(name, own) \
    COUNT(name, own, reserve_pool_size, POOL_MAX, CONF_SET_RESERVE_POOL_SIZE)
#define MAX_CONNECTIONS(name, own) \
    COUNT(name, own, max_connections, CONNECTIONS_MAX, CONF_SET_MAX_CONNECTIONS)
#define MAX_CLIENT_CONNECTIONS(name, own) \
    COUNT(name, own, max_client_connections, CONNECTIONS_MAX, CONF_SET_MAX_CLIENT_CONNECTIONS)
#define POOL_MODE(own)                                        \
    {                                                         \
        {"pool_mode",                                         \
         KIND_ENUM,                                           \
         0,                                                   \
         0,                                                   \
         "",                                                  \
         pool_mode_words,                                     \
         (own) + offsetof(struct conf_overrides, pool_mode)}, \
            CONF_SET_POOL_MODE, NULL                          \
    }
#define ROUTE(own)                                           \
    {                                                        \
        {                                                    \
            "route",                                         \
            KIND_ENUM,                                       \
            0,                                               \
            0,                                               \
            "",                                              \
            route_words,                                     \
            (own) + offsetof(struct conf_overrides, route)}, \
            CONF_SET_ROUTE, NULL                             \
    }
#define TX_READS(own)                                        \
    {                                                        \
        {"tx_reads",                                         \
         KIND_ENUM,                                          \
         0,                                                  \
         0,                                                  \
         "",                                                 \
         tx_reads_words,                                     \
         (own) + offsetof(struct conf_overrides, tx_reads)}, \
            CONF_SET_TX_READS, NULL                          \
    }
/* What a database or a user sets instead of an option: `what` marks it as set. */
#define OWN(name, kind, max, unit, words, own, member, what)                                      \
    {                                                                                             \
        {name, kind, 0, max, unit, words, (own) + offsetof(struct conf_overrides, member)}, what, \
            NULL                                                                                  \
    }
#define OWN_MS(name, own, member, what) OWN(name, KIND_MS, YEAR_MS, "s", NULL, own, member, what)
#define CLIENT_LIMITS(own)                                                                        \
    OWN_MS("read_queue_timeout", own, read_queue_timeout_ms, CONF_SET_READ_QUEUE_TIMEOUT),        \
        OWN_MS("write_queue_timeout", own, write_queue_timeout_ms, CONF_SET_WRITE_QUEUE_TIMEOUT), \
        OWN_MS("query_timeout", own, query_timeout_ms, CONF_SET_QUERY_TIMEOUT),                   \
        OWN_MS("transaction_timeout", own, transaction_timeout_ms, CONF_SET_TRANSACTION_TIMEOUT), \
        OWN_MS("idle_transaction_timeout", own, idle_transaction_timeout_ms,                      \
               CONF_SET_IDLE_TRANSACTION_TIMEOUT),                                                \
        OWN_MS("client_idle_timeout", own, client_idle_timeout_ms, CONF_SET_CLIENT_IDLE_TIMEOUT), \
        OWN("shed_severity", KIND_ENUM, 0, "", shed_severity_words, own, shed_severity,           \
            CONF_SET_SHED_SEVERITY)
#define QUEUE_TIMEOUT(name, own)                                     \
    {                                                                \
        {name,                                                       \
         KIND_MS,                                                    \
         0,                                                          \
         YEAR_MS,                                                    \
         "s",                                                        \
         NULL,                                                       \
         (own) + offsetof(struct conf_overrides, queue_timeout_ms)}, \
            CONF_SET_QUEUE_TIMEOUT, NULL                             \
    }
#define SERVER_LIFETIME(own)                                           \
    {                                                                  \
        {"server_lifetime",                                            \
         KIND_MS,                                                      \
         0,                                                            \
         YEAR_MS,                                                      \
         "s",                                                          \
         NULL,                                                         \
         (own) + offsetof(struct conf_overrides, server_lifetime_ms)}, \
            CONF_SET_SERVER_LIFETIME, NULL                             \
    }

static const char no_lookup[] = "only users in auth_file can log in";

static const struct entry_key database_keys[] = {
    TEXT("host", 8192, host_list),
    TEXT("port", 1024, port_list),
    TEXT("weight", 1024, weight_list),
    TEXT("zone", 4096, zone_list),
    TEXT("dbname", CONF_NAME_MAX, db.dbname),
    TEXT("user", CONF_USER_MAX, db.user),
    {{"password", KIND_SECRET, 1, CONF_SECRET_MAX, "", NULL, DB(db.password)}, 0, NULL},
    POOL_SIZE(DB(db.own)),
    MIN_POOL_SIZE(DB(db.own)),
    RESERVE_POOL_SIZE("reserve_pool_size", DB(db.own)),
    RESERVE_POOL_SIZE("reserve_pool", DB(db.own)),
    MAX_CONNECTIONS("max_db_connections", DB(db.own)),
    MAX_CLIENT_CONNECTIONS("max_db_client_connections", DB(db.own)),
    POOL_MODE(DB(db.own)),
    QUEUE_TIMEOUT("queue_timeout", DB(db.own)),
    QUEUE_TIMEOUT("query_wait_timeout", DB(db.own)),
    CLIENT_LIMITS(DB(db.own)),
    SERVER_LIFETIME(DB(db.own)),
    ROUTE(DB(db.own)),
    TX_READS(DB(db.own)),
    TEXT("client_encoding", SETTING_MAX, db.client_encoding),
    TEXT("datestyle", SETTING_MAX, db.datestyle),
    TEXT("timezone", SETTING_MAX, db.timezone),
    TEXT("application_name", SETTING_MAX, db.application_name),
    TEXT("connect_query", CONF_SECRET_MAX, db.connect_query),
    LATER_ONLY("load_balance_hosts", "reads are balanced over all fresh replicas"),
    LATER_ONLY("auth_user", no_lookup),
    LATER_ONLY("auth_query", no_lookup),
    LATER_ONLY("auth_dbname", no_lookup),
};

static const struct entry_key user_keys[] = {
    POOL_SIZE(USER(user.own)),
    RESERVE_POOL_SIZE("reserve_pool_size", USER(user.own)),
    MAX_CONNECTIONS("max_user_connections", USER(user.own)),
    MAX_CLIENT_CONNECTIONS("max_user_client_connections", USER(user.own)),
    POOL_MODE(USER(user.own)),
    ROUTE(USER(user.own)),
    TX_READS(USER(user.own)),
    QUEUE_TIMEOUT("queue_timeout", USER(user.own)),
    QUEUE_TIMEOUT("query_wait_timeout", USER(user.own)),
    CLIENT_LIMITS(USER(user.own)),
};

enum entry_type { ENTRY_DATABASE, ENTRY_USER };
static const struct entry_table {
    const char *section;
    const struct entry_key *keys;
    size_t n;
} tables[] = {
    [ENTRY_DATABASE] = {"[databases]", database_keys, sizeof database_keys / sizeof *database_keys},
    [ENTRY_USER] = {"[users]", user_keys, sizeof user_keys / sizeof *user_keys},
};
_Static_assert(sizeof database_keys / sizeof *database_keys <= ENTRY_KEY_MAX,
               "warned[] is too small");

/* One entry while its line is read. */
struct entry {
    struct loader *l;
    enum entry_type type;
    const char *name;
    const struct origin *at;
    void *base; /* the draft */
    struct conf_overrides *own;
    bool ok;
    bool after_password; /* the pair before was one */
};

__attribute__((format(printf, 2, 3))) static void refuse(struct entry *e, const char *fmt, ...)
{
    struct why why;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why.text, sizeof why.text, fmt, ap);
    va_end(ap);
    e->ok = false;
    loader_say(e->l, CONF_ERROR, e->at, e->name, "%s", why.text);
}

static void set_key(struct entry *e, const char *key, const char *value)
{
    const struct entry_table *t = &tables[e->type];
    size_t i = 0;
    while (i < t->n && strcmp(t->keys[i].field.name, key) != 0)
        i++;
    struct why why;
    if (i == t->n) {
        struct nearest near = {.word = key};
        for (size_t k = 0; k < t->n; k++)
            nearest_offer(&near, t->keys[k].field.name);
        /* After a password the word may be the rest of it, which nobody may see. */
        if (e->after_password)
            refuse(e, "unknown key behind the password (one with blanks needs 'quotes')");
        else
            refuse(e, "unknown key %.60s%s", key, nearest_hint(&near, &why));
        return;
    }
    const struct entry_key *k = &t->keys[i];
    if (k->note && !e->l->entry_warned[e->type][i]) {
        e->l->entry_warned[e->type][i] = true;
        loader_say(e->l, CONF_WARNING, e->at, e->name, "%s in %s is not supported yet: %s", key,
                   t->section, k->note);
    }
    if (k->note && k->field.max == 0)
        return;
    if (!field_set(e->base, &k->field, value, &why))
        refuse(e, "%s: %s", key, why.text);
    e->own->set |= k->set;
}

static const char *skip_blanks(const char *p)
{
    return p + strspn(p, " \t\r\n\f\v");
}

/* The value at *p, quoted or not, into the arena; NULL after an error. */
static const char *take_value(struct entry *e, const char *key, const char **p)
{
    const char *start = *p;
    if (*start != '\'') {
        size_t n = strcspn(start, " \t\r\n\f\v");
        *p = start + n;
        if (n > 0)
            return arena_text(e->l->arena, start, n);
        refuse(e, "%.60s: empty value", key);
        return NULL;
    }
    char *value = arena_alloc(e->l->arena, strlen(start) + 1);
    size_t n = 0;
    for (const char *q = start + 1; *q; q++) {
        if (*q == '\'' && *++q != '\'') {
            *p = q;
            if (n > 0)
                return value;
            refuse(e, "%.60s: empty value", key);
            return NULL;
        }
        value[n++] = *q;
    }
    refuse(e, "%.60s: the quoted value has no end", key);
    return NULL;
}

/* PgBouncer's connection string. Stops at the first thing that is not key=value. */
static void read_pairs(struct entry *e, const char *text)
{
    for (const char *p = skip_blanks(text); *p; p = skip_blanks(p)) {
        size_t key_n = strcspn(p, "= \t\r\n\f\v'");
        const char *key = arena_text(e->l->arena, p, key_n);
        p = skip_blanks(p + key_n);
        if (key_n == 0 || *p != '=') {
            /* The text may be part of a password: never shown. */
            refuse(e, "expected key=value pairs, as in host=pg1 port=5432");
            return;
        }
        p = skip_blanks(p + 1);
        const char *value = take_value(e, key, &p);
        if (!value)
            return;
        if (*p && skip_blanks(p) == p) {
            refuse(e, "%.60s: text behind the closing quote", key);
            return;
        }
        set_key(e, key, value);
        e->after_password = strcmp(key, "password") == 0;
    }
}

bool conf_is_console(struct slice name)
{
    return slice_is(name, "pgweir") || slice_is(name, "pgbouncer");
}

struct database_draft *loader_new_database(struct loader *l, const char *name,
                                           const struct origin *at)
{
    if (conf_is_console(slice_of(name))) {
        loader_say(l, CONF_ERROR, at, name, "the name %s is reserved for the console", name);
        return NULL;
    }
    size_t n = strlen(name);
    if (n == 0 || n > CONF_NAME_MAX) {
        loader_say(l, CONF_ERROR, at, name, "a database name has 1 to %d bytes, this one %zu",
                   CONF_NAME_MAX, n);
        return NULL;
    }
    l->databases =
        arena_grow(l->arena, l->databases, l->database_n, &l->database_cap, sizeof *l->databases);
    struct database_draft *d = &l->databases[l->database_n++];
    *d = (struct database_draft){
        .at = *at, .host_list = "", .port_list = "", .weight_list = "", .zone_list = ""};
    d->db = (struct conf_database){
        .name = arena_text(l->arena, name, n),
        .dbname = "",
        .user = "",
        .password = "",
        .client_encoding = "",
        .datestyle = "",
        .timezone = "",
        .application_name = "",
        .connect_query = "",
    };
    return d;
}

struct database_draft *loader_find_database(struct loader *l, const char *name, bool fold)
{
    for (size_t i = l->database_n; i-- > 0;) {
        const char *have = l->databases[i].db.name;
        if ((fold ? strcasecmp(have, name) : strcmp(have, name)) == 0)
            return &l->databases[i];
    }
    return NULL;
}

struct database_draft *loader_database(struct loader *l, const char *name, const char *value,
                                       const struct origin *at)
{
    struct database_draft *d = loader_new_database(l, name, at);
    if (!d)
        return NULL;
    struct entry e = {l, ENTRY_DATABASE, d->db.name, at, d, &d->db.own, true, false};
    read_pairs(&e, value);
    if (!*d->db.dbname && strcmp(d->db.name, "*") != 0)
        d->db.dbname = d->db.name;
    return e.ok ? d : NULL;
}

void loader_user(struct loader *l, const char *name, const char *value, const struct origin *at)
{
    size_t n = strlen(name);
    if (n == 0 || n > CONF_USER_MAX) {
        loader_say(l, CONF_ERROR, at, name, "a user name has 1 to %d bytes, this one %zu",
                   CONF_USER_MAX, n);
        return;
    }
    l->users = arena_grow(l->arena, l->users, l->user_n, &l->user_cap, sizeof *l->users);
    struct user_draft *d = &l->users[l->user_n++];
    *d = (struct user_draft){.at = *at};
    d->user.name = arena_text(l->arena, name, n);
    struct entry e = {l, ENTRY_USER, d->user.name, at, d, &d->user.own, true, false};
    read_pairs(&e, value);
}
