/* base/utf8.c: the table of well-formed byte sequences of the Unicode standard (3.9, table 3-7). */
#include "base/utf8.h"

size_t utf8_bytes(struct slice text)
{
    if (text.n == 0)
        return 0;
    uint8_t c = text.p[0], low = 0x80, high = 0xBF;
    size_t bytes = c < 0x80 ? 1 : c < 0xC2 ? 0 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : c < 0xF5 ? 4 : 0;
    if (c == 0xE0)
        low = 0xA0;
    if (c == 0xED)
        high = 0x9F;
    if (c == 0xF0)
        low = 0x90;
    if (c == 0xF4)
        high = 0x8F;
    if (bytes > text.n)
        return 0;
    for (size_t i = 1; i < bytes; i++) {
        if (text.p[i] < low || text.p[i] > high)
            return 0;
        low = 0x80;
        high = 0xBF;
    }
    return bytes;
}

bool utf8_is_control(struct slice c)
{
    return c.p[0] < ' ' || c.p[0] == 0x7F || (c.n == 2 && c.p[0] == 0xC2 && c.p[1] < 0xA0);
}
