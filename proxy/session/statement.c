/* proxy/session/statement.c: prepared statements over changing servers (spec/pooling.md 2.3).
 *
 * A client's name becomes true when the ParseComplete of its place comes. Look-ups see what is pending.
 */
#include "proxy/session/session.h"

#include "base/check.h"
#include "proxy/wire/description.h"
#include "proxy/wire/take.h"
#include "router/deallocate.h"

#include <stdlib.h>

#define OUR_PREFIX "_pgweir_"
#define POISON "_pgweir_none"
#define GONE "_pgweir_gone"
#define TAKEN "_pgweir_taken"
#define NOTHING_PARAMS_MAX 64

/* ---- pending changes: one for each expected reply that has_pending() ---- */

static bool has_pending(enum reply reply)
{
    switch (reply) {
    case REPLY_PARSE:
    case REPLY_PARSE_INJECT:
    case REPLY_PARSE_FAKE:
    case REPLY_CLOSE_INJECT:
    case REPLY_CLOSE_FAKE:
    case REPLY_DUPLICATE:
    case REPLY_REFUSED:
    case REPLY_STALE:
    case REPLY_SETTING:
    case REPLY_DESCRIBE_TOLD:
    case REPLY_DESCRIBE_INJECT:
        return true;
    case REPLY_BIND:
    case REPLY_DESCRIBE:
    case REPLY_EXECUTE:
    case REPLY_CLOSE:
    case REPLY_SYNC:
    case REPLY_SYNC_INJECT:
    case REPLY_QUERY:
    case REPLY_RESTORE:
    case REPLY_FUNCTION:
        return false;
    }
    CHECK_UNREACHABLE();
}

enum { FOR_CLIENT = 1, ON_SERVER = 2, UNNAMED_SLOT = 4, PORTAL = 8 };

static void expect(struct session *s, enum reply reply, struct slice name, struct stmt *stmt,
                   int what)
{
    struct pending *p = malloc(sizeof *p + name.n);
    CHECK(p != NULL);
    *p = (struct pending){.stmt = stmt ? stmt_ref(stmt) : NULL,
                          .name_n = (uint32_t)name.n,
                          .on_server = (what & ON_SERVER) != 0,
                          .for_client = (what & FOR_CLIENT) != 0,
                          .unnamed_slot = (what & UNNAMED_SLOT) != 0,
                          .portal = (what & PORTAL) != 0,
                          .closes = reply == REPLY_CLOSE_INJECT,
                          .tells = reply == REPLY_DESCRIBE_TOLD,
                          .segment = s->segment_serial};
    if (name.n)
        memcpy(p->name, name.p, name.n);
    if (s->pending)
        s->pending_last->next = p;
    else
        s->pending = p;
    s->pending_last = p;
    reply_push(s, reply);
}

static struct pending *pop_pending(struct session *s)
{
    struct pending *p = s->pending;
    CHECK(p != NULL);
    s->pending = p->next;
    return p;
}

static void free_pending(struct pending *p)
{
    stmt_unref(p->stmt);
    free(p);
}

static struct pending *pop_guarded(struct session *s)
{
    struct pending *p = s->guarded;
    s->guarded = p->next;
    return p;
}

static void set_bound(struct session *s, struct stmt *stmt)
{
    stmt_unref(s->bound);
    s->bound = stmt ? stmt_ref(stmt) : NULL;
}

void statement_drop_pending(struct session *s)
{
    s->shape_look = SHAPE_IDLE;
    set_bound(s, NULL);
    while (s->pending)
        free_pending(pop_pending(s));
    while (s->guarded)
        free_pending(pop_guarded(s));
}

void statement_forget_unnamed(struct session *s)
{
    stmt_unref(s->unnamed);
    s->unnamed = NULL;
    s->unnamed_told = (struct stmt_shape){0};
    s->unnamed_kept = false;
}

/* PostgreSQL drops the old unnamed statement before it looks at the new text. */
void statement_failed(struct session *s, enum reply reply)
{
    if (!has_pending(reply))
        return;
    struct pending *p = pop_pending(s);
    if (p->unnamed_slot)
        stmt_set_unnamed(&s->server->stmts, NULL);
    if (p->unnamed_slot && reply == REPLY_PARSE)
        statement_forget_unnamed(s);
    if (reply == REPLY_DESCRIBE_INJECT)
        s->shape_look = SHAPE_IDLE;
    free_pending(p);
}

void statement_dropped(struct session *s, enum reply reply)
{
    if (!has_pending(reply))
        return;
    struct pending *p = pop_pending(s);
    if (p->on_server && p->stmt && reply == REPLY_CLOSE_INJECT) /* the server has skipped it */
        stmt_set_add(&s->server->stmts, p->stmt);
    if (reply == REPLY_DESCRIBE_INJECT)
        s->shape_look = SHAPE_IDLE;
    free_pending(p);
}

void statement_forget_all(struct session *s)
{
    stmt_names_clear(&s->names);
    statement_forget_unnamed(s);
}

static struct slice pending_name(const struct pending *p)
{
    return (struct slice){p->name, p->name_n};
}

static void set_name(struct session *s, struct slice name, struct stmt *stmt)
{
    if (name.n == 0) {
        statement_forget_unnamed(s);
        s->unnamed = stmt ? stmt_ref(stmt) : NULL;
    } else if (stmt) {
        stmt_names_put(&s->names, name, stmt);
    } else {
        stmt_names_remove(&s->names, name);
    }
}

static void tell(struct session *s, const struct pending *p)
{
    struct slice name = pending_name(p);
    if (p->portal)
        stmt_names_tell_all(&s->names, p->stmt, p->shape);
    else if (name.n > 0)
        stmt_names_tell(&s->names, name, p->shape);
    else if (s->unnamed == p->stmt)
        s->unnamed_told = p->shape;
}

