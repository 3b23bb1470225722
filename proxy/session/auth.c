/* proxy/session/auth.c: proof of who the client is: trust, plain, md5, scram-sha-256.
 *
 * An unknown user or database goes through the same exchange as a known one and fails at its end.
 */
#include "proxy/session/session.h"
#include "proxy/session/settings.h"

#include "base/check.h"
#include "proxy/io/log.h"
#include "proxy/pool/random.h"
#include "proxy/wire/auth.h"
#include "proxy/wire/crypto.h"
#include "proxy/wire/md5.h"
#include "proxy/wire/scram.h"
#include "router/setting.h"

#include <stdlib.h>

enum auth_step {
    STEP_PLAIN,
    STEP_MD5,
    STEP_SASL_FIRST,
    STEP_SASL_SALTING,
    STEP_SASL_FINAL,
    STEP_PLAIN_SALTING
};

struct auth {
    struct session *session;
    enum auth_step step;
    struct scram_server scram;
    struct scram_secret secret;
    struct kdf_request *kdf;
    uint8_t md5_salt[MD5_SALT_BYTES];
    bool known; /* there is such a user */
    size_t data_n;
    uint8_t data[AUTH_SASL_BODY_MAX]; /* client-first-message, kept while its key is derived */
    struct startup startup;
    size_t packet_n;
    uint8_t packet[]; /* the startup packet; startup's slices point here */
};

static const struct conf *conf_of(const struct session *s)
{
    return s->worker->hub.snapshot->conf;
}

static const char *secret_of(const struct auth *a)
{
    const char *secret = conf_secret(conf_of(a->session), a->startup.user);
    return secret ? secret : "";
}

void auth_free(struct auth *a)
{
    if (!a)
        return;
    kdf_forget(a->kdf);
    crypto_wipe(a, sizeof *a + a->packet_n);
    free(a);
}

static void refuse(struct session *s)
{
    char message[256];
    struct slice user = s->auth->startup.user;
    s->worker->stats.login_failures++;
    snprintf(message, sizeof message, "password authentication failed for user \"%.*s\"",
             (int)user.n, (const char *)user.p);
    LOG(LOG_WARN, "client.login_failed", LF_U("client", s->serial), LF_S("error", message));
    session_fatal(s, "28P01", message, NULL, NULL);
}

/* ---- proved ---- */

static bool is_label_param(const struct session *s, struct slice name)
{
    static const char *const not_settings[] = {"user", "database", "replication", "options"};
    for (size_t i = 0; i < sizeof not_settings / sizeof *not_settings; i++)
        if (slice_is(name, not_settings[i]))
            return false;
    if (name.n > 5 && memcmp(name.p, "_pq_.", 5) == 0)
        return false;
    return !conf_list_has(conf_of(s)->ignore_startup_parameters, name);
}

/* False: it does not fit, or the client was told. */
static bool take_param(struct session *s, struct label_draft *draft, struct slice name,
                       struct slice value)
{
    if (setting_is_ours(name))
        return settings_startup(s, name, value);
    return !is_label_param(s, name) || label_draft_set(draft, name, value);
}

static bool draft_options(struct session *s, struct slice options, struct put *text,
                          struct label_draft *draft)
{
    for (;;) {
        struct slice name, value;
        enum startup_option_rc rc = startup_next_option(&options, text, &name, &value);
        if (rc == STARTUP_OPTION_END)
            return true;
        if (rc != STARTUP_OPTION_OK)
            return conf_list_has(conf_of(s)->ignore_startup_parameters, slice_of("options"));
        if (!take_param(s, draft, name, value))
            return false;
    }
}

_Static_assert((int)CONF_ROUTE_AUTO == ROUTE_POLICY_AUTO &&
                   (int)CONF_ROUTE_PRIMARY == ROUTE_POLICY_PRIMARY &&
                   (int)CONF_ROUTE_REPLICA == ROUTE_POLICY_REPLICA &&
                   (int)CONF_ROUTE_ANY == ROUTE_POLICY_ANY,
               "the words of the configuration are the router's policies");

