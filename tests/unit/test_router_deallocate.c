/* tests/unit/test_router_deallocate.c: every form of DEALLOCATE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "router/deallocate.h"

static void each_form_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *sql;
        enum deallocate_kind kind;
        const char *name;
    } table[] = {
        {"DEALLOCATE a", DEALLOCATE_ONE, "a"},
        {" deallocate\tPrepare Abc ; ;", DEALLOCATE_ONE, "abc"},
        {"; /* c */ DEALLOCATE \"A\"\"b\" -- end", DEALLOCATE_ONE, "A\"b"},
        {"DEALLOCATE ALL", DEALLOCATE_ALL, ""},
        {"DEALLOCATE PREPARE all;", DEALLOCATE_ALL, ""},
        {"DEALLOCATE \"all\"", DEALLOCATE_ONE, "all"},
        {"DEALLOCATE prepare", DEALLOCATE_ONE, "prepare"},
        {"DEALLOCATE \"prepare\"", DEALLOCATE_ONE, "prepare"},
        {"DEALLOCATE PREPARE \"prepare\"", DEALLOCATE_ONE, "prepare"},
        {"DEALLOCATE pdo_stmt_00000001", DEALLOCATE_ONE, "pdo_stmt_00000001"},
        {"DEALLOCATE f23456789012345678901234567890123456789012345678901234567890123",
         DEALLOCATE_ONE, "f23456789012345678901234567890123456789012345678901234567890123"},
        {"DEALLOCATE f234567890123456789012345678901234567890123456789012345678901234",
         DEALLOCATE_OTHER, NULL},
        {"DEALLOCATE \xc3\x84", DEALLOCATE_OTHER, NULL},
        {"DEALLOCATE \"\xc3\x84\"", DEALLOCATE_ONE, "\xc3\x84"},
        {"DEALLOCATE", DEALLOCATE_OTHER, NULL},
        {"DEALLOCATE a b", DEALLOCATE_OTHER, NULL},
        {"DEALLOCATE a; SELECT 1", DEALLOCATE_OTHER, NULL},
        {"DEALLOCATE 'a'", DEALLOCATE_OTHER, NULL},
        {"DEALLOCATE U&\"a\"", DEALLOCATE_OTHER, NULL},
        {"DEALLOCATE a /* no end", DEALLOCATE_OTHER, NULL},
        {"SELECT 1", DEALLOCATE_OTHER, NULL},
        {"", DEALLOCATE_OTHER, NULL},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct deallocate d;
        deallocate_read(slice_of(table[i].sql), true, &d);
        if (d.kind != table[i].kind)
            print_error("%s: %d\n", table[i].sql, (int)d.kind);
        assert_int_equal(d.kind, table[i].kind);
        if (d.kind == DEALLOCATE_ONE)
            assert_true(slice_is((struct slice){d.name, d.name_n}, table[i].name));
    }
}

static void names_of_execute_and_prepare(void **state)
{
    (void)state;
    static const struct {
        const char *sql;
        enum named_kind kind;
        const char *name, *written;
    } table[] = {
        {"EXECUTE a", NAMED_EXECUTE, "a", "a"},
        {" ;execute /* c */ Abc(1, 'x')", NAMED_EXECUTE, "abc", "Abc"},
        {"EXECUTE \"A\"\"b\"(1)", NAMED_EXECUTE, "A\"b", "\"A\"\"b\""},
        {"PREPARE s1 AS SELECT 2", NAMED_PREPARE, "s1", "s1"},
        {"prepare \"s1\"(int) AS SELECT $1", NAMED_PREPARE, "s1", "\"s1\""},
        {"EXECUTE f234567890123456789012345678901234567890123456789012345678901234", NAMED_OTHER,
         "", ""},
        {"EXECUTE \xc3\x84", NAMED_OTHER, "", ""},
        {"EXECUTE 'a'", NAMED_OTHER, "", ""},
        {"EXECUTE", NAMED_OTHER, "", ""},
        {"EXECUTE U&\"a\"", NAMED_OTHER, "", ""},
        {"EXPLAIN EXECUTE a", NAMED_OTHER, "", ""},
        {"", NAMED_OTHER, "", ""},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct named n;
        named_read(slice_of(table[i].sql), true, &n);
        if (n.kind != table[i].kind)
            print_error("%s: %d\n", table[i].sql, (int)n.kind);
        assert_int_equal(n.kind, table[i].kind);
        if (n.kind == NAMED_OTHER)
            continue;
        assert_true(slice_is((struct slice){n.name, n.name_n}, table[i].name));
        assert_true(slice_is(n.written, table[i].written));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_form_is_read),
                                       cmocka_unit_test(names_of_execute_and_prepare)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
