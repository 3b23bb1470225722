/* proxy/pool/server_login.c: from a connected socket to an idle server: TLS, startup,
 * authentication.
 *
 *   ASK_TLS --'S'--> HANDSHAKE --> AUTH --AuthenticationOk--> PARAMS --ReadyForQuery--> IDENTITY --> (idle)
 *      `----'N', or TLS off ----------^                        connect_query --> CONNECT --> SETTINGS ---^
 *
 * IDENTITY   which instance is it? What the probes know of a node holds for the instance that they
 *            asked: a name may hide several, and a crashed standby may come back older than it was
 *            (DESIGN.md section 6).
 * CONNECT    connect_query runs; its errors are logged.
 * SETTINGS   ... and what it has set is read: every client's settings are put over it, so that it outlives the
 *            RESET ALL that gives a server another client's settings.
 */
#include "proxy/io/log.h"
#include "proxy/io/tls.h"
#include "proxy/pool/inside.h"
#include "proxy/wire/error_fields.h"
#include "proxy/wire/frame.h"
#include "proxy/wire/md5.h"
#include "proxy/wire/row.h"
#include "proxy/wire/startup.h"

#include "base/check.h"
#include "proxy/pool/random.h"
#include "proxy/wire/crypto.h"

#include <stdio.h>
#include <stdlib.h>

#define LOGIN_BODY_MAX 16384 /* of any message during a login; errors and parameters are short */
#define MESSAGE_MAX 400      /* of a server's error text that is passed on */

enum step { ASK_TLS, HANDSHAKE, AUTH, PARAMS, IDENTITY, CONNECT, SETTINGS };

struct server_login {
    struct server *server;
    enum step step;
    bool proved; /* SCRAM: the server showed that it knows the secret */
    bool sasl;
    struct timer deadline;
    struct scram_client scram;
    struct kdf_request *kdf;
    struct label_draft draft; /* SETTINGS: what was read */
    uint32_t kept_n;
    uint8_t kept[LABEL_BYTES_MAX]; /* ... the bytes of that */
};

static const struct conf *conf_of(const struct server *s)
{
    return s->pool->set->snapshot->conf;
}

static const struct node *node_of(const struct server *s)
{
    return &s->pool->set->cluster->nodes[s->pool->node];
}

static void on_deadline(struct timer *timer)
{
    struct server_login *login = LIST_ENTRY(timer, struct server_login, deadline);
    server_login_failed(login->server, "08006", "server_connect_timeout: no answer in time");
}

void server_login_start(struct server *s)
{
    struct server_login *login = calloc(1, sizeof *login);
    CHECK(login != NULL);
    login->server = s;
    s->login = login;
    bool local = node_of(s)->host[0] == '/' || node_of(s)->host[0] == '@';
    bool ask = conf_of(s)->server_tls_sslmode != CONF_SERVER_TLS_DISABLE && !local;
    login->step = ask ? ASK_TLS : AUTH;
    timer_init(&login->deadline, on_deadline);
    if (conf_of(s)->server_connect_timeout_ms)
        timer_start(&s->conn->loop->timers, &login->deadline,
                    s->conn->loop->now_ms + conf_of(s)->server_connect_timeout_ms);
}

void server_login_free(struct server_login *login)
{
    if (!login)
        return;
    timer_stop(&login->server->conn->loop->timers, &login->deadline);
    kdf_forget(login->kdf);
    crypto_wipe(login, sizeof *login);
    free(login);
}

void server_login_failed(struct server *s, const char *sqlstate, const char *message)
{
    struct pool *pool = s->pool;
    char text[MESSAGE_MAX], code[6];
    snprintf(text, sizeof text, "%s", message);
    snprintf(code, sizeof code, "%s", sqlstate);
    nodes_failed(pool);
    server_close(s, "login_failed");
    pool_dial_failed(pool, code, text);
}

