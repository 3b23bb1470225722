#include "router/hint.h"

#include "router/floor.h"
#include "router/scan.h"

static bool is_blank(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct slice trim(struct slice a)
{
    while (a.n > 0 && is_blank(a.p[0]))
        a = slice_skip(a, 1);
    while (a.n > 0 && is_blank(a.p[a.n - 1]))
        a.n--;
    return a;
}

static bool take_prefix(struct slice *a, const char *prefix)
{
    size_t n = strlen(prefix);
    bool has = a->n >= n && memcmp(a->p, prefix, n) == 0;
    if (has)
        *a = slice_skip(*a, n);
    return has;
}

/* ---- one comment ---- */

static bool read_route(struct slice value, struct hint *out)
{
    static const char *const words[] = {[HINT_PRIMARY] = "primary",
                                        [HINT_REPLICA] = "replica",
                                        [HINT_REPLICA_FORCED] = "replica!",
                                        [HINT_ANY] = "any"};
    for (unsigned i = HINT_PRIMARY; i <= HINT_ANY; i++) {
        if (slice_is(value, words[i])) {
            bool first = out->route == HINT_NONE;
            out->route = (enum hint_route)i;
            return first;
        }
    }
    return false;
}

static bool read_token(struct slice value, struct hint *out)
{
    uint32_t timeline;
    uint64_t lsn;
    bool first = out->min_lsn.n == 0;
    out->min_lsn = value;
    return first && floor_token_read(value, &timeline, &lsn);
}

static bool read_item(struct slice item, struct hint *out)
{
    if (take_prefix(&item, "min_lsn=") || take_prefix(&item, "lsn:") ||
        take_prefix(&item, "route=lsn:"))
        return read_token(item, out);
    return take_prefix(&item, "route=") && read_route(item, out);
}

static bool read_items(struct slice text, struct hint *out)
{
    for (;;) {
        const uint8_t *comma = text.n ? memchr(text.p, ',', text.n) : NULL;
        size_t n = comma ? (size_t)(comma - text.p) : text.n;
        if (!read_item(trim((struct slice){text.p, n}), out))
            return false;
        if (!comma)
            return true;
        text = slice_skip(text, n + 1);
    }
}

/* A whole comment, delimiters included. */
static struct hint read_comment(struct slice comment)
{
    struct hint hint = {0};
    if (comment.n < 4 || comment.n > HINT_BYTES_MAX)
        return hint;
    struct slice text = trim((struct slice){comment.p + 2, comment.n - 4});
    bool named = take_prefix(&text, "pgweir:");
    if (read_items(text, &hint))
        return hint;
    return (struct hint){.route = named ? HINT_UNREADABLE : HINT_NONE};
}

static bool says_something(const struct hint *hint)
{
    return hint->route != HINT_NONE || hint->min_lsn.n > 0;
}

static void add(struct hint *into, const struct hint *more)
{
    if (!says_something(into))
        *into = *more;
    else if (says_something(more))
        *into = (struct hint){.route = HINT_UNREADABLE}; /* two of them: which holds? */
}

/* ---- where ---- */

/* The length of the comment at the start of the text; 0: none, or it does not end. Line comments too. */
static size_t comment_bytes(struct slice text)
{
    size_t depth = 0, i = 0;
    if (text.n < 2 || text.p[0] != text.p[1]) {
        if (text.n < 4 || text.p[0] != '/' || text.p[1] != '*')
            return 0;
    } else if (text.p[0] == '-') {
        while (i < text.n && text.p[i] != '\n' && text.p[i] != '\r')
            i++;
        return i;
    } else {
        return 0;
    }
    while (i + 1 < text.n) {
        if (text.p[i] == '/' && text.p[i + 1] == '*') {
            depth++;
            i += 2;
        } else if (text.p[i] == '*' && text.p[i + 1] == '/') {
            i += 2;
            if (--depth == 0)
                return i;
        } else {
            i++;
        }
    }
    return 0;
}

/* Hints before the first token, or behind the last one, where semicolons may stand between them. Returns what
 * is behind the comments. */
static struct slice read_comments(struct slice sql, bool behind, struct hint *out)
{
    for (;;) {
        while (sql.n > 0 && (is_blank(sql.p[0]) || (behind && sql.p[0] == ';')))
            sql = slice_skip(sql, 1);
        size_t n = comment_bytes(sql);
        if (n == 0)
            return sql;
        if (*sql.p == '/') {
            struct hint one = read_comment((struct slice){sql.p, n});
            add(out, &one);
        }
        sql = slice_skip(sql, n);
    }
}

/* Worth a scan: the text ends in a comment, semicolons and blanks aside, and has words of a hint. */
static bool may_end_with_hint(struct slice sql)
{
    static const char *const words[] = {"route=", "lsn", "pgweir:"};
    while (sql.n > 0 && (is_blank(sql.p[sql.n - 1]) || sql.p[sql.n - 1] == ';'))
        sql.n--;
    if (sql.n < 4 || sql.p[sql.n - 1] != '/' || sql.p[sql.n - 2] != '*')
        return false;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (memmem(sql.p, sql.n, words[i], strlen(words[i])) != NULL)
            return true;
    return false;
}

/* What stands behind the last token that is no semicolon; no bytes if the text does not scan. */
static struct slice behind_tokens(struct slice sql, bool standard_conforming_strings)
{
    struct scan scan;
    struct scan_token token;
    const uint8_t *behind = sql.p;
    scan_init(&scan, sql, standard_conforming_strings);
    for (scan_next(&scan, &token); token.kind != SCAN_END; scan_next(&scan, &token)) {
        if (token.kind == SCAN_BAD)
            return SLICE_NONE;
        if (token.kind != SCAN_PUNCT || *token.text.p != ';')
            behind = scan.at;
    }
    return slice_skip(sql, (size_t)(behind - sql.p));
}

void hint_read(struct slice sql, bool standard_conforming_strings, struct hint *out)
{
    *out = (struct hint){0};
    struct slice rest = read_comments(sql, false, out);
    if (may_end_with_hint(rest))
        read_comments(behind_tokens(rest, standard_conforming_strings), true, out);
}

enum hint_route hint_join(enum hint_route a, enum hint_route b)
{
    if (a == b)
        return a;
    if (a == HINT_UNREADABLE || b == HINT_UNREADABLE)
        return HINT_UNREADABLE;
    return a == HINT_PRIMARY || b == HINT_PRIMARY ? HINT_PRIMARY : HINT_NONE;
}
