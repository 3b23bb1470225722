/* conf/env.c: the environment as a source.
 *
 *   PGWEIR_<KEY>                          a global option
 *   PGWEIR_PGWEIR_<KEY>                   the same, with the section's name
 *   PGWEIR_DATABASES_<NAME>               an entry of [databases]; PGWEIR_USERS_<NAME> of [users]
 *   PGWEIR_DATABASES_<NAME>_PASSWORD      the password of an entry that exists
 *   DATABASE_URL, REPLICA_URLS            see url.c
 *
 * ..._FILE reads a secret from a file: any key that ends in password, an entry of [databases] and
 * the URLs. <NAME> without a small letter is taken in small letters, unless an entry has that very
 * name.
 */
#include "base/check.h"
#include "conf/loader.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <strings.h>

static const char prefix[] = "PGWEIR_";

struct variable {
    const char *name;  /* whole, as in the environment */
    const char *rest;  /* behind PGWEIR_ */
    const char *value; /* of a _FILE variable: the path */
    struct origin at;
};

static const char *value_of(const struct loader *l, const char *name)
{
    size_t n = strlen(name);
    for (char *const *e = l->src->env; *e; e++)
        if (strncmp(*e, name, n) == 0 && (*e)[n] == '=')
            return *e + n + 1;
    return NULL;
}

static bool starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static bool ends(const char *text, const char *with)
{
    size_t n = strlen(text), m = strlen(with);
    return n > m && strcmp(text + n - m, with) == 0;
}

/* text without its last n bytes. */
static const char *cut(struct loader *l, const char *text, size_t n)
{
    CHECK(strlen(text) >= n);
    return arena_text(l->arena, text, strlen(text) - n);
}

