/* tests/unit/test_router_reset.c: every form of a statement that sets something back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "router/reset.h"

#include <string.h>

static void each_form_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *sql;
        enum reset_kind kind;
        const char *name;
    } table[] = {
        {"RESET work_mem", RESET_ONE, "work_mem"},
        {" ; reset /* c */ Work_Mem ; -- end", RESET_ONE, "work_mem"},
        {"RESET \"DateStyle\"", RESET_ONE, "datestyle"},
        {"RESET a.\"B\".c", RESET_ONE, "a.b.c"},
        {"RESET TIME ZONE", RESET_ONE, "timezone"},
        {"RESET time", RESET_ONE, "time"},
        {"RESET ALL", RESET_ALL, ""},
        {"RESET SESSION AUTHORIZATION", RESET_ONE, "role"},
        {"SET SESSION AUTHORIZATION DEFAULT", RESET_ONE, "role"},
        {"set session session authorization default;", RESET_ONE, "role"},
        {"SET SESSION AUTHORIZATION 'x'", RESET_OTHER, ""},
        {"SET LOCAL SESSION AUTHORIZATION DEFAULT", RESET_OTHER, ""},
        {"RESET SESSION", RESET_ONE, "session"},
        {"SET work_mem TO DEFAULT", RESET_ONE, "work_mem"},
        {"SET SESSION work_mem = default;", RESET_ONE, "work_mem"},
        {"SET TIME ZONE DEFAULT", RESET_ONE, "timezone"},
        {"SET SESSION TIME ZONE LOCAL", RESET_ONE, "timezone"},
        {"SET LOCAL work_mem TO DEFAULT", RESET_OTHER, ""},
        {"SET work_mem TO 'DEFAULT'", RESET_OTHER, ""},
        {"SET work_mem TO 1", RESET_OTHER, ""},
        {"SET work_mem FROM CURRENT", RESET_OTHER, ""},
        {"SET TIME ZONE 'UTC'", RESET_OTHER, ""},
        {"RESET work_mem; SELECT 1", RESET_OTHER, ""},
        {"RESET", RESET_OTHER, ""},
        {"RESET a.", RESET_OTHER, ""},
        {"RESET 'a'", RESET_OTHER, ""},
        {"RESET a /* no end", RESET_OTHER, ""},
        {"SELECT 1", RESET_OTHER, ""},
        {"", RESET_OTHER, ""},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct reset r;
        reset_read(slice_of(table[i].sql), true, &r);
        if (r.kind != table[i].kind)
            print_error("%s: %d\n", table[i].sql, (int)r.kind);
        assert_int_equal(r.kind, table[i].kind);
        if (r.kind == RESET_ONE)
            assert_string_equal(r.name, table[i].name);
    }
}

static void a_name_that_is_too_long_is_none(void **state)
{
    (void)state;
    for (size_t n = RESET_NAME_MAX - 3; n < RESET_NAME_MAX + 3; n++) {
        char sql[RESET_NAME_MAX + 16] = "RESET ";
        memset(sql + 6, 'x', n);
        struct reset r;
        reset_read(slice_of(sql), true, &r);
        assert_int_equal(r.kind, n < RESET_NAME_MAX ? RESET_ONE : RESET_OTHER);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_form_is_read),
                                       cmocka_unit_test(a_name_that_is_too_long_is_none)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
