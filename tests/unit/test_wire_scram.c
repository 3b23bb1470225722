/* proxy/wire/scram: the vector of RFC 7677, both sides against each other, and everything that a
 * peer can get wrong. */
#include "proxy/wire/scram.h"

#include <openssl/evp.h>

#include "proxy/wire/crypto.h"
#include "proxy/wire/saslprep.h"
#include "tests/unit/test_wire_help.h"

#define RFC_NONCE "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define RFC_SALT "W22ZaJ0SNY7soEsUEjb6gQ=="
#define RFC_CLIENT_BARE "n=user,r=rOprNGfwEbeRWgbNEkqO"
#define RFC_SERVER_FIRST "r=" RFC_NONCE ",s=" RFC_SALT ",i=4096"
#define RFC_CLIENT_FINAL "c=biws,r=" RFC_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
#define RFC_SERVER_FINAL "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
#define RFC_SECRET                                                                 \
    "SCRAM-SHA-256$4096:" RFC_SALT "$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=" \
    ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
#define NONCE_A "QUFBQUFBQUFBQUFBQUFBQUFB" /* base64 of 18 times 'A' */

static const uint8_t random_a[SCRAM_NONCE_RANDOM_BYTES] = "AAAAAAAAAAAAAAAAA"
                                                          "A";
static const uint8_t random_b[SCRAM_NONCE_RANDOM_BYTES] = "BBBBBBBBBBBBBBBBB"
                                                          "B";

static struct scram_secret secret_of(const char *password, uint32_t iterations)
{
    uint8_t salted[SCRAM_KEY_BYTES];
    struct scram_secret s;
    struct slice salt = slice_of("0123456789abcdef");
    assert_true(scram_salted_password(slice_of(password), salt, iterations, salted));
    assert_true(scram_secret_from_salted(salted, salt, iterations, &s));
    return s;
}

/* ---- the vector ---- */

static void the_rfc_vector_as_client(void **state)
{
    (void)state;
    static struct scram_client c = {.state = SCRAM_CLIENT_GREETED};
    uint8_t bytes[SCRAM_OUT_MAX], salted[SCRAM_KEY_BYTES];
    struct put o = put_into(bytes, sizeof bytes);
    c.nonce.n = 20; /* the RFC's client nonce is shorter than ours */
    memcpy(c.nonce.bytes, RFC_NONCE, 20);
    c.transcript.n = sizeof RFC_CLIENT_BARE - 1;
    memcpy(c.transcript.bytes, RFC_CLIENT_BARE, c.transcript.n);
    assert_int_equal(scram_client_read_first(&c, slice_of(RFC_SERVER_FIRST)), SCRAM_OK);
    assert_int_equal(c.iterations, 4096);
    assert_int_equal(c.salt_n, 16);
    assert_true(
        scram_salted_password(slice_of("pencil"), scram_client_salt(&c), c.iterations, salted));
    assert_int_equal(scram_client_final(&c, salted, &o), SCRAM_OK);
    assert_text(put_slice(&o), RFC_CLIENT_FINAL);
    assert_int_equal(scram_client_verify(&c, slice_of(RFC_SERVER_FINAL)), SCRAM_OK);
    assert_int_equal(c.state, SCRAM_CLIENT_DONE);
}

static void the_rfc_vector_as_server(void **state)
{
    (void)state;
    static struct scram_server s = {.state = SCRAM_SERVER_CHALLENGED, .gs2_flag = 'n'};
    uint8_t bytes[SCRAM_OUT_MAX];
    struct put o = put_into(bytes, sizeof bytes);
    assert_true(scram_secret_parse(slice_of(RFC_SECRET), &s.secret));
    s.nonce.n = sizeof RFC_NONCE - 1;
    memcpy(s.nonce.bytes, RFC_NONCE, s.nonce.n);
    s.transcript.n = sizeof RFC_CLIENT_BARE "," RFC_SERVER_FIRST - 1;
    memcpy(s.transcript.bytes, RFC_CLIENT_BARE "," RFC_SERVER_FIRST, s.transcript.n);
    assert_int_equal(scram_server_final(&s, slice_of(RFC_CLIENT_FINAL), &o), SCRAM_OK);
    assert_text(put_slice(&o), RFC_SERVER_FINAL);
}

/* ---- both sides ---- */

struct exchange {
    struct scram_client client;
    struct scram_server server;
    uint8_t wire[4][SCRAM_OUT_MAX];
    size_t wire_n[4];
    enum scram_rc server_rc, client_rc;
};

/* Change one byte of one message on its way. Message 4: none. */
struct tamper {
    size_t message, at;
    uint8_t with;
};

static struct slice carry(struct exchange *x, size_t i, const struct put *o, struct tamper t)
{
    x->wire_n[i] = o->n;
    if (t.message == i && t.at < o->n)
        x->wire[i][t.at] ^= t.with;
    return (struct slice){x->wire[i], o->n};
}

