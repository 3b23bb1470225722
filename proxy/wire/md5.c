#include "proxy/wire/md5.h"

#include "proxy/wire/crypto.h"
#include "proxy/wire/scram.h"

#define PREFIX_BYTES 3

bool md5_is_secret(struct slice text)
{
    if (text.n != MD5_TEXT_BYTES || memcmp(text.p, "md5", PREFIX_BYTES) != 0)
        return false;
    for (size_t i = PREFIX_BYTES; i < text.n; i++) {
        uint8_t c = text.p[i];
        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f'))
            return false;
    }
    return true;
}

/* out = "md5" + hex(md5(a + b)) */
static bool md5_text(struct slice a, struct slice b, char out[MD5_TEXT_BYTES + 1])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t sum[CRYPTO_MD5_BYTES];
    if (!crypto_md5(a, b, sum))
        return false;
    memcpy(out, "md5", PREFIX_BYTES);
    for (size_t i = 0; i < sizeof sum; i++) {
        out[PREFIX_BYTES + 2 * i] = digits[sum[i] >> 4];
        out[PREFIX_BYTES + 2 * i + 1] = digits[sum[i] & 15];
    }
    out[MD5_TEXT_BYTES] = 0;
    return true;
}

bool md5_password(struct slice password, struct slice user, char out[MD5_TEXT_BYTES + 1])
{
    return md5_text(password, user, out);
}

bool md5_response(struct slice stored, const uint8_t salt[MD5_SALT_BYTES],
                  char out[MD5_TEXT_BYTES + 1])
{
    if (!md5_is_secret(stored))
        return false;
    struct slice hex = slice_skip(stored, PREFIX_BYTES);
    return md5_text(hex, (struct slice){salt, MD5_SALT_BYTES}, out);
}

/* out = the md5 secret that a stored secret is or stands for. False: it is of another kind. */
static bool secret_of(struct slice stored, struct slice user, char out[MD5_TEXT_BYTES + 1])
{
    struct scram_secret scram;
    if (stored.n == 0 || scram_secret_parse(stored, &scram))
        return false;
    if (!md5_is_secret(stored))
        return md5_password(stored, user, out);
    memcpy(out, stored.p, MD5_TEXT_BYTES);
    out[MD5_TEXT_BYTES] = 0;
    return true;
}

static struct slice text_of(const char text[MD5_TEXT_BYTES + 1])
{
    return (struct slice){(const uint8_t *)text, MD5_TEXT_BYTES};
}

bool md5_check(struct slice stored, struct slice user, const uint8_t salt[MD5_SALT_BYTES],
               struct slice response)
{
    char secret[MD5_TEXT_BYTES + 1], expected[MD5_TEXT_BYTES + 1];
    bool ok = secret_of(stored, user, secret) && md5_response(text_of(secret), salt, expected) &&
              response.n == MD5_TEXT_BYTES &&
              crypto_same(response.p, text_of(expected).p, MD5_TEXT_BYTES);
    crypto_wipe(secret, sizeof secret);
    return ok;
}

/* Equal texts, in time that does not tell where they differ: their digests are compared. */
static bool same_text(struct slice a, struct slice b)
{
    uint8_t digest_a[CRYPTO_SHA256_BYTES], digest_b[CRYPTO_SHA256_BYTES];
    return crypto_sha256(a, digest_a) && crypto_sha256(b, digest_b) &&
           crypto_same(digest_a, digest_b, sizeof digest_a);
}

bool md5_check_password(struct slice stored, struct slice user, struct slice password)
{
    struct scram_secret scram;
    char offered[MD5_TEXT_BYTES + 1];
    if (stored.n == 0 || scram_secret_parse(stored, &scram))
        return false;
    if (!md5_is_secret(stored))
        return same_text(stored, password); /* needs no MD5 */
    bool ok = md5_password(password, user, offered) &&
              crypto_same(stored.p, text_of(offered).p, MD5_TEXT_BYTES);
    crypto_wipe(offered, sizeof offered);
    return ok;
}