static void change_client(struct session *s, const struct pending *p)
{
    if (p->tells)
        tell(s, p);
    else
        set_name(s, pending_name(p), p->stmt);
}

void statement_replan(struct session *s)
{
    stmt_table_replan(&s->worker->hub.stmts);
    stmt_set_clear(&s->set->proven);
}

/* Other servers of this database have said something else: what they have does not fit the tables any more. A replica
 * may only be behind, and a temporary table is this session's. */
static bool is_news(struct session *s, const struct pending *p)
{
    struct stmt_shape was = stmt_set_shape_of(&s->set->proven, p->stmt);
    return !s->on_replica && !(s->state_of.left & LEFT_TEMP) && !stmt_shape_fits(was, p->shape);
}

/* What the server has, by its own word. */
static void note_shape(struct session *s, const struct pending *p)
{
    struct stmt_set *set = &s->server->stmts;
    if (is_news(s, p))
        statement_replan(s);
    stmt_set_shape(&s->set->proven, p->stmt, p->shape);
    if (p->portal || p->name_n > 0)
        stmt_set_shape(set, p->stmt, p->shape);
    else if (set->unnamed == p->stmt)
        set->unnamed_shape = p->shape;
}

/* PostgreSQL has accepted it for this database, user and way of reading SQL. */
static void prove(struct session *s, struct stmt *stmt)
{
    struct stmt_set *proven = &s->set->proven;
    if (proven->n >= POOL_PROVEN_MAX)
        stmt_set_remove(proven, stmt_set_oldest(proven));
    if (stmt_set_is_stale(proven, stmt))
        stmt_set_remove(proven, stmt);
    stmt_set_add(proven, stmt);
}

void statement_complete(struct session *s, enum reply reply)
{
    if (!has_pending(reply))
        return;
    struct pending *p = pop_pending(s);
    if (p->on_server && p->stmt && reply == REPLY_CLOSE_INJECT)
        stmt_set_remove(&s->server->stmts, p->stmt);
    else if (p->on_server && p->stmt)
        stmt_set_add(&s->server->stmts, p->stmt);
    if (p->on_server && p->stmt && reply == REPLY_PARSE)
        prove(s, p->stmt);
    if (p->unnamed_slot)
        stmt_set_unnamed(&s->server->stmts, p->stmt);
    if (reply == REPLY_DESCRIBE_TOLD || reply == REPLY_DESCRIBE_INJECT)
        note_shape(s, p);
    if (reply == REPLY_DESCRIBE_INJECT) {
        s->shape = p->shape;
        s->shape_look = SHAPE_ANSWERED;
    }
    if ((p->for_client || p->tells) && s->guard) { /* not true yet: it may run elsewhere */
        p->next = NULL;
        if (s->guarded)
            s->guarded_last->next = p;
        else
            s->guarded = p;
        s->guarded_last = p;
        return;
    }
    if (p->for_client || p->tells)
        change_client(s, p);
    free_pending(p);
}

void statement_guard_passed(struct session *s)
{
    while (s->guarded) {
        struct pending *p = pop_guarded(s);
        change_client(s, p);
        free_pending(p);
    }
}

/* ---- looking up ---- */

static struct stmt *find(const struct session *s, struct slice name)
{
    struct stmt *found = name.n == 0 ? s->unnamed : stmt_names_get(&s->names, name);
    for (const struct pending *p = s->guarded; p; p = p->next)
        if (p->for_client && slice_equals(pending_name(p), name))
            found = p->stmt;
    for (const struct pending *p = s->pending; p; p = p->next) /* the newest word counts */
        if (p->for_client && slice_equals(pending_name(p), name))
            found = p->stmt;
    return found;
}

static bool server_has(struct session *s, const struct stmt *stmt)
{
    bool has = stmt_set_has(&s->server->stmts, stmt);
    for (const struct pending *p = s->pending; p; p = p->next)
        if (p->on_server && p->stmt == stmt)
            has = !p->closes;
    return has;
}

/* What the server's unnamed statement is once all that was sent has been answered, if we know. */
static const struct stmt *server_unnamed(const struct session *s)
{
    const struct stmt *held = s->server->stmts.unnamed;
    for (const struct pending *p = s->pending; p; p = p->next)
        if (p->unnamed_slot)
            held = p->stmt;
    return held;
}

/* The newest change of the unnamed slot, or of stmt on the server, came in an earlier segment and has not
 * been answered: an error before it in that segment would make the server skip it. */
static bool is_slot_unsettled(const struct session *s, const struct stmt *stmt, bool unnamed)
{
    const struct pending *newest = NULL;
    for (const struct pending *p = s->pending; p; p = p->next)
        if (unnamed ? p->unnamed_slot : p->on_server && p->stmt == stmt)
            newest = p;
    return newest && newest->segment != s->segment_serial;
}

/* A Parse of the same text is on its way: if it fails, so does this one. */
static bool is_text_unsettled(const struct session *s, struct slice text)
{
    for (const struct pending *p = s->pending; p; p = p->next)
        if (p->on_server && p->stmt && p->segment != s->segment_serial &&
            slice_equals(stmt_text(p->stmt), text))
            return true;
    return false;
}

/* Whether such a Parse succeeds is not known; within a segment the server skips what follows it. */
bool statement_is_unsettled(const struct session *s, uint8_t type, const uint8_t *p, size_t have)
{
    struct slice body = {p + FRAME_HEAD_BYTES, have - FRAME_HEAD_BYTES}, name;
    bool uses = type == 'B' || type == 'D';
    if (!s->pending)
        return false;
    if (type == 'D' || type == 'C') {
        if (body.n < 2 || *body.p != 'S')
            return false;
        body = slice_skip(body, 1);
    }
    if ((type == 'B' && !take_cstr(&body, &name)) || !take_cstr(&body, &name))
        return false;
    if (name.n == 0) /* else the slot could still hold another client's statement */
        return uses && is_slot_unsettled(s, NULL, true);
    for (const struct pending *was = s->pending; was; was = was->next)
        if (was->for_client && was->segment != s->segment_serial &&
            slice_equals(pending_name(was), name))
            return true;
    if (type == 'P')
        return take_cstr(&body, &name) && is_text_unsettled(s, name);
    const struct stmt *stmt = find(s, name);
    return stmt && uses && is_slot_unsettled(s, stmt, false);
}

