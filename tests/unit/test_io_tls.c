/* TLS on both sides over the sim, and a server conn that moves between two loops meanwhile. */
#include "base/check.h"
#include "proxy/io/conn.h"
#include "proxy/io/tls.h"
#include "tests/unit/port_sim.h"

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define TURNS_MAX 500000
#define LOOPS 3 /* the client's, and two that the server moves between */

struct world {
    struct sim *sim;
    struct loop *loops[LOOPS];
    struct conn *client, *server;
    bool with_tls, client_up, server_up, client_failed, server_failed, broken;
    uint32_t total, sent, got, moves, key_updates;
};

static char cert_file[64], key_file[64];
static void *server_context, *client_context;

static uint8_t pattern(uint32_t i)
{
    return (uint8_t)(i * 131 + (i >> 8) * 7);
}

/* ---- the client: sends a stream and checks what comes back ---- */

static void client_send(struct conn *conn)
{
    struct world *w = conn->owner;
    uint8_t bytes[3000];
    while (w->sent < w->total && !conn_out_full(conn)) {
        uint32_t left = w->total - w->sent;
        uint32_t n = 1 + sim_random(w->sim, left < sizeof bytes ? left : (uint32_t)sizeof bytes);
        for (uint32_t i = 0; i < n; i++)
            bytes[i] = pattern(w->sent + i);
        conn_out_copy(conn, bytes, n);
        w->sent += n;
    }
}

static void client_on_tls(struct conn *conn, bool ok)
{
    struct world *w = conn->owner;
    w->client_up = ok;
    w->client_failed = !ok;
    if (ok)
        client_send(conn);
    else
        conn_close_flushed(conn, "tls");
}

static void client_on_input(struct conn *conn)
{
    struct world *w = conn->owner;
    while (conn->in.bytes > 0) {
        struct slice s = seg_front(&conn->in);
        for (size_t i = 0; i < s.n; i++)
            CHECK(s.p[i] == pattern(w->got + (uint32_t)i));
        w->got += (uint32_t)s.n;
        conn_in_drop(conn, s.n);
    }
    if (conn->ended)
        conn_close(conn, "ended");
    else if (w->got == w->total)
        conn_close_flushed(conn, "done");
}

static void client_on_gone(struct conn *conn)
{
    ((struct world *)conn->owner)->client = NULL;
}

static const struct conn_ops client_ops = {
    .name = "client",
    .on_tls = client_on_tls,
    .on_input = client_on_input,
    .on_drained = client_send,
    .on_gone = client_on_gone,
};

/* ---- the server: echoes, and moves ---- */

static void server_on_tls(struct conn *conn, bool ok)
{
    struct world *w = conn->owner;
    w->server_up = ok;
    w->server_failed = !ok;
    if (!ok)
        conn_close_flushed(conn, "tls");
}

static void server_on_input(struct conn *conn)
{
    struct world *w = conn->owner;
    while (conn->in.bytes > 0 && !conn_out_full(conn)) {
        struct seg *s = conn->in.head;
        uint32_t n = sim_chunk(w->sim, s->n);
        conn_out_ref(conn, s->buf, (struct slice){s->p, n});
        conn_in_drop(conn, n);
    }
    if (conn->in.bytes > 0)
        conn_pause(conn);
    else if (conn->ended)
        conn_close_flushed(conn, "ended");
}

static void server_on_drained(struct conn *conn)
{
    if (!conn->quiescing)
        conn_resume(conn);
    conn_in_again(conn);
}

static void server_on_gone(struct conn *conn)
{
    ((struct world *)conn->owner)->server = NULL;
}

static void server_on_quiet(struct conn *conn);

static const struct conn_ops server_ops = {
    .name = "server",
    .on_tls = server_on_tls,
    .on_input = server_on_input,
    .on_drained = server_on_drained,
    .on_quiet = server_on_quiet,
    .on_gone = server_on_gone,
};

static void server_on_quiet(struct conn *conn)
{
    struct world *w = conn->owner;
    struct loop *to = w->loops[conn->loop == w->loops[1] ? 2 : 1];
    struct tls *tls = NULL;
    CHECK(conn->inflight == 0);
    if (conn->eof || conn->in.bytes > 0 || sim_random(w->sim, 4) == 0) {
        conn_resume(conn);
        conn_in_again(conn);
        return;
    }
    int fd = conn_take_fd(conn, &tls);
    w->server = conn_new(to, fd, false, &server_ops, w);
    conn_adopt_tls(w->server, tls);
    w->moves++;
}

