/* tests/unit/test_router_hitters.c: frequent statements are found, and their samples show no secrets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "router/hitters.h"
#include "router/mask.h"

static struct hitter *find(struct hitters *h, uint64_t fingerprint, uint8_t reason)
{
    for (size_t i = 0; i < HITTERS_BUCKETS; i++)
        for (size_t k = 0; k < HITTERS_WAYS; k++) {
            struct hitter *e = &h->entries[i][k];
            if (e->count > 0 && e->fingerprint == fingerprint && e->reason == reason)
                return e;
        }
    return NULL;
}

static void few_are_counted_exactly(void **state)
{
    (void)state;
    struct hitters *h = calloc(1, sizeof *h);
    for (uint64_t round = 1; round <= 10; round++)
        for (uint64_t f = 1; f <= 20; f++)
            for (uint8_t reason = 0; reason < 2; reason++) {
                struct hitter *new_one = hitters_count(h, f * f, reason, round * 100);
                assert_int_equal(new_one != NULL, round == 1);
                assert_true(!new_one || new_one == find(h, f * f, reason));
            }
    for (uint64_t f = 1; f <= 20; f++) {
        assert_int_equal(find(h, f * f, 1)->count, 10);
        assert_int_equal(find(h, f * f, 1)->error, 0);
        assert_int_equal(find(h, f * f, 1)->last_ms, 1000);
        assert_null(find(h, f * f, 2));
    }
    free(h);
}

/* 20 statements make half of the stream, 100 000 others that never come again the rest. */
static void the_frequent_ones_stay_among_many_rare_ones(void **state)
{
    (void)state;
    struct hitters *h = calloc(1, sizeof *h);
    enum { RARE = 100000, FREQUENT = 20 };
    for (uint64_t i = 0; i < RARE; i++) {
        hitters_count(h, 1 + i % FREQUENT, 3, i);
        hitters_count(h, 1000000 + i * 7919, 3, i);
    }
    for (uint64_t f = 1; f <= FREQUENT; f++) {
        const struct hitter *e = find(h, f, 3);
        assert_non_null(e);
        assert_true(e->count >= RARE / FREQUENT);
        assert_true(e->count - e->error <= RARE / FREQUENT);
        assert_true(e->count - e->error > RARE / FREQUENT / 2);
    }
    free(h);
}

static void a_new_one_begins_without_text(void **state)
{
    (void)state;
    struct hitters *h = calloc(1, sizeof *h);
    for (uint64_t f = 1; f < 10000; f++) {
        struct hitter *e = hitters_count(h, f, 0, f);
        assert_non_null(e);
        assert_int_equal(e->text_n, 0);
        e->text_n = HITTERS_TEXT_MAX;
    }
    free(h);
}

/* ---- samples ---- */

static void expect_masked(const char *sql, const char *masked)
{
    size_t n = strlen(masked);
    char *out = malloc(n ? n : 1); /* exact, so that ASan sees a byte too far */
    assert_int_equal(sql_mask(slice_of(sql), true, out, n), n);
    assert_memory_equal(out, masked, n);
    free(out);
}

static void literals_and_comments_are_not_shown(void **state)
{
    (void)state;
    expect_masked(
        "SELECT a, 'secret' ,12.5e3 FROM  t\n WHERE b='x''y' AND c = $1 /* secret */ -- secret",
        "SELECT a, ? ,? FROM t WHERE b=? AND c = $1");
    expect_masked("/* secret */ SELECT E'\\'', U&'x', $q$secret$q$, x'ff', \"A b\".c",
                  "SELECT ?, ?, ?, ?, \"A b\".c");
    expect_masked("SELECT 'a'\n'b'", "SELECT ?");
    expect_masked("SELECT x'oops", "SELECT");
    expect_masked("", "");
    expect_masked("SELECT \"\xC3\xA4\", \"\xFF\x1B\xC2\x85\"", "SELECT \"\xC3\xA4\", \"???\"");
}

static void a_cut_is_between_characters(void **state)
{
    (void)state;
    static const char sql[] =
        "SELECT \xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80z, 'secret' FROM long_table_name";
    for (size_t cap = 0; cap < sizeof sql; cap++) {
        char *out = malloc(cap ? cap : 1);
        size_t n = sql_mask(slice_of(sql), true, out, cap);
        assert_true(n <= cap);
        for (struct slice rest = {(uint8_t *)out, n}; rest.n > 0;) {
            assert_true(utf8_bytes(rest) > 0);
            rest = slice_skip(rest, utf8_bytes(rest));
        }
        free(out);
    }
}

static void characters_are_told_from_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t bytes;
    } rows[] = {{"a", 1},
                {"\xC3\xA4", 2},
                {"\xE2\x82\xAC", 3},
                {"\xF0\x9F\x98\x80", 4},
                {"\x80", 0},
                {"\xC0\x80", 0},
                {"\xC3", 0},
                {"\xC3z", 0},
                {"\xE0\x80\x80", 0},
                {"\xED\xA0\x80", 0},
                {"\xF4\x90\x80\x80", 0},
                {"\xF0\x80\x80\x80", 0},
                {"\xF5\x80\x80\x80", 0},
                {"\xF4\x8F\xBF\xBF", 4},
                {"", 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(utf8_bytes(slice_of(rows[i].text)), rows[i].bytes);
    assert_true(utf8_is_control(slice_of("\x1B")) && utf8_is_control(slice_of("\xC2\x9B")) &&
                utf8_is_control(slice_of("\x7F")));
    assert_false(utf8_is_control(slice_of("\xC2\xA0")) || utf8_is_control(slice_of("a")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_are_counted_exactly),
        cmocka_unit_test(the_frequent_ones_stay_among_many_rare_ones),
        cmocka_unit_test(a_new_one_begins_without_text),
        cmocka_unit_test(literals_and_comments_are_not_shown),
        cmocka_unit_test(a_cut_is_between_characters),
        cmocka_unit_test(characters_are_told_from_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
