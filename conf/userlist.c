/* conf/userlist.c: PgBouncer's auth_file.
 *
 *   "user" "secret"    a quote is doubled inside; the rest of the line is ignored
 *   ; comment
 */
#include "conf/loader.h"

/* A quoted text at *p into the arena; moves *p behind it. NULL: none, or without an end. */
static const char *take_quoted(struct loader *l, const char **p, const char *end, size_t *n)
{
    const char *q = *p;
    while (q < end && (*q == ' ' || *q == '\t'))
        q++;
    if (q == end || *q != '"')
        return NULL;
    char *text = arena_alloc(l->arena, (size_t)(end - q));
    *n = 0;
    for (q++; q < end; q++) {
        if (*q == '"' && (q + 1 == end || q[1] != '"')) {
            *p = q + 1;
            return text;
        }
        q += *q == '"';
        text[(*n)++] = *q;
    }
    return NULL;
}

static void read_entry(struct loader *l, const char *p, const char *end, const struct origin *at)
{
    size_t user_n = 0, secret_n = 0;
    const char *user = take_quoted(l, &p, end, &user_n);
    const char *secret = user ? take_quoted(l, &p, end, &secret_n) : NULL;
    if (!secret)
        loader_say(l, CONF_ERROR, at, "", "expected \"user\" \"secret\"");
    else if (user_n == 0 || user_n > CONF_USER_MAX)
        loader_say(l, CONF_ERROR, at, "", "a user name has 1 to %d bytes, this one %zu",
                   CONF_USER_MAX, user_n);
    else if (secret_n > CONF_SECRET_MAX)
        loader_say(l, CONF_ERROR, at, "", "a secret has at most %d bytes, this one %zu",
                   CONF_SECRET_MAX, secret_n);
    else if (strlen(user) != user_n || strlen(secret) != secret_n)
        loader_say(l, CONF_ERROR, at, "", "line contains a zero byte");
    else
        loader_secret(l, user, secret, at);
}

void loader_secret(struct loader *l, const char *name, const char *secret, const struct origin *at)
{
    l->secrets = arena_grow(l->arena, l->secrets, l->secret_n, &l->secret_cap, sizeof *l->secrets);
    l->secrets[l->secret_n++] = (struct secret_draft){{name, secret}, *at};
}

void loader_userlist(struct loader *l, const char *path, const char *bytes, size_t n)
{
    struct origin at = {path, 0, NULL};
    const char *end = bytes + n;
    for (const char *p = bytes, *stop; p < end; p = stop + 1) {
        stop = memchr(p, '\n', (size_t)(end - p));
        if (!stop)
            stop = end;
        at.line++;
        while (p < stop && (*p == ' ' || *p == '\t' || *p == '\r'))
            p++;
        if (p < stop && *p != ';')
            read_entry(l, p, stop, &at);
        if (stop == end)
            break;
    }
}
