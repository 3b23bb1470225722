/* proxy/session/startup.c: a client's first packets, and what follows its proof. */
#include "proxy/session/session.h"

#include "base/check.h"
#include "proxy/io/log.h"
#include "proxy/io/tls.h"
#include "proxy/pool/cancel.h"
#include "proxy/pool/random.h"

#include <stdlib.h>

#define CANCEL_KEY_30 4
#define CANCEL_KEY_32 32

/* ---- TLS and its like ---- */

static void answer_byte(struct session *s, char answer, size_t used)
{
    conn_in_drop(s->conn, used);
    conn_out_copy(s->conn, &answer, 1);
}

static void answer_ssl(struct session *s, size_t used)
{
    const struct snapshot *snapshot = s->worker->hub.snapshot;
    if (s->ssl_answered || s->conn->tls) {
        session_fatal(s, "08P01", "SSLRequest was sent twice", NULL, NULL);
        return;
    }
    s->ssl_answered = true;
    if (!snapshot->client_tls) {
        answer_byte(s, 'N', used);
        return;
    }
    answer_byte(s, 'S', used);
    void *ssl = tls_session_new(snapshot->client_tls, true, NULL);
    if (!ssl) {
        session_close(s, "no_memory");
        return;
    }
    /* CVE-2021-23214: whatever came in clear behind the request was not sent by the TLS peer. */
    if (!conn_start_tls(s->conn, ssl))
        session_fatal(s, "08P01", "received unencrypted data after SSL request",
                      "This could be either a client-software bug or evidence of an attempted "
                      "man-in-the-middle attack.",
                      NULL);
}

static void answer_gssenc(struct session *s, size_t used)
{
    if (s->gss_answered) {
        session_fatal(s, "08P01", "GSSENCRequest was sent twice", NULL, NULL);
        return;
    }
    s->gss_answered = true;
    answer_byte(s, 'N', used);
}

static void answer_health(struct session *s, size_t used)
{
    bool draining = atomic_load(&s->worker->fleet->draining);
    answer_byte(s, draining ? STARTUP_DRAINING : STARTUP_HEALTHY, used);
}

/* ---- cancel ---- */

/* It goes to the worker of the client that is meant, and comes back when PostgreSQL has got its cancel, or none is
 * needed: then the connection that brought it is closed, as PostgreSQL does it. */
struct cancel_mail {
    struct mail mail; /* first */
    struct cancel_wish wish;
    struct worker *home;
    struct session *from; /* home's own; NULL: it has left */
    uint32_t pid;
    uint8_t key_n;
    uint8_t key[PUT_CLIENT_KEY_MAX];
};

static void on_cancel_done(struct loop *loop, struct mail *mail)
{
    (void)loop;
    struct cancel_mail *m = (struct cancel_mail *)(void *)mail;
    if (m->from) /* right or wrong key: the same silence */
        session_close(m->from, "cancel_request");
    free(m);
}

static void on_cancel_ended(struct cancel_wish *wish)
{
    struct cancel_mail *m = LIST_ENTRY(wish, struct cancel_mail, wish);
    m->mail.deliver = on_cancel_done;
    loop_post(m->home->loop, &m->mail);
}

void startup_stop(struct session *s)
{
    if (s->cancel)
        s->cancel->from = NULL;
    s->cancel = NULL;
}

static void on_cancel_mail(struct loop *loop, struct mail *mail)
{
    struct cancel_mail *m = (struct cancel_mail *)(void *)mail;
    struct session *s = worker_find_pid(worker_of(loop), m->pid);
    unsigned differ = 1;
    if (s && s->key_n == m->key_n) {
        differ = 0;
        for (unsigned i = 0; i < m->key_n;
             i++) /* no early exit: a key is not guessed byte by byte */
            differ |= (unsigned)(s->key[i] ^ m->key[i]);
    }
    struct fleet *fleet = worker_of(loop)->fleet;
    if (differ && fleet->strange_cancel)
        fleet->strange_cancel(fleet->context, m->pid, (struct slice){m->key, m->key_n});
    if (differ || !session_cancel(s, &m->wish))
        on_cancel_ended(&m->wish);
}