/* name@ro and name@rw beat what the user's and the database's entry say. */
static enum route_policy policy_of(enum conf_access access, enum conf_route configured)
{
    if (access == CONF_ACCESS_READ_ONLY)
        return ROUTE_POLICY_REPLICA;
    return access == CONF_ACCESS_PRIMARY ? ROUTE_POLICY_PRIMARY : (enum route_policy)configured;
}

/* The settings that the client asked for in its startup packet. NULL: the client was told.
 * name@ro: every server of it refuses writes, the primary too. */
static struct label *make_label(struct session *s, struct pool_set *set, enum conf_access access)
{
    struct auth *a = s->auth;
    struct label_draft draft = {0};
    uint8_t option_bytes[STARTUP_BYTES_MAX];
    struct put option_text = put_into(option_bytes, sizeof option_bytes);
    if (a->startup.options.n && !draft_options(s, a->startup.options, &option_text, &draft)) {
        session_fatal(s, "22023", "invalid startup parameter \"options\"",
                      "Only -c name=value and --name=value are understood.", NULL);
        return NULL;
    }
    struct slice rest = a->startup.params, name, value;
    bool fits = true;
    while (fits && startup_next_param(&rest, &name, &value))
        fits = take_param(s, &draft, name, value);
    if (fits && access == CONF_ACCESS_READ_ONLY)
        fits = label_draft_set(&draft, slice_of("default_transaction_read_only"), slice_of("on"));
    struct label *label = fits ? label_find(&set->labels, &draft) : NULL;
    if (!label)
        session_fatal(s, "54000", "too many startup parameters", NULL, NULL);
    return label;
}

