/* router/cursor.h: walk over the tokens of a text, words looked up and the fingerprint kept.
 *
 * Pure      private to router/: classify.c and body.c share one cursor.
 */
#ifndef ROUTER_CURSOR_H
#define ROUTER_CURSOR_H

#include "router/names.h"
#include "router/scan.h"

/* All that later tokens ask of one, to be copied in one piece: its enum keyword, if it is an unquoted word;
 * its byte, if it is one of ( ) [ ] , ; : . or a one-byte operator; its enum scan_kind. Else 0. */
#define CURSOR_SIGN(all, keyword, mark, kind) \
    union {                                   \
        uint32_t all;                         \
        struct {                              \
            uint8_t keyword, mark, kind;      \
        };                                    \
    }
#define CURSOR_SIGN_OF(keyword, mark, kind) \
    ((uint32_t)(keyword) | (uint32_t)(mark) << 8 | (uint32_t)(kind) << 16)
#define CURSOR_KEYWORD(sign) ((enum keyword)((sign)&0xFF))
#define CURSOR_MARK(sign) ((uint8_t)((sign) >> 8))

/* Of the tokens so far; literals count as one and the same, lists of them as their first one. */
struct fingerprint {
    uint64_t value;
    uint64_t before_list; /* value behind the first literal of a list, 0 outside one */
    bool list_comma;      /* the last token was the comma of such a list */
};

struct cursor {
    struct scan scan;
    struct slice text; /* of the token */
    struct word word;  /* of the token, if it is a name */
    CURSOR_SIGN(sign, keyword, mark, kind);
    struct fingerprint fingerprint;
};

void cursor_init(struct cursor *c, struct slice sql, bool standard_conforming_strings);
void cursor_next(struct cursor *c);

/* At the end of a statement: `;`, the end of the text, or a bad token. */
static inline bool cursor_ends(const struct cursor *c)
{
    return c->mark == ';' || c->kind == SCAN_END || c->kind == SCAN_BAD;
}

/* If the token is this keyword, step over it. */
static inline bool cursor_accept(struct cursor *c, enum keyword keyword)
{
    if (c->keyword != keyword)
        return false;
    cursor_next(c);
    return true;
}

#endif
