/* router/cursor.c: tokens with their names looked up. */
#include "router/cursor_inline.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "CURSOR_SIGN_OF assumes it");

void cursor_init(struct cursor *c, struct slice sql, bool standard_conforming_strings)
{
    memset(c, 0, sizeof *c);
    scan_init(&c->scan, sql, standard_conforming_strings);
    cursor_step(c);
}

void cursor_next(struct cursor *c)
{
    cursor_step(c);
}

static uint64_t hash_bytes(struct slice text)
{
    uint64_t h = text.n * CURSOR_MIX;
    for (size_t i = 0; i < text.n; i++)
        h = (h ^ text.p[i]) * CURSOR_MIX;
    return h ^ h >> 32;
}

static void take_quoted(struct cursor *c)
{
    word_of_quoted(c->text, c->scan.end, &c->word);
    cursor_mix_other(c, c->word.plain ? c->word.hash ^ CURSOR_MIX : hash_bytes(c->text));
}

void cursor_take_rest(struct cursor *c, enum scan_kind kind)
{
    const uint8_t mark = kind == SCAN_OPERATOR && c->text.n == 1 ? *c->text.p : 0;
    c->sign = CURSOR_SIGN_OF(KW_NONE, mark, kind);
    if (kind == SCAN_QUOTED)
        take_quoted(c);
    else if (kind != SCAN_END && kind != SCAN_BAD)
        cursor_mix_other(c, hash_bytes(c->text));
}
