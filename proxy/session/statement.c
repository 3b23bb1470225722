/* proxy/session/statement.c: Parse, Bind, Describe and Close: prepared statements over changing servers
 * (spec/pooling.md 2.3). */
#include "proxy/session/statement_inside.h"

#include "base/check.h"
#include "proxy/wire/take.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- how many names a client may have ---- */

const char statement_full_message[] =
    "the prepared statements of this client would need more than client_statements_memory";

/* One more of this name. The unnamed one takes the place of the one before. */
static bool fits(const struct session *s, struct slice name, uint64_t cost)
{
    uint64_t limit = s->worker->hub.snapshot->conf->client_statements_memory;
    return limit == 0 || name.n == 0 || s->names.bytes + s->pending_bytes + cost <= limit ||
           s->names.bytes + s->pending_bytes + cost <= limit + statement_freed_ahead(s);
}

bool statement_has_room(const struct session *s, struct slice name, size_t body_bytes)
{
    return fits(s, name, stmt_names_cost(name.n, body_bytes, 0, 0));
}

uint64_t statement_cost(struct slice name, const struct stmt *stmt)
{
    return stmt_names_cost(name.n, stmt->text_n, stmt->oids_n, stmt->env_n);
}

void statement_say_full(struct session *s)
{
    char detail[160];
    snprintf(detail, sizeof detail,
             "PGWEIR-STATEMENTS-MEMORY: %" PRIu32 " statements take %" PRIu64
             " bytes, limit %" PRIu64 " (client_statements_memory).",
             s->names.n, s->names.bytes, s->worker->hub.snapshot->conf->client_statements_memory);
    session_error(s, "53400", statement_full_message, detail,
                  "Close or DEALLOCATE statements that are not used any more.");
}

/* ---- Parse ---- */

static void parse_unnamed(struct session *s, struct stmt *stmt, size_t n)
{
    statement_expect(s, REPLY_PARSE, SLICE_NONE, stmt, FOR_CLIENT | UNNAMED_SLOT);
    client_forward(s, n);
    s->unnamed_new = stmt->is_query && s->tx_status != 'E' && !s->session_pooling;
}

/* It outlives its segment, and has not been asked about: what its rows are by now. Once something has been executed
 * that could fail, and undo it. */
void statement_before_sync(struct session *s)
{
    struct stmt *stmt = statement_find(s, SLICE_NONE);
    if (s->unnamed_new && stmt && !s->skipping && statement_server_unnamed(s) == stmt)
        statement_learn(s, SLICE_NONE, SLICE_NONE, stmt);
    s->unnamed_new = false;
}

/* The client's Parse, by the server's name. */
static void forward_parse(struct session *s, struct slice name, struct slice ours, size_t total)
{
    uint8_t head[FRAME_HEAD_BYTES + STMT_NAME_MAX];
    size_t client_head = FRAME_HEAD_BYTES + name.n + 1;
    statement_put_head(head, 'P', total - FRAME_HEAD_BYTES - name.n + ours.n);
    memcpy(head + FRAME_HEAD_BYTES, ours.p, ours.n);
    head[FRAME_HEAD_BYTES + ours.n] = '\0';
    conn_out_copy(s->server->conn, head, FRAME_HEAD_BYTES + ours.n + 1);
    client_drop(s, client_head);
    client_stream(s, total - client_head, false);
}

/* Under a name that is taken at the server too: PostgreSQL may find another error first. */
static void parse_duplicate(struct session *s, struct slice name, size_t total)
{
    statement_send_nothing(s, 0);
    statement_expect(s, REPLY_DUPLICATE, name, NULL, 0);
    forward_parse(s, name, slice_of(TAKEN), total);
}

static bool is_ascii(struct slice name)
{
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] >= 0x80)
            return false;
    return true;
}

/* Behind the Parse of so many bytes comes a Describe of the same name. The input may move by this. */
static bool asks_next(struct session *s, size_t n)
{
    struct message m;
    struct slice name, asked;
    if (client_look(s, n, &m) != FOUND_MESSAGE || m.type != 'D')
        return false;
    struct slice parse = {m.p - n + FRAME_HEAD_BYTES, n - FRAME_HEAD_BYTES};
    struct slice body = {m.p + FRAME_HEAD_BYTES, m.bytes - FRAME_HEAD_BYTES};
    if (body.n < 2 || *body.p != 'S')
        return false;
    body = slice_skip(body, 1);
    return take_cstr(&parse, &name) && take_cstr(&body, &asked) && slice_equals(asked, name);
}

