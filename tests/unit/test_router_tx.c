/* tests/unit/test_router_tx.c: every form of a transaction statement, every cell of the tables of places, fates and
 * states. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "router/tx.h"

#include <stdio.h>

#define LENGTH(a) (sizeof(a) / sizeof *(a))

/* ---- the parser ---- */

struct form {
    const char *sql;
    struct tx_statement is;
};

#define MODES(i, a, d)                                \
    {                                                 \
        .isolation = i, .access = a, .deferrable = d, \
    }

static const struct form forms[] = {
    {"BEGIN", {.kind = TX_BEGIN}},
    {" /* c */ begin -- c\n ; ;", {.kind = TX_BEGIN}},
    {";;BEGIN", {.kind = TX_BEGIN}},
    {"BEGIN WORK", {.kind = TX_BEGIN}},
    {"BEGIN TRANSACTION", {.kind = TX_BEGIN}},
    {"START TRANSACTION", {.kind = TX_BEGIN, .start = true}},
    {"BEGIN READ ONLY", {.kind = TX_BEGIN, .modes = MODES(0, TX_READ_ONLY, 0)}},
    {"BEGIN READ WRITE", {.kind = TX_BEGIN, .modes = MODES(0, TX_READ_WRITE, 0)}},
    {"BEGIN READ WRITE READ ONLY", {.kind = TX_BEGIN, .modes = MODES(0, TX_READ_ONLY, 0)}},
    {"BEGIN READ ONLY, READ WRITE", {.kind = TX_BEGIN, .modes = MODES(0, TX_READ_WRITE, 0)}},
    {"BEGIN WORK ISOLATION LEVEL READ COMMITTED",
     {.kind = TX_BEGIN, .modes = MODES(TX_READ_COMMITTED, 0, 0)}},
    {"BEGIN ISOLATION LEVEL READ UNCOMMITTED",
     {.kind = TX_BEGIN, .modes = MODES(TX_READ_UNCOMMITTED, 0, 0)}},
    {"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
     {.kind = TX_BEGIN, .modes = MODES(TX_REPEATABLE_READ, TX_READ_ONLY, 0)}},
    {"START TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE, NOT DEFERRABLE",
     {.kind = TX_BEGIN,
      .start = true,
      .modes = MODES(TX_SERIALIZABLE, TX_READ_ONLY, TX_NOT_DEFERRABLE)}},
    {"BEGIN NOT DEFERRABLE DEFERRABLE", {.kind = TX_BEGIN, .modes = MODES(0, 0, TX_DEFERRABLE)}},
    {"BEGIN ISOLATION LEVEL SERIALIZABLE, ISOLATION LEVEL READ COMMITTED",
     {.kind = TX_BEGIN, .modes = MODES(TX_READ_COMMITTED, 0, 0)}},
    {"COMMIT", {.kind = TX_COMMIT}},
    {"END WORK", {.kind = TX_COMMIT}},
    {"COMMIT TRANSACTION AND NO CHAIN;", {.kind = TX_COMMIT}},
    {"COMMIT AND CHAIN", {.kind = TX_COMMIT, .chain = true}},
    {"ROLLBACK", {.kind = TX_ROLLBACK}},
    {"ABORT TRANSACTION", {.kind = TX_ROLLBACK}},
    {"ROLLBACK WORK AND CHAIN", {.kind = TX_ROLLBACK, .chain = true}},
    {"SET TRANSACTION READ ONLY", {.kind = TX_SET, .modes = MODES(0, TX_READ_ONLY, 0)}},
    {"SET LOCAL TRANSACTION READ WRITE, ISOLATION LEVEL REPEATABLE READ",
     {.kind = TX_SET, .modes = MODES(TX_REPEATABLE_READ, TX_READ_WRITE, 0)}},
    {"SET transaction_read_only = on", {.kind = TX_SET, .modes = MODES(0, TX_READ_ONLY, 0)}},
    {"SET LOCAL transaction_isolation TO 'serializable'",
     {.kind = TX_SET, .modes = MODES(TX_SERIALIZABLE, 0, 0)}},
    {"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY ISOLATION LEVEL REPEATABLE READ",
     {.kind = TX_SET_SESSION, .modes = MODES(TX_REPEATABLE_READ, TX_READ_ONLY, 0)}},
    {"SET default_transaction_read_only = 'tr'",
     {.kind = TX_SET_SESSION, .modes = MODES(0, TX_READ_ONLY, 0)}},
    {"SET SESSION Default_Transaction_Read_Only TO off",
     {.kind = TX_SET_SESSION, .modes = MODES(0, TX_READ_WRITE, 0)}},
    {"SET default_transaction_isolation = 'Repeatable Read'",
     {.kind = TX_SET_SESSION, .modes = MODES(TX_REPEATABLE_READ, 0, 0)}},
    {"SET default_transaction_isolation TO serializable",
     {.kind = TX_SET_SESSION, .modes = MODES(TX_SERIALIZABLE, 0, 0)}},
    {"SET default_transaction_deferrable = 1",
     {.kind = TX_SET_SESSION, .modes = MODES(0, 0, TX_DEFERRABLE)}},
    {"SET default_transaction_read_only TO DEFAULT",
     {.kind = TX_SET_SESSION, .reset = TX_RESET_ACCESS}},
    {"RESET default_transaction_isolation", {.kind = TX_SET_SESSION, .reset = TX_RESET_ISOLATION}},
    {"RESET default_transaction_deferrable;",
     {.kind = TX_SET_SESSION, .reset = TX_RESET_DEFERRABLE}},
};

