/* tests/unit/test_router_hint.c: which comments are hints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "router/hint.h"

static const struct {
    const char *sql;
    enum hint_route route;
    const char *min_lsn;
} cases[] = {
    {"", HINT_NONE, ""},
    {"SELECT 1", HINT_NONE, ""},
    {"/* route=primary */ SELECT 1", HINT_PRIMARY, ""},
    {"/*route=primary*/SELECT 1", HINT_PRIMARY, ""},
    {" \n\t/* route=replica */ SELECT 1", HINT_REPLICA, ""},
    {"/* route=replica! */ SELECT 1", HINT_REPLICA_FORCED, ""},
    {"/* route=any */ SELECT 1", HINT_ANY, ""},
    {"/* pgweir: route=any */ SELECT 1", HINT_ANY, ""},
    {"/*pgweir:route=any*/ SELECT 1", HINT_ANY, ""},
    {"SELECT 1 /* route=primary */", HINT_PRIMARY, ""},
    {"SELECT 1 /* route=primary */ ; ", HINT_PRIMARY, ""},
    {"SELECT 1; /* route=primary */", HINT_PRIMARY, ""},
    {"/* a */ -- b\n /* route=primary */ /* c */ SELECT 1", HINT_PRIMARY, ""},
    {"SELECT 1 /* route=primary */ /* b */", HINT_PRIMARY, ""},
    {"SELECT 1 /* route=any */; /*traceparent='00-01'*/;", HINT_ANY, ""},
    {"SELECT 1 -- a\n/* b */ -- c\n /* lsn:0/1 */ /* d /* e */ */", HINT_NONE, "0/1"},
    {"SELECT 1 /* route=any */ /* b */ /* route=any */", HINT_UNREADABLE, ""},
    {"SELECT 1 /* route=any */ -- b", HINT_NONE, ""}, /* a line comment at the end hides it */
    {"SELECT 1 /* route=any */, 2 /* b */", HINT_NONE, ""},
    {"/* pgweir: route=replica, min_lsn=1-0/16B3748 */ SELECT 1", HINT_REPLICA, "1-0/16B3748"},
    {"/* min_lsn=0/16B3748 */ SELECT 1", HINT_NONE, "0/16B3748"},
    {"/* lsn:0/16B3748 */ SELECT 1", HINT_NONE, "0/16B3748"},
    {"SELECT 1 /* route=lsn:0/16B3748 */", HINT_NONE, "0/16B3748"},
    /* foreign */
    {"/*route='%2Fpolls',controller='x'*/ SELECT 1", HINT_NONE, ""},
    {"SELECT 1 /*route='%2Fpolls',controller='x'*/", HINT_NONE, ""},
    {"SELECT 1 /*route='primary'*/", HINT_NONE, ""},
    {"SELECT 1 /*controller='x',route=primary*/", HINT_NONE, ""},
    {"SELECT 1 /*route=primary,controller='x'*/", HINT_NONE, ""},
    {"SELECT 1 /*application:App,controller:posts,action:primary*/", HINT_NONE, ""},
    {"/* route=primary; */ SELECT 1", HINT_NONE, ""},
    {"/* route = primary */ SELECT 1", HINT_NONE, ""},
    {"/* Route=primary */ SELECT 1", HINT_NONE, ""},
    {"/* route=PRIMARY */ SELECT 1", HINT_NONE, ""},
    {"/* route=primaryx */ SELECT 1", HINT_NONE, ""},
    {"/* xroute=primary */ SELECT 1", HINT_NONE, ""},
    {"/* route=primary, */ SELECT 1", HINT_NONE, ""},
    {"/* route= */ SELECT 1", HINT_NONE, ""},
    {"/* route */ SELECT 1", HINT_NONE, ""},
    {"/**/ SELECT 1", HINT_NONE, ""},
    {"/*+ route=primary */ SELECT 1", HINT_NONE, ""},
    {"/*! route=primary */ SELECT 1", HINT_NONE, ""},
    {"/* min_lsn=soon */ SELECT 1", HINT_NONE, ""},
    /* ours, and wrong */
    {"/* pgweir: route=primry */ SELECT 1", HINT_UNREADABLE, ""},
    {"SELECT 1 /* pgweir: */", HINT_UNREADABLE, ""},
    {"/* pgweir: route=any, route=any */ SELECT 1", HINT_UNREADABLE, ""},
    {"/* pgweir: min_lsn=soon */ SELECT 1", HINT_UNREADABLE, ""},
    {"/* route=any */ SELECT 1 /* route=replica */", HINT_UNREADABLE, ""},
    /* elsewhere */
    {"SELECT /* route=primary */ 1", HINT_NONE, ""},
    {"SELECT 1; /* route=primary */ SELECT 2", HINT_NONE, ""},
    {"SELECT '/* route=primary */'", HINT_NONE, ""},
    {"SELECT 1 -- /* route=primary */", HINT_NONE, ""},
    {"-- /* route=primary */\nSELECT 1", HINT_NONE, ""},
    {"-- route=primary\nSELECT 1", HINT_NONE, ""},
    {"SELECT $$ /* route=primary */", HINT_NONE, ""},
    {"SELECT 'a /* route=primary */", HINT_NONE, ""},
    {"/* a /* route=primary */ */ SELECT 1", HINT_NONE, ""},
    {"SELECT 1 /* a /* route=primary */ */", HINT_NONE, ""},
    {"SELECT 1 /* a /* route=primary */", HINT_NONE, ""},
    {"/* route=primary", HINT_NONE, ""},
    {"/*/ route=primary */", HINT_NONE, ""},
    {"/* route=primary */", HINT_PRIMARY, ""},
};

