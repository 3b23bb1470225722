/* conf/conf.h: the configuration, as one immutable snapshot.
 *
 * Life   conf_load() reads every source, checks everything and only then returns a snapshot.
 *        Nobody writes to it afterwards, so any thread may read it without a lock. conf_free()
 *        wipes it. conf_load() blocks on files: start-up or a helper thread, never a worker.
 * Owns   the snapshot owns every string in it; they live until conf_free(). No text is ever NULL
 *        unless its comment says so; "" means unset.
 * Units  times are milliseconds and end in _ms, sizes are bytes and end in _bytes.
 * Errors all at once, as "file:line: key: reason"; see struct conf_errors.
 * Memory an allocation that fails ends the process with a message: these are small.
 *
 * The options themselves are the rows of conf/options.def, nothing else.
 */
#ifndef CONF_CONF_H
#define CONF_CONF_H

#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
    CONF_LINE_MAX = 128 * 1024,       /* bytes of one line of an ini file */
    CONF_FILE_MAX = 64 * 1024 * 1024, /* bytes of one ini file, auth_file or secret */
    CONF_INCLUDE_DEPTH_MAX = 10,      /* %include in %include, as PgBouncer */
    CONF_INCLUDE_FILES_MAX = 256,     /* files of one load, so that a bush of includes ends too */
    CONF_HOSTS_MAX = 32,              /* nodes of one database */
    CONF_NAME_MAX = 63,               /* bytes of a database name; PostgreSQL's own limit */
    CONF_USER_MAX = 127,              /* bytes of a user name; PgBouncer's limit */
    CONF_SECRET_MAX = 65535,          /* bytes of a password or stored secret; PgBouncer's limit */
    CONF_WEIGHT_MAX = 255,            /* of a node; router/balance.h computes with it */
    CONF_ZONE_MAX = 63,               /* bytes of a zone's name */
    CONF_ERRORS_MAX = 200,            /* messages kept of one load; the rest is counted */
};

/* The values of each enum option: constant, text in the file. */
#define CONF_ENUM_pool_mode(V)              \
    V(CONF_POOL_SESSION, "session")         \
    V(CONF_POOL_TRANSACTION, "transaction") \
    V(CONF_POOL_STATEMENT, "statement")
#define CONF_ENUM_auth_type(V)  \
    V(CONF_AUTH_TRUST, "trust") \
    V(CONF_AUTH_PLAIN, "plain") \
    V(CONF_AUTH_MD5, "md5")     \
    V(CONF_AUTH_SCRAM, "scram-sha-256")
#define CONF_ENUM_client_sslmode(V)       \
    V(CONF_CLIENT_TLS_DISABLE, "disable") \
    V(CONF_CLIENT_TLS_ALLOW, "allow")     \
    V(CONF_CLIENT_TLS_PREFER, "prefer")   \
    V(CONF_CLIENT_TLS_REQUIRE, "require")
#define CONF_ENUM_server_sslmode(V)           \
    V(CONF_SERVER_TLS_DISABLE, "disable")     \
    V(CONF_SERVER_TLS_PREFER, "prefer")       \
    V(CONF_SERVER_TLS_REQUIRE, "require")     \
    V(CONF_SERVER_TLS_VERIFY_CA, "verify-ca") \
    V(CONF_SERVER_TLS_VERIFY_FULL, "verify-full")
#define CONF_ENUM_log_level(V) \
    V(CONF_LOG_DEBUG, "debug") \
    V(CONF_LOG_INFO, "info")   \
    V(CONF_LOG_WARN, "warn")   \
    V(CONF_LOG_ERROR, "error")
#define CONF_ENUM_log_format(V)  \
    V(CONF_LOG_TEXT, "text")     \
    V(CONF_LOG_LOGFMT, "logfmt") \
    V(CONF_LOG_JSON, "json")
#define CONF_ENUM_consistency(V)             \
    V(CONF_CONSISTENCY_EVENTUAL, "eventual") \
    V(CONF_CONSISTENCY_SESSION, "session")   \
    V(CONF_CONSISTENCY_GLOBAL, "global")
#define CONF_ENUM_balance(V)                   \
    V(CONF_BALANCE_P2C, "p2c")                 \
    V(CONF_BALANCE_ROUND_ROBIN, "round_robin") \
    V(CONF_BALANCE_LEAST_CONNECTIONS, "least_connections")
#define CONF_ENUM_primary_reads(V)             \
    V(CONF_PRIMARY_READS_NEVER, "never")       \
    V(CONF_PRIMARY_READS_FALLBACK, "fallback") \
    V(CONF_PRIMARY_READS_WEIGHTED, "weighted")
