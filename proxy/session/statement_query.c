/* proxy/session/statement_query.c: a Query whose SQL names statements that the protocol has prepared.
 *
 *   EXECUTE name, also beside other statements   the server gets the statement under the client's own name first
 *   PREPARE name, DEALLOCATE name                ... one of nothing, which is there to be in the way, or to go
 *   pg_prepared_statements                       ... all of the client's, and ours go
 *
 * Then the Query runs as it is, in PostgreSQL's own words, and the names are closed behind it. A DEALLOCATE holds from
 * its CommandComplete on: names are counted by the statement that they stand in.
 */
#include "proxy/session/statement_inside.h"

#include "base/check.h"
#include "proxy/wire/error_fields.h"
#include "router/reader.h"
#include "router/split.h"

#include <stdlib.h>

#define NAMES_MAX 256 /* of one text; the rest is not known to SQL */
#define VIEW "pg_prepared_statement"

struct used_name {
    struct stmt *stmt; /* to be there; NULL: nothing is enough */
    uint16_t gone_at;  /* 1 + the number of the statement that deallocates it; 0: none */
    uint8_t name_n;
    uint8_t name[DEALLOCATE_NAME_MAX];
};

struct query_names {
    uint16_t statements, answered;
    uint16_t all_gone_at; /* DEALLOCATE ALL, as above */
    bool shows;           /* the view */
    bool ours;            /* names of ours: they are closed, so that nobody finds them */
    uint16_t n;
    struct used_name used[NAMES_MAX];
};

static struct slice name_of(const struct used_name *u)
{
    return (struct slice){u->name, u->name_n};
}

/* ---- reading ---- */

static struct used_name *find_used(struct query_names *q, struct slice name)
{
    for (uint16_t i = 0; i < q->n; i++)
        if (slice_equals(name_of(&q->used[i]), name))
            return &q->used[i];
    return NULL;
}

/* Of one that the client knows; NULL: it does not, or not any more. */
static struct used_name *use(const struct session *s, struct query_names *q, struct slice name)
{
    struct used_name *u = find_used(q, name);
    if (u || q->n == NAMES_MAX || q->all_gone_at)
        return u && !u->gone_at ? u : NULL;
    if (statement_name_is_ours(name)) {
        q->ours = true;
    } else if (!statement_find(s, name)) {
        return NULL;
    }
    u = &q->used[q->n++];
    *u = (struct used_name){.name_n = (uint8_t)name.n};
    memcpy(u->name, name.p, name.n);
    return u;
}

static void read_deallocate(const struct session *s, struct query_names *q, struct slice sql)
{
    struct deallocate d;
    deallocate_read(sql, !s->odd_strings, &d);
    if (d.kind == DEALLOCATE_ALL && !q->all_gone_at)
        q->all_gone_at = q->statements;
    if (d.kind != DEALLOCATE_ONE)
        return;
    struct used_name *u = use(s, q, (struct slice){d.name, d.name_n});
    if (u)
        u->gone_at = q->statements;
}

/* What it runs may be an EXECUTE too, and so on, at last of one that is there already; or a DEALLOCATE. */
static void use_with_text(const struct session *s, struct query_names *q, struct slice name)
{
    struct named next;
    for (;;) {
        struct used_name *u = use(s, q, name);
        struct stmt *stmt = u && !u->stmt ? statement_find(s, name) : NULL;
        if (!stmt)
            return;
        u->stmt = stmt_ref(stmt);
        read_deallocate(s, q, stmt_text(stmt));
        named_read(stmt_text(stmt), !s->odd_strings, &next);
        if (next.kind != NAMED_EXECUTE)
            return;
        name = (struct slice){next.name, next.name_n};
    }
}

/* EXECUTE is in EXPLAIN and CREATE TABLE too. Where the word means something else, a statement more is there. */
static void read_words(const struct session *s, struct query_names *q, struct slice sql)
{
    struct scan scan;
    struct scan_token t;
    struct named named;
    bool first = true;
    scan_init(&scan, sql, !s->odd_strings);
    for (scan_next(&scan, &t); t.kind != SCAN_END && t.kind != SCAN_BAD; scan_next(&scan, &t)) {
        if (t.kind != SCAN_WORD)
            continue;
        size_t at = (size_t)(t.text.p - sql.p);
        named_read(slice_skip(sql, at), !s->odd_strings, &named);
        struct slice name = {named.name, named.name_n};
        if (named.kind == NAMED_EXECUTE)
            use_with_text(s, q, name);
        else if (named.kind == NAMED_PREPARE && first)
            use(s, q, name);
        first = false;
    }
}

static void use_all(struct session *s, struct query_names *q)
{
    struct slice name;
    q->shows = true;
    for (uint32_t i = 0; stmt_names_each(&s->names, &i, &name);)
        if (name.n <= DEALLOCATE_NAME_MAX)
            use_with_text(s, q, name);
}

static bool shows_statements(const struct sql_facts *facts, struct slice sql)
{
    return facts->class == SQL_CATALOG_READ && memmem(sql.p, sql.n, VIEW, sizeof VIEW - 1) != NULL;
}

static bool may_name(const struct sql_facts *facts, struct slice sql)
{
    const uint32_t flags = SQL_F_EXECUTE | SQL_F_PREPARE | SQL_F_DEALLOCATE | SQL_F_DEALLOCATE_ALL;
    return facts->flags & (flags | SQL_F_DDL) || facts->class == SQL_EXPLAIN ||
           shows_statements(facts, sql);
}