/* ---- one seed ---- */

static void turn_all(struct world *w)
{
    for (int i = 0; i < LOOPS; i++) {
        loop_self = w->loops[i];
        loop_turn(w->loops[i], w->loops[i]->now_ms + 1);
    }
}

static void start_tls(struct world *w, const char *host, bool short_records, bool old_version)
{
    SSL *ssl = tls_session_new(client_context, false, host);
    assert_non_null(ssl);
    if (short_records)
        SSL_set_tlsext_max_fragment_length(ssl, TLSEXT_max_fragment_length_512);
    if (old_version)
        SSL_set_max_proto_version(ssl, TLS1_2_VERSION);
    assert_true(conn_start_tls(w->client, ssl));
    ssl = tls_session_new(server_context, true, NULL);
    assert_non_null(ssl);
    assert_true(conn_start_tls(w->server, ssl));
}

static struct world *world_new(uint64_t seed, bool with_tls)
{
    struct world *w = calloc(1, sizeof *w);
    struct sim_config config = {.seed = seed, .small_count = 16, .room_bytes = 20000};
    int fd[2];
    assert_non_null(w);
    w->sim = sim_new(&config);
    w->with_tls = with_tls;
    w->total = 1 + sim_random(w->sim, seed % 2 ? 20000 : 600000);
    for (uint32_t i = 0; i < LOOPS; i++)
        w->loops[i] = loop_new(sim_port(w->sim), i, w);
    sim_pair(w->sim, fd);
    w->client = conn_new(w->loops[0], fd[0], false, &client_ops, w);
    w->server = conn_new(w->loops[1], fd[1], false, &server_ops, w);
    return w;
}

static void world_free(struct world *w)
{
    bool idle = false;
    for (unsigned turn = 0; !idle && turn < 1000; turn++) {
        turn_all(w);
        idle = true;
        for (int i = 0; i < LOOPS; i++)
            idle = idle && sim_port_is_idle(w->loops[i]->port);
    }
    CHECK(idle);
    for (int i = 0; i < LOOPS; i++) {
        const struct buf_pool *bufs = &w->loops[i]->bufs;
        CHECK(w->loops[i]->conn_n == 0 && bufs->heap_n == 0 && bufs->heap_bytes == 0);
        CHECK(bufs->lent[PORT_SMALL] == 0 && bufs->lent[PORT_BULK] == 0);
        loop_free(w->loops[i]);
    }
    CHECK(sim_sockets(w->sim) == 0);
    sim_free(w->sim);
    free(w);
}

static void disturb(struct world *w)
{
    if (w->server && !w->server->closing && sim_random(w->sim, 40) == 0 &&
        (!w->with_tls || w->server_up))
        conn_quiesce(w->server);
    /* TLS 1.3: new keys for us, and the peer is told to take new ones for itself (RFC 8446, 4.6.3). */
    if (w->client && !w->client->closing && w->client_up && sim_random(w->sim, 40) == 0)
        w->key_updates += (uint32_t)SSL_key_update(w->client->tls->ssl, SSL_KEY_UPDATE_REQUESTED);
}

static void break_one(struct world *w)
{
    struct conn *conn = sim_random(w->sim, 2) ? w->client : w->server;
    if (!conn || sim_random(w->sim, 2000))
        return;
    w->broken = true;
    if (sim_random(w->sim, 2))
        conn_close(conn, "test");
    else
        conn_close_flushed(conn, "test");
}

struct counts {
    uint32_t moves, key_updates;
};

static void run_seed(uint64_t seed, bool with_tls, struct counts *counts)
{
    struct world *w = world_new(seed, with_tls);
    if (with_tls)
        start_tls(w, seed % 5 ? "localhost" : NULL, seed % 3 == 0, seed % 4 == 0);
    else
        client_send(w->client);
    for (unsigned turn = 0; w->client || w->server; turn++) {
        CHECK(turn < TURNS_MAX);
        turn_all(w);
        disturb(w);
        if (seed % 7 == 0)
            break_one(w);
    }
    CHECK(w->broken || (w->got == w->total && !w->client_failed && !w->server_failed));
    counts->moves += w->moves;
    counts->key_updates += w->key_updates;
    world_free(w);
}

