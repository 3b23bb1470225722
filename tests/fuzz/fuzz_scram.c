/* tests/fuzz/fuzz_scram.c: a peer without the password never gets in, whatever it says; a changed
 * byte is never a login; secrets and base64 have one spelling. Input: a letter for the mode, then
 * messages, one a line. '#' stands for the nonce so far. */
#include "base/check.h"
#include "proxy/wire/crypto.h"
#include "proxy/wire/saslprep.h"
#include "proxy/wire/scram.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t random_ours[SCRAM_NONCE_RANDOM_BYTES] = {7, 7, 7};
static const uint8_t random_theirs[SCRAM_NONCE_RANDOM_BYTES] = {9, 9, 9};
static const uint8_t salted[SCRAM_KEY_BYTES] = "the salted password, as bytes";

static struct scram_secret the_secret(void)
{
    struct scram_secret s;
    CHECK(scram_secret_from_salted(salted, slice_of("0123456789abcdef"), 4096, &s));
    return s;
}

/* The next line of *rest, with each '#' replaced. */
static struct slice next_line(struct slice *rest, struct slice nonce, uint8_t *room, size_t cap)
{
    struct put o = put_into(room, cap);
    size_t i = 0;
    for (; i < rest->n && rest->p[i] != '\n'; i++)
        put_bytes(&o, rest->p[i] == '#' ? nonce : (struct slice){rest->p + i, 1});
    *rest = slice_skip(*rest, i < rest->n ? i + 1 : i);
    return put_slice(&o);
}

static void attack_server(struct slice in)
{
    static struct scram_server s;
    static uint8_t room[2048], out[SCRAM_OUT_MAX];
    static const uint8_t zero[SCRAM_KEY_BYTES];
    struct scram_secret secret = the_secret();
    struct put o = put_into(out, sizeof out);
    s = (struct scram_server){0};
    struct slice line = next_line(&in, slice_of("abc"), room, sizeof room);
    enum scram_rc rc = scram_server_first(&s, line, random_ours, &secret, &o);
    CHECK(rc != SCRAM_FULL && rc != SCRAM_CRYPTO && (rc == SCRAM_OK) == (o.n > 0));
    line = next_line(&in, (struct slice){s.nonce.bytes, s.nonce.n}, room, sizeof room);
    o = put_into(out, sizeof out);
    rc = scram_server_final(&s, line, &o);
    CHECK(rc != SCRAM_OK && o.n == 0);
    CHECK(memcmp(s.client_key, zero, sizeof zero) == 0);
    CHECK(scram_server_final(&s, line, &o) == SCRAM_OUT_OF_STEP);
}

static void attack_client(struct slice in)
{
    static struct scram_client c;
    static uint8_t room[2048], out[SCRAM_OUT_MAX];
    struct put o = put_into(out, sizeof out);
    c = (struct scram_client){0};
    CHECK(scram_client_first(&c, random_ours, &o) == SCRAM_OK);
    struct slice line = next_line(&in, (struct slice){c.nonce.bytes, c.nonce.n}, room, sizeof room);
    enum scram_rc rc = scram_client_read_first(&c, line);
    if (rc == SCRAM_OK) {
        CHECK(c.iterations >= 1 && c.iterations <= SCRAM_ITERATIONS_MAX);
        CHECK(c.salt_n >= 1 && c.salt_n <= SCRAM_SALT_MAX && c.nonce.n <= SCRAM_NONCE_MAX);
    }
    o = put_into(out, sizeof out);
    CHECK(scram_client_final(&c, salted, &o) == (rc == SCRAM_OK ? SCRAM_OK : SCRAM_OUT_OF_STEP));
    line = next_line(&in, SLICE_NONE, room, sizeof room);
    CHECK(scram_client_verify(&c, line) != SCRAM_OK);
}

/* Change bytes of message number which, as in says: pairs of position and change. True: it is
 * another. */