#define CONF_ENUM_route(V)           \
    V(CONF_ROUTE_AUTO, "auto")       \
    V(CONF_ROUTE_PRIMARY, "primary") \
    V(CONF_ROUTE_REPLICA, "replica") \
    V(CONF_ROUTE_ANY, "any")
#define CONF_ENUM_tx_reads(V)           \
    V(CONF_TX_READS_PRIMARY, "primary") \
    V(CONF_TX_READS_OPTIMISTIC, "optimistic")
#define CONF_ENUM_queue_discipline(V) \
    V(CONF_QUEUE_FIFO, "fifo")        \
    V(CONF_QUEUE_CODEL, "codel")
#define CONF_ENUM_shed_severity(V) \
    V(CONF_SHED_ERROR, "error")    \
    V(CONF_SHED_FATAL, "fatal")    \
    V(CONF_SHED_PGBOUNCER, "pgbouncer")
#define CONF_ENUM_log_routes(V)       \
    V(CONF_ROUTES_NONE, "none")       \
    V(CONF_ROUTES_CHANGES, "changes") \
    V(CONF_ROUTES_SAMPLE, "sample")   \
    V(CONF_ROUTES_ALL, "all")

#define CONF_ENUM_CONSTANT(constant, text) constant,
enum conf_pool_mode { CONF_ENUM_pool_mode(CONF_ENUM_CONSTANT) };
enum conf_auth_type { CONF_ENUM_auth_type(CONF_ENUM_CONSTANT) };
enum conf_client_sslmode { CONF_ENUM_client_sslmode(CONF_ENUM_CONSTANT) };
enum conf_server_sslmode { CONF_ENUM_server_sslmode(CONF_ENUM_CONSTANT) };
enum conf_log_level { CONF_ENUM_log_level(CONF_ENUM_CONSTANT) };
enum conf_log_format { CONF_ENUM_log_format(CONF_ENUM_CONSTANT) };
enum conf_consistency { CONF_ENUM_consistency(CONF_ENUM_CONSTANT) };
enum conf_balance { CONF_ENUM_balance(CONF_ENUM_CONSTANT) };
enum conf_primary_reads { CONF_ENUM_primary_reads(CONF_ENUM_CONSTANT) };
enum conf_route { CONF_ENUM_route(CONF_ENUM_CONSTANT) };
enum conf_tx_reads { CONF_ENUM_tx_reads(CONF_ENUM_CONSTANT) };
enum conf_queue_discipline { CONF_ENUM_queue_discipline(CONF_ENUM_CONSTANT) };
enum conf_shed_severity { CONF_ENUM_shed_severity(CONF_ENUM_CONSTANT) };
enum conf_log_routes { CONF_ENUM_log_routes(CONF_ENUM_CONSTANT) };
#undef CONF_ENUM_CONSTANT

/* Whose defaults hold: PgBouncer's as soon as the file has a [pgbouncer] section, else ours. */
enum conf_flavour { CONF_PGWEIR, CONF_PGBOUNCER, CONF_FLAVOUR_N };

/* One node of a database. host is a name, an IPv4 or IPv6 address without brackets, "/dir" for a
 * unix socket directory or "@name" for an abstract one. */
struct conf_host {
    const char *host;
    uint16_t port;
    uint16_t
        weight; /* its share of the reads, against the others; 0: only when nothing else is there */
    const char *zone; /* "": none */
};

/* What a database or a user may set instead of the global option. Read it through conf_pool_size()
 * and its like, which know the precedence. */
