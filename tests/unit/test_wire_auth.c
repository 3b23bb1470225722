/* proxy/wire/auth and error_fields: hostile bodies, at every prefix and with every length that
 * lies. */
#include "proxy/wire/auth.h"

#include "proxy/wire/error_fields.h"
#include "tests/unit/test_wire_help.h"

static bool reads_request(struct slice body)
{
    struct auth_request r;
    return auth_read_request(body, &r);
}

static bool reads_password(struct slice body)
{
    struct slice password;
    return auth_read_password(body, &password);
}

static bool reads_sasl_initial(struct slice body)
{
    struct auth_sasl_initial r;
    return auth_read_sasl_initial(body, &r);
}

static bool reads_backend_key(struct slice body)
{
    uint32_t pid;
    struct slice key;
    return auth_read_backend_key(body, &pid, &key);
}

static bool reads_param_status(struct slice body)
{
    struct slice name, value;
    return auth_read_param_status(body, &name, &value);
}

static bool reads_ready(struct slice body)
{
    char status;
    return auth_read_ready(body, &status);
}

static bool reads_negotiate(struct slice body)
{
    uint16_t minor;
    return auth_read_negotiate(body, &minor);
}

static bool reads_errors(struct slice body)
{
    struct error_fields f;
    return error_fields_read(body, &f);
}

/* A good body: each of its prefixes is refused, and so is one more byte. */
static void a_body_is_read_whole_or_refused(void **state)
{
    (void)state;
    static const struct {
        bool (*reads)(struct slice);
        struct slice body;
    } rows[] = {
        {reads_request, BYTES("\0\0\0\0")},
        {reads_request, BYTES("\0\0\0\3")},
        {reads_request, BYTES("\0\0\0\5\1\2\3\4")},
        {reads_request, BYTES("\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")},
        {reads_password, BYTES("secret\0")},
        {reads_password, BYTES("\0")},
        {reads_sasl_initial, BYTES("SCRAM-SHA-256\0\0\0\0\7n,,n=,r")},
        {reads_sasl_initial, BYTES("SCRAM-SHA-256\0\0\0\0\0")},
        {reads_sasl_initial, BYTES("SCRAM-SHA-256\0\xff\xff\xff\xff")},
        {reads_param_status, BYTES("TimeZone\0UTC\0")},
        {reads_param_status, BYTES("a\0\0")},
        {reads_ready, BYTES("I")},
        {reads_ready, BYTES("T")},
        {reads_ready, BYTES("E")},
        {reads_negotiate, BYTES("\0\3\0\2\0\0\0\0")},
        {reads_negotiate, BYTES("\0\3\0\0\0\0\0\2_pq_.a\0_pq_.b\0")},
        {reads_errors, BYTES("SERROR\0C42P01\0Mno\0\0")},
        {reads_errors, BYTES("\0")},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct slice body = rows[i].body;
        for (size_t n = 0; n <= body.n; n++) {
            uint8_t *copy = exact_copy((struct slice){body.p, n});
            assert_int_equal(rows[i].reads((struct slice){copy, n}), n == body.n);
            free(copy);
        }
        uint8_t longer[128] = {0};
        memcpy(longer, body.p, body.n);
        assert_false(rows[i].reads((struct slice){longer, body.n + 1}));
        longer[body.n] = 'x';
        assert_false(rows[i].reads((struct slice){longer, body.n + 1}));
    }
}

static void requests_of_a_server(void **state)
{
    (void)state;
    static const struct {
        struct slice body;
        enum auth_kind kind;
        bool scram;
    } rows[] = {
        {BYTES("\0\0\0\0"), AUTH_OK, false},
        {BYTES("\0\0\0\3"), AUTH_CLEARTEXT, false},
        {BYTES("\0\0\0\5\1\2\3\4"), AUTH_MD5, false},
        {BYTES("\0\0\0\x0aSCRAM-SHA-256\0\0"), AUTH_SASL, true},
        {BYTES("\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"), AUTH_SASL, true},
        {BYTES("\0\0\0\x0aSCRAM-SHA-256-PLUS\0\0"), AUTH_SASL, false},
        {BYTES("\0\0\0\x0a\0"), AUTH_SASL, false},
        {BYTES("\0\0\0\x0b"), AUTH_SASL_CONTINUE, false},
        {BYTES("\0\0\0\x0br=a"), AUTH_SASL_CONTINUE, false},
        {BYTES("\0\0\0\x0cv=b"), AUTH_SASL_FINAL, false},
        {BYTES("\0\0\0\2"), AUTH_UNSUPPORTED, false},
        {BYTES("\0\0\0\7"), AUTH_UNSUPPORTED, false},
        {BYTES("\xff\xff\xff\xffz"), AUTH_UNSUPPORTED, false},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct auth_request r;
        assert_true(auth_read_request(rows[i].body, &r));
        assert_int_equal(r.kind, rows[i].kind);
        assert_int_equal(r.scram_sha_256, rows[i].scram);
        if (r.kind == AUTH_MD5)
            assert_memory_equal(r.md5_salt, "\1\2\3\4", 4);
        if (r.kind == AUTH_SASL_CONTINUE || r.kind == AUTH_SASL_FINAL)
            assert_slice(r.data, slice_skip(rows[i].body, 4));
    }
    assert_false(reads_request(BYTES("\0\0\0\x0aSCRAM-SHA-256\0\0x\0")));
    assert_false(reads_request(BYTES("\0\0\0\x0a")));
}

