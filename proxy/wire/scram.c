#include "proxy/wire/scram.h"

#include "base/check.h"
#include "proxy/wire/crypto.h"
#include "proxy/wire/saslprep.h"
#include "proxy/wire/take.h"

_Static_assert(SCRAM_KEY_BYTES == CRYPTO_SHA256_BYTES, "the keys are digests");
_Static_assert(SCRAM_NONCE_TEXT_BYTES == SCRAM_NONCE_RANDOM_BYTES / 3 * 4, "base64, no padding");
_Static_assert(SCRAM_SALT_MAX <= CRYPTO_BASE64_MAX, "a salt is one base64 text");
_Static_assert(SCRAM_OUT_MAX >= 2 + SCRAM_NONCE_MAX + 3 + (SCRAM_SALT_MAX + 2) / 3 * 4 + 3 + 10,
               "server-first-message fits");
_Static_assert(SCRAM_OUT_MAX >= 9 + SCRAM_NONCE_MAX + 3 + 44, "client-final-message fits");
_Static_assert(SCRAM_AUTH_MESSAGE_MAX >= 2 * SCRAM_MESSAGE_MAX + SCRAM_OUT_MAX, "all three fit");

/* ---- grammar ---- */

/* What every message has to be: not empty, not too long, and no NUL in it. */
static bool is_message(struct slice in)
{
    return in.n > 0 && in.n <= SCRAM_MESSAGE_MAX && memchr(in.p, 0, in.n) == NULL;
}

static bool starts_with(struct slice in, const char *text)
{
    size_t n = strlen(text);
    return in.n >= n && memcmp(in.p, text, n) == 0;
}

/* Take "x=value" and the comma after it, which another attribute must follow. */
static bool take_attribute(struct slice *rest, uint8_t *name, struct slice *value)
{
    struct slice in = *rest;
    if (in.n < 2 || in.p[1] != '=')
        return false;
    if (!(in.p[0] >= 'a' && in.p[0] <= 'z') && !(in.p[0] >= 'A' && in.p[0] <= 'Z'))
        return false;
    struct slice tail = slice_skip(in, 2);
    const uint8_t *comma = tail.n > 0 ? memchr(tail.p, ',', tail.n) : NULL;
    size_t n = comma ? (size_t)(comma - tail.p) : tail.n;
    if (comma && n + 1 == tail.n)
        return false;
    *name = in.p[0];
    *value = (struct slice){tail.p, n};
    *rest = slice_skip(tail, comma ? n + 1 : n);
    return true;
}

static bool take_named(struct slice *rest, uint8_t name, struct slice *value)
{
    struct slice in = *rest;
    uint8_t found = 0;
    if (!take_attribute(&in, &found, value) || found != name)
        return false;
    *rest = in;
    return true;
}

/* RFC 5802: printable ASCII but the comma (which cannot be here: it ends the attribute). */
static bool is_nonce(struct slice text)
{
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < 0x21 || text.p[i] > 0x7e)
            return false;
    }
    return text.n > 0;
}

/* A decimal number of 1 .. max; digits only. */
static bool read_number(struct slice text, uint32_t max, uint32_t *out)
{
    uint64_t v = 0;
    if (text.n == 0 || text.n > 10)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        v = v * 10 + (uint64_t)(text.p[i] - '0');
    }
    if (v < 1 || v > max)
        return false;
    *out = (uint32_t)v;
    return true;
}

