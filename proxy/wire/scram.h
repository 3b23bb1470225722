/* proxy/wire/scram.h: SCRAM-SHA-256 as a server (towards clients) and as a client (towards
 * servers).
 *
 * Source  RFC 5802, RFC 7677; PostgreSQL's auth-scram.c and fe-auth-scram.c where they are stricter
 *         or laxer (the user name inside is ignored, extensions after the nonce are skipped).
 * Pure    no I/O, no clock, no globals; random bytes come in. OpenSSL allocates inside one call.
 * Units   messages are SASL data, without PostgreSQL's message head: wrap them with
 *         put_auth_sasl_continue() and its like.
 * Owns    its structs hold copies of everything; they may be moved. They hold secrets: wipe them.
 * Errors  any value but SCRAM_OK is final, and the exchange then answers SCRAM_OUT_OF_STEP. So does
 *         a step that comes out of order: peers may send anything at any time.
 * Limits  the named ones below. Nothing here is slow except scram_salted_password().
 */
#ifndef WIRE_SCRAM_H
#define WIRE_SCRAM_H

#include "base/slice.h"
#include "proxy/wire/put.h"

#define SCRAM_MECHANISM "SCRAM-SHA-256"
#define SCRAM_KEY_BYTES 32
#define SCRAM_NONCE_RANDOM_BYTES 18 /* ours, before base64 */
#define SCRAM_NONCE_TEXT_BYTES 24   /* ours, in base64 */
#define SCRAM_PEER_NONCE_MAX 256    /* what a peer may add to it */
#define SCRAM_NONCE_MAX (SCRAM_NONCE_TEXT_BYTES + SCRAM_PEER_NONCE_MAX)
#define SCRAM_SALT_MAX 64
#define SCRAM_MESSAGE_MAX 1024      /* of any message of a peer */
#define SCRAM_OUT_MAX 512           /* no message of ours is longer; no put of this cap runs full */
#define SCRAM_AUTH_MESSAGE_MAX 2560 /* two messages of a peer, one of ours, two commas */
#define SCRAM_ITERATIONS_MAX 1000000  /* that we accept from a server: 1 .. this */
#define SCRAM_DEFAULT_ITERATIONS 4096 /* PostgreSQL's default */
#define SCRAM_DEFAULT_SALT_BYTES 16
#define SCRAM_SECRET_TEXT_MAX 256 /* "SCRAM-SHA-256$iterations:salt$stored:server" */

enum scram_rc {
    SCRAM_OK,
    SCRAM_MALFORMED,       /* not the grammar of RFC 5802, or a limit is broken */
    SCRAM_CHANNEL_BINDING, /* the client asked for it (p=), or its c= is not its header */
    SCRAM_AUTHZID,         /* the client asked to be another user */
    SCRAM_EXTENSION,       /* a mandatory extension (m=) */
    SCRAM_NONCE,           /* missing, changed, too long, or without a part of the peer's */
    SCRAM_ITERATIONS,      /* out of 1 .. SCRAM_ITERATIONS_MAX */
    SCRAM_DENIED,          /* the proof or the server's signature is wrong, or the server sent e= */
    SCRAM_OUT_OF_STEP,     /* a message in the wrong state */
    SCRAM_CRYPTO,          /* OpenSSL failed */
    SCRAM_FULL,            /* out has no room */
    SCRAM_RC_N
};

/* A static text for the log and for the detail of an error. */
const char *scram_error_text(enum scram_rc rc);

/* ---- secrets: what PostgreSQL keeps in pg_authid, enough to check a client ---- */

struct scram_secret {
    uint32_t iterations; /* 1 .. INT32_MAX */
    uint8_t salt[SCRAM_SALT_MAX];
    uint8_t salt_n; /* 1 .. SCRAM_SALT_MAX */
    uint8_t stored_key[SCRAM_KEY_BYTES], server_key[SCRAM_KEY_BYTES];
};

/* Read "SCRAM-SHA-256$4096:salt$stored:server". False: not such a text; *out is untouched. */
bool scram_secret_parse(struct slice text, struct scram_secret *out);

/* Write the same text; it needs SCRAM_SECRET_TEXT_MAX bytes at most. */
void scram_secret_format(const struct scram_secret *secret, struct put *out);

/* SLOW (milliseconds per thousand iterations): for a helper thread only. SASLprep of the password,
 * as PostgreSQL does it, then PBKDF2. False: salt empty or over SCRAM_SALT_MAX, iterations out of
 * 1 .. INT32_MAX, or OpenSSL failed. */
