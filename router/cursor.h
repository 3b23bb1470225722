/* router/cursor.h: walk over the tokens of a text, words looked up and the fingerprint kept.
 *
 * Pure      private to router/: classify.c and body.c share one cursor.
 */
#ifndef ROUTER_CURSOR_H
#define ROUTER_CURSOR_H

#include "router/names.h"
#include "router/scan.h"

struct cursor {
    struct scan scan;
    struct scan_token token;
    struct word words[2]; /* of the token and of the one before, in turns: nothing is copied */
    unsigned turn;        /* words[turn] is the token's; valid if it is a name */
    enum keyword keyword; /* of an unquoted word, else KW_NONE */
    uint8_t mark;         /* ( ) [ ] , ; : . or a one-byte operator, else 0 */
    uint64_t fingerprint;
    uint64_t before_list; /* fingerprint behind the first literal of a list, 0 outside one */
    bool list_comma;      /* the last token was the comma of such a list */
};

void cursor_init(struct cursor *c, struct slice sql, bool standard_conforming_strings);
void cursor_next(struct cursor *c);

static inline const struct word *cursor_word(const struct cursor *c)
{
    return &c->words[c->turn];
}

/* Of the token before: it must have been a name. */
static inline const struct word *cursor_word_before(const struct cursor *c)
{
    return &c->words[c->turn ^ 1];
}

/* At the end of a statement: `;`, the end of the text, or a bad token. */
static inline bool cursor_ends(const struct cursor *c)
{
    return c->mark == ';' || c->token.kind == SCAN_END || c->token.kind == SCAN_BAD;
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
