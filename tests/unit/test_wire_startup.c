/* proxy/wire/startup: every packet, at every prefix, at every limit. */
#include "proxy/wire/startup.h"

#include "tests/unit/test_wire_help.h"

#define V3 "\0\3\0\0"
#define V32 "\0\3\0\2"
#define CANCEL "\x04\xd2\x16\x2e"

/* The answer for all of in; each prefix must give MORE or that answer, and touch nothing. */
static enum startup_rc read_all(struct slice in, struct startup *out)
{
    enum startup_rc rc = startup_read(in, out);
    bool known = false;
    for (size_t n = 0; n < in.n; n++) {
        uint8_t *copy = exact_copy((struct slice){in.p, n});
        struct startup part = {.total_bytes = 77};
        enum startup_rc part_rc = startup_read((struct slice){copy, n}, &part);
        if (known)
            assert_int_equal(part_rc, rc);
        else
            assert_true(part_rc == STARTUP_MORE || part_rc == rc);
        known = part_rc != STARTUP_MORE;
        if (part_rc != STARTUP_OK)
            assert_int_equal(part.total_bytes, 77);
        free(copy);
    }
    return rc;
}

/* A packet of these bytes after the length, which is put right. */
static struct slice packet(uint8_t *room, struct slice rest)
{
    struct put o = put_into(room, STARTUP_BYTES_MAX + 8);
    put_u32(&o, (uint32_t)rest.n + 4);
    put_bytes(&o, rest);
    assert_false(o.full);
    return put_slice(&o);
}

static uint8_t room[STARTUP_BYTES_MAX + 8];

static enum startup_rc read_rest(struct slice rest, struct startup *out)
{
    return read_all(packet(room, rest), out);
}

static void packets_that_are_wrong_say_why(void **state)
{
    (void)state;
    static const struct {
        struct slice rest;
        enum startup_rc rc;
    } rows[] = {
        {BYTES(""), STARTUP_TOO_SHORT},
        {BYTES(V3), STARTUP_NO_TERMINATOR},
        {BYTES(V3 "\0"), STARTUP_NO_USER},
        {BYTES(V3 "x"), STARTUP_NO_TERMINATOR},
        {BYTES(V3 "user\0bob\0"), STARTUP_BAD_LAYOUT},
        {BYTES(V3 "user\0bob"), STARTUP_NO_TERMINATOR},
        {BYTES(V3 "user\0\0\0"), STARTUP_NO_USER},
        {BYTES(V3 "database\0a\0\0"), STARTUP_NO_USER},
        {BYTES(V3 "USER\0bob\0\0"), STARTUP_NO_USER},
        {BYTES(V3 "user\0\0"), STARTUP_BAD_LAYOUT},
        {BYTES(V3 "\0user\0bob\0\0"), STARTUP_BAD_LAYOUT},
        {BYTES(V3 "user\0bob\0\0\0"), STARTUP_BAD_LAYOUT},
        {BYTES(V3 "user\0bob\0\0a\0b\0\0"), STARTUP_BAD_LAYOUT},
        {BYTES(V3 "user\0bob\0alone\0\0"), STARTUP_BAD_LAYOUT},
        {BYTES(V3 "user\0bob\0user\0eve\0\0"), STARTUP_DUPLICATE_PARAM},
        {BYTES(V3 "user\0bob\0x\0a\0y\0b\0x\0a\0\0"), STARTUP_DUPLICATE_PARAM},
        {BYTES(V3 "user\0bob\0TimeZone\0a\0timezone\0b\0\0"), STARTUP_DUPLICATE_PARAM},
        {BYTES("\0\2\0\0user\0bob\0\0"), STARTUP_OLD_PROTOCOL},
        {BYTES("\0\1\0\0user\0bob\0\0"), STARTUP_UNKNOWN_PROTOCOL},
        {BYTES("\0\4\0\0user\0bob\0\0"), STARTUP_UNKNOWN_PROTOCOL},
        {BYTES("\0\0\0\0user\0bob\0\0"), STARTUP_UNKNOWN_PROTOCOL},
        {BYTES("\x04\xd2\x16\x31"), STARTUP_UNKNOWN_PROTOCOL},
        {BYTES("\xffSMB"), STARTUP_UNKNOWN_PROTOCOL},
        {BYTES("\x04\xd2\x16\x2f\0"), STARTUP_BAD_LAYOUT},
        {BYTES("\x04\xd2\x16\x30\0"), STARTUP_BAD_LAYOUT},
        {BYTES(CANCEL), STARTUP_BAD_LAYOUT},
        {BYTES(CANCEL "\0\0\0\1"), STARTUP_BAD_LAYOUT},
        {BYTES(CANCEL "\0\0\0\1key"), STARTUP_BAD_LAYOUT},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct startup s = {.total_bytes = 77};
        assert_int_equal(read_rest(rows[i].rest, &s), rows[i].rc);
        assert_int_equal(s.total_bytes, 77);
        assert_true(strlen(startup_error_text(rows[i].rc)) > 0);
        assert_int_equal(strlen(startup_error_sqlstate(rows[i].rc)), 5);
    }
}