/* The rc of each side's last step; both SCRAM_OK is a login. salted: what the client derived. */
static void run(struct exchange *x, const uint8_t salted[SCRAM_KEY_BYTES],
                const struct scram_secret *secret, struct tamper t)
{
    *x = (struct exchange){.server_rc = SCRAM_RC_N, .client_rc = SCRAM_RC_N};
    struct put o[4];
    for (size_t i = 0; i < 4; i++)
        o[i] = put_into(x->wire[i], SCRAM_OUT_MAX);
    assert_int_equal(scram_client_first(&x->client, random_a, &o[0]), SCRAM_OK);
    x->server_rc = scram_server_first(&x->server, carry(x, 0, &o[0], t), random_b, secret, &o[1]);
    if (x->server_rc != SCRAM_OK)
        return;
    x->client_rc = scram_client_read_first(&x->client, carry(x, 1, &o[1], t));
    if (x->client_rc != SCRAM_OK)
        return;
    x->client_rc = scram_client_final(&x->client, salted, &o[2]);
    assert_int_equal(x->client_rc, SCRAM_OK);
    x->server_rc = scram_server_final(&x->server, carry(x, 2, &o[2], t), &o[3]);
    x->client_rc = SCRAM_RC_N;
    if (x->server_rc == SCRAM_OK)
        x->client_rc = scram_client_verify(&x->client, carry(x, 3, &o[3], t));
}

static const struct tamper untouched = {.message = 4};

static void salt_for(const char *password, const struct scram_secret *secret, uint8_t *salted)
{
    assert_true(scram_salted_password(slice_of(password),
                                      (struct slice){secret->salt, secret->salt_n},
                                      secret->iterations, salted));
}

static void the_right_password_logs_in_and_no_other(void **state)
{
    (void)state;
    static const char *const passwords[] = {"pencil",      "",        "p,=\"x", "p\xc3\xa4ss",
                                            "pa\xc2\xads", "\xff\xfe"};
    static struct exchange x;
    for (size_t i = 0; i < COUNT(passwords); i++) {
        struct scram_secret secret = secret_of(passwords[i], 7);
        for (size_t j = 0; j < COUNT(passwords); j++) {
            uint8_t salted[SCRAM_KEY_BYTES];
            salt_for(passwords[j], &secret, salted);
            run(&x, salted, &secret, untouched);
            assert_int_equal(x.server_rc, i == j ? SCRAM_OK : SCRAM_DENIED);
            assert_int_equal(x.client_rc, i == j ? SCRAM_OK : SCRAM_RC_N);
            assert_int_equal(scram_secret_check_salted(&secret, salted), i == j);
        }
    }
}

/* Three values for each byte of each message: never do both sides believe. */
static void a_changed_byte_is_never_a_login(void **state)
{
    (void)state;
    static const uint8_t changes[] = {0x01, 0x20, 0x80};
    static struct exchange x, clean;
    struct scram_secret secret = secret_of("pencil", 2);
    uint8_t salted[SCRAM_KEY_BYTES];
    salt_for("pencil", &secret, salted);
    run(&clean, salted, &secret, untouched);
    assert_true(clean.server_rc == SCRAM_OK && clean.client_rc == SCRAM_OK);
    for (size_t i = 0; i < 4; i++) {
        assert_true(clean.wire_n[i] > 0 || i == 3);
        for (size_t at = 0; at < clean.wire_n[i]; at++) {
            for (size_t c = 0; c < COUNT(changes); c++) {
                run(&x, salted, &secret, (struct tamper){i, at, changes[c]});
                assert_false(x.server_rc == SCRAM_OK && x.client_rc == SCRAM_OK);
                if (i < 3)
                    assert_true(x.server_rc != SCRAM_OK || x.client_rc != SCRAM_OK);
            }
        }
    }
}

static void the_client_key_logs_in_elsewhere(void **state)
{
    (void)state;
    static struct exchange x;
    static struct scram_client c;
    static struct scram_server s;
    struct scram_secret secret = secret_of("pencil", 2);
    uint8_t salted[SCRAM_KEY_BYTES], bytes[4][SCRAM_OUT_MAX];
    struct put o[4];
    salt_for("pencil", &secret, salted);
    run(&x, salted, &secret, untouched);
    assert_int_equal(x.server_rc, SCRAM_OK);
    for (size_t i = 0; i < 4; i++)
        o[i] = put_into(bytes[i], SCRAM_OUT_MAX);
    assert_int_equal(scram_client_first(&c, random_b, &o[0]), SCRAM_OK);
    assert_int_equal(scram_server_first(&s, put_slice(&o[0]), random_a, &secret, &o[1]), SCRAM_OK);
    assert_int_equal(scram_client_read_first(&c, put_slice(&o[1])), SCRAM_OK);
    assert_int_equal(scram_client_final_keys(&c, x.server.client_key, secret.server_key, &o[2]),
                     SCRAM_OK);
    assert_int_equal(scram_server_final(&s, put_slice(&o[2]), &o[3]), SCRAM_OK);
    assert_int_equal(scram_client_verify(&c, put_slice(&o[3])), SCRAM_OK);
}

