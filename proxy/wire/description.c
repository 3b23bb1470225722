#include "proxy/wire/description.h"

#include "proxy/wire/take.h"

#define START 0xCBF29CE484222325ULL /* FNV-1a */
#define COLUMN_BYTES 18 /* behind its name: table, number, type, size, modifier, format */

static uint64_t add(uint64_t h, struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ s.p[i]) * 0x100000001B3ULL;
    return h;
}

/* Odd: neither 0 nor UNREAD. */
static uint64_t end(uint64_t h)
{
    return (h ^ h >> 32) | 1;
}

uint64_t description_rows(uint8_t type, struct slice body)
{
    struct slice name, column;
    uint64_t h = add(START, (struct slice){&type, 1});
    if (type == 'n')
        return end(h);
    if (body.n < 2)
        return DESCRIPTION_UNREAD;
    uint32_t columns = slice_u16(body.p);
    body = slice_skip(body, 2);
    for (; columns > 0; columns--) {
        if (!take_cstr(&body, &name) || !take_bytes(&body, COLUMN_BYTES, &column))
            return DESCRIPTION_UNREAD;
        h = add(h, (struct slice){name.p, name.n + 1}); /* its NUL too */
        h = add(h, (struct slice){column.p + 6, 4});    /* type */
        h = add(h, (struct slice){column.p + 12, 4});   /* modifier */
    }
    return end(h);
}

uint64_t description_types(struct slice body)
{
    return body.n < 2 ? DESCRIPTION_UNREAD : end(add(START, body));
}