/* To the worker that its number is about; any of them passes on what is for nobody here. */
static struct cancel_mail *mail_cancel(struct fleet *fleet, uint32_t pid, struct slice key,
                                       struct session *from)
{
    uint32_t number = pid >> WORKER_PID_BITS;
    struct worker *worker = &fleet->workers[number < fleet->worker_n ? number : 0];
    struct cancel_mail *m = calloc(1, sizeof *m);
    CHECK(m != NULL);
    *m = (struct cancel_mail){.mail.deliver = on_cancel_mail,
                              .wish.ended = on_cancel_ended,
                              .home = from ? from->worker : worker,
                              .from = from,
                              .pid = pid,
                              .key_n = (uint8_t)key.n};
    memcpy(m->key, key.p, key.n);
    loop_post(worker->loop, &m->mail);
    return m;
}

void fleet_cancel(struct fleet *fleet, uint32_t pid, struct slice key)
{
    if (key.n <= PUT_CLIENT_KEY_MAX)
        mail_cancel(fleet, pid, key, NULL);
}

static void take_cancel(struct session *s, const struct startup *startup)
{
    if (startup->cancel_key.n > PUT_CLIENT_KEY_MAX)
        session_close(s, "cancel_request");
    else
        s->cancel = mail_cancel(s->worker->fleet, startup->cancel_pid, startup->cancel_key, s);
}

/* ---- StartupMessage ---- */

static void take_startup(struct session *s, const struct startup *startup)
{
    const struct conf *conf = s->worker->hub.snapshot->conf;
    if (conf->client_tls_sslmode == CONF_CLIENT_TLS_REQUIRE && !s->conn->tls &&
        !s->conn->one_shot) {
        session_fatal(s, "28000", "connection requires TLS", "client_tls_sslmode is \"require\".",
                      "Connect with sslmode=require.");
        return;
    }
    if (atomic_load(&s->worker->fleet->pressure) >= FLEET_PRESSURE_HIGH) {
        s->worker->stats.sheds++;
        session_fatal(s, "53200", "pgweir is short of memory",
                      "PGWEIR-MEMORY: memory_limit is near.", "Retry with backoff and jitter.");
        return;
    }
    if (!places_take_client(s, startup))
        return;
    s->key_n = startup->minor >= 2 ? CANCEL_KEY_32 : CANCEL_KEY_30;
    random_bytes(s->key, s->key_n);
    if (startup->needs_negotiation) {
        uint8_t bytes[STARTUP_BYTES_MAX + 64];
        struct put o = put_into(bytes, sizeof bytes);
        put_negotiate_version(&o, startup->minor, startup->params);
        conn_out_copy(s->conn, o.p, o.n);
    }
    session_state(s, SESSION_AUTH);
    auth_start(s, startup);
}

void startup_input(struct session *s)
{
    struct conn *conn = s->conn;
    if (s->cancel) /* nothing belongs behind it */
        conn_in_drop(conn, conn->in.bytes);
    while (s->state == SESSION_STARTUP && conn->in.bytes > 0) {
        struct startup startup;
        uint32_t have = conn->in.bytes < STARTUP_BYTES_MAX ? conn->in.bytes : STARTUP_BYTES_MAX;
        struct slice in = {conn_in_contiguous(conn, have), have};
        enum startup_rc rc = startup_read(in, &startup);
        if (rc == STARTUP_MORE)
            return;
        if (rc != STARTUP_OK) {
            LOG(LOG_WARN, "client.bad_startup", LF_U("client", s->serial),
                LF_S("error", startup_error_text(rc)));
            session_fatal(s, startup_error_sqlstate(rc), startup_error_text(rc), NULL, NULL);
            return;
        }
        switch (startup.kind) {
        case STARTUP_SSL:
            answer_ssl(s, startup.total_bytes);
            if (conn->tls)
                return;
            break;
        case STARTUP_GSSENC:
            answer_gssenc(s, startup.total_bytes);
            break;
        case STARTUP_HEALTH:
            answer_health(s, startup.total_bytes);
            break;
        case STARTUP_CANCEL:
            take_cancel(s, &startup);
            return;
        case STARTUP_DIRECT_TLS:
            session_close(s, "direct_tls_not_supported");
            return;
        case STARTUP_V3:
            take_startup(s, &startup); /* reads the packet, then drops it */
            if (s->state == SESSION_AUTH && conn->in.bytes > 0)
                auth_input(s); /* a client that did not wait for the question */
            return;
        case STARTUP_KIND_N:
            CHECK_UNREACHABLE();
        }
    }
}

