/* tests/unit/test_router_classify.c: the class, the flags and the reason of statements. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "router/classify.h"
#include "router/names.h"
#include "router/scan.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
#define TEXT_MAX 4096

struct expected {
    enum sql_class class;
    const char *sql;
};

static const struct expected statements[] = {
#include "tests/unit/test_router_statements.def"
};

struct flagged {
    const char *sql;
    uint32_t set;
    uint32_t clear;
};

#define PIN (SQL_F_SESSION | SQL_F_PIN)
#define SETS (SQL_F_SESSION | SQL_F_SET)
#define SETF (SQL_F_SESSION | SQL_F_SET_FUNCTION)

static const struct flagged flagged[] = {
    {"", SQL_F_EMPTY | SQL_F_READ, SQL_F_NOT_READ},
    {" ; ; -- nothing\n", SQL_F_EMPTY | SQL_F_READ, SQL_F_MULTI},
    {"SELECT 1", SQL_F_READ, SQL_F_NOT_READ | SQL_F_MULTI | SQL_F_SESSION | SQL_F_EMPTY},
    {"SELECT 1;", SQL_F_READ, SQL_F_MULTI},
    {"SELECT 1; SELECT 2", SQL_F_READ | SQL_F_MULTI, SQL_F_NOT_READ},
    {"SELECT 1; DELETE FROM t", SQL_F_MULTI | SQL_F_NOT_READ, SQL_F_READ},
    {"DELETE FROM t; SELECT 1", SQL_F_MULTI | SQL_F_NOT_READ, SQL_F_READ},
    {"BEGIN", SQL_F_BEGIN | SQL_F_NOT_READ, SQL_F_READ | SQL_F_BEGIN_READ_ONLY},
    {"START TRANSACTION", SQL_F_BEGIN | SQL_F_NOT_READ, SQL_F_READ | SQL_F_BEGIN_READ_ONLY},
    {"START", SQL_F_NOT_READ, SQL_F_READ},
    {"BEGIN READ ONLY", SQL_F_BEGIN | SQL_F_BEGIN_READ_ONLY, SQL_F_READ | SQL_F_NOT_READ},
    {"BEGIN WORK READ ONLY", SQL_F_BEGIN_READ_ONLY, SQL_F_NOT_READ},
    {"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", SQL_F_BEGIN_READ_ONLY, SQL_F_NOT_READ},
    {"START TRANSACTION READ ONLY, DEFERRABLE", SQL_F_BEGIN_READ_ONLY, SQL_F_NOT_READ},
    {"BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", SQL_F_NOT_READ, SQL_F_BEGIN_READ_ONLY},
    {"BEGIN READ ONLY, ISOLATION LEVEL SERIALIZABLE", SQL_F_NOT_READ, SQL_F_BEGIN_READ_ONLY},
    {"BEGIN READ WRITE", SQL_F_NOT_READ, SQL_F_BEGIN_READ_ONLY},
    {"BEGIN READ ONLY, READ WRITE", SQL_F_NOT_READ, SQL_F_BEGIN_READ_ONLY},
    {"BEGIN READ ONLY; SELECT 1; COMMIT",
     SQL_F_BEGIN_READ_ONLY | SQL_F_TX_END | SQL_F_COMMIT | SQL_F_MULTI,
     SQL_F_NOT_READ | SQL_F_BEGIN | SQL_F_READ},
    {"BEGIN READ ONLY; SELECT nextval('s')", SQL_F_BEGIN_READ_ONLY | SQL_F_NOT_READ, 0},
    {"BEGIN READ ONLY; COMMIT; BEGIN READ WRITE", SQL_F_NOT_READ | SQL_F_BEGIN, 0},
    {"BEGIN READ ONLY; SET TRANSACTION READ WRITE", SQL_F_NOT_READ, 0},
    {"BEGIN; SELECT 1", SQL_F_BEGIN | SQL_F_NOT_READ, SQL_F_READ},
    {"BEGIN; COMMIT", SQL_F_TX_END | SQL_F_COMMIT, SQL_F_BEGIN},
    {"BEGIN; COMMIT; SELECT 1", SQL_F_COMMIT, SQL_F_BEGIN | SQL_F_TX_END},
    {"COMMIT; BEGIN", SQL_F_COMMIT | SQL_F_BEGIN, SQL_F_TX_END},
    {"COMMIT", SQL_F_COMMIT | SQL_F_TX_END, SQL_F_READ | SQL_F_BEGIN},
    {"END", SQL_F_COMMIT | SQL_F_TX_END, 0},
    {"COMMIT AND CHAIN", SQL_F_COMMIT | SQL_F_BEGIN | SQL_F_NOT_READ, SQL_F_TX_END},
    {"COMMIT AND NO CHAIN", SQL_F_COMMIT | SQL_F_TX_END, SQL_F_BEGIN},
    {"ROLLBACK", SQL_F_TX_END, SQL_F_COMMIT},
    {"ABORT", SQL_F_TX_END, SQL_F_COMMIT},
    {"ROLLBACK AND CHAIN", SQL_F_BEGIN, SQL_F_TX_END},
    {"ROLLBACK TO s", SQL_F_SAVEPOINT, SQL_F_TX_END},
    {"ROLLBACK WORK TO SAVEPOINT s", SQL_F_SAVEPOINT, SQL_F_TX_END},
    {"ROLLBACK TRANSACTION TO s", SQL_F_SAVEPOINT, SQL_F_TX_END},
    {"SAVEPOINT s", SQL_F_SAVEPOINT, SQL_F_READ},
    {"RELEASE SAVEPOINT s", SQL_F_SAVEPOINT, 0},
    {"PREPARE TRANSACTION 'x'", SQL_F_TX_END | SQL_F_COMMIT, SQL_F_PREPARE},
    {"COMMIT PREPARED 'x'", SQL_F_COMMIT | SQL_F_NOT_READ, SQL_F_TX_END},
    {"ROLLBACK PREPARED 'x'", SQL_F_NOT_READ, SQL_F_COMMIT | SQL_F_TX_END},
    {"SET search_path = a", SETS, SQL_F_PIN},
    {"SET SESSION work_mem = 1", SETS, SQL_F_PIN},
    {"SET ROLE app", SETS, SQL_F_PIN},
    {"SET SESSION AUTHORIZATION app", SETS, 0},
    {"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", SETS, 0},
    {"SET TIME ZONE 'UTC'", SETS, 0},
    {"RESET ALL", SETS, 0},
    {"RESET ROLE", SETS, 0},
    {"SET LOCAL work_mem = 1", SQL_F_TX_STATE, SQL_F_SESSION},
    {"SET LOCAL ROLE x", SQL_F_TX_STATE, SQL_F_SESSION},
    {"SET TRANSACTION READ ONLY", SQL_F_TX_STATE, SQL_F_SESSION},
    {"SET TRANSACTION SNAPSHOT 'x'", SQL_F_TX_STATE, SQL_F_SESSION},
    {"SET CONSTRAINTS ALL DEFERRED", SQL_F_TX_STATE, SQL_F_SESSION},
    {"SELECT set_config('a.b', 'x', false)", SETF, SQL_F_READ},
    {"SELECT set_config('a.b', 'x', true)", SQL_F_NOT_READ, SQL_F_SESSION},
    {"SELECT set_config('a.b', f(1, (2)), TRUE)", SQL_F_NOT_READ, SQL_F_SESSION},
    {"SELECT pg_catalog.set_config('a.b', 'x', true)", SQL_F_NOT_READ, SQL_F_SESSION},
    {"SELECT set_config('a.b', 'x', $1)", SETF, 0},
    {"SELECT set_config('a.b', 'x', true AND false)", SETF, 0},
    {"SELECT set_config('a.b', 'x', not true)", SETF, 0},
    {"SELECT set_config('a.b', 'x', true), set_config('a', 'b', false)", SETF, 0},
    {"SELECT set_config('a', set_config('b', 'c', true), true)", SETF, 0},
    {"SELECT set_config(is_local => false, setting_name => 'a', new_value => 'b')", SETF, 0},
    {"SELECT \"set_config\"('a', 'b', 'f')", SETF, 0},
    {"UPDATE t SET a = set_config('a', 'b', false)", SETF, 0},
    {"PREPARE p AS SELECT 1", PIN | SQL_F_PREPARE, 0},
    {"PREPARE p AS SELECT pg_advisory_lock(1)", PIN | SQL_F_ADVISORY, 0},
    {"EXECUTE p", SQL_F_EXECUTE, SQL_F_SESSION},
    {"EXECUTE p(pg_advisory_lock(1))", SQL_F_EXECUTE | PIN, 0},
    {"DEALLOCATE p", SQL_F_DEALLOCATE, SQL_F_DEALLOCATE_ALL},
    {"DEALLOCATE PREPARE p", SQL_F_DEALLOCATE, SQL_F_DEALLOCATE_ALL},
    {"DEALLOCATE ALL", SQL_F_DEALLOCATE_ALL, SQL_F_DEALLOCATE},
    {"DEALLOCATE PREPARE ALL", SQL_F_DEALLOCATE_ALL, SQL_F_DEALLOCATE},
    {"DISCARD ALL", SQL_F_DISCARD_ALL | SQL_F_DISCARD | SQL_F_ALONE, 0},
    {"DISCARD ALL;", SQL_F_DISCARD_ALL, 0},
    {"DISCARD ALL; SELECT 1", SQL_F_DISCARD, SQL_F_DISCARD_ALL},
    {"DISCARD PLANS", SQL_F_DISCARD, SQL_F_DISCARD_ALL},
    {"LISTEN c", PIN | SQL_F_LISTEN, 0},
    {"UNLISTEN *", SQL_F_LISTEN, 0},
    {"DECLARE c CURSOR FOR SELECT 1", SQL_F_CURSOR, SQL_F_SESSION},
    {"DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1", SQL_F_CURSOR, SQL_F_SESSION},
    {"DECLARE c NO SCROLL CURSOR WITH HOLD FOR SELECT 1", SQL_F_CURSOR | PIN, 0},
    {"CREATE TEMP TABLE x (a int)", PIN | SQL_F_TEMP | SQL_F_DDL, 0},
    {"CREATE LOCAL TEMPORARY TABLE x (a int)", PIN | SQL_F_TEMP, 0},
    {"CREATE OR REPLACE TEMP VIEW x AS SELECT 1", PIN | SQL_F_TEMP, 0},
    {"CREATE TABLE pg_temp.x (a int)", PIN | SQL_F_TEMP, 0},
    {"CREATE TABLE \"pg_temp\".x (a int)", PIN | SQL_F_TEMP, 0},
    {"CREATE TABLE pg_temp_3.x (a int)", PIN | SQL_F_TEMP, 0},
    {"SELECT * FROM pg_temp.x", PIN | SQL_F_TEMP, SQL_F_READ},
    {"EXPLAIN ANALYZE CREATE TEMP TABLE x AS SELECT 1", PIN | SQL_F_TEMP | SQL_F_DDL, SQL_F_READ},
    {"EXPLAIN CREATE TEMP TABLE x AS SELECT 1", 0, PIN | SQL_F_TEMP | SQL_F_DDL},
    {"EXPLAIN (ANALYZE) EXPLAIN (ANALYZE) CREATE TEMP TABLE x AS SELECT 1", 0, SQL_F_READ},
    {"SELECT 1 INTO TEMP x", PIN | SQL_F_TEMP, SQL_F_READ},
    {"SELECT 1 INTO LOCAL TEMPORARY TABLE x", PIN | SQL_F_TEMP, 0},
    {"CREATE TABLE x (temp int)", SQL_F_DDL, SQL_F_TEMP},
    {"UPDATE t SET temp = 5", SQL_F_NOT_READ, SQL_F_SESSION},
    {"INSERT INTO temp VALUES (1)", SQL_F_NOT_READ, SQL_F_SESSION},
    {"SELECT pg_advisory_lock(1)", PIN | SQL_F_ADVISORY, 0},
    {"SELECT pg_try_advisory_lock_shared(1, 2)", PIN | SQL_F_ADVISORY, 0},
    {"SELECT pg_advisory_xact_lock(1)", SQL_F_ADVISORY, SQL_F_SESSION},
    {"SELECT pg_try_advisory_xact_lock(1)", SQL_F_ADVISORY, SQL_F_SESSION},
    {"SELECT pg_advisory_unlock(1)", SQL_F_ADVISORY, SQL_F_SESSION},
    {"SELECT setseed(0.5)", PIN | SQL_F_TAINT, 0},
    {"SET SEED TO 0.5", PIN | SQL_F_TAINT | SQL_F_SET, 0},
    {"SET SESSION \"Seed\" = 0.5", PIN | SQL_F_TAINT, 0},
    {"SET LOCAL seed = 0.5", PIN | SQL_F_TAINT | SQL_F_TX_STATE, SQL_F_SET},
    {"SET seeds.x = 0.5", SQL_F_SET, SQL_F_TAINT},
    {"LOAD 'auto_explain'", PIN | SQL_F_TAINT, 0},
    {"SELECT currval('s')", PIN | SQL_F_SEQUENCE, 0},
    {"SELECT lastval()", PIN | SQL_F_SEQUENCE, 0},
    {"SELECT lo_open(1, 2)", SQL_F_SESSION, SQL_F_PIN},
    {"SELECT pg_logical_slot_get_changes('s', NULL, NULL)", PIN, 0},
    {"SELECT pg_replication_origin_session_setup('x')", PIN, 0},
    {"SELECT dblink_connect('x')", PIN, 0},
    {"SELECT public.dblink_connect('x')", PIN, 0},
    {"INSERT INTO t SELECT pg_try_advisory_lock(1)", PIN | SQL_F_ADVISORY, 0},
    {"DO $$ BEGIN END $$", SQL_F_BODY, SQL_F_SESSION},
    {"CALL p()", SQL_F_BODY, SQL_F_SESSION},
    {"SELECT my_function(1)", SQL_F_HIDING, 0},
    {"INSERT INTO t VALUES (public.my_function(1))", SQL_F_HIDING, 0},
    {"SELECT lower('A'), count(*) FROM t", 0, SQL_F_HIDING},
    {"INSERT INTO t (a, b) VALUES (1, now())", 0, SQL_F_HIDING},
    {"INSERT INTO a.t (a, b) VALUES (1, 2)", 0, SQL_F_HIDING},
    {"INSERT INTO t(a) SELECT b.f(1)", SQL_F_HIDING, 0},
    {"UPDATE t SET a = f(1)", SQL_F_HIDING, 0},
    {"CREATE TABLE t (a int)", 0, SQL_F_HIDING},
    {"EXECUTE p (1)", 0, SQL_F_HIDING},
    {"INSERT INTO t (a) VALUES (1), (2) ON CONFLICT (a) DO UPDATE SET (a, b) = (1, 2) RETURNING "
     "(a)",
     0, SQL_F_HIDING},
    {"DELETE FROM t USING (SELECT 1) AS s (a) WHERE EXISTS (SELECT 1) AND a IN (1)", 0, 0},
    {"COPY t FROM STDIN", SQL_F_COPY_IN, 0},
    {"COPY t (a, b) FROM STDIN WITH (FORMAT csv)", SQL_F_COPY_IN, 0},
    {"COPY t FROM '/tmp/x'", SQL_F_NOT_READ, SQL_F_COPY_IN},
    {"COPY t TO STDOUT", SQL_F_READ, SQL_F_COPY_IN},
    {"VACUUM", SQL_F_ALONE, 0},
    {"CREATE DATABASE x", SQL_F_ALONE, 0},
    {"DROP DATABASE x", SQL_F_ALONE, 0},
    {"ALTER SYSTEM SET a = 1", SQL_F_ALONE, 0},
    {"CREATE INDEX CONCURRENTLY i ON t (a)", SQL_F_ALONE, 0},
    {"CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)", SQL_F_ALONE, 0},
    {"CREATE INDEX i ON t (a)", SQL_F_DDL, SQL_F_ALONE},
    {"CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE 1 WHEN 1 THEN 2 END; END",
     SQL_F_DDL, SQL_F_MULTI | SQL_F_TX_END | SQL_F_COMMIT},
    {"CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END; COMMIT",
     SQL_F_DDL | SQL_F_MULTI | SQL_F_TX_END, 0},
    {"CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)", SQL_F_NOT_READ, SQL_F_MULTI},
};

static const struct sql_env env = {.standard_conforming_strings = true};

static struct sql_facts facts_of(const char *sql, size_t n)
{
    /* an exact-size copy: ASan sees one byte too far */
    uint8_t *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, sql, n);
    struct sql_facts facts;
    sql_classify((struct slice){copy, n}, &env, &facts);
    struct sql_facts in_full;
    sql_classify_in_full((struct slice){copy, n}, &env, &in_full);
    assert_memory_equal(&facts, &in_full, sizeof facts);
    free(copy);
    return facts;
}

