/* tests/unit/test_conf_options.c: every row of conf/options.def, and every form of a value. */
#include "test_conf.h"

#include "conf/option.h"

#include <inttypes.h>

#define BASE "[databases]\napp = host=a\n[pgweir]\nauth_type = trust\nclient_login_timeout = 1s\n"

/* Line 6 of a file that is otherwise right. */
static struct conf *load_line(const char *key, const char *value)
{
    char text[400];
    snprintf(text, sizeof text, BASE "%s = %s\n", key, value);
    return load_with(text, NULL);
}

static void refuse_line(const char *key, const char *value, const char *reason)
{
    char expected[400];
    assert_null(load_line(key, value));
    snprintf(expected, sizeof expected, "t.ini:6: %s: %s", key, reason);
    expect_message(CONF_ERROR, expected);
}

static void amount(const struct option *o, uint64_t v, char out[VALUE_TEXT_MAX], bool with_unit)
{
    if (o->field.kind == KIND_MS && with_unit)
        value_print_ms(v, out);
    else if (o->field.kind == KIND_BYTES && with_unit)
        value_print_bytes(v, out);
    else
        snprintf(out, VALUE_TEXT_MAX, "%" PRIu64 "%s", v, o->field.kind == KIND_MS ? "ms" : "");
}

static bool is_amount(const struct option *o)
{
    return o->field.kind == KIND_MS || o->field.kind == KIND_BYTES || o->field.kind == KIND_U32 ||
           o->field.kind == KIND_SHARE;
}

static void every_default_parses_within_its_bounds(void **state)
{
    (void)state;
    for (size_t i = 0; i < OPTION_N; i++) {
        struct why why;
        struct conf c;
        assert_true(strlen(options[i].help) > 10);
        assert_true(options[i].help[strlen(options[i].help) - 1] == '.');
        for (size_t d = 0; d < CONF_FLAVOUR_N; d++)
            if (options[i].defaults[d])
                assert_true(field_set(&c, &options[i].field, options[i].defaults[d], &why));
    }
}

static void every_bound_is_kept(void **state)
{
    (void)state;
    for (size_t i = 0; i < OPTION_N; i++) {
        const struct option *o = &options[i];
        if (!is_amount(o))
            continue;
        char good[VALUE_TEXT_MAX], bad[VALUE_TEXT_MAX], shown[VALUE_TEXT_MAX],
            bound[VALUE_TEXT_MAX], reason[200];
        struct why why;
        struct conf c;
        amount(o, o->field.min, good, false);
        assert_true(field_set(&c, &o->field, good, &why));
        amount(o, o->field.max, good, false);
        assert_true(field_set(&c, &o->field, good, &why));
        amount(o, o->field.max + 1, bad, false);
        amount(o, o->field.max + 1, shown, true);
        amount(o, o->field.max, bound, true);
        if (o->field.kind != KIND_MS)
            snprintf(bad, sizeof bad, "%" PRIu64, o->field.max + 1);
        snprintf(reason, sizeof reason, "%s is above the maximum %s", shown, bound);
        refuse_line(o->field.name, bad, reason);
        if (o->field.min == 0) {
            snprintf(reason, sizeof reason, "must not be negative: -1");
            refuse_line(o->field.name, "-1", reason);
            continue;
        }
        amount(o, o->field.min - 1, bad, false);
        amount(o, o->field.min - 1, shown, true);
        amount(o, o->field.min, bound, true);
        snprintf(reason, sizeof reason, "%s is below the minimum %s", shown, bound);
        refuse_line(o->field.name, bad, reason);
    }
}

static void every_kind_refuses_nonsense(void **state)
{
    (void)state;
    for (size_t i = 0; i < OPTION_N; i++) {
        const struct option *o = &options[i];
        char reason[300], words[160];
        switch (o->field.kind) {
        case KIND_U32:
        case KIND_MS:
        case KIND_BYTES:
        case KIND_SHARE:
            refuse_line(o->field.name, "abc", "not a number: \"abc\"");
            refuse_line(o->field.name, "", "not a number: \"\"");
            break;
        case KIND_FLAG:
            refuse_line(o->field.name, "2",
                        "neither yes nor no: \"2\" (use yes, no, on, off, true, false, 1 or 0)");
            break;
        case KIND_ENUM:
            words_print(o->field.words, ", ", " or ", words, sizeof words);
            snprintf(reason, sizeof reason, "unknown value \"abc\" (use %s)", words);
            refuse_line(o->field.name, "abc", reason);
            break;
        case KIND_TEXT:
        case KIND_SECRET: {
            struct why why;
            struct conf c;
            char *big = calloc(1, o->field.max + 2);
            memset(big, 'x', o->field.max + 1);
            assert_false(field_set(&c, &o->field, big, &why));
            snprintf(reason, sizeof reason, "%" PRIu64 " bytes are too long (at most %" PRIu64 ")",
                     o->field.max + 1, o->field.max);
            assert_string_equal(why.text, reason);
            big[o->field.max] = 0;
            assert_true(field_set(&c, &o->field, big, &why));
            free(big);
        } break;
        }
    }
}