bool scram_salted_password(struct slice password, struct slice salt, uint32_t iterations,
                           uint8_t out[SCRAM_KEY_BYTES]);

/* The secret of a salted password. False: salt or iterations as above, or OpenSSL failed. */
bool scram_secret_from_salted(const uint8_t salted[SCRAM_KEY_BYTES], struct slice salt,
                              uint32_t iterations, struct scram_secret *out);

/* A cleartext password, salted with the secret's salt and iterations, is the right one. Constant
 * time. */
bool scram_secret_check_salted(const struct scram_secret *secret,
                               const uint8_t salted[SCRAM_KEY_BYTES]);

/* The secret of a user that does not exist: always the same salt for the same name, keys that fit
 * no password. So an attacker cannot tell which users exist. */
bool scram_secret_mock(struct slice user, const uint8_t process_secret[32],
                       struct scram_secret *out);

/* ---- both sides: the messages so far, which both sides sign ---- */

struct scram_transcript {
    uint16_t n;
    uint8_t bytes[SCRAM_AUTH_MESSAGE_MAX];
};

struct scram_nonce {
    uint16_t n;
    uint8_t bytes[SCRAM_NONCE_MAX];
};

/* ---- server: zero it, first, final ---- */

enum scram_server_state { SCRAM_SERVER_NEW, SCRAM_SERVER_CHALLENGED, SCRAM_SERVER_DONE };

struct scram_server {
    enum scram_server_state state;
    uint8_t gs2_flag; /* 'n' or 'y' */
    struct scram_secret secret;
    struct scram_nonce nonce;
    struct scram_transcript transcript;
    uint8_t
        client_key[SCRAM_KEY_BYTES]; /* after scram_server_final gave SCRAM_OK: for pass-through */
};

/* Read client-first-message, write server-first-message. */
enum scram_rc scram_server_first(struct scram_server *s, struct slice client_first,
                                 const uint8_t nonce_random[SCRAM_NONCE_RANDOM_BYTES],
                                 const struct scram_secret *secret, struct put *out);

/* Read client-final-message, write server-final-message. SCRAM_OK is the only login. */
enum scram_rc scram_server_final(struct scram_server *s, struct slice client_final,
                                 struct put *out);

void scram_server_wipe(struct scram_server *s);

/* ---- client: zero it, first, read_first, (salted password on a helper thread), final, verify ----
 */

enum scram_client_state {
    SCRAM_CLIENT_NEW,
    SCRAM_CLIENT_GREETED,
    SCRAM_CLIENT_CHALLENGED,
    SCRAM_CLIENT_PROVED,
    SCRAM_CLIENT_DONE
};

struct scram_client {
    enum scram_client_state state;
    uint32_t iterations; /* from scram_client_read_first on */
    uint8_t salt[SCRAM_SALT_MAX];
    uint8_t salt_n;
    struct scram_nonce nonce;
    struct scram_transcript transcript;
    uint8_t server_signature[SCRAM_KEY_BYTES];
};

/* Write client-first-message, with an empty user name as libpq does (the startup packet has it). */
enum scram_rc scram_client_first(struct scram_client *c,
                                 const uint8_t nonce_random[SCRAM_NONCE_RANDOM_BYTES],
                                 struct put *out);

/* Read server-first-message: then c->salt, c->salt_n and c->iterations are what to salt with. */
enum scram_rc scram_client_read_first(struct scram_client *c, struct slice server_first);

static inline struct slice scram_client_salt(const struct scram_client *c)
{
    return (struct slice){c->salt, c->salt_n};
}

/* Write client-final-message from the salted password. */
enum scram_rc scram_client_final(struct scram_client *c, const uint8_t salted[SCRAM_KEY_BYTES],
                                 struct put *out);

/* The same for pass-through: from the client key that a client proved to us and the server key of
 * the secret that it proved it against. Right only if the server has the very same secret. */
enum scram_rc scram_client_final_keys(struct scram_client *c,
                                      const uint8_t client_key[SCRAM_KEY_BYTES],
                                      const uint8_t server_key[SCRAM_KEY_BYTES], struct put *out);

/* Read server-final-message. SCRAM_OK: the server knows the secret too. An AuthenticationOk before
 * that must be refused by the caller. */
enum scram_rc scram_client_verify(struct scram_client *c, struct slice server_final);

void scram_client_wipe(struct scram_client *c);

#endif
