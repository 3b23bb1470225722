/* proxy/control/catalog_rows.c: a graph of relations and types. A node is as bad as what was said of it,
 * as its texts that are not proven, and as the worst of what it depends on. */
#include "proxy/control/catalog_rows.h"

#include "base/check.h"
#include "router/classify.h"

#include <stdio.h>
#include <stdlib.h>

#define FIRST_N 64
#define NODE_RELATION (UINT64_C(1) << 32) /* added to its oid; a type has its oid alone */
#define PROOF_PREFIX "SELECT 1 WHERE "

struct verdict {
    uint8_t class, reason;
};

static const struct verdict good = {SQL_READ, ROUTE_WHY_READ};

struct place { /* in texts */
    uint32_t at, n;
};

struct node {
    uint64_t key;
    struct place schema, name; /* name.n 0: it is not put */
    struct verdict own;        /* what its row says */
    struct verdict inherited;  /* the worst of that and of what it depends on */
    struct verdict all;        /* ... and of its texts */
    struct verdict put;        /* what the catalog says, once it was put */
    struct verdict cast;       /* of a type: casts to it. Its columns are not touched by that. */
    uint32_t unproven;         /* texts */
    bool was_put;
};

struct edge {
    uint64_t from, to; /* keys; later places in nodes */
};

struct text {
    uint64_t node; /* key; later the place in nodes */
    struct place sql;
    uint8_t class; /* SQL_READ: proven */
    uint8_t reason;
};

struct mark {
    enum catalog_kind kind;
    struct place name;
};

struct list_of {
    void *p;
    uint32_t n, cap;
};

struct catalog_rows {
    struct catalog *catalog;
    char error[160];
    struct list_of nodes, edges, texts;
    struct list_of marks; /* struct mark: when all names are put */
    uint8_t *bytes;
    uint32_t byte_n, byte_cap;
    uint32_t row_n[CATALOG_Q_N];
    bool single_byte; /* such encodings fold letters by the server's locale */
    bool linked;
    uint32_t next_text, passes;
    bool proved_some; /* in this pass */
    struct catalog_counts counts;
};

/* ---- memory ---- */

static void *add(struct list_of *list, size_t bytes)
{
    if (list->n == list->cap) {
        list->cap = list->cap ? list->cap * 2 : FIRST_N;
        list->p = realloc(list->p, bytes * list->cap);
        CHECK(list->p != NULL);
    }
    uint8_t *p = list->p;
    memset(p + bytes * list->n, 0, bytes);
    return p + bytes * list->n++;
}

static struct node *node_at(const struct catalog_rows *r, uint64_t i)
{
    CHECK(i < r->nodes.n);
    return (struct node *)r->nodes.p + i;
}

static bool fail(struct catalog_rows *r, const char *why)
{
    if (!r->error[0])
        snprintf(r->error, sizeof r->error, "%s", why);
    return false;
}

static bool keep(struct catalog_rows *r, struct slice text, struct place *place)
{
    if (text.n > CATALOG_TEXTS_MAX - r->byte_n)
        return fail(r, "the names and definitions of this database are too long together");
    while (r->byte_cap - r->byte_n < text.n) {
        r->byte_cap = r->byte_cap ? r->byte_cap * 2 : FIRST_N * 64;
        r->bytes = realloc(r->bytes, r->byte_cap);
        CHECK(r->bytes != NULL);
    }
    if (text.n)
        memcpy(r->bytes + r->byte_n, text.p, text.n);
    *place = (struct place){r->byte_n, (uint32_t)text.n};
    r->byte_n += (uint32_t)text.n;
    return true;
}

static struct slice kept(const struct catalog_rows *r, struct place place)
{
    return (struct slice){r->bytes + place.at, place.n};
}

struct catalog_rows *catalog_rows_new(uint64_t id)
{
    struct catalog_rows *r = calloc(1, sizeof *r);
    CHECK(r != NULL);
    r->catalog = catalog_new(id);
    return r;
}

void catalog_rows_free(struct catalog_rows *r)
{
    if (!r)
        return;
    catalog_free(r->catalog);
    free(r->nodes.p);
    free(r->edges.p);
    free(r->texts.p);
    free(r->marks.p);
    free(r->bytes);
    free(r);
}