static void a_mock_secret_looks_real_and_fits_nothing(void **state)
{
    (void)state;
    static struct exchange x;
    static const uint8_t process[32] = "process secret", other[32] = "another one";
    struct scram_secret a, b, c, d;
    uint8_t salted[SCRAM_KEY_BYTES];
    assert_true(scram_secret_mock(slice_of("eve"), process, &a));
    assert_true(scram_secret_mock(slice_of("eve"), process, &b));
    assert_true(scram_secret_mock(slice_of("bob"), process, &c));
    assert_true(scram_secret_mock(slice_of("eve"), other, &d));
    assert_memory_equal(a.salt, b.salt, sizeof a.salt);
    assert_memory_not_equal(a.salt, c.salt, sizeof a.salt);
    assert_memory_not_equal(a.salt, d.salt, sizeof a.salt);
    assert_int_equal(a.iterations, SCRAM_DEFAULT_ITERATIONS);
    assert_int_equal(a.salt_n, SCRAM_DEFAULT_SALT_BYTES);
    salt_for("", &a, salted);
    run(&x, salted, &a, untouched);
    assert_int_equal(x.server_rc, SCRAM_DENIED);
    static const uint8_t zero[SCRAM_KEY_BYTES];
    assert_memory_equal(x.server.client_key, zero, sizeof zero);
    assert_true(scram_secret_mock(SLICE_NONE, process, &a));
}

/* ---- the server's reading ---- */

static enum scram_rc first(struct slice message, struct scram_server *s)
{
    uint8_t bytes[SCRAM_OUT_MAX];
    struct scram_secret secret;
    struct put o = put_into(bytes, sizeof bytes);
    assert_true(scram_secret_parse(slice_of(RFC_SECRET), &secret));
    *s = (struct scram_server){0};
    uint8_t *copy = exact_copy(message);
    enum scram_rc rc =
        scram_server_first(s, (struct slice){copy, message.n}, random_b, &secret, &o);
    free(copy);
    assert_int_equal(s->state, rc == SCRAM_OK ? SCRAM_SERVER_CHALLENGED : SCRAM_SERVER_DONE);
    assert_int_equal(o.n > 0, rc == SCRAM_OK);
    return rc;
}

