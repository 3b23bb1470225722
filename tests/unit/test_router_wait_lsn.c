/* tests/unit/test_router_wait_lsn.c: which texts are WAIT FOR LSN, and of which LSN. */
#include "router/classify.h"
#include "router/wait_lsn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void the_statement_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *sql;
        uint64_t lsn;
    } good[] = {
        {"WAIT FOR LSN '0/16B3748'", 0x16B3748},
        {"wait /* a */ for -- b\n lsn 'A/ff' ;;", 0xA000000ff},
        {"WAIT FOR LSN '0/1' WITH (TIMEOUT '100ms', NO_THROW);", 1},
        {"WAIT FOR LSN '0/2' WITH (MODE 'primary_flush')", 2},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        uint64_t lsn = 0;
        assert_true(wait_lsn_read(slice_of(good[i].sql), &lsn));
        assert_int_equal(lsn, good[i].lsn);
        struct sql_facts facts;
        struct sql_env env = {.standard_conforming_strings = true};
        sql_classify(slice_of(good[i].sql), &env, &facts);
        assert_int_equal(facts.class, SQL_WAIT); /* it goes to the primary */
        assert_false(facts.flags & SQL_F_READ);
    }
}

static void anything_else_is_not(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "WAIT",
        "WAIT FOR",
        "WAIT FOR LSN",
        "WAIT FOR LSN 0/1",
        "WAIT FOR LSN ''",
        "WAIT FOR LSN '0'",
        "WAIT FOR LSN $1",
        "WAIT FOR LSN E'0/1'",
        "WAIT FOR LSN '0/1' '0/2'",
        "WAIT FOR LSN '0/1'; SELECT 1",
        "WAIT FOR LSN '0/1' WITH",
        "WAIT FOR LSN '0/1' WITH (",
        "WAIT FOR LSN '0/1' WITH (a; b)",
        "WAIT FOR LSN '0/1' WITH (a) b",
        "WAIT FOR \"LSN\" '0/1'",
        "SELECT 1; WAIT FOR LSN '0/1'",
        "WAIT FOR LSN '0/1",
        "EXPLAIN WAIT FOR LSN '0/1'",
        "WAITFOR LSN '0/1'",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint64_t lsn = 77;
        assert_false(wait_lsn_read(slice_of(bad[i]), &lsn));
        assert_int_equal(lsn, 77);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_statement_is_read),
        cmocka_unit_test(anything_else_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
