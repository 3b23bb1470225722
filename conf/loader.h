/* conf/loader.h: what the parts of one load share.
 *
 * Life    a loader lives for one conf_load(). Its arena becomes the snapshot's, or is freed.
 * Errors  every part reports through loader_say() and goes on, so that all errors come at once.
 */
#ifndef CONF_LOADER_H
#define CONF_LOADER_H

#include "conf/arena.h"
#include "conf/option.h"

/* Entries under construction; of equal names the last one holds. */
struct database_draft {
    struct conf_database db;
    struct origin at;
    const char *host_list, *port_list, *weight_list, *zone_list; /* as written; "" = default */
    bool lends_secret; /* its user and password also let the client of that name in */
};
struct user_draft {
    struct conf_user user;
    struct origin at;
};
struct secret_draft {
    struct conf_secret secret;
    struct origin at;
};

enum { ENTRY_KEY_MAX = 64 }; /* keys of one kind of entry */

struct loader {
    const struct conf_sources *src;
    struct conf_errors *errs;
    struct arena *arena;
    struct conf *conf;
    struct origin set_at[OPTION_N]; /* file NULL: nobody set it */
    const char *foreign[FOREIGN_N];
    struct origin foreign_at[FOREIGN_N];
    struct database_draft *databases;
    size_t database_n, database_cap;
    struct user_draft *users;
    size_t user_n, user_cap;
    struct secret_draft *secrets;
    size_t secret_n, secret_cap;
    bool entry_warned[2][ENTRY_KEY_MAX]; /* one warning a key, not one an entry */
    bool peers_warned;
    bool unreadable; /* the file itself */
};

/* conf_say() to the loader's list. */
#define loader_say(l, severity, at, key, ...) conf_say((l)->errs, severity, at, key, __VA_ARGS__)

/* The bytes of a file with a NUL behind them, or NULL with errno (EFBIG above CONF_FILE_MAX). Wipe
 * and free() them with loader_drop(). */
char *loader_read(const struct loader *l, const char *path, size_t *n);
void loader_drop(char *bytes, size_t n);

/* One global key. value is copied. */
void loader_set(struct loader *l, const char *key, const char *value, const struct origin *at);

/* ini.c: read the file (or the given text) and everything it includes. */
void loader_read_ini(struct loader *l);

/* entry.c: one line of [databases] or [users]; returns the new draft, or NULL after an error. */
struct database_draft *loader_database(struct loader *l, const char *name, const char *value,
                                       const struct origin *at);
void loader_user(struct loader *l, const char *name, const char *value, const struct origin *at);
/* An empty draft of that name, for a URL. The name must be checked: it may be refused with NULL. */
struct database_draft *loader_new_database(struct loader *l, const char *name,
                                           const struct origin *at);
/* The newest draft of that name (ignoring case when fold), or NULL. */
struct database_draft *loader_find_database(struct loader *l, const char *name, bool fold);

/* hosts.c: split the draft's lists into db.hosts; fallback stands for an empty host list. */
void loader_resolve_hosts(struct loader *l, struct database_draft *draft, const char *fallback);

/* url.c: DATABASE_URL and REPLICA_URLS; either may be NULL. */
void loader_urls(struct loader *l, const char *database_url, const char *replica_urls);

/* env.c: all variables. */
void loader_read_env(struct loader *l);

/* userlist.c: parse the bytes of auth_file. */
void loader_userlist(struct loader *l, const char *path, const char *bytes, size_t n);
/* One more secret; a later one of the same name replaces it. */
void loader_secret(struct loader *l, const char *name, const char *secret, const struct origin *at);

/* verify.c: everything that needs more than one value. */
void loader_verify(struct loader *l);

#endif