static void first_messages_of_a_client(void **state)
{
    (void)state;
    static struct scram_server s;
    static const struct {
        struct slice message;
        enum scram_rc rc;
    } rows[] = {
        {BYTES("n,,n=user,r=abc"), SCRAM_OK},
        {BYTES("y,,n=,r=abc"), SCRAM_OK},
        {BYTES("n,,n=\xc3\xa4,r=abc"), SCRAM_OK},
        {BYTES("n,,n=,r=abc,x=ext,Y="), SCRAM_OK},
        {BYTES("p=tls-server-end-point,,n=,r=abc"), SCRAM_CHANNEL_BINDING},
        {BYTES("p"), SCRAM_CHANNEL_BINDING},
        {BYTES("n,a=root,n=,r=abc"), SCRAM_AUTHZID},
        {BYTES("n,,m=x,n=,r=abc"), SCRAM_EXTENSION},
        {BYTES(""), SCRAM_MALFORMED},
        {BYTES("n"), SCRAM_MALFORMED},
        {BYTES("n,"), SCRAM_MALFORMED},
        {BYTES("n,,"), SCRAM_MALFORMED},
        {BYTES("z,,n=,r=abc"), SCRAM_MALFORMED},
        {BYTES("n,n=,r=abc"), SCRAM_MALFORMED},
        {BYTES("n,,n"), SCRAM_MALFORMED},
        {BYTES("n,,n="), SCRAM_NONCE},
        {BYTES("n,,n=,"), SCRAM_MALFORMED},
        {BYTES("n,,n=,r"), SCRAM_NONCE},
        {BYTES("n,,n=,r="), SCRAM_NONCE},
        {BYTES("n,,n=,x=abc"), SCRAM_NONCE},
        {BYTES("n,,n=,r=a b"), SCRAM_NONCE},
        {BYTES("n,,n=,r=a\x7f"), SCRAM_NONCE},
        {BYTES("n,,n=,r=\xc3\xa4"), SCRAM_NONCE},
        {BYTES("n,,r=abc,n="), SCRAM_MALFORMED},
        {BYTES("n,,n=,r=abc,"), SCRAM_NONCE},
        {BYTES("n,,n=,r=abc,x"), SCRAM_MALFORMED},
        {BYTES("n,,n=,r=abc,,"), SCRAM_MALFORMED},
        {BYTES("n,,n=,r=abc,1=x"), SCRAM_MALFORMED},
        {BYTES("n,,n=,r=abc\0"), SCRAM_MALFORMED},
        {BYTES("n,,n=a\0,r=abc"), SCRAM_MALFORMED},
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        assert_int_equal(first(rows[i].message, &s), rows[i].rc);
}

static struct slice long_nonce(uint8_t *bytes, const char *before, size_t nonce_n,
                               const char *after)
{
    struct put o = put_into(bytes, 4096);
    put_bytes(&o, slice_of(before));
    for (size_t i = 0; i < nonce_n; i++)
        put_u8(&o, 'x');
    put_bytes(&o, slice_of(after));
    assert_false(o.full);
    return put_slice(&o);
}

/* CVE-2026-6665: a long nonce, from either side. */
static void nonces_have_a_limit(void **state)
{
    (void)state;
    static struct scram_server s;
    static uint8_t bytes[4096];
    for (size_t n = 1; n <= SCRAM_MESSAGE_MAX + 20; n++) {
        enum scram_rc rc = first(long_nonce(bytes, "n,,n=,r=", n, ""), &s);
        enum scram_rc bad = n + 8 > SCRAM_MESSAGE_MAX ? SCRAM_MALFORMED : SCRAM_NONCE;
        assert_int_equal(rc, n <= SCRAM_PEER_NONCE_MAX ? SCRAM_OK : bad);
        struct scram_client c = {0};
        uint8_t out[SCRAM_OUT_MAX], salted[SCRAM_KEY_BYTES] = {0};
        struct put o = put_into(out, sizeof out);
        assert_int_equal(scram_client_first(&c, random_a, &o), SCRAM_OK);
        rc = scram_client_read_first(&c,
                                     long_nonce(bytes, "r=" NONCE_A, n, ",s=" RFC_SALT ",i=4096"));
        bad = n + 2 + 24 + 34 > SCRAM_MESSAGE_MAX ? SCRAM_MALFORMED : SCRAM_NONCE;
        assert_int_equal(rc, n <= SCRAM_PEER_NONCE_MAX ? SCRAM_OK : bad);
        o = put_into(out, sizeof out);
        rc = scram_client_final(&c, salted, &o);
        assert_int_equal(rc, n <= SCRAM_PEER_NONCE_MAX ? SCRAM_OK : SCRAM_OUT_OF_STEP);
    }
}

/* The longest of everything: the transcript has room, and so has the message of ours. */
static void the_longest_exchange_fits(void **state)
{
    (void)state;
    static struct scram_server s;
    static uint8_t bytes[4096], final[4096], out[SCRAM_OUT_MAX];
    struct scram_secret secret = secret_of("x", 1);
    struct put o = put_into(out, sizeof out);
    secret.salt_n = SCRAM_SALT_MAX;
    secret.iterations = INT32_MAX;
    struct slice message = long_nonce(bytes, "n,,n=,r=", SCRAM_PEER_NONCE_MAX, ",x=");
    while (message.n < SCRAM_MESSAGE_MAX)
        bytes[message.n++] = 'y';
    assert_int_equal(scram_server_first(&s, message, random_b, &secret, &o), SCRAM_OK);
    message = long_nonce(final, "c=biws,r=", SCRAM_PEER_NONCE_MAX, "QkJCQkJCQkJCQkJCQkJCQkJC,x=");
    while (message.n < SCRAM_MESSAGE_MAX - 47)
        final[message.n++] = 'y';
    memcpy(final + message.n, ",p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", 47);
    message.n += 47;
    o = put_into(out, sizeof out);
    assert_int_equal(scram_server_final(&s, message, &o), SCRAM_DENIED);
}

/* CVE-2026-19888: a final message without a nonce, also for users that do not exist. */
static void final_messages_of_a_client(void **state)
{
    (void)state;
    static struct scram_server s;
#define N "abcQkJCQkJCQkJCQkJCQkJCQkJC"
#define P "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    static const struct {
        const char *message;
        enum scram_rc rc;
    } rows[] = {
        {"c=biws,r=" N ",p=" P, SCRAM_DENIED},
        {"c=biws,r=" N ",x=y,p=" P, SCRAM_DENIED},
        {"", SCRAM_MALFORMED},
        {"c=biws", SCRAM_NONCE},
        {"c=biws,p=" P, SCRAM_NONCE},
        {"c=biws,r=,p=" P, SCRAM_NONCE},
        {"c=biws,r=abc,p=" P, SCRAM_NONCE},
        {"c=biws,r=" N "x,p=" P, SCRAM_NONCE},
        {"c=biws,r=" N, SCRAM_MALFORMED},
        {"c=biws,r=" N ",", SCRAM_NONCE},
        {"c=biws,r=" N ",x=y", SCRAM_MALFORMED},
        {"c=biws,r=" N ",p=", SCRAM_MALFORMED},
        {"c=biws,r=" N ",p=AAAA", SCRAM_MALFORMED},
        {"c=biws,r=" N ",p=" P "AAAA", SCRAM_MALFORMED},
        {"c=biws,r=" N ",p=" P ",x=y", SCRAM_MALFORMED},
        {"c=biws,r=" N ",p=" P ",", SCRAM_MALFORMED},
        {"c=biws,r=" N ",p=!" P, SCRAM_MALFORMED},
        {"c=eSws,r=" N ",p=" P, SCRAM_CHANNEL_BINDING},
        {"c=,r=" N ",p=" P, SCRAM_CHANNEL_BINDING},
        {"r=" N ",p=" P, SCRAM_MALFORMED},
        {"p=" P, SCRAM_MALFORMED},
        {",,,,", SCRAM_MALFORMED},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        uint8_t out[SCRAM_OUT_MAX];
        struct put o = put_into(out, sizeof out);
        assert_int_equal(first(BYTES("n,,n=,r=abc"), &s), SCRAM_OK);
        uint8_t *copy = exact_copy(slice_of(rows[i].message));
        struct slice in = {copy, strlen(rows[i].message)};
        assert_int_equal(scram_server_final(&s, in, &o), rows[i].rc);
        assert_int_equal(o.n, 0);
        assert_int_equal(scram_server_final(&s, in, &o), SCRAM_OUT_OF_STEP);
        free(copy);
    }
    uint8_t out[SCRAM_OUT_MAX];
    struct put o = put_into(out, sizeof out);
    assert_int_equal(first(BYTES("y,,n=,r=abc"), &s), SCRAM_OK);
    assert_int_equal(scram_server_final(&s, slice_of("c=biws,r=" N ",p=" P), &o),
                     SCRAM_CHANNEL_BINDING);
    assert_int_equal(first(BYTES("y,,n=,r=abc"), &s), SCRAM_OK);
    assert_int_equal(scram_server_final(&s, slice_of("c=eSws,r=" N ",p=" P), &o), SCRAM_DENIED);
#undef N
#undef P
}

