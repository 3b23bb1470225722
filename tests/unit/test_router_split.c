/* Where statements end: semicolons at the top level, however the text is cut into pieces. */
#include "router/split.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka.h needs the ones above */
#include <cmocka.h>

/* The statements of `text`, joined by '|'. */
static void expect_bytes(const char *text, size_t n, const char *joined)
{
    char got[4096];
    size_t used = 0, out = 0;
    struct split one;
    while (split_next((struct slice){(const uint8_t *)text + used, n - used}, true, true, &one)) {
        if (used > 0)
            got[out++] = '|';
        memcpy(got + out, one.statement.p, one.statement.n);
        out += one.statement.n;
        assert_true(one.used > 0 && one.used <= n - used);
        used += one.used;
    }
    got[out] = '\0';
    assert_string_equal(got, joined);
}

static void expect(const char *text, const char *joined)
{
    expect_bytes(text, strlen(text), joined);
}

static void statements_end_at_semicolons(void **state)
{
    (void)state;
    expect("", "");
    expect(" \n\t", "");
    expect("SELECT 1", "SELECT 1");
    expect("SELECT 1;", "SELECT 1");
    expect(" SELECT 1 ;\n SELECT 2 \n", "SELECT 1|SELECT 2");
    expect(";;a;", "||a");
    expect("/* c */ SELECT 1; -- end", "/* c */ SELECT 1|-- end");
}

static void quotes_comments_and_parentheses_hide_them(void **state)
{
    (void)state;
    expect("SELECT ';', \";\", $$;$$, $a$;$$;$a$, E'\\';'; b",
           "SELECT ';', \";\", $$;$$, $a$;$$;$a$, E'\\';'|b");
    expect("a /* ; /* ; */ ; */ ; b -- ;\n; c", "a /* ; /* ; */ ; */|b -- ;|c");
    expect("CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); b",
           "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)|b");
    expect("a ); b", "a )|b");
}

static void the_body_of_a_routine_is_one_statement(void **state)
{
    (void)state;
    expect("create or replace function f() returns int begin atomic select case when a then 1 end; "
           "select 2; end; b",
           "create or replace function f() returns int begin atomic select case when a then 1 end; "
           "select 2; end|b");
    expect("CREATE PROCEDURE p() BEGIN ATOMIC INSERT INTO t VALUES (1); END; b",
           "CREATE PROCEDURE p() BEGIN ATOMIC INSERT INTO t VALUES (1); END|b");
    expect("CREATE FUNCTION f() RETURNS int RETURN 1; b",
           "CREATE FUNCTION f() RETURNS int RETURN 1|b");
    expect("CREATE TABLE function (begin int); b", "CREATE TABLE function (begin int)|b");
    expect("BEGIN; SELECT 1; END; b", "BEGIN|SELECT 1|END|b");
    expect("create view or replace function begin; b", "create view or replace function begin|b");
}

static void what_is_no_token_does_not_hide_the_rest(void **state)
{
    (void)state;
    expect("SELECT 1abc; b", "SELECT 1abc|b");
    expect("SELECT \"\"; b", "SELECT \"\"|b");
    expect("SELECT 1e; b", "SELECT 1e|b");
    expect("\\x; b", "\\x|b");
    expect("$; b", "$|b");
    expect("$1a ; b", "$1a|b");
    expect_bytes("a\0; b", 6, "a"); /* the NUL ends our comparison, not the statement */
    struct split one;
    assert_true(split_next((struct slice){(const uint8_t *)"a\0; b", 6}, true, true, &one));
    assert_int_equal(one.used, 3);
}

static void what_is_never_closed_takes_the_rest(void **state)
{
    (void)state;
    static const char *const open[] = {"'x; b",   "\"x; b",    "$$x; b",  "$t$x;$$ b",
                                       "/* x; b", "E'x\\'; b", "U&'x; b", "a / /* ; b"};
    for (size_t i = 0; i < sizeof open / sizeof *open; i++) {
        struct split one;
        expect(open[i], open[i]);
        assert_false(split_next(slice_of(open[i]), false, true, &one));
    }
}

/* However little of the text is there, a statement that is told is the one of the whole text. */
static void a_cut_text_tells_the_same_statements(void **state)
{
    (void)state;
    static const char text[] = "a 1 ; b 'x;y'\n'z' ;c $q$;$q$ ; /* ; */ d \"e;\"\"f\" ; U&\"g\" "
                               "1.5e3 ; E'\\'' ; x'0f' ; $1 ; 1..2 ; '";
    const uint8_t *p = (const uint8_t *)text;
    const size_t n = sizeof text - 1;
    for (size_t at = 0; at < n;) {
        struct split whole, part;
        bool found = split_next((struct slice){p + at, n - at}, false, true, &whole);
        for (size_t cut = 0; cut <= n - at; cut++) {
            uint8_t *copy = malloc(cut ? cut : 1); /* exact, so that ASan sees a byte too far */
            memcpy(copy, p + at, cut);
            bool told = split_next((struct slice){copy, cut}, false, true, &part);
            assert_int_equal(told, found && cut >= whole.used);
            if (told)
                assert_int_equal(part.used, whole.used);
            free(copy);
        }
        if (!found)
            break;
        at += whole.used;
    }
}

static void comments_alone_are_blank(void **state)
{
    (void)state;
    struct split one;
    assert_true(split_next(slice_of("/* c */ -- d\n;"), true, true, &one));
    assert_true(one.blank);
    assert_true(split_next(slice_of("/* c */ 1;"), true, true, &one));
    assert_false(one.blank);
    assert_true(split_next(slice_of("'"), true, true, &one));
    assert_false(one.blank);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statements_end_at_semicolons),
        cmocka_unit_test(quotes_comments_and_parentheses_hide_them),
        cmocka_unit_test(the_body_of_a_routine_is_one_statement),
        cmocka_unit_test(what_is_no_token_does_not_hide_the_rest),
        cmocka_unit_test(what_is_never_closed_takes_the_rest),
        cmocka_unit_test(a_cut_text_tells_the_same_statements),
        cmocka_unit_test(comments_alone_are_blank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