static struct sql_facts facts_of_text(const char *sql)
{
    return facts_of(sql, strlen(sql));
}

static void every_statement_has_its_class(void **state)
{
    (void)state;
    unsigned wrong = 0;
    for (size_t i = 0; i < COUNT(statements); i++) {
        const struct sql_facts f = facts_of_text(statements[i].sql);
        if (f.class == statements[i].class)
            continue;
        print_error("%s (%s), not %s: %s\n", sql_class_text(f.class), route_reason_text(f.reason),
                    sql_class_text(statements[i].class), statements[i].sql);
        wrong++;
    }
    assert_int_equal(wrong, 0);
}

static void every_flag_is_set_and_clear_as_told(void **state)
{
    (void)state;
    unsigned wrong = 0;
    for (size_t i = 0; i < COUNT(flagged); i++) {
        const struct sql_facts f = facts_of_text(flagged[i].sql);
        if ((f.flags & flagged[i].set) == flagged[i].set && !(f.flags & flagged[i].clear))
            continue;
        print_error("flags %08x, missing %08x, too many %08x: %s\n", f.flags,
                    flagged[i].set & ~f.flags, flagged[i].clear & f.flags, flagged[i].sql);
        wrong++;
    }
    assert_int_equal(wrong, 0);
}

static void every_example_has_its_class(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SQL_CLASS_N; i++) {
        const struct sql_facts f = facts_of_text(sql_class_example((enum sql_class)i));
        assert_string_equal(sql_class_text(f.class), sql_class_text((enum sql_class)i));
        assert_int_equal((f.flags & SQL_F_READ) != 0, sql_class_on_replica((enum sql_class)i));
    }
}