static void send_startup(struct server *s)
{
    uint8_t bytes[1024 + STARTUP_BYTES_MAX];
    const struct pool_set *set = s->pool->set;
    const struct put_param said[] = {
        {slice_of("user"), slice_of(set->user)},
        {slice_of("database"), slice_of(set->database)},
        {slice_of("client_encoding"), slice_of(set->db->client_encoding)},
        {slice_of("datestyle"), slice_of(set->db->datestyle)},
        {slice_of("timezone"), slice_of(set->db->timezone)},
        {slice_of("application_name"), slice_of(set->db->application_name)}};
    struct put_param params[sizeof said / sizeof *said + STARTUP_PARAMS_MAX];
    struct slice rest = set->params; /* of two, the later holds */
    size_t n = 0;
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        if (said[i].value.n > 0)
            params[n++] = said[i];
    while (n < sizeof params / sizeof *params &&
           startup_next_param(&rest, &params[n].name, &params[n].value))
        n++;
    struct put o = put_into(bytes, sizeof bytes);
    put_startup(&o, 0, params, n);
    CHECK(!o.full); /* names are bounded by CONF_NAME_MAX and CONF_USER_MAX */
    conn_out_copy(s->conn, o.p, o.n);
    s->login->step = AUTH;
}

static void send_put(struct server *s, const struct put *o)
{
    conn_out_copy(s->conn, o->p, o->n);
}

/* ---- TLS ---- */

static void ask_tls(struct server *s)
{
    uint8_t bytes[8];
    struct put o = put_into(bytes, sizeof bytes);
    put_ssl_request(&o);
    send_put(s, &o);
}

static void begin_tls(struct server *s)
{
    const struct conf *conf = conf_of(s);
    bool full = conf->server_tls_sslmode == CONF_SERVER_TLS_VERIFY_FULL;
    void *ssl =
        tls_session_new(s->pool->set->snapshot->server_tls, false, full ? node_of(s)->host : NULL);
    s->login->step = HANDSHAKE;
    if (!ssl)
        server_login_failed(s, "08006", "TLS: no memory, or the host name cannot be verified");
    else if (!conn_start_tls(s->conn,
                             ssl)) /* CVE-2021-23222: nothing may come before the handshake */
        server_login_failed(s, "08P01", "received unencrypted data after SSL response");
}

void server_login_tls(struct server *s, bool ok)
{
    if (s->state != SERVER_LOGIN)
        return;
    if (ok) {
        s->tls = true;
        send_startup(s);
        return;
    }
    char reason[128], text[256];
    tls_error(reason, sizeof reason);
    snprintf(text, sizeof text, "TLS handshake with the server failed: %s (server_tls_sslmode)",
             reason);
    server_login_failed(s, "08006", text);
}

static void read_tls_answer(struct server *s)
{
    uint8_t answer = *conn_in_contiguous(s->conn, 1);
    conn_in_drop(s->conn, 1);
    if (answer == 'S') {
        begin_tls(s);
    } else if (answer == 'N' && conf_of(s)->server_tls_sslmode == CONF_SERVER_TLS_PREFER) {
        send_startup(s);
    } else {
        server_login_failed(s, "08006",
                            answer == 'N'
                                ? "the server does not support TLS, but server_tls_sslmode "
                                  "requires it"
                                : "the server gave no answer to the TLS request");
    }
}

/* ---- authentication ---- */

static struct slice secret_of(const struct server *s)
{
    return slice_of(s->pool->set->password);
}

static bool secret_is_plain(struct slice secret)
{
    struct scram_secret scram;
    return secret.n > 0 && !md5_is_secret(secret) && !scram_secret_parse(secret, &scram);
}

static void wrong_kind(struct server *s, const char *wanted)
{
    char text[256];
    snprintf(text, sizeof text,
             "the server asks user \"%.64s\" for a %s password, and pgweir has none that fits: put "
             "the plain password into auth_file or the [databases] entry",
             s->pool->set->user, wanted);
    server_login_failed(s, "28P01", text);
}

