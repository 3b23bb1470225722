/* tests/fuzz/fuzz_guard.c: what a hostile replica's ErrorResponse makes us do. Input: a byte, then the body.
 *
 * What must hold: only an error that can be read as one with a known SQLSTATE makes a read run again; the
 * client's own errors and its cancels never do; a READ ONLY transaction keeps its 25006; what has no table
 * row by its code has none by its words either.
 */
#include "base/check.h"
#include "proxy/wire/error_fields.h"
#include "router/guard.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct guard_error error_of(const struct error_fields *f, bool read_only)
{
    return (struct guard_error){.sqlstate = f->sqlstate,
                                .message = f->message,
                                .detail = f->detail,
                                .file = f->file,
                                .read_only = read_only};
}

static bool is_one_of(struct slice code, const char *const *codes)
{
    for (; *codes; codes++)
        if (code.n == 5 && memcmp(code.p, *codes, strlen(*codes)) == 0)
            return true;
    return false;
}

/* Classes of which no code is ever run again: a client's own doing, cancels, broken data. */
static const char *const never[] = {"57014", "22", "23", "25P", "2BP", "26", "28",
                                    "34",    "3B", "3D", "44",  "XX",  "54", "58",
                                    "F0",    "P0", "HV", "0B",  "0L",  "0P", NULL};
static const char *const primary_only[] = {"25006", "0A000", "55000", "42P01", "42703",
                                           "42883", "42704", "3F000", "42501", NULL};
static const char *const elsewhere[] = {"40001", "40P01", "57P0", "53300", "08", NULL};

static void check_error(const struct error_fields *f, bool read_only)
{
    const struct guard_error e = error_of(f, read_only);
    const enum guard_action action = guard_judge(&e);
    CHECK(action < GUARD_ACTION_N);
    if (action != GUARD_PASS) {
        CHECK(f->sqlstate.n == 5); /* proxy/session/guard.c copies it */
        CHECK(!is_one_of(f->sqlstate, never));
        CHECK(is_one_of(f->sqlstate, action == GUARD_ELSEWHERE ? elsewhere : primary_only));
    }
    if (action == GUARD_LEARN)
        CHECK(!(read_only && slice_is(f->sqlstate, "25006")));
    CHECK(guard_role_changed(&e) == (!read_only && slice_is(f->sqlstate, "25006")));
    /* Words decide only between codes that need them: without them it passes, or is the same. */
    const struct guard_error mute = {.sqlstate = f->sqlstate, .read_only = read_only};
    const enum guard_action bare = guard_judge(&mute);
    CHECK(bare == GUARD_PASS || bare == action);
}

static void check_inside(struct slice part, struct slice body)
{
    CHECK(part.p == NULL || (part.p >= body.p && part.p + part.n <= body.p + body.n));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    uint8_t *block = malloc(size);
    CHECK(block != NULL);
    memcpy(block, data + 1, size - 1);
    const struct slice body = {block, size - 1};
    struct error_fields f;
    (void)error_fields_read(body, &f);
    const struct slice all[] = {f.severity, f.sqlstate, f.message, f.detail,
                                f.hint,     f.file,     f.routine};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        check_inside(all[i], body);
    check_error(&f, data[0] & 1);
    check_error(&f, !(data[0] & 1));
    free(block);
    return 0;
}
