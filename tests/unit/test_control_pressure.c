#include "proxy/control/pressure.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void each_edge(void **state)
{
    (void)state;
    static const struct {
        enum pressure was;
        uint64_t used, limit;
        enum pressure now;
    } rows[] = {
        {PRESSURE_NONE, 1ull << 60, 0, PRESSURE_NONE},
        {PRESSURE_CRITICAL, 5, 0, PRESSURE_NONE},
        {PRESSURE_NONE, 84, 100, PRESSURE_NONE},
        {PRESSURE_NONE, 85, 100, PRESSURE_HIGH},
        {PRESSURE_NONE, 94, 100, PRESSURE_HIGH},
        {PRESSURE_NONE, 95, 100, PRESSURE_CRITICAL},
        {PRESSURE_HIGH, 80, 100, PRESSURE_HIGH},
        {PRESSURE_HIGH, 79, 100, PRESSURE_NONE},
        {PRESSURE_HIGH, 94, 100, PRESSURE_HIGH},
        {PRESSURE_HIGH, 95, 100, PRESSURE_CRITICAL},
        {PRESSURE_CRITICAL, 90, 100, PRESSURE_CRITICAL},
        {PRESSURE_CRITICAL, 89, 100, PRESSURE_HIGH},
        {PRESSURE_CRITICAL, 80, 100, PRESSURE_HIGH},
        {PRESSURE_CRITICAL, 79, 100, PRESSURE_NONE},
        {PRESSURE_NONE, UINT64_MAX, 1, PRESSURE_CRITICAL},
        {PRESSURE_NONE, 0, UINT64_MAX, PRESSURE_NONE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(pressure_judge(rows[i].was, rows[i].used, rows[i].limit), rows[i].now);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_edge)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