static void answer_password(struct server *s, struct slice password)
{
    uint8_t bytes[2048];
    struct put o = put_into(bytes, sizeof bytes);
    put_password(&o, password);
    if (o.full)
        server_login_failed(s, "28P01", "the password for the server is too long");
    else
        send_put(s, &o);
    crypto_wipe(bytes, sizeof bytes);
}

static void answer_md5(struct server *s, const uint8_t salt[4])
{
    struct slice secret = secret_of(s);
    char stored[MD5_TEXT_BYTES + 1], response[MD5_TEXT_BYTES + 1];
    bool have = md5_is_secret(secret);
    if (have)
        memcpy(stored, secret.p, MD5_TEXT_BYTES + 1); /* a C string: the NUL is there */
    else if (secret_is_plain(secret))
        have = md5_password(secret, slice_of(s->pool->set->user), stored);
    if (have && md5_response(slice_of(stored), salt, response))
        answer_password(s, slice_of(response));
    else
        wrong_kind(s, "md5");
}

static void begin_scram(struct server *s)
{
    uint8_t nonce[SCRAM_NONCE_RANDOM_BYTES], text[SCRAM_OUT_MAX], bytes[SCRAM_OUT_MAX + 64];
    struct put first = put_into(text, sizeof text), o = put_into(bytes, sizeof bytes);
    if (!secret_is_plain(secret_of(s)) && !s->pool->set->have_keys) {
        wrong_kind(s, "scram-sha-256");
        return;
    }
    random_bytes(nonce, sizeof nonce);
    if (scram_client_first(&s->login->scram, nonce, &first) != SCRAM_OK) {
        server_login_failed(s, "08006", "SCRAM: cannot begin");
        return;
    }
    put_sasl_initial(&o, slice_of(SCRAM_MECHANISM), put_slice(&first));
    s->login->sasl = true;
    send_put(s, &o);
}

static void send_proof(struct server *s, enum scram_rc rc, const struct put *final)
{
    uint8_t bytes[SCRAM_OUT_MAX + 64];
    struct put o = put_into(bytes, sizeof bytes);
    if (rc != SCRAM_OK) {
        server_login_failed(s, "08006", scram_error_text(rc));
        return;
    }
    put_sasl_response(&o, put_slice(final));
    send_put(s, &o);
}

static void prove_salted(struct server *s, const uint8_t *salted)
{
    uint8_t text[SCRAM_OUT_MAX];
    struct put final = put_into(text, sizeof text);
    if (salted)
        send_proof(s, scram_client_final(&s->login->scram, salted, &final), &final);
    else
        server_login_failed(s, "53200", "SCRAM: too many key derivations are waiting");
}

static void on_salted(void *context, const uint8_t *salted)
{
    struct server_login *login = context;
    login->kdf = NULL;
    prove_salted(login->server, salted);
}

static void go_on_scram(struct server *s, struct slice data)
{
    struct server_login *login = s->login;
    struct pool_set *set = s->pool->set;
    uint8_t salted[SCRAM_KEY_BYTES], text[SCRAM_OUT_MAX];
    enum scram_rc rc = scram_client_read_first(&login->scram, data);
    if (rc != SCRAM_OK) {
        server_login_failed(s, "08P01", scram_error_text(rc));
        return;
    }
    if (!secret_is_plain(secret_of(s))) {
        struct put final = put_into(text, sizeof text);
        rc = scram_client_final_keys(&login->scram, set->client_key, set->server_key, &final);
        send_proof(s, rc, &final);
        return;
    }
    if (kdf_salt(secret_of(s), scram_client_salt(&login->scram), login->scram.iterations, salted,
                 &login->kdf, on_salted, login))
        prove_salted(s, salted);
    else if (!login->kdf)
        prove_salted(s, NULL);
    crypto_wipe(salted, sizeof salted);
}