static const char *const others[] = {
    "",
    ";",
    "SELECT 1",
    "BEGINN",
    "\"BEGIN\"",
    "'BEGIN'",
    "BEGIN;SELECT 1",
    "BEGIN; COMMIT",
    "BEGIN READ",
    "BEGIN ONLY",
    "BEGIN READ ONLY,",
    "BEGIN , READ ONLY",
    "BEGIN READ ONLY,,READ WRITE",
    "BEGIN ISOLATION SERIALIZABLE",
    "BEGIN ISOLATION LEVEL",
    "BEGIN ISOLATION LEVEL READ",
    "BEGIN ISOLATION LEVEL REPEATABLE",
    "BEGIN NOT",
    "BEGIN WORK TRANSACTION",
    "BEGIN 'x",
    "BEGIN /*",
    "START",
    "START TRANSACTION WORK",
    "COMMIT PREPARED 'x'",
    "COMMIT AND",
    "COMMIT AND NO",
    "COMMIT 1",
    "ROLLBACK TO s",
    "ROLLBACK TO SAVEPOINT s",
    "ROLLBACK PREPARED 'x'",
    "ROLLBACK; SELECT 1",
    "ABORT x",
    "END PREPARED",
    "SET TRANSACTION",
    "SET TRANSACTION SNAPSHOT '1'",
    "SET SESSION CHARACTERISTICS AS TRANSACTION",
    "SET SESSION CHARACTERISTICS TRANSACTION READ ONLY",
    "SET LOCAL default_transaction_read_only = on",
    "SET transaction_read_only TO DEFAULT",
    "SET default_transaction_read_only = o",
    "SET default_transaction_read_only = 2",
    "SET default_transaction_read_only = on, off",
    "SET default_transaction_read_only on",
    "SET default_transaction_isolation = 'read'",
    "SET default_transaction_isolation = E'read committed'",
    "SET \"default_transaction_read_only\" = on",
    "SET work_mem = 1",
    "RESET ALL",
    "RESET work_mem",
    "RESET transaction_read_only",
    "RESET default_transaction_read_only x",
    "SET default_transaction_read_only = on; SELECT 1",
    "PREPARE TRANSACTION 'x'",
    "SAVEPOINT s",
};

static void each_form_is_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH(forms); i++) {
        struct tx_statement st;
        tx_parse(slice_of(forms[i].sql), true, &st);
        const struct tx_statement *is = &forms[i].is;
        if (st.kind != is->kind || st.chain != is->chain || st.start != is->start ||
            st.reset != is->reset || memcmp(&st.modes, &is->modes, sizeof st.modes) != 0)
            fail_msg("%s", forms[i].sql);
    }
}