struct slice statement_text(const struct session *s, struct slice name)
{
    const struct stmt *stmt = find(s, name);
    return stmt ? stmt_text(stmt) : SLICE_NONE;
}

struct stmt *statement_find(const struct session *s, struct slice name)
{
    return find(s, name);
}

const struct sql_facts *statement_facts(struct session *s, struct slice name)
{
    struct stmt *stmt = find(s, name);
    const struct sql_env env = statement_sql_env(s);
    return stmt ? stmt_facts(stmt, &env) : NULL;
}

struct sql_env statement_sql_env(const struct session *s)
{
    return (struct sql_env){.standard_conforming_strings = !s->odd_strings,
                            .ascii_trail_bytes = s->odd_encoding,
                            .catalog = catalog_use_now(&s->set->catalog)};
}

/* ---- errors that show our names ---- */

/* What the client calls the statement whose place the error takes. */
static struct slice client_name(const struct session *s, struct slice ours)
{
    enum reply reply = s->replies.n > 0 ? (enum reply)s->replies.p[s->replies.head] : REPLY_SYNC;
    if (reply == REPLY_DUPLICATE)
        return pending_name(s->pending);
    return reply == REPLY_BIND ? stmt_names_find(&s->names, ours) : SLICE_NONE;
}

bool statement_tell_error(struct session *s, struct slice body, struct slice message)
{
    const uint8_t *at = memmem(message.p, message.n, OUR_PREFIX, sizeof OUR_PREFIX - 1);
    if (!at)
        return false;
    struct slice before = {message.p, (size_t)(at - message.p)};
    struct slice ours = slice_skip(message, before.n);
    const uint8_t *quote = memchr(at, '"', ours.n);
    ours.n = quote ? (size_t)(quote - at) : ours.n;
    struct slice name = client_name(s, ours);
    if (!name.p)
        return false;
    size_t n = message.n + name.n, cap = body.n + n + FRAME_HEAD_BYTES;
    uint8_t *p = malloc(n + cap);
    CHECK(p != NULL);
    struct put text = put_into(p, n), o = put_into(p + n, cap);
    put_bytes(&text, before);
    put_bytes(&text, name);
    put_bytes(&text, slice_skip(message, before.n + ours.n));
    error_fields_put(&o, body, SLICE_NONE, put_slice(&text));
    CHECK(!text.full && !o.full);
    reply_say(s, o.p, o.n);
    free(p);
    return true;
}

/* ---- messages of ours ---- */

static void put_head(uint8_t *p, uint8_t type, size_t body_bytes)
{
    uint32_t n = (uint32_t)(body_bytes + 4);
    p[0] = type;
    p[1] = (uint8_t)(n >> 24);
    p[2] = (uint8_t)(n >> 16);
    p[3] = (uint8_t)(n >> 8);
    p[4] = (uint8_t)n;
}

static void send_close(struct session *s, struct slice name)
{
    uint8_t bytes[DEALLOCATE_NAME_MAX + 16];
    struct put o = put_into(bytes, sizeof bytes);
    put_close_statement(&o, name);
    CHECK(!o.full);
    conn_out_copy(s->server->conn, o.p, o.n);
}

static void send_parse(struct session *s, struct slice name, const struct stmt *stmt)
{
    size_t n = FRAME_HEAD_BYTES + name.n + 1 + stmt->text_n + 1 + 2 + stmt->oids_n;
    struct put o = put_into(conn_out_reserve(s->server->conn, n), n);
    put_parse(&o, name, stmt_text(stmt), stmt_oids(stmt));
    CHECK(!o.full);
    conn_out_commit(s->server->conn, o.n);
}

static void close_on_server(struct session *s, struct stmt *stmt)
{
    char buf[STMT_NAME_MAX];
    send_close(s, stmt_name(stmt, buf));
    expect(s, REPLY_CLOSE_INJECT, SLICE_NONE, stmt, ON_SERVER);
    stmt_set_remove(&s->server->stmts, stmt); /* what comes behind this does not find it */
}

/* Room for one more statement on the server: the least recently used one is closed. */
static void make_room(struct session *s)
{
    uint32_t most = s->worker->hub.snapshot->conf->max_prepared_statements;
    struct stmt *oldest = stmt_set_oldest(&s->server->stmts);
    if (!oldest || s->server->stmts.n < most)
        return;
    for (const struct pending *p = s->pending; p; p = p->next)
        if (p->stmt == oldest)
            return; /* this segment uses it; the next one makes room */
    close_on_server(s, oldest);
}

/* One whose plan is stale would fail for ever: it goes, and the next Parse brings it again. */
static void drop_stale(struct session *s, struct stmt *stmt)
{
    if (s->tx_status != 'E' && stmt_set_is_stale(&s->server->stmts, stmt) && server_has(s, stmt))
        close_on_server(s, stmt);
}

static void ensure_named(struct session *s, struct stmt *stmt)
{
    char buf[STMT_NAME_MAX];
    drop_stale(s, stmt);
    if (server_has(s, stmt))
        return;
    make_room(s);
    send_parse(s, stmt_name(stmt, buf), stmt);
    expect(s, REPLY_PARSE_INJECT, SLICE_NONE, stmt, ON_SERVER);
}

static void parse_unnamed_here(struct session *s, struct stmt *stmt)
{
    send_parse(s, SLICE_NONE, stmt);
    expect(s, REPLY_PARSE_INJECT, SLICE_NONE, stmt, UNNAMED_SLOT);
}

