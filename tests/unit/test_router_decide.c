/* tests/unit/test_router_decide.c: every combination of inputs gives the route of the order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "router/decide.h"

static const struct sql_env env = {.standard_conforming_strings = true};

static struct route_input input_of(const char *sql)
{
    struct sql_facts f;
    sql_classify(slice_of(sql), &env, &f);
    return (struct route_input){
        .read_write_split = true,
        .segment_complete = true,
        .class_reason = f.reason,
        .flags = f.flags,
        .replica_mask = 6,
        .replica_all_mask = 14,
    };
}

static void expect(const struct route_input *in, enum route_target target, enum route_reason why)
{
    struct route out;
    route_decide(in, &out);
    assert_string_equal(route_target_text(out.target), route_target_text(target));
    assert_string_equal(route_reason_text((enum route_reason)out.reason), route_reason_text(why));
    assert_int_equal(out.nodes, target == ROUTE_REPLICA ? in->replica_mask : 0);
}

static void each_gate_in_its_order(void **state)
{
    (void)state;
    struct route_input in = input_of("SELECT 1");
    expect(&in, ROUTE_REPLICA, ROUTE_WHY_READ);
    in.replica_mask = 0;
    expect(&in, ROUTE_PRIMARY, ROUTE_WHY_NO_FRESH_REPLICA);
    in.replica_all_mask = 0;
    expect(&in, ROUTE_PRIMARY, ROUTE_WHY_NO_REPLICA);
    in.policy = ROUTE_POLICY_PRIMARY;
    expect(&in, ROUTE_PRIMARY, ROUTE_WHY_POLICY_PRIMARY);
    in.segment_complete = false;
    expect(&in, ROUTE_PRIMARY, ROUTE_WHY_INCOMPLETE);
    in.read_write_split = false;
    expect(&in, ROUTE_PRIMARY, ROUTE_WHY_NO_SPLIT);
    in.pinned = true;
    expect(&in, ROUTE_PRIMARY, ROUTE_WHY_PINNED_NO_SERVER);
    in.holds_server = true;
    expect(&in, ROUTE_SAME, ROUTE_WHY_HELD_PINNED);
    in.pinned = false;
    expect(&in, ROUTE_SAME, ROUTE_WHY_HELD);
}

static void transactions_go_to_the_primary_unless_read_only(void **state)
{
    (void)state;
    struct route_input in = input_of("BEGIN");
    expect(&in, ROUTE_PRIMARY, ROUTE_WHY_TX_CONTROL);
    in = input_of("BEGIN READ ONLY");
    expect(&in, ROUTE_REPLICA, ROUTE_WHY_READ_ONLY_TX);
    in = input_of("BEGIN READ ONLY; SELECT 1; COMMIT");
    expect(&in, ROUTE_REPLICA, ROUTE_WHY_READ_ONLY_TX);
    in = input_of("BEGIN READ ONLY; SELECT pg_advisory_xact_lock(1)");
    expect(&in, ROUTE_PRIMARY, ROUTE_WHY_SESSION_FUNCTION);
    in = input_of("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY");
    expect(&in, ROUTE_PRIMARY, ROUTE_WHY_TX_CONTROL);
    in = input_of("SELECT 1; BEGIN READ ONLY");
    expect(&in, ROUTE_PRIMARY, ROUTE_WHY_TX_CONTROL);
    in = input_of("COMMIT");
    expect(&in, ROUTE_PRIMARY, ROUTE_WHY_TX_CONTROL);
}

static void an_advisory_lock_never_runs_on_a_replica(void **state)
{
    (void)state;
    struct route_input in = input_of("SELECT pg_try_advisory_xact_lock(1)");
    expect(&in, ROUTE_PRIMARY, ROUTE_WHY_SESSION_FUNCTION);
    in.holds_server = true;
    expect(&in, ROUTE_SAME, ROUTE_WHY_HELD);
    in.holds_replica = true;
    expect(&in, ROUTE_REFUSE, ROUTE_WHY_ADVISORY_ON_REPLICA);
}

static void the_transaction_tells_where(void **state)
{
    (void)state;
    static const struct {
        enum route_tx tx;
        enum route_target target;
        enum route_reason why;
    } places[] = {
        {ROUTE_TX_BY_CLASS, ROUTE_PRIMARY, ROUTE_WHY_WRITE},
        {ROUTE_TX_PRIMARY, ROUTE_PRIMARY, ROUTE_WHY_IN_TX},
        {ROUTE_TX_SERIALIZABLE, ROUTE_PRIMARY, ROUTE_WHY_SERIALIZABLE},
        {ROUTE_TX_MOVED, ROUTE_PRIMARY, ROUTE_WHY_TX_MOVED},
        {ROUTE_TX_READ_ONLY, ROUTE_REPLICA, ROUTE_WHY_READ_ONLY_TX},
        {ROUTE_TX_OPTIMISTIC, ROUTE_REPLICA, ROUTE_WHY_OPTIMISTIC_TX},
    };
    _Static_assert(sizeof places / sizeof *places == ROUTE_TX_N, "all of them");
    for (size_t i = 0; i < ROUTE_TX_N; i++) {
        struct route_input in = input_of("DELETE FROM t"); /* whatever it is */
        in.tx = places[i].tx;
        expect(&in, places[i].target, places[i].why);
        in.segment_complete = false; /* only where all of the transaction may run */
        expect(&in, in.tx == ROUTE_TX_READ_ONLY ? ROUTE_REPLICA : ROUTE_PRIMARY,
               in.tx == ROUTE_TX_READ_ONLY ? ROUTE_WHY_READ_ONLY_TX : ROUTE_WHY_INCOMPLETE);
        in.segment_complete = true;
        in.policy = ROUTE_POLICY_PRIMARY;
        expect(&in, ROUTE_PRIMARY, ROUTE_WHY_POLICY_PRIMARY);
        in.policy = ROUTE_POLICY_AUTO;
        in.replica_mask = 0;
        expect(&in, ROUTE_PRIMARY,
               places[i].target == ROUTE_REPLICA ? ROUTE_WHY_NO_FRESH_REPLICA : places[i].why);
    }
}