static void put_number(struct put *o, uint32_t v)
{
    uint8_t digits[10];
    size_t n = 0;
    do {
        digits[sizeof digits - ++n] = (uint8_t)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    put_bytes(o, (struct slice){digits + sizeof digits - n, n});
}

static void put_text(struct put *o, const char *text)
{
    put_bytes(o, slice_of(text));
}

static struct slice key_slice(const uint8_t key[SCRAM_KEY_BYTES])
{
    return (struct slice){key, SCRAM_KEY_BYTES};
}

/* Exactly 32 bytes of base64. */
static bool read_key(struct slice text, uint8_t key[SCRAM_KEY_BYTES])
{
    size_t n = 0;
    return crypto_read_base64(text, key, SCRAM_KEY_BYTES, &n) && n == SCRAM_KEY_BYTES;
}

static const char *const error_texts[] = {
    [SCRAM_OK] = "ok",
    [SCRAM_MALFORMED] = "malformed SCRAM message",
    [SCRAM_CHANNEL_BINDING] = "SCRAM channel binding is not supported or does not match",
    [SCRAM_AUTHZID] = "SCRAM authorization identity is not supported",
    [SCRAM_EXTENSION] = "SCRAM extension is not supported",
    [SCRAM_NONCE] = "SCRAM nonce is missing, too long or does not match",
    [SCRAM_ITERATIONS] = "SCRAM iteration count is out of bounds",
    [SCRAM_DENIED] = "SCRAM proof or signature is wrong",
    [SCRAM_OUT_OF_STEP] = "SCRAM message out of step",
    [SCRAM_CRYPTO] = "SCRAM is not available in OpenSSL here",
    [SCRAM_FULL] = "no room for a SCRAM message",
};
_Static_assert(sizeof error_texts / sizeof error_texts[0] == SCRAM_RC_N, "a text for each rc");

const char *scram_error_text(enum scram_rc rc)
{
    CHECK(rc < SCRAM_RC_N);
    return error_texts[rc];
}

/* ---- secrets ---- */

/* Take what is before the mark, and the mark. */
static bool take_until(struct slice *rest, uint8_t mark, struct slice *out)
{
    const uint8_t *at = rest->n > 0 ? memchr(rest->p, mark, rest->n) : NULL;
    if (at == NULL)
        return false;
    *out = (struct slice){rest->p, (size_t)(at - rest->p)};
    *rest = slice_skip(*rest, out->n + 1);
    return true;
}

bool scram_secret_parse(struct slice text, struct scram_secret *out)
{
    struct scram_secret s = {0};
    struct slice mechanism, iterations, salt, stored;
    size_t salt_n = 0;
    if (text.n > SCRAM_SECRET_TEXT_MAX || !take_until(&text, '$', &mechanism) ||
        !slice_is(mechanism, SCRAM_MECHANISM) || !take_until(&text, ':', &iterations) ||
        !take_until(&text, '$', &salt) || !take_until(&text, ':', &stored))
        return false;
    if (!read_number(iterations, INT32_MAX, &s.iterations) ||
        !crypto_read_base64(salt, s.salt, sizeof s.salt, &salt_n) ||
        !read_key(stored, s.stored_key) || !read_key(text, s.server_key))
        return false;
    s.salt_n = (uint8_t)salt_n;
    *out = s;
    return true;
}

void scram_secret_format(const struct scram_secret *secret, struct put *out)
{
    CHECK(secret->salt_n >= 1 && secret->salt_n <= SCRAM_SALT_MAX);
    uint8_t text[SCRAM_SECRET_TEXT_MAX];
    struct put o = put_into(text, sizeof text);
    put_text(&o, SCRAM_MECHANISM "$");
    put_number(&o, secret->iterations);
    put_text(&o, ":");
    crypto_put_base64(&o, (struct slice){secret->salt, secret->salt_n});
    put_text(&o, "$");
    crypto_put_base64(&o, key_slice(secret->stored_key));
    put_text(&o, ":");
    crypto_put_base64(&o, key_slice(secret->server_key));
    CHECK(!o.full);
    put_bytes(out, put_slice(&o));
    crypto_wipe(text, sizeof text);
}

static bool is_salt(struct slice salt, uint32_t iterations)
{
    return salt.n >= 1 && salt.n <= SCRAM_SALT_MAX && iterations >= 1 && iterations <= INT32_MAX;
}

bool scram_salted_password(struct slice password, struct slice salt, uint32_t iterations,
                           uint8_t out[SCRAM_KEY_BYTES])
{
    uint8_t text[SASLPREP_TEXT_MAX];
    struct put prepared = put_into(text, sizeof text);
    if (!is_salt(salt, iterations))
        return false;
    if (saslprep(password, &prepared))
        password = put_slice(&prepared);
    bool ok = crypto_pbkdf2_sha256(password, salt, iterations, out);
    crypto_wipe(text, sizeof text);
    return ok;
}

/* The three keys that come from a salted password. */
struct keys {
    uint8_t client[SCRAM_KEY_BYTES], stored[SCRAM_KEY_BYTES], server[SCRAM_KEY_BYTES];
};

static bool derive_keys(const uint8_t salted[SCRAM_KEY_BYTES], struct keys *k)
{
    return crypto_hmac_sha256(salted, slice_of("Client Key"), k->client) &&
           crypto_sha256(key_slice(k->client), k->stored) &&
           crypto_hmac_sha256(salted, slice_of("Server Key"), k->server);
}

bool scram_secret_from_salted(const uint8_t salted[SCRAM_KEY_BYTES], struct slice salt,
                              uint32_t iterations, struct scram_secret *out)
{
    struct keys k;
    if (!is_salt(salt, iterations) || !derive_keys(salted, &k))
        return false;
    struct scram_secret s = {.iterations = iterations, .salt_n = (uint8_t)salt.n};
    memcpy(s.salt, salt.p, salt.n);
    memcpy(s.stored_key, k.stored, sizeof s.stored_key);
    memcpy(s.server_key, k.server, sizeof s.server_key);
    *out = s;
    crypto_wipe(&k, sizeof k);
    return true;
}

bool scram_secret_check_salted(const struct scram_secret *secret,
                               const uint8_t salted[SCRAM_KEY_BYTES])
{
    struct keys k;
    bool ok = derive_keys(salted, &k) &&
              crypto_same(k.stored, secret->stored_key, sizeof k.stored) &&
              crypto_same(k.server, secret->server_key, sizeof k.server);
    crypto_wipe(&k, sizeof k);
    return ok;
}

/* The keys are HMACs, so nobody knows a client key whose digest is the stored one. */
bool scram_secret_mock(struct slice user, const uint8_t process_secret[32],
                       struct scram_secret *out)
{
    struct scram_secret s = {.iterations = SCRAM_DEFAULT_ITERATIONS,
                             .salt_n = SCRAM_DEFAULT_SALT_BYTES};
    uint8_t of_user[SCRAM_KEY_BYTES], salt[SCRAM_KEY_BYTES];
    if (!crypto_hmac_sha256(process_secret, user, of_user) ||
        !crypto_hmac_sha256(of_user, slice_of("salt"), salt) ||
        !crypto_hmac_sha256(of_user, slice_of("stored key"), s.stored_key) ||
        !crypto_hmac_sha256(of_user, slice_of("server key"), s.server_key))
        return false;
    memcpy(s.salt, salt, SCRAM_DEFAULT_SALT_BYTES);
    *out = s;
    crypto_wipe(of_user, sizeof of_user);
    return true;
}

/* ---- what both sides do ---- */

static void transcript_add(struct scram_transcript *t, struct slice bytes)
{
    CHECK(bytes.n <= sizeof t->bytes - t->n); /* each message was bounded when it was read */
    memcpy(t->bytes + t->n, bytes.p, bytes.n);
    t->n = (uint16_t)(t->n + bytes.n);
}

static void transcript_add_next(struct scram_transcript *t, struct slice message)
{
    transcript_add(t, slice_of(","));
    transcript_add(t, message);
}

/* HMAC of all messages so far under a key. */
static bool sign(const struct scram_transcript *t, const uint8_t key[SCRAM_KEY_BYTES],
                 uint8_t signature[SCRAM_KEY_BYTES])
{
    return crypto_hmac_sha256(key, (struct slice){t->bytes, t->n}, signature);
}

static void nonce_add(struct scram_nonce *nonce, struct slice bytes)
{
    CHECK(bytes.n <= sizeof nonce->bytes - nonce->n);
    memcpy(nonce->bytes + nonce->n, bytes.p, bytes.n);
    nonce->n = (uint16_t)(nonce->n + bytes.n);
}

/* Base64 has no comma and no blank, so it is a nonce as it is. */
static void nonce_add_random(struct scram_nonce *nonce,
                             const uint8_t random[SCRAM_NONCE_RANDOM_BYTES])
{
    uint8_t text[SCRAM_NONCE_TEXT_BYTES];
    struct put o = put_into(text, sizeof text);
    crypto_put_base64(&o, (struct slice){random, SCRAM_NONCE_RANDOM_BYTES});
    CHECK(!o.full && o.n == sizeof text);
    nonce_add(nonce, put_slice(&o));
}

static struct slice nonce_slice(const struct scram_nonce *nonce)
{
    return (struct slice){nonce->bytes, nonce->n};
}

static void xor_keys(const uint8_t a[SCRAM_KEY_BYTES], const uint8_t b[SCRAM_KEY_BYTES],
                     uint8_t out[SCRAM_KEY_BYTES])
{
    for (size_t i = 0; i < SCRAM_KEY_BYTES; i++)
        out[i] = a[i] ^ b[i];
}

static enum scram_rc put_message(struct put *out, const struct put *message)
{
    CHECK(!message->full);
    put_bytes(out, put_slice(message));
    return out->full ? SCRAM_FULL : SCRAM_OK;
}

/* ---- server ---- */

/* Take "n,," or "y,,". */
static enum scram_rc take_gs2_header(struct slice *rest, uint8_t *flag)
{
    struct slice in = *rest;
    if (in.p[0] == 'p')
        return SCRAM_CHANNEL_BINDING; /* we do not offer SCRAM-SHA-256-PLUS */
    if ((in.p[0] != 'n' && in.p[0] != 'y') || in.n < 3 || in.p[1] != ',')
        return SCRAM_MALFORMED;
    if (in.p[2] == 'a')
        return SCRAM_AUTHZID;
    if (in.p[2] != ',')
        return SCRAM_MALFORMED;
    *flag = in.p[0];
    *rest = slice_skip(in, 3);
    return SCRAM_OK;
}

/* client-first-message-bare: "n=...,r=...", and extensions, which are skipped. */
static enum scram_rc read_client_first_bare(struct slice bare, struct slice *nonce)
{
    struct slice user;
    uint8_t name;
    if (starts_with(bare, "m="))
        return SCRAM_EXTENSION;
    if (!take_named(&bare, 'n', &user)) /* ignored: the startup packet has the name */
        return SCRAM_MALFORMED;
    if (!take_named(&bare, 'r', nonce) || !is_nonce(*nonce) || nonce->n > SCRAM_PEER_NONCE_MAX)
        return SCRAM_NONCE;
    while (bare.n > 0) {
        struct slice ignored;
        if (!take_attribute(&bare, &name, &ignored))
            return SCRAM_MALFORMED;
    }
    return SCRAM_OK;
}

static enum scram_rc put_server_first(struct scram_server *s, struct put *out)
{
    uint8_t text[SCRAM_OUT_MAX];
    struct put o = put_into(text, sizeof text);
    put_text(&o, "r=");
    put_bytes(&o, nonce_slice(&s->nonce));
    put_text(&o, ",s=");
    crypto_put_base64(&o, (struct slice){s->secret.salt, s->secret.salt_n});
    put_text(&o, ",i=");
    put_number(&o, s->secret.iterations);
    transcript_add_next(&s->transcript, put_slice(&o));
    return put_message(out, &o);
}

enum scram_rc scram_server_first(struct scram_server *s, struct slice client_first,
                                 const uint8_t nonce_random[SCRAM_NONCE_RANDOM_BYTES],
                                 const struct scram_secret *secret, struct put *out)
{
    CHECK(secret->salt_n >= 1 && secret->salt_n <= SCRAM_SALT_MAX);
    enum scram_server_state was = s->state;
    struct slice nonce = SLICE_NONE;
    s->state = SCRAM_SERVER_DONE; /* until this step has worked */
    if (was != SCRAM_SERVER_NEW)
        return SCRAM_OUT_OF_STEP;
    if (!is_message(client_first))
        return SCRAM_MALFORMED;
    enum scram_rc rc = take_gs2_header(&client_first, &s->gs2_flag);
    if (rc == SCRAM_OK)
        rc = read_client_first_bare(client_first, &nonce);
    if (rc != SCRAM_OK)
        return rc;
    s->secret = *secret;
    nonce_add(&s->nonce, nonce);
    nonce_add_random(&s->nonce, nonce_random);
    transcript_add(&s->transcript, client_first);
    rc = put_server_first(s, out);
    if (rc == SCRAM_OK)
        s->state = SCRAM_SERVER_CHALLENGED;
    return rc;
}

/* client-final-message: "c=...,r=...", extensions, ",p=...", which is last. unproved: without
 * ",p=". */
static enum scram_rc read_client_final(const struct scram_server *s, struct slice in,
                                       struct slice *unproved, uint8_t proof[SCRAM_KEY_BYTES])
{
    struct slice rest = in, binding, nonce, value = SLICE_NONE;
    uint8_t name = 0;
    if (!take_named(&rest, 'c', &binding))
        return SCRAM_MALFORMED;
    if (!slice_is(binding, s->gs2_flag == 'y' ? "eSws" : "biws")) /* base64 of "y,,", "n,," */
        return SCRAM_CHANNEL_BINDING;
    if (!take_named(&rest, 'r', &nonce) || !slice_equals(nonce, nonce_slice(&s->nonce)))
        return SCRAM_NONCE;
    while (name != 'p') {
        if (rest.n == 0) /* no proof */
            return SCRAM_MALFORMED;
        *unproved = (struct slice){in.p, in.n - rest.n - 1};
        if (!take_attribute(&rest, &name, &value))
            return SCRAM_MALFORMED;
    }
    if (rest.n > 0 || !read_key(value, proof))
        return SCRAM_MALFORMED;
    return SCRAM_OK;
}

/* RFC 5802 section 3: the proof is right when the digest of proof XOR signature is the stored key.
 */
static enum scram_rc check_proof(struct scram_server *s, const uint8_t proof[SCRAM_KEY_BYTES])
{
    uint8_t signature[SCRAM_KEY_BYTES], client[SCRAM_KEY_BYTES], stored[SCRAM_KEY_BYTES];
    if (!sign(&s->transcript, s->secret.stored_key, signature))
        return SCRAM_CRYPTO;
    xor_keys(proof, signature, client);
    if (!crypto_sha256(key_slice(client), stored))
        return SCRAM_CRYPTO;
    if (!crypto_same(stored, s->secret.stored_key, sizeof stored))
        return SCRAM_DENIED;
    memcpy(s->client_key, client, sizeof s->client_key);
    crypto_wipe(client, sizeof client);
    return SCRAM_OK;
}

static enum scram_rc put_server_final(const struct scram_server *s, struct put *out)
{
    uint8_t text[SCRAM_OUT_MAX], signature[SCRAM_KEY_BYTES];
    struct put o = put_into(text, sizeof text);
    if (!sign(&s->transcript, s->secret.server_key, signature))
        return SCRAM_CRYPTO;
    put_text(&o, "v=");
    crypto_put_base64(&o, key_slice(signature));
    return put_message(out, &o);
}

enum scram_rc scram_server_final(struct scram_server *s, struct slice client_final, struct put *out)
{
    enum scram_server_state was = s->state;
    struct slice unproved = SLICE_NONE;
    uint8_t proof[SCRAM_KEY_BYTES];
    s->state = SCRAM_SERVER_DONE;
    if (was != SCRAM_SERVER_CHALLENGED)
        return SCRAM_OUT_OF_STEP;
    if (!is_message(client_final))
        return SCRAM_MALFORMED;
    enum scram_rc rc = read_client_final(s, client_final, &unproved, proof);
    if (rc != SCRAM_OK)
        return rc;
    transcript_add_next(&s->transcript, unproved);
    rc = check_proof(s, proof);
    if (rc == SCRAM_OK)
        rc = put_server_final(s, out);
    if (rc != SCRAM_OK)
        crypto_wipe(s->client_key, sizeof s->client_key);
    return rc;
}

void scram_server_wipe(struct scram_server *s)
{
    crypto_wipe(s, sizeof *s);
}

/* ---- client ---- */

enum scram_rc scram_client_first(struct scram_client *c,
                                 const uint8_t nonce_random[SCRAM_NONCE_RANDOM_BYTES],
                                 struct put *out)
{
    enum scram_client_state was = c->state;
    uint8_t text[SCRAM_OUT_MAX];
    struct put o = put_into(text, sizeof text);
    c->state = SCRAM_CLIENT_DONE;
    if (was != SCRAM_CLIENT_NEW)
        return SCRAM_OUT_OF_STEP;
    nonce_add_random(&c->nonce, nonce_random);
    put_text(&o, "n,,n=,r=");
    put_bytes(&o, nonce_slice(&c->nonce));
    transcript_add(&c->transcript, slice_skip(put_slice(&o), 3)); /* without the gs2 header */
    enum scram_rc rc = put_message(out, &o);
    if (rc == SCRAM_OK)
        c->state = SCRAM_CLIENT_GREETED;
    return rc;
}

/* Ours, and at least one byte of the server's. */
static bool extends_nonce(struct slice nonce, struct slice ours)
{
    return is_nonce(nonce) && nonce.n > ours.n && nonce.n <= SCRAM_NONCE_MAX &&
           memcmp(nonce.p, ours.p, ours.n) == 0;
}

/* server-first-message: "r=...,s=...,i=...", and nothing after it, as libpq wants it. */
static enum scram_rc read_server_first(struct scram_client *c, struct slice in)
{
    struct slice nonce, salt, iterations;
    size_t salt_n = 0;
    if (starts_with(in, "m="))
        return SCRAM_EXTENSION;
    if (!take_named(&in, 'r', &nonce) || !extends_nonce(nonce, nonce_slice(&c->nonce)))
        return SCRAM_NONCE;
    if (!take_named(&in, 's', &salt) || !crypto_read_base64(salt, c->salt, sizeof c->salt, &salt_n))
        return SCRAM_MALFORMED;
    if (!take_named(&in, 'i', &iterations) || in.n > 0)
        return SCRAM_MALFORMED;
    if (!read_number(iterations, SCRAM_ITERATIONS_MAX, &c->iterations))
        return SCRAM_ITERATIONS;
    c->salt_n = (uint8_t)salt_n;
    nonce_add(&c->nonce, slice_skip(nonce, c->nonce.n));
    return SCRAM_OK;
}

enum scram_rc scram_client_read_first(struct scram_client *c, struct slice server_first)
{
    enum scram_client_state was = c->state;
    c->state = SCRAM_CLIENT_DONE;
    if (was != SCRAM_CLIENT_GREETED)
        return SCRAM_OUT_OF_STEP;
    if (!is_message(server_first))
        return SCRAM_MALFORMED;
    enum scram_rc rc = read_server_first(c, server_first);
    if (rc != SCRAM_OK)
        return rc;
    transcript_add_next(&c->transcript, server_first);
    c->state = SCRAM_CLIENT_CHALLENGED;
    return SCRAM_OK;
}

static enum scram_rc prove(struct scram_client *c, const struct keys *k, struct put *out)
{
    uint8_t text[SCRAM_OUT_MAX], signature[SCRAM_KEY_BYTES], proof[SCRAM_KEY_BYTES];
    struct put o = put_into(text, sizeof text);
    put_text(&o, "c=biws,r=");
    put_bytes(&o, nonce_slice(&c->nonce));
    transcript_add_next(&c->transcript, put_slice(&o));
    if (!sign(&c->transcript, k->stored, signature) ||
        !sign(&c->transcript, k->server, c->server_signature))
        return SCRAM_CRYPTO;
    xor_keys(k->client, signature, proof);
    put_text(&o, ",p=");
    crypto_put_base64(&o, key_slice(proof));
    return put_message(out, &o);
}

/* The one step that both ways to prove share: out of step, or prove with k. */
static enum scram_rc client_final(struct scram_client *c, const struct keys *k, struct put *out)
{
    enum scram_client_state was = c->state;
    c->state = SCRAM_CLIENT_DONE;
    if (was != SCRAM_CLIENT_CHALLENGED)
        return SCRAM_OUT_OF_STEP;
    enum scram_rc rc = prove(c, k, out);
    if (rc == SCRAM_OK)
        c->state = SCRAM_CLIENT_PROVED;
    return rc;
}

static enum scram_rc client_cannot(struct scram_client *c)
{
    c->state = SCRAM_CLIENT_DONE;
    return SCRAM_CRYPTO;
}

enum scram_rc scram_client_final(struct scram_client *c, const uint8_t salted[SCRAM_KEY_BYTES],
                                 struct put *out)
{
    struct keys k;
    if (!derive_keys(salted, &k))
        return client_cannot(c);
    enum scram_rc rc = client_final(c, &k, out);
    crypto_wipe(&k, sizeof k);
    return rc;
}

enum scram_rc scram_client_final_keys(struct scram_client *c,
                                      const uint8_t client_key[SCRAM_KEY_BYTES],
                                      const uint8_t server_key[SCRAM_KEY_BYTES], struct put *out)
{
    struct keys k;
    memcpy(k.client, client_key, sizeof k.client);
    memcpy(k.server, server_key, sizeof k.server);
    if (!crypto_sha256(key_slice(k.client), k.stored))
        return client_cannot(c);
    enum scram_rc rc = client_final(c, &k, out);
    crypto_wipe(&k, sizeof k);
    return rc;
}

enum scram_rc scram_client_verify(struct scram_client *c, struct slice server_final)
{
    enum scram_client_state was = c->state;
    struct slice value;
    uint8_t signature[SCRAM_KEY_BYTES];
    c->state = SCRAM_CLIENT_DONE;
    if (was != SCRAM_CLIENT_PROVED)
        return SCRAM_OUT_OF_STEP;
    if (!is_message(server_final))
        return SCRAM_MALFORMED;
    if (starts_with(server_final, "e="))
        return SCRAM_DENIED;
    if (!take_named(&server_final, 'v', &value) || server_final.n > 0 ||
        !read_key(value, signature))
        return SCRAM_MALFORMED;
    return crypto_same(signature, c->server_signature, sizeof signature) ? SCRAM_OK : SCRAM_DENIED;
}

void scram_client_wipe(struct scram_client *c)
{
    crypto_wipe(c, sizeof *c);
}