/* The server's unnamed statement may be another client's: then ours is put there first. */
static void ensure_unnamed(struct session *s, struct stmt *stmt)
{
    if (stmt ? server_unnamed(s) == stmt : s->unnamed_kept)
        return;
    if (stmt) {
        parse_unnamed_here(s, stmt);
    } else { /* none: PostgreSQL's own error must come, not the other client's statement */
        send_close(s, SLICE_NONE);
        expect(s, REPLY_CLOSE_INJECT, SLICE_NONE, NULL, UNNAMED_SLOT);
    }
}

/* Nobody reaches another client's statement by its name at the server. */
static bool is_ours(struct slice name)
{
    return name.n >= sizeof OUR_PREFIX - 1 &&
           memcmp(name.p, OUR_PREFIX, sizeof OUR_PREFIX - 1) == 0;
}

/* ---- SQL's names, in statements of the protocol ---- */

static struct stmt *find_sql(const struct session *s, const struct named *named)
{
    return find(s, (struct slice){named->name, named->name_n});
}

/* `text` with another name in the place of the one that is written there. */
static struct put rename_in(struct slice text, struct slice written, struct slice name)
{
    size_t n = text.n - written.n + name.n, before = (size_t)(written.p - text.p);
    uint8_t *bytes = malloc(n + 1);
    CHECK(bytes != NULL);
    struct put o = put_into(bytes, n);
    put_bytes(&o, (struct slice){text.p, before});
    put_bytes(&o, name);
    put_bytes(&o, slice_skip(text, before + written.n));
    CHECK(!o.full);
    return o;
}

static struct stmt *intern_like(struct session *s, const struct stmt *stmt, struct slice text)
{
    struct sql_env env = statement_sql_env(s);
    return stmt_intern(&s->worker->hub.stmts, text, stmt_oids(stmt), state_parse_env(s), &env);
}

/* EXECUTE: the same of the server's name, which has to be there. What an EXECUTE executes is not looked up again. */
static struct stmt *execute_at_server(struct session *s, struct stmt *stmt)
{
    struct named named;
    char buf[STMT_NAME_MAX];
    named_read(stmt_text(stmt), !s->odd_strings, &named);
    struct slice name = {named.name, named.name_n};
    struct stmt *runs = named.kind == NAMED_EXECUTE ? find_sql(s, &named) : NULL;
    if (runs && runs->facts.class == SQL_EXECUTE)
        return stmt_ref(stmt);
    if (!runs && !(named.kind == NAMED_EXECUTE && is_ours(name)))
        return stmt_ref(stmt);
    if (runs)
        ensure_named(s, runs);
    struct put text =
        rename_in(stmt_text(stmt), named.written, runs ? stmt_name(runs, buf) : slice_of(POISON));
    struct stmt *other = intern_like(s, stmt, put_slice(&text));
    free(text.p);
    return other;
}

/* The name that DEALLOCATE means; none: it is not known, or all are. */
static struct slice deallocated(const struct session *s, const struct stmt *stmt,
                                struct deallocate *d)
{
    deallocate_read(stmt_text(stmt), !s->odd_strings, d);
    struct slice name = {d->name, d->name_n};
    bool one = d->kind == DEALLOCATE_ONE && (find(s, name) || is_ours(name));
    return one ? name : SLICE_NONE;
}

/* What the server gets in place of what the client prepared; with a reference. */
static struct stmt *at_server(struct session *s, struct stmt *stmt)
{
    struct deallocate d;
    if (!stmt)
        return NULL;
    if (s->tx_status == 'E' || stmt->facts.statements != 1)
        return stmt_ref(stmt);
    if (stmt->facts.class == SQL_EXECUTE)
        return execute_at_server(s, stmt);
    if (stmt->facts.class != SQL_DEALLOCATE)
        return stmt_ref(stmt);
    struct slice name = deallocated(s, stmt, &d);
    if (name.n == 0)
        return stmt_ref(stmt);
    return intern_like(s, stmt,
                       slice_of(find(s, name) ? "DEALLOCATE " GONE : "DEALLOCATE " POISON));
}

/* Behind a Bind of a DEALLOCATE its name is not known any more, and there is something for it to deallocate. */
static void bind_deallocate(struct session *s, const struct stmt *stmt)
{
    struct deallocate d;
    uint8_t bytes[128];
    struct put o = put_into(bytes, sizeof bytes);
    if (stmt->facts.class != SQL_DEALLOCATE || s->tx_status == 'E' || stmt->facts.statements != 1)
        return;
    struct slice name = deallocated(s, stmt, &d);
    if (name.n == 0 || !find(s, name))
        return;
    put_close_statement(&o, slice_of(GONE)); /* of a DEALLOCATE that was bound and not executed */
    put_parse(&o, slice_of(GONE), SLICE_NONE, SLICE_NONE);
    CHECK(!o.full);
    conn_out_copy(s->server->conn, o.p, o.n);
    expect(s, REPLY_CLOSE_INJECT, name, NULL, FOR_CLIENT);
    expect(s, REPLY_PARSE_INJECT, SLICE_NONE, NULL, 0);
}

/* The name at the server for the client's name. Unknown ones go as they are: PostgreSQL says so. */
static struct slice server_name(struct session *s, struct slice name, char buf[STMT_NAME_MAX])
{
    struct stmt *stmt = at_server(s, find(s, name));
    struct slice ours = name;
    if (name.n == 0) {
        ensure_unnamed(s, stmt);
    } else if (stmt) {
        ensure_named(s, stmt);
        ours = stmt_name(stmt, buf);
    } else if (is_ours(name)) {
        ours = slice_of(POISON);
    }
    stmt_unref(stmt);
    return ours;
}

/* ---- what rows are ---- */