/* ---- the client's reading ---- */

static void first_messages_of_a_server(void **state)
{
    (void)state;
    static const struct {
        const char *message;
        enum scram_rc rc;
    } rows[] = {
        {"r=" NONCE_A "x,s=c2FsdA==,i=4096", SCRAM_OK},
        {"r=" NONCE_A "x,s=c2FsdA==,i=1", SCRAM_OK},
        {"r=" NONCE_A "x,s=c2FsdA==,i=1000000", SCRAM_OK},
        {"r=" NONCE_A "x,s=c2FsdA==,i=1000001", SCRAM_ITERATIONS},
        {"r=" NONCE_A "x,s=c2FsdA==,i=4294967297", SCRAM_ITERATIONS},
        {"r=" NONCE_A "x,s=c2FsdA==,i=18446744073709551617", SCRAM_ITERATIONS},
        {"r=" NONCE_A "x,s=c2FsdA==,i=0", SCRAM_ITERATIONS},
        {"r=" NONCE_A "x,s=c2FsdA==,i=-1", SCRAM_ITERATIONS},
        {"r=" NONCE_A "x,s=c2FsdA==,i=+1", SCRAM_ITERATIONS},
        {"r=" NONCE_A "x,s=c2FsdA==,i= 1", SCRAM_ITERATIONS},
        {"r=" NONCE_A "x,s=c2FsdA==,i=1x", SCRAM_ITERATIONS},
        {"r=" NONCE_A "x,s=c2FsdA==,i=", SCRAM_ITERATIONS},
        {"r=" NONCE_A "x,s=c2FsdA==", SCRAM_MALFORMED},
        {"r=" NONCE_A "x,s=c2FsdA==,i=1,x=y", SCRAM_MALFORMED},
        {"r=" NONCE_A "x,s=,i=1", SCRAM_MALFORMED},
        {"r=" NONCE_A "x,s=c2FsdA,i=1", SCRAM_MALFORMED},
        {"r=" NONCE_A "x,i=1,s=c2FsdA==", SCRAM_MALFORMED},
        {"r=" NONCE_A ",s=c2FsdA==,i=4096", SCRAM_NONCE},
        {"r=x" NONCE_A ",s=c2FsdA==,i=4096", SCRAM_NONCE},
        {"r=,s=c2FsdA==,i=4096", SCRAM_NONCE},
        {"r=QUFB,s=c2FsdA==,i=4096", SCRAM_NONCE},
        {"m=x,r=" NONCE_A "x,s=c2FsdA==,i=4096", SCRAM_EXTENSION},
        {"e=other-error", SCRAM_NONCE},
        {"", SCRAM_MALFORMED},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct scram_client c = {0};
        uint8_t out[SCRAM_OUT_MAX], salted[SCRAM_KEY_BYTES] = {0};
        struct put o = put_into(out, sizeof out);
        assert_int_equal(scram_client_first(&c, random_a, &o), SCRAM_OK);
        assert_text(put_slice(&o), "n,,n=,r=" NONCE_A);
        uint8_t *copy = exact_copy(slice_of(rows[i].message));
        assert_int_equal(scram_client_read_first(&c, (struct slice){copy, strlen(rows[i].message)}),
                         rows[i].rc);
        free(copy);
        if (rows[i].rc == SCRAM_OK)
            assert_text(scram_client_salt(&c), "salt");
        o = put_into(out, sizeof out);
        assert_int_equal(scram_client_final(&c, salted, &o),
                         rows[i].rc == SCRAM_OK ? SCRAM_OK : SCRAM_OUT_OF_STEP);
    }
}

static void salts_have_a_limit(void **state)
{
    (void)state;
    for (size_t n = 1; n <= 120; n++) {
        struct scram_client c = {0};
        uint8_t out[SCRAM_OUT_MAX], message[1024];
        struct put o = put_into(out, sizeof out), m = put_into(message, sizeof message);
        assert_int_equal(scram_client_first(&c, random_a, &o), SCRAM_OK);
        put_bytes(&m, slice_of("r=" NONCE_A "x,s="));
        for (size_t i = 0; i < n; i++)
            put_bytes(&m, slice_of("AAAA"));
        put_bytes(&m, slice_of(",i=1"));
        bool fits = n * 3 <= SCRAM_SALT_MAX;
        assert_int_equal(scram_client_read_first(&c, put_slice(&m)),
                         fits ? SCRAM_OK : SCRAM_MALFORMED);
    }
}

