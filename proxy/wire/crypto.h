/* proxy/wire/crypto.h: the digests, base64 and comparison that logins need, from OpenSSL.
 *
 * Pure    no I/O, no clock, no globals of ours. OpenSSL allocates inside one call.
 * Owns    nothing.
 * Errors  false: OpenSSL failed or lacks the algorithm (FIPS); what was written is then undefined.
 * Limits  named at each function.
 */
#ifndef WIRE_CRYPTO_H
#define WIRE_CRYPTO_H

#include "base/slice.h"
#include "proxy/wire/put.h"

#define CRYPTO_SHA256_BYTES 32
#define CRYPTO_MD5_BYTES 16
#define CRYPTO_BASE64_MAX 64 /* bytes that crypto_put_base64 takes */

bool crypto_sha256(struct slice text, uint8_t out[CRYPTO_SHA256_BYTES]);
bool crypto_hmac_sha256(const uint8_t key[CRYPTO_SHA256_BYTES], struct slice text,
                        uint8_t out[CRYPTO_SHA256_BYTES]);

/* SLOW, in proportion to iterations, which is 1 .. INT32_MAX. */
bool crypto_pbkdf2_sha256(struct slice password, struct slice salt, uint32_t iterations,
                          uint8_t out[CRYPTO_SHA256_BYTES]);

/* md5(a + b) */
bool crypto_md5(struct slice a, struct slice b, uint8_t out[CRYPTO_MD5_BYTES]);

/* The same bytes, in time that depends on n only. */
bool crypto_same(const uint8_t *a, const uint8_t *b, size_t n);

/* Write bytes, at most CRYPTO_BASE64_MAX (checked), as base64 with padding. */
void crypto_put_base64(struct put *o, struct slice bytes);

/* Read base64 with padding and nothing else in it. False: malformed (spare bits that
 * are not zero included), empty, or over cap bytes. */
bool crypto_read_base64(struct slice text, uint8_t *out, size_t cap, size_t *out_n);

/* Overwrite a secret; never optimised away. */
void crypto_wipe(void *secret, size_t n);

#endif