const char *catalog_rows_error(const struct catalog_rows *r)
{
    return r->error;
}

/* ---- fields ---- */

static bool is_true(struct slice field)
{
    return slice_is(field, "t");
}

static bool oid_of(struct catalog_rows *r, struct slice field, uint64_t *oid)
{
    uint64_t n = 0;
    for (size_t i = 0; i < field.n && field.n <= 10; i++) {
        if (field.p[i] < '0' || field.p[i] > '9')
            return fail(r, "a field that should be an oid is none");
        n = n * 10 + (uint64_t)(field.p[i] - '0');
    }
    if (field.n == 0 || field.n > 10 || n > UINT32_MAX)
        return fail(r, "a field that should be an oid is none");
    *oid = n;
    return true;
}

/* Letters beyond ASCII are folded by the server's locale in these encodings: such names stay unknown. */
static bool may_put(const struct catalog_rows *r, struct slice name)
{
    for (size_t i = 0; r->single_byte && i < name.n; i++)
        if (name.p[i] >= 0x80)
            return false;
    return true;
}

static void put(struct catalog_rows *r, enum catalog_kind kind, struct slice schema,
                struct slice name, struct verdict v)
{
    if (may_put(r, schema) && may_put(r, name))
        catalog_put(r->catalog, kind, schema, name, v.class, v.reason);
    else if (kind == CATALOG_FIELD) /* what is not there would be a column */
        catalog_put_rule(r->catalog, CATALOG_EVERYWHERE, v.class, v.reason);
}

/* Of those that share a name, the worst counts. */
static void put_worst(struct catalog_rows *r, enum catalog_kind kind, struct slice schema,
                      struct slice name, struct verdict v)
{
    const struct catalog_name in = {schema, true, 0}, of = {name, true, 0};
    const struct catalog_answer was = catalog_find(r->catalog, kind, &in, &of);
    if (!was.known || was.class < v.class)
        put(r, kind, schema, name, v);
}

static struct verdict writer_if(bool bad, enum route_reason reason)
{
    return bad ? (struct verdict){SQL_WRITER_FUNCTION, (uint8_t)reason} : good;
}

static void worsen(struct verdict *v, struct verdict by)
{
    if (by.class > v->class)
        *v = by;
}

/* ---- rows ---- */

typedef bool take_fn(struct catalog_rows *r, const struct slice *f);

static bool take_database(struct catalog_rows *r, const struct slice *f)
{
    r->single_byte = is_true(f[0]);
    return true;
}

static bool take_function(struct catalog_rows *r, const struct slice *f)
{
    const struct verdict v = writer_if(is_true(f[2]), ROUTE_WHY_USER_FUNCTION);
    put_worst(r, CATALOG_FUNCTION, f[0], f[1], v);
    if (is_true(f[3]))
        put_worst(r, CATALOG_FIELD, f[0], f[1], v);
    r->counts.functions++;
    return true;
}

static bool mark(struct catalog_rows *r, enum catalog_kind kind, struct slice name)
{
    struct mark *m = add(&r->marks, sizeof *m);
    m->kind = kind;
    return keep(r, name, &m->name);
}

static bool take_hiding(struct catalog_rows *r, const struct slice *f)
{
    switch (f[0].n == 1 ? *f[0].p : 0) {
    case 'f':
        r->counts.hiding++;
        return mark(r, CATALOG_FUNCTION, f[1]) && mark(r, CATALOG_FIELD, f[1]);
    case 'v':
        return mark(r, CATALOG_RELATION, f[1]);
    case 's':
        catalog_put_setting(r->catalog, f[1]);
        return true;
    case 'a':
        catalog_put_rule(r->catalog, CATALOG_HIDES_READS, SQL_WRITER_FUNCTION,
                         ROUTE_WHY_USER_FUNCTION);
        catalog_put_rule(r->catalog, CATALOG_HIDES_WRITES, SQL_WRITER_FUNCTION,
                         ROUTE_WHY_USER_FUNCTION);
        return true;
    case 'w':
        catalog_put_rule(r->catalog, CATALOG_HIDES_WRITES, SQL_WRITER_FUNCTION,
                         ROUTE_WHY_USER_FUNCTION);
        return true;
    default:
        return fail(r, "an unknown kind of what leaves state in a session");
    }
}

