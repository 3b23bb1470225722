/* router/cursor.c: tokens with their names looked up. */
#include "router/cursor.h"

#define MIX UINT64_C(0x9E3779B97F4A7C15)
#define LITERAL 0x4C49544552414C00u /* stands for every string, number and parameter */

void cursor_init(struct cursor *c, struct slice sql, bool standard_conforming_strings)
{
    memset(c, 0, sizeof *c);
    scan_init(&c->scan, sql, standard_conforming_strings);
    cursor_next(c);
}

static inline void mix(struct cursor *c, uint64_t value)
{
    const uint64_t h = (c->fingerprint ^ value) * MIX;
    c->fingerprint = h ^ h >> 29;
}

static uint64_t hash_bytes(struct slice text)
{
    uint64_t h = text.n * MIX;
    for (size_t i = 0; i < text.n; i++)
        h = (h ^ text.p[i]) * MIX;
    return h ^ h >> 32;
}

/* A list of literals counts as its first one: IN (1, 2, 3) is IN (1). */
static inline void mix_literal(struct cursor *c)
{
    if (c->list_comma) {
        c->fingerprint = c->before_list;
    } else {
        mix(c, LITERAL);
        c->before_list = c->fingerprint;
    }
    c->list_comma = false;
}

static inline void mix_other(struct cursor *c, uint64_t value)
{
    c->list_comma = c->mark == ',' && c->before_list != 0;
    if (!c->list_comma)
        c->before_list = 0;
    mix(c, value);
}

static inline void take_word(struct cursor *c)
{
    struct word *word = &c->words[c->turn];
    word_of(c->token.text, c->scan.end, word);
    c->keyword = word->keyword = keyword_find(word);
    mix_other(c, word->hash);
}

static inline void take_quoted(struct cursor *c)
{
    struct word *word = &c->words[c->turn];
    word_of_quoted(c->token.text, c->scan.end, word);
    mix_other(c, word->plain ? word->hash ^ MIX : hash_bytes(c->token.text));
}

void cursor_next(struct cursor *c)
{
    scan_next(&c->scan, &c->token);
    c->keyword = KW_NONE;
    c->mark = 0;
    c->turn ^= 1;
    switch (c->token.kind) {
    case SCAN_WORD:
        take_word(c);
        break;
    case SCAN_QUOTED:
        take_quoted(c);
        break;
    case SCAN_STRING:
    case SCAN_NUMBER:
    case SCAN_PARAM:
        mix_literal(c);
        break;
    case SCAN_PUNCT:
        c->mark = *c->token.text.p;
        mix_other(c, c->mark);
        break;
    case SCAN_OPERATOR:
        c->mark = c->token.text.n == 1 ? *c->token.text.p : 0;
        mix_other(c, hash_bytes(c->token.text));
        break;
    case SCAN_UQUOTED:
        mix_other(c, hash_bytes(c->token.text));
        break;
    case SCAN_END:
    case SCAN_BAD:
        break;
    }
}