static const char *lower(struct loader *l, const char *text)
{
    char *copy = arena_text(l->arena, text, strlen(text));
    for (char *p = copy; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    return copy;
}

static const char *upper(const char *text, char *buf, size_t size)
{
    size_t n = 0;
    for (; text[n] && n + 1 < size; n++)
        buf[n] = (char)toupper((unsigned char)text[n]);
    buf[n] = 0;
    return buf;
}

/* The content of a secret file without its last newlines; NULL after an error. */
static const char *read_secret(struct loader *l, const struct variable *v)
{
    size_t n = 0;
    char *bytes = loader_read(l, v->value, &n);
    if (!bytes) {
        loader_say(l, CONF_ERROR, &v->at, "", "cannot read %.300s: %s", v->value,
                   strerrordesc_np(errno));
        return NULL;
    }
    size_t used = n;
    while (used > 0 && (bytes[used - 1] == '\n' || bytes[used - 1] == '\r'))
        used--;
    const char *secret = NULL;
    if (used == 0 || memchr(bytes, 0, used))
        loader_say(l, CONF_ERROR, &v->at, "", "%.300s %s", v->value,
                   used ? "contains a zero byte" : "is empty");
    else
        secret = arena_text(l->arena, bytes, used);
    loader_drop(bytes, n);
    return secret;
}

/* Kubernetes gives every pod the address of every service: of one named pgweir..., PGWEIR_PORT and
 * more. */
static bool is_kubernetes(const struct variable *v)
{
    if (starts(v->value, "tcp://") || starts(v->value, "udp://"))
        return true;
    const char *s = strstr(v->name, "_SERVICE_HOST");
    if (s && !s[strlen("_SERVICE_HOST")])
        return true;
    if (strstr(v->name, "_SERVICE_PORT"))
        return true;
    s = strstr(v->name, "_PORT_");
    return s && isdigit((unsigned char)s[strlen("_PORT_")]) &&
           (strstr(s, "_TCP") || strstr(s, "_UDP"));
}

static void unknown(struct loader *l, const struct variable *v)
{
    static const char *const others[] = {"databases_name", "users_name"};
    struct nearest near = {.word = v->rest};
    option_suggest(&near);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        nearest_offer(&near, others[i]);
    char name[64];
    struct why hint = {""};
    if (near.best)
        why_not(&hint, " (did you mean %s%s?)", prefix, upper(near.best, name, sizeof name));
    loader_say(l, CONF_ERROR, &v->at, "", "unknown variable%s", hint.text);
}

/* A name without a small letter is shouted only because variables are. */
static const char *unshouted(struct loader *l, const char *suffix)
{
    for (const char *p = suffix; *p; p++)
        if (islower((unsigned char)*p))
            return suffix;
    return lower(l, suffix);
}

/* The database's name as the file would write it. */
static const char *database_name(struct loader *l, const char *suffix)
{
    const struct database_draft *d = loader_find_database(l, suffix, true);
    return d ? d->db.name : unshouted(l, suffix);
}

static bool is_known_key(const char *key)
{
    return option_find(key) < OPTION_N || foreign_find(key) < FOREIGN_N;
}

/* PGWEIR_<KEY> or PGWEIR_<KEY>_FILE. */
static void read_option(struct loader *l, const struct variable *v)
{
    const char *rest = starts(v->rest, "PGWEIR_") ? v->rest + strlen("PGWEIR_") : v->rest;
    const char *key = lower(l, rest);
    if (is_known_key(key)) {
        loader_set(l, key, v->value, &v->at);
        return;
    }
    if (!ends(key, "_file")) {
        unknown(l, v);
        return;
    }
    key = cut(l, key, strlen("_file"));
    enum option_id id = option_find(key);
    if (id == OPTION_N)
        unknown(l, v);
    else if (options[id].field.kind != KIND_SECRET)
        loader_say(l, CONF_ERROR, &v->at, "", "only secrets are read from a file");
    else if (value_of(l, cut(l, v->name, strlen("_FILE"))))
        loader_say(l, CONF_ERROR, &v->at, "", "is set beside the variable without _FILE");
    else {
        const char *secret = read_secret(l, v);
        if (secret)
            loader_set(l, key, secret, &v->at);
    }
}

static bool is_password(const char *rest)
{
    if (!starts(rest, "DATABASES_"))
        return false;
    const char *suffix = rest + strlen("DATABASES_"); /* a database may be named password itself */
    return ends(suffix, "_PASSWORD") || ends(suffix, "_PASSWORD_FILE");
}

static void read_entry(struct loader *l, const struct variable *v)
{
    const char *suffix = strchr(v->rest, '_') + 1;
    if (!*suffix) {
        unknown(l, v);
        return;
    }
    if (starts(v->rest, "USERS_")) {
        loader_user(l, unshouted(l, suffix), v->value, &v->at);
        return;
    }
    const char *value = v->value;
    if (ends(suffix, "_FILE")) {
        suffix = cut(l, suffix, strlen("_FILE"));
        value = read_secret(l, v);
    }
    if (value)
        loader_database(l, database_name(l, suffix), value, &v->at);
}

static void read_password(struct loader *l, const struct variable *v)
{
    bool from_file = ends(v->rest, "_FILE");
    size_t tail = strlen("_PASSWORD") + (from_file ? strlen("_FILE") : 0);
    const char *suffix = cut(l, v->rest + strlen("DATABASES_"), tail);
    struct database_draft *d = loader_find_database(l, suffix, true);
    const char *password = from_file ? read_secret(l, v) : v->value;
    if (!d)
        loader_say(l, CONF_ERROR, &v->at, "", "there is no database %.63s",
                   database_name(l, suffix));
    else if (password && (!*password || strlen(password) > CONF_SECRET_MAX))
        loader_say(l, CONF_ERROR, &v->at, "", "a password has 1 to %d bytes", CONF_SECRET_MAX);
    else if (password)
        d->db.password = arena_text(l->arena, password, strlen(password));
}

/* One PGWEIR_ variable, in the pass that it belongs to: passwords come after the entries they are
 * for. */
static void read_variable(struct loader *l, const struct variable *v, bool passwords)
{
    bool entry = starts(v->rest, "DATABASES_") || starts(v->rest, "USERS_");
    if (is_password(v->rest) != passwords || is_kubernetes(v))
        return;
    if (passwords)
        read_password(l, v);
    else if (entry)
        read_entry(l, v);
    else
        read_option(l, v);
}

static void read_pass(struct loader *l, bool passwords)
{
    for (char *const *e = l->src->env; *e; e++) {
        const char *equals = strchr(*e, '=');
        if (!equals || !starts(*e, prefix))
            continue;
        const char *name = arena_text(l->arena, *e, (size_t)(equals - *e));
        const struct variable v = {
            name, name + strlen(prefix), equals + 1, {"environment", 0, name}};
        read_variable(l, &v, passwords);
    }
}

/* NAME, or the content of the file that NAME_FILE names; empty counts as unset. NULL: neither. */
static const char *value_or_file(struct loader *l, const char *name, const char *file_name)
{
    const char *value = value_of(l, name), *path = value_of(l, file_name);
    if (value && *value && path && *path) {
        const struct origin at = {"environment", 0, file_name};
        loader_say(l, CONF_ERROR, &at, "", "is set beside %s", name);
        return value;
    }
    if (path && *path) {
        const struct variable v = {file_name, file_name, path, {"environment", 0, file_name}};
        return read_secret(l, &v);
    }
    return value && *value ? value : NULL;
}

void loader_read_env(struct loader *l)
{
    if (!l->src->env)
        return;
    const char *database_url = value_or_file(l, "DATABASE_URL", "DATABASE_URL_FILE");
    const char *replica_urls = value_or_file(l, "REPLICA_URLS", "REPLICA_URLS_FILE");
    loader_urls(l, database_url, replica_urls);
    read_pass(l, false);
    read_pass(l, true);
}
