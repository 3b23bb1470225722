/* tests/fuzz/fuzz_split.c: text to statements, and literals out of them. Input: two bytes, then SQL.
 *
 * What must hold: the statements are the text, in order, without loss; reading it in pieces cut anywhere
 * gives the same statements; one statement is not split again; a mask is printable, no longer than its room, and
 * holds no string.
 */
#include "base/check.h"
#include "base/utf8.h"
#include "router/mask.h"
#include "router/scan.h"
#include "router/split.h"

#include <stdlib.h>

#define TEXT_MAX 2048
#define STATEMENTS_MAX (TEXT_MAX + 1)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct list {
    size_t n;
    struct slice at[STATEMENTS_MAX];
    bool blank[STATEMENTS_MAX];
};

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void add(struct list *list, struct slice text, const struct split *one)
{
    CHECK(list->n < STATEMENTS_MAX && one->used > 0 && one->used <= text.n);
    CHECK(one->statement.p >= text.p && one->statement.n <= one->used);
    CHECK(one->statement.p + one->statement.n <= text.p + one->used);
    for (const uint8_t *p = text.p; p < text.p + one->used;
         p++) { /* nothing but blanks and its ; is left out */
        const bool inside = p >= one->statement.p && p < one->statement.p + one->statement.n;
        CHECK(inside || is_space(*p) || (*p == ';' && p == text.p + one->used - 1));
    }
    list->blank[list->n] = one->blank;
    list->at[list->n++] = one->statement;
}

/* The statements of the text as it comes: a piece, then all of it. */
static void split_pieces(struct slice text, const size_t *ends, size_t end_n, bool standard_strings,
                         struct list *list)
{
    struct split one;
    size_t used = 0;
    list->n = 0;
    for (size_t i = 0; i < end_n; i++) {
        const bool last = i == end_n - 1;
        for (;;) {
            const struct slice rest = {text.p + used, ends[i] - used};
            if (!split_next(rest, last, standard_strings, &one))
                break;
            add(list, rest, &one);
            used += one.used;
        }
    }
}

static void check_again(struct slice statement, bool standard_strings)
{
    struct split one;
    if (statement.n == 0)
        return;
    CHECK(split_next(statement, true, standard_strings, &one));
    CHECK(slice_equals(one.statement, statement) && one.used == statement.n);
}

static void check_mask(struct slice sql, size_t cap, bool standard_strings)
{
    static char whole[4 * TEXT_MAX], cut[4 * TEXT_MAX];
    const size_t n = sql_mask(sql, standard_strings, whole, sizeof whole);
    CHECK(n <= sizeof whole);
    for (struct slice rest = {(uint8_t *)whole, n}; rest.n > 0;) {
        const struct slice c = {rest.p, utf8_bytes(rest)};
        CHECK(c.n > 0 && !utf8_is_control(c));
        rest = slice_skip(rest, c.n);
    }
    const size_t cut_n = sql_mask(sql, standard_strings, cut, cap);
    CHECK(cut_n <= cap && cut_n <= n && memcmp(cut, whole, cut_n) == 0);
    CHECK(memchr(whole, '\'', n) == NULL || memchr(whole, '"', n) != NULL); /* no string is left */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct list whole, pieces;
    if (size < 3 || size > TEXT_MAX)
        return 0;
    const bool standard_strings = !(data[0] & 1);
    uint8_t *block = malloc(size);
    CHECK(block != NULL);
    memcpy(block, data + 2, size - 2);
    const struct slice text = {block, size - 2};
    const size_t first = data[1] % (text.n + 1);
    const size_t all[] = {text.n}, cuts[] = {first, first + (text.n - first) / 2, text.n};
    split_pieces(text, all, 1, standard_strings, &whole);
    split_pieces(text, cuts, 3, standard_strings, &pieces);
    CHECK(whole.n == pieces.n);
    for (size_t i = 0; i < whole.n; i++) {
        CHECK(slice_equals(whole.at[i], pieces.at[i]) && whole.blank[i] == pieces.blank[i]);
        check_again(whole.at[i], standard_strings);
    }
    check_mask(text, data[0] & ~1U, standard_strings);
    free(block);
    return 0;
}
