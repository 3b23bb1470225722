/* proxy/session/places.c: how many clients there may be.
 *
 * Unproved  clients that are logging in and have not proved who they are: a quarter of max_client_conn,
 *           PLACES_UNPROVED_LEAST at least, and LOGINS_MAX for each worker at most. One more waits: lobby.c.
 * Clients   max_client_conn, from the startup packet on; who may use the console and asks for it is exempt, so that
 *           a full pgweir can be looked into.
 * Proved    max_db_client_connections and max_user_client_connections: counted after the proof, or else anybody could
 *           take up the places of a user whose name he knows.
 */
#include "proxy/session/session.h"

#include "base/check.h"

#include <inttypes.h>
#include <stdio.h>

#define PLACES_UNPROVED_LEAST 1024 /* as many as listen_backlog lets come at once */

bool places_take_unproved(struct worker *w)
{
    struct fleet *fleet = w->fleet;
    uint32_t most = w->hub.snapshot->conf->max_client_conn / 4;
    if (most < PLACES_UNPROVED_LEAST)
        most = PLACES_UNPROVED_LEAST;
    if (most > LOGINS_MAX * fleet->worker_n)
        most = LOGINS_MAX * fleet->worker_n;
    unsigned n = atomic_load(&fleet->login_n);
    do {
        if (n >= most)
            return false;
    } while (!atomic_compare_exchange_weak(&fleet->login_n, &n, n + 1));
    return true;
}

void places_force_unproved(struct fleet *fleet)
{
    atomic_fetch_add(&fleet->login_n, 1);
}

void places_give_unproved(struct fleet *fleet)
{
    unsigned was = atomic_fetch_sub(&fleet->login_n, 1);
    CHECK(was > 0);
}

static void refuse(struct session *s, const char *detail)
{
    s->worker->stats.sheds++;
    session_fatal(s, "53300", "sorry, too many clients already", detail,
                  "Retry with backoff and jitter.");
}

static bool is_for_console(const struct conf *conf, const struct startup *startup)
{
    return conf_is_console(startup->database) && (conf_list_has(conf->admin_users, startup->user) ||
                                                  conf_list_has(conf->stats_users, startup->user));
}

bool places_take_client(struct session *s, const struct startup *startup)
{
    const struct conf *conf = s->worker->hub.snapshot->conf;
    atomic_uint *client_n = &s->worker->fleet->client_n;
    char detail[128];
    if (is_for_console(conf, startup))
        return true;
    unsigned n = atomic_load(client_n);
    do {
        if (n >= conf->max_client_conn) {
            snprintf(detail, sizeof detail,
                     "pgweir has as many clients as max_client_conn allows (%" PRIu32 ").",
                     conf->max_client_conn);
            refuse(s, detail);
            return false;
        }
    } while (!atomic_compare_exchange_weak(client_n, &n, n + 1));
    s->counted = true;
    return true;
}

/* One of them; false: the client was told. */
static bool take(struct session *s, unsigned i, const struct budget_key *key, uint32_t limit,
                 const char *what, struct slice name)
{
    struct budget *b = budget_find(key);
    atomic_store(&b->limit, limit);
    if (budget_take(b, limit)) {
        s->places[i] = b;
        return true;
    }
    char detail[256];
    snprintf(detail, sizeof detail, "%s %.*s has as many clients as %s allows (%" PRIu32 ").", what,
             (int)name.n, (const char *)name.p, budget_option(key->kind), limit);
    budget_unref(b);
    refuse(s, detail);
    return false;
}

bool places_take(struct session *s, struct slice user)
{
    const struct conf *conf = s->worker->hub.snapshot->conf;
    const struct conf_database *db = s->set->db;
    char name[CONF_USER_MAX + 1];
    CHECK(user.n < sizeof name); /* what is longer is nobody's name */
    memcpy(name, user.p, user.n);
    name[user.n] = '\0';
    const struct budget_key of_db = {
        .kind = BUDGET_DATABASE_CLIENTS, .entry = db->name, .database = s->set->database};
    const struct budget_key of_user = {.kind = BUDGET_USER_CLIENTS, .user = name};
    return take(s, 0, &of_db, conf_max_db_client_connections(conf, db), "Database",
                slice_of(s->set->database)) &&
           take(s, 1, &of_user, conf_max_user_client_connections(conf, conf_user(conf, user)),
                "User", user);
}

void places_give(struct session *s)
{
    for (unsigned i = 0; i < sizeof s->places / sizeof *s->places; i++) {
        if (!s->places[i])
            continue;
        budget_give(s->places[i]);
        budget_unref(s->places[i]);
        s->places[i] = NULL;
    }
    if (s->counted)
        atomic_fetch_sub(&s->worker->fleet->client_n, 1);
    s->counted = false;
}