static struct hint read_text(const char *sql)
{
    /* Exact memory, so that the sanitizer sees a byte too many. */
    size_t n = strlen(sql);
    uint8_t *copy = malloc(n ? n : 1);
    struct hint hint;
    assert_non_null(copy);
    memcpy(copy, sql, n);
    hint_read((struct slice){copy, n}, true, &hint);
    if (hint.min_lsn.n) /* into the caller's text */
        hint.min_lsn.p = (const uint8_t *)sql + (hint.min_lsn.p - copy);
    free(copy);
    return hint;
}

static void each_case(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct hint hint = read_text(cases[i].sql);
        if (hint.route != cases[i].route || !slice_is(hint.min_lsn, cases[i].min_lsn))
            fail_msg("%s: route %d, min_lsn %.*s", cases[i].sql, hint.route, (int)hint.min_lsn.n,
                     (const char *)hint.min_lsn.p);
    }
}

static void a_long_comment_is_no_hint(void **state)
{
    (void)state;
    char sql[HINT_BYTES_MAX + 64];
    for (int pad = 0; pad < 40; pad++) {
        int n =
            snprintf(sql, sizeof sql, "/* route=any%*s*/ SELECT 1", HINT_BYTES_MAX - 30 + pad, "");
        assert_true(n > 0 && (size_t)n < sizeof sql);
        size_t bytes = (size_t)n - strlen(" SELECT 1");
        assert_int_equal(read_text(sql).route, bytes <= HINT_BYTES_MAX ? HINT_ANY : HINT_NONE);
    }
}

static void joined_towards_the_primary(void **state)
{
    (void)state;
    for (int a = 0; a < HINT_ROUTE_N; a++) {
        for (int b = 0; b < HINT_ROUTE_N; b++) {
            enum hint_route both = hint_join((enum hint_route)a, (enum hint_route)b);
            assert_int_equal(both, hint_join((enum hint_route)b, (enum hint_route)a));
            bool primary = a == HINT_PRIMARY || b == HINT_PRIMARY;
            bool unreadable = a == HINT_UNREADABLE || b == HINT_UNREADABLE;
            assert_int_equal(both, unreadable ? HINT_UNREADABLE
                                   : primary  ? HINT_PRIMARY
                                   : a == b   ? (enum hint_route)a
                                              : HINT_NONE);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_case),
        cmocka_unit_test(a_long_comment_is_no_hint),
        cmocka_unit_test(joined_towards_the_primary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