/* A change of the name, or of what the client was told of it, is under way: it comes from this server. */
static bool is_changing(const struct pending *p, struct slice name)
{
    for (; p; p = p->next)
        if ((p->for_client || p->tells) && !p->portal && slice_equals(pending_name(p), name))
            return true;
    return false;
}

static struct stmt_shape told_of(const struct session *s, struct slice name)
{
    struct stmt_shape told = name.n == 0 ? s->unnamed_told : stmt_names_told(&s->names, name);
    if (told.rows && (is_changing(s->pending, name) || is_changing(s->guarded, name)))
        told.rows = 0;
    return told;
}

static struct stmt_shape server_shape(struct session *s, const struct stmt *stmt, bool unnamed)
{
    struct stmt_set *set = &s->server->stmts;
    if (unnamed)
        return server_unnamed(s) == stmt ? set->unnamed_shape : (struct stmt_shape){0};
    return server_has(s, stmt) && !stmt_set_is_stale(set, stmt) ? stmt_set_shape_of(set, stmt)
                                                                : (struct stmt_shape){0};
}

static void send_describe(struct session *s, struct slice name)
{
    uint8_t out[FRAME_HEAD_BYTES + 1 + STMT_NAME_MAX];
    put_head(out, 'D', 1 + name.n + 1);
    out[FRAME_HEAD_BYTES] = 'S';
    if (name.n)
        memcpy(out + FRAME_HEAD_BYTES + 1, name.p, name.n);
    out[FRAME_HEAD_BYTES + 1 + name.n] = '\0';
    conn_out_copy(s->server->conn, out, FRAME_HEAD_BYTES + 1 + name.n + 1);
}

/* The server gets the statement anew, so that its answer is of now. */
static void ask_shape(struct session *s, struct slice name, struct stmt *stmt)
{
    static const uint8_t flush[] = {'H', 0, 0, 0, 4};
    char buf[STMT_NAME_MAX];
    if (name.n > 0 && server_has(s, stmt))
        close_on_server(s, stmt);
    else if (name.n == 0)
        parse_unnamed_here(s, stmt);
    send_describe(s, server_name(s, name, buf));
    conn_out_copy(s->server->conn, flush, sizeof flush);
    expect(s, REPLY_DESCRIBE_INJECT, name, stmt, 0);
    s->shape_look = SHAPE_ASKED;
}

/* PostgreSQL revalidates queries; what FETCH, EXECUTE and CALL return may change from one to the next. */
static bool has_fixed_rows(struct session *s, struct stmt *stmt)
{
    const struct sql_env env = statement_sql_env(s);
    const struct sql_facts *facts = stmt_facts(stmt, &env);
    return !(facts->flags & (SQL_F_CURSOR | SQL_F_EXECUTE)) && facts->class != SQL_CALL;
}

/* The transaction, and nothing under way can end it. */
static bool has_failed(const struct session *s)
{
    return s->tx_status == 'E' && s->replies.n == 0;
}

enum shape_rc statement_shape(struct session *s, const uint8_t *p, size_t have)
{
    struct slice body = {p + FRAME_HEAD_BYTES, have - FRAME_HEAD_BYTES}, portal, name;
    if (s->session_pooling || s->copy_in || has_failed(s) || !take_cstr(&body, &portal) ||
        !take_cstr(&body, &name))
        return SHAPE_FITS;
    struct stmt_shape told = told_of(s, name);
    struct stmt *stmt = told.rows ? find(s, name) : NULL;
    if (!stmt)
        return SHAPE_FITS;
    if (s->shape_look == SHAPE_ANSWERED) {
        s->shape_look = SHAPE_IDLE;
        return stmt_shape_fits(told, s->shape) ? SHAPE_FITS : SHAPE_CHANGED;
    }
    struct stmt_shape is = server_shape(s, stmt, name.n == 0);
    if (is.rows && stmt_shape_fits(told, is)) /* PostgreSQL itself sees to it that it still is */
        return SHAPE_FITS;
    if (!has_fixed_rows(s, stmt))
        return SHAPE_FITS;
    ask_shape(s, name, stmt);
    return SHAPE_WAIT;
}

void statement_described_types(struct session *s, struct slice body)
{
    s->pending->shape.types = description_types(body);
}

void statement_described(struct session *s, uint8_t type, struct slice body)
{
    s->pending->shape.rows = description_rows(type, body);
}

/* A statement of nothing is accepted in a failed transaction too. It stays until the next one, for what comes behind
 * it fails. */
static void send_nothing(struct session *s, unsigned params)
{
    enum { TEXT_OID = 25 };
    uint8_t bytes[64 + 4 * NOTHING_PARAMS_MAX], oids[4 * NOTHING_PARAMS_MAX] = {0};
    struct put o = put_into(bytes, sizeof bytes);
    CHECK(params <= NOTHING_PARAMS_MAX);
    for (unsigned i = 0; i < params; i++)
        oids[4 * i + 3] = TEXT_OID;
    send_close(s, slice_of(TAKEN));
    expect(s, REPLY_CLOSE_INJECT, SLICE_NONE, NULL, 0);
    put_parse(&o, slice_of(TAKEN), SLICE_NONE, (struct slice){oids, 4 * (size_t)params});
    CHECK(!o.full);
    conn_out_copy(s->server->conn, o.p, o.n);
    expect(s, REPLY_PARSE_INJECT, SLICE_NONE, NULL, 0);
}

/* ---- Parse ---- */

/* The name is taken at the server for as long as PostgreSQL needs to see it. */
static void take_name(struct session *s, struct slice name)
{
    uint8_t bytes[DEALLOCATE_NAME_MAX + 32];
    struct put o = put_into(bytes, sizeof bytes);
    put_parse(&o, name, SLICE_NONE, SLICE_NONE);
    CHECK(!o.full);
    conn_out_copy(s->server->conn, o.p, o.n);
    expect(s, REPLY_PARSE_INJECT, SLICE_NONE, NULL, 0);
}