static void every_word_of_an_enum_works(void **state)
{
    (void)state;
    for (size_t i = 0; i < OPTION_N; i++) {
        for (const struct word *w = options[i].field.words; w && w->text; w++) {
            struct conf c = {0};
            struct why why;
            char buf[VALUE_TEXT_MAX], upper[40] = "";
            for (size_t k = 0; w->text[k]; k++)
                upper[k] =
                    (char)(w->text[k] >= 'a' && w->text[k] <= 'z' ? w->text[k] - 32 : w->text[k]);
            bool ok = field_set(&c, &options[i].field, upper, &why);
            assert_int_equal(ok, w->state != WORD_LATER);
            if (w->state == WORD_OK)
                assert_string_equal(field_show(&c, &options[i].field, buf), w->text);
        }
    }
    refuse_line("auth_type", "hba",
                "hba is not supported yet (use trust, plain, md5 or scram-sha-256)");
    struct conf *c = load_line("server_tls_sslmode", "allow");
    expect_clean(c);
    assert_int_equal(c->server_tls_sslmode, CONF_SERVER_TLS_PREFER);
    conf_free(c);
}

static void times_and_sizes_take_units(void **state)
{
    (void)state;
    static const struct {
        const char *text, *bare;
        uint64_t ms;
    } times[] = {
        {"5", "s", 5000},    {"5", "ms", 5},        {"0.5", "s", 500},    {"250ms", "s", 250},
        {"1.5s", "s", 1500}, {"2min", "s", 120000}, {"1h", "s", 3600000}, {"1d", "s", 86400000},
        {"100us", "s", 1},   {"1001us", "s", 2},    {"0us", "s", 0},      {"5 s", "s", 5000},
        {".25", "s", 250},   {"0.0001", "s", 1},    {"007", "s", 7000},   {"0.25h", "s", 900000},
    };
    struct why why;
    uint64_t v = 0;
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        assert_true(value_ms(times[i].text, times[i].bare, &v, &why));
        assert_int_equal(v, times[i].ms);
    }
    static const char *const bad_times[] = {"5sec",
                                            "5M",
                                            "1.",
                                            "s",
                                            "",
                                            "1e3",
                                            "5m",
                                            "-1s",
                                            "1 2",
                                            "99999999999999999999",
                                            "1000000000000000d"};
    for (size_t i = 0; i < sizeof bad_times / sizeof *bad_times; i++)
        assert_false(value_ms(bad_times[i], "s", &v, &why));
    static const struct {
        const char *text;
        uint64_t bytes;
    } sizes[] = {{"16MB", 16 << 20}, {"1kB", 1024}, {"7", 7}, {"7B", 7}, {"1.5GB", 3ull << 29}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_true(value_bytes(sizes[i].text, &v, &why));
        assert_int_equal(v, sizes[i].bytes);
    }
    assert_false(value_bytes("1mb", &v, &why));
    assert_string_equal(why.text, "unknown unit \"mb\" (use B, kB, MB, GB or TB)");
}

