/* proxy/session/statement_server.c: prepared statements at the server: what is sent ahead of the client's messages. */
#include "proxy/session/statement_inside.h"

#include "base/check.h"

/* ---- messages ---- */

void statement_put_head(uint8_t *p, uint8_t type, size_t body_bytes)
{
    uint32_t n = (uint32_t)(body_bytes + 4);
    p[0] = type;
    p[1] = (uint8_t)(n >> 24);
    p[2] = (uint8_t)(n >> 16);
    p[3] = (uint8_t)(n >> 8);
    p[4] = (uint8_t)n;
}

void statement_send_close(struct session *s, struct slice name)
{
    uint8_t bytes[DEALLOCATE_NAME_MAX + 16];
    struct put o = put_into(bytes, sizeof bytes);
    put_close_statement(&o, name);
    CHECK(!o.full);
    conn_out_copy(s->server->conn, o.p, o.n);
}

/* Our Close of it is unanswered, and in a segment before this one: if that failed ahead of it, it is still there. */
bool statement_may_be_there(const struct session *s, const struct stmt *stmt)
{
    for (const struct pending *p = s->pending; p; p = p->next)
        if (p->stmt == stmt && p->closes && p->segment != s->segment_serial)
            return true;
    return false;
}

void statement_send_parse(struct session *s, struct slice name, const struct stmt *stmt)
{
    if (statement_name_is_ours(name) && statement_may_be_there(s, stmt))
        statement_close_name(s, name);
    size_t n = FRAME_HEAD_BYTES + name.n + 1 + stmt->text_n + 1 + 2 + stmt->oids_n;
    struct put o = put_into(conn_out_reserve(s->server->conn, n), n);
    put_parse(&o, name, stmt_text(stmt), stmt_oids(stmt));
    CHECK(!o.full);
    conn_out_commit(s->server->conn, o.n);
}

void statement_send_describe(struct session *s, struct slice name)
{
    uint8_t out[FRAME_HEAD_BYTES + 1 + STMT_NAME_MAX];
    statement_put_head(out, 'D', 1 + name.n + 1);
    out[FRAME_HEAD_BYTES] = 'S';
    if (name.n)
        memcpy(out + FRAME_HEAD_BYTES + 1, name.p, name.n);
    out[FRAME_HEAD_BYTES + 1 + name.n] = '\0';
    conn_out_copy(s->server->conn, out, FRAME_HEAD_BYTES + 1 + name.n + 1);
}

void statement_close_on_server(struct session *s, struct stmt *stmt)
{
    char buf[STMT_NAME_MAX];
    statement_send_close(s, stmt_name(stmt, buf));
    statement_expect(s, REPLY_CLOSE_INJECT, SLICE_NONE, stmt, ON_SERVER);
    stmt_set_remove(&s->server->stmts, stmt); /* what comes behind this does not find it */
}

void statement_close_name(struct session *s, struct slice name)
{
    statement_send_close(s, name);
    statement_expect(s, REPLY_CLOSE_INJECT, SLICE_NONE, NULL, 0);
}

/* ---- a statement is there ---- */

/* Room for one more statement on the server: the least recently used one is closed. */
void statement_make_room(struct session *s)
{
    uint32_t most = s->worker->hub.snapshot->conf->max_prepared_statements;
    struct stmt *oldest = stmt_set_oldest(&s->server->stmts);
    if (!oldest || s->server->stmts.n < most)
        return;
    for (const struct pending *p = s->pending; p; p = p->next)
        if (p->stmt == oldest)
            return; /* this segment uses it; the next one makes room */
    statement_close_on_server(s, oldest);
}

/* One whose plan is stale would fail for ever: it goes, and the next Parse brings it again. */
void statement_drop_stale(struct session *s, struct stmt *stmt)
{
    if (s->tx_status != 'E' && stmt_set_is_stale(&s->server->stmts, stmt) &&
        statement_on_server(s, stmt))
        statement_close_on_server(s, stmt);
}

void statement_ensure_named(struct session *s, struct stmt *stmt)
{
    char buf[STMT_NAME_MAX];
    statement_drop_stale(s, stmt);
    if (statement_on_server(s, stmt))
        return;
    statement_make_room(s);
    statement_send_parse(s, stmt_name(stmt, buf), stmt);
    statement_expect(s, REPLY_PARSE_INJECT, SLICE_NONE, stmt, ON_SERVER);
}