static void final_messages_of_a_server(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "v=",
                                      "v=AAAA",
                                      "v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
                                      "e=invalid-proof",
                                      "x=y",
                                      RFC_SERVER_FINAL,
                                      RFC_SERVER_FINAL ",x=y",
                                      "v"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct scram_client c = {0};
        uint8_t out[SCRAM_OUT_MAX], salted[SCRAM_KEY_BYTES] = {0};
        struct put o = put_into(out, sizeof out);
        assert_int_equal(scram_client_first(&c, random_a, &o), SCRAM_OK);
        assert_int_equal(scram_client_read_first(&c, slice_of("r=" NONCE_A "x,s=c2FsdA==,i=4096")),
                         SCRAM_OK);
        assert_int_equal(scram_client_final(&c, salted, &o), SCRAM_OK);
        enum scram_rc rc = scram_client_verify(&c, slice_of(bad[i]));
        assert_true(rc == SCRAM_DENIED || rc == SCRAM_MALFORMED);
        assert_int_equal(scram_client_verify(&c, slice_of(bad[i])), SCRAM_OUT_OF_STEP);
    }
}

static void steps_out_of_order_are_refused(void **state)
{
    (void)state;
    static const uint8_t zero[SCRAM_KEY_BYTES];
    uint8_t out[SCRAM_OUT_MAX];
    struct scram_secret secret = secret_of("x", 1);
    for (int wrong = 0; wrong < 4; wrong++) {
        struct put o = put_into(out, sizeof out);
        struct scram_client c = {0};
        struct scram_server s = {0};
        if (wrong == 0)
            assert_int_equal(scram_client_read_first(&c, slice_of("r=")), SCRAM_OUT_OF_STEP);
        if (wrong == 1)
            assert_int_equal(scram_client_final(&c, zero, &o), SCRAM_OUT_OF_STEP);
        if (wrong == 2)
            assert_int_equal(scram_client_final_keys(&c, zero, zero, &o), SCRAM_OUT_OF_STEP);
        if (wrong == 3)
            assert_int_equal(scram_client_verify(&c, slice_of("v=")), SCRAM_OUT_OF_STEP);
        assert_int_equal(scram_client_first(&c, random_a, &o), SCRAM_OUT_OF_STEP);
        assert_int_equal(scram_server_final(&s, slice_of("c="), &o), SCRAM_OUT_OF_STEP);
        assert_int_equal(scram_server_first(&s, slice_of("n,,n=,r=a"), random_b, &secret, &o),
                         SCRAM_OUT_OF_STEP);
        assert_int_equal(o.n, 0);
    }
}

static void a_full_buffer_ends_the_exchange(void **state)
{
    (void)state;
    struct scram_secret secret = secret_of("x", 1);
    for (size_t cap = 0; cap < 32; cap++) {
        uint8_t out[32];
        struct put o = put_into(out, cap);
        struct scram_client c = {0};
        struct scram_server s = {0};
        assert_int_equal(scram_client_first(&c, random_a, &o), SCRAM_FULL);
        assert_int_equal(c.state, SCRAM_CLIENT_DONE);
        o = put_into(out, cap);
        assert_int_equal(scram_server_first(&s, slice_of("n,,n=,r=a"), random_b, &secret, &o),
                         SCRAM_FULL);
        assert_int_equal(s.state, SCRAM_SERVER_DONE);
        assert_int_equal(o.n, 0);
    }
}

/* ---- secrets, base64, SASLprep ---- */

static void secrets_are_read_and_written(void **state)
{
    (void)state;
    struct scram_secret s, again;
    struct slice text = slice_of(RFC_SECRET);
    uint8_t out[SCRAM_SECRET_TEXT_MAX], salted[SCRAM_KEY_BYTES];
    assert_true(scram_secret_parse(text, &s));
    for (size_t cap = 0; cap <= text.n; cap++) {
        struct put o = put_into(out, cap);
        scram_secret_format(&s, &o);
        assert_int_equal(o.full, cap < text.n);
        assert_int_equal(o.n, cap < text.n ? 0 : text.n);
    }
    assert_memory_equal(out, text.p, text.n);
    salt_for("pencil", &s, salted);
    assert_true(scram_secret_check_salted(&s, salted));
    assert_true(scram_secret_from_salted(salted, (struct slice){s.salt, s.salt_n}, 4096, &again));
    assert_memory_equal(&again, &s, sizeof s);
    s.salt_n = SCRAM_SALT_MAX;
    s.iterations = INT32_MAX;
    struct put o = put_into(out, sizeof out);
    scram_secret_format(&s, &o);
    assert_false(o.full);
    assert_true(scram_secret_parse(put_slice(&o), &again));
}