/* CVE-2026-6664: a length in the SASL message that is not there. */
static void a_sasl_length_that_lies_is_refused(void **state)
{
    (void)state;
    static const uint32_t lies[] = {0, 1, 4, 6, 0x7fffffffU, 0x80000000U, 0xfffffffeU, 0xffffffffU};
    for (size_t i = 0; i < COUNT(lies); i++) {
        uint8_t body[11] = "S\0....12345";
        for (size_t b = 0; b < 4; b++)
            body[2 + b] = (uint8_t)(lies[i] >> (24 - 8 * b));
        assert_false(reads_sasl_initial((struct slice){body, sizeof body}));
    }
    assert_false(reads_sasl_initial(BYTES("\0\0\0\0\0")));
    struct auth_sasl_initial r;
    assert_true(auth_read_sasl_initial(BYTES("X\0\xff\xff\xff\xff"), &r));
    assert_null(r.data.p);
    assert_true(auth_read_sasl_initial(BYTES("X\0\0\0\0\2ab"), &r));
    assert_text(r.mechanism, "X");
    assert_text(r.data, "ab");
}

static void bodies_have_limits(void **state)
{
    (void)state;
    static uint8_t big[4096];
    struct slice data;
    memset(big, 'x', sizeof big);
    for (size_t n = 1; n < sizeof big; n++) {
        big[n - 1] = 0;
        assert_int_equal(reads_password((struct slice){big, n}), n <= AUTH_PASSWORD_BODY_MAX);
        big[n - 1] = 'x';
        assert_int_equal(auth_read_sasl_response((struct slice){big, n}, &data),
                         n <= AUTH_SASL_BODY_MAX);
    }
    memcpy(big, "\0\0\0\x0b", 4);
    assert_true(reads_request((struct slice){big, AUTH_REQUEST_BODY_MAX}));
    assert_false(reads_request((struct slice){big, AUTH_REQUEST_BODY_MAX + 1}));
    for (size_t n = 0; n < 300; n++) {
        bool fits = n >= 4 + AUTH_KEY_MIN && n <= 4 + AUTH_KEY_MAX;
        assert_int_equal(reads_backend_key((struct slice){big, n}), fits);
    }
}

static void passwords_and_keys_and_settings(void **state)
{
    (void)state;
    struct slice a, b;
    uint32_t pid;
    uint16_t minor;
    char status;
    assert_true(auth_read_password(BYTES("pa ss\0"), &a));
    assert_text(a, "pa ss");
    assert_false(auth_read_password(BYTES("a\0b\0"), &a));
    assert_true(auth_read_backend_key(BYTES("\0\0\1\0abcde"), &pid, &a));
    assert_int_equal(pid, 256);
    assert_text(a, "abcde");
    assert_true(auth_read_param_status(BYTES("is_superuser\0on\0"), &a, &b));
    assert_text(a, "is_superuser");
    assert_text(b, "on");
    assert_false(auth_read_param_status(BYTES("\0on\0"), &a, &b));
    assert_true(auth_read_negotiate(BYTES("\0\3\0\1\0\0\0\1_pq_.x\0"), &minor));
    assert_int_equal(minor, 1);
    assert_false(auth_read_negotiate(BYTES("\0\2\0\0\0\0\0\0"), &minor));
    assert_false(auth_read_negotiate(BYTES("\0\3\0\0\xff\xff\xff\xff"), &minor));
    assert_false(auth_read_negotiate(BYTES("\0\3\0\0\0\0\0\1\0"), &minor));
    for (unsigned c = 0; c < 256; c++) {
        uint8_t byte = (uint8_t)c;
        bool known = c == 'I' || c == 'T' || c == 'E';
        assert_int_equal(auth_read_ready((struct slice){&byte, 1}, &status), known);
    }
}

static void an_error_gives_its_fields(void **state)
{
    (void)state;
    struct error_fields f;
    assert_true(error_fields_read(BYTES("SFEHLER\0VERROR\0C42P01\0Mmsg\0Ddet\0Hhint\0"
                                        "Wwhere\0Rparse\0zunknown\0\0"),
                                  &f));
    assert_text(f.severity, "ERROR");
    assert_text(f.sqlstate, "42P01");
    assert_text(f.message, "msg");
    assert_text(f.detail, "det");
    assert_text(f.hint, "hint");
    assert_text(f.routine, "parse");
    assert_true(error_fields_read(BYTES("VERROR\0SFEHLER\0\0"), &f));
    assert_text(f.severity, "ERROR");
    assert_true(error_fields_read(BYTES("SFATAL\0\0"), &f));
    assert_text(f.severity, "FATAL");
}

