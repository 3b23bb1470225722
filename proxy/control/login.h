/* proxy/control/login.h: with which user, database and TLS settings the probes of a cluster log in.
 *
 * Pure      no I/O. The texts belong to the conf.
 * Order     probe_user; else the entry's own user; else auth_user; else the first user of auth_file
 *           with a plain password.
 */
#ifndef CONTROL_LOGIN_H
#define CONTROL_LOGIN_H

#include "proxy/pool/snapshot.h"

/* The parts of a login, and libpq's keyword for each. "" means: leave it out. */
#define LOGIN_PARTS(X)                  \
    X(LOGIN_USER, "user")               \
    X(LOGIN_PASSWORD, "password")       \
    X(LOGIN_DBNAME, "dbname")           \
    X(LOGIN_SSLMODE, "sslmode")         \
    X(LOGIN_SSLROOTCERT, "sslrootcert") \
    X(LOGIN_SSLCERT, "sslcert")         \
    X(LOGIN_SSLKEY, "sslkey")
#define LOGIN_PART_ENUM(name, keyword) name,
enum login_part { LOGIN_PARTS(LOGIN_PART_ENUM) LOGIN_PARTS_N };
#undef LOGIN_PART_ENUM

struct login {
    const char *part[LOGIN_PARTS_N];
};

extern const char *const login_keywords[LOGIN_PARTS_N];

/* The login for this entry. False: the configuration names no user for it. */
bool login_of(const struct conf *conf, const struct conf_database *db, struct login *login);
/* The same for a cluster: of its first entry that has one. Those that name this database (NULL: any) go before
 * templates. */
bool login_choose(const struct snapshot *snapshot, const struct cluster *cluster,
                  const char *database, struct login *login);
bool login_equal(const struct login *a, const struct login *b);

#endif
