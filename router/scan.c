/* router/scan.c: the lexer. It follows PostgreSQL's scan.l of versions 13 to 18; where they differ,
 * the text is SCAN_BAD, or the difference cannot hide a statement. */
#include "router/scan_inline.h"

#define LETTER (SCAN_C_IDENT_START | SCAN_C_IDENT)
#define ALONE (SCAN_C_PUNCT | SCAN_C_ALONE)
#define SPACE (SCAN_C_SPACE | SCAN_C_GAP)

const uint16_t scan_classes[256] = {
    ['\t'] = SPACE,
    ['\v'] = SPACE,
    ['\f'] = SPACE,
    [' '] = SPACE,
    ['\n'] = SPACE | SCAN_C_NEWLINE,
    ['\r'] = SPACE | SCAN_C_NEWLINE,
    ['0' ... '9'] = SCAN_C_IDENT | SCAN_C_DIGIT | SCAN_C_LOWER,
    ['A' ... 'Z'] = LETTER,
    ['a' ... 'z'] = LETTER | SCAN_C_LOWER,
    ['_'] = LETTER | SCAN_C_LOWER,
    [0x80 ... 0xFF] = LETTER,
    ['$'] = SCAN_C_IDENT,
    ['~'] = SCAN_C_OPERATOR,
    ['!'] = SCAN_C_OPERATOR,
    ['@'] = SCAN_C_OPERATOR,
    ['#'] = SCAN_C_OPERATOR,
    ['^'] = SCAN_C_OPERATOR,
    ['&'] = SCAN_C_OPERATOR,
    ['|'] = SCAN_C_OPERATOR,
    ['`'] = SCAN_C_OPERATOR,
    ['?'] = SCAN_C_OPERATOR,
    ['+'] = SCAN_C_OPERATOR,
    ['-'] = SCAN_C_OPERATOR | SCAN_C_GAP,
    ['*'] = SCAN_C_OPERATOR,
    ['/'] = SCAN_C_OPERATOR | SCAN_C_GAP,
    ['%'] = SCAN_C_OPERATOR,
    ['<'] = SCAN_C_OPERATOR,
    ['>'] = SCAN_C_OPERATOR,
    ['='] = SCAN_C_OPERATOR,
    ['('] = ALONE,
    [')'] = ALONE,
    ['['] = ALONE,
    [']'] = ALONE,
    [','] = ALONE,
    [';'] = ALONE,
    ['.'] = SCAN_C_PUNCT,
    [':'] = SCAN_C_PUNCT,
};

/* The byte at s->at + ahead, 0 past the end: NUL is no part of any token. */
static inline uint8_t peek(const struct scan *s, size_t ahead)
{
    return (size_t)(s->end - s->at) > ahead ? s->at[ahead] : 0;
}

void scan_init(struct scan *s, struct slice sql, bool standard_conforming_strings)
{
    *s = (struct scan){
        .at = sql.p,
        .end = sql.n > 0 ? sql.p + sql.n : sql.p,
        .standard_conforming_strings = standard_conforming_strings,
        .comment = SLICE_NONE,
    };
}

static void skip_line_comment(struct scan *s)
{
    while (s->at < s->end && !scan_is(*s->at, SCAN_C_NEWLINE))
        s->at++;
}

/* At the first byte of a comment; false if it does not end. */
static bool skip_block_comment(struct scan *s)
{
    size_t depth = 0;
    do {
        if (s->end - s->at < 2)
            return false;
        if (s->at[0] == '/' && s->at[1] == '*') {
            depth++;
            s->at += 2;
        } else if (s->at[0] == '*' && s->at[1] == '/') {
            depth--;
            s->at += 2;
        } else {
            s->at++;
        }
    } while (depth > 0);
    return true;
}

/* Skip white space and comments; false at a comment that does not end. */
static __attribute__((noinline)) bool skip_comments(struct scan *s)
{
    for (;;) {
        const uint8_t *p = s->at;
        while (p < s->end && scan_is(*p, SCAN_C_SPACE))
            p++;
        s->at = p;
        const uint8_t c = peek(s, 0);
        if (c == '-' && peek(s, 1) == '-')
            skip_line_comment(s);
        else if (c != '/' || peek(s, 1) != '*')
            return true;
        else if (!skip_block_comment(s))
            return false;
        s->comment = (struct slice){p, (size_t)(s->at - p)};
    }
}

/* The same; most often there is one blank or none. */
static inline bool skip_blank(struct scan *s)
{
    const uint8_t *p = s->at;
    while (p < s->end && scan_is(*p, SCAN_C_SPACE))
        p++;
    s->at = p;
    return p == s->end || (*p != '-' && *p != '/') || skip_comments(s);
}

