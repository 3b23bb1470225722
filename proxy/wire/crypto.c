#include "proxy/wire/crypto.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/check.h"

/* digest(a + b) */
static bool digest(const EVP_MD *md, struct slice a, struct slice b, uint8_t *out, unsigned out_n)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    unsigned n = 0;
    bool ok = ctx != NULL && EVP_DigestInit_ex(ctx, md, NULL) == 1 &&
              EVP_DigestUpdate(ctx, a.p, a.n) == 1 && EVP_DigestUpdate(ctx, b.p, b.n) == 1 &&
              EVP_DigestFinal_ex(ctx, out, &n) == 1 && n == out_n;
    EVP_MD_CTX_free(ctx);
    return ok;
}

bool crypto_sha256(struct slice text, uint8_t out[CRYPTO_SHA256_BYTES])
{
    return digest(EVP_sha256(), text, SLICE_NONE, out, CRYPTO_SHA256_BYTES);
}

bool crypto_md5(struct slice a, struct slice b, uint8_t out[CRYPTO_MD5_BYTES])
{
    return digest(EVP_md5(), a, b, out, CRYPTO_MD5_BYTES);
}

bool crypto_hmac_sha256(const uint8_t key[CRYPTO_SHA256_BYTES], struct slice text,
                        uint8_t out[CRYPTO_SHA256_BYTES])
{
    static const uint8_t nothing[1] = {0};
    const uint8_t *p = text.n > 0 ? text.p : nothing; /* OpenSSL takes NULL for "go on", not "" */
    unsigned n = 0;
    return HMAC(EVP_sha256(), key, CRYPTO_SHA256_BYTES, p, text.n, out, &n) != NULL &&
           n == CRYPTO_SHA256_BYTES;
}

bool crypto_pbkdf2_sha256(struct slice password, struct slice salt, uint32_t iterations,
                          uint8_t out[CRYPTO_SHA256_BYTES])
{
    if (iterations < 1 || iterations > INT32_MAX || password.n > INT32_MAX || salt.n > INT32_MAX)
        return false;
    const char *text = password.n > 0 ? (const char *)password.p : "";
    return PKCS5_PBKDF2_HMAC(text, (int)password.n, salt.p, (int)salt.n, (int)iterations,
                             EVP_sha256(), CRYPTO_SHA256_BYTES, out) == 1;
}

bool crypto_same(const uint8_t *a, const uint8_t *b, size_t n)
{
    return CRYPTO_memcmp(a, b, n) == 0;
}

void crypto_put_base64(struct put *o, struct slice bytes)
{
    CHECK(bytes.n <= CRYPTO_BASE64_MAX);
    uint8_t text[(CRYPTO_BASE64_MAX + 2) / 3 * 4 + 1]; /* OpenSSL adds a NUL */
    int n = EVP_EncodeBlock(text, bytes.p, (int)bytes.n);
    CHECK(n >= 0 && (size_t)n < sizeof text);
    put_bytes(o, (struct slice){text, (size_t)n});
    crypto_wipe(text, sizeof text);
}

static bool is_base64_letter(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
           c == '/';
}

/* How many '=' end the text: 0, 1 or 2. */
static size_t padding(struct slice text)
{
    size_t n = 0;
    while (n < 2 && text.p[text.n - 1 - n] == '=')
        n++;
    return n;
}

/* OpenSSL's own reader skips blanks and does not tell padding from zeros: so the form is checked
 * here, and it only sees four letters at a time. */
bool crypto_read_base64(struct slice text, uint8_t *out, size_t cap, size_t *out_n)
{
    if (text.n == 0 || text.n % 4 != 0)
        return false;
    size_t pad_n = padding(text), letters_n = text.n - pad_n, n = text.n / 4 * 3 - pad_n;
    if (n > cap)
        return false;
    for (size_t i = 0; i < letters_n; i++) {
        if (!is_base64_letter(text.p[i]))
            return false;
    }
    for (size_t i = 0, at = 0; at < n; i += 4, at += 3) {
        uint8_t four[4] = {'A', 'A', 'A', 'A'}, three[3];
        memcpy(four, text.p + i, letters_n - i < 4 ? letters_n - i : 4);
        if (EVP_DecodeBlock(three, four, 4) != 3)
            return false;
        size_t kept_n = n - at < 3 ? n - at : 3;
        if (kept_n < 3 && three[kept_n] != 0)
            return false; /* spare bits: a second spelling of the same bytes */
        memcpy(out + at, three, kept_n);
    }
    *out_n = n;
    return true;
}

void crypto_wipe(void *secret, size_t n)
{
    OPENSSL_cleanse(secret, n);
}
