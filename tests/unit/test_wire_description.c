/* Two descriptions are equal when a client could not tell the rows apart. */
#include "proxy/wire/description.h"

#include "tests/unit/test_wire_help.h"

/* One column: all of it behind its name. */
#define COLUMN(table, number, type, size, modifier, format) \
    "\0\0\0" table "\0" number "\0\0\0" type "\0" size "\0\0\0" modifier "\0" format
#define ONE "\0\1"
#define INT COLUMN("\x40", "\1", "\x17", "\4", "\xFF", "\0")

static uint64_t rows(const char *bytes, size_t n)
{
    return description_rows('T', (struct slice){(const uint8_t *)bytes, n});
}
#define ROWS(literal) rows(literal, sizeof(literal) - 1)

static void rows_differ_by_what_a_client_reads_them_by(void **state)
{
    (void)state;
    uint64_t a = ROWS(ONE "a\0" INT);
    assert_int_equal(
        a, ROWS(ONE "a\0" COLUMN("\x41", "\2", "\x17", "\4", "\xFF", "\1"))); /* table, format */
    const uint64_t others[] = {
        ROWS(ONE "b\0" INT),
        ROWS(ONE "a\0" COLUMN("\x40", "\1", "\x19", "\4", "\xFF", "\0")), /* type */
        ROWS(ONE "a\0" COLUMN("\x40", "\1", "\x17", "\4", "\x0A", "\0")), /* modifier */
        ROWS("\0\2a\0" INT "b\0" INT),
        ROWS("\0\0"),
        description_rows('n', SLICE_NONE),
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_int_not_equal(others[i], a);
        assert_int_equal(others[i] & 1, 1);
    }
    assert_int_not_equal(ROWS("\0\0"), description_rows('n', SLICE_NONE));
}

static void what_is_cut_is_equal_to_nothing(void **state)
{
    (void)state;
    static const char whole[] = "\0\2a\0" INT "b\0" INT;
    for (size_t n = 0; n < sizeof whole - 1; n++)
        assert_int_equal(rows(whole, n), DESCRIPTION_UNREAD);
    assert_int_equal(rows(whole, sizeof whole - 1) & 1, 1);
    assert_int_equal(description_types(SLICE_NONE), DESCRIPTION_UNREAD);
}

static void types_are_compared_in_their_order(void **state)
{
    (void)state;
    struct slice none = {(const uint8_t *)"\0\0", 2};
    struct slice one = {(const uint8_t *)"\0\2\0\0\0\x17\0\0\0\x19", 10};
    struct slice other = {(const uint8_t *)"\0\2\0\0\0\x19\0\0\0\x17", 10};
    assert_int_equal(description_types(one), description_types(one));
    assert_int_not_equal(description_types(one), description_types(other));
    assert_int_not_equal(description_types(one), description_types(none));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_differ_by_what_a_client_reads_them_by),
        cmocka_unit_test(what_is_cut_is_equal_to_nothing),
        cmocka_unit_test(types_are_compared_in_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