/* After a closing quote: is the next thing on a later line another quote, which continues the same
 * literal in the same mode? White space and -- comments may stand between, block comments may not.
 */
static bool skip_to_continuation(struct scan *s)
{
    const uint8_t *p = s->at;
    bool newline = false;
    for (;;) {
        while (p < s->end && scan_is(*p, SCAN_C_SPACE))
            newline |= scan_is(*p++, SCAN_C_NEWLINE);
        if (s->end - p < 2 || p[0] != '-' || p[1] != '-')
            break;
        while (p < s->end && !scan_is(*p, SCAN_C_NEWLINE))
            p++;
    }
    if (!newline || p == s->end || *p != '\'')
        return false;
    s->at = p + 1;
    return true;
}

/* After an opening quote: run past the closing one and past continuation lines. */
static __attribute__((noinline)) bool skip_string(struct scan *s, bool backslashes)
{
    for (;;) {
        const uint8_t *p = s->at;
        while (p < s->end && *p != '\'' && (*p != '\\' || !backslashes))
            p++;
        if (p == s->end)
            return false;
        s->at = p + 1;
        if (*p == '\\') {
            if (s->at == s->end)
                return false;
            s->at++;
        } else if (peek(s, 0) == '\'') {
            s->at++;
        } else if (!skip_to_continuation(s)) {
            return true;
        }
    }
}

/* After an opening double quote; an empty identifier is an error in PostgreSQL. */
static __attribute__((noinline)) bool skip_quoted(struct scan *s)
{
    const uint8_t *from = s->at;
    while (s->at < s->end) {
        const uint8_t c = *s->at++;
        if (c == 0)
            return false;
        if (c != '"')
            continue;
        if (peek(s, 0) != '"')
            return s->at - from > 1;
        s->at++;
    }
    return false;
}

/* At a $ that may open a dollar quote; false if it does not, or if the quote does not end. Every
 * tag holds its $ at both ends only, so no byte is compared twice. */
static bool skip_dollar_quote(struct scan *s)
{
    const uint8_t *p = s->at + 1;
    if (p < s->end && scan_is(*p, SCAN_C_IDENT_START))
        while (p < s->end && scan_is(*p, SCAN_C_IDENT) && *p != '$')
            p++;
    if (p == s->end || *p != '$')
        return false;
    const uint8_t *tag = s->at;
    const size_t tag_n = (size_t)(p + 1 - tag);
    for (p++; p < s->end; p++) {
        p = memchr(p, '$', (size_t)(s->end - p));
        if (p == NULL || (size_t)(s->end - p) < tag_n)
            return false;
        if (memcmp(p, tag, tag_n) == 0) {
            s->at = p + tag_n;
            return true;
        }
    }
    return false;
}

static __attribute__((noinline)) enum scan_kind scan_dollar(struct scan *s)
{
    if (!scan_is(peek(s, 1), SCAN_C_DIGIT))
        return skip_dollar_quote(s) ? SCAN_STRING : SCAN_BAD;
    s->at++;
    while (scan_is(peek(s, 0), SCAN_C_DIGIT))
        s->at++;
    return scan_is(peek(s, 0), SCAN_C_IDENT) ? SCAN_BAD : SCAN_PARAM;
}

static void skip_digits(struct scan *s)
{
    while (scan_is(peek(s, 0), SCAN_C_DIGIT) ||
           (peek(s, 0) == '_' && scan_is(peek(s, 1), SCAN_C_DIGIT)))
        s->at++;
}

