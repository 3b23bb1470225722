/* tests/unit/test_router_scan.c: tokens as PostgreSQL cuts them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "router/scan.h"

struct cut {
    const char *sql;
    const char *tokens; /* kind letter and text, joined by | */
    bool old_strings;   /* standard_conforming_strings off */
};

static const char kinds[] = {
    [SCAN_END] = '.',    [SCAN_WORD] = 'w',   [SCAN_QUOTED] = 'q', [SCAN_UQUOTED] = 'u',
    [SCAN_STRING] = 's', [SCAN_NUMBER] = 'n', [SCAN_PARAM] = 'p',  [SCAN_OPERATOR] = 'o',
    [SCAN_PUNCT] = ',',  [SCAN_BAD] = '!'};

static const struct cut cuts[] = {
    {"", ".", false},
    {"  \t\r\n\f\v ", ".", false},
    {"a", "wa|.", false},
    {"a$b _c \xC3\xA9t\xC3\xA9", "wa$b|w_c|w\xC3\xA9t\xC3\xA9|.", false},
    {"\"a b\"\"c\"", "qa b\"\"c|.", false},
    {"\"\"", "!", false},
    {"U&\"a\" u&'b' U&x U & \"c\"", "uU&\"a\"|su&'b'|wU|o&|wx|wU|o&|qc|.", false},
    {"U&'b'", "!", true},
    {"'it''s'", "s'it''s'|.", false},
    {"'a\\'", "s'a\\'|.", false},
    {"'a\\'", "!", true},
    {"'a\\'b'", "s'a\\'b'|.", true},
    {"E'a\\'b' e'\\\\'", "sE'a\\'b'|se'\\\\'|.", false},
    {"E'a\\", "!", false},
    {"'a' 'b'", "s'a'|s'b'|.", false},
    {"'a'\n'b'", "s'a'\n'b'|.", false},
    {"'a' -- x\n 'b'", "s'a' -- x\n 'b'|.", false},
    {"'a' -- x 'b'", "s'a'|.", false},
    {"'a'\n/* x */'b'", "s'a'|s'b'|.", false},
    {"E'a'\n'\\'b'", "sE'a'\n'\\'b'|.", false},
    {"B'01' x'1F' N'n' n 'n'", "sB'01'|sx'1F'|sN'n'|wn|s'n'|.", false},
    {"$$a$$ $x$ $$ $y$ $x$", "s$$a$$|s$x$ $$ $y$ $x$|.", false},
    {"$x$ $x $x$", "s$x$ $x $x$|.", false},
    {"$a$b$a$c", "s$a$b$a$|wc|.", false},
    {"$$", "!", false},
    {"$$a$x$", "!", false},
    {"a$$b$$", "wa$$b$$|.", false},
    {"$1 $23 $", "p$1|p$23|!", false},
    {"$1a", "!", false},
    {"1 1. .5 1.5 1e5 1.5E-5 1_000 0x1F 0b1 0o7",
     "n1|n1.|n.5|n1.5|n1e5|n1.5E-5|n1_000|n0x1F|n0b1|n0o7|.", false},
    {"1a", "!", false},
    {"1e", "!", false},
    {"1..2", "!", false},
    {"1.2.3", "!", false},
    {"a.b.*", "wa|,.|wb|,.|o*|.", false},
    {"a..b", "wa|!", false},
    {"a::b :=c x:y =>", "wa|o::|wb|o:=|wc|wx|,:|wy|o=>|.", false},
    {"a=-1", "wa|o=|o-|n1|.", false},
    {"a@-1", "wa|o@-|n1|.", false},
    {"a+-+b", "wa|o+|o-|o+|wb|.", false},
    {"a<>b||c->>d", "wa|o<>|wb|o|||wc|o->>|wd|.", false},
    {"a--b", "wa|.", false},
    {"a+--b\nc", "wa|o+|wc|.", false},
    {"a*/*x*/b", "wa|o*|wb|.", false},
    {"a-/*x*/-b", "wa|o-|o-|wb|.", false},
    {"/* a /* b */ c */d", "wd|.", false},
    {"/*/ */d", "wd|.", false},
    {"/***/d/**/", "wd|.", false},
    {"/* a /* b */", "!", false},
    {"/*", "!", false},
    {"*/", "o*/|.", false},
    {"--x\rb", "wb|.", false},
    {"([,;])", ",(|,[|,,|,;|,]|,)|.", false},
    {"{", "!", false},
    {"a\\b", "wa|!", false},
};

static void tokens_are_cut_as_postgresql_cuts_them(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        char got[1024];
        size_t n = 0;
        struct scan s;
        struct scan_token t;
        scan_init(&s, slice_of(cuts[i].sql), !cuts[i].old_strings);
        do {
            scan_next(&s, &t);
            const bool end = t.kind == SCAN_END || t.kind == SCAN_BAD;
            n += (size_t)snprintf(got + n, sizeof got - n, "%s%c%.*s", n > 0 ? "|" : "",
                                  kinds[t.kind], end ? 0 : (int)t.text.n,
                                  end ? "" : (const char *)t.text.p);
        } while (t.kind != SCAN_END && t.kind != SCAN_BAD);
        assert_string_equal(got, cuts[i].tokens);
        scan_next(&s, &t); /* the end stays the end, bad stays bad */
        assert_int_equal(kinds[t.kind], got[n - 1]);
    }
}

static void a_nul_byte_is_bad(void **state)
{
    (void)state;
    struct scan s;
    struct scan_token t;
    scan_init(&s, (struct slice){(const uint8_t *)"a\0b", 3}, true);
    scan_next(&s, &t);
    assert_int_equal(t.kind, SCAN_WORD);
    scan_next(&s, &t);
    assert_int_equal(t.kind, SCAN_BAD);
}

static void the_last_comment_is_kept(void **state)
{
    (void)state;
    struct scan s;
    struct scan_token t;
    scan_init(&s, slice_of("/* a */ -- b\nSELECT /* c */"), true);
    scan_next(&s, &t);
    assert_true(slice_is(s.comment, "-- b"));
    scan_next(&s, &t);
    assert_int_equal(t.kind, SCAN_END);
    assert_true(slice_is(s.comment, "/* c */"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_cut_as_postgresql_cuts_them),
        cmocka_unit_test(a_nul_byte_is_bad),
        cmocka_unit_test(the_last_comment_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
