/* tests/fuzz/fuzz_userlist.c: any bytes as auth_file. What is accepted must be found again. */
#include "base/check.h"
#include "conf/conf.h"

#include <errno.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct slice input;

static char *read_input(const char *path, size_t *n)
{
    (void)path;
    char *copy = malloc(input.n + 1);
    CHECK(copy);
    if (input.n)
        memcpy(copy, input.p, input.n);
    copy[input.n] = 0;
    *n = input.n;
    return copy;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "[databases]\na=\n[pgweir]\nauth_file=users\n";
    input = (struct slice){data, size};
    struct conf_errors errs = {0};
    const struct conf_sources src = {
        .path = "t", .text = text, .text_n = sizeof text - 1, .read_file = read_input};
    struct conf *c = conf_load(&src, &errs);
    CHECK((c == NULL) == (errs.error_n > 0));
    for (size_t i = 0; c && i < c->secret_n; i++) {
        const struct conf_secret *s = &c->secrets[i];
        CHECK(*s->name && strlen(s->name) <= CONF_USER_MAX);
        CHECK(strlen(s->secret) <= CONF_SECRET_MAX);
        CHECK(conf_secret(c, slice_of(s->name)) == s->secret);
        CHECK(i == 0 || strcmp(c->secrets[i - 1].name, s->name) < 0);
    }
    conf_free(c);
    conf_errors_free(&errs);
    return 0;
}