static void parse_named(struct session *s, struct slice name, struct stmt *stmt, size_t n,
                        bool asked)
{
    char buf[STMT_NAME_MAX];
    bool prepared = statement_sql_prepared(s);
    if (prepared && s->tx_status != 'E' && name.n <= DEALLOCATE_NAME_MAX) {
        statement_send_parse(s, name, stmt); /* which SQL's PREPARE may have taken */
        statement_expect(s, REPLY_PARSE_INJECT, SLICE_NONE, NULL, 0);
        statement_close_name(s, name);
    }
    if (!prepared && name.n <= DEALLOCATE_NAME_MAX &&
        !is_ascii(name)) /* PostgreSQL refuses some, in its own words */
        statement_close_name(s, name);
    bool learns = s->tx_status != 'E' && stmt->is_query && !s->session_pooling && !asked;
    if (statement_on_server(s, stmt)) /* what PostgreSQL says of it, it says now */
        statement_close_on_server(s, stmt);
    else if (statement_may_be_there(s, stmt))
        statement_close_name(s, stmt_name(stmt, buf));
    else
        statement_make_room(s);
    statement_expect(s, REPLY_PARSE, name, stmt, FOR_CLIENT | ON_SERVER);
    forward_parse(s, name, stmt_name(stmt, buf), n);
    if (learns)
        statement_learn(s, name, stmt_name(stmt, buf), stmt);
}

/* Names live on one server: that of the session, or, when rewriting is off, the one that got them. */
static bool names_stay(const struct session *s)
{
    return s->session_pooling || s->worker->hub.snapshot->conf->max_prepared_statements == 0;
}

static void keep_server(struct session *s)
{
    if (!s->session_pooling) /* which does so anyway */
        state_pin(s, LEFT_STATEMENT);
}

void statement_parse(struct session *s, size_t n)
{
    bool asked = asks_next(s, n);
    const uint8_t *p = conn_in_contiguous(s->conn, n);
    struct slice body = {p + FRAME_HEAD_BYTES, n - FRAME_HEAD_BYTES}, name, text;
    if (!take_cstr(&body, &name) || !take_cstr(&body, &text) || body.n < 2 ||
        body.n !=
            2 + 4 * (size_t)slice_u16(body.p)) { /* which PostgreSQL refuses whatever it names */
        statement_expect(s, REPLY_PARSE, SLICE_NONE, NULL, 0);
        client_forward(s, n);
        return;
    }
    bool as_it_is = names_stay(s);
    if (name.n > 0 && as_it_is && s->on_replica) { /* it would keep the client there for ever */
        statement_send_poison(s, REPLY_REFUSED, name);
        client_drop(s, n);
        return;
    }
    if (name.n > 0 && as_it_is) {
        keep_server(s);
        statement_expect(s, REPLY_PARSE, SLICE_NONE, NULL, 0);
        client_forward(s, n);
        return;
    }
    struct sql_env env = statement_sql_env(s);
    struct stmt *stmt =
        stmt_intern(&s->worker->hub.stmts, text, slice_skip(body, 2), state_parse_env(s), &env);
    if (client_must_refuse(s, stmt_facts(stmt, &env))) {
        statement_send_poison(s, REPLY_REFUSED, name);
        client_drop(s, n);
    } else if (name.n == 0) {
        parse_unnamed(s, stmt, n);
    } else if (statement_find(s, name)) {
        parse_duplicate(s, name, n);
    } else if (!fits(s, name, statement_cost(name, stmt))) {
        statement_send_poison(s, REPLY_FULL, name);
        client_drop(s, n);
    } else {
        parse_named(s, name, stmt, n, asked);
    }
    stmt_unref(stmt);
}

/* It is on this server only, under the client's own name, and the client stays there. */
void statement_parse_long(struct session *s, const uint8_t *p, size_t have, size_t total)
{
    struct slice body = {p + FRAME_HEAD_BYTES, have - FRAME_HEAD_BYTES}, name;
    if (take_cstr(&body, &name) && name.n > 0 && statement_find(s, name)) {
        parse_duplicate(s, name, total);
        return;
    }
    if (s->on_replica) { /* in a READ ONLY transaction: its writes would go there for ever */
        statement_send_poison(s, REPLY_REFUSED, name);
        client_stream(s, total, true);
        return;
    }
    keep_server(s);
    statement_expect(s, REPLY_PARSE, SLICE_NONE, NULL, name.n == 0 ? UNNAMED_SLOT : 0);
    if (name.n == 0) {
        statement_forget_unnamed(s);
        s->unnamed_kept = true;
    }
    client_stream(s, total, false);
}