static void run_seeds(bool with_tls)
{
    uint64_t first = sim_seed(1), n = sim_seed_count();
    struct counts counts = {0};
    for (uint64_t seed = first; seed < first + n; seed++)
        run_seed(seed, with_tls, &counts);
    /* Or this test does not test what it says. TLS is random itself: it is about half of n, give or take a tenth. */
    assert_true(counts.moves > n / 4);
    assert_true(!with_tls || counts.key_updates > n / 4);
}

static void a_plain_conn_moves_between_loops_and_loses_nothing(void **state)
{
    (void)state;
    run_seeds(false);
}

static void a_tls_conn_moves_between_loops_and_loses_nothing(void **state)
{
    (void)state;
    run_seeds(true);
}

static void a_wrong_name_is_refused(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 20; seed++) {
        struct world *w = world_new(seed, true);
        start_tls(w, "elsewhere.example", false, seed % 2 == 0);
        for (unsigned turn = 0; w->client || w->server; turn++) {
            CHECK(turn < TURNS_MAX);
            turn_all(w);
        }
        CHECK(w->client_failed && !w->client_up && w->got == 0);
        world_free(w);
    }
}

/* Clear text where TLS should begin: refused, not spun on. */
static void garbage_fails_the_handshake(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 20; seed++) {
        struct world *w = world_new(seed, true);
        assert_true(conn_start_tls(w->server, tls_session_new(server_context, true, NULL)));
        conn_out_copy(w->client, "GET / HTTP/1.0\r\n\r\n", 18);
        for (unsigned turn = 0; w->client || w->server; turn++) {
            CHECK(turn < TURNS_MAX);
            turn_all(w);
            if (w->client && w->client->in.bytes > 0) /* the alert */
                conn_in_drop(w->client, w->client->in.bytes);
        }
        CHECK(w->server_failed && !w->server_up);
        world_free(w);
    }
}

/* A server that reads slowly, and a client that hangs up as soon as it has sent all. */
static void slow_on_input(struct conn *conn)
{
    struct world *w = conn->owner;
    if (sim_random(w->sim, 2) && conn->in.bytes > 0) {
        conn_in_again(conn);
        return;
    }
    client_on_input(conn); /* checks the stream */
    if (conn->closing)
        CHECK(w->got == w->total);
}

static void the_end_comes_after_the_last_byte(void **state)
{
    (void)state;
    static const struct conn_ops slow_ops = {
        .on_tls = server_on_tls, .on_input = slow_on_input, .on_gone = server_on_gone};
    static const struct conn_ops brief_ops = {
        .on_tls = client_on_tls, .on_input = client_on_input, .on_gone = client_on_gone};
    uint64_t first = sim_seed(1), n = sim_seed_count();
    for (uint64_t seed = first; seed < first + n; seed++) {
        struct world *w = world_new(seed, true);
        w->total = 1 + sim_random(w->sim, 200000);
        w->server->ops = &slow_ops;
        w->server->in_limit = 1 + sim_random(w->sim, 40000);
        w->client->ops = &brief_ops;
        start_tls(w, NULL, false, seed % 2 == 0);
        for (unsigned turn = 0; w->client || w->server; turn++) {
            CHECK(turn < TURNS_MAX);
            turn_all(w);
            if (w->client && w->client_up && w->sent == w->total)
                conn_close_flushed(w->client, "done");
        }
        CHECK(w->got == w->total);
        world_free(w);
    }
}

/* TLS 1.2. Our own side would not ask for it, either. */
static void ask_to_negotiate_again(struct conn *conn, bool ok)
{
    struct world *w = conn->owner;
    SSL *ssl = conn->tls->ssl;
    w->client_up = ok;
    SSL_clear_options(ssl, SSL_OP_NO_RENEGOTIATION);
    assert_int_equal(SSL_renegotiate(ssl), 1);
    SSL_do_handshake(ssl);
    assert_true(conn->out.bytes > 0);
    conn_in_again(conn);
}

