/* router/scan.h: cut SQL text into PostgreSQL's tokens.
 *
 * Pure      no I/O, no allocation, no clock, no globals. Linear in the text, no recursion.
 * Owns      nothing: a token points into the caller's text.
 * Errors    SCAN_BAD is final: the text is not lexically SQL as PostgreSQL reads it, or we cannot
 *           be sure that it is (unterminated quote or comment, junk after a number, NUL byte).
 * Every later call answers SCAN_BAD again. Assumes   an encoding in which no byte of a multi-byte
 * character is ASCII (see struct sql_env).
 */
#ifndef ROUTER_SCAN_H
#define ROUTER_SCAN_H

#include "base/slice.h"

enum scan_kind {
    SCAN_WORD,     /* unquoted identifier or keyword */
    SCAN_QUOTED,   /* "identifier", text without the quotes, doubled quotes left as they are */
    SCAN_UQUOTED,  /* U&"identifier": its true name is not computed */
    SCAN_STRING,   /* '...', E'', U&'', B'', X'', $tag$...$tag$, with continuation lines */
    SCAN_NUMBER,   /* 1, 1.5e3, 0x1F, 1_000 */
    SCAN_PARAM,    /* $1 */
    SCAN_OPERATOR, /* + - * / < > = ~ ! @ # % ^ & | ` ?, one or more; also => := :: */
    SCAN_PUNCT,    /* one of ( ) [ ] , ; : . */
    SCAN_END,      /* the text is used up */
    SCAN_BAD       /* these two last: nothing comes behind them */
};

struct scan_token {
    enum scan_kind kind;
    struct slice text;
};

struct scan {
    const uint8_t *at;
    const uint8_t *end;
    bool standard_conforming_strings;
    bool bad;
    struct slice comment; /* the last comment skipped, delimiters included: where hints live */
};

void scan_init(struct scan *s, struct slice sql, bool standard_conforming_strings);

/* The next token; comments and white space are skipped. */
void scan_next(struct scan *s, struct scan_token *token);

#endif
