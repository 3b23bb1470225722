/* proxy/wire/md5.h: PostgreSQL's md5 passwords.
 *
 * Source  PostgreSQL documentation, "Message Flow", "Start-up" (AuthenticationMD5Password).
 * Pure    no I/O, no clock, no globals. OpenSSL allocates inside the call.
 * Owns    nothing.
 * Errors  false from a maker: OpenSSL has no MD5 here (FIPS), or the stored secret is no md5 one.
 *         A check that cannot be made is false.
 */
#ifndef WIRE_MD5_H
#define WIRE_MD5_H

#include "base/slice.h"

#define MD5_TEXT_BYTES 35 /* "md5" and 32 lower-case hex digits */
#define MD5_SALT_BYTES 4

/* The text has the form of a stored md5 secret. */
bool md5_is_secret(struct slice text);

/* out = "md5" + hex(md5(password + user)): what PostgreSQL stores. NUL-terminated. */
bool md5_password(struct slice password, struct slice user, char out[MD5_TEXT_BYTES + 1]);

/* out = "md5" + hex(md5(hex of the stored secret + salt)): what a client sends. NUL-terminated. */
bool md5_response(struct slice stored, const uint8_t salt[MD5_SALT_BYTES],
                  char out[MD5_TEXT_BYTES + 1]);

/* A client's response fits the stored secret, which is plain or md5. Constant time. A SCRAM secret
 * is refused, as is an empty one: they are no passwords. */
bool md5_check(struct slice stored, struct slice user, const uint8_t salt[MD5_SALT_BYTES],
               struct slice response);

/* A cleartext password fits the stored secret, which is plain or md5. The same otherwise. */
bool md5_check_password(struct slice stored, struct slice user, struct slice password);

#endif