static bool tamper(struct put *message, struct slice in, uint8_t which, uint8_t number)
{
    uint8_t before[SCRAM_OUT_MAX];
    memcpy(before, message->p, message->n);
    for (size_t i = 0; which == number && i + 1 < in.n && message->n > 0; i += 2)
        message->p[in.p[i] % message->n] ^= in.p[i + 1];
    return memcmp(before, message->p, message->n) != 0;
}

static void tamper_exchange(struct slice in)
{
    static struct scram_client c;
    static struct scram_server s;
    static uint8_t bytes[4][SCRAM_OUT_MAX];
    struct scram_secret secret = the_secret();
    struct put o[4];
    uint8_t which = in.n > 0 ? in.p[0] % 4 : 0;
    in = in.n > 0 ? slice_skip(in, 1) : in;
    c = (struct scram_client){0};
    s = (struct scram_server){0};
    for (size_t i = 0; i < 4; i++)
        o[i] = put_into(bytes[i], SCRAM_OUT_MAX);
    CHECK(scram_client_first(&c, random_theirs, &o[0]) == SCRAM_OK);
    bool changed = tamper(&o[0], in, which, 0);
    bool ok = scram_server_first(&s, put_slice(&o[0]), random_ours, &secret, &o[1]) == SCRAM_OK;
    changed |= ok && tamper(&o[1], in, which, 1);
    ok = ok && scram_client_read_first(&c, put_slice(&o[1])) == SCRAM_OK;
    ok = ok && scram_client_final(&c, salted, &o[2]) == SCRAM_OK;
    changed |= ok && tamper(&o[2], in, which, 2);
    ok = ok && scram_server_final(&s, put_slice(&o[2]), &o[3]) == SCRAM_OK;
    CHECK(!ok || !changed);
    changed |= ok && tamper(&o[3], in, which, 3);
    ok = ok && scram_client_verify(&c, put_slice(&o[3])) == SCRAM_OK;
    CHECK(ok == !changed);
}

static void check_secret(struct slice in)
{
    struct scram_secret s, again;
    uint8_t text[SCRAM_SECRET_TEXT_MAX];
    struct put o = put_into(text, sizeof text);
    if (!scram_secret_parse(in, &s))
        return;
    CHECK(s.iterations >= 1 && s.iterations <= INT32_MAX && s.salt_n >= 1);
    scram_secret_format(&s, &o);
    CHECK(!o.full && scram_secret_parse(put_slice(&o), &again));
    CHECK(memcmp(&s, &again, sizeof s) == 0);
    for (size_t n = 0; n < in.n; n++)
        CHECK(!scram_secret_parse((struct slice){in.p, n}, &again));
}

static void check_base64(struct slice in)
{
    uint8_t bytes[CRYPTO_BASE64_MAX], text[128];
    struct put o = put_into(text, sizeof text);
    size_t n;
    if (!crypto_read_base64(in, bytes, sizeof bytes, &n))
        return;
    CHECK(n >= 1 && n <= sizeof bytes);
    crypto_put_base64(&o, (struct slice){bytes, n});
    CHECK(slice_equals(put_slice(&o), in));
}

static void check_saslprep(struct slice in)
{
    static uint8_t text[SASLPREP_TEXT_MAX];
    struct put o = put_into(text, sizeof text);
    bool ok = saslprep(in, &o), ascii = true;
    for (size_t i = 0; i < in.n; i++)
        ascii = ascii && in.p[i] < 0x80;
    CHECK(ok || o.n == 0);
    if (ascii && in.n <= sizeof text)
        CHECK(ok && slice_equals(put_slice(&o), in));
    if (ok && !ascii)
        CHECK(o.n > 0 && memchr(o.p, 0, o.n) == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    static void (*const modes[])(struct slice) = {attack_server, attack_client, tamper_exchange,
                                                  check_secret,  check_base64,  check_saslprep};
    modes[data[0] % (sizeof modes / sizeof modes[0])]((struct slice){data + 1, size - 1});
    return 0;
}
