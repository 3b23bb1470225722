#include "proxy/control/pg.h"

#include "base/check.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>

#define PARAMS_MAX 24
#define NO_FILE "/dev/null/none" /* else libpq looks in the home directory */

static void ignore_notice(void *context, const char *message)
{
    (void)context;
    (void)message;
}

struct params {
    const char *keys[PARAMS_MAX + 1], *values[PARAMS_MAX + 1];
    unsigned n;
};

static void add_param(struct params *params, const char *key, const char *value)
{
    if (!value[0])
        return;
    CHECK(params->n < PARAMS_MAX);
    params->keys[params->n] = key;
    params->values[params->n++] = value;
}

static const char *or_no_file(const char *path)
{
    return path[0] ? path : NO_FILE;
}

static void add_login(struct params *params, const struct login *login)
{
    for (int i = 0; i < LOGIN_PARTS_N; i++)
        if (i != LOGIN_SSLROOTCERT && i != LOGIN_SSLCERT && i != LOGIN_SSLKEY)
            add_param(params, login_keywords[i], login->part[i]);
    add_param(params, "sslrootcert", or_no_file(login->part[LOGIN_SSLROOTCERT]));
    add_param(params, "sslcert", or_no_file(login->part[LOGIN_SSLCERT]));
    add_param(params, "sslkey", or_no_file(login->part[LOGIN_SSLKEY]));
    add_param(params, "sslcrl", NO_FILE);
    add_param(params, "passfile", NO_FILE);
}

PGconn *pg_connect_start(const struct node *node, const struct node_address *to,
                         const struct login *login, const char *application, const char *options)
{
    char address[64] = "", port[8];
    snprintf(port, sizeof port, "%u", node->port);
    if (to->addr.ss_family != AF_UNIX)
        getnameinfo((const struct sockaddr *)(const void *)&to->addr, to->bytes, address,
                    sizeof address, NULL, 0, NI_NUMERICHOST);
    struct params params = {.n = 0};
    add_param(&params, "host", node->host);
    add_param(&params, "hostaddr", address);
    add_param(&params, "port", port);
    add_login(&params, login);
    add_param(&params, "gssencmode", "disable");
    add_param(&params, "application_name", application);
    add_param(&params, "options", options);
    PGconn *conn = PQconnectStartParams(params.keys, params.values, 0);
    CHECK(conn != NULL);
    PQsetNoticeProcessor(conn, ignore_notice, NULL);
    PQsetErrorVerbosity(conn, PQERRORS_VERBOSE);
    return conn;
}

void pg_copy_error(const char *text, char *to, size_t to_bytes)
{
    size_t n = 0;
    const char *end = strstr(text, "LOCATION:");
    for (; *text && text != end && n + 1 < to_bytes; text++)
        if ((unsigned char)*text > ' ' || (n > 0 && to[n - 1] != ' '))
            to[n++] = (unsigned char)*text > ' ' ? *text : ' ';
    while (n > 0 && to[n - 1] == ' ')
        n--;
    to[n] = '\0';
}

static bool is_sqlstate(const char *s)
{
    for (int i = 0; i < 5; i++)
        if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'A' && s[i] <= 'Z')))
            return false;
    return s[5] == ':';
}

static const char *sqlstate_in(const char *error)
{
    for (const char *s = error; (s = strstr(s, ": ")) != NULL; s++)
        if (is_sqlstate(s + 2))
            return s + 2;
    return NULL;
}

bool pg_says_not_now(const char *error)
{
    const char *sqlstate = sqlstate_in(error);
    return sqlstate && strncmp(sqlstate, "57P", 3) == 0;
}

bool pg_login_refused(const PGconn *conn, const char *error)
{
    return sqlstate_in(error) ? !pg_says_not_now(error) : PQconnectionNeedsPassword(conn) != 0;
}

void pg_clean_environment(void)
{
    unsetenv("PGSERVICE"); /* first: PQconndefaults() would follow it */
    PQconninfoOption *options = PQconndefaults();
    for (const PQconninfoOption *o = options; o && o->keyword; o++)
        if (o->envvar)
            unsetenv(o->envvar);
    PQconninfoFree(options);
}