/* An error in its right place: a Bind that must fail, whose error is replaced when it comes. */
static void send_poison(struct session *s, enum reply reply, struct slice name)
{
    static const uint8_t bind[] =
        "B\0\0\0\x18\0" POISON "\0\0\0\0\0\0"; /* no parameters, no formats */
    _Static_assert(sizeof bind == 1 + 0x18, "the length counts all but the type");
    conn_out_copy(s->server->conn, bind, sizeof bind);
    expect(s, reply, name, NULL, 0);
}

void statement_poison(struct session *s, enum reply reply)
{
    send_poison(s, reply, SLICE_NONE);
}

static void parse_unnamed(struct session *s, struct stmt *stmt, size_t n)
{
    expect(s, REPLY_PARSE, SLICE_NONE, stmt, FOR_CLIENT | UNNAMED_SLOT);
    client_forward(s, n);
}

/* The client's Parse, by the server's name. */
static void forward_parse(struct session *s, struct slice name, struct slice ours, size_t total)
{
    uint8_t head[FRAME_HEAD_BYTES + STMT_NAME_MAX];
    size_t client_head = FRAME_HEAD_BYTES + name.n + 1;
    put_head(head, 'P', total - FRAME_HEAD_BYTES - name.n + ours.n);
    memcpy(head + FRAME_HEAD_BYTES, ours.p, ours.n);
    head[FRAME_HEAD_BYTES + ours.n] = '\0';
    conn_out_copy(s->server->conn, head, FRAME_HEAD_BYTES + ours.n + 1);
    client_drop(s, client_head);
    client_stream(s, total - client_head, false);
}

/* Under a name that is taken at the server too: PostgreSQL may find another error first. */
static void parse_duplicate(struct session *s, struct slice name, size_t total)
{
    send_nothing(s, 0);
    expect(s, REPLY_DUPLICATE, name, NULL, 0);
    forward_parse(s, name, slice_of(TAKEN), total);
}

static void parse_named(struct session *s, struct slice name, struct stmt *stmt, size_t n)
{
    char buf[STMT_NAME_MAX];
    bool prepared = ((s->state_of.left | s->state_of.touched) & LEFT_PREPARED) != 0;
    if (prepared && s->tx_status != 'E' && name.n <= DEALLOCATE_NAME_MAX) {
        take_name(s, name); /* which SQL's PREPARE may have taken */
        send_close(s, name);
        expect(s, REPLY_CLOSE_INJECT, SLICE_NONE, NULL, 0);
    }
    drop_stale(s, stmt);
    /* In a failed transaction the real Parse must go, so that its error comes where it belongs. */
    if (s->tx_status != 'E' && server_has(s, stmt)) {
        expect(s, REPLY_PARSE_FAKE, name, stmt, FOR_CLIENT);
        client_drop(s, n);
        reply_say_fakes(s);
        return;
    }
    if (server_has(
            s, stmt)) /* has the transaction ended after all, it must not be called a duplicate */
        close_on_server(s, stmt);
    else
        make_room(s);
    expect(s, REPLY_PARSE, name, stmt, FOR_CLIENT | ON_SERVER);
    forward_parse(s, name, stmt_name(stmt, buf), n);
}

void statement_parse(struct session *s, const uint8_t *p, size_t n)
{
    struct slice body = {p + FRAME_HEAD_BYTES, n - FRAME_HEAD_BYTES}, name, text;
    if (!take_cstr(&body, &name) || !take_cstr(&body, &text) || body.n < 2 ||
        body.n !=
            2 + 4 * (size_t)slice_u16(body.p)) { /* which PostgreSQL refuses whatever it names */
        expect(s, REPLY_PARSE, SLICE_NONE, NULL, 0);
        client_forward(s, n);
        return;
    }
    uint32_t most = s->worker->hub.snapshot->conf->max_prepared_statements;
    if (name.n > 0 && most == 0 && s->on_replica) { /* it would keep the client there for ever */
        send_poison(s, REPLY_REFUSED, name);
        client_drop(s, n);
        return;
    }
    if (name.n > 0 && most == 0) { /* rewriting is off: the name lives on one server */
        state_pin(s, LEFT_STATEMENT);
        expect(s, REPLY_PARSE, SLICE_NONE, NULL, 0);
        client_forward(s, n);
        return;
    }
    struct sql_env env = statement_sql_env(s);
    struct stmt *stmt =
        stmt_intern(&s->worker->hub.stmts, text, slice_skip(body, 2), state_parse_env(s), &env);
    if (client_must_refuse(s, stmt_facts(stmt, &env))) {
        send_poison(s, REPLY_REFUSED, name);
        client_drop(s, n);
    } else if (name.n == 0) {
        parse_unnamed(s, stmt, n);
    } else if (find(s, name)) {
        parse_duplicate(s, name, n);
    } else {
        parse_named(s, name, stmt, n);
    }
    stmt_unref(stmt);
}

/* It is on this server only, under the client's own name, and the client stays there. */
void statement_parse_long(struct session *s, const uint8_t *p, size_t have, size_t total)
{
    struct slice body = {p + FRAME_HEAD_BYTES, have - FRAME_HEAD_BYTES}, name;
    if (take_cstr(&body, &name) && name.n > 0 && find(s, name)) {
        parse_duplicate(s, name, total);
        return;
    }
    if (s->on_replica) { /* in a READ ONLY transaction: its writes would go there for ever */
        send_poison(s, REPLY_REFUSED, name);
        client_stream(s, total, true);
        return;
    }
    state_pin(s, LEFT_STATEMENT);
    expect(s, REPLY_PARSE, SLICE_NONE, NULL, name.n == 0 ? UNNAMED_SLOT : 0);
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
        body.n != 2 + 4 * (size_t)slice_u16(body.p) || name.n == 0 || find(s, name) ||
        s->worker->hub.snapshot->conf->max_prepared_statements == 0)
        return false;
    struct sql_env env = statement_sql_env(s);
    struct stmt *stmt =
        stmt_intern(&s->worker->hub.stmts, text, slice_skip(body, 2), state_parse_env(s), &env);
    struct stmt_set *set = &s->set->proven;
    bool proven = stmt_set_has(set, stmt) && !stmt_set_is_stale(set, stmt) &&
                  !(s->state_of.left & LEFT_PREPARED); /* which may have taken the name */
    if (proven && adopt)
        set_name(s, name, stmt);
    stmt_unref(stmt);
    return proven;
}

