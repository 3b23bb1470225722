#include "proxy/control/login.h"

#define LOGIN_PART_KEYWORD(name, keyword) keyword,
const char *const login_keywords[] = {LOGIN_PARTS(LOGIN_PART_KEYWORD)};
#undef LOGIN_PART_KEYWORD

static bool is_plain(const char *secret)
{
    return secret && secret[0] && strncmp(secret, "SCRAM-SHA-256$", 14) != 0 &&
           !(strncmp(secret, "md5", 3) == 0 && strlen(secret) == 35);
}

/* An md5 or SCRAM secret cannot log in by itself; trust or a certificate may do without. */
static const char *password_of(const struct conf *conf, const char *user, const char *own)
{
    if (own[0])
        return own;
    const char *secret = conf_secret(conf, slice_of(user));
    return is_plain(secret) ? secret : "";
}

static bool find_user(const struct conf *conf, const struct conf_database *db, struct login *login)
{
    const char *user = NULL, *own = "";
    if (conf->probe_user[0]) {
        user = conf->probe_user;
        own = conf->probe_password;
    } else if (db->user[0]) {
        user = db->user;
        own = db->password;
    } else if (conf->auth_user[0]) {
        user = conf->auth_user;
    }
    for (size_t i = 0; !user && i < conf->secret_n; i++)
        if (is_plain(conf->secrets[i].secret))
            user = conf->secrets[i].name;
    if (!user)
        return false;
    login->part[LOGIN_USER] = user;
    login->part[LOGIN_PASSWORD] = password_of(conf, user, own);
    return true;
}

bool login_of(const struct conf *conf, const struct conf_database *db, struct login *login)
{
#define SSLMODE_TEXT(constant, text) text,
    static const char *const sslmodes[] = {CONF_ENUM_server_sslmode(SSLMODE_TEXT)};
#undef SSLMODE_TEXT
    *login = (struct login){0};
    for (int i = 0; i < LOGIN_PARTS_N; i++)
        login->part[i] = "";
    login->part[LOGIN_DBNAME] = "postgres";
    if (conf->probe_dbname[0])
        login->part[LOGIN_DBNAME] = conf->probe_dbname;
    else if (db->dbname[0])
        login->part[LOGIN_DBNAME] = db->dbname;
    login->part[LOGIN_SSLMODE] = sslmodes[conf->server_tls_sslmode];
    login->part[LOGIN_SSLROOTCERT] = conf->server_tls_ca_file;
    login->part[LOGIN_SSLCERT] = conf->server_tls_cert_file;
    login->part[LOGIN_SSLKEY] = conf->server_tls_key_file;
    return find_user(conf, db, login);
}

bool login_choose(const struct snapshot *s, const struct cluster *cluster, const char *database,
                  struct login *login)
{
    for (int template = 0; template <= 1; template ++)
        for (size_t i = 0; i < s->conf->database_n; i++) {
            const struct conf_database *db = &s->conf->databases[i];
            const bool names_it = db->dbname[0] && (!database || strcmp(db->dbname, database) == 0);
            const bool fits = template ? !db->dbname[0] : names_it;
            if (s->clusters[i] == cluster && fits && login_of(s->conf, db, login))
                return true;
        }
    return false;
}

bool login_equal(const struct login *a, const struct login *b)
{
    for (int i = 0; i < LOGIN_PARTS_N; i++)
        if (strcmp(a->part[i], b->part[i]) != 0)
            return false;
    return true;
}
