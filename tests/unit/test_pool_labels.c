/* Labels over labels, what a SET makes of one, names of custom settings, what clients were told. */
#include "proxy/pool/label.h"
#include "proxy/pool/told.h"

#include "tests/unit/test_wire_help.h"

#include <stdio.h>

static struct list labels;

/* "name\0value\0..." */
#define LABEL(literal) label_of_text(&labels, BYTES(literal))

static int begin(void **state)
{
    (void)state;
    list_init(&labels);
    return 0;
}

static int all_gone(void **state)
{
    (void)state;
    return list_empty(&labels) ? 0 : 1;
}

static void equal_sets_are_one_object(void **state)
{
    (void)state;
    struct label *a = LABEL("b\0002\0a\0001\0"), *b = LABEL("A\0009\0B\0002\0a\0001\0");
    struct label *other = LABEL("a\0001\0b\0003\0"), *none = LABEL("");
    assert_ptr_equal(a, b);
    assert_ptr_not_equal(a, other);
    assert_string_equal(label_value(a, "a"), "1");
    assert_string_equal(label_value(other, "b"), "3");
    assert_null(label_value(a, "ab"));
    assert_null(label_value(none, "a"));
    label_unref(a);
    assert_string_equal(label_value(b, "b"), "2"); /* there is one reference left */
    label_unref(b);
    label_unref(other);
    label_unref(none);
}

static void a_label_over_another_has_its_own_values_first(void **state)
{
    (void)state;
    struct label *own = LABEL("a\0001\0c\0003\0"), *under = LABEL("a\0009\0b\0002\0");
    struct label *both = label_over(&labels, own, under),
                 *wanted = LABEL("a\0001\0b\0002\0c\0003\0");
    assert_ptr_equal(both, wanted);
    label_unref(wanted);
    label_unref(both);
    label_unref(own);
    label_unref(under);
}

static void too_much_for_one_label_is_none(void **state)
{
    (void)state;
    char text[2][LABEL_ENTRIES_MAX * 8];
    size_t n[2] = {0};
    for (int i = 0; i < LABEL_ENTRIES_MAX; i++)
        n[i % 2] +=
            (size_t)snprintf(text[i % 2] + n[i % 2], sizeof text[0] - n[i % 2], "n%d%cv", i, '\0') +
            1;
    struct label *a = label_of_text(&labels, (struct slice){(uint8_t *)text[0], n[0]});
    struct label *b = label_of_text(&labels, (struct slice){(uint8_t *)text[1], n[1]});
    struct label *both = label_over(&labels, a, b), *more = LABEL("more\0v\0");
    assert_non_null(both);
    assert_null(label_over(&labels, both, more));
    assert_null(label_over(&labels, more, both));
    label_unref(both);
    label_unref(more);
    label_unref(a);
    label_unref(b);
}

static void what_changes_how_sql_is_read_is_known(void **state)
{
    (void)state;
    struct label *a = LABEL("work_mem\0001\0"), *b = LABEL("search_path\0s\0work_mem\0001\0");
    struct label *c = LABEL("default_transaction_isolation\0serializable\0"
                            "idle_in_transaction_session_timeout\0"
                            "2min\0");
    static const struct slice env = {(const uint8_t *)"search_path\0s", 14};
    assert_int_equal(a->parse_env_bytes, 0);
    assert_true(slice_equals((struct slice){b->parse_env, b->parse_env_bytes}, env));
    assert_int_equal(c->tx.isolation, TX_SERIALIZABLE);
    assert_int_equal(c->idle_in_tx_ms, 120000);
    label_unref(a);
    label_unref(b);
    label_unref(c);
}

static void a_step_is_of_one_label_and_one_text(void **state)
{
    (void)state;
    static struct label_steps steps;
    struct label *a = LABEL("a\0001\0"), *b = LABEL("b\0001\0"), *none = LABEL("");
    char text[32];
    label_steps_init(&steps);
    label_steps_add(&steps, none, a, slice_of("SET a"));
    label_steps_add(&steps, none, b, slice_of("SET b"));
    assert_ptr_equal(label_steps_find(&steps, none, slice_of("SET a")), a);
    assert_ptr_equal(label_steps_find(&steps, none, slice_of("SET b")), b);
    assert_null(label_steps_find(&steps, a, slice_of("SET b")));
    assert_null(label_steps_find(&steps, none, slice_of("SET")));
    for (unsigned i = 0; i < LABEL_STEPS_MAX - 1; i++) { /* the oldest goes */
        snprintf(text, sizeof text, "SET c%u", i);
        label_steps_add(&steps, a, b, slice_of(text));
    }
    assert_int_equal(steps.n, LABEL_STEPS_MAX);
    assert_null(label_steps_find(&steps, none, slice_of("SET a")));
    assert_ptr_equal(label_steps_find(&steps, none, slice_of("SET b")), b);
    label_unref(a); /* the steps have references of their own */
    label_unref(b);
    label_unref(none);
    assert_false(list_empty(&labels));
    label_steps_clear(&steps);
    assert_int_equal(steps.n, 0);
}

