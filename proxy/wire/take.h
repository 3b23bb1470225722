/* proxy/wire/take.h: read the pieces of a message body off a slice, front to back.
 *
 * Pure    no I/O, no allocation, no clock, no globals.
 * Owns    nothing: results point into the slice.
 * Errors  false: the slice is too short, or a string has no NUL. Nothing is taken then.
 * Limits  a length is only ever compared with what is left; nothing is added to it.
 */
#ifndef WIRE_TAKE_H
#define WIRE_TAKE_H

#include "base/slice.h"

static inline bool take_bytes(struct slice *rest, size_t n, struct slice *out)
{
    if (n > rest->n)
        return false;
    *out = (struct slice){rest->p, n};
    if (n > 0) /* rest->p may be NULL when nothing is left */
        *rest = slice_skip(*rest, n);
    return true;
}

static inline bool take_u8(struct slice *rest, uint8_t *out)
{
    struct slice bytes;
    if (!take_bytes(rest, 1, &bytes))
        return false;
    *out = bytes.p[0];
    return true;
}

static inline bool take_u32(struct slice *rest, uint32_t *out)
{
    struct slice bytes;
    if (!take_bytes(rest, 4, &bytes))
        return false;
    *out = slice_u32(bytes.p);
    return true;
}

/* A string without its NUL, which is taken too. */
static inline bool take_cstr(struct slice *rest, struct slice *out)
{
    const uint8_t *end = rest->n > 0 ? memchr(rest->p, 0, rest->n) : NULL;
    if (end == NULL)
        return false;
    *out = (struct slice){rest->p, (size_t)(end - rest->p)};
    *rest = slice_skip(*rest, out->n + 1);
    return true;
}

#endif