static void what_is_not_exactly_one_of_them_is_left_to_postgresql(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH(others); i++) {
        struct tx_statement st;
        tx_parse(slice_of(others[i]), true, &st);
        if (st.kind != TX_OTHER || st.chain || st.reset || st.modes.access || st.modes.isolation)
            fail_msg("%s", others[i]);
    }
}

/* Each prefix of each form: another of them, or other; never more than was said. */
static void a_cut_text_never_says_more(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH(forms); i++)
        for (size_t n = 0; n < strlen(forms[i].sql); n++) {
            struct tx_statement st;
            tx_parse((struct slice){(const uint8_t *)forms[i].sql, n}, true, &st);
            assert_true(st.kind == TX_OTHER || st.kind == forms[i].is.kind);
        }
}

static void what_is_sent_says_what_was_read(void **state)
{
    (void)state;
    for (uint8_t i = 0; i < TX_ISOLATION_N; i++)
        for (uint8_t a = 0; a < TX_ACCESS_N; a++)
            for (uint8_t d = 0; d < TX_DEFERRABLE_N; d++) {
                char text[TX_BEGIN_MAX];
                struct tx_statement st;
                struct tx_modes modes = MODES(i, a, d);
                size_t n = tx_begin_text(modes, text);
                assert_int_equal(n, strlen(text));
                tx_parse(slice_of(text), true, &st);
                assert_int_equal(st.kind, TX_BEGIN);
                assert_memory_equal(&st.modes, &modes, sizeof modes);
            }
}

static void settings_say_what_their_modes_are(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value;
        struct tx_modes modes;
    } settings[] = {
        {"default_transaction_isolation", "read uncommitted", MODES(TX_READ_UNCOMMITTED, 0, 0)},
        {"default_transaction_isolation", "read committed", MODES(TX_READ_COMMITTED, 0, 0)},
        {"default_transaction_isolation", "repeatable read", MODES(TX_REPEATABLE_READ, 0, 0)},
        {"DEFAULT_transaction_isolation", "SERIALIZABLE", MODES(TX_SERIALIZABLE, 0, 0)},
        {"default_transaction_read_only", "on", MODES(0, TX_READ_ONLY, 0)},
        {"default_transaction_read_only", "off", MODES(0, TX_READ_WRITE, 0)},
        {"default_transaction_deferrable", "on", MODES(0, 0, TX_DEFERRABLE)},
        {"default_transaction_deferrable", "off", MODES(0, 0, TX_NOT_DEFERRABLE)},
    };
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        struct tx_modes read = {0};
        assert_true(tx_modes_set(&read, slice_of(settings[i].name), slice_of(settings[i].value)));
        assert_memory_equal(&read, &settings[i].modes, sizeof read);
    }
    struct tx_modes none = {0};
    assert_false(tx_modes_set(&none, slice_of("work_mem"), slice_of("on")));
    assert_false(tx_modes_set(&none, slice_of("default_transaction_read_only"), slice_of("maybe")));
    assert_false(tx_modes_set(&none, slice_of("default_transaction_isolation"), slice_of("on")));
}

/* ---- places ---- */

static void each_mode_has_its_place(void **state)
{
    (void)state;
    for (uint8_t i = 0; i < TX_ISOLATION_N; i++)
        for (uint8_t a = 0; a < TX_ACCESS_N; a++)
            for (uint8_t session_i = 0; session_i < TX_ISOLATION_N; session_i++)
                for (uint8_t session_a = 0; session_a < TX_ACCESS_N; session_a++)
                    for (int optimistic = 0; optimistic < 2; optimistic++) {
                        struct tx_modes said = MODES(i, a, 0),
                                        session = MODES(session_i, session_a, 0);
                        uint8_t is_i = i ? i : session_i, is_a = a ? a : session_a;
                        enum tx_place want = TX_ON_PRIMARY;
                        if (is_i == TX_SERIALIZABLE)
                            want = TX_SERIALIZABLE_ON_PRIMARY;
                        else if (is_a == TX_READ_ONLY)
                            want = TX_ON_REPLICA;
                        else if (optimistic && a == TX_ACCESS_NONE && is_i != TX_REPEATABLE_READ &&
                                 is_i != TX_ISOLATION_NONE)
                            want = TX_ON_ANY;
                        assert_int_equal(tx_place(said, session, optimistic), want);
                    }
}