/* The table that people read is the one that the code has: run from the top of the tree, as make does. */
static void the_readme_lists_every_class_with_its_example(void **state)
{
    (void)state;
    static char readme[65536];
    FILE *file = fopen("router/README.md", "r");
    assert_non_null(file);
    const size_t n = fread(readme, 1, sizeof readme - 1, file);
    fclose(file);
    readme[n] = 0;
    const char *at = strstr(readme, "## Classes");
    assert_non_null(at);
    for (unsigned i = 0; i < SQL_CLASS_N; i++) { /* in this order */
        char row[512];
        const enum sql_class class = (enum sql_class)i;
        snprintf(row, sizeof row, "\n| %s | %s | `%s` |\n", sql_class_text(class),
                 sql_class_on_replica(class) ? "yes" : "", sql_class_example(class));
        const char *found = strstr(at, row);
        if (found == NULL)
            print_error("not in router/README.md:%s", row);
        assert_non_null(found);
        at = found;
    }
}

/* A prefix may be a shorter statement, but never one that ends inside a token or a parenthesis. */
static void no_cut_statement_is_a_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(statements); i++) {
        const char *sql = statements[i].sql;
        int depth = 0;
        for (size_t n = 0; n <= strlen(sql); n++) {
            const struct sql_facts f = facts_of(sql, n);
            assert_true(f.class < SQL_CLASS_N);
            assert_int_equal((f.flags & SQL_F_READ) != 0,
                             sql_class_on_replica((enum sql_class)f.class));
            struct scan s;
            struct scan_token t;
            scan_init(&s, (struct slice){(const uint8_t *)sql, n}, true);
            for (depth = 0, scan_next(&s, &t); t.kind != SCAN_END && t.kind != SCAN_BAD;
                 scan_next(&s, &t))
                if (t.kind == SCAN_PUNCT)
                    depth += t.text.p[0] == '(' ? 1 : t.text.p[0] == ')' ? -1 : 0;
            if (t.kind == SCAN_BAD || depth > 0)
                assert_false(f.flags & SQL_F_READ);
        }
    }
}