static void the_length_is_judged_from_four_bytes(void **state)
{
    (void)state;
    static const struct {
        struct slice in;
        enum startup_rc rc;
    } rows[] = {
        {BYTES("GET / HTTP/1.0\r\n\r\n"), STARTUP_NOT_POSTGRES},
        {BYTES("POST"), STARTUP_NOT_POSTGRES},
        {BYTES("SSH-2.0-OpenSSH_9.2\r\n"), STARTUP_NOT_POSTGRES},
        {BYTES("\r\n\r\n\0\r\nQUIT\n"), STARTUP_NOT_POSTGRES}, /* PROXY protocol, version 2 */
        {BYTES("EHLO mail\r\n"), STARTUP_NOT_POSTGRES},
        {BYTES("\0\0\0\0"), STARTUP_TOO_SHORT},
        {BYTES("\0\0\0\7"), STARTUP_TOO_SHORT},
        {BYTES("\0\0\x27\x11"), STARTUP_TOO_LONG},
        {BYTES("\x7f\xff\xff\xff"), STARTUP_TOO_LONG},
        {BYTES("\x80\0\0\0"), STARTUP_TOO_LONG},
        {BYTES("\xff\xff\xff\xff"), STARTUP_TOO_LONG},
        {BYTES("\0\0\x27\x10"), STARTUP_MORE},
        {BYTES("\0\0\0\x08"), STARTUP_MORE},
        {BYTES("\0\0\x27\x10GET "), STARTUP_UNKNOWN_PROTOCOL},
        {BYTES("\0\0\x27\x10\0\2\0\0"), STARTUP_OLD_PROTOCOL},
        {BYTES("\0\0\x27\x10\x04\xd2\x16\x2f"), STARTUP_BAD_LAYOUT},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct startup s;
        assert_int_equal(read_all(rows[i].in, &s), rows[i].rc);
    }
}

static void a_packet_gives_its_parameters(void **state)
{
    (void)state;
    struct startup s;
    struct slice name, value;
    assert_int_equal(read_rest(BYTES(V3 "user\0bob\0database\0app\0options\0-c a=b\0"
                                        "replication\0true\0application_name\0\0\0"),
                               &s),
                     STARTUP_OK);
    assert_int_equal(s.kind, STARTUP_V3);
    assert_int_equal(s.minor, 0);
    assert_false(s.needs_negotiation);
    assert_int_equal(s.total_bytes, slice_u32(room));
    assert_text(s.user, "bob");
    assert_text(s.database, "app");
    assert_text(s.options, "-c a=b");
    assert_text(s.replication, "true");
    static const char *const pairs[][2] = {{"user", "bob"},
                                           {"database", "app"},
                                           {"options", "-c a=b"},
                                           {"replication", "true"},
                                           {"application_name", ""}};
    struct slice rest = s.params;
    for (size_t i = 0; i < COUNT(pairs); i++) {
        assert_true(startup_next_param(&rest, &name, &value));
        assert_text(name, pairs[i][0]);
        assert_text(value, pairs[i][1]);
    }
    assert_false(startup_next_param(&rest, &name, &value));
    assert_int_equal(rest.n, 0);
}