/* ---- fates ---- */

static enum tx_fate fate_of(const char *sql, bool *leaves_state)
{
    static const struct sql_env env = {.standard_conforming_strings = true};
    struct sql_facts facts;
    sql_classify(slice_of(sql), &env, &facts);
    *leaves_state = tx_leaves_state(&facts);
    return tx_fate(&facts);
}

static void each_statement_has_its_fate_on_a_replica(void **state)
{
    (void)state;
    static const struct {
        const char *sql;
        enum tx_fate fate;
        bool leaves_state;
    } table[] = {
        {"SELECT 1", TX_STAYS, false},
        {"", TX_STAYS, false},
        {"COPY t TO STDOUT", TX_STAYS, false},
        {"SHOW work_mem", TX_STAYS, false},
        {"SELECT relname FROM pg_class", TX_STAYS, false},
        {"SELECT pg_is_in_recovery()", TX_STAYS, false},
        {"COMMIT", TX_STAYS, false},
        {"ROLLBACK", TX_STAYS, false},
        {"INSERT INTO t VALUES (1)", TX_STAYS, false},
        {"CREATE TABLE t (a int)", TX_STAYS, false},
        {"SELECT * FROM t FOR UPDATE", TX_STAYS, false},
        {"SAVEPOINT s", TX_STAYS, true},
        {"ROLLBACK TO s", TX_STAYS, true},
        {"SET LOCAL work_mem = 1", TX_STAYS, true},
        {"DECLARE c CURSOR FOR SELECT 1", TX_STAYS, true},
        {"FETCH c", TX_STAYS, true},
        {"SELECT set_config('a.b', 'c', true)", TX_STAYS, true},
        {"DO $$BEGIN END$$", TX_MOVES, true},
        {"SELECT my_function()", TX_MOVES, true},
        {"SELECT nextval('s')", TX_MOVES, false},
        {"LOCK TABLE t", TX_MOVES, true},
        {"ANALYZE t", TX_MOVES, false},
        {"END; INSERT INTO t VALUES (1)", TX_PRIMARY_ONLY, false},
        {"ROLLBACK; SELECT my_function()", TX_PRIMARY_ONLY, true},
        {"END; SELECT 1", TX_STAYS, false},
        {"INSERT INTO t VALUES (1); END", TX_STAYS, false},
        {"COMMIT AND CHAIN", TX_MOVES, false},
        {"COMMIT; BEGIN", TX_MOVES, false},
        {"PREPARE TRANSACTION 'x'", TX_MOVES, false},
        {"COPY t FROM '/x'", TX_MOVES, false},
        {"SELECT pg_advisory_lock(1)", TX_PRIMARY_ONLY, true},
        {"SELECT pg_advisory_xact_lock(1)", TX_PRIMARY_ONLY, true},
        {"SELECT pg_advisory_xact_lock(1), my_function()", TX_PRIMARY_ONLY, true},
        {"SELECT txid_current()", TX_PRIMARY_ONLY, false},
        {"CREATE TEMP TABLE t (a int)", TX_PRIMARY_ONLY, false},
        {"SELECT 1 AS a INTO TEMP t", TX_PRIMARY_ONLY, false},
        {"LISTEN c", TX_PRIMARY_ONLY, false},
        {"NOTIFY c", TX_PRIMARY_ONLY, false},
        {"SET work_mem = 1", TX_MOVES, true},
        {"SELECT set_config('a.b', 'c', false)", TX_MOVES, true},
        {"SET work_mem = 1; PREPARE p AS SELECT 1", TX_PRIMARY_ONLY, true},
        {"PREPARE p AS SELECT 1", TX_PRIMARY_ONLY, false},
        {"DECLARE c CURSOR WITH HOLD FOR SELECT 1", TX_PRIMARY_ONLY, true},
    };
    for (size_t i = 0; i < LENGTH(table); i++) {
        bool leaves_state;
        if (fate_of(table[i].sql, &leaves_state) != table[i].fate ||
            leaves_state != table[i].leaves_state)
            fail_msg("%s: %d", table[i].sql, fate_of(table[i].sql, &leaves_state));
    }
}