bool statement_is_proven(struct session *s, const uint8_t *p, size_t n, bool adopt)
{
    struct slice body = {p + FRAME_HEAD_BYTES, n - FRAME_HEAD_BYTES}, name, text;
    if (!take_cstr(&body, &name) || !take_cstr(&body, &text) || body.n < 2 ||
        body.n != 2 + 4 * (size_t)slice_u16(body.p) || name.n == 0 || statement_find(s, name) ||
        s->worker->hub.snapshot->conf->max_prepared_statements == 0)
        return false;
    struct sql_env env = statement_sql_env(s);
    struct stmt *stmt =
        stmt_intern(&s->worker->hub.stmts, text, slice_skip(body, 2), state_parse_env(s), &env);
    struct stmt_set *set = &s->set->proven;
    bool proven = stmt_set_has(set, stmt) && !stmt_set_is_stale(set, stmt) &&
                  !(s->state_of.left & LEFT_PREPARED) && /* which may have taken the name */
                  fits(s, name, statement_cost(name, stmt));
    if (proven && adopt)
        statement_set_name(s, name, stmt);
    stmt_unref(stmt);
    return proven;
}

enum adopted statement_adopt(struct session *s, const uint8_t *p, size_t n, bool adopt)
{
    struct slice body = {p + FRAME_HEAD_BYTES, n - FRAME_HEAD_BYTES}, name, text;
    if (!take_cstr(&body, &name) || !take_cstr(&body, &text) || body.n < 2 ||
        body.n != 2 + 4 * (size_t)slice_u16(body.p) || (name.n > 0 && statement_find(s, name)))
        return ADOPT_TAKEN;
    struct slice oids = slice_skip(body, 2), parse_env = state_parse_env(s);
    if (!fits(s, name, stmt_names_cost(name.n, text.n, oids.n, parse_env.n)))
        return ADOPT_FULL;
    if (!adopt)
        return ADOPTED;
    struct sql_env env = statement_sql_env(s);
    struct stmt *stmt = stmt_intern(&s->worker->hub.stmts, text, oids, parse_env, &env);
    statement_set_name(s, name, stmt);
    stmt_unref(stmt);
    return ADOPTED;
}

/* ---- Bind, Describe, Close ---- */

/* In a failed transaction the server takes no Parse of a statement that it lacks. What its Bind would say of that, it
 * says of nothing with as many parameters. */
static bool stands_in(struct session *s, struct slice name, const struct sql_facts *facts,
                      struct slice values)
{
    const uint32_t control = SQL_F_TX_END | SQL_F_SAVEPOINT | SQL_F_BEGIN;
    const struct stmt *stmt = statement_find(s, name);
    if (!statement_tx_failed(s) || !stmt || facts->flags & control ||
        (name.n > 0 ? statement_on_server(s, stmt) : statement_server_unnamed(s) == stmt))
        return false;
    size_t formats = values.n < 2 ? 0 : 2 + 2 * (size_t)slice_u16(values.p);
    if (formats == 0 || values.n < formats + 2)
        return false;
    unsigned params = slice_u16(values.p + formats);
    if (params > NOTHING_PARAMS_MAX)
        return false;
    statement_send_nothing(s, params);
    return true;
}

/* A name that is used for the first time is parsed now, and what its rows are is known from now on. */
static struct slice bound_name(struct session *s, struct slice name, char buf[STMT_NAME_MAX])
{
    struct stmt *stmt = statement_find(s, name);
    bool first = statement_is_first_use(s, name, stmt);
    if (first && statement_on_server(s, stmt))
        statement_close_on_server(s, stmt);
    struct slice ours = statement_server_name(s, name, buf);
    if (first)
        statement_learn(s, name, ours, stmt);
    return ours;
}