bool statement_adopt(struct session *s, const uint8_t *p, size_t n, bool adopt)
{
    struct slice body = {p + FRAME_HEAD_BYTES, n - FRAME_HEAD_BYTES}, name, text;
    if (!take_cstr(&body, &name) || !take_cstr(&body, &text) || body.n < 2 ||
        body.n != 2 + 4 * (size_t)slice_u16(body.p) || (name.n > 0 && find(s, name)))
        return false;
    if (!adopt)
        return true;
    struct sql_env env = statement_sql_env(s);
    struct stmt *stmt =
        stmt_intern(&s->worker->hub.stmts, text, slice_skip(body, 2), state_parse_env(s), &env);
    set_name(s, name, stmt);
    stmt_unref(stmt);
    return true;
}

/* ---- SQL's DEALLOCATE ---- */

/* On the server nothing goes: others use it. A statement of nothing is prepared there and goes, which brings the
 * tag in its place. Nobody reaches one of ours by its name. */
bool statement_deallocates(struct session *s, struct slice sql)
{
    struct deallocate d;
    uint8_t bytes[128];
    struct put o = put_into(bytes, sizeof bytes);
    if (s->skipping || s->copy_in || s->tx_status == 'E')
        return false;
    deallocate_read(sql, !s->odd_strings, &d);
    struct slice name = {d.name, d.name_n};
    bool known = d.kind == DEALLOCATE_ONE && find(s, name) != NULL;
    if (!known && !(d.kind == DEALLOCATE_ONE && is_ours(name)))
        return false;
    if (known) {
        put_parse(&o, slice_of(GONE), SLICE_NONE, SLICE_NONE);
        expect(s, REPLY_PARSE_INJECT, SLICE_NONE, NULL, 0);
        stmt_names_remove(&s->names, name);
    }
    put_query(&o, slice_of(known ? "DEALLOCATE " GONE : "DEALLOCATE " POISON));
    CHECK(!o.full);
    conn_out_copy(s->server->conn, o.p, o.n);
    return true;
}

/* ---- SQL's EXECUTE and PREPARE, in a query ---- */

static bool names_one(const struct session *s, const struct sql_facts *facts, enum sql_class class)
{
    return facts->class == class && facts->statements == 1 && !s->skipping && !s->copy_in &&
           !s->segment_open && s->tx_status != 'E';
}

struct stmt *statement_executed(struct session *s, const struct sql_facts *facts, struct slice sql)
{
    struct named named;
    if (!names_one(s, facts, SQL_EXECUTE))
        return NULL;
    named_read(sql, !s->odd_strings, &named);
    struct stmt *stmt = named.kind == NAMED_EXECUTE ? find_sql(s, &named) : NULL;
    return stmt && stmt->facts.class != SQL_EXECUTE ? stmt : NULL;
}

/* In a segment of its own: a query behind a Parse that fails would be skipped with it, up to a Sync. */
bool statement_bring(struct session *s, struct stmt *stmt)
{
    static const uint8_t sync[] = {'S', 0, 0, 0, 4};
    bool came = s->bringing == BRING_WAITS;
    s->bringing = BRING_NONE;
    if (came || (server_has(s, stmt) && !stmt_set_is_stale(&s->server->stmts, stmt)))
        return true;
    ensure_named(s, stmt);
    conn_out_copy(s->server->conn, sync, sizeof sync);
    reply_push(s, REPLY_SYNC_INJECT);
    s->bringing = BRING_WAITS;
    return false;
}

void statement_send_execute(struct session *s, struct slice sql, const struct stmt *stmt)
{
    struct named named;
    char buf[STMT_NAME_MAX];
    uint8_t head[FRAME_HEAD_BYTES];
    named_read(sql, !s->odd_strings, &named);
    struct put text = rename_in(sql, named.written, stmt_name(stmt, buf));
    put_head(head, 'Q', text.n + 1);
    conn_out_copy(s->server->conn, head, sizeof head);
    conn_out_copy(s->server->conn, text.p, text.n);
    conn_out_copy(s->server->conn, "", 1);
    free(text.p);
}

bool statement_prepares_taken(struct session *s, const struct sql_facts *facts, struct slice sql)
{
    struct named named;
    if (!names_one(s, facts, SQL_PREPARE))
        return false;
    named_read(sql, !s->odd_strings, &named);
    if (named.kind != NAMED_PREPARE || !find_sql(s, &named))
        return false;
    take_name(s, (struct slice){named.name, named.name_n});
    return true;
}

void statement_behind_taken(struct session *s, struct slice sql)
{
    struct named named;
    static const uint8_t sync[] = {'S', 0, 0, 0, 4};
    named_read(sql, !s->odd_strings, &named);
    uint8_t bytes[DEALLOCATE_NAME_MAX + 32];
    struct put o = put_into(bytes, sizeof bytes);
    put_close_statement(&o, (struct slice){named.name, named.name_n});
    CHECK(!o.full);
    conn_out_copy(s->server->conn, o.p, o.n);
    conn_out_copy(s->server->conn, sync, sizeof sync);
    expect(s, REPLY_CLOSE_INJECT, SLICE_NONE, NULL, 0);
    reply_push(s, REPLY_SYNC_INJECT);
}