enum {
    CONF_SET_POOL_SIZE = 1 << 0,
    CONF_SET_POOL_MODE = 1 << 1,
    CONF_SET_QUEUE_TIMEOUT = 1 << 2,
    CONF_SET_SERVER_LIFETIME = 1 << 3,
    CONF_SET_ROUTE = 1 << 9,
    CONF_SET_TX_READS = 1 << 8,
    CONF_SET_MIN_POOL_SIZE = 1 << 10,
    CONF_SET_READ_QUEUE_TIMEOUT = 1 << 16,
    CONF_SET_WRITE_QUEUE_TIMEOUT = 1 << 17,
    CONF_SET_QUERY_TIMEOUT = 1 << 18,
    CONF_SET_TRANSACTION_TIMEOUT = 1 << 19,
    CONF_SET_IDLE_TRANSACTION_TIMEOUT = 1 << 20,
    CONF_SET_CLIENT_IDLE_TIMEOUT = 1 << 21,
    CONF_SET_SHED_SEVERITY = 1 << 22,
    CONF_SET_RESERVE_POOL_SIZE = 1 << 23,
    CONF_SET_MAX_CONNECTIONS = 1 << 24,
    CONF_SET_MAX_CLIENT_CONNECTIONS = 1 << 25,
};
struct conf_overrides {
    uint32_t set; /* CONF_SET_* of the fields that are set */
    uint32_t pool_size, min_pool_size, reserve_pool_size;
    uint32_t max_connections;        /* max_db_connections, or max_user_connections */
    uint32_t max_client_connections; /* max_db_client_connections, or max_user_client_connections */
    enum conf_pool_mode pool_mode;
    uint64_t queue_timeout_ms, read_queue_timeout_ms, write_queue_timeout_ms;
    uint64_t query_timeout_ms, transaction_timeout_ms, idle_transaction_timeout_ms;
    uint64_t client_idle_timeout_ms;
    uint64_t server_lifetime_ms;
    enum conf_shed_severity shed_severity;
    enum conf_route route;
    enum conf_tx_reads tx_reads;
};

struct conf_database {
    const char *name;   /* "*" for the template that serves every other name */
    const char *dbname; /* at the server; "" in a template: the name that the client asked for */
    const struct conf_host *hosts;
    size_t host_n;        /* >= 1, <= CONF_HOSTS_MAX */
    const char *user;     /* forced server user; "" = the client's */
    const char *password; /* of the server login; "" = the secret of that user */
    struct conf_overrides own;
    /* Of every server, at its login: what clients that say nothing get. */
    const char *client_encoding, *datestyle, *timezone, *application_name;
    const char *connect_query; /* ... and then this runs */
};

struct conf_user {
    const char *name;
    struct conf_overrides own;
};

struct conf_secret {
    const char *name;
    const char *secret; /* plain, "md5..." or "SCRAM-SHA-256$..."; may be "" */
};

#define CONF_FIELD_flag(name) bool name;
#define CONF_FIELD_u32(name) uint32_t name;
#define CONF_FIELD_ms(name) uint64_t name##_ms;
#define CONF_FIELD_bytes(name) uint64_t name; /* the option's name ends in _bytes itself */
#define CONF_FIELD_share(name) struct conf_share name;
#define CONF_FIELD_text(name) const char *name;
#define CONF_FIELD_secret(name) const char *name;

/* A number, or so many percent of what conf_share_of() is asked for. */
struct conf_share {
    uint32_t n, percent; /* percent 0: n counts */
};

struct conf {
#define OPT(name, kind, ...) CONF_FIELD_##kind(name)
#define OPT_ENUM(name, tag, ...) enum conf_##tag name;
#include "conf/options.def"
    enum conf_flavour flavour;
    const char *path;                      /* the main file; "" without one */
    const struct conf_database *databases; /* sorted by name */
    size_t database_n;                     /* >= 1 */
    const struct conf_user *users;         /* sorted by name */
    size_t user_n;
    const struct conf_secret *secrets; /* sorted by name, unique */
    size_t secret_n;
    const char *const *foreign; /* values of conf/pgbouncer_keys.def, for SHOW CONFIG */
    struct arena *arena;        /* owns all of the above, and this struct */
};

/* ---- loading ---- */

enum conf_severity { CONF_ERROR, CONF_WARNING };

struct conf_message {
    enum conf_severity severity;
    char *text; /* "file:line: key: reason", no newline; never contains a secret */
};

/* Zero it before first use; conf_errors_free() makes it reusable. */
struct conf_errors {
    struct conf_message *list; /* in the order of the sources */
    size_t n;                  /* <= CONF_ERRORS_MAX */
    size_t error_n;            /* how many errors there were, kept or not */
    size_t dropped_n;          /* messages that were not kept */
};

void conf_errors_free(struct conf_errors *errs);
/* Print one line per message, "error: ..." or "warning: ...", and a last one when some were
 * dropped. */
void conf_errors_print(const struct conf_errors *errs, FILE *out);

/* Where the configuration comes from. env beats file, file beats built-in. */
struct conf_sources {
    const char *path; /* ini file; NULL = none */
    char *const *env; /* like environ; NULL = none */
    const char
        *text;     /* NULL, or the bytes to read instead of the file; then path is only its name */
    size_t text_n; /* bytes of text */
    /* NULL, or what reads every other file (tests, fuzzing): returns malloc()ed bytes and their
     * count, or NULL with errno. */
    char *(*read_file)(const char *path, size_t *n);
};