void statement_bind(struct session *s, const uint8_t *p, size_t have, size_t total)
{
    char buf[STMT_NAME_MAX];
    struct slice body = {p + FRAME_HEAD_BYTES, have - FRAME_HEAD_BYTES}, portal, name;
    if (!take_cstr(&body, &portal) || !take_cstr(&body, &name)) {
        reply_push(s, REPLY_BIND); /* whose error is PostgreSQL's own */
        client_stream(s, total, false);
        return;
    }
    const struct sql_facts *facts = statement_facts(s, name);
    struct slice text = statement_text(s, name);
    struct stmt *runs = facts ? statement_runs_another(s, facts, text) : NULL;
    if (runs) {
        struct sql_env env = statement_sql_env(s);
        facts = stmt_facts(runs, &env);
        text = stmt_text(runs);
    }
    if (facts && client_must_refuse(s, facts)) {
        statement_send_poison(s, REPLY_REFUSED, SLICE_NONE);
        client_stream(s, total, true);
        return;
    }
    if (facts) {
        client_note_facts(s, facts);
        state_saw(s, facts, text, body);
        explain_held(s, facts, text);
    } else if (s->tx_status == 'I') {
        s->writes = true;
    }
    bool fails = stands_in(s, name, facts, body);
    struct slice ours = fails ? slice_of(TAKEN) : bound_name(s, name, buf);
    statement_bind_sql(s, portal, statement_find(s, name));
    size_t names = portal.n + 1 + name.n + 1, new_names = portal.n + 1 + ours.n + 1;
    size_t body_bytes = total - FRAME_HEAD_BYTES - names + new_names;
    if (body_bytes > CLIENT_BODY_MAX) {
        session_fatal(s, "08P01", "invalid message length", NULL, NULL);
        return;
    }
    reply_push(s, REPLY_BIND);
    if (slice_equals(ours, name)) {
        client_stream(s, total, false);
        return;
    }
    uint8_t *out = conn_out_reserve(s->server->conn, FRAME_HEAD_BYTES + new_names);
    statement_put_head(out, 'B', body_bytes);
    memcpy(out + FRAME_HEAD_BYTES, portal.p, portal.n + 1);
    memcpy(out + FRAME_HEAD_BYTES + portal.n + 1, ours.p, ours.n);
    out[FRAME_HEAD_BYTES + new_names - 1] = '\0';
    conn_out_commit(s->server->conn, FRAME_HEAD_BYTES + new_names);
    client_drop(s, FRAME_HEAD_BYTES + names);
    client_stream(s, total - FRAME_HEAD_BYTES - names, false);
}

void statement_describe(struct session *s, const uint8_t *p, size_t n)
{
    char buf[STMT_NAME_MAX];
    struct slice body = {p + FRAME_HEAD_BYTES, n - FRAME_HEAD_BYTES}, name;
    if (body.n < 2 || body.p[0] != 'S') {
        reply_push(s, REPLY_DESCRIBE);
        client_forward(s, n);
        return;
    }
    body = slice_skip(body, 1);
    if (!take_cstr(&body, &name) || body.n > 0) {
        reply_push(s, REPLY_DESCRIBE);
        client_forward(s, n);
        return;
    }
    struct stmt *stmt = s->session_pooling ? NULL : statement_find(s, name);
    if (statement_is_first_use(s, name, stmt) && statement_on_server(s, stmt))
        statement_close_on_server(s, stmt);
    if (name.n == 0)
        s->unnamed_new = false;
    struct slice ours = statement_server_name(s, name, buf);
    if (stmt)
        statement_expect(s, REPLY_DESCRIBE_TOLD, name, stmt, 0);
    else
        reply_push(s, REPLY_DESCRIBE);
    if (slice_equals(ours, name)) {
        client_forward(s, n);
        return;
    }
    statement_send_describe(s, ours);
    client_drop(s, n);
}

void statement_close(struct session *s, const uint8_t *p, size_t n)
{
    struct slice body = {p + FRAME_HEAD_BYTES, n - FRAME_HEAD_BYTES}, name;
    bool statement = body.n >= 2 && body.p[0] == 'S';
    if (statement) {
        body = slice_skip(body, 1);
        statement =
            take_cstr(&body, &name) && body.n == 0 &&
            (name.n == 0 || statement_name_is_ours(name) || statement_find(s, name) != NULL);
    }
    if (!statement) { /* a portal, or a name that only the server may know */
        reply_push(s, REPLY_CLOSE);
        client_forward(s, n);
        return;
    }
    statement_expect(s, REPLY_CLOSE_FAKE, name, NULL, FOR_CLIENT);
    client_drop(s, n);
    reply_say_fakes(s);
}