static void every_prefix_of_a_secret_is_refused(void **state)
{
    (void)state;
    struct slice text = slice_of(RFC_SECRET);
    for (size_t n = 0; n < text.n; n++) {
        struct scram_secret s = {.iterations = 77};
        uint8_t *copy = exact_copy((struct slice){text.p, n});
        assert_false(scram_secret_parse((struct slice){copy, n}, &s));
        assert_int_equal(s.iterations, 77);
        free(copy);
    }
#define KEYS \
    "$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    static const char *const bad[] = {
        RFC_SECRET "x",
        RFC_SECRET ":",
        "SCRAM-SHA-1$4096:" RFC_SALT KEYS,
        "scram-sha-256$4096:" RFC_SALT KEYS,
        "SCRAM-SHA-256$0:" RFC_SALT KEYS,
        "SCRAM-SHA-256$2147483648:" RFC_SALT KEYS,
        "SCRAM-SHA-256$:" RFC_SALT KEYS,
        "SCRAM-SHA-256$4096:" KEYS,
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gR==" KEYS, /* spare bits */
        "SCRAM-SHA-256$4096:W22 aJ0SNY7soEsUEjb6gQ==" KEYS,
        "SCRAM-SHA-256$4096:W22=aJ0SNY7soEsUEjb6gQ==" KEYS,
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct scram_secret s;
        assert_false(scram_secret_parse(slice_of(bad[i]), &s));
    }
}

static void base64_of_every_length_comes_back(void **state)
{
    (void)state;
    uint8_t bytes[CRYPTO_BASE64_MAX], back[CRYPTO_BASE64_MAX], text[128];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 37 + 200);
    for (size_t n = 0; n <= sizeof bytes; n++) {
        struct put o = put_into(text, sizeof text);
        size_t back_n = 77;
        crypto_put_base64(&o, (struct slice){bytes, n});
        assert_int_equal(o.n, (n + 2) / 3 * 4);
        assert_int_equal(crypto_read_base64(put_slice(&o), back, n, &back_n), n > 0);
        if (n == 0)
            continue;
        assert_slice((struct slice){back, back_n}, (struct slice){bytes, n});
        assert_false(crypto_read_base64(put_slice(&o), back, n - 1, &back_n));
    }
    static const char *const bad[] = {"A",        "AA",   "AAA",   "====", "A===", "AA=A",
                                      "AAA=AAAA", " AAA", "AAA\n", "AB==", "AAB="};
    for (size_t i = 0; i < COUNT(bad); i++) {
        size_t back_n;
        assert_false(crypto_read_base64(slice_of(bad[i]), back, sizeof back, &back_n));
    }
}

static void saslprep_as_postgresql_has_it(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out; /* out NULL: refused, the raw bytes are used */
    } rows[] = {
        {"", ""},
        {"user", "user"},
        {"USER\x07", "USER\x07"},   /* ASCII is never looked at */
        {"I\xc2\xadX", "IX"},       /* RFC 4013: soft hyphen to nothing */
        {"\xc2\xaa", "a"},          /* RFC 4013: NFKC */
        {"\xe2\x85\xa8", "IX"},     /* RFC 4013: roman numeral nine */
        {"a\xc2\xa0z", "a z"},      /* no-break space to space */
        {"\xd8\xa7\x31", NULL},     /* RFC 4013: bidirectional check */
        {"\xc2\x80", NULL},         /* control character */
        {"\xc2\xad", NULL},         /* nothing left */
        {"\xff", NULL},             /* not UTF-8 */
        {"a\xc3", NULL},            /* cut UTF-8 */
        {"\xf0\x9f\x98\x80", NULL}, /* not assigned in Unicode 3.2 */
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        uint8_t out[32];
        struct put o = put_into(out, sizeof out);
        assert_int_equal(saslprep(slice_of(rows[i].in), &o), rows[i].out != NULL);
        assert_text(put_slice(&o), rows[i].out ? rows[i].out : "");
    }
    uint8_t out[SASLPREP_TEXT_MAX + 8];
    static uint8_t big[SASLPREP_TEXT_MAX + 1];
    memset(big, 'x', sizeof big);
    struct put o = put_into(out, sizeof out);
    assert_true(saslprep((struct slice){big, sizeof big}, &o)); /* ASCII: any length */
    memcpy(big, "\xc3\xa4", 2);
    o = put_into(out, sizeof out);
    assert_true(saslprep((struct slice){big, SASLPREP_TEXT_MAX}, &o));
    assert_int_equal(o.n, SASLPREP_TEXT_MAX);
    assert_false(saslprep((struct slice){big, SASLPREP_TEXT_MAX + 1}, &o));
    o = put_into(out, 1);
    assert_false(saslprep(slice_of("ab"), &o));
}