static void read_query(struct session *s, struct query_names *q, const struct sql_facts *facts,
                       struct slice sql)
{
    struct split part;
    for (struct slice rest = sql; split_next(rest, true, !s->odd_strings, &part);
         rest = slice_skip(rest, part.used)) {
        if (part.blank || part.statement.n == 0)
            continue;
        q->statements++;
        read_deallocate(s, q, part.statement);
        read_words(s, q, part.statement);
    }
    if (shows_statements(facts, sql))
        use_all(s, q);
}

/* ---- before it ---- */

static void forget(struct query_names *q)
{
    for (uint16_t i = 0; q && i < q->n; i++)
        stmt_unref(q->used[i].stmt);
    free(q);
}

void statement_query_drop(struct session *s)
{
    forget(s->query_names);
    s->query_names = NULL;
}

static bool needs_texts(const struct query_names *q)
{
    bool needs = q->shows;
    for (uint16_t i = 0; i < q->n; i++)
        needs = needs || q->used[i].stmt;
    return needs;
}

static void close_ours(struct session *s)
{
    for (struct stmt *held; (held = stmt_set_oldest(&s->server->stmts)) != NULL;)
        statement_close_on_server(s, held);
}

/* If one fails, that is what the Query has to say: it is not sent. */
static void bring_texts(struct session *s, const struct query_names *q)
{
    if (q->shows)
        close_ours(s);
    for (uint16_t i = 0; i < q->n; i++) {
        if (!q->used[i].stmt)
            continue;
        statement_send_parse(s, name_of(&q->used[i]), q->used[i].stmt);
        statement_expect(s, REPLY_PARSE_INJECT, SLICE_NONE, NULL, 0);
    }
    reply_ask(s);
    s->bringing = BRING_WAITS;
}

/* As for most clients that PREPARE and EXECUTE by SQL. */
static bool has_no_names(const struct session *s, struct slice sql)
{
    return s->names.n == 0 && !s->pending && !s->guarded &&
           !memmem(sql.p, sql.n, OUR_PREFIX, sizeof OUR_PREFIX - 1);
}

enum step statement_query(struct session *s, const struct sql_facts *facts, struct slice sql)
{
    bool came = s->bringing == BRING_WAITS;
    s->bringing = BRING_NONE;
    if (came || !may_name(facts, sql) || s->session_pooling || s->skipping || s->copy_in ||
        (s->tx_status == 'E' && s->replies.n == 0))
        return STEP_DONE;
    if (has_no_names(s, sql) && !shows_statements(facts, sql))
        return STEP_DONE;
    struct query_names *q = calloc(1, sizeof *q);
    CHECK(q != NULL);
    read_query(s, q, facts, sql);
    if (q->n == 0 && !q->all_gone_at && !q->shows) {
        forget(q);
        return STEP_DONE;
    }
    if (s->replies.n > 0) { /* what a name means, and which answer is whose, depends on these */
        forget(q);
        return STEP_WAIT;
    }
    statement_query_drop(s); /* of one that was refused before it ran */
    s->query_names = q;
    if (!needs_texts(q))
        return STEP_DONE;
    bring_texts(s, q);
    if (s->replies.n > 0)
        return STEP_WAIT;
    s->bringing = BRING_NONE; /* there was nothing to bring or to close */
    return STEP_DONE;
}

void statement_query_failed(struct session *s)
{
    static const uint8_t sync[] = {'S', 0, 0, 0, 4};
    CHECK(s->replies.n == 0);
    statement_query_drop(s);
    s->bringing = BRING_NONE;
    statement_forget_unnamed(s);
    client_drop_query(s);
    conn_out_copy(s->server->conn, sync, sizeof sync);
    s->skipping = s->segment_open = false;
    s->segment_serial++;
    reply_push(s, REPLY_SYNC);
}

struct stmt *statement_query_runs(const struct session *s, unsigned *i)
{
    const struct query_names *q = s->query_names;
    while (q && *i < q->n) {
        const struct used_name *u = &q->used[(*i)++];
        if (u->stmt && !q->shows)
            return u->stmt;
    }
    return NULL;
}

void statement_query_ahead(struct session *s)
{
    const struct query_names *q = s->query_names;
    for (uint16_t i = 0; q && i < q->n; i++)
        if (!q->used[i].stmt && !statement_name_is_ours(name_of(&q->used[i])))
            statement_take_name(s, name_of(&q->used[i]));
        else if (!q->used[i].stmt)
            statement_close_name(s, name_of(&q->used[i]));
    if (q && q->ours)
        stmt_set_doubt(&s->server->stmts);
}

void statement_query_behind(struct session *s)
{
    static const uint8_t sync[] = {'S', 0, 0, 0, 4};
    const struct query_names *q = s->query_names;
    if (!q || q->n == 0)
        return;
    for (uint16_t i = 0; i < q->n; i++)
        statement_close_name(s, name_of(&q->used[i]));
    conn_out_copy(s->server->conn, sync, sizeof sync);
    reply_push(s, REPLY_SYNC_INJECT);
}

/* ---- its answer ---- */

static void statement_ran(struct session *s, struct query_names *q)
{
    q->answered++;
    for (uint16_t i = 0; i < q->n; i++)
        if (q->used[i].gone_at == q->answered)
            stmt_names_remove(&s->names, name_of(&q->used[i]));
    if (q->all_gone_at == q->answered)
        stmt_names_clear(&s->names);
}

void statement_query_tag(struct session *s)
{
    if (s->query_names)
        statement_ran(s, s->query_names);
}

/* The last statement's tag comes behind its commit: when that fails, it has run all the same. */
void statement_query_error(struct session *s, struct slice sqlstate)
{
    struct query_names *q = s->query_names;
    bool itself =
        slice_is(sqlstate, "26000") || slice_is(sqlstate, "25P02") || slice_is(sqlstate, "57014");
    if (q && q->answered + 1 == q->statements && !itself)
        statement_ran(s, q);
}