static void the_database_defaults_to_the_user(void **state)
{
    (void)state;
    struct startup s;
    assert_int_equal(read_rest(BYTES(V3 "user\0bob\0\0"), &s), STARTUP_OK);
    assert_text(s.database, "bob");
    assert_null(s.options.p);
    assert_null(s.replication.p);
    assert_int_equal(read_rest(BYTES(V3 "database\0\0user\0bob\0\0"), &s), STARTUP_OK);
    assert_text(s.database, "bob");
}

static void bytes_after_the_packet_are_left_alone(void **state)
{
    (void)state;
    struct startup s;
    assert_int_equal(startup_read(BYTES("\0\0\0\x08\x04\xd2\x16\x2fXYZ"), &s), STARTUP_OK);
    assert_int_equal(s.kind, STARTUP_SSL);
    assert_int_equal(s.total_bytes, 8);
    assert_int_equal(startup_read(BYTES("\0\0\0\x12\0\3\0\0user\0bob\0\0"
                                        "p\0\0\0"),
                                  &s),
                     STARTUP_OK);
    assert_int_equal(s.total_bytes, 18);
    assert_text(s.user, "bob");
}

static void requests_have_their_kind(void **state)
{
    (void)state;
    struct startup s;
    assert_int_equal(read_all(BYTES("\0\0\0\x08\x04\xd2\x16\x2f"), &s), STARTUP_OK);
    assert_int_equal(s.kind, STARTUP_SSL);
    assert_int_equal(read_all(BYTES("\0\0\0\x08\x04\xd2\x16\x30"), &s), STARTUP_OK);
    assert_int_equal(s.kind, STARTUP_GSSENC);
    static const uint8_t health[] = STARTUP_HEALTH_REQUEST;
    assert_int_equal(startup_read((struct slice){health, sizeof health}, &s), STARTUP_OK);
    assert_int_equal(s.kind, STARTUP_HEALTH);
    assert_int_equal(read_all(BYTES("\x16\3\1\2\0\1\0"), &s), STARTUP_OK);
    assert_int_equal(s.kind, STARTUP_DIRECT_TLS);
    assert_int_equal(s.total_bytes, 0);
    assert_int_equal(startup_read(BYTES("\x16"), &s), STARTUP_OK);
    assert_int_equal(startup_read(SLICE_NONE, &s), STARTUP_MORE);
}

static void cancel_keys_have_4_to_256_bytes(void **state)
{
    (void)state;
    uint8_t rest[8 + STARTUP_KEY_MAX + 2];
    for (size_t n = 0; n <= STARTUP_KEY_MAX + 2; n++) {
        struct startup s;
        struct put o = put_into(rest, sizeof rest);
        put_bytes(&o, BYTES(CANCEL "\1\2\3\4"));
        for (size_t i = 0; i < n; i++)
            put_u8(&o, (uint8_t)i);
        bool fits = n >= STARTUP_KEY_MIN && n <= STARTUP_KEY_MAX;
        assert_int_equal(read_rest(put_slice(&o), &s), fits ? STARTUP_OK : STARTUP_BAD_LAYOUT);
        if (!fits)
            continue;
        assert_int_equal(s.kind, STARTUP_CANCEL);
        assert_int_equal(s.cancel_pid, 0x01020304);
        assert_slice(s.cancel_key, (struct slice){rest + 8, n});
    }
}

