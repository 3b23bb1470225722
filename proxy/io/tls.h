/* proxy/io/tls.h: TLS as a filter between a conn's socket and its plain queues.
 *
 * What   OpenSSL is fed from received slices and writes into the conn's output, through a BIO of
 *        our own: no socket BIO, no memory BIO, no copy of cipher text on the way in.
 * Owns   a struct tls owns its SSL and its queues; the conn owns the struct tls.
 * Errors TLS_FAILED is final: the conn is at its end with EPROTO. tls_error() names OpenSSL's
 *        reason.
 * Limits TLS_RECORD_MAX bytes of plain text per record; decryption goes on while in is below
 *        in_limit.
 */
#ifndef IO_TLS_H
#define IO_TLS_H

#include "proxy/io/conn.h"

#define TLS_RECORD_MAX 16384

#define TLS_NO_END INT64_MAX

enum tls_rc { TLS_OK, TLS_MORE, TLS_END, TLS_FAILED };

struct tls {
    void *ssl;
    struct seg_queue cipher_in; /* received, not yet decrypted */
    struct seg_queue plain_out; /* to be encrypted */
    struct conn *conn;
    bool handshaking;
    bool full; /* the last decryption stopped at in_limit */
};

/* Takes the SSL over. NULL: no memory. */
struct tls *tls_new(struct conn *conn, void *ssl);
void tls_free(struct tls *tls);
/* Go on with the handshake: TLS_OK done, TLS_MORE needs bytes. */
enum tls_rc tls_handshake(struct tls *tls);
/* Decrypt what is there into conn->in. TLS_MORE: all used up; TLS_OK: stopped at in_limit. */
enum tls_rc tls_decrypt(struct tls *tls);
/* Encrypt plain_out into conn->out. */
enum tls_rc tls_encrypt(struct tls *tls);
/* Queue close_notify. */
void tls_shutdown(struct tls *tls);

/* ---- contexts: made at start and reload, shared by all threads, counted by OpenSSL ---- */
struct tls_settings {
    bool server_side;                           /* we accept */
    const char *cert_file, *key_file, *ca_file; /* NULL: none */
    bool verify;                                /* demand and check the peer's certificate */
};
/* An SSL_CTX *, or NULL with a text that names file and reason. */
void *tls_context_new(const struct tls_settings *settings, char *error, size_t error_bytes);
void tls_context_free(void *context);
/* When its own certificate ends, in seconds since 1970. TLS_NO_END: it has none. */
int64_t tls_context_end_s(void *context);
/* An SSL * for one conn. host: for verification of its name (NULL: not checked). NULL: no memory.
 */
void *tls_session_new(void *context, bool server_side, const char *host);
void tls_session_free(void *ssl);
/* OpenSSL's newest error of this thread in words. */
void tls_error(char *text, size_t text_bytes);

#endif