/* ---- states ---- */

static void each_event_in_each_state(void **state)
{
    (void)state;
    /* state, event: next state and answer; what is not here is not possible */
    static const uint8_t table[][4] = {
        {TX_NONE, TX_EV_BEGIN, TX_DEFERRED, TX_SAYS_BEGIN},
        {TX_NONE, TX_EV_COMMIT, TX_NONE, TX_TO_SERVER},
        {TX_NONE, TX_EV_ROLLBACK, TX_NONE, TX_TO_SERVER},
        {TX_NONE, TX_EV_OTHER, TX_NONE, TX_TO_SERVER},
        {TX_NONE, TX_EV_BEGUN, TX_OPEN, TX_QUIET},
        {TX_NONE, TX_EV_ENDED, TX_NONE, TX_QUIET},
        {TX_NONE, TX_EV_AWAY, TX_NONE, TX_QUIET},
        {TX_NONE, TX_EV_REFUSED, TX_NONE, TX_QUIET},
        {TX_DEFERRED, TX_EV_BEGIN, TX_DEFERRED, TX_TO_SERVER},
        {TX_DEFERRED, TX_EV_COMMIT, TX_NONE, TX_SAYS_COMMIT},
        {TX_DEFERRED, TX_EV_ROLLBACK, TX_NONE, TX_SAYS_ROLLBACK},
        {TX_DEFERRED, TX_EV_OTHER, TX_DEFERRED, TX_TO_SERVER},
        {TX_DEFERRED, TX_EV_SENT, TX_OPEN, TX_QUIET},
        {TX_DEFERRED, TX_EV_AWAY, TX_DEFERRED, TX_QUIET},
        {TX_DEFERRED, TX_EV_REFUSED, TX_FAILED, TX_QUIET},
        {TX_OPEN, TX_EV_OTHER, TX_OPEN, TX_TO_SERVER},
        {TX_OPEN, TX_EV_BEGUN, TX_OPEN, TX_QUIET},
        {TX_OPEN, TX_EV_ENDED, TX_NONE, TX_QUIET},
        {TX_OPEN, TX_EV_AWAY, TX_DEFERRED, TX_QUIET},
        {TX_OPEN, TX_EV_REFUSED, TX_FAILED, TX_QUIET},
        {TX_FAILED, TX_EV_BEGIN, TX_FAILED, TX_SAYS_ABORTED},
        {TX_FAILED, TX_EV_COMMIT, TX_NONE, TX_SAYS_ROLLBACK},
        {TX_FAILED, TX_EV_ROLLBACK, TX_NONE, TX_SAYS_ROLLBACK},
        {TX_FAILED, TX_EV_OTHER, TX_FAILED, TX_SAYS_ABORTED},
    };
    for (uint8_t from = 0; from < TX_STATE_N; from++)
        for (unsigned event = 0; event < TX_EVENT_N; event++) {
            uint8_t want = from, answer = TX_NOT_POSSIBLE, now = from;
            for (size_t i = 0; i < LENGTH(table); i++)
                if (table[i][0] == from && table[i][1] == event) {
                    want = table[i][2];
                    answer = table[i][3];
                }
            assert_int_equal(tx_step(&now, (enum tx_event)event), answer);
            assert_int_equal(now, want);
        }
    assert_int_equal(tx_status(TX_NONE), 'I');
    assert_int_equal(tx_status(TX_DEFERRED), 'T');
    assert_int_equal(tx_status(TX_OPEN), 'T');
    assert_int_equal(tx_status(TX_FAILED), 'E');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_form_is_read),
        cmocka_unit_test(what_is_not_exactly_one_of_them_is_left_to_postgresql),
        cmocka_unit_test(a_cut_text_never_says_more),
        cmocka_unit_test(what_is_sent_says_what_was_read),
        cmocka_unit_test(settings_say_what_their_modes_are),
        cmocka_unit_test(each_mode_has_its_place),
        cmocka_unit_test(each_statement_has_its_fate_on_a_replica),
        cmocka_unit_test(each_event_in_each_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