static void finish_scram(struct server *s, struct slice data)
{
    enum scram_rc rc = scram_client_verify(&s->login->scram, data);
    if (rc == SCRAM_OK)
        s->login->proved = true;
    else
        server_login_failed(s, "28000", scram_error_text(rc));
}

static void read_auth(struct server *s, struct slice body)
{
    struct auth_request request;
    if (!auth_read_request(body, &request)) {
        server_login_failed(s, "08P01", "malformed authentication request from the server");
        return;
    }
    switch (request.kind) {
    case AUTH_OK:
        if (s->login->sasl && !s->login->proved)
            server_login_failed(s, "28000", "the server skipped its half of SCRAM");
        else
            s->login->step = PARAMS;
        return;
    case AUTH_CLEARTEXT:
        if (secret_is_plain(secret_of(s)))
            answer_password(s, secret_of(s));
        else
            wrong_kind(s, "cleartext");
        return;
    case AUTH_MD5:
        answer_md5(s, request.md5_salt);
        return;
    case AUTH_SASL:
        if (request.scram_sha_256)
            begin_scram(s);
        else
            wrong_kind(s, "SASL (other than SCRAM-SHA-256)");
        return;
    case AUTH_SASL_CONTINUE:
        go_on_scram(s, request.data);
        return;
    case AUTH_SASL_FINAL:
        finish_scram(s, request.data);
        return;
    case AUTH_UNSUPPORTED:
    case AUTH_KIND_N:
        server_login_failed(s, "28000",
                            "the server asks for an authentication that pgweir cannot do");
        return;
    }
}

/* ---- messages ---- */

static struct error_fields error_of(struct slice body, char text[MESSAGE_MAX])
{
    struct error_fields f;
    error_fields_read(body, &f);
    snprintf(text, MESSAGE_MAX, "%.*s",
             (int)(f.message.n < MESSAGE_MAX ? f.message.n : MESSAGE_MAX),
             f.message.n ? (const char *)f.message.p : "");
    return f;
}

static void read_error(struct server *s, struct slice body)
{
    char code[6] = "08006", text[MESSAGE_MAX];
    struct error_fields f = error_of(body, text);
    if (f.sqlstate.n == 5)
        memcpy(code, f.sqlstate.p, 5);
    server_login_failed(s, code, text);
}

static void finish(struct server *s)
{
    server_login_free(s->login);
    s->login = NULL;
    pool_server_ready(s);
}

/* ---- connect_query ---- */

static void ask(struct server *s, enum step step, struct slice sql)
{
    struct put o = put_into(conn_out_reserve(s->conn, sql.n + 16), sql.n + 16);
    put_query(&o, sql);
    CHECK(!o.full);
    conn_out_commit(s->conn, o.n);
    s->login->step = step;
}

static void connected(struct server *s)
{
    const struct pool_set *set = s->pool->set;
    if (set->own || !set->db->connect_query[0])
        finish(s);
    else
        ask(s, CONNECT, slice_of(set->db->connect_query));
}

static void ask_settings(struct server *s)
{
    uint8_t bytes[CUSTOM_SETTINGS_MAX * (4 * CUSTOM_NAME_MAX + 128) + 512];
    struct put sql = put_into(bytes, sizeof bytes);
    struct custom_settings *custom = &s->pool->set->custom_settings;
    custom_settings_read(custom, slice_of(s->pool->set->db->connect_query));
    put_bytes(&sql,
              slice_of(LABEL_SQL_FIRST "SELECT " LABEL_SQL_SETTINGS
                                       " UNION ALL SELECT 'role',pg_catalog.current_setting('role')"
                                       " WHERE pg_catalog.current_setting('role')<>'none'"));
    for (const char *at = NULL; (at = custom_settings_next(custom, at));) {
        put_bytes(&sql, slice_of(" UNION ALL SELECT "));
        label_put_literal(&sql, at);
        put_bytes(&sql, slice_of(",pg_catalog.current_setting("));
        label_put_literal(&sql, at);
        put_bytes(&sql, slice_of(",true)"));
    }
    CHECK(!sql.full);
    ask(s, SETTINGS, put_slice(&sql));
}