static void minors_and_protocol_options_are_negotiated(void **state)
{
    (void)state;
    static const struct {
        uint16_t asked, spoken;
        bool negotiates;
    } rows[] = {{0, 0, false}, {1, 0, true},    {2, 2, false},
                {3, 2, true},  {9999, 2, true}, {65535, 2, true}};
    for (size_t i = 0; i < COUNT(rows); i++) {
        uint8_t rest[64];
        struct startup s;
        struct put o = put_into(rest, sizeof rest);
        put_u16(&o, 3);
        put_u16(&o, rows[i].asked);
        put_bytes(&o, BYTES("user\0bob\0\0"));
        assert_int_equal(read_rest(put_slice(&o), &s), STARTUP_OK);
        assert_int_equal(s.requested_minor, rows[i].asked);
        assert_int_equal(s.minor, rows[i].spoken);
        assert_int_equal(s.needs_negotiation, rows[i].negotiates);
    }
    struct startup s;
    assert_int_equal(read_rest(BYTES(V32 "user\0bob\0_pq_.x\0y\0\0"), &s), STARTUP_OK);
    assert_true(s.needs_negotiation && s.minor == 2);
    assert_int_equal(read_rest(BYTES(V3 "user\0bob\0_pq_x\0y\0\0"), &s), STARTUP_OK);
    assert_false(s.needs_negotiation);
}

static enum startup_rc read_names(size_t user_n, size_t database_n, struct startup *s)
{
    uint8_t rest[512];
    struct put o = put_into(rest, sizeof rest);
    put_bytes(&o, BYTES(V3 "user\0"));
    for (size_t i = 0; i < user_n; i++)
        put_u8(&o, 'u');
    put_bytes(&o, BYTES("\0database\0"));
    for (size_t i = 0; i < database_n; i++)
        put_u8(&o, 'd');
    put_bytes(&o, BYTES("\0\0"));
    return read_rest(put_slice(&o), s);
}

static void names_have_up_to_63_bytes(void **state)
{
    (void)state;
    struct startup s;
    for (size_t n = 1; n <= 130; n++) {
        bool fits = n <= STARTUP_NAME_MAX;
        assert_int_equal(read_names(n, 1, &s), fits ? STARTUP_OK : STARTUP_USER_TOO_LONG);
        assert_int_equal(read_names(1, n, &s), fits ? STARTUP_OK : STARTUP_DATABASE_TOO_LONG);
    }
}

static void up_to_64_parameters(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 70; n++) {
        uint8_t rest[1024];
        struct startup s;
        struct put o = put_into(rest, sizeof rest);
        put_bytes(&o, BYTES(V3 "user\0bob\0"));
        for (unsigned i = 1; i < n; i++) {
            put_u8(&o, (uint8_t)('a' + i / 10)); /* letters only: names compare without case */
            put_u8(&o, (uint8_t)('0' + i % 10));
            put_bytes(&o, BYTES("\0v\0"));
        }
        put_u8(&o, 0);
        enum startup_rc want = n <= STARTUP_PARAMS_MAX ? STARTUP_OK : STARTUP_TOO_MANY_PARAMS;
        assert_int_equal(read_rest(put_slice(&o), &s), want);
    }
}

static void a_packet_has_up_to_10000_bytes(void **state)
{
    (void)state;
    static uint8_t rest[STARTUP_BYTES_MAX];
    struct startup s;
    for (size_t total = STARTUP_BYTES_MAX - 1; total <= STARTUP_BYTES_MAX + 1; total++) {
        memset(rest, 'v', sizeof rest);
        memcpy(rest, V3 "user\0bob\0x\0", 15);
        rest[total - 4 - 2] = rest[total - 4 - 1] = 0;
        struct slice in = packet(room, (struct slice){rest, total - 4});
        bool fits = total <= STARTUP_BYTES_MAX;
        assert_int_equal(startup_read(in, &s), fits ? STARTUP_OK : STARTUP_TOO_LONG);
        in.n = total - 1;
        assert_int_equal(startup_read(in, &s), fits ? STARTUP_MORE : STARTUP_TOO_LONG);
    }
}

