/* router/cursor_inline.h: cursor_next() where it must be fast: in the loop of body.c.
 *
 * Pure      private to router/.
 */
#ifndef ROUTER_CURSOR_INLINE_H
#define ROUTER_CURSOR_INLINE_H

#include "router/cursor.h"
#include "router/names_inline.h"
#include "router/scan_inline.h"

/* All of these must melt into the loops that call them. */
#define FAST static inline __attribute__((always_inline))

#define CURSOR_MIX UINT64_C(0x9E3779B97F4A7C15)
#define CURSOR_LITERAL 0x4C49544552414C00u /* stands for every string, number and parameter */

FAST void fingerprint_mix(struct fingerprint *f, uint64_t value)
{
    const uint64_t h = (f->value ^ value) * CURSOR_MIX;
    f->value = h ^ h >> 29;
}

/* IN (1, 2, 3) is IN (1). */
FAST void fingerprint_literal(struct fingerprint *f)
{
    if (f->list_comma) {
        f->value = f->before_list;
    } else {
        fingerprint_mix(f, CURSOR_LITERAL);
        f->before_list = f->value;
    }
    f->list_comma = false;
}

FAST void fingerprint_comma(struct fingerprint *f)
{
    f->list_comma = f->before_list != 0;
    fingerprint_mix(f, ',');
}

FAST void fingerprint_other(struct fingerprint *f, uint64_t value)
{
    f->list_comma = false;
    f->before_list = 0;
    fingerprint_mix(f, value);
}

/* What an operator counts as, and whatever has no word. */
FAST uint64_t fingerprint_of_bytes(struct slice text)
{
    uint64_t h = text.n * CURSOR_MIX;
    for (size_t i = 0; i < text.n; i++)
        h = (h ^ text.p[i]) * CURSOR_MIX;
    return h ^ h >> 32;
}

/* A quoted name is another one than the same name without quotes. */
FAST uint64_t fingerprint_of_quoted(uint64_t hash)
{
    return hash ^ CURSOR_MIX;
}

/* The tokens that are none of the below. */
void cursor_take_rest(struct cursor *c, enum scan_kind kind);

static inline enum scan_kind cursor_step(struct cursor *c)
{
    struct slice text;
    const enum scan_kind kind = scan_step(&c->scan, &text);
    c->text = text;
    switch (kind) {
    case SCAN_WORD:
        name_look_up(text, c->scan.end, &c->word);
        c->sign = CURSOR_SIGN_OF(c->word.keyword, 0, SCAN_WORD);
        fingerprint_other(&c->fingerprint, c->word.hash);
        return SCAN_WORD;
    case SCAN_PUNCT:
        c->sign = CURSOR_SIGN_OF(KW_NONE, *text.p, SCAN_PUNCT);
        if (*text.p == ',')
            fingerprint_comma(&c->fingerprint);
        else
            fingerprint_other(&c->fingerprint, *text.p);
        return SCAN_PUNCT;
    case SCAN_STRING:
    case SCAN_NUMBER:
    case SCAN_PARAM:
        c->sign = CURSOR_SIGN_OF(KW_NONE, 0, kind);
        fingerprint_literal(&c->fingerprint);
        return kind;
    case SCAN_QUOTED:
    case SCAN_UQUOTED:
    case SCAN_OPERATOR:
    case SCAN_END:
    case SCAN_BAD:
        cursor_take_rest(c, kind);
        return kind;
    }
    __builtin_unreachable();
}

#endif
