/* tests/regress/session_names.c: lets isolationtester find its sessions by name, where it would by process id.
 *
 * isolationtester asks PostgreSQL whether the process of a session waits for a lock, and takes the process id for the
 * one that the server told at login. A pooler's clients have process ids that no server knows, and no process of their
 * own. But each session has an application_name of its own (isolation/TEST/SESSION), which pg_stat_activity shows for
 * the server that works for it now. Who sent a notification is still told by process id: that is the protocol's own.
 *
 * To be preloaded. Replaces, for every connection of the program: PQbackendPID (numbers from 1, in the order of asking),
 * PQprepare of the one lock query, PQnotifies (the sender's number). Direct runs use it, too: same program, same answers.
 */
#include <dlfcn.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SESSIONS_MAX 64
#define QUERY_MAX 8192
#define LOCK_QUERY "pg_isolation_test_session_is_blocked"

static struct session {
    PGconn *conn;
    char name[64]; /* application_name is cut to 63 bytes */
    int told_pid;  /* what the server, or the pooler, said at login */
} sessions[SESSIONS_MAX];
static int session_n;

static void give_up(const char *what, const char *why)
{
    fprintf(stderr, "session_names: %s: %s\n", what, why);
    exit(1);
}

static void *real(const char *name)
{
    void *f = dlsym(RTLD_NEXT, name);
    if (!f)
        give_up(name, "not in libpq");
    return f;
}

static void ask_name(struct session *s)
{
    PGresult *r = PQexec(s->conn, "SELECT current_setting('application_name')");
    if (PQresultStatus(r) != PGRES_TUPLES_OK)
        give_up("application_name", PQerrorMessage(s->conn));
    snprintf(s->name, sizeof s->name, "%s", PQgetvalue(r, 0, 0));
    PQclear(r);
}

int PQbackendPID(const PGconn *conn)
{
    for (int i = 0; i < session_n; i++) {
        if (sessions[i].conn == conn)
            return i + 1;
    }
    if (session_n == SESSIONS_MAX)
        give_up("PQbackendPID", "too many sessions");
    struct session *s = &sessions[session_n++];
    memcpy(&s->conn, &conn, sizeof conn); /* libpq's own promise of const is for this call only */
    s->told_pid = ((int (*)(const PGconn *))real("PQbackendPID"))(conn);
    ask_name(s);
    return session_n;
}

/* 'is $1 blocked by any of these', with session numbers in place of process ids */
static void lock_query(char sql[static QUERY_MAX])
{
    size_t n = (size_t)snprintf(sql, QUERY_MAX, "WITH s AS (SELECT pid, array_position(ARRAY[");
    for (int i = 0; i < session_n; i++) {
        char *name = PQescapeLiteral(sessions[i].conn, sessions[i].name, strlen(sessions[i].name));
        n += (size_t)snprintf(sql + n, QUERY_MAX - n, "%s%s", i ? "," : "", name);
        PQfreemem(name);
        if (n > QUERY_MAX - 512)
            give_up("PQprepare", "too many names");
    }
    snprintf(
        sql + n, QUERY_MAX - n,
        "], application_name) AS number FROM pg_catalog.pg_stat_activity) SELECT "
        "coalesce(bool_or(" LOCK_QUERY
        "(pid, ARRAY(SELECT pid FROM s WHERE number > 1))), false) FROM s WHERE number = $1::int");
}

PGresult *PQprepare(PGconn *conn, const char *name, const char *query, int n, const Oid *types)
{
    char sql[QUERY_MAX];
    if (strstr(query, LOCK_QUERY)) {
        lock_query(sql);
        query = sql;
    }
    return ((PGresult * (*)(PGconn *, const char *, const char *, int, const Oid *))
                real("PQprepare"))(conn, name, query, n, types);
}

PGnotify *PQnotifies(PGconn *conn)
{
    PGnotify *notify = ((PGnotify * (*)(PGconn *)) real("PQnotifies"))(conn);
    if (!notify)
        return NULL;
    for (int i = 0; i < session_n; i++) {
        if (sessions[i].told_pid == notify->be_pid) {
            notify->be_pid = i + 1;
            return notify;
        }
    }
    return notify;
}