/* Write sql with something between its tokens; nothing between what belongs together. */
static size_t pad(const char *sql, const char *between, char *out)
{
    struct scan s;
    struct scan_token t;
    size_t n = 0;
    scan_init(&s, slice_of(sql), true);
    for (;;) {
        const uint8_t *from;
        scan_next(&s, &t);
        if (t.kind == SCAN_END || t.kind == SCAN_BAD)
            break;
        from = t.kind == SCAN_QUOTED ? t.text.p - 1 : t.text.p;
        n += (size_t)snprintf(out + n, TEXT_MAX - n, "%s%.*s", between, (int)(s.at - from),
                              (const char *)from);
        assert_true(n < TEXT_MAX);
    }
    n += (size_t)snprintf(out + n, TEXT_MAX - n, "%s", between);
    return n;
}

static bool lexes(const char *sql)
{
    struct scan s;
    struct scan_token t;
    scan_init(&s, slice_of(sql), true);
    do
        scan_next(&s, &t);
    while (t.kind != SCAN_END && t.kind != SCAN_BAD);
    return t.kind == SCAN_END;
}

static void blanks_and_comments_change_nothing(void **state)
{
    (void)state;
    static const char *const between[] = {
        " ", "\n\t", "/**/", "/* /* x */ ; */", " -- FOR UPDATE\n", " /* 'a */ "};
    for (size_t i = 0; i < COUNT(statements); i++) {
        if (!lexes(statements[i].sql))
            continue;
        const struct sql_facts plain = facts_of_text(statements[i].sql);
        for (size_t k = 0; k < COUNT(between); k++) {
            char text[TEXT_MAX];
            const size_t n = pad(statements[i].sql, between[k], text);
            const struct sql_facts padded = facts_of(text, n);
            if (memcmp(&plain, &padded, sizeof plain) != 0)
                print_error("%s: %.*s\n", sql_class_text(padded.class), (int)n, text);
            assert_memory_equal(&plain, &padded, sizeof plain);
        }
    }
}

