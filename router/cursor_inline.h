/* router/cursor_inline.h: cursor_next() where it must be fast: in the loop of body.c.
 *
 * Pure      private to router/.
 */
#ifndef ROUTER_CURSOR_INLINE_H
#define ROUTER_CURSOR_INLINE_H

#include "router/cursor.h"
#include "router/names_inline.h"
#include "router/scan_inline.h"

#define CURSOR_MIX UINT64_C(0x9E3779B97F4A7C15)
#define CURSOR_LITERAL 0x4C49544552414C00u /* stands for every string, number and parameter */

static inline void cursor_mix(struct cursor *c, uint64_t value)
{
    const uint64_t h = (c->fingerprint ^ value) * CURSOR_MIX;
    c->fingerprint = h ^ h >> 29;
}

/* A list of literals counts as its first one: IN (1, 2, 3) is IN (1). */
static inline void cursor_mix_literal(struct cursor *c)
{
    if (c->list_comma) {
        c->fingerprint = c->before_list;
    } else {
        cursor_mix(c, CURSOR_LITERAL);
        c->before_list = c->fingerprint;
    }
    c->list_comma = false;
}

static inline void cursor_mix_comma(struct cursor *c)
{
    c->list_comma = c->before_list != 0;
    cursor_mix(c, ',');
}

static inline void cursor_mix_other(struct cursor *c, uint64_t value)
{
    c->list_comma = false;
    c->before_list = 0;
    cursor_mix(c, value);
}

/* The tokens that are none of the below. */
void cursor_take_rest(struct cursor *c, enum scan_kind kind);

static inline void cursor_step(struct cursor *c)
{
    struct slice text;
    const enum scan_kind kind = scan_step(&c->scan, &text);
    c->text = text;
    switch (kind) {
    case SCAN_WORD:
        name_look_up(text, c->scan.end, &c->word);
        c->sign = CURSOR_SIGN_OF(c->word.keyword, 0, SCAN_WORD);
        cursor_mix_other(c, c->word.hash);
        return;
    case SCAN_PUNCT:
        c->sign = CURSOR_SIGN_OF(KW_NONE, *text.p, SCAN_PUNCT);
        if (*text.p == ',')
            cursor_mix_comma(c);
        else
            cursor_mix_other(c, *text.p);
        return;
    case SCAN_STRING:
    case SCAN_NUMBER:
    case SCAN_PARAM:
        c->sign = CURSOR_SIGN_OF(KW_NONE, 0, kind);
        cursor_mix_literal(c);
        return;
    case SCAN_QUOTED:
    case SCAN_UQUOTED:
    case SCAN_OPERATOR:
    case SCAN_END:
    case SCAN_BAD:
        cursor_take_rest(c, kind);
        return;
    }
}

#endif