static void log_connect_error(struct server *s, struct slice body)
{
    char text[MESSAGE_MAX];
    error_of(body, text);
    LOG(LOG_WARN, "server.connect_query_failed", LF_S("node", node_of(s)->label),
        LF_S("db", s->pool->set->database), LF_S("error", text));
}

/* False: more than a label can hold. */
static bool keep(struct server_login *l, struct slice *bytes)
{
    if (l->kept_n + bytes->n > sizeof l->kept)
        return false;
    memcpy(l->kept + l->kept_n, bytes->p, bytes->n);
    bytes->p = l->kept + l->kept_n;
    l->kept_n += (uint32_t)bytes->n;
    return true;
}

static bool keep_setting(struct server_login *l, struct slice name, struct slice value)
{
    return keep(l, &name) && keep(l, &value) && label_draft_set(&l->draft, name, value);
}

static void read_setting(struct server *s, struct slice body)
{
    struct slice setting[2];
    if (!row_read(body, setting, 2) || setting[0].n == 0)
        server_login_failed(s, "08P01", "malformed row from the server during connect_query");
    else if (setting[1].p && !keep_setting(s->login, setting[0], setting[1]))
        server_login_failed(s, "54000", "connect_query sets more than a session's settings hold");
}

static void keep_settings(struct server *s)
{
    struct pool_set *set = s->pool->set;
    struct label *label = label_find(&set->labels, &s->login->draft);
    if (!label) {
        server_login_failed(s, "54000", "connect_query sets more than a session's settings hold");
        return;
    }
    label_unref(set->connected);
    set->connected = label;
    finish(s);
}

static void read_connect(struct server *s, uint8_t type, struct slice body)
{
    bool settings = s->login->step == SETTINGS;
    switch (type) {
    case 'D':
        if (settings)
            read_setting(s, body);
        return;
    case 'T':
    case 'C':
    case 'I':
    case 'N':
    case 'A':
        return;
    case 'S':
        if (server_note_status(s, body))
            return;
        break;
    case 'E':
        if (settings)
            read_error(s, body);
        else
            log_connect_error(s, body);
        return;
    case 'Z':
        if (body.n != 1 || *body.p != 'I')
            server_login_failed(s, "08006", "connect_query leaves a transaction open");
        else if (settings)
            keep_settings(s);
        else
            ask_settings(s);
        return;
    default:
        break;
    }
    server_login_failed(s, "08P01", "unexpected or malformed message during connect_query");
}

/* ---- identity ---- */

static const char identity_sql[] = LABEL_SQL_FIRST
    "SELECT (extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint,"
    "pg_catalog.current_setting('default_transaction_isolation'),"
    "pg_catalog.current_setting('default_transaction_read_only')";

static void ask_identity(struct server *s)
{
    uint8_t bytes[sizeof identity_sql + 16];
    struct put o = put_into(bytes, sizeof bytes);
    /* Nothing hangs on it; and a WAL sender may know no SQL. */
    if (s->pool->set->cluster->node_n == 1 || s->pool->set->own) {
        connected(s);
        return;
    }
    put_query(&o, slice_of(identity_sql));
    CHECK(!o.full);
    s->login->step = IDENTITY;
    send_put(s, &o);
}

/* A column of digits, and how transactions are that say nothing. */
static bool read_identity_row(struct server *s, struct slice body)
{
    struct slice value[3];
    if (!row_read(body, value, 3))
        return false;
    int64_t us = 0;
    for (size_t i = 0; i < value[0].n && i < 18; i++)
        if (value[0].p[i] >= '0' && value[0].p[i] <= '9')
            us = us * 10 + (value[0].p[i] - '0');
    s->instance = us;
    tx_modes_set(&s->tx, slice_of("default_transaction_isolation"), value[1]);
    tx_modes_set(&s->tx, slice_of("default_transaction_read_only"), value[2]);
    return true;
}