/* CVE-2026-6666: a server's error without an SQLSTATE. */
static void any_field_may_be_missing(void **state)
{
    (void)state;
    static const char *const fields[] = {"VERROR", "C42P01", "Mmsg", "Ddet", "Hhint", "Rrou"};
    for (unsigned mask = 0; mask < 1U << COUNT(fields); mask++) {
        uint8_t body[64];
        size_t n = 0;
        struct error_fields f;
        for (size_t i = 0; i < COUNT(fields); i++) {
            if (!(mask >> i & 1))
                continue;
            memcpy(body + n, fields[i], strlen(fields[i]) + 1);
            n += strlen(fields[i]) + 1;
        }
        body[n++] = 0;
        assert_true(error_fields_read((struct slice){body, n}, &f));
        const struct slice got[] = {f.severity, f.sqlstate, f.message, f.detail, f.hint, f.routine};
        for (size_t i = 0; i < COUNT(got); i++) {
            assert_int_equal(got[i].p != NULL, mask >> i & 1);
            if (got[i].p)
                assert_text(got[i], fields[i] + 1);
        }
    }
}

static void put_again(struct slice body, struct slice severity, struct slice message,
                      const char *expected, size_t n)
{
    uint8_t bytes[96];
    struct put o = put_into(bytes, sizeof bytes);
    error_fields_put(&o, body, severity, message);
    assert_false(o.full);
    assert_int_equal(o.n, n);
    assert_memory_equal(bytes, expected, n);
    for (size_t cap = 0; cap < n; cap++) { /* whole or not at all */
        o = put_into(bytes, cap);
        error_fields_put(&o, body, severity, message);
        assert_true(o.full);
        assert_int_equal(o.n, 0);
    }
}

static void an_error_is_told_with_other_words(void **state)
{
    (void)state;
    struct slice body = BYTES("SFEHLER\0VERROR\0C42P01\0Mmsg\0zunknown\0\0");
#define SAME(text) text, sizeof(text) - 1
    put_again(body, SLICE_NONE, SLICE_NONE,
              SAME("E\0\0\0\x29SFEHLER\0VERROR\0C42P01\0Mmsg\0zunknown\0\0"));
    put_again(body, slice_of("FATAL"), SLICE_NONE,
              SAME("E\0\0\0\x28SFATAL\0VFATAL\0C42P01\0Mmsg\0zunknown\0\0"));
    put_again(body, SLICE_NONE, slice_of("longer"),
              SAME("E\0\0\0\x2cSFEHLER\0VERROR\0C42P01\0Mlonger\0zunknown\0\0"));
    put_again(BYTES("Ma\0Mb\0Va\0Vb\0\0"), slice_of("FATAL"), slice_of("text"),
              SAME("E\0\0\0\x18Mtext\0Mb\0VFATAL\0Vb\0\0"));
    put_again(BYTES("Ma\0Cut"), SLICE_NONE, SLICE_NONE, SAME("E\0\0\0\x08Ma\0\0"));
#undef SAME
}

static void a_cut_error_gives_what_is_there(void **state)
{
    (void)state;
    struct error_fields f;
    assert_false(error_fields_read(BYTES("VERROR\0C42P01\0Mhalf"), &f));
    assert_text(f.severity, "ERROR");
    assert_text(f.sqlstate, "42P01");
    assert_null(f.message.p);
    assert_false(error_fields_read(SLICE_NONE, &f));
    assert_null(f.severity.p);
    assert_true(error_fields_read(BYTES("Mone\0Mtwo\0\0"), &f));
    assert_text(f.message, "one");
}

static void an_sqlstate_is_five_digits_and_capitals(void **state)
{
    (void)state;
    static const char *const bad[] = {"C", "C4", "C42P0", "C42P011", "C42p01", "C42 01", "C42-01"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        uint8_t body[16] = {0};
        struct error_fields f;
        memcpy(body, bad[i], strlen(bad[i]));
        assert_true(error_fields_read((struct slice){body, strlen(bad[i]) + 2}, &f));
        assert_null(f.sqlstate.p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_is_read_whole_or_refused),
        cmocka_unit_test(requests_of_a_server),
        cmocka_unit_test(a_sasl_length_that_lies_is_refused),
        cmocka_unit_test(bodies_have_limits),
        cmocka_unit_test(passwords_and_keys_and_settings),
        cmocka_unit_test(an_error_gives_its_fields),
        cmocka_unit_test(any_field_may_be_missing),
        cmocka_unit_test(an_error_is_told_with_other_words),
        cmocka_unit_test(a_cut_error_gives_what_is_there),
        cmocka_unit_test(an_sqlstate_is_five_digits_and_capitals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