/* Read, check and freeze. Returns NULL when there is any error; warnings may come with either. Add
 * messages to errs. Free the result with conf_free(). */
struct conf *conf_load(const struct conf_sources *src, struct conf_errors *errs);
void conf_free(struct conf *conf); /* NULL is fine */

/* ---- looking up ---- */

/* The entry of that name, else the "*" template, else NULL. The console's names are never found. */
const struct conf_database *conf_database(const struct conf *conf, struct slice name);
/* "name@ro" and "name@rw", unless an entry is called just that: the suffix is cut off. */
enum conf_access { CONF_ACCESS_PLAIN, CONF_ACCESS_READ_ONLY, CONF_ACCESS_PRIMARY };
enum conf_access conf_cut_access(const struct conf *conf, struct slice *name);
/* The entry in [users], or NULL. */
const struct conf_user *conf_user(const struct conf *conf, struct slice name);
/* The secret of that user (may be ""), or NULL when there is no such user. Not constant in time. */
const char *conf_secret(const struct conf *conf, struct slice user);
/* Whether name is an element of a comma list such as admin_users. */
bool conf_list_has(const char *list, struct slice name);
/* Whether name is the console's: "pgweir" or "pgbouncer". */
bool conf_is_console(struct slice name);

/* What holds for this database and user (user may be NULL): the user's own value, else the
 * database's, else the global one. 0 = no limit. */
uint32_t conf_pool_size(const struct conf *conf, const struct conf_database *db,
                        const struct conf_user *user);
/* Of `whole`, where 0 is no limit: rounded up, so never 0 of something. */
uint32_t conf_share_of(struct conf_share share, uint32_t whole);
uint32_t conf_min_pool_size(const struct conf *conf, const struct conf_database *db);
uint32_t conf_reserve_pool_size(const struct conf *conf, const struct conf_database *db,
                                const struct conf_user *user);
uint32_t conf_max_db_connections(const struct conf *conf, const struct conf_database *db);
uint32_t conf_max_user_connections(const struct conf *conf, const struct conf_user *user);
uint32_t conf_max_db_client_connections(const struct conf *conf, const struct conf_database *db);
uint32_t conf_max_user_client_connections(const struct conf *conf, const struct conf_user *user);
enum conf_pool_mode conf_pool_mode(const struct conf *conf, const struct conf_database *db,
                                   const struct conf_user *user);
/* Of reads, or of what has to run on the primary. The narrowest of user, database and global that says anything
 * counts, and in it the timeout of that kind before the one of both. */
uint64_t conf_queue_timeout_ms(const struct conf *conf, const struct conf_database *db,
                               const struct conf_user *user, bool reads);
enum conf_shed_severity conf_shed_severity(const struct conf *conf, const struct conf_database *db,
                                           const struct conf_user *user);
/* How long a client may do what; 0: no limit. */
struct conf_client_limits {
    uint64_t query_ms, transaction_ms, idle_transaction_ms, idle_ms;
};
struct conf_client_limits conf_client_limits(const struct conf *conf,
                                             const struct conf_database *db,
                                             const struct conf_user *user);
uint64_t conf_server_lifetime_ms(const struct conf *conf, const struct conf_database *db);
/* auto where nothing is said. */
enum conf_route conf_route(const struct conf_database *db, const struct conf_user *user);
enum conf_tx_reads conf_tx_reads(const struct conf *conf, const struct conf_database *db,
                                 const struct conf_user *user);

/* ---- showing ---- */

struct conf_shown {
    const char *key;
    const char *value;         /* points into conf, a constant or buf; secrets are masked */
    const char *default_value; /* of the snapshot's flavour; points to a constant or default_buf */
    bool changeable;           /* by a reload */
    char buf[40], default_buf[40];
};

/* Rows of SHOW CONFIG, by key: index 0 .. conf_show_count() - 1. Times are shown in PgBouncer's
 * unit (seconds, or ms for tcp_user_timeout), flags as 0 or 1. */
size_t conf_show_count(void);
void conf_show(const struct conf *conf, size_t index, struct conf_shown *out);

/* Names of the options that differ between two snapshots but need a restart: fills names with up to
 * cap of them and returns how many there are. */
size_t conf_restart_changes(const struct conf *was, const struct conf *now, const char **names,
                            size_t cap);

/* The commented sample, conf/pgweir.ini. */
void conf_print_sample(FILE *out);

#endif