/* Whatever else is true: a replica only for a proven read, only from the mask, only when free. */
static void every_input_keeps_the_promise(void **state)
{
    (void)state;
    static const char *const sqls[] = {"SELECT 1",        "",           "DELETE FROM t",
                                       "BEGIN READ ONLY", "BEGIN",      "SELECT nextval('s')",
                                       "FROBNICATE",      "SHOW ALL",   "COPY t TO STDOUT",
                                       "SELECT 'x",       "DISCARD ALL"};
    for (size_t s = 0; s < sizeof sqls / sizeof sqls[0]; s++) {
        for (unsigned bits = 0; bits < 256; bits++) {
            struct route_input in = input_of(sqls[s]);
            in.holds_server = bits & 1;
            in.holds_replica = bits & 2;
            in.pinned = bits & 4;
            in.read_write_split = bits & 8;
            in.segment_complete = bits & 16;
            in.policy = bits & 32 ? ROUTE_POLICY_PRIMARY : ROUTE_POLICY_AUTO;
            in.replica_all_mask = bits & 64 ? 0x80000001 : 0;
            in.replica_mask = bits & 128 ? in.replica_all_mask : 0;
            struct route out;
            route_decide(&in, &out);
            assert_int_equal(out.nodes & ~in.replica_mask, 0);
            assert_int_equal(out.target == ROUTE_REPLICA, out.nodes != 0);
            assert_int_equal(out.target == ROUTE_SAME || out.target == ROUTE_REFUSE,
                             in.holds_server);
            if (out.target != ROUTE_REPLICA)
                continue;
            assert_true((in.flags & SQL_F_READ) || (in.flags & SQL_F_BEGIN_READ_ONLY));
            assert_false(in.flags & SQL_F_NOT_READ);
            assert_true(in.segment_complete && in.read_write_split && !in.pinned);
            assert_int_equal(in.policy, ROUTE_POLICY_AUTO);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_gate_in_its_order),
        cmocka_unit_test(transactions_go_to_the_primary_unless_read_only),
        cmocka_unit_test(an_advisory_lock_never_runs_on_a_replica),
        cmocka_unit_test(the_transaction_tells_where),
        cmocka_unit_test(every_input_keeps_the_promise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
