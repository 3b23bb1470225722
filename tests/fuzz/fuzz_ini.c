/* tests/fuzz/fuzz_ini.c: any bytes as ini file, as included files and as environment.
 *
 * The input's parts are cut at the byte 0x1e: main file, file "a", file "b" (secrets, includes),
 * then one variable each. What must hold: an answer always comes; NULL goes with an error and only
 * with one; messages are printable and bounded; a snapshot keeps its own promises.
 */
#include "base/check.h"
#include "conf/conf.h"

#include <errno.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PARTS_MAX = 12, ENV_FIRST = 3 };
static struct slice parts[PARTS_MAX];
static size_t part_n;

static void cut(struct slice rest)
{
    for (part_n = 0; part_n < PARTS_MAX; part_n++) {
        const uint8_t *stop = rest.n ? memchr(rest.p, 0x1e, rest.n) : NULL;
        size_t n = stop ? (size_t)(stop - rest.p) : rest.n;
        parts[part_n] = (struct slice){rest.p, n};
        rest = stop ? slice_skip(rest, n + 1) : SLICE_NONE;
    }
}

static char *copy_part(size_t i)
{
    char *copy = malloc(parts[i].n + 1);
    CHECK(copy);
    if (parts[i].n)
        memcpy(copy, parts[i].p, parts[i].n);
    copy[parts[i].n] = 0;
    return copy;
}

/* Every name is one of the input's own parts: no disk is touched. */
static char *read_part(const char *path, size_t *n)
{
    size_t i = strcmp(path, "main") == 0 ? 0 : strcmp(path, "a") == 0 ? 1 : 2;
    if (i == 2 && strcmp(path, "b") != 0) {
        errno = ENOENT;
        return NULL;
    }
    *n = parts[i].n;
    return copy_part(i);
}

static void check_snapshot(const struct conf *c)
{
    CHECK(c->database_n > 0);
    for (size_t i = 0; i < c->database_n; i++) {
        const struct conf_database *d = &c->databases[i];
        CHECK(d->host_n > 0 && d->host_n <= CONF_HOSTS_MAX);
        CHECK(strlen(d->name) <= CONF_NAME_MAX && strlen(d->user) <= CONF_USER_MAX);
        CHECK(conf_database(c, slice_of(d->name)) == d);
        for (size_t h = 0; h < d->host_n; h++)
            CHECK(d->hosts[h].port > 0 && *d->hosts[h].host);
        CHECK(conf_pool_size(c, d, NULL) <= 100000);
    }
    for (size_t i = 0; i < c->user_n; i++)
        CHECK(conf_user(c, slice_of(c->users[i].name)) == &c->users[i]);
    for (size_t i = 0; i < c->secret_n; i++)
        CHECK(conf_secret(c, slice_of(c->secrets[i].name)) == c->secrets[i].secret);
    for (size_t i = 0; i < conf_show_count(); i++) {
        struct conf_shown s;
        conf_show(c, i, &s);
        CHECK(s.value && s.default_value);
    }
    CHECK(conf_restart_changes(c, c, NULL, 0) == 0);
    (void)conf_list_has(c->admin_users, slice_of("a"));
}

static void check_messages(const struct conf_errors *errs)
{
    CHECK(errs->n <= CONF_ERRORS_MAX);
    for (size_t i = 0; i < errs->n; i++) {
        CHECK(strlen(errs->list[i].text) < 1024);
        for (const char *p = errs->list[i].text; *p; p++)
            CHECK((unsigned char)*p >= 0x20 && *p != 0x7f);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cut((struct slice){data, size});
    char *env[PARTS_MAX - ENV_FIRST + 1] = {0};
    for (size_t i = ENV_FIRST; i < PARTS_MAX; i++)
        env[i - ENV_FIRST] = copy_part(i);
    char *text = copy_part(0);
    struct conf_errors errs = {0};
    const struct conf_sources src = {
        .path = "main", .env = env, .text = text, .text_n = parts[0].n, .read_file = read_part};
    struct conf *c = conf_load(&src, &errs);
    CHECK((c == NULL) == (errs.error_n > 0));
    check_messages(&errs);
    if (c)
        check_snapshot(c);
    conf_free(c);
    conf_errors_free(&errs);
    for (size_t i = 0; i < PARTS_MAX - ENV_FIRST; i++)
        free(env[i]);
    free(text);
    return 0;
}