static void a_salted_password_has_limits(void **state)
{
    (void)state;
    uint8_t salted[SCRAM_KEY_BYTES], raw[SCRAM_KEY_BYTES], big[SCRAM_SALT_MAX + 1] = {0};
    struct slice salt = slice_of("salt");
    assert_false(scram_salted_password(slice_of("x"), SLICE_NONE, 1, salted));
    assert_false(scram_salted_password(slice_of("x"), (struct slice){big, sizeof big}, 1, salted));
    assert_true(
        scram_salted_password(slice_of("x"), (struct slice){big, SCRAM_SALT_MAX}, 1, salted));
    assert_false(scram_salted_password(slice_of("x"), salt, 0, salted));
    assert_false(scram_salted_password(slice_of("x"), salt, 0x80000000U, salted));
    assert_true(scram_salted_password(SLICE_NONE, salt, 1, salted));
    assert_true(scram_salted_password(slice_of("\xc2\xaa"), salt, 1, salted));
    assert_true(crypto_pbkdf2_sha256(slice_of("a"), salt, 1, raw));
    assert_memory_equal(salted, raw, sizeof raw); /* prepared */
    assert_true(scram_salted_password(slice_of("\xff"), salt, 1, salted));
    assert_true(crypto_pbkdf2_sha256(slice_of("\xff"), salt, 1, raw));
    assert_memory_equal(salted, raw, sizeof raw); /* raw */
    static uint8_t password[65536];
    memset(password, 'p', sizeof password);
    assert_true(scram_salted_password((struct slice){password, sizeof password}, salt, 1, salted));
}

/* An OpenSSL without the digests: nobody gets in, and nothing crashes. */
static void without_digests_there_is_no_login(void **state)
{
    (void)state;
    static struct exchange x;
    static struct scram_client c;
    uint8_t salted[SCRAM_KEY_BYTES], out[SCRAM_OUT_MAX];
    struct put o = put_into(out, sizeof out);
    struct scram_secret secret = secret_of("x", 1), mock;
    struct slice salt = slice_of("salt");
    salt_for("x", &secret, salted);
    run(&x, salted, &secret, untouched);
    assert_int_equal(x.server_rc, SCRAM_OK);
    struct slice proof = {x.wire[2], x.wire_n[2]};
    static struct scram_server s;
    assert_int_equal(scram_client_first(&c, random_a, &o), SCRAM_OK);
    o = put_into(out, sizeof out);
    assert_int_equal(scram_server_first(&s, slice_of("n,,n=,r=" NONCE_A), random_b, &secret, &o),
                     SCRAM_OK);
    assert_int_equal(scram_client_read_first(&c, put_slice(&o)), SCRAM_OK);
    struct scram_client other = c;
    assert_int_equal(EVP_set_default_properties(NULL, "fips=yes"), 1);
    enum scram_rc server = scram_server_final(&s, proof, &o);
    enum scram_rc client = scram_client_final(&c, salted, &o);
    enum scram_rc keys = scram_client_final_keys(&other, salted, salted, &o);
    bool any = scram_salted_password(slice_of("x"), salt, 1, salted) ||
               scram_secret_from_salted(salted, salt, 1, &mock) ||
               scram_secret_check_salted(&secret, salted) || scram_secret_mock(salt, salted, &mock);
    assert_int_equal(EVP_set_default_properties(NULL, ""), 1);
    assert_int_equal(server, SCRAM_CRYPTO);
    assert_int_equal(client, SCRAM_CRYPTO);
    assert_int_equal(keys, SCRAM_CRYPTO);
    assert_false(any);
    assert_int_equal(scram_client_final(&c, salted, &o), SCRAM_OUT_OF_STEP);
    assert_int_equal(scram_client_final(&other, salted, &o), SCRAM_OUT_OF_STEP);
}

static void a_wipe_leaves_nothing(void **state)
{
    (void)state;
    static struct scram_server s, zero_s;
    static struct scram_client c, zero_c;
    memset(&s, 0xa5, sizeof s);
    memset(&c, 0xa5, sizeof c);
    scram_server_wipe(&s);
    scram_client_wipe(&c);
    assert_memory_equal(&s, &zero_s, sizeof s);
    assert_memory_equal(&c, &zero_c, sizeof c);
}

static void every_rc_has_a_text(void **state)
{
    (void)state;
    for (int rc = 0; rc < SCRAM_RC_N; rc++)
        assert_true(strlen(scram_error_text((enum scram_rc)rc)) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rfc_vector_as_client),
        cmocka_unit_test(the_rfc_vector_as_server),
        cmocka_unit_test(the_right_password_logs_in_and_no_other),
        cmocka_unit_test(a_changed_byte_is_never_a_login),
        cmocka_unit_test(the_client_key_logs_in_elsewhere),
        cmocka_unit_test(a_mock_secret_looks_real_and_fits_nothing),
        cmocka_unit_test(first_messages_of_a_client),
        cmocka_unit_test(nonces_have_a_limit),
        cmocka_unit_test(the_longest_exchange_fits),
        cmocka_unit_test(final_messages_of_a_client),
        cmocka_unit_test(first_messages_of_a_server),
        cmocka_unit_test(salts_have_a_limit),
        cmocka_unit_test(final_messages_of_a_server),
        cmocka_unit_test(steps_out_of_order_are_refused),
        cmocka_unit_test(a_full_buffer_ends_the_exchange),
        cmocka_unit_test(secrets_are_read_and_written),
        cmocka_unit_test(every_prefix_of_a_secret_is_refused),
        cmocka_unit_test(base64_of_every_length_comes_back),
        cmocka_unit_test(saslprep_as_postgresql_has_it),
        cmocka_unit_test(a_salted_password_has_limits),
        cmocka_unit_test(without_digests_there_is_no_login),
        cmocka_unit_test(a_wipe_leaves_nothing),
        cmocka_unit_test(every_rc_has_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