/* PostgreSQL takes these at the start of a session, and never again: no server that somebody else uses will do. */
static bool is_of_start(struct slice name)
{
    static const char *const names[] = {"ignore_system_indexes",   "jit_debugging_support",
                                        "jit_profiling_support",   "log_connections",
                                        "log_disconnections",      "post_auth_delay",
                                        "local_preload_libraries", "session_preload_libraries"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (name.n == strlen(names[i]) && strncasecmp((const char *)name.p, names[i], name.n) == 0)
            return true;
    return false;
}

static bool needs_own_server(struct session *s)
{
    const struct startup *startup = &s->auth->startup;
    struct slice rest = startup->params, options = startup->options, name, value;
    uint8_t bytes[STARTUP_BYTES_MAX];
    struct put text = put_into(bytes, sizeof bytes);
    while (startup_next_param(&rest, &name, &value))
        if (is_of_start(name) && is_label_param(s, name))
            return true;
    while (startup_next_option(&options, &text, &name, &value) == STARTUP_OPTION_OK)
        if (is_of_start(name) && is_label_param(s, name))
            return true;
    return false;
}

static bool find_pools(struct session *s)
{
    struct auth *a = s->auth;
    struct cluster *cluster;
    struct slice asked = a->startup.database;
    enum conf_access access = conf_cut_access(conf_of(s), &asked);
    const struct conf_database *db = snapshot_find(s->worker->hub.snapshot, asked, &cluster);
    s->replication = replication_asked(a->startup.replication);
    if (!db && s->replication)
        db = replication_entry(s, a->startup.replication, &cluster);
    if (!db) {
        char message[256];
        snprintf(message, sizeof message, "database \"%.*s\" does not exist",
                 (int)a->startup.database.n, (const char *)a->startup.database.p);
        session_fatal(s, "3D000", message, "pgweir has no entry for it in [databases].", NULL);
        return false;
    }
    if (atomic_load(&gate_find(db->name)->disabled)) {
        char message[256];
        snprintf(message, sizeof message, "database \"%s\" is not currently accepting connections",
                 db->name);
        session_fatal(s, "55000", message, "DISABLE was said on the console.", NULL);
        return false;
    }
    struct slice database = db->dbname[0] ? slice_of(db->dbname) : asked;
    struct slice user = db->user[0] ? slice_of(db->user) : a->startup.user;
    if (s->replication || (access != CONF_ACCESS_READ_ONLY && needs_own_server(s))) {
        replication_set(s, &a->startup, db, cluster, database, user);
        return true;
    }
    s->set = pool_set_get(&s->worker->hub, cluster, db, database, user);
    const struct conf_user *own = conf_user(conf_of(s), a->startup.user);
    enum conf_pool_mode mode = conf_pool_mode(conf_of(s), db, own);
    s->session_pooling = mode == CONF_POOL_SESSION;
    s->statement_pooling = mode == CONF_POOL_STATEMENT;
    s->policy = (uint8_t)policy_of(access, conf_route(db, own));
    s->label = make_label(s, s->set, access);
    s->state_of.startup = s->label ? label_ref(s->label) : NULL;
    return s->label != NULL;
}

static bool may_use_console(struct session *s)
{
    const struct conf *conf = conf_of(s);
    struct slice user = s->auth->startup.user;
    s->admin = conf_list_has(conf->admin_users, user);
    if (s->admin || conf_list_has(conf->stats_users, user))
        return true;
    session_fatal(s, "42501", "not allowed to use the console",
                  "The user is neither in admin_users nor in stats_users.", NULL);
    return false;
}

static void proved(struct session *s)
{
    uint8_t bytes[16];
    struct put o = put_into(bytes, sizeof bytes);
    s->console = conf_is_console(s->auth->startup.database);
    if (s->console ? !may_use_console(s) : !find_pools(s) || !places_take(s, s->auth->startup.user))
        return;
    put_auth_ok(&o);
    conn_out_copy(s->conn, o.p, o.n);
    startup_finish(s);
}

/* ---- SCRAM ---- */

static void scram_failed(struct session *s, enum scram_rc rc)
{
    if (rc == SCRAM_DENIED)
        refuse(s);
    else
        session_fatal(s, "08P01", "malformed SCRAM message", scram_error_text(rc), NULL);
}

static void challenge(struct session *s)
{
    struct auth *a = s->auth;
    uint8_t nonce[SCRAM_NONCE_RANDOM_BYTES], text[SCRAM_OUT_MAX], bytes[SCRAM_OUT_MAX + 64];
    struct put first = put_into(text, sizeof text), o = put_into(bytes, sizeof bytes);
    random_bytes(nonce, sizeof nonce);
    enum scram_rc rc = scram_server_first(&a->scram, (struct slice){a->data, a->data_n}, nonce,
                                          &a->secret, &first);
    if (rc != SCRAM_OK) {
        scram_failed(s, rc);
        return;
    }
    put_auth_sasl_continue(&o, put_slice(&first));
    conn_out_copy(s->conn, o.p, o.n);
    a->step = STEP_SASL_FINAL;
}

static void use_salted(struct session *s, const uint8_t *salted)
{
    struct auth *a = s->auth;
    struct slice salt = {a->secret.salt, a->secret.salt_n};
    if (!salted || !scram_secret_from_salted(salted, salt, a->secret.iterations, &a->secret)) {
        session_fatal(s, "53200", "too many logins at the same time", NULL, "Retry with backoff.");
        return;
    }
    challenge(s);
}

static void on_scram_salted(void *context, const uint8_t *salted)
{
    struct auth *a = context;
    a->kdf = NULL;
    use_salted(a->session, salted);
}

/* A mock for who does not exist; it also lends its salt to secrets made from plain passwords. */
static void choose_secret(struct session *s)
{
    struct auth *a = s->auth;
    struct slice stored = slice_of(secret_of(a));
    uint8_t salted[SCRAM_KEY_BYTES];
    CHECK(scram_secret_mock(a->startup.user, s->worker->fleet->secret, &a->secret));
    a->secret.iterations = conf_of(s)->scram_iterations;
    if (stored.n == 0 || md5_is_secret(stored) || scram_secret_parse(stored, &a->secret)) {
        challenge(s);
        return;
    }
    a->step = STEP_SASL_SALTING;
    struct slice salt = {a->secret.salt, a->secret.salt_n};
    if (kdf_salt(stored, salt, a->secret.iterations, salted, &a->kdf, on_scram_salted, a))
        use_salted(s, salted);
    else if (!a->kdf)
        use_salted(s, NULL);
    crypto_wipe(salted, sizeof salted);
}

static void read_sasl_first(struct session *s, struct slice body)
{
    struct auth *a = s->auth;
    struct auth_sasl_initial initial;
    if (!auth_read_sasl_initial(body, &initial) || !slice_is(initial.mechanism, SCRAM_MECHANISM) ||
        initial.data.p == NULL || initial.data.n > sizeof a->data) {
        session_fatal(s, "08P01", "malformed SASL message",
                      "Only SCRAM-SHA-256 is offered, with an initial response.", NULL);
        return;
    }
    memcpy(a->data, initial.data.p, initial.data.n);
    a->data_n = initial.data.n;
    choose_secret(s);
}

static void read_sasl_final(struct session *s, struct slice body)
{
    struct auth *a = s->auth;
    struct slice data;
    uint8_t text[SCRAM_OUT_MAX], bytes[SCRAM_OUT_MAX + 64];
    struct put final = put_into(text, sizeof text), o = put_into(bytes, sizeof bytes);
    if (!auth_read_sasl_response(body, &data)) {
        session_fatal(s, "08P01", "malformed SASL message", NULL, NULL);
        return;
    }
    enum scram_rc rc = scram_server_final(&a->scram, data, &final);
    if (rc != SCRAM_OK || !a->known) {
        scram_failed(s, rc == SCRAM_OK ? SCRAM_DENIED : rc);
        return;
    }
    put_auth_sasl_final(&o, put_slice(&final));
    conn_out_copy(s->conn, o.p, o.n);
    uint8_t client_key[SCRAM_KEY_BYTES], server_key[SCRAM_KEY_BYTES];
    memcpy(client_key, a->scram.client_key, sizeof client_key);
    memcpy(server_key, a->secret.server_key, sizeof server_key);
    struct slice user = a->startup.user;
    bool pass_through = user.n > 0;
    proved(s);
    /* The keys open the server too, when it has the very same secret (spec/pgbouncer-compat.md 3). */
    if (pass_through && s->set && s->set->db->user[0] == '\0') { /* the newest: passwords change */
        memcpy(s->set->client_key, client_key, sizeof client_key);
        memcpy(s->set->server_key, server_key, sizeof server_key);
        s->set->have_keys = true;
    }
    crypto_wipe(client_key, sizeof client_key);
}

/* ---- plain and md5 ---- */

static void on_plain_salted(void *context, const uint8_t *salted)
{
    struct auth *a = context;
    a->kdf = NULL;
    if (salted && a->known && scram_secret_check_salted(&a->secret, salted))
        proved(a->session);
    else
        refuse(a->session);
}

static void read_plain(struct session *s, struct slice body)
{
    struct auth *a = s->auth;
    struct slice password, stored = slice_of(secret_of(a));
    uint8_t salted[SCRAM_KEY_BYTES];
    if (!auth_read_password(body, &password)) {
        session_fatal(s, "08P01", "malformed password message", NULL, NULL);
        return;
    }
    if (!scram_secret_parse(stored, &a->secret)) {
        if (a->known && md5_check_password(stored, a->startup.user, password))
            proved(s);
        else
            refuse(s);
        return;
    }
    a->step = STEP_PLAIN_SALTING;
    struct slice salt = {a->secret.salt, a->secret.salt_n};
    if (kdf_salt(password, salt, a->secret.iterations, salted, &a->kdf, on_plain_salted, a))
        on_plain_salted(a, salted);
    else if (!a->kdf)
        refuse(s);
}

static void read_md5(struct session *s, struct slice body)
{
    struct auth *a = s->auth;
    struct slice response;
    if (!auth_read_password(body, &response))
        session_fatal(s, "08P01", "malformed password message", NULL, NULL);
    else if (a->known && md5_check(slice_of(secret_of(a)), a->startup.user, a->md5_salt, response))
        proved(s);
    else
        refuse(s);
}

/* ---- the exchange ---- */

static void ask(struct session *s, enum auth_step step)
{
    uint8_t bytes[64];
    struct put o = put_into(bytes, sizeof bytes);
    struct auth *a = s->auth;
    a->step = step;
    if (step == STEP_PLAIN) {
        put_auth_cleartext(&o);
    } else if (step == STEP_MD5) {
        random_bytes(a->md5_salt, sizeof a->md5_salt);
        put_auth_md5(&o, a->md5_salt);
    } else {
        put_auth_sasl(&o);
    }
    conn_out_copy(s->conn, o.p, o.n);
}

void auth_start(struct session *s, const struct startup *startup)
{
    struct slice packet = {conn_in_contiguous(s->conn, startup->total_bytes), startup->total_bytes};
    struct auth *a = calloc(1, sizeof *a + packet.n);
    CHECK(a != NULL);
    a->session = s;
    a->packet_n = packet.n;
    memcpy(a->packet, packet.p, packet.n);
    CHECK(startup_read((struct slice){a->packet, packet.n}, &a->startup) == STARTUP_OK);
    s->auth = a;
    conn_in_drop(s->conn, packet.n);
    const struct conf *conf = conf_of(s);
    const char *secret = conf_secret(conf, a->startup.user);
    struct scram_secret unused;
    a->known = secret != NULL && secret[0] != '\0';
    switch (conf->auth_type) {
    case CONF_AUTH_TRUST:
        if (conf->auth_file[0] && !secret)
            session_fatal(s, "28000", "\"trust\" authentication failed",
                          "The user is not in auth_file.", NULL);
        else
            proved(s);
        return;
    case CONF_AUTH_PLAIN:
        ask(s, STEP_PLAIN);
        return;
    case CONF_AUTH_MD5: /* a SCRAM secret cannot answer md5 (spec/pgbouncer-compat.md 3) */
        ask(s,
            secret && scram_secret_parse(slice_of(secret), &unused) ? STEP_SASL_FIRST : STEP_MD5);
        return;
    case CONF_AUTH_SCRAM:
        ask(s, STEP_SASL_FIRST);
        return;
    }
}

static void read_answer(struct session *s, struct slice body)
{
    switch (s->auth->step) {
    case STEP_PLAIN:
        read_plain(s, body);
        return;
    case STEP_MD5:
        read_md5(s, body);
        return;
    case STEP_SASL_FIRST:
        read_sasl_first(s, body);
        return;
    case STEP_SASL_FINAL:
        read_sasl_final(s, body);
        return;
    case STEP_SASL_SALTING:
    case STEP_PLAIN_SALTING:
        session_fatal(s, "08P01", "unexpected message during authentication", NULL, NULL);
        return;
    }
}

void auth_input(struct session *s)
{
    struct conn *conn = s->conn;
    while (s->state == SESSION_AUTH && conn->in.bytes >= 5) {
        struct frame_head head;
        struct slice in = {conn_in_contiguous(conn, 5), 5};
        if (in.p[0] != 'p' || frame_read_head(in, AUTH_PASSWORD_BODY_MAX, &head) != FRAME_OK) {
            session_fatal(s, "08P01", "expected a password message of at most 1024 bytes", NULL,
                          NULL);
            return;
        }
        size_t n = FRAME_HEAD_BYTES + head.body_bytes;
        if (conn->in.bytes < n)
            return;
        uint8_t body[AUTH_PASSWORD_BODY_MAX];
        memcpy(body, conn_in_contiguous(conn, n) + FRAME_HEAD_BYTES, head.body_bytes);
        conn_in_drop(conn, n);
        read_answer(s, (struct slice){body, head.body_bytes});
        crypto_wipe(body, sizeof body);
    }
}
