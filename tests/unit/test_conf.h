/* tests/unit/test_conf.h: load a configuration out of memory and look at its messages. */
#ifndef TESTS_UNIT_TEST_CONF_H
#define TESTS_UNIT_TEST_CONF_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "conf/conf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The files that a load finds; {0} ends the list. n 0: up to the NUL. */
struct fake_file {
    const char *path, *bytes;
    size_t n;
};
static const struct fake_file *fake_files;

static inline char *fake_read(const char *path, size_t *n)
{
    const struct fake_file *f = fake_files;
    while (f && f->path && strcmp(f->path, path) != 0)
        f++;
    if (!f || !f->path) {
        errno = ENOENT;
        return NULL;
    }
    *n = f->n ? f->n : strlen(f->bytes);
    char *copy = malloc(*n + 1);
    memcpy(copy, f->bytes, *n);
    copy[*n] = 0;
    return copy;
}

static struct conf_errors errs;

/* Load text as the file t.ini, with these variables (NULL: none). */
static inline struct conf *load_with(const char *text, const char *const *env)
{
    conf_errors_free(&errs);
    char *copies[20] = {0};
    for (size_t i = 0; env && env[i]; i++) {
        assert_true(i + 1 < sizeof copies / sizeof *copies);
        copies[i] = strdup(env[i]);
    }
    const struct conf_sources src = {.path = text ? "t.ini" : NULL,
                                     .env = env ? copies : NULL,
                                     .text = text,
                                     .text_n = text ? strlen(text) : 0,
                                     .read_file = fake_read};
    struct conf *c = conf_load(&src, &errs);
    for (size_t i = 0; copies[i]; i++)
        free(copies[i]);
    assert_true((c == NULL) == (errs.error_n > 0));
    return c;
}

static inline bool has_message(enum conf_severity severity, const char *text)
{
    for (size_t i = 0; i < errs.n; i++)
        if (errs.list[i].severity == severity && strcmp(errs.list[i].text, text) == 0)
            return true;
    return false;
}

/* One more look than an assert gives: what was said instead. */
static inline void expect_message(enum conf_severity severity, const char *text)
{
    if (has_message(severity, text))
        return;
    print_message("expected: %s\n", text);
    conf_errors_print(&errs, stderr);
    fail();
}

static inline void expect_clean(const struct conf *c)
{
    if (errs.n)
        conf_errors_print(&errs, stderr);
    assert_int_equal(errs.n, 0);
    assert_non_null(c);
}

#define RUN(...)                                                \
    int main(void)                                              \
    {                                                           \
        const struct CMUnitTest tests[] = {__VA_ARGS__};        \
        int failed = cmocka_run_group_tests(tests, NULL, NULL); \
        conf_errors_free(&errs);                                \
        return failed;                                          \
    }

#endif