static void renegotiation_is_refused(void **state)
{
    (void)state;
    static const struct conn_ops asking_ops = {
        .on_tls = ask_to_negotiate_again, .on_input = client_on_input, .on_gone = client_on_gone};
    for (uint64_t seed = 1; seed < 20; seed++) {
        struct world *w = world_new(seed, true);
        w->client->ops = &asking_ops;
        start_tls(w, "localhost", false, true);
        for (unsigned turn = 0; w->client || w->server; turn++) {
            CHECK(turn < TURNS_MAX);
            turn_all(w);
            CHECK(!w->server || !w->server->tls ||
                  SSL_num_renegotiations(w->server->tls->ssl) == 0);
        }
        CHECK(w->client_up && w->server_up && w->got == 0);
        world_free(w);
    }
}

static void leave_it(struct conn *conn)
{
    (void)conn;
}

static void bytes_before_tls_are_refused(void **state)
{
    (void)state;
    static const struct conn_ops lazy_ops = {.on_input = leave_it, .on_gone = server_on_gone};
    struct world *w = world_new(1, true);
    w->server->ops = &lazy_ops;
    conn_out_copy(w->client, "x", 1);
    for (unsigned turn = 0; w->server->in.bytes == 0; turn++) {
        CHECK(turn < TURNS_MAX);
        turn_all(w);
    }
    assert_false(conn_start_tls(w->server, tls_session_new(server_context, true, NULL)));
    conn_close(w->server, "test");
    conn_close(w->client, "test");
    for (unsigned turn = 0; w->client || w->server; turn++) {
        CHECK(turn < TURNS_MAX);
        turn_all(w);
    }
    world_free(w);
}

/* ---- a certificate of our own ---- */

static void write_pem(char *path, size_t path_bytes, X509 *cert, EVP_PKEY *key)
{
    snprintf(path, path_bytes, "/tmp/pgweir-test.XXXXXX");
    int fd = mkstemp(path);
    FILE *f = fdopen(fd, "w");
    assert_non_null(f);
    if (cert)
        PEM_write_X509(f, cert);
    else
        PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
    fclose(f);
}

static int make_certificate(void **state)
{
    (void)state;
    char error[256];
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME *name = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1,
                               0);
    X509_set_issuer_name(cert, name);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:localhost");
    X509_add_ext(cert, ext, -1);
    X509_EXTENSION_free(ext);
    X509_sign(cert, key, EVP_sha256());
    write_pem(cert_file, sizeof cert_file, cert, NULL);
    write_pem(key_file, sizeof key_file, NULL, key);
    X509_free(cert);
    EVP_PKEY_free(key);
    struct tls_settings server = {true, cert_file, key_file, NULL, false};
    struct tls_settings client = {false, NULL, NULL, cert_file, true};
    server_context = tls_context_new(&server, error, sizeof error);
    client_context = tls_context_new(&client, error, sizeof error);
    return server_context && client_context ? 0 : -1;
}

static int drop_certificate(void **state)
{
    (void)state;
    tls_context_free(server_context);
    tls_context_free(client_context);
    unlink(cert_file);
    unlink(key_file);
    return 0;
}

static void a_bad_file_is_named(void **state)
{
    (void)state;
    char error[256] = "";
    struct tls_settings missing = {true, "/nonexistent/cert.pem", key_file, NULL, false};
    assert_null(tls_context_new(&missing, error, sizeof error));
    assert_non_null(strstr(error, "/nonexistent/cert.pem"));
    struct tls_settings swapped = {true, cert_file, cert_file, NULL, false};
    assert_null(tls_context_new(&swapped, error, sizeof error));
    assert_non_null(strstr(error, "key file"));
    assert_non_null(strstr(error, cert_file));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_conn_moves_between_loops_and_loses_nothing),
        cmocka_unit_test(a_tls_conn_moves_between_loops_and_loses_nothing),
        cmocka_unit_test(the_end_comes_after_the_last_byte),
        cmocka_unit_test(a_wrong_name_is_refused),
        cmocka_unit_test(garbage_fails_the_handshake),
        cmocka_unit_test(bytes_before_tls_are_refused),
        cmocka_unit_test(renegotiation_is_refused),
        cmocka_unit_test(a_bad_file_is_named),
    };
    return cmocka_run_group_tests(tests, make_certificate, drop_certificate);
}
