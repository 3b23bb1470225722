/* proxy/session/statement_shape.c: what the rows of a statement are: descriptions that somebody's DDL made stale. */
#include "proxy/session/statement_inside.h"

#include "proxy/wire/description.h"
#include "proxy/wire/take.h"

/* ---- what servers say ---- */

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
    bool own = ((s->state_of.left | s->state_of.touched) & LEFT_TEMP) != 0;
    return !s->on_replica && !own && !stmt_shape_fits(was, p->shape);
}

/* What the server has, by its own word. */
void statement_note_shape(struct session *s, const struct pending *p)
{
    struct stmt_set *set = &s->server->stmts;
    if (is_news(s, p))
        statement_replan(s);
    stmt_set_shape(&s->set->proven, p->stmt, p->shape);
    if (p->name_n > 0)
        stmt_set_shape(set, p->stmt, p->shape);
    else if (set->unnamed == p->stmt)
        set->unnamed_shape = p->shape;
}

void statement_described_types(struct session *s, struct slice body)
{
    s->pending->shape.types = description_types(body);
}

void statement_described(struct session *s, uint8_t type, struct slice body)
{
    s->pending->shape.rows = description_rows(type, body);
}

/* ---- before a Bind ---- */

/* A change of the name, or of what the client was told of it, is under way: it comes from this server. */
static bool is_changing(const struct pending *p, struct slice name)
{
    for (; p; p = p->next)
        if ((p->for_client || p->tells) && slice_equals(pending_name(p), name))
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
        return statement_server_unnamed(s) == stmt ? set->unnamed_shape : (struct stmt_shape){0};
    return statement_on_server(s, stmt) && !stmt_set_is_stale(set, stmt)
               ? stmt_set_shape_of(set, stmt)
               : (struct stmt_shape){0};
}

/* The server gets the statement anew, so that its answer is of now. */
static void ask_shape(struct session *s, struct slice name, struct stmt *stmt)
{
    char buf[STMT_NAME_MAX];
    if (name.n > 0 && statement_on_server(s, stmt))
        statement_close_on_server(s, stmt);
    else if (name.n == 0)
        statement_parse_unnamed_here(s, stmt);
    statement_send_describe(s, statement_server_name(s, name, buf));
    reply_ask(s);
    statement_expect(s, REPLY_DESCRIBE_INJECT, name, stmt, 0);
    s->shape_look = SHAPE_ASKED;
}

/* PostgreSQL revalidates queries; what FETCH, EXECUTE and CALL return may change from one to the next. */
static bool has_fixed_rows(struct session *s, struct stmt *stmt)
{
    const struct sql_env env = statement_sql_env(s);
    const struct sql_facts *facts = stmt_facts(stmt, &env);
    return !(facts->flags & (SQL_F_CURSOR | SQL_F_EXECUTE)) && facts->class != SQL_CALL;
}

/* The statement that a Bind or Describe names. */
static bool named_statement(uint8_t type, struct slice body, struct slice *name)
{
    struct slice portal;
    if (type == 'B')
        return take_cstr(&body, &portal) && take_cstr(&body, name);
    body = body.n > 0 && *body.p == 'S' ? slice_skip(body, 1) : SLICE_NONE;
    return take_cstr(&body, name);
}

enum shape_rc statement_shape(struct session *s, uint8_t type, const uint8_t *p, size_t have)
{
    struct slice body = {p + FRAME_HEAD_BYTES, have - FRAME_HEAD_BYTES}, name;
    if (s->session_pooling || s->copy_in || statement_tx_failed(s) ||
        !named_statement(type, body, &name))
        return SHAPE_FITS;
    struct stmt_shape told = told_of(s, name);
    struct stmt *stmt = told.rows ? statement_find(s, name) : NULL;
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

/* PostgreSQL describes the parameters before it looks at the rows. */
void statement_stale(struct session *s, uint8_t type, const uint8_t *p, size_t n)
{
    struct slice body = {p + FRAME_HEAD_BYTES, n - FRAME_HEAD_BYTES}, name;
    char buf[STMT_NAME_MAX];
    if (type == 'D' && named_statement(type, body, &name)) {
        statement_send_describe(s, statement_server_name(s, name, buf));
        reply_push(s, REPLY_DESCRIBE_TYPES);
    }
    statement_poison(s, REPLY_STALE);
    client_stream(s, n, true);
}

/* ---- when it is parsed ---- */

bool statement_is_first_use(const struct session *s, struct slice name, const struct stmt *stmt)
{
    return name.n > 0 && stmt && stmt->is_query && !s->session_pooling && s->tx_status != 'E' &&
           !stmt_names_told(&s->names, name).rows && !is_changing(s->pending, name) &&
           !is_changing(s->guarded, name);
}

/* Of a query only, and right behind its Parse, for that cannot fail. */
void statement_learn(struct session *s, struct slice name, struct slice ours, struct stmt *stmt)
{
    statement_send_describe(s, ours);
    statement_expect(s, REPLY_DESCRIBE_LEARN, name, stmt, 0);
}