static void read_identity(struct server *s, uint8_t type, struct slice body)
{
    switch (type) {
    case 'D':
        if (read_identity_row(s, body))
            return;
        break;
    case 'Z': {
        int64_t sampled =
            node_status(&s->pool->set->cluster->nodes[s->pool->node]).postmaster_start_us;
        if (sampled && s->instance && s->instance != sampled)
            server_login_failed(s, "08006", "it is another instance than the one that was sampled");
        else
            connected(s);
        return;
    }
    case 'T':
    case 'C':
    case 'N':
        return;
    case 'S':
        if (server_note_status(s, body))
            return;
        break;
    case 'E':
        read_error(s, body);
        return;
    default:
        break;
    }
    server_login_failed(s, "08P01", "unexpected or malformed message from the server during login");
}

static void read_message(struct server *s, uint8_t type, struct slice body)
{
    struct slice key;
    char status;
    bool params = s->login->step == PARAMS;
    if (s->login->step == IDENTITY) {
        read_identity(s, type, body);
        return;
    }
    if (s->login->step == CONNECT || s->login->step == SETTINGS) {
        read_connect(s, type, body);
        return;
    }
    switch (type) {
    case 'R':
        if (!params) {
            read_auth(s, body);
            return;
        }
        break;
    case 'E':
        read_error(s, body);
        return;
    case 'N': /* for example PostgreSQL 19's warnings about md5: not for clients */
    case 'v': /* NegotiateProtocolVersion: we asked for 3.0 */
        return;
    case 'S':
        if (params && server_note_status(s, body))
            return;
        break;
    case 'K':
        if (params && auth_read_backend_key(body, &s->backend_pid, &key)) {
            memcpy(s->key, key.p, key.n);
            s->key_n = (uint16_t)key.n;
            return;
        }
        break;
    case 'Z':
        if (params && auth_read_ready(body, &status) && status == 'I') {
            ask_identity(s);
            return;
        }
        break;
    default:
        break;
    }
    server_login_failed(s, "08P01", "unexpected or malformed message from the server during login");
}

static void read_messages(struct server *s)
{
    struct conn *conn = s->conn;
    while (s->state == SERVER_LOGIN && conn->in.bytes >= FRAME_HEAD_BYTES) {
        struct frame_head head;
        const uint8_t *p = conn_in_contiguous(conn, FRAME_HEAD_BYTES);
        if (frame_read_head((struct slice){p, FRAME_HEAD_BYTES}, LOGIN_BODY_MAX, &head) !=
            FRAME_OK) {
            server_login_failed(s, "08P01", "bad message length from the server during login");
            return;
        }
        size_t n = FRAME_HEAD_BYTES + head.body_bytes;
        if (conn->in.bytes < n)
            return;
        p = conn_in_contiguous(conn, n);
        /* The handler may close the server, which drops the queue: keep the bytes until it is done.
         */
        struct buf *buf = conn->in.head->buf;
        buf->refs++;
        conn_in_drop(conn, n);
        read_message(s, head.type, (struct slice){p + FRAME_HEAD_BYTES, head.body_bytes});
        buf_unref(&conn->loop->bufs, buf);
    }
}

void server_login_connected(struct server *s)
{
    if (s->login->step == ASK_TLS)
        ask_tls(s);
    else
        send_startup(s);
}

void server_login_input(struct server *s)
{
    if (s->state != SERVER_LOGIN)
        return;
    struct server_login *login = s->login;
    struct conn *conn = s->conn;
    switch (login->step) {
    case ASK_TLS:
        if (conn->in.bytes > 0)
            read_tls_answer(s);
        return;
    case HANDSHAKE:
        return;
    case AUTH:
    case PARAMS:
    case IDENTITY:
    case CONNECT:
    case SETTINGS:
        read_messages(s);
        return;
    }
}
