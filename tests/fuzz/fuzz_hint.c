/* tests/fuzz/fuzz_hint.c: hints in comments. Input: a byte for the strings, then SQL.
 *
 * What must hold: the answer is that of a slow second reading (below), depends on no byte outside of the
 * text, and comments of others in front or behind change nothing.
 */
#include "base/check.h"
#include "router/floor.h"
#include "router/hint.h"
#include "router/scan.h"

#include <stdlib.h>

#define TEXT_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In a block of its own, so that any byte read outside of it is seen. */
static struct hint read_alone(struct slice sql, bool standard_strings, struct slice *token)
{
    static uint8_t kept[TEXT_MAX + 128];
    uint8_t *block = malloc(sql.n ? sql.n : 1);
    struct hint hint;
    CHECK(block != NULL && sql.n <= sizeof kept);
    if (sql.n)
        memcpy(block, sql.p, sql.n);
    hint_read((struct slice){block, sql.n}, standard_strings, &hint);
    CHECK(hint.route < HINT_ROUTE_N);
    *token = hint.min_lsn;
    if (hint.min_lsn.n) {
        CHECK(hint.min_lsn.p >= block && hint.min_lsn.p + hint.min_lsn.n <= block + sql.n);
        memcpy(kept, hint.min_lsn.p, hint.min_lsn.n);
        token->p = kept;
    }
    free(block);
    return hint;
}

static void check_same(struct slice sql, bool standard_strings, const struct hint *want,
                       struct slice want_token)
{
    uint8_t copy[FLOOR_TOKEN_BYTES];
    CHECK(want_token.n <
          sizeof copy); /* a token that was read is no longer than one that is written */
    if (want_token.n)
        memcpy(copy, want_token.p, want_token.n);
    struct slice token;
    struct hint hint = read_alone(sql, standard_strings, &token);
    CHECK(hint.route == want->route && slice_equals(token, (struct slice){copy, want_token.n}));
}

/* "before sql behind" */
static struct slice around(const char *before, struct slice sql, const char *behind)
{
    static uint8_t text[TEXT_MAX + 128];
    const size_t head = strlen(before), tail = strlen(behind);
    CHECK(head + sql.n + tail <= sizeof text);
    memcpy(text, before, head);
    if (sql.n)
        memcpy(text + head, sql.p, sql.n);
    memcpy(text + head + sql.n, behind, tail);
    return (struct slice){text, head + sql.n + tail};
}

/* Ends in a line comment, which hides the hints that stand before it. */
static bool ends_in_line(struct slice sql, bool standard_strings)
{
    struct scan scan;
    struct scan_token token;
    scan_init(&scan, sql, standard_strings);
    do {
        scan_next(&scan, &token);
    } while (token.kind != SCAN_END && token.kind != SCAN_BAD);
    return scan.comment.n > 0 && *scan.comment.p == '-';
}

/* The end of the last token that is no semicolon, the start of the first token; false: it does not scan. */
static bool find_tokens(struct slice sql, bool standard_strings, size_t *first, size_t *behind)
{
    struct scan scan;
    struct scan_token token;
    scan_init(&scan, sql, standard_strings);
    *first = sql.n;
    *behind = 0;
    for (scan_next(&scan, &token); token.kind != SCAN_END; scan_next(&scan, &token)) {
        if (token.kind == SCAN_BAD)
            return false;
        const uint8_t *from = token.kind == SCAN_QUOTED ? token.text.p - 1 : token.text.p;
        if (*first == sql.n)
            *first = (size_t)(from - sql.p);
        if (!slice_is(token.text, ";"))
            *behind = (size_t)(scan.at - sql.p);
    }
    return true;
}

static bool says(const struct hint *hint)
{
    return hint->route != HINT_NONE || hint->min_lsn.n > 0;
}

/* A hint is in front of the first token or behind the last one: what stands between says nothing. */
static void check_places(struct slice sql, bool standard_strings, const struct hint *hint,
                         struct slice token)
{
    static uint8_t parts[TEXT_MAX + 128];
    size_t first, behind;
    if (!find_tokens(sql, standard_strings, &first, &behind) || behind <= first)
        return;
    memcpy(parts, sql.p, first);
    parts[first] = 'x';
    memcpy(parts + first + 1, sql.p + behind, sql.n - behind);
    struct slice outside = {parts, first + 1 + sql.n - behind};
    struct scan scan;
    struct scan_token t;
    scan_init(&scan, outside, standard_strings); /* is it still the token x and comments? */
    scan_next(&scan, &t);
    if (t.kind != SCAN_WORD || t.text.n != 1)
        return;
    check_same(outside, standard_strings, hint, token);
    if (says(hint))
        CHECK(memmem(sql.p, first, "*/", 2) || memmem(sql.p + behind, sql.n - behind, "*/", 2));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > TEXT_MAX)
        return 0;
    const bool standard_strings = !(data[0] & 1);
    const struct slice sql = {data + 1, size - 1};
    size_t first, behind;
    struct slice token;
    uint32_t timeline;
    uint64_t lsn;
    const struct hint hint = read_alone(sql, standard_strings, &token);
    CHECK(token.n == 0 || floor_token_read(token, &timeline, &lsn));
    CHECK(hint.route != HINT_UNREADABLE || token.n == 0);
    check_same(around("/* a=1 */ -- route=primary\n", sql, ""), standard_strings, &hint, token);
    if (!find_tokens(sql, standard_strings, &first, &behind))
        return 0;
    if (ends_in_line(sql, standard_strings))
        return 0;
    check_same(around("", sql, "\n/*traceparent='00-1',route='%2Fx'*/ "), standard_strings, &hint,
               token);
    check_places(sql, standard_strings, &hint, token);
    /* Another hint beside it is one too many. */
    check_same(around("/* route=any */", sql, ""), standard_strings,
               says(&hint) ? &(struct hint){.route = HINT_UNREADABLE}
                           : &(struct hint){.route = HINT_ANY},
               SLICE_NONE);
    return 0;
}
