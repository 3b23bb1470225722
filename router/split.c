/* router/split.c: where one statement ends and the next begins. */
#include "router/split.h"

#include "router/scan.h"

#include <strings.h>

/* ---- the body of a routine in SQL ----
 * CREATE [OR REPLACE] FUNCTION | PROCEDURE: from then on BEGIN and CASE open, END closes. */

enum head { HEAD_START, HEAD_CREATE, HEAD_OR, HEAD_REPLACE, HEAD_ROUTINE, HEAD_OTHER };

static bool word_is(struct slice word, const char *text)
{
    return word.n == strlen(text) && strncasecmp((const char *)word.p, text, word.n) == 0;
}

static enum head next_head(enum head head, struct slice word)
{
    bool routine = word_is(word, "function") || word_is(word, "procedure");
    if (head == HEAD_START && word_is(word, "create"))
        return HEAD_CREATE;
    if (head == HEAD_CREATE && word_is(word, "or"))
        return HEAD_OR;
    if (head == HEAD_OR && word_is(word, "replace"))
        return HEAD_REPLACE;
    return (head == HEAD_CREATE || head == HEAD_REPLACE) && routine ? HEAD_ROUTINE : HEAD_OTHER;
}

struct nesting {
    size_t parens, begins;
    enum head head;
};

static void take_word(struct nesting *n, struct slice word)
{
    if (n->head != HEAD_ROUTINE) {
        if (n->head != HEAD_OTHER)
            n->head = next_head(n->head, word);
        return;
    }
    if (n->parens > 0)
        return;
    if (word_is(word, "begin") || (n->begins > 0 && word_is(word, "case")))
        n->begins++;
    else if (n->begins > 0 && word_is(word, "end"))
        n->begins--;
}

/* True: this token ends the statement. */
static bool take_token(struct nesting *n, const struct scan_token *t)
{
    if (t->kind == SCAN_WORD)
        take_word(n, t->text);
    else if (n->head != HEAD_ROUTINE)
        n->head = HEAD_OTHER;
    if (t->kind != SCAN_PUNCT)
        return false;
    uint8_t c = t->text.p[0];
    if (c == '(')
        n->parens++;
    else if (c == ')' && n->parens > 0)
        n->parens--;
    return c == ';' && n->parens == 0 && n->begins == 0;
}

/* ---- tokens that are none ---- */

static bool is_word_byte(uint8_t c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '_' ||
           c >= 0x80;
}

static bool opens_dollar_quote(const uint8_t *p, const uint8_t *end)
{
    for (p++; p < end && is_word_byte(*p); p++)
        ;
    return p == end || *p == '$';
}

/* Behind the bad token at p; NULL: it is opened and never closed. */
static const uint8_t *behind_bad(const uint8_t *p, const uint8_t *end)
{
    const uint8_t *at = p;
    if (end - p < 2)
        return p == end ? NULL : end;
    while (at < end && is_word_byte(*at)) /* E'..., U&"... */
        at++;
    if (at > p && *p > '9' && at < end && *at == '&')
        at++;
    if (at < end && *at == '"' && at + 1 < end) { /* "" or a NUL inside */
        const uint8_t *close = memchr(at + 1, '"', (size_t)(end - at - 1));
        return close ? close + 1 : NULL;
    }
    if (at < end && (*at == '\'' || *at == '"') && (at == p || *p > '9'))
        return NULL;
    if (*p == '$')
        return opens_dollar_quote(p, end) ? NULL : p + 1;
    if (*p == '/' && p[1] == '*')
        return NULL;
    return at > p ? at : p + 1;
}

/* ---- statements ---- */

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct slice trimmed(const uint8_t *from, const uint8_t *to)
{
    while (from < to && is_space(*from))
        from++;
    while (from < to && is_space(to[-1]))
        to--;
    return (struct slice){from, (size_t)(to - from)};
}

bool split_next(struct slice text, bool last, bool standard_conforming_strings, struct split *out)
{
    struct nesting nesting = {0};
    struct scan scan;
    struct scan_token t;
    const uint8_t *end = text.p + text.n;
    *out = (struct split){.used = text.n, .blank = true};
    scan_init(&scan, text, standard_conforming_strings);
    for (;;) {
        scan_next(&scan, &t);
        if (t.kind == SCAN_BAD) {
            const uint8_t *behind = behind_bad(t.text.p, end);
            out->blank = false;
            if (!behind)
                break;
            scan_init(&scan, (struct slice){behind, (size_t)(end - behind)},
                      standard_conforming_strings);
            continue;
        }
        if (t.kind == SCAN_END)
            break;
        if (take_token(&nesting, &t)) {
            out->statement = trimmed(text.p, t.text.p);
            out->used = (size_t)(t.text.p + 1 - text.p);
            return true;
        }
        out->blank = false;
    }
    out->statement = trimmed(text.p, end);
    return last && out->statement.n > 0;
}
