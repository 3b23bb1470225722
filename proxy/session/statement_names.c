/* proxy/session/statement_names.c: names: what is pending, and looking up.
 *
 * A client's name becomes true when the ParseComplete of its place comes. Look-ups see what is pending.
 */
#include "proxy/session/statement_inside.h"

#include "base/check.h"
#include "proxy/wire/take.h"

#include <stdlib.h>

/* ---- pending changes: one for each expected reply that has_pending() ---- */

static bool has_pending(enum reply reply)
{
    switch (reply) {
    case REPLY_PARSE:
    case REPLY_PARSE_INJECT:
    case REPLY_CLOSE_INJECT:
    case REPLY_CLOSE_FAKE:
    case REPLY_DUPLICATE:
    case REPLY_REFUSED:
    case REPLY_FULL:
    case REPLY_STALE:
    case REPLY_SETTING:
    case REPLY_DESCRIBE_TOLD:
    case REPLY_DESCRIBE_LEARN:
    case REPLY_DESCRIBE_INJECT:
        return true;
    case REPLY_BIND:
    case REPLY_BIND_INJECT:
    case REPLY_DESCRIBE:
    case REPLY_DESCRIBE_TYPES:
    case REPLY_EXECUTE:
    case REPLY_EXECUTE_INJECT:
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

/* What it will add to the client's names. */
static uint64_t cost_of(const struct pending *p)
{
    return p->for_client && p->stmt && p->name_n > 0 ? statement_cost(pending_name(p), p->stmt) : 0;
}

void statement_expect(struct session *s, enum reply reply, struct slice name, struct stmt *stmt,
                      int what)
{
    struct pending *p = malloc(sizeof *p + name.n);
    CHECK(p != NULL);
    *p = (struct pending){.stmt = stmt ? stmt_ref(stmt) : NULL,
                          .name_n = (uint32_t)name.n,
                          .on_server = (what & ON_SERVER) != 0,
                          .for_client = (what & FOR_CLIENT) != 0,
                          .unnamed_slot = (what & UNNAMED_SLOT) != 0,
                          .closes = reply == REPLY_CLOSE_INJECT,
                          .was_there = reply == REPLY_CLOSE_INJECT && stmt &&
                                       stmt_set_has(&s->server->stmts, stmt),
                          .tells = reply == REPLY_DESCRIBE_TOLD || reply == REPLY_DESCRIBE_LEARN,
                          .segment = s->segment_serial};
    if (name.n)
        memcpy(p->name, name.p, name.n);
    const struct stmt *was = p->for_client && !stmt && name.n > 0 ? statement_find(s, name) : NULL;
    p->frees = was ? statement_cost(name, was) : 0;
    s->pending_bytes += cost_of(p);
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

static void free_pending(struct session *s, struct pending *p)
{
    s->pending_bytes -= cost_of(p);
    stmt_unref(p->stmt);
    free(p);
}

static struct pending *pop_guarded(struct session *s)
{
    struct pending *p = s->guarded;
    s->guarded = p->next;
    return p;
}

static uint64_t freed_by(const struct pending *p, uint32_t segment)
{
    uint64_t bytes = 0;
    for (; p; p = p->next)
        bytes += p->segment == segment ? p->frees : 0;
    return bytes;
}

/* If one of these Closes is skipped, so is what comes behind it. */
uint64_t statement_freed_ahead(const struct session *s)
{
    return freed_by(s->pending, s->segment_serial) + freed_by(s->guarded, s->segment_serial);
}

void statement_drop_pending(struct session *s)
{
    s->shape_look = SHAPE_IDLE;
    s->unnamed_new = false;
    statement_drop_bound_sql(s);
    s->taken_n = 0;
    while (s->pending)
        free_pending(s, pop_pending(s));
    while (s->guarded)
        free_pending(s, pop_guarded(s));
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
    free_pending(s, p);
}

void statement_dropped(struct session *s, enum reply reply)
{
    if (!has_pending(reply))
        return;
    struct pending *p = pop_pending(s);
    if (p->was_there) /* the server has skipped its Close */
        stmt_set_add_stale(&s->server->stmts, p->stmt);
    if (p->closes && p->name_n > 0) /* it may keep one by the client's name */
        s->server->stale_stmts = true;
    if (reply == REPLY_DESCRIBE_INJECT)
        s->shape_look = SHAPE_IDLE;
    free_pending(s, p);
}

void statement_forget_all(struct session *s)
{
    stmt_names_clear(&s->names);
    statement_forget_unnamed(s);
}

void statement_set_name(struct session *s, struct slice name, struct stmt *stmt)
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
    if (name.n > 0)
        stmt_names_tell(&s->names, name, p->shape);
    else if (s->unnamed == p->stmt)
        s->unnamed_told = p->shape;
}

static void change_client(struct session *s, const struct pending *p)
{
    if (p->tells)
        tell(s, p);
    else
        statement_set_name(s, pending_name(p), p->stmt);
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
    if (p->tells || reply == REPLY_DESCRIBE_INJECT)
        statement_note_shape(s, p);
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
    free_pending(s, p);
}

void statement_guard_passed(struct session *s)
{
    while (s->guarded) {
        struct pending *p = pop_guarded(s);
        change_client(s, p);
        free_pending(s, p);
    }
}

/* ---- looking up ---- */

struct stmt *statement_find(const struct session *s, struct slice name)
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

bool statement_on_server(struct session *s, const struct stmt *stmt)
{
    bool has = stmt_set_has(&s->server->stmts, stmt);
    for (const struct pending *p = s->pending; p; p = p->next)
        if (p->on_server && p->stmt == stmt)
            has = !p->closes;
    return has;
}

/* What the server's unnamed statement is once all that was sent has been answered, if we know. */
const struct stmt *statement_server_unnamed(const struct session *s)
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

/* So the newest word about the client's unnamed statement: also a Close, which the server is not told of. */
static bool is_unnamed_unsettled(const struct session *s)
{
    const struct pending *newest = NULL;
    for (const struct pending *p = s->pending; p; p = p->next)
        if (p->for_client && pending_name(p).n == 0)
            newest = p;
    return (newest && newest->segment != s->segment_serial) || is_slot_unsettled(s, NULL, true);
}

/* What a name means, or whether there is one, hangs on the answer to an earlier segment. */
static bool is_any_unsettled(const struct session *s)
{
    for (const struct pending *was = s->pending; was; was = was->next)
        if (was->for_client && was->segment != s->segment_serial)
            return true;
    return false;
}

bool statement_is_pending(const struct session *s, struct slice name)
{
    for (const struct pending *was = s->pending; was; was = was->next)
        if (was->for_client && slice_equals(pending_name(was), name))
            return true;
    return false;
}

/* SQL of this statement names another one, and what a name means hangs on the answer to an earlier segment. */
static bool names_unsettled(const struct session *s, struct slice name)
{
    const struct stmt *stmt = statement_find(s, name);
    uint8_t class = stmt ? stmt->facts.class : SQL_EMPTY;
    bool names = class == SQL_EXECUTE || class == SQL_DEALLOCATE || class == SQL_PREPARE;
    return names && is_any_unsettled(s);
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
    if (uses && names_unsettled(s, name))
        return true;
    if (type == 'P' && body.n <= STMT_TEXT_MAX && !statement_has_room(s, name, body.n) &&
        is_any_unsettled(s)) /* there may be room then */
        return true;
    if (name.n == 0) /* else the slot could still hold another client's statement */
        return uses && is_unnamed_unsettled(s);
    for (const struct pending *was = s->pending; was; was = was->next)
        if (was->for_client && was->segment != s->segment_serial &&
            slice_equals(pending_name(was), name))
            return true;
    const struct stmt *stmt = statement_find(s, name);
    return stmt && uses && is_slot_unsettled(s, stmt, false);
}

struct slice statement_text(const struct session *s, struct slice name)
{
    const struct stmt *stmt = statement_find(s, name);
    return stmt ? stmt_text(stmt) : SLICE_NONE;
}

const struct sql_facts *statement_facts(struct session *s, struct slice name)
{
    struct stmt *stmt = statement_find(s, name);
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
    return reply == REPLY_BIND || reply == REPLY_EXECUTE ? stmt_names_find(&s->names, ours)
                                                         : SLICE_NONE;
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
