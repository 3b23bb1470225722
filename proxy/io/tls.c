/* proxy/io/tls.c: the only file that includes OpenSSL's SSL headers. */
#include "proxy/io/tls.h"

#include "base/check.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the BIO: reads from cipher_in, writes to conn->out ---- */

static struct buf_pool *pool_of(const struct tls *tls)
{
    return &tls->conn->loop->bufs;
}

static int bio_read(BIO *bio, char *out, int want)
{
    struct tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (want <= 0 || tls->cipher_in.bytes == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    int got = 0;
    while (got < want && tls->cipher_in.bytes > 0) {
        struct slice front = seg_front(&tls->cipher_in);
        size_t n = (size_t)(want - got) < front.n ? (size_t)(want - got) : front.n;
        memcpy(out + got, front.p, n);
        seg_drop(pool_of(tls), &tls->cipher_in, n);
        got += (int)n;
    }
    return got;
}

static int bio_write(BIO *bio, const char *bytes, int n)
{
    struct tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (n > 0)
        seg_push_copy(pool_of(tls), &tls->conn->out, bytes, (size_t)n);
    return n;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void)bio;
    (void)num;
    (void)ptr;
    return cmd == BIO_CTRL_FLUSH ? 1 : 0; /* 0 for everything else, kernel TLS above all */
}

static BIO_METHOD *method;
static pthread_once_t method_once = PTHREAD_ONCE_INIT;

static void make_method(void)
{
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "pgweir conn");
    CHECK(method != NULL);
    BIO_meth_set_read(method, bio_read);
    BIO_meth_set_write(method, bio_write);
    BIO_meth_set_ctrl(method, bio_ctrl);
}

/* ---- one conn ---- */

struct tls *tls_new(struct conn *conn, void *ssl)
{
    pthread_once(&method_once, make_method);
    struct tls *tls = calloc(1, sizeof *tls);
    BIO *bio = BIO_new(method);
    if (!tls || !bio) {
        free(tls);
        BIO_free(bio);
        SSL_free(ssl);
        return NULL;
    }
    *tls = (struct tls){.ssl = ssl, .conn = conn, .handshaking = true};
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    return tls;
}

void tls_free(struct tls *tls)
{
    seg_drop(pool_of(tls), &tls->cipher_in, tls->cipher_in.bytes);
    seg_drop(pool_of(tls), &tls->plain_out, tls->plain_out.bytes);
    SSL_free(tls->ssl);
    free(tls);
}

static enum tls_rc after(struct tls *tls, int rc)
{
    switch (SSL_get_error(tls->ssl, rc)) {
    case SSL_ERROR_NONE:
        return TLS_OK;
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return TLS_MORE;
    case SSL_ERROR_ZERO_RETURN:
        return TLS_END;
    default:
        return TLS_FAILED;
    }
}

enum tls_rc tls_handshake(struct tls *tls)
{
    ERR_clear_error();
    enum tls_rc rc = after(tls, SSL_do_handshake(tls->ssl));
    if (rc == TLS_OK)
        tls->handshaking = false;
    return rc;
}

enum tls_rc tls_decrypt(struct tls *tls)
{
    struct conn *conn = tls->conn;
    uint8_t scratch[TLS_RECORD_MAX];
    ERR_clear_error();
    while (conn->in.bytes < conn->in_limit) {
        int n = SSL_read(tls->ssl, scratch, sizeof scratch);
        if (n <= 0)
            return after(tls, n);
        seg_push_copy(pool_of(tls), &conn->in, scratch, (size_t)n);
    }
    return TLS_OK;
}

/* Many small messages become one record: a record costs more than a copy. */
static size_t gather(struct tls *tls, uint8_t *scratch)
{
    size_t n = 0;
    while (n < TLS_RECORD_MAX && tls->plain_out.bytes > 0) {
        struct slice front = seg_front(&tls->plain_out);
        size_t take = TLS_RECORD_MAX - n < front.n ? TLS_RECORD_MAX - n : front.n;
        memcpy(scratch + n, front.p, take);
        seg_drop(pool_of(tls), &tls->plain_out, take);
        n += take;
    }
    return n;
}

