/* router/scan_inline.h: scan_next() where it must be fast; everybody else calls the function of scan.h.
 *
 * Pure      private to router/. The tokens that most of a statement is made of are cut here, all others
 *           and comments in scan_rest().
 */
#ifndef ROUTER_SCAN_INLINE_H
#define ROUTER_SCAN_INLINE_H

#include "router/scan.h"

enum {
    SCAN_C_SPACE = 1,       /* white space */
    SCAN_C_IDENT_START = 2, /* letters, _ and every byte of a multi-byte character */
    SCAN_C_IDENT = 4,       /* the same, digits and $ */
    SCAN_C_DIGIT = 8,
    SCAN_C_OPERATOR = 16,
    SCAN_C_ALONE = 32, /* a token whatever follows */
    SCAN_C_PUNCT = 64, /* the same, . and : */
    SCAN_C_NEWLINE = 128,
    SCAN_C_GAP = 512,  /* white space, and what comments begin with */
    SCAN_C_LOWER = 256 /* what a quoted name may hold that is in the lists of names: a-z 0-9 _ */
};

extern const uint16_t scan_classes[256];

static inline bool scan_is(uint8_t c, unsigned class)
{
    return (scan_classes[c] & class) != 0;
}

/* Any token; s->at need not be behind the white space. */
enum scan_kind scan_rest(struct scan *s, struct slice *text);

static inline enum scan_kind scan_cut(struct scan *s, const uint8_t *from, const uint8_t *to,
                                      enum scan_kind kind, struct slice *text)
{
    s->at = to;
    text->p = from;
    text->n = (size_t)(to - from);
    return kind;
}

/* The first byte from p on that is no part of a word. */
static inline const uint8_t *scan_word_end(const uint8_t *p, const uint8_t *end)
{
    for (; end - p >= 4; p += 4)
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            if (!scan_is(p[i], SCAN_C_IDENT))
                return p + i;
    while (p < end && scan_is(*p, SCAN_C_IDENT))
        p++;
    return p;
}

static inline enum scan_kind scan_step(struct scan *s, struct slice *text)
{
    const uint8_t *p = s->at, *const end = s->end;
    unsigned class = SCAN_C_SPACE;
    while (p < end && ((class = scan_classes[*p]) & SCAN_C_SPACE))
        p++;
    if (p == end)
        return scan_rest(s, text);
    const uint8_t *q = p + 1;
    if (class & SCAN_C_IDENT_START) {
        q = scan_word_end(q, end);
        if (q - p == 1 && q < end && (*q == '\'' || *q == '&')) /* E'', U&"" */
            return scan_rest(s, text);
        return scan_cut(s, p, q, SCAN_WORD, text);
    }
    if (class & SCAN_C_ALONE)
        return scan_cut(s, p, q, SCAN_PUNCT, text);
    const uint8_t next = q < end ? *q : 0;
    if (*p == '.' && next != '.' && !scan_is(next, SCAN_C_DIGIT))
        return scan_cut(s, p, q, SCAN_PUNCT, text);
    if ((class & SCAN_C_OPERATOR) && !scan_is(next, SCAN_C_OPERATOR))
        return scan_cut(s, p, q, SCAN_OPERATOR, text);
    if (class & SCAN_C_DIGIT) {
        while (q < end && scan_is(*q, SCAN_C_DIGIT))
            q++;
        if (q == end || (!scan_is(*q, SCAN_C_IDENT) && *q != '.'))
            return scan_cut(s, p, q, SCAN_NUMBER, text);
    }
    return scan_rest(s, text);
}

#endif
