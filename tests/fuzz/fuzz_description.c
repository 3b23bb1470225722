/* tests/fuzz/fuzz_description.c: what a server says of rows, and rows (wire/description.h, wire/row.h). Input: a body.
 *
 * What must hold: a number is never 0, and DESCRIPTION_UNREAD for what is cut; what no client reads rows by changes
 * nothing, all else does; a row is read whole or refused, its values lie inside it, and written again it is the same.
 */
#include "base/check.h"
#include "proxy/wire/description.h"
#include "proxy/wire/frame.h"
#include "proxy/wire/put.h"
#include "proxy/wire/row.h"
#include "proxy/wire/take.h"

#include <stdlib.h>

#define BODY_MAX 4096
#define VALUES_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t changed[BODY_MAX], written[BODY_MAX + 64];

/* Where in the body each column's 18 bytes are; the end of the last one, or 0. */
static size_t columns_of(struct slice body, size_t at[], unsigned *n)
{
    struct slice rest = slice_skip(body, 2), name, column;
    const unsigned columns = slice_u16(body.p);
    for (*n = 0; *n < columns; ++*n) {
        if (!take_cstr(&rest, &name) || !take_bytes(&rest, 18, &column) || *n == VALUES_MAX)
            return 0;
        at[*n] = (size_t)(column.p - body.p);
    }
    return body.n - rest.n;
}

static uint64_t rows_with(struct slice body, size_t at, uint8_t bits)
{
    memcpy(changed, body.p, body.n);
    changed[at] ^= bits;
    return description_rows('T', (struct slice){changed, body.n});
}

static void check_rows(struct slice body)
{
    size_t at[VALUES_MAX];
    unsigned n;
    const uint64_t rows = description_rows('T', body), none = description_rows('n', body);
    CHECK(rows == DESCRIPTION_UNREAD || (rows & 1));
    CHECK((none & 1) && none == description_rows('n', SLICE_NONE));
    const size_t end = body.n < 2 ? 0 : columns_of(body, at, &n);
    if (end == 0)
        return;
    CHECK(rows != DESCRIPTION_UNREAD && rows != none);
    for (size_t cut = 0; cut < end; cut++)
        CHECK(description_rows('T', (struct slice){body.p, cut}) == DESCRIPTION_UNREAD);
    for (unsigned i = 0; i < n; i++)
        for (size_t b = 0; b < 18; b++) {
            const bool counts = (b >= 6 && b < 10) || (b >= 12 && b < 16);
            CHECK((rows_with(body, at[i] + b, 0x40) != rows) == counts);
        }
}

static void check_types(struct slice body)
{
    const uint64_t types = description_types(body);
    CHECK(body.n < 2 ? types == DESCRIPTION_UNREAD : (types & 1) != 0);
    memcpy(changed, body.p, body.n);
    if (body.n > 2) {
        changed[body.n - 1] ^= 1;
        CHECK(description_types((struct slice){changed, body.n}) != types);
    }
}

static void check_row(struct slice body)
{
    struct slice values[VALUES_MAX];
    const unsigned n = body.n < 2 ? 0 : slice_u16(body.p);
    if (n > VALUES_MAX || !row_read(body, values, n))
        return;
    struct put o = put_into(written, sizeof written);
    for (unsigned i = 0; i < n; i++)
        CHECK(!values[i].p ||
              (values[i].p >= body.p && values[i].p + values[i].n <= body.p + body.n &&
               (values[i].n == 0 || !memchr(values[i].p, 0, values[i].n))));
    put_data_row(&o, values, (uint16_t)n);
    CHECK(!o.full && slice_equals(slice_skip(put_slice(&o), FRAME_HEAD_BYTES), body));
    CHECK(!row_read(body, values, n + 1) || n + 1 > VALUES_MAX);
    for (size_t cut = 0; cut < body.n; cut++)
        CHECK(!row_read((struct slice){body.p, cut}, values, n));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > BODY_MAX)
        return 0;
    uint8_t *block = malloc(size ? size : 1);
    CHECK(block != NULL);
    if (size)
        memcpy(block, data, size);
    const struct slice body = {block, size};
    check_rows(body);
    check_types(body);
    check_row(body);
    free(block);
    return 0;
}