static void mark_all(struct catalog_rows *r)
{
    const struct mark *marks = r->marks.p;
    for (uint32_t i = 0; i < r->marks.n; i++)
        catalog_mark(r->catalog, marks[i].kind, kept(r, marks[i].name));
}

/* What SQL uses without naming it: IN, BETWEEN, LIKE, CASE x WHEN, DISTINCT, JOIN ... USING. */
static bool is_implicit_operator(struct slice name)
{
    static const char *const names[] = {"=",   "<>",  "<",    "<=", ">",  ">=", "~~",
                                        "!~~", "~~*", "!~~*", "~",  "!~", "~*", "!~*"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (slice_is(name, names[i]))
            return true;
    return false;
}

static bool take_operator(struct catalog_rows *r, const struct slice *f)
{
    const struct verdict v = writer_if(is_true(f[2]), ROUTE_WHY_USER_OPERATOR);
    put_worst(r, CATALOG_OPERATOR, f[0], f[1], v);
    if (is_implicit_operator(f[1]))
        catalog_put_rule(r->catalog, CATALOG_EVERYWHERE, v.class, v.reason);
    return true;
}

static bool take_opclass(struct catalog_rows *r, const struct slice *f)
{
    if (is_true(f[0]))
        catalog_put_rule(r->catalog, CATALOG_EVERYWHERE, SQL_WRITER_FUNCTION,
                         ROUTE_WHY_USER_OPERATOR);
    return true;
}

/* The rows come in the order of their oids, types before relations: so nodes are sorted by key. */
static struct node *node_add(struct catalog_rows *r, uint64_t key, struct slice schema,
                             struct slice name)
{
    struct place places[2];
    if (r->nodes.n > 0 && node_at(r, r->nodes.n - 1)->key >= key) {
        fail(r, "rows are not in the order that was asked for");
        return NULL;
    }
    if (!keep(r, schema, &places[0]) || !keep(r, name, &places[1]))
        return NULL;
    struct node *node = add(&r->nodes, sizeof *node);
    *node = (struct node){
        .key = key, .schema = places[0], .name = places[1], .own = good, .cast = good};
    return node;
}

static void edge_add(struct catalog_rows *r, uint64_t from, uint64_t to)
{
    struct edge *edge = add(&r->edges, sizeof *edge);
    *edge = (struct edge){from, to};
}

static bool take_type(struct catalog_rows *r, const struct slice *f)
{
    uint64_t oid, relation;
    if (!oid_of(r, f[0], &oid) || !oid_of(r, f[4], &relation))
        return false;
    struct node *node = node_add(r, oid, f[1], f[2]);
    if (!node)
        return false;
    node->own = writer_if(is_true(f[3]), ROUTE_WHY_USER_TYPE);
    if (relation != 0)
        edge_add(r, oid, NODE_RELATION + relation);
    r->counts.types++;
    return true;
}

static bool take_edge(struct catalog_rows *r, const struct slice *f, uint64_t from, uint64_t to)
{
    uint64_t a, b;
    if (!oid_of(r, f[0], &a) || !oid_of(r, f[1], &b))
        return false;
    edge_add(r, from + a, to + b);
    return true;
}

static bool take_parameter(struct catalog_rows *r, const struct slice *f)
{
    uint64_t oid;
    if (!oid_of(r, f[0], &oid))
        return false;
    put(r, CATALOG_PARAMETER, slice_of("pg_type"), f[0], writer_if(true, ROUTE_WHY_USER_TYPE));
    return true;
}

static bool take_type_dep(struct catalog_rows *r, const struct slice *f)
{
    return take_edge(r, f, 0, 0);
}

static bool take_column(struct catalog_rows *r, const struct slice *f)
{
    return take_edge(r, f, NODE_RELATION, 0);
}

static bool take_inherits(struct catalog_rows *r, const struct slice *f)
{
    return take_edge(r, f, NODE_RELATION, NODE_RELATION);
}

static struct node *find_node(const struct catalog_rows *r, uint64_t key)
{
    uint32_t low = 0, high = r->nodes.n;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (node_at(r, middle)->key < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low < r->nodes.n && node_at(r, low)->key == key ? node_at(r, low) : NULL;
}

static bool take_cast(struct catalog_rows *r, const struct slice *f)
{
    const struct verdict v = {SQL_WRITER_FUNCTION, ROUTE_WHY_USER_CAST};
    uint64_t oid;
    if (!oid_of(r, f[0], &oid))
        return false;
    if (is_true(f[3]))
        catalog_put_rule(r->catalog, CATALOG_EVERYWHERE, v.class, v.reason);
    struct node *node = find_node(r, oid); /* types are all here */
    if (node)
        node->cast = v;
    else
        put_worst(r, CATALOG_TYPE, f[1], f[2], v); /* a built-in type */
    return true;
}

static struct verdict relation_verdict(char kind, char persistence)
{
    static const struct {
        char kind, persistence; /* 0: any */
        uint8_t class, reason;
    } rules[] = {
        {'S', 0, SQL_PRIMARY_RELATION, ROUTE_WHY_SEQUENCE},
        {'f', 0, SQL_PRIMARY_RELATION, ROUTE_WHY_FOREIGN},
        {0, 'u', SQL_PRIMARY_RELATION, ROUTE_WHY_UNLOGGED},
        {0, 't', SQL_PRIMARY_RELATION, ROUTE_WHY_TEMPORARY},
        {'r', 'p', SQL_READ, ROUTE_WHY_READ}, /* table */
        {'p', 'p', SQL_READ, ROUTE_WHY_READ}, /* partitioned table */
        {'m', 'p', SQL_READ, ROUTE_WHY_READ}, /* materialized view */
        {'c', 'p', SQL_READ, ROUTE_WHY_READ}, /* composite type */
        {'v', 'p', SQL_READ, ROUTE_WHY_READ}, /* view: its text decides */
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if ((!rules[i].kind || rules[i].kind == kind) &&
            (!rules[i].persistence || rules[i].persistence == persistence))
            return (struct verdict){rules[i].class, rules[i].reason};
    return (struct verdict){SQL_UNKNOWN, ROUTE_WHY_UNKNOWN_RELATION};
}

static const struct verdict no_text = {SQL_UNKNOWN, ROUTE_WHY_VIEW}; /* of a view, until it comes */

static bool take_relation(struct catalog_rows *r, const struct slice *f)
{
    uint64_t oid;
    if (!oid_of(r, f[0], &oid))
        return false;
    if (f[3].n != 1 || f[4].n != 1)
        return fail(r, "a relation without kind or persistence");
    const char kind = (char)f[3].p[0];
    struct node *node = node_add(r, NODE_RELATION + oid, f[1], kind == 'c' ? SLICE_NONE : f[2]);
    if (!node)
        return false;
    node->own = relation_verdict(kind, (char)f[4].p[0]);
    if (kind == 'v')
        node->own = no_text;
    r->counts.relations += kind != 'c';
    return true;
}

/* A text that must be proven before its node is a read. An expression that is too long never is. */
static bool take_text(struct catalog_rows *r, const struct slice *f, uint64_t kind,
                      const char *prefix, enum route_reason reason)
{
    struct place start = {0, 0}, open, sql, close;
    uint64_t oid;
    if (!oid_of(r, f[0], &oid))
        return false;
    if (!keep(r, slice_of(prefix), &start) || !keep(r, slice_of(prefix[0] ? "(" : ""), &open) ||
        !keep(r, f[1], &sql) || !keep(r, slice_of(prefix[0] ? ")" : ""), &close))
        return false;
    const uint32_t whole = f[1].n > CATALOG_TEXT_MAX ? 0 : r->byte_n - start.at;
    struct text *text = add(&r->texts, sizeof *text);
    *text = (struct text){kind + oid, {start.at, whole}, SQL_UNKNOWN, (uint8_t)reason};
    return true;
}

static bool take_check(struct catalog_rows *r, const struct slice *f)
{
    return take_text(r, f, 0, PROOF_PREFIX, ROUTE_WHY_USER_TYPE);
}

static bool take_policy(struct catalog_rows *r, const struct slice *f)
{
    return take_text(r, f, NODE_RELATION, PROOF_PREFIX, ROUTE_WHY_ROW_SECURITY);
}

static bool take_view(struct catalog_rows *r, const struct slice *f)
{
    uint64_t oid;
    if (!oid_of(r, f[0], &oid))
        return false;
    struct node *node = find_node(r, NODE_RELATION + oid);
    if (!node || node->own.reason != no_text.reason)
        return fail(r, "the definition of a view that is not there");
    node->own = good;
    r->counts.views++;
    return take_text(r, f, NODE_RELATION, "", ROUTE_WHY_VIEW);
}

static take_fn *const takers[] = {
    [CATALOG_Q_DATABASE] = take_database,  [CATALOG_Q_FUNCTIONS] = take_function,
    [CATALOG_Q_HIDING] = take_hiding,      [CATALOG_Q_AGGREGATES] = take_function,
    [CATALOG_Q_OPERATORS] = take_operator, [CATALOG_Q_OPCLASSES] = take_opclass,
    [CATALOG_Q_TYPES] = take_type,         [CATALOG_Q_PARAMETERS] = take_parameter,
    [CATALOG_Q_TYPE_DEPS] = take_type_dep, [CATALOG_Q_CASTS] = take_cast,
    [CATALOG_Q_RELATIONS] = take_relation, [CATALOG_Q_COLUMNS] = take_column,
    [CATALOG_Q_INHERITS] = take_inherits,  [CATALOG_Q_CHECKS] = take_check,
    [CATALOG_Q_POLICIES] = take_policy,    [CATALOG_Q_VIEWS] = take_view,
};
_Static_assert(sizeof takers / sizeof *takers == CATALOG_Q_N, "a taker for each query");

bool catalog_rows_take(struct catalog_rows *r, enum catalog_query query, const struct slice *fields)
{
    CHECK(query < CATALOG_Q_N && !r->linked);
    if (r->error[0])
        return false;
    if (++r->row_n[query] > CATALOG_ROWS_MAX)
        return fail(r, "more than 1000000 rows of one kind");
    for (unsigned i = 0; i < catalog_rows_fields(query); i++)
        if (!fields[i].p)
            return fail(r, "a null where none can be");
    return takers[query](r, fields);
}

/* ---- the proof ---- */

/* Keys become places. What nobody described is not known to be good. */
static void link(struct catalog_rows *r)
{
    const struct verdict missing = {SQL_UNKNOWN, ROUTE_WHY_UNKNOWN_TYPE};
    struct edge *edges = r->edges.p;
    struct text *texts = r->texts.p;
    uint32_t edge_n = 0, text_n = 0;
    for (uint32_t i = 0; i < r->edges.n; i++) {
        struct node *from = find_node(r, edges[i].from), *to = find_node(r, edges[i].to);
        if (from && to)
            edges[edge_n++] = (struct edge){(uint64_t)(from - (struct node *)r->nodes.p),
                                            (uint64_t)(to - (struct node *)r->nodes.p)};
        else if (from)
            worsen(&from->own, missing);
    }
    for (uint32_t i = 0; i < r->texts.n; i++) {
        struct node *node = find_node(r, texts[i].node);
        if (!node)
            continue; /* a temporary table's policy, say: its name is not put either */
        node->unproven++;
        texts[text_n] = texts[i];
        texts[text_n++].node = (uint64_t)(node - (struct node *)r->nodes.p);
    }
    r->edges.n = edge_n;
    r->texts.n = text_n;
    r->linked = true;
}

static void put_node(struct catalog_rows *r, struct node *node)
{
    const bool relation = node->key >= NODE_RELATION;
    struct verdict v = node->all;
    worsen(&v, node->cast);
    if (node->name.n == 0 ||
        (node->was_put && v.class == node->put.class && v.reason == node->put.reason))
        return;
    node->was_put = true;
    node->put = v;
    put(r, relation ? CATALOG_RELATION : CATALOG_TYPE, kept(r, node->schema), kept(r, node->name),
        v);
}

/* What a relation says of the type that is its row is true of the type, for another reason. */
static struct verdict through(const struct node *from, const struct node *to)
{
    struct verdict v = to->all;
    if (v.class > SQL_READ && from->key < NODE_RELATION)
        v.reason = ROUTE_WHY_USER_TYPE;
    return v;
}

static bool spread_once(struct catalog_rows *r)
{
    const struct edge *edges = r->edges.p;
    bool moved = false;
    for (uint32_t i = 0; i < r->edges.n; i++) {
        struct node *from = node_at(r, edges[i].from);
        const struct node *to = node_at(r, edges[i].to);
        if (to->all.class <= from->inherited.class)
            continue;
        worsen(&from->inherited, through(from, to));
        worsen(&from->all, from->inherited);
        moved = true;
    }
    return moved;
}

/* All nodes again, from what their rows say, what is not proven, and what they depend on. */
static bool spread(struct catalog_rows *r)
{
    const struct text *texts = r->texts.p;
    for (uint32_t i = 0; i < r->nodes.n; i++) {
        struct node *node = node_at(r, i);
        node->all = node->inherited = node->own;
    }
    for (uint32_t i = 0; i < r->texts.n; i++)
        worsen(&node_at(r, texts[i].node)->all, (struct verdict){texts[i].class, texts[i].reason});
    for (unsigned sweeps = 0; spread_once(r); sweeps++)
        if (sweeps == CATALOG_PASSES_MAX)
            return fail(r, "types or inheritance that are nested too deeply");
    for (uint32_t i = 0; i < r->nodes.n; i++)
        put_node(r, node_at(r, i));
    return true;
}

static void prove(struct catalog_rows *r, struct text *text)
{
    const struct sql_env env = {.standard_conforming_strings = true, .catalog = r->catalog};
    struct node *node = node_at(r, text->node);
    struct sql_facts facts;
    if (text->class == SQL_READ || text->sql.n == 0)
        return;
    sql_classify(kept(r, text->sql), &env, &facts);
    text->class = facts.class > SQL_COPY_OUT ? facts.class : SQL_UNKNOWN;
    if (!(facts.flags & SQL_F_READ) || facts.statements != 1)
        return;
    text->class = SQL_READ;
    r->proved_some = true;
    if (--node->unproven > 0)
        return;
    node->all = node->inherited; /* what stands behind it in the order of oids may build on it */
    put_node(r, node);
}

enum catalog_progress catalog_rows_prove(struct catalog_rows *r, unsigned steps)
{
    if (!r->linked) {
        link(r);
        spread(r);
    }
    struct text *texts = r->texts.p;
    for (; steps > 0 && r->next_text < r->texts.n && !r->error[0]; steps--)
        prove(r, &texts[r->next_text++]);
    if (r->error[0])
        return CATALOG_FAILED;
    if (r->next_text < r->texts.n)
        return CATALOG_MORE;
    if (!spread(r))
        return CATALOG_FAILED;
    r->next_text = 0;
    const bool again = r->proved_some && ++r->passes < CATALOG_PASSES_MAX;
    r->proved_some = false;
    return again ? CATALOG_MORE : CATALOG_DONE;
}

/* mytype(x) can be a cast to mytype, also where a harmless function has its name. */
static void put_casts_as_functions(struct catalog_rows *r)
{
    for (uint32_t i = 0; i < r->nodes.n && node_at(r, i)->key < NODE_RELATION; i++) {
        const struct node *node = node_at(r, i);
        const struct catalog_name name = {kept(r, node->name), true, 0};
        if (node->was_put && node->put.class > SQL_READ &&
            catalog_find(r->catalog, CATALOG_FUNCTION, NULL, &name).known)
            put_worst(r, CATALOG_FUNCTION, kept(r, node->schema), kept(r, node->name), node->put);
    }
}

struct catalog *catalog_rows_finish(struct catalog_rows *r, struct catalog_counts *counts)
{
    struct catalog *catalog = r->catalog;
    const struct text *texts = r->texts.p;
    CHECK(r->linked && !r->error[0]);
    put_casts_as_functions(r);
    mark_all(r);
    for (uint32_t i = 0; i < r->texts.n; i++)
        r->counts.views_read += texts[i].reason == ROUTE_WHY_VIEW && texts[i].class == SQL_READ;
    *counts = r->counts;
    r->catalog = NULL;
    return catalog;
}