static void numbers_take_c_prefixes(void **state)
{
    (void)state;
    struct why why;
    uint64_t v = 0;
    assert_true(value_u64("0777", &v, &why) && v == 511);
    assert_true(value_u64("0x1F", &v, &why) && v == 31);
    static const char *const bad[] = {" 1", "+1", "1 ", "08", "0x", "99999999999999999999", ""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(value_u64(bad[i], &v, &why));
    assert_false(value_u64("08", &v, &why));
    assert_string_equal(why.text, "not a number: \"08\" (a leading 0 means octal)");
}

static void shares_are_numbers_or_percentages(void **state)
{
    (void)state;
    static const struct {
        const char *text, *shown;
        uint32_t of, is;
    } good[] = {
        {"0", "0", 20, 0},
        {"7", "7", 20, 7},
        {"0x10", "16", 3, 16},
        {"25%", "25%", 20, 5},
        {"25%", "25%", 21, 6},
        {"25%", "25%", 1, 1},
        {"1%", "1%", 1, 1},
        {"1%", "1%", 100, 1},
        {"1%", "1%", 101, 2},
        {"100%", "100%", 7, 7},
        {"025%", "25%", 100000, 25000},
        {"25%", "25%", 0, 0}, /* of no limit: none */
        {"100%", "100%", UINT32_MAX, UINT32_MAX},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct conf *c = load_line("primary_read_budget", good[i].text);
        expect_clean(c);
        assert_int_equal(conf_share_of(c->primary_read_budget, good[i].of), good[i].is);
        char buf[VALUE_TEXT_MAX];
        assert_string_equal(field_show(c, &options[OPTION_primary_read_budget].field, buf),
                            good[i].shown);
        conf_free(c);
    }
    static const char *const bad[] = {"0%",   "101%", "%",     "25 %",  "-5%", "+5%",
                                      "2.5%", "25%%", "0x10%", "25% 3", "%25", "4294967321%"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char reason[200];
        snprintf(reason, sizeof reason, "not a percentage: \"%s\" (use 1%% to 100%%, or a number)",
                 bad[i]);
        refuse_line("primary_read_budget", bad[i], reason);
    }
    struct conf *a = load_line("primary_read_budget", "25"), *b = load_line("log_level", "info");
    const struct field *f = &options[OPTION_primary_read_budget].field;
    assert_true(field_equal(b, b, f) && !field_equal(a, b, f));
    conf_free(a);
    conf_free(b);
}

static void flags_take_words(void **state)
{
    (void)state;
    static const char *const words[] = {"0", "no", "off", "FALSE", "1", "Yes", "ON", "true"};
    for (size_t i = 0; i < 8; i++) {
        struct conf *c = load_line("log_connections", words[i]);
        expect_clean(c);
        assert_int_equal(c->log_connections, i >= 4);
        conf_free(c);
    }
}

static void defaults_follow_the_section(void **state)
{
    (void)state;
    struct conf *c = load_with("[databases]\na=\n[pgweir]\nauth_type=trust\n", NULL);
    expect_clean(c);
    assert_int_equal(c->pool_mode, CONF_POOL_TRANSACTION);
    assert_int_equal(c->queue_timeout_ms, 5000);
    assert_int_equal(c->max_client_conn, 10000);
    assert_string_equal(c->listen_addr, "*");
    assert_string_equal(c->databases[0].hosts[0].host, "/var/run/postgresql");
    conf_free(c);
    c = load_with("[databases]\na=\n[pgbouncer]\nauth_type=trust\n", NULL);
    expect_clean(c);
    assert_int_equal(c->pool_mode, CONF_POOL_SESSION);
    assert_int_equal(c->queue_timeout_ms, 120000);
    assert_int_equal(c->max_client_conn, 100);
    assert_int_equal(c->client_login_timeout_ms, 60000);
    assert_string_equal(c->listen_addr, "");
    assert_string_equal(c->databases[0].hosts[0].host, "/tmp");
    conf_free(c);
}

static void pgbouncer_keys_are_all_accepted(void **state)
{
    (void)state;
    for (size_t i = 0; i < FOREIGN_N; i++) {
        const struct foreign *f = &foreign_keys[i];
        char warning[300];
        snprintf(warning, sizeof warning, "t.ini:6: %s: %s: %s", f->name,
                 f->state == LATER ? "not supported yet" : "retired", f->note);
        struct conf *c = load_line(f->name, f->default_value);
        assert_non_null(c);
        assert_int_equal(errs.n, f->state == RETIRED);
        conf_free(c);
        c = load_line(f->name, "17");
        assert_non_null(c);
        assert_int_equal(errs.n, f->state != NO_EFFECT);
        if (f->state != NO_EFFECT)
            expect_message(CONF_WARNING, warning);
        assert_string_equal(c->foreign[i], "17");
        conf_free(c);
    }
}

static void show_tells_every_key_once_in_order(void **state)
{
    (void)state;
    struct conf *c = load_with(BASE "unix_socket_mode=0700\ntcp_user_timeout=5s\nmax_lag=1.5\n"
                                    "probe_user=p\nprobe_password=hush\npkt_buf=75\n",
                               NULL);
    expect_clean(c);
    static const char *const expected[][4] = {
        {"unix_socket_mode", "448", "511", "no"}, {"tcp_user_timeout", "5000", "0", "yes"},
        {"max_lag", "1.5", "1", "yes"},           {"probe_password", "********", "", "yes"},
        {"pkt_buf", "75", "4096", "no"},          {"auth_type", "trust", "scram-sha-256", "yes"},
        {"log_connections", "0", "0", "yes"},
    };
    size_t found = 0;
    char last[80] = "";
    for (size_t i = 0; i < conf_show_count(); i++) {
        struct conf_shown s;
        conf_show(c, i, &s);
        assert_true(strcmp(last, s.key) < 0);
        snprintf(last, sizeof last, "%s", s.key);
        assert_null(strstr(s.value, "hush"));
        for (size_t k = 0; k < sizeof expected / sizeof *expected; k++) {
            if (strcmp(expected[k][0], s.key) != 0)
                continue;
            found++;
            assert_string_equal(s.value, expected[k][1]);
            assert_string_equal(s.default_value, expected[k][2]);
            assert_int_equal(s.changeable, strcmp(expected[k][3], "yes") == 0);
        }
    }
    assert_int_equal(found, sizeof expected / sizeof *expected);
    assert_int_equal(conf_show_count(), OPTION_N + FOREIGN_N);
    conf_free(c);
}

static void restart_changes_are_named(void **state)
{
    (void)state;
    struct conf *a = load_with(BASE, NULL);
    struct conf *b = load_with(BASE "listen_port=1\nlisten_addr=::1\nmax_lag=2\n", NULL);
    const char *names[1] = {NULL};
    assert_int_equal(conf_restart_changes(a, b, names, 1), 2);
    assert_string_equal(names[0], "listen_addr");
    assert_int_equal(conf_restart_changes(a, a, NULL, 0), 0);
    conf_free(a);
    conf_free(b);
}

static void the_sample_loads_and_changes_nothing(void **state)
{
    (void)state;
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    conf_print_sample(out);
    fclose(out);
    for (size_t i = 0; i < OPTION_N; i++) {
        char line[200];
        snprintf(line, sizeof line, "\n;%s =", options[i].field.name);
        assert_non_null(strstr(text, line));
    }
    fake_files = (const struct fake_file[]){{"/etc/pgweir/userlist.txt", "\"a\" \"b\"\n", 0}, {0}};
    struct conf *c = load_with(text, NULL);
    expect_clean(c);
    assert_int_equal(c->databases[0].host_n, 3);
    conf_free(c);
    /* With every option uncommented it must mean the same. */
    char *open = strdup(text);
    for (char *p = strstr(open, "[pgweir]"); (p = strstr(p, "\n;")) != NULL; p++)
        if (p[2] >= 'a' && p[2] <= 'z' && strncmp(p, "\n;auth_file", 11) != 0)
            p[1] = ' ';
    c = load_with(open, NULL);
    expect_clean(c);
    struct conf_shown s;
    for (size_t i = 0; i < conf_show_count(); i++) {
        conf_show(c, i, &s);
        if (strcmp(s.key, "auth_file") != 0)
            assert_string_equal(s.value, s.default_value);
    }
    conf_free(c);
    free(open);
    free(text);
    fake_files = NULL;
}

RUN(cmocka_unit_test(every_default_parses_within_its_bounds), cmocka_unit_test(every_bound_is_kept),
    cmocka_unit_test(every_kind_refuses_nonsense), cmocka_unit_test(every_word_of_an_enum_works),
    cmocka_unit_test(times_and_sizes_take_units), cmocka_unit_test(numbers_take_c_prefixes),
    cmocka_unit_test(shares_are_numbers_or_percentages), cmocka_unit_test(flags_take_words),
    cmocka_unit_test(defaults_follow_the_section),
    cmocka_unit_test(pgbouncer_keys_are_all_accepted),
    cmocka_unit_test(show_tells_every_key_once_in_order),
    cmocka_unit_test(restart_changes_are_named),
    cmocka_unit_test(the_sample_loads_and_changes_nothing))
