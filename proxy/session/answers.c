/* proxy/session/answers.c: segments that need no server: what they ask for is known here. */
#include "proxy/session/session.h"

#include "base/check.h"
#include "proxy/session/settings.h"
#include "router/deallocate.h"

/* ---- names alone ---- */

/* Sync and Close need no server when nothing else is there. True: answered here. */
static bool answer_alone(struct session *s, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        struct message m;
        if (client_look(s, 0, &m) != FOUND_MESSAGE)
            CHECK_UNREACHABLE();
        if (m.type == 'C') {
            client_close_locally(s, &m);
            if (s->state != SESSION_READY)
                return true;
        } else if (m.type == 'S') {
            session_notice_ready(s);
        }
        done += m.bytes;
        conn_in_drop(s->conn, m.bytes);
    }
    return true;
}

/* One Parse: of two, the second may not fit the first, and PostgreSQL should say so. */
static bool is_proven_parse(struct session *s, size_t bytes)
{
    struct message m;
    unsigned parses = 0;
    for (size_t at = 0; at < bytes; at += m.bytes) {
        if (client_look(s, at, &m) != FOUND_MESSAGE)
            return false;
        if (m.type == 'P' && (++parses > 1 || !statement_is_proven(s, m.p, m.bytes, false)))
            return false;
    }
    return true;
}

/* A segment of Parse and Sync alone is PostgreSQL's to answer, which looks at the tables as they are. But clients that
 * prepare one after the other while others of theirs hold all servers would wait for themselves: what would wait, and
 * is known, is answered here, and parsed when it is used. */
bool answers_while_waiting(struct session *s, const struct collecting *c)
{
    static const uint8_t parse_complete[] = {'1', 0, 0, 0, 4};
    if (c->not_parse || !waiter_waits(&s->waiter) || s->session_pooling ||
        !is_proven_parse(s, c->bytes))
        return false;
    pool_withdraw(&s->waiter);
    for (size_t done = 0; done < c->bytes;) {
        struct message m;
        CHECK(client_look(s, 0, &m) == FOUND_MESSAGE); /* it was a moment ago */
        if (m.type == 'P') {
            statement_is_proven(s, m.p, m.bytes, true);
            conn_out_copy(s->conn, parse_complete, sizeof parse_complete);
        } else {
            session_notice_ready(s);
        }
        done += m.bytes;
        client_drop(s, m.bytes);
    }
    return true;
}

/* ---- DEALLOCATE, DISCARD ALL ---- */

static void say_done(struct session *s, const struct message *m, const char *tag)
{
    uint8_t bytes[32];
    struct put o = put_into(bytes, sizeof bytes);
    statement_forget_unnamed(s); /* as every simple query does */
    s->worker->stats.queries++;
    put_command_complete(&o, tag);
    conn_out_copy(s->conn, o.p, o.n);
    if (s->state_of.discarded)
        state_discard(s);
    session_notice_ready(s);
    client_drop(s, m->bytes);
}

/* Of a statement that the client has prepared by the protocol: servers keep theirs for others. */
static bool answer_deallocate(struct session *s, const struct message *m)
{
    struct deallocate d;
    deallocate_read(client_query_text(m), !s->odd_strings, &d);
    struct slice name = {d.name, d.name_n};
    if (d.kind == DEALLOCATE_ALL)
        stmt_names_clear(&s->names);
    else if (d.kind == DEALLOCATE_ONE && stmt_names_get(&s->names, name))
        stmt_names_remove(&s->names, name);
    else
        return false;
    say_done(s, m, d.kind == DEALLOCATE_ALL ? "DEALLOCATE ALL" : "DEALLOCATE");
    return true;
}

/* No server has anything of this client's: what is known of it here goes back to its login. */
static bool answer_discard_all(struct session *s, const struct message *m)
{
    if (s->tx_status != 'I')
        return false;
    stmt_names_clear(&s->names);
    settings_discard(s);
    s->state_of.discarded = true;
    say_done(s, m, "DISCARD ALL");
    return true;
}

static bool answer_query(struct session *s, size_t bytes)
{
    struct message m;
    if (s->session_pooling || s->segment.statements != 1 ||
        client_look(s, 0, &m) != FOUND_MESSAGE || m.type != 'Q' || m.bytes != bytes)
        return false;
    if (s->segment.class == SQL_DEALLOCATE)
        return answer_deallocate(s, &m);
    return s->segment.flags & SQL_F_DISCARD_ALL && answer_discard_all(s, &m);
}

bool answers_segment(struct session *s, const struct collecting *c)
{
    if (!c->not_local)
        return answer_alone(s, c->bytes);
    return !s->server && answer_query(s, c->bytes);
}