static void case_changes_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(statements); i++) {
        const char *sql = statements[i].sql;
        if (strpbrk(sql, "'\"$") != NULL)
            continue;
        char upper[TEXT_MAX], lower[TEXT_MAX];
        const size_t n = strlen(sql);
        for (size_t k = 0; k < n; k++) {
            const char c = sql[k];
            upper[k] = c >= 'a' && c <= 'z' ? (char)(c - 32) : c;
            lower[k] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
        }
        const struct sql_facts u = facts_of(upper, n), l = facts_of(lower, n);
        assert_memory_equal(&u, &l, sizeof u);
    }
}

static void a_write_behind_a_read_is_no_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(statements); i++) {
        char text[TEXT_MAX];
        const int n = snprintf(text, sizeof text, "%s\n; DELETE FROM t", statements[i].sql);
        assert_false(facts_of(text, (size_t)n).flags & SQL_F_READ);
        snprintf(text, sizeof text, "DELETE FROM t; %s", statements[i].sql);
        assert_false(facts_of_text(text).flags & SQL_F_READ);
    }
}

static void joining_facts_is_classifying_the_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(flagged); i++) {
        for (size_t k = 0; k < COUNT(flagged); k++) {
            char text[TEXT_MAX];
            snprintf(text, sizeof text, "%s\n; %s", flagged[i].sql, flagged[k].sql);
            const struct sql_facts whole = facts_of_text(text);
            struct sql_facts joined;
            sql_facts_init(&joined);
            const struct sql_facts a = facts_of_text(flagged[i].sql);
            const struct sql_facts b = facts_of_text(flagged[k].sql);
            sql_facts_join(&joined, &a);
            sql_facts_join(&joined, &b);
            assert_int_equal(whole.flags, joined.flags);
            assert_int_equal(whole.class, joined.class);
            assert_int_equal(whole.reason, joined.reason);
            assert_int_equal(whole.statements, joined.statements);
        }
    }
}

