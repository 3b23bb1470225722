/* proxy/session/replication.c: a client that asked for a WAL sender (replication= in its startup packet).
 *
 * What    it gets a server on the primary of its own, opened with its startup parameters, and closed with it. The
 *         bytes of both pass unread: a stream of COPY both ways knows no transactions that a pool could end at.
 * Also    a client whose startup parameters PostgreSQL takes at the start of a session only (log_disconnections ...):
 *         its bytes are read as any other's in session pooling.
 * Limits  the client counts in max_client_conn; such servers of one database, user and node are at most as many as
 *         the pool has (default_pool_size), beside the pool.
 * Source  PostgreSQL documentation, "Streaming Replication Protocol".
 */
#include "proxy/session/session.h"

#include "base/check.h"

#include <strings.h>

/* ---- what is asked ---- */

static bool is_word(struct slice value, const char *word)
{
    return value.n == strlen(word) && strncasecmp((const char *)value.p, word, value.n) == 0;
}

/* What PostgreSQL would not take, it refuses itself. */
bool replication_asked(struct slice value)
{
    static const char *const no[] = {"0",   "off",  "of",    "f", "fa",
                                     "fal", "fals", "false", "n", "no"};
    if (value.n == 0)
        return false;
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        if (is_word(value, no[i]))
            return false;
    return true;
}

const struct conf_database *replication_entry(struct session *s, struct slice value,
                                              struct cluster **cluster)
{
    const struct snapshot *snapshot = s->worker->hub.snapshot;
    if (is_word(value, "database"))
        return NULL;
    for (size_t i = 1; i < snapshot->conf->database_n; i++)
        if (snapshot->clusters[i] != snapshot->clusters[0])
            return NULL; /* which of them, nobody can know */
    *cluster = snapshot->clusters[0];
    return &snapshot->conf->databases[0];
}

/* ---- the server ---- */

/* All but what the set has already, and what is no setting of PostgreSQL's. */
static bool is_for_server(const struct session *s, struct slice name)
{
    bool protocol = name.n > 5 && memcmp(name.p, "_pq_.", 5) == 0;
    bool ours = name.n > 7 && memcmp(name.p, "pgweir.", 7) == 0;
    return !slice_is(name, "user") && !slice_is(name, "database") && !protocol && !ours &&
           !conf_list_has(s->worker->hub.snapshot->conf->ignore_startup_parameters, name);
}

void replication_set(struct session *s, const struct startup *startup,
                     const struct conf_database *db, struct cluster *cluster, struct slice database,
                     struct slice user)
{
    uint8_t bytes[STARTUP_BYTES_MAX];
    struct put params = put_into(bytes, sizeof bytes);
    struct slice rest = startup->params, name, value;
    while (startup_next_param(&rest, &name, &value)) {
        if (!is_for_server(s, name))
            continue;
        put_cstr(&params, name);
        put_cstr(&params, value);
    }
    CHECK(!params.full); /* they are a part of a startup packet */
    s->set = pool_set_own(&s->worker->hub, cluster, db, database, user, put_slice(&params));
    s->label = label_ref(s->set->base);
    s->state_of.startup = label_ref(s->label);
    s->session_pooling = true;
}

void replication_begin(struct session *s)
{
    if (pool_set_has_room(s->set)) {
        lease_for_greeting(s);
        return;
    }
    session_fatal(s, "53300",
                  s->replication ? "too many replication connections"
                                 : "too many connections that need a server of their own",
                  "PGWEIR-REPLICATION-LIMIT: this database and user have as many as "
                  "default_pool_size allows.",
                  NULL);
}

/* ---- the bytes ---- */

enum { READY_BYTES = 6 };
static const uint8_t terminate[] = {'X', 0, 0, 0, 4}, ready[] = {'Z', 0, 0, 0, 5};

/* Whoever leaves now need not be cancelled: a guess, for a row may end in the same bytes. */
static void note_rest(struct session *s, const struct seg *last)
{
    s->sender_rests =
        last->n >= READY_BYTES && memcmp(last->p + last->n - READY_BYTES, ready, sizeof ready) == 0;
}

static bool is_terminate(const struct seg_queue *in)
{
    return in->bytes == sizeof terminate && in->head->n == sizeof terminate &&
           memcmp(in->head->p, terminate, sizeof terminate) == 0;
}

void replication_to_server(struct session *s)
{
    if (s->state != SESSION_READY || !s->server)
        return;
    if (s->conn->in.bytes > 0) {
        s->sender_rests = s->sender_rests && is_terminate(&s->conn->in);
        client_forward(s, s->conn->in.bytes);
    }
    if (conn_out_full(s->server->conn))
        conn_pause(s->conn);
}

void replication_to_client(struct session *s)
{
    struct conn *from = s->server->conn;
    if (from->in.bytes > 0)
        note_rest(s, from->in.tail);
    while (from->in.bytes > 0) {
        struct seg *seg = from->in.head;
        conn_out_ref(s->conn, seg->buf, (struct slice){seg->p, seg->n});
        conn_in_drop(from, seg->n);
    }
    if (conn_out_full(s->conn))
        conn_pause(from);
}