void statement_parse_unnamed_here(struct session *s, struct stmt *stmt)
{
    statement_send_parse(s, SLICE_NONE, stmt);
    statement_expect(s, REPLY_PARSE_INJECT, SLICE_NONE, stmt, UNNAMED_SLOT);
}

/* The server's unnamed statement may be another client's: then ours is put there first. */
static void ensure_unnamed(struct session *s, struct stmt *stmt)
{
    if (stmt ? statement_server_unnamed(s) == stmt : s->unnamed_kept)
        return;
    if (stmt) {
        statement_parse_unnamed_here(s, stmt);
    } else { /* none: PostgreSQL's own error must come, not the other client's statement */
        statement_send_close(s, SLICE_NONE);
        statement_expect(s, REPLY_CLOSE_INJECT, SLICE_NONE, NULL, UNNAMED_SLOT);
    }
}

/* Nobody reaches another client's statement by its name at the server. */
bool statement_name_is_ours(struct slice name)
{
    return name.n >= sizeof OUR_PREFIX - 1 &&
           memcmp(name.p, OUR_PREFIX, sizeof OUR_PREFIX - 1) == 0;
}

/* The name at the server for the client's name. Unknown ones go as they are: PostgreSQL says so. */
struct slice statement_server_name(struct session *s, struct slice name, char buf[STMT_NAME_MAX])
{
    struct stmt *stmt = statement_at_server(s, statement_find(s, name));
    struct slice ours = name;
    if (name.n == 0) {
        ensure_unnamed(s, stmt);
    } else if (stmt) {
        statement_ensure_named(s, stmt);
        ours = stmt_name(stmt, buf);
    } else if (statement_name_is_ours(name)) {
        ours = slice_of(POISON);
    }
    stmt_unref(stmt);
    return ours;
}

/* ---- errors in their right place ---- */

/* The transaction, and nothing under way can end it. */
bool statement_tx_failed(const struct session *s)
{
    return s->tx_status == 'E' && s->replies.n == 0;
}

/* A statement of nothing is accepted in a failed transaction too. It stays until the next one, for what comes behind
 * it fails. */
void statement_send_nothing(struct session *s, unsigned params)
{
    enum { TEXT_OID = 25 };
    uint8_t bytes[64 + 4 * NOTHING_PARAMS_MAX], oids[4 * NOTHING_PARAMS_MAX] = {0};
    struct put o = put_into(bytes, sizeof bytes);
    CHECK(params <= NOTHING_PARAMS_MAX);
    for (unsigned i = 0; i < params; i++)
        oids[4 * i + 3] = TEXT_OID;
    statement_close_name(s, slice_of(TAKEN));
    put_parse(&o, slice_of(TAKEN), SLICE_NONE, (struct slice){oids, 4 * (size_t)params});
    CHECK(!o.full);
    conn_out_copy(s->server->conn, o.p, o.n);
    statement_expect(s, REPLY_PARSE_INJECT, SLICE_NONE, NULL, 0);
}

/* The name is taken at the server for as long as PostgreSQL needs to see it. */
void statement_take_name(struct session *s, struct slice name)
{
    uint8_t bytes[DEALLOCATE_NAME_MAX + 32];
    struct put o = put_into(bytes, sizeof bytes);
    put_parse(&o, name, SLICE_NONE, SLICE_NONE);
    CHECK(!o.full);
    conn_out_copy(s->server->conn, o.p, o.n);
    statement_expect(s, REPLY_PARSE_INJECT, SLICE_NONE, NULL, 0);
}

/* An error in its right place: a Bind that must fail, whose error is replaced when it comes. */
void statement_send_poison(struct session *s, enum reply reply, struct slice name)
{
    static const uint8_t bind[] =
        "B\0\0\0\x18\0" POISON "\0\0\0\0\0\0"; /* no parameters, no formats */
    _Static_assert(sizeof bind == 1 + 0x18, "the length counts all but the type");
    conn_out_copy(s->server->conn, bind, sizeof bind);
    statement_expect(s, reply, name, NULL, 0);
}

void statement_poison(struct session *s, enum reply reply)
{
    statement_send_poison(s, reply, SLICE_NONE);
}
