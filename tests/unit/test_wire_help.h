/* tests/unit/test_wire_help.h: what the tests of proxy/wire share. */
#ifndef TEST_WIRE_HELP_H
#define TEST_WIRE_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/slice.h"

/* A string literal with its inner NULs, without the last one. */
#define BYTES(text) ((struct slice){(const uint8_t *)(text), sizeof(text) - 1})
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A copy that ends where its memory ends, so that ASan sees one byte too far. free(p). */
static inline uint8_t *exact_copy(struct slice bytes)
{
    uint8_t *p = malloc(bytes.n ? bytes.n : 1);
    assert_non_null(p);
    if (bytes.n > 0)
        memcpy(p, bytes.p, bytes.n);
    return p;
}

static inline void assert_slice(struct slice got, struct slice want)
{
    assert_int_equal(got.n, want.n);
    if (want.n > 0)
        assert_memory_equal(got.p, want.p, want.n);
}

static inline void assert_text(struct slice got, const char *want)
{
    assert_slice(got, slice_of(want));
}

#endif
