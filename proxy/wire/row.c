#include "proxy/wire/row.h"

#include "proxy/wire/take.h"

static bool take_value(struct slice *rest, struct slice *value)
{
    uint32_t n;
    *value = SLICE_NONE;
    if (!take_u32(rest, &n))
        return false;
    if (n == UINT32_MAX)
        return true;
    return take_bytes(rest, n, value) && (n == 0 || memchr(value->p, 0, n) == NULL);
}

bool row_read(struct slice body, struct slice *values, unsigned n)
{
    if (body.n < 2 || slice_u16(body.p) != n)
        return false;
    body = slice_skip(body, 2);
    for (unsigned i = 0; i < n; i++)
        if (!take_value(&body, &values[i]))
            return false;
    return body.n == 0;
}
