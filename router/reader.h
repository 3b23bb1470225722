/* router/reader.h: reading one small grammar, a token ahead (setting.c, tx.c, reset.c, deallocate.c). Private to router/.
 *
 * Pure      borrows the text. Words are keywords: unquoted, in any case of letters.
 */
#ifndef ROUTER_READER_H
#define ROUTER_READER_H

#include "router/scan.h"

#include <strings.h>

struct reader {
    struct scan scan;
    struct scan_token token;
};

static inline void reader_next(struct reader *r)
{
    scan_next(&r->scan, &r->token);
}

static inline bool reader_is_word(const struct reader *r, const char *word)
{
    return r->token.kind == SCAN_WORD && r->token.text.n == strlen(word) &&
           strncasecmp((const char *)r->token.text.p, word, r->token.text.n) == 0;
}

static inline bool reader_accept(struct reader *r, const char *word)
{
    const bool is = reader_is_word(r, word);
    if (is)
        reader_next(r);
    return is;
}

static inline bool reader_is_mark(const struct reader *r, char mark)
{
    return (r->token.kind == SCAN_PUNCT || r->token.kind == SCAN_OPERATOR) &&
           r->token.text.n == 1 && *r->token.text.p == (uint8_t)mark;
}

/* At the first token that is no semicolon. */
static inline void reader_skip_semicolons(struct reader *r)
{
    while (reader_is_mark(r, ';'))
        reader_next(r);
}

static inline void reader_begin(struct reader *r, struct slice sql,
                                bool standard_conforming_strings)
{
    scan_init(&r->scan, sql, standard_conforming_strings);
    reader_next(r);
    reader_skip_semicolons(r);
}

#endif