static bool is_hex(uint8_t c)
{
    return scan_is(c, SCAN_C_DIGIT) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

/* Junk right after a number was two tokens before version 15 and is an error since: BAD. */
static __attribute__((noinline)) enum scan_kind scan_number(struct scan *s)
{
    const uint8_t base = peek(s, 1) | 0x20;
    if (peek(s, 0) == '0' && (base == 'x' || base == 'o' || base == 'b')) {
        s->at += 2;
        while (is_hex(peek(s, 0)) || peek(s, 0) == '_')
            s->at++;
        return scan_is(peek(s, 0), SCAN_C_IDENT) || peek(s, 0) == '.' ? SCAN_BAD : SCAN_NUMBER;
    }
    skip_digits(s);
    if (peek(s, 0) == '.') {
        s->at++;
        skip_digits(s);
    }
    if ((peek(s, 0) | 0x20) == 'e') {
        const uint8_t sign = peek(s, 1);
        s->at += sign == '+' || sign == '-' ? 2 : 1;
        if (!scan_is(peek(s, 0), SCAN_C_DIGIT))
            return SCAN_BAD;
        skip_digits(s);
    }
    return scan_is(peek(s, 0), SCAN_C_IDENT) || peek(s, 0) == '.' ? SCAN_BAD : SCAN_NUMBER;
}

/* Only an operator with one of these may end in + or -. */
static bool frees_sign(uint8_t c)
{
    return c == '~' || c == '!' || c == '@' || c == '#' || c == '^' || c == '&' || c == '|' ||
           c == '`' || c == '?' || c == '%';
}

static __attribute__((noinline)) void skip_operator(struct scan *s)
{
    const uint8_t *from = s->at;
    bool free_sign = false;
    while (scan_is(peek(s, 0), SCAN_C_OPERATOR)) {
        const uint8_t c = s->at[0], next = peek(s, 1);
        if ((c == '-' && next == '-') || (c == '/' && next == '*'))
            break;
        free_sign |= frees_sign(c);
        s->at++;
    }
    while (!free_sign && s->at - from > 1 && (s->at[-1] == '+' || s->at[-1] == '-'))
        s->at--;
}

static enum scan_kind scan_punct(struct scan *s)
{
    const uint8_t c = s->at[0], next = peek(s, 1);
    if (c == '.' && scan_is(next, SCAN_C_DIGIT))
        return scan_number(s);
    if (c == ':' && (next == ':' || next == '=')) {
        s->at += 2;
        return SCAN_OPERATOR;
    }
    s->at++;
    return c == '.' && next == '.' ? SCAN_BAD : SCAN_PUNCT;
}

static __attribute__((noinline)) enum scan_kind scan_quote(struct scan *s)
{
    const bool string = *s->at++ == '\'';
    if (string)
        return skip_string(s, !s->standard_conforming_strings) ? SCAN_STRING : SCAN_BAD;
    return skip_quoted(s) ? SCAN_QUOTED : SCAN_BAD;
}

/* At a letter that a quote or an ampersand follows: E'' U&'' U&"" B'' X'' N'', or just a word. */
static __attribute__((noinline)) enum scan_kind scan_prefixed(struct scan *s)
{
    const uint8_t c = s->at[0] | 0x20, next = s->at[1], third = peek(s, 2);
    if (next == '\'' && (c == 'e' || c == 'b' || c == 'x')) {
        s->at += 2;
        return skip_string(s, c == 'e') ? SCAN_STRING : SCAN_BAD;
    }
    s->at++;
    if (next == '\'' && c == 'n')
        return scan_quote(s); /* as plain as '' */
    if (next != '&' || c != 'u' || (third != '\'' && third != '"'))
        return SCAN_WORD;
    s->at += 2;
    if (third == '"')
        return skip_quoted(s) ? SCAN_UQUOTED : SCAN_BAD;
    if (!s->standard_conforming_strings)
        return SCAN_BAD; /* PostgreSQL refuses it too */
    return skip_string(s, false) ? SCAN_STRING : SCAN_BAD;
}

static inline enum scan_kind scan_word(struct scan *s)
{
    const uint8_t *p = s->at + 1, *const end = s->end;
    if (p < end && (*p == '\'' || *p == '&'))
        return scan_prefixed(s);
    while (p < end && scan_is(*p, SCAN_C_IDENT))
        p++;
    s->at = p;
    return SCAN_WORD;
}

static inline enum scan_kind scan_token(struct scan *s)
{
    const uint8_t c = *s->at;
    if (scan_is(c, SCAN_C_IDENT_START))
        return scan_word(s);
    if (scan_is(c, SCAN_C_PUNCT))
        return scan_punct(s);
    if (scan_is(c, SCAN_C_DIGIT))
        return scan_number(s);
    if (scan_is(c, SCAN_C_OPERATOR)) {
        skip_operator(s);
        return SCAN_OPERATOR;
    }
    if (c == '\'' || c == '"')
        return scan_quote(s);
    return c == '$' ? scan_dollar(s) : SCAN_BAD;
}

enum scan_kind scan_rest(struct scan *s, struct slice *text)
{
    if (s->bad || !skip_blank(s)) {
        s->bad = true;
        s->end = s->at;
        *text = (struct slice){s->at, 0};
        return SCAN_BAD;
    }
    const uint8_t *from = s->at;
    const enum scan_kind kind = s->at == s->end ? SCAN_END : scan_token(s);
    *text = (struct slice){from, (size_t)(s->at - from)};
    if (kind == SCAN_QUOTED)
        *text = (struct slice){from + 1, text->n - 2};
    if (kind == SCAN_BAD) {
        s->bad = true;
        s->end = s->at; /* so that scan_step() stops here too */
    }
    return kind;
}

void scan_next(struct scan *s, struct scan_token *token)
{
    token->kind = scan_step(s, &token->text);
}