enum tls_rc tls_encrypt(struct tls *tls)
{
    uint8_t scratch[TLS_RECORD_MAX];
    if (tls->handshaking)
        return TLS_MORE;
    ERR_clear_error();
    while (tls->plain_out.bytes > 0 && tls->conn->out.bytes < CONN_OUT_HIGH) {
        size_t n = gather(tls, scratch);
        int rc = SSL_write(tls->ssl, scratch, (int)n);
        if (rc <= 0)
            return TLS_FAILED; /* our BIO takes everything, so there is nothing to wait for */
        CHECK((size_t)rc == n);
    }
    return TLS_OK;
}

void tls_shutdown(struct tls *tls)
{
    if (tls->handshaking || SSL_get_shutdown(tls->ssl) & SSL_SENT_SHUTDOWN)
        return;
    ERR_clear_error();
    SSL_shutdown(tls->ssl);
}

/* ---- contexts ---- */

void tls_error(char *text, size_t text_bytes)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    snprintf(text, text_bytes, "%s", reason ? reason : "connection ended");
}

static bool fail(SSL_CTX *ctx, const char *what, const char *file, char *error, size_t error_bytes)
{
    char reason[128];
    tls_error(reason, sizeof reason);
    snprintf(error, error_bytes, "%s \"%s\": %s", what, file, reason);
    SSL_CTX_free(ctx);
    return false;
}

static bool load_files(SSL_CTX *ctx, const struct tls_settings *s, char *error, size_t error_bytes)
{
    if (s->cert_file && SSL_CTX_use_certificate_chain_file(ctx, s->cert_file) != 1)
        return fail(ctx, "certificate file", s->cert_file, error, error_bytes);
    if (s->key_file && SSL_CTX_use_PrivateKey_file(ctx, s->key_file, SSL_FILETYPE_PEM) != 1)
        return fail(ctx, "key file", s->key_file, error, error_bytes);
    if (s->cert_file && s->key_file && SSL_CTX_check_private_key(ctx) != 1)
        return fail(ctx, "key file does not belong to the certificate", s->key_file, error,
                    error_bytes);
    if (s->ca_file && SSL_CTX_load_verify_locations(ctx, s->ca_file, NULL) != 1)
        return fail(ctx, "CA file", s->ca_file, error, error_bytes);
    return true;
}

void *tls_context_new(const struct tls_settings *s, char *error, size_t error_bytes)
{
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(s->server_side ? TLS_server_method() : TLS_client_method());
    if (!ctx) {
        snprintf(error, error_bytes, "no memory for a TLS context");
        return NULL;
    }
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    /* Not PARTIAL_WRITE: our BIO takes everything, and a peer may ask for records that are shorter
     * than what we write at once. */
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    if (!load_files(ctx, s, error, error_bytes))
        return NULL;
    if (s->verify && !s->ca_file)
        SSL_CTX_set_default_verify_paths(ctx);
    SSL_CTX_set_verify(ctx, s->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    return ctx;
}

int64_t tls_context_end_s(void *context)
{
    const X509 *cert = SSL_CTX_get0_certificate(context);
    struct tm tm;
    if (!cert || ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) != 1)
        return TLS_NO_END;
    return (int64_t)timegm(&tm);
}

void tls_context_free(void *context)
{
    SSL_CTX_free(context);
}

void *tls_session_new(void *context, bool server_side, const char *host)
{
    SSL *ssl = SSL_new(context);
    if (!ssl)
        return NULL;
    if (server_side) {
        SSL_set_accept_state(ssl);
        return ssl;
    }
    SSL_set_connect_state(ssl);
    bool named = true;
    if (host) {
        X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
        /* An address is checked against the certificate's addresses, a name against its names. */
        if (X509_VERIFY_PARAM_set1_ip_asc(param, host) != 1)
            named = SSL_set1_host(ssl, host) == 1 &&
                    SSL_set_tlsext_host_name(ssl, (char *)(uintptr_t)host) == 1;
    }
    if (named)
        return ssl;
    SSL_free(ssl);
    return NULL;
}

void tls_session_free(void *ssl)
{
    SSL_free(ssl);
}
