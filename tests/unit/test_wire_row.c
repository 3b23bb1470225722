/* A row is read whole or refused. */
#include "proxy/wire/row.h"

#include "tests/unit/test_wire_help.h"

#define READ(literal, n) row_read(BYTES(literal), value, n)
#define TWO "\0\2\0\0\0\1a"
#define NONE "\xFF\xFF\xFF\xFF"

static void a_row_is_read_whole_or_not_at_all(void **state)
{
    (void)state;
    struct slice value[3];
    assert_true(READ(TWO NONE, 2));
    assert_true(slice_is(value[0], "a") && value[1].p == NULL);
    assert_true(READ(TWO "\0\0\0\0", 2));
    assert_true(value[1].p != NULL && value[1].n == 0);
    assert_true(READ("\0\0", 0));
    assert_false(READ(TWO NONE, 1)); /* more, or fewer */
    assert_false(READ(TWO NONE, 3));
    assert_false(READ(TWO, 2)); /* cut */
    assert_false(READ("\0", 0));
    assert_false(READ(TWO "\0\0\0\2b", 2));
    assert_false(READ(TWO "\x80\0\0\0b", 2));
    assert_false(READ(TWO NONE "x", 2));       /* bytes behind it */
    assert_false(READ(TWO "\0\0\0\3b\0c", 2)); /* no text has a NUL */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_row_is_read_whole_or_not_at_all)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
