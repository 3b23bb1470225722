#include "router/wait_lsn.h"

#include "router/freshness.h"
#include "router/scan.h"

#include <strings.h>

static bool is_word(const struct scan_token *token, const char *word)
{
    size_t n = strlen(word);
    return token->kind == SCAN_WORD && token->text.n == n &&
           strncasecmp((const char *)token->text.p, word, n) == 0;
}

static bool take_word(struct scan *scan, const char *word)
{
    struct scan_token token;
    scan_next(scan, &token);
    return is_word(&token, word);
}

static bool is_mark(const struct scan_token *token, uint8_t mark)
{
    return token->kind == SCAN_PUNCT && token->text.p[0] == mark;
}

/* '0/16B3748', a plain string without escapes. */
static bool take_lsn(struct scan *scan, uint64_t *lsn)
{
    struct scan_token token;
    scan_next(scan, &token);
    size_t n = token.text.n;
    const uint8_t *p = token.text.p;
    return token.kind == SCAN_STRING && n > 2 && p[0] == '\'' && p[n - 1] == '\'' &&
           lsn_parse((struct slice){p + 1, n - 2}, lsn);
}

/* [WITH (options)] [;] and nothing more. */
static bool ends_there(struct scan *scan)
{
    struct scan_token token;
    scan_next(scan, &token);
    if (is_word(&token, "with")) {
        scan_next(scan, &token);
        if (!is_mark(&token, '('))
            return false;
        while (token.kind != SCAN_END && token.kind != SCAN_BAD && !is_mark(&token, ')') &&
               !is_mark(&token, ';'))
            scan_next(scan, &token);
        if (!is_mark(&token, ')'))
            return false;
        scan_next(scan, &token);
    }
    while (is_mark(&token, ';'))
        scan_next(scan, &token);
    return token.kind == SCAN_END;
}

bool wait_lsn_read(struct slice sql, uint64_t *lsn)
{
    struct scan scan;
    uint64_t value;
    scan_init(&scan, sql, true);
    if (!take_word(&scan, "wait") || !take_word(&scan, "for") || !take_word(&scan, "lsn") ||
        !take_lsn(&scan, &value) || !ends_there(&scan))
        return false;
    *lsn = value;
    return true;
}