/* The settings as "name=value;", then E for the end, B for bad, L for too long. */
static void assert_options(const char *options, const char *want)
{
    struct slice rest = slice_of(options), name, value;
    uint8_t *copy = exact_copy(rest), *text = malloc(rest.n + 1);
    char got[256];
    struct put words = put_into(text, rest.n), o = put_into((uint8_t *)got, sizeof got);
    enum startup_option_rc rc;
    rest.p = copy;
    for (;;) {
        size_t before = rest.n;
        rc = startup_next_option(&rest, &words, &name, &value);
        if (rc != STARTUP_OPTION_OK)
            break;
        assert_true(rest.n < before);
        put_bytes(&o, name);
        put_u8(&o, '=');
        put_bytes(&o, value);
        put_u8(&o, ';');
    }
    put_u8(&o, rc == STARTUP_OPTION_END ? 'E' : rc == STARTUP_OPTION_BAD ? 'B' : 'L');
    assert_text(put_slice(&o), want);
    free(copy);
    free(text);
}

static void options_are_read_as_postgresql_reads_them(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"", "E"},
        {"  \t\n", "E"},
        {"-c a=b", "a=b;E"},
        {"-ca=b", "a=b;E"},
        {"--a=b", "a=b;E"},
        {"  -c  a=b\t--c=d -ce=f ", "a=b;c=d;e=f;E"},
        {"-c search_path=a\\ b,c", "search_path=a b,c;E"},
        {"-c a=\\\\b", "a=\\b;E"},
        {"-c a=b\\", "a=b;E"},
        {"-c a=\\-c", "a=-c;E"},
        {"--statement-timeout=5s", "statement_timeout=5s;E"},
        {"-c a-b=c-d", "a_b=c-d;E"},
        {"-c a=", "a=;E"},
        {"-c a=b=c", "a=b=c;E"},
        {"-c a=b\\ -c c=d", "a=b -c;B"},
        {"-c", "B"},
        {"-c ", "B"},
        {"-c=", "B"},
        {"-c=b", "B"},
        {"-c =b", "B"},
        {"--", "B"},
        {"--=", "B"},
        {"--=b", "B"},
        {"-c a", "B"},
        {"--a", "B"},
        {"-c -c a=b", "B"},
        {"-d 5", "B"},
        {"-", "B"},
        {"a=b", "B"},
        {"\\", "B"},
        {"-c \\", "B"},
        {"-c a=b x", "a=b;B"},
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        assert_options(rows[i][0], rows[i][1]);
}

static void options_that_do_not_fit_are_too_long(void **state)
{
    (void)state;
    for (size_t cap = 0; cap < 5; cap++) {
        struct slice rest = slice_of("-c abc"), name, value;
        uint8_t text[8];
        struct put words = put_into(text, cap);
        assert_int_equal(startup_next_option(&rest, &words, &name, &value),
                         STARTUP_OPTION_TOO_LONG);
        assert_int_equal(rest.n, 6);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packets_that_are_wrong_say_why),
        cmocka_unit_test(the_length_is_judged_from_four_bytes),
        cmocka_unit_test(a_packet_gives_its_parameters),
        cmocka_unit_test(the_database_defaults_to_the_user),
        cmocka_unit_test(bytes_after_the_packet_are_left_alone),
        cmocka_unit_test(requests_have_their_kind),
        cmocka_unit_test(cancel_keys_have_4_to_256_bytes),
        cmocka_unit_test(minors_and_protocol_options_are_negotiated),
        cmocka_unit_test(names_have_up_to_63_bytes),
        cmocka_unit_test(up_to_64_parameters),
        cmocka_unit_test(a_packet_has_up_to_10000_bytes),
        cmocka_unit_test(options_are_read_as_postgresql_reads_them),
        cmocka_unit_test(options_that_do_not_fit_are_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