static void expect_names(const char *text, const char *wanted)
{
    struct custom_settings custom = {0};
    char names[256] = "";
    assert_true(custom_settings_read(&custom, slice_of(text)));
    for (const char *at = NULL; (at = custom_settings_next(&custom, at));)
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s ", at);
    assert_string_equal(names, wanted);
    custom_settings_free(&custom);
    assert_null(custom_settings_next(&custom, NULL));
}

static void names_with_dots_may_be_settings(void **state)
{
    (void)state;
    expect_names("SET a.b = 1, A.B, \"C\".d$1.e_ f", "a.b c.d$1.e_ ");
    expect_names("set_config('my.own', '1.5 .x y. 2a.b', false)", "my.own ");
    expect_names("na\xc3\xafve.x \xe9.b", "ve.x "); /* harmless */
    expect_names("nothing here", "");
    struct label *label = LABEL("a.b\0c.d\0e\0f\0g.h\0\0");
    struct custom_settings custom = {0};
    assert_true(custom_settings_of_label(&custom, label));
    assert_int_equal(custom.n, 2);
    assert_string_equal(custom.text, "a.b");
    custom_settings_free(&custom);
    label_unref(label);
}

static void names_are_limited_in_number_and_length(void **state)
{
    (void)state;
    struct custom_settings custom = {0};
    char text[CUSTOM_NAME_MAX + 3];
    for (unsigned i = 0; i < CUSTOM_SETTINGS_MAX; i++) {
        snprintf(text, sizeof text, "a.b%u", i);
        assert_true(custom_settings_read(&custom, slice_of(text)));
    }
    assert_true(custom_settings_read(&custom, slice_of("a.b7")));
    assert_false(custom_settings_read(&custom, slice_of("a.new")));
    custom_settings_free(&custom);
    memset(text, 'x', sizeof text);
    text[1] = '.';
    text[CUSTOM_NAME_MAX + 1] = '\0';
    assert_true(custom_settings_read(&custom, slice_of(text))); /* no name is so long */
    assert_int_equal(custom.n, 0);
    text[CUSTOM_NAME_MAX] = '\0';
    assert_true(custom_settings_read(&custom, slice_of(text)));
    assert_int_equal(custom.n, 1);
    custom_settings_free(&custom);
}

#define STATUS(length, literal) "S\0\0\0" length literal "\0"

static void a_client_is_told_what_differs(void **state)
{
    (void)state;
    static const char first[] = STATUS("\x08", "a\0"
                                               "1") STATUS("\x08", "b\0"
                                                                   "2");
    static const char second[] = STATUS("\x08", "a\0"
                                                "1") STATUS("\x08", "b\0"
                                                                    "3") STATUS("\x08", "c\0"
                                                                                        "4");
    static const char standby[] = STATUS("\x16", "in_hot_standby\0"
                                                 "on") STATUS("\x08", "a\0"
                                                                      "1") STATUS("\x08", "b\0"
                                                                                          "2");
    static const char changed[] = STATUS("\x08", "a\0"
                                                 "1") STATUS("\x08", "b\0"
                                                                     "5");
    static const char wanted[] = STATUS("\x08", "b\0"
                                                "3") STATUS("\x08", "c\0"
                                                                    "4");
    uint8_t bytes[64];
    struct put o = put_into(bytes, sizeof bytes);
    struct list tolds;
    list_init(&tolds);
    struct told *one = told_find(&tolds, BYTES(first)), *two = told_find(&tolds, BYTES(second));
    struct told *same = told_find(&tolds, BYTES(standby)),
                *third = told_find(&tolds, BYTES(changed));
    assert_ptr_not_equal(one, third);
    told_unref(third);
    assert_ptr_equal(one, same);
    assert_ptr_not_equal(one, two);
    told_difference(one, same, &o);
    assert_int_equal(o.n, 0);
    told_difference(one, two, &o);
    assert_true(slice_equals(put_slice(&o), BYTES(wanted)));
    told_unref(one);
    told_unref(same);
    told_unref(two);
    assert_true(list_empty(&tolds));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(equal_sets_are_one_object, begin, all_gone),
        cmocka_unit_test_setup_teardown(a_label_over_another_has_its_own_values_first, begin,
                                        all_gone),
        cmocka_unit_test_setup_teardown(too_much_for_one_label_is_none, begin, all_gone),
        cmocka_unit_test_setup_teardown(what_changes_how_sql_is_read_is_known, begin, all_gone),
        cmocka_unit_test_setup_teardown(a_step_is_of_one_label_and_one_text, begin, all_gone),
        cmocka_unit_test_setup_teardown(names_with_dots_may_be_settings, begin, all_gone),
        cmocka_unit_test(names_are_limited_in_number_and_length),
        cmocka_unit_test(a_client_is_told_what_differs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
