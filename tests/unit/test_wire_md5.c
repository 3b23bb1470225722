/* proxy/wire/md5: PostgreSQL's md5 passwords. */
#include "proxy/wire/md5.h"

#include <openssl/evp.h>

#include "tests/unit/test_wire_help.h"

#define STORED "md54a0a68b43b6cd5cf266fa02f196e2371" /* of "secret" and "alice" */
#define RESPONSE "md55f0388cdae34fff99488f7c4c4a91735"
#define SCRAM                                                                                  \
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=" \
    ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

static const uint8_t salt[MD5_SALT_BYTES] = {1, 2, 3, 255};

static void known_digests(void **state)
{
    (void)state;
    char out[MD5_TEXT_BYTES + 1];
    assert_true(md5_password(slice_of("secret"), slice_of("alice"), out));
    assert_string_equal(out, STORED);
    assert_true(md5_response(slice_of(STORED), salt, out));
    assert_string_equal(out, RESPONSE);
    assert_true(md5_password(SLICE_NONE, SLICE_NONE, out));
    assert_string_equal(out, "md5d41d8cd98f00b204e9800998ecf8427e");
}

static void only_a_stored_secret_is_one(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "md5",
                                      "secret",
                                      STORED "0",
                                      "md54A0A68B43B6CD5CF266FA02F196E2371",
                                      "MD54a0a68b43b6cd5cf266fa02f196e2371",
                                      "md5ga0a68b43b6cd5cf266fa02f196e2371"};
    char out[MD5_TEXT_BYTES + 1];
    assert_true(md5_is_secret(slice_of(STORED)));
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_false(md5_is_secret(slice_of(bad[i])));
        assert_false(md5_response(slice_of(bad[i]), salt, out));
    }
    for (size_t n = 0; n < MD5_TEXT_BYTES; n++)
        assert_false(md5_is_secret((struct slice){slice_of(STORED).p, n}));
}

static void a_response_is_checked(void **state)
{
    (void)state;
    struct slice alice = slice_of("alice"), response = slice_of(RESPONSE);
    assert_true(md5_check(slice_of(STORED), alice, salt, response));
    assert_true(md5_check(slice_of("secret"), alice, salt, response));
    assert_false(md5_check(slice_of("Secret"), alice, salt, response));
    assert_false(md5_check(slice_of("secret"), slice_of("bob"), salt, response));
    assert_true(md5_check(slice_of(STORED), slice_of("bob"), salt, response)); /* name is inside */
    assert_false(md5_check(SLICE_NONE, alice, salt, response));
    assert_false(md5_check(slice_of(SCRAM), alice, salt, response));
    assert_false(md5_check(slice_of("secret"), alice, (const uint8_t[4]){1, 2, 3, 4}, response));
    assert_false(md5_check(slice_of(STORED), alice, salt, slice_of(STORED)));
    for (size_t n = 0; n < response.n; n++) {
        char changed[] = RESPONSE;
        assert_false(md5_check(slice_of(STORED), alice, salt, (struct slice){response.p, n}));
        changed[n] ^= 1;
        assert_false(md5_check(slice_of(STORED), alice, salt, slice_of(changed)));
    }
}

static void a_cleartext_password_is_checked(void **state)
{
    (void)state;
    struct slice alice = slice_of("alice");
    assert_true(md5_check_password(slice_of("secret"), alice, slice_of("secret")));
    assert_true(md5_check_password(slice_of(STORED), alice, slice_of("secret")));
    assert_false(md5_check_password(slice_of(STORED), alice, slice_of(STORED)));
    assert_false(md5_check_password(slice_of("secret"), alice, slice_of("secre")));
    assert_false(md5_check_password(slice_of("secret"), alice, slice_of("secretx")));
    assert_false(md5_check_password(slice_of("secret"), alice, SLICE_NONE));
    assert_false(md5_check_password(SLICE_NONE, alice, SLICE_NONE));
    assert_false(md5_check_password(slice_of(SCRAM), alice, slice_of(SCRAM)));
}

/* An OpenSSL without MD5 (FIPS): a failure is told, and nobody gets in. */
static void without_md5_nothing_fits(void **state)
{
    (void)state;
    char out[MD5_TEXT_BYTES + 1];
    struct slice alice = slice_of("alice");
    assert_int_equal(EVP_set_default_properties(NULL, "fips=yes"), 1);
    bool any = md5_password(slice_of("secret"), alice, out) ||
               md5_response(slice_of(STORED), salt, out) ||
               md5_check(slice_of(STORED), alice, salt, slice_of(RESPONSE)) ||
               md5_check(slice_of("secret"), alice, salt, slice_of(RESPONSE)) ||
               md5_check_password(slice_of(STORED), alice, slice_of("secret"));
    assert_int_equal(EVP_set_default_properties(NULL, ""), 1);
    assert_false(any);
    assert_true(md5_check_password(slice_of(STORED), alice, slice_of("secret")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_digests),
        cmocka_unit_test(only_a_stored_secret_is_one),
        cmocka_unit_test(a_response_is_checked),
        cmocka_unit_test(a_cleartext_password_is_checked),
        cmocka_unit_test(without_md5_nothing_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
