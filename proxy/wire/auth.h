/* proxy/wire/auth.h: read the bodies of the messages of a login, from clients and from servers.
 *
 * Source PostgreSQL documentation, "Message Formats".
 * Pure   no I/O, no allocation, no clock, no globals.
 * Units  lengths are bytes. A body is a whole message without its 5-byte head.
 * Owns   nothing: slices point into the body.
 * Errors false: the body is malformed or breaks a limit, *out is untouched, the connection must
 *        close. Clients and servers are both hostile here.
 * Limits the named ones below; each inner length is compared with what is left, never added up.
 */
#ifndef WIRE_AUTH_H
#define WIRE_AUTH_H

#include "base/slice.h"

/* Give these to frame_next() as body_max while a login runs. */
#define AUTH_SASL_BODY_MAX 1024     /* of SASLInitialResponse and SASLResponse */
#define AUTH_PASSWORD_BODY_MAX 1025 /* of PasswordMessage: 1 KiB and its NUL */
#define AUTH_REQUEST_BODY_MAX 2048  /* of AuthenticationXXX from a server */
#define AUTH_KEY_MIN 4
#define AUTH_KEY_MAX 256

enum auth_kind {
    AUTH_OK,
    AUTH_CLEARTEXT,
    AUTH_MD5,
    AUTH_SASL,
    AUTH_SASL_CONTINUE,
    AUTH_SASL_FINAL,
    AUTH_UNSUPPORTED, /* Kerberos, GSS, SSPI, or a code that we do not know */
    AUTH_KIND_N
};

/* 'R' from a server. */
struct auth_request {
    enum auth_kind kind;
    uint32_t code;       /* as on the wire, for the log */
    uint8_t md5_salt[4]; /* MD5 */
    bool scram_sha_256;  /* SASL: the list has SCRAM-SHA-256 */
    struct slice data;   /* SASL_CONTINUE, SASL_FINAL */
};

bool auth_read_request(struct slice body, struct auth_request *out);

/* 'p' from a client, while a cleartext or md5 password is expected: one string, without its NUL. */
bool auth_read_password(struct slice body, struct slice *password);

/* 'p' from a client, first of a SASL exchange. */
struct auth_sasl_initial {
    struct slice mechanism;
    struct slice data; /* SLICE_NONE when the client sent no initial response (length -1) */
};

bool auth_read_sasl_initial(struct slice body, struct auth_sasl_initial *out);

/* 'p' from a client, later in a SASL exchange: the body is the data. */
bool auth_read_sasl_response(struct slice body, struct slice *data);

/* 'K' from a server: the key has AUTH_KEY_MIN .. AUTH_KEY_MAX bytes. */
bool auth_read_backend_key(struct slice body, uint32_t *pid, struct slice *key);

/* 'S' from a server. */
bool auth_read_param_status(struct slice body, struct slice *name, struct slice *value);

/* 'Z' from a server: 'I', 'T' or 'E'. */
bool auth_read_ready(struct slice body, char *status);

/* 'v' from a server: the 3.x version that it speaks. Refuses other majors and malformed lists. */
bool auth_read_negotiate(struct slice body, uint16_t *minor);

#endif