/* ---- Bind, Describe, Close ---- */

/* What an EXECUTE that is bound will run. */
static struct stmt *runs_another(struct session *s, const struct sql_facts *facts,
                                 struct slice text)
{
    struct named named;
    if (facts->class != SQL_EXECUTE || facts->statements != 1)
        return NULL;
    named_read(text, !s->odd_strings, &named);
    return named.kind == NAMED_EXECUTE ? find_sql(s, &named) : NULL;
}

/* Who binds named statements without having asked for their rows learns of them from the portal, the first time. */
static void note_bound(struct session *s, struct slice portal, struct slice name)
{
    bool learns = portal.n == 0 && name.n > 0 && !s->session_pooling &&
                  !stmt_names_told(&s->names, name).rows;
    if (learns || s->bound)
        set_bound(s, learns ? find(s, name) : NULL);
}

static void describe_portal(struct session *s, struct slice body, size_t n)
{
    bool unnamed = body.n == 2 && body.p[0] == 'P' && body.p[1] == '\0';
    if (unnamed && s->bound)
        expect(s, REPLY_DESCRIBE_TOLD, SLICE_NONE, s->bound, PORTAL);
    else
        reply_push(s, REPLY_DESCRIBE);
    set_bound(s, NULL);
    client_forward(s, n);
}

/* In a failed transaction the server takes no Parse of a statement that it lacks. What its Bind would say of that, it
 * says of nothing with as many parameters. */
static bool stands_in(struct session *s, struct slice name, const struct sql_facts *facts,
                      struct slice values)
{
    const uint32_t control = SQL_F_TX_END | SQL_F_SAVEPOINT | SQL_F_BEGIN;
    const struct stmt *stmt = find(s, name);
    if (!has_failed(s) || !stmt || facts->flags & control ||
        (name.n > 0 ? server_has(s, stmt) : server_unnamed(s) == stmt))
        return false;
    size_t formats = values.n < 2 ? 0 : 2 + 2 * (size_t)slice_u16(values.p);
    if (formats == 0 || values.n < formats + 2)
        return false;
    unsigned params = slice_u16(values.p + formats);
    if (params > NOTHING_PARAMS_MAX)
        return false;
    send_nothing(s, params);
    return true;
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
    struct stmt *runs = facts ? runs_another(s, facts, text) : NULL;
    if (runs) {
        struct sql_env env = statement_sql_env(s);
        facts = stmt_facts(runs, &env);
        text = stmt_text(runs);
    }
    if (facts && client_must_refuse(s, facts)) {
        send_poison(s, REPLY_REFUSED, SLICE_NONE);
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
    struct slice ours = fails ? slice_of(TAKEN) : server_name(s, name, buf);
    note_bound(s, portal, name);
    if (find(s, name))
        bind_deallocate(s, find(s, name));
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
    put_head(out, 'B', body_bytes);
    memcpy(out + FRAME_HEAD_BYTES, portal.p, portal.n + 1);
    memcpy(out + FRAME_HEAD_BYTES + portal.n + 1, ours.p, ours.n);
    out[FRAME_HEAD_BYTES + new_names - 1] = '\0';
    conn_out_commit(s->server->conn, FRAME_HEAD_BYTES + new_names);
    client_drop(s, FRAME_HEAD_BYTES + names);
    client_stream(s, total - FRAME_HEAD_BYTES - names, false);
}

/* The client parses: what it is told must be of now. What the server has may be from before somebody's DDL. */
static bool is_first_look(struct session *s, struct slice name, const struct stmt *stmt)
{
    if (s->tx_status == 'E' || stmt_names_told(&s->names, name).rows)
        return false;
    for (const struct pending *p = s->pending; p; p = p->next)
        if (p->on_server && p->stmt == stmt)
            return false; /* just sent */
    return stmt_set_has(&s->server->stmts, stmt);
}

void statement_describe(struct session *s, const uint8_t *p, size_t n)
{
    char buf[STMT_NAME_MAX];
    struct slice body = {p + FRAME_HEAD_BYTES, n - FRAME_HEAD_BYTES}, name;
    if (body.n < 2 || body.p[0] != 'S') {
        describe_portal(s, body, n);
        return;
    }
    body = slice_skip(body, 1);
    if (!take_cstr(&body, &name) || body.n > 0) {
        reply_push(s, REPLY_DESCRIBE);
        client_forward(s, n);
        return;
    }
    struct stmt *stmt = s->session_pooling ? NULL : find(s, name);
    if (stmt && name.n > 0 && is_first_look(s, name, stmt))
        close_on_server(s, stmt);
    struct slice ours = server_name(s, name, buf);
    if (stmt)
        expect(s, REPLY_DESCRIBE_TOLD, name, stmt, 0);
    else
        reply_push(s, REPLY_DESCRIBE);
    if (slice_equals(ours, name)) {
        client_forward(s, n);
        return;
    }
    send_describe(s, ours);
    client_drop(s, n);
}

void statement_close(struct session *s, const uint8_t *p, size_t n)
{
    struct slice body = {p + FRAME_HEAD_BYTES, n - FRAME_HEAD_BYTES}, name;
    bool statement = body.n >= 2 && body.p[0] == 'S';
    if (statement) {
        body = slice_skip(body, 1);
        statement = take_cstr(&body, &name) && body.n == 0 &&
                    (name.n == 0 || is_ours(name) || find(s, name) != NULL);
    }
    if (!statement) { /* a portal, or a name that only the server may know */
        reply_push(s, REPLY_CLOSE);
        client_forward(s, n);
        return;
    }
    expect(s, REPLY_CLOSE_FAKE, name, NULL, FOR_CLIENT);
    client_drop(s, n);
    reply_say_fakes(s);
}
