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

void cursor_take_rest(struct cursor *c, enum scan_kind kind)
{
    const uint8_t mark = kind == SCAN_OPERATOR && c->text.n == 1 ? *c->text.p : 0;
    c->sign = CURSOR_SIGN_OF(KW_NONE, mark, kind);
    if (kind == SCAN_QUOTED) {
        word_of_quoted(c->text, c->scan.end, &c->word);
        fingerprint_other(&c->fingerprint, c->word.plain ? fingerprint_of_quoted(c->word.hash)
                                                         : fingerprint_of_bytes(c->text));
    } else if (kind != SCAN_END && kind != SCAN_BAD) {
        fingerprint_other(&c->fingerprint, fingerprint_of_bytes(c->text));
    }
}
