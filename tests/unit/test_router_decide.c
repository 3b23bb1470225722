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
        .class = f.class,
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

/* router/README.md, "Who says where": a row for each kind of statement, a column for each thing that may be asked. */
enum asked { ASKED_AUTO, ASKED_PRIMARY, ASKED_REPLICA, ASKED_FORCED, ASKED_ANY, ASKED_N };
enum kind { KIND_READ, KIND_ITSELF, KIND_UNPROVEN, KIND_OTHER, KIND_N };
static const char places[KIND_N][ASKED_N + 1] = {
    [KIND_READ] = "RPRRR",
    [KIND_ITSELF] = "PPRRP",
    [KIND_UNPROVEN] = "PPPRP",
    [KIND_OTHER] = "PPPPP",
};

static enum asked asked_by(enum hint_route hint, enum route_policy policy)
{
    static const enum asked by_hint[] = {
        [HINT_PRIMARY] = ASKED_PRIMARY, [HINT_UNREADABLE] = ASKED_PRIMARY,
        [HINT_REPLICA] = ASKED_REPLICA, [HINT_REPLICA_FORCED] = ASKED_FORCED,
        [HINT_ANY] = ASKED_ANY,
    };
    static const enum asked by_policy[] = {
        [ROUTE_POLICY_AUTO] = ASKED_AUTO,
        [ROUTE_POLICY_PRIMARY] = ASKED_PRIMARY,
        [ROUTE_POLICY_REPLICA] = ASKED_REPLICA,
        [ROUTE_POLICY_ANY] = ASKED_ANY,
    };
    return hint == HINT_NONE ? by_policy[policy] : by_hint[hint];
}

static enum kind kind_of(enum sql_class class, enum route_reason why)
{
    switch ((int)class) {
    case SQL_EMPTY:
    case SQL_READ:
    case SQL_COPY_OUT:
        return KIND_READ;
    case SQL_SHOW:
    case SQL_CATALOG_READ:
    case SQL_NODE_IDENTITY:
        return KIND_ITSELF;
    case SQL_PRIMARY_RELATION:
    case SQL_EXPLAIN:
    case SQL_WRITER_FUNCTION:
    case SQL_RUNS_SQL:
        return KIND_UNPROVEN;
    case SQL_UNKNOWN:
        return why == ROUTE_WHY_UNKNOWN || why == ROUTE_WHY_BAD_TOKEN ||
                       why == ROUTE_WHY_ENCODING || why == ROUTE_WHY_TOO_DEEP ||
                       why == ROUTE_WHY_UNKNOWN_NAME
                   ? KIND_OTHER
                   : KIND_UNPROVEN;
    default:
        return KIND_OTHER;
    }
}

static void each_cell(enum sql_class class, enum route_reason why, uint32_t more_flags)
{
    for (int hint = 0; hint < HINT_ROUTE_N; hint++) {
        for (int policy = 0; policy < ROUTE_POLICY_N; policy++) {
            struct route_input in = input_of("");
            struct route out;
            in.class = class;
            in.class_reason = (uint8_t)why;
            in.flags = (sql_class_on_replica(class) ? SQL_F_READ : SQL_F_NOT_READ) | more_flags;
            in.hint = (enum hint_route)hint;
            in.policy = (enum route_policy)policy;
            route_decide(&in, &out);
            enum kind kind = more_flags ? KIND_OTHER : kind_of(class, why);
            char wanted = places[kind][asked_by(in.hint, in.policy)];
            assert_int_equal(out.target, wanted == 'R' ? ROUTE_REPLICA : ROUTE_PRIMARY);
        }
    }
}

static void each_class_hint_and_policy(void **state)
{
    (void)state;
    static const uint32_t states[] = {SQL_F_SESSION, SQL_F_ADVISORY, SQL_F_BEGIN, SQL_F_TX_STATE,
                                      SQL_F_TEMP,    SQL_F_COMMIT,   SQL_F_BODY,  SQL_F_CURSOR};
    for (int class = 0; class < SQL_CLASS_N; class ++) {
        each_cell((enum sql_class) class, (enum route_reason) class, 0); /* in the same order */
        for (size_t i = 0; i < sizeof states / sizeof *states; i++)
            if (!sql_class_on_replica((enum sql_class) class))
                each_cell((enum sql_class) class, (enum route_reason) class, states[i]);
    }
    for (int why = 0; why < ROUTE_WHY_N; why++)
        each_cell(SQL_UNKNOWN, (enum route_reason)why, 0);
}

static void the_reason_says_who_asked(void **state)
{
    (void)state;
    struct route_input in = input_of("SELECT 1");
    in.policy = ROUTE_POLICY_PRIMARY;
    in.hint = HINT_PRIMARY;
    expect(&in, ROUTE_PRIMARY, ROUTE_WHY_HINT_PRIMARY);
    in.hint = HINT_UNREADABLE;
    expect(&in, ROUTE_PRIMARY, ROUTE_WHY_HINT_UNREADABLE);
    in.hint = HINT_ANY;
    expect(&in, ROUTE_REPLICA, ROUTE_WHY_HINT_ANY);
    in.hint = HINT_REPLICA;
    expect(&in, ROUTE_REPLICA, ROUTE_WHY_READ);
    in.hint = HINT_NONE;
    in.policy = ROUTE_POLICY_ANY;
    expect(&in, ROUTE_REPLICA, ROUTE_WHY_POLICY_ANY);
    in = input_of("SELECT pg_is_in_recovery()");
    in.policy = ROUTE_POLICY_REPLICA;
    expect(&in, ROUTE_REPLICA, ROUTE_WHY_POLICY_REPLICA);
    in.hint = HINT_REPLICA;
    expect(&in, ROUTE_REPLICA, ROUTE_WHY_HINT_REPLICA);
    in = input_of("SELECT my_function(1)");
    in.hint = HINT_REPLICA_FORCED;
    expect(&in, ROUTE_REPLICA, ROUTE_WHY_HINT_REPLICA);
    in = input_of("BEGIN READ ONLY");
    in.hint = HINT_PRIMARY;
    expect(&in, ROUTE_PRIMARY, ROUTE_WHY_HINT_PRIMARY);
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
        for (unsigned bits = 0; bits < 64; bits++) {
            struct route_input in = input_of(sqls[s]);
            in.pinned = bits & 1;
            in.read_write_split = bits & 2;
            in.segment_complete = bits & 4;
            in.policy = bits & 8 ? ROUTE_POLICY_PRIMARY : ROUTE_POLICY_AUTO;
            in.replica_all_mask = bits & 16 ? 0x80000001 : 0;
            in.replica_mask = bits & 32 ? in.replica_all_mask : 0;
            struct route out;
            route_decide(&in, &out);
            assert_int_equal(out.nodes & ~in.replica_mask, 0);
            assert_int_equal(out.target == ROUTE_REPLICA, out.nodes != 0);
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
        cmocka_unit_test(each_class_hint_and_policy),
        cmocka_unit_test(the_reason_says_who_asked),
        cmocka_unit_test(every_input_keeps_the_promise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
