/* tests/unit/test_session_deadline.c: which limit of a client ends first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/session/deadline.h"

static const struct conf_client_limits all = {
    .query_ms = 100, .transaction_ms = 500, .idle_ms = 1000, .idle_transaction_ms = 1};

static void expect(const struct conf_client_limits *limits, struct client_doing doing,
                   enum deadline_of of, uint64_t at_ms)
{
    struct deadline d = deadline_next(limits, &doing);
    assert_int_equal(d.of, of);
    assert_int_equal(d.at_ms, at_ms);
}

static void what_applies_depends_on_what_it_does(void **state)
{
    (void)state;
    expect(&all, (struct client_doing){.since_ms = 7}, DEADLINE_IDLE, 1007);
    expect(&all, (struct client_doing){.since_ms = 7, .waits = true}, DEADLINE_NONE, 0);
    expect(&all, (struct client_doing){.since_ms = 7, .began_ms = 7, .asks = true}, DEADLINE_QUERY,
           107);
    expect(&all, (struct client_doing){.since_ms = 7, .began_ms = 5}, DEADLINE_TRANSACTION, 505);
    expect(&all, (struct client_doing){.since_ms = 7, .began_ms = 5, .waits = true},
           DEADLINE_TRANSACTION, 505);
}

static void the_earlier_one_ends_first(void **state)
{
    (void)state;
    expect(&all, (struct client_doing){.since_ms = 401, .began_ms = 1, .asks = true},
           DEADLINE_QUERY, 501);
    expect(&all, (struct client_doing){.since_ms = 402, .began_ms = 1, .asks = true},
           DEADLINE_TRANSACTION, 501);
}

static void without_limits_nothing_ends(void **state)
{
    (void)state;
    const struct conf_client_limits none = {.idle_transaction_ms = 1}; /* which is tx.c's */
    assert_false(deadline_any(&none));
    assert_true(deadline_any(&all));
    expect(&none, (struct client_doing){.since_ms = 7, .began_ms = 5, .asks = true}, DEADLINE_NONE,
           0);
    expect(&none, (struct client_doing){.since_ms = 7}, DEADLINE_NONE, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_applies_depends_on_what_it_does),
        cmocka_unit_test(the_earlier_one_ends_first),
        cmocka_unit_test(without_limits_nothing_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