static void an_encoding_with_ascii_trail_bytes_tells_nothing_but_of_ascii(void **state)
{
    (void)state;
    const struct sql_env sjis = {.standard_conforming_strings = true, .ascii_trail_bytes = true};
    struct sql_facts f;
    sql_classify(slice_of("SELECT '\x83\x5c'"), &sjis, &f);
    assert_int_equal(f.class, SQL_UNKNOWN);
    assert_int_equal(f.reason, ROUTE_WHY_ENCODING);
    assert_int_equal(f.flags, SQL_F_NOT_READ | SQL_F_HIDING);
    sql_classify(slice_of("SELECT 1"), &sjis, &f);
    assert_true(f.flags & SQL_F_READ);
}

/* Whatever it is, it may leave state in the session. */
static void what_is_not_read_may_hide_anything(void **state)
{
    (void)state;
    char deep[300] = "SELECT ";
    memset(deep + 7, '(', 100);
    snprintf(deep + 107, sizeof deep - 107, "pg_advisory_lock(1)");
    static const char *const texts[] = {
        "NEWS 'x'",
        "SELECT 1; SELECT 'x; LISTEN y",
        "SELECT U&\"pg\\005fadvisory_lock\"(1)",
        "CREATE TABLE U&\"pg\\005ftemp\".t (n int)",
        "COPY (SELECT U&\"f\"(1)) TO STDOUT",
        "INSERT INTO t VALUES (1) $x",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_true(facts_of_text(texts[i]).flags & SQL_F_HIDING);
    assert_true(facts_of_text(deep).flags & SQL_F_HIDING);
    assert_false(facts_of_text("SELECT \"lower\"('A')").flags & SQL_F_HIDING);
}

static void backslashes_count_without_standard_strings(void **state)
{
    (void)state;
    static const char sql[] = "SELECT '\\'; DELETE FROM t; --'";
    const struct sql_env old = {.standard_conforming_strings = false};
    struct sql_facts f;
    sql_classify(slice_of(sql), &old, &f);
    assert_true(f.flags & SQL_F_READ); /* one string */
    sql_classify(slice_of(sql), &env, &f);
    assert_false(f.flags & SQL_F_READ);
}

static void deep_nesting_is_unknown_and_linear(void **state)
{
    (void)state;
    for (size_t depth = 1; depth < 2000; depth++) {
        char text[8192];
        size_t n = (size_t)snprintf(text, sizeof text, "SELECT ");
        memset(text + n, '(', depth);
        n += depth;
        text[n++] = '1';
        memset(text + n, ')', depth);
        n += depth;
        assert_int_equal((facts_of(text, n).flags & SQL_F_READ) != 0, depth <= 63);
    }
}

static void the_fingerprint_leaves_literals_out(void **state)
{
    (void)state;
    const uint64_t a = facts_of_text("SELECT a FROM t WHERE b = 1 AND c IN (1, 2)").fingerprint;
    assert_true(a ==
                facts_of_text("select A from t /* x */ where b='x' and c in ($1)").fingerprint);
    assert_true(a != facts_of_text("SELECT a FROM t WHERE b = 1 OR c IN (1, 2)").fingerprint);
    assert_true(a != facts_of_text("SELECT a FROM u WHERE b = 1 AND c IN (1, 2)").fingerprint);
}

struct name_row {
    const char *name;
    int class;
};

static void every_generated_name_is_found(void **state)
{
    (void)state;
    static const struct name_row functions[] = {
#define FN(name, class) {#name, FN_##class},
#include "router/functions.def"
#undef FN
    };
    static const struct name_row types[] = {
#define TYPE(name, class) {#name, TYPE_##class},
#include "router/types.def"
#undef TYPE
    };
    static const struct name_row keywords[] = {
#define KW(name, role) {#name, KW_##name},
#include "router/keywords.def"
#undef KW
    };
    struct word w;
    for (size_t i = 0; i < COUNT(functions); i++) {
        const struct slice s = slice_of(functions[i].name);
        word_of(s, s.p + s.n, &w);
        assert_int_equal(w.known.function, functions[i].class);
    }
    for (size_t i = 0; i < COUNT(types); i++) {
        const struct slice s = slice_of(types[i].name);
        word_of(s, s.p + s.n, &w);
        assert_int_equal(w.known.type, types[i].class);
    }
    for (size_t i = 0; i < COUNT(keywords); i++) {
        const struct slice s = slice_of(keywords[i].name);
        word_of(s, s.p + s.n, &w);
        assert_int_equal(w.known.keyword, keywords[i].class);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_statement_has_its_class),
        cmocka_unit_test(every_flag_is_set_and_clear_as_told),
        cmocka_unit_test(every_example_has_its_class),
        cmocka_unit_test(the_readme_lists_every_class_with_its_example),
        cmocka_unit_test(no_cut_statement_is_a_read),
        cmocka_unit_test(blanks_and_comments_change_nothing),
        cmocka_unit_test(case_changes_nothing),
        cmocka_unit_test(a_write_behind_a_read_is_no_read),
        cmocka_unit_test(joining_facts_is_classifying_the_whole),
        cmocka_unit_test(an_encoding_with_ascii_trail_bytes_tells_nothing_but_of_ascii),
        cmocka_unit_test(what_is_not_read_may_hide_anything),
        cmocka_unit_test(backslashes_count_without_standard_strings),
        cmocka_unit_test(deep_nesting_is_unknown_and_linear),
        cmocka_unit_test(the_fingerprint_leaves_literals_out),
        cmocka_unit_test(every_generated_name_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