/* ---- after the proof ---- */

void startup_note_status(struct session *s, struct slice name, struct slice value)
{
    static const char *const odd[] = {"SJIS", "SHIFT_JIS_2004", "BIG5", "GBK",
                                      "UHC",  "GB18030",        "JOHAB"};
    if (slice_is(name, "standard_conforming_strings"))
        s->odd_strings = slice_is(value, "off");
    if (!slice_is(name, "client_encoding"))
        return;
    s->odd_encoding = false;
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        s->odd_encoding = s->odd_encoding || slice_is(value, odd[i]);
}

/* How the client's SQL is read, from what a server with its label reported. */
void startup_note_reading(struct session *s)
{
    struct slice rest = {s->label->greeting, s->label->greeting_bytes}, name, value;
    while (rest.n > FRAME_HEAD_BYTES) {
        size_t n = 1 + (size_t)slice_u32(rest.p + 1);
        struct slice body = {rest.p + FRAME_HEAD_BYTES, n - FRAME_HEAD_BYTES};
        CHECK(n <= rest.n && auth_read_param_status(body, &name, &value)); /* we wrote it */
        startup_note_status(s, name, value);
        rest = slice_skip(rest, n);
    }
}

void startup_finish(struct session *s)
{
    if (s->state == SESSION_CLOSING)
        return;
    session_state(s, SESSION_GREETING);
    s->conn->in_limit = CONN_IN_LIMIT;
    if (s->console) {
        startup_greet(s);
        return;
    }
    if (s->set->own) {
        replication_begin(s);
        return;
    }
    lease_over_connect(s);
    if (pool_find_greeting(s->set, s->label))
        startup_greet(s);
    else
        lease_for_greeting(s);
}

static void put_console_greeting(struct put *o)
{
    static const char *const values[][2] = {
        {"server_version", PGWEIR_VERSION "/pgweir"},
        {"server_encoding", "UTF8"},
        {"client_encoding", "UTF8"},
        {"DateStyle", "ISO"},
        {"TimeZone", "GMT"},
        {"standard_conforming_strings", "on"},
        {"is_superuser", "on"},
        {"integer_datetimes", "on"},
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        put_param_status(o, slice_of(values[i][0]), slice_of(values[i][1]));
}

void startup_greet(struct session *s)
{
    uint8_t bytes[1024];
    struct put o = put_into(bytes, sizeof bytes);
    const struct conf *conf = s->worker->hub.snapshot->conf;
    timer_stop(&s->conn->loop->timers, &s->timer);
    auth_free(s->auth);
    s->auth = NULL;
    s->pid = worker_take_pid(s->worker, s);
    if (s->console)
        put_console_greeting(&o);
    else {
        startup_note_reading(s);
        s->told =
            told_find(&s->set->tolds, (struct slice){s->label->greeting, s->label->greeting_bytes});
        conn_out_copy(s->conn, s->label->greeting, s->label->greeting_bytes);
    }
    put_backend_key(&o, s->pid, (struct slice){s->key, s->key_n});
    put_ready(&o, 'I');
    conn_out_copy(s->conn, o.p, o.n);
    s->worker->stats.logins++;
    if (conf->log_connections)
        LOG(LOG_INFO, "client.login", LF_U("client", s->serial),
            LF_S("db", s->console ? "pgweir" : s->set->database),
            LF_S("user", s->console ? "" : s->set->user), LF_S("tls", s->conn->tls ? "yes" : "no"));
    session_state(s, SESSION_READY);
    deadline_ready(s);
    if (s->worker->stage == WORKER_DRAINS)
        session_take_turn(s);
    tx_idles(s);
    conn_in_again(s->conn);
}
