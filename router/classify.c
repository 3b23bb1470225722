/* router/classify.c: the head of each statement decides what it is; body.c reads the rest. */
#include "router/classify.h"

#include "base/check.h"
#include "router/body.h"
#include "router/lookup.h"
#include "router/quick.h"

#define SESSION_PIN (SQL_F_SESSION | SQL_F_PIN)

/* ---- texts of the classes ---- */

struct class_text {
    const char *text;
    const char *example;
    bool replica;
};

static const struct class_text class_texts[] = {
#define CLASS(name, text, replica, example) [SQL_##name] = {text, example, replica},
#include "router/classes.def"
#undef CLASS
};
_Static_assert(sizeof class_texts / sizeof class_texts[0] == SQL_CLASS_N, "a text for each class");

const char *sql_class_text(enum sql_class class)
{
    CHECK(class < SQL_CLASS_N);
    return class_texts[class].text;
}

const char *sql_class_example(enum sql_class class)
{
    CHECK(class < SQL_CLASS_N);
    return class_texts[class].example;
}

bool sql_class_on_replica(enum sql_class class)
{
    CHECK(class < SQL_CLASS_N);
    return class_texts[class].replica;
}

static const uint8_t class_reasons[] = {
#define CLASS(name, text, replica, example) [SQL_##name] = ROUTE_WHY_##name,
#include "router/classes.def"
#undef CLASS
};

/* ---- one statement ---- */

struct statement {
    enum sql_class class;
    enum route_reason reason;
    uint32_t flags;
    const struct catalog *catalog;
};

static void set_class(struct statement *st, enum sql_class class)
{
    st->class = class;
    st->reason = (enum route_reason)class_reasons[class];
}

/* Read on to the end of the statement for what any class must know: session state taken by
 * functions, temporary objects, tokens that do not scan. */
static void read_rest(struct cursor *c, struct statement *st, bool routine)
{
    const struct body_options options = {.routine = routine, .calls = st->catalog};
    struct body_verdict verdict;
    body_prove(c, &options, &verdict);
    /* names in front of "(" are seldom calls */
    if (st->class != SQL_WRITE && !lookup_is_complete(st->catalog))
        verdict.flags &= ~(uint32_t)SQL_F_HIDING;
    st->flags |= verdict.flags | (verdict.unread ? SQL_F_HIDING : 0);
    if (sql_class_on_replica(st->class) && verdict.flags & (SQL_F_SESSION | SQL_F_ADVISORY))
        set_class(st, SQL_SESSION_FUNCTION); /* where no call can be: PostgreSQL tells */
    if (!verdict.broken)
        return;
    st->class = SQL_UNKNOWN;
    st->reason = ROUTE_WHY_BAD_TOKEN;
}

static void head_query(struct cursor *c, struct statement *st)
{
    const struct body_options options = {.query = true, .catalog = st->catalog};
    struct body_verdict verdict;
    body_prove(c, &options, &verdict);
    st->class = verdict.class;
    st->reason = verdict.reason;
    st->flags |= verdict.flags;
}

/* ISOLATION LEVEL ..., READ ONLY, READ WRITE, [NOT] DEFERRABLE. */
static void head_begin(struct cursor *c, struct statement *st)
{
    bool read_only = false, other = false;
    enum keyword before = KW_NONE;
    for (; !cursor_ends(c); cursor_next(c)) {
        if (c->keyword == KW_only && before == KW_read)
            read_only = true;
        other |= c->keyword == KW_write || c->keyword == KW_serializable;
        before = c->keyword;
    }
    st->flags |= read_only && !other ? SQL_F_BEGIN_READ_ONLY : SQL_F_NOT_READ;
}

static void head_start(struct cursor *c, struct statement *st)
{
    if (c->keyword == KW_transaction)
        head_begin(c, st);
    else
        set_class(st, SQL_UNKNOWN);
}

/* AND CHAIN opens the next transaction at once. */
static bool ends_with_chain(struct cursor *c)
{
    bool no = false, chain = false;
    for (; !cursor_ends(c); cursor_next(c)) {
        no |= c->keyword == KW_no;
        chain |= c->keyword == KW_chain;
    }
    return chain && !no;
}

static void end_transaction(struct cursor *c, struct statement *st)
{
    const bool chain = ends_with_chain(c);
    st->flags |= chain ? SQL_F_BEGIN | SQL_F_NOT_READ : SQL_F_TX_END | SQL_F_TX_CLOSED;
}

static void head_commit(struct cursor *c, struct statement *st)
{
    st->flags |= SQL_F_COMMIT;
    if (c->keyword == KW_prepared)
        set_class(st, SQL_TWO_PHASE);
    else
        end_transaction(c, st);
}

static void head_rollback(struct cursor *c, struct statement *st)
{
    if (c->keyword == KW_prepared) {
        set_class(st, SQL_TWO_PHASE);
        return;
    }
    if (!cursor_accept(c, KW_work))
        cursor_accept(c, KW_transaction);
    if (c->keyword == KW_to) {
        set_class(st, SQL_SAVEPOINT);
        st->flags |= SQL_F_SAVEPOINT;
        return;
    }
    end_transaction(c, st);
}

static bool is_name(const struct cursor *c)
{
    return c->kind == SCAN_WORD || c->kind == SCAN_QUOTED;
}

/* SET SEED: no transaction's end undoes it. */
static bool is_seed(const struct cursor *c)
{
    return is_name(c) && c->word.text.n == 4 &&
           strncasecmp((const char *)c->word.text.p, "seed", 4) == 0;
}

/* SET TRANSACTION SNAPSHOT: known where it was exported, and pg_export_snapshot() is for the primary. */
static bool takes_snapshot(struct cursor *c)
{
    return cursor_accept(c, KW_transaction) && c->keyword == KW_snapshot;
}

/* SET LOCAL, SET TRANSACTION, SET CONSTRAINTS end with the transaction; the rest stays. */
static void head_set(struct cursor *c, struct statement *st)
{
    const bool local = cursor_accept(c, KW_local);
    const bool of_tx = local || c->keyword == KW_transaction || c->keyword == KW_constraints;
    if (!local)
        cursor_accept(c, KW_session);
    if (is_seed(c))
        st->flags |= SESSION_PIN | SQL_F_TAINT;
    if (of_tx) {
        set_class(st, takes_snapshot(c) ? SQL_XID : SQL_TX_STATE);
        st->flags |= SQL_F_TX_STATE;
        return;
    }
    st->flags |= SQL_F_SESSION | SQL_F_SET;
}

static void head_prepare(struct cursor *c, struct statement *st)
{
    if (c->keyword == KW_transaction) {
        set_class(st, SQL_TWO_PHASE);
        st->flags |= SQL_F_TX_END | SQL_F_TX_CLOSED | SQL_F_COMMIT;
        return;
    }
    st->flags |= SESSION_PIN | SQL_F_PREPARE;
}

static void head_discard(struct cursor *c, struct statement *st)
{
    if (cursor_accept(c, KW_all) && cursor_ends(c))
        st->flags |= SQL_F_DISCARD_ALL | SQL_F_ALONE;
}

static void head_deallocate(struct cursor *c, struct statement *st)
{
    cursor_accept(c, KW_prepare);
    st->flags |= c->keyword == KW_all ? SQL_F_DEALLOCATE_ALL : SQL_F_DEALLOCATE;
}

/* DECLARE c CURSOR WITH HOLD FOR query: HOLD lives on after the transaction. */
static void head_declare(struct cursor *c, struct statement *st)
{
    enum keyword before = KW_NONE;
    for (; !cursor_ends(c) && c->keyword != KW_for; cursor_next(c)) {
        if (c->keyword == KW_hold && before == KW_with)
            st->flags |= SESSION_PIN;
        before = c->keyword;
    }
}

static bool names_catalog(const struct cursor *c)
{
    if (!is_name(c) || !c->word.plain)
        return false;
    return c->word.known.keyword == KW_information_schema || name_starts_pg(c->text);
}

static const uint8_t alone_objects[KW_N] = {
    [KW_database] = 1, [KW_tablespace] = 1, [KW_subscription] = 1, [KW_system] = 1};

/* CREATE [OR REPLACE] [LOCAL | GLOBAL] TEMP ...; DROP DATABASE; REINDEX INDEX CONCURRENTLY: all
 * within the first words, and later ones may be names. */
static void head_ddl(struct cursor *c, struct statement *st)
{
    enum { HEAD_WORDS = 5 };
    for (int n = 0; n < HEAD_WORDS && c->kind == SCAN_WORD; n++) {
        const enum keyword k = c->keyword;
        if (names_catalog(c)) /* pg_temp: read_rest() must see its dot */
            return;
        if (k == KW_temp || k == KW_temporary)
            st->flags |= SESSION_PIN | SQL_F_TEMP;
        if (k == KW_concurrently || (n == 0 && alone_objects[k]))
            st->flags |= SQL_F_ALONE;
        cursor_next(c);
    }
}

static void make_worse(struct statement *st, struct effect effect)
{
    if (effect.class <= st->class)
        return;
    st->class = effect.class;
    st->reason = effect.reason;
}

/* The name that is the token: of a schema, or of the relation. */
static void read_copy_name(struct cursor *c, struct statement *source, struct schema *schema)
{
    static const struct effect catalog_read = {SQL_CATALOG_READ, ROUTE_WHY_CATALOG_READ, 0};
    static const struct effect temporary = {SQL_PRIMARY_RELATION, ROUTE_WHY_PRIMARY_RELATION, 0};
    const struct word name = c->word;
    const bool catalog = names_catalog(c);
    cursor_next(c);
    if (catalog)
        make_worse(source, catalog_read);
    if (c->mark == '.' && name_starts_pg_temp(name.text)) {
        make_worse(source, temporary);
        source->flags |= SESSION_PIN | SQL_F_TEMP;
    }
    if (c->mark != '.' && source->class == SQL_READ)
        make_worse(source, lookup_relation(source->catalog, schema, &name));
    schema->kind = QUALIFIER_OTHER;
    schema->usable = lookup_name(&name, &schema->name);
}

static void read_copy_table(struct cursor *c, struct statement *source)
{
    struct schema schema = {.kind = QUALIFIER_NONE};
    if (!is_name(c))
        set_class(source, SQL_UNKNOWN);
    while (is_name(c)) {
        read_copy_name(c, source, &schema);
        if (c->mark != '.')
            break;
        cursor_next(c);
    }
    make_worse(source, lookup_everywhere(source->catalog));
    while (!cursor_ends(c) && c->keyword != KW_to && c->keyword != KW_from)
        cursor_next(c);
}

static void read_copy_query(struct cursor *c, struct statement *source)
{
    const struct body_options options = {
        .query = true, .stop_at_end = true, .catalog = source->catalog};
    struct body_verdict verdict;
    cursor_next(c);
    body_prove(c, &options, &verdict);
    *source = (struct statement){verdict.class, verdict.reason, verdict.flags, source->catalog};
}

/* COPY ... TO STDOUT is as its source; FROM, a file and a program are writes. */
static void head_copy(struct cursor *c, struct statement *st)
{
    struct statement source = {.class = SQL_READ, .reason = ROUTE_WHY_READ, .catalog = st->catalog};
    cursor_accept(c, KW_binary);
    if (c->mark == '(')
        read_copy_query(c, &source);
    else
        read_copy_table(c, &source);
    st->flags |= source.flags;
    if (cursor_accept(c, KW_from)) {
        if (c->keyword == KW_stdin || c->keyword == KW_stdout)
            st->flags |= SQL_F_COPY_IN;
        return;
    }
    if (!cursor_accept(c, KW_to) || !cursor_accept(c, KW_stdout))
        return;
    if (source.class == SQL_READ)
        set_class(st, SQL_COPY_OUT);
    else
        *st = source;
}

static bool starts_query(const struct cursor *c)
{
    return c->mark == '(' || c->keyword == KW_select || c->keyword == KW_with ||
           c->keyword == KW_values || c->keyword == KW_table;
}

/* EXPLAIN [ANALYZE] [VERBOSE] or EXPLAIN (options). Whether it says ANALYZE, even if it says off.
 */
static bool skip_explain_options(struct cursor *c)
{
    bool analyze = false;
    for (; c->keyword == KW_analyze || c->keyword == KW_analyse || c->keyword == KW_verbose;
         cursor_next(c))
        analyze |= c->keyword != KW_verbose;
    if (c->mark != '(')
        return analyze;
    struct cursor ahead = *c;
    cursor_next(&ahead);
    if (starts_query(&ahead))
        return analyze;
    for (*c = ahead; !cursor_ends(c) && c->mark != ')'; cursor_next(c))
        analyze |= c->keyword == KW_analyze || c->keyword == KW_analyse;
    if (c->mark == ')')
        cursor_next(c);
    return analyze;
}

/* Of a query: as the query. Of anything else: EXPLAIN, or with ANALYZE what is executed. */
static void head_explain(struct cursor *c, struct statement *st);

/* ---- the heads ---- */

typedef void head_fn(struct cursor *c, struct statement *st);

struct head {
    bool known;
    enum sql_class class;
    uint32_t flags;
    head_fn *read; /* reads the words behind the first one, as far as it needs */
};

#define HEAD(class, flags, read)       \
    {                                  \
        true, SQL_##class, flags, read \
    }

static const struct head heads[KW_N] = {
    [KW_select] = HEAD(READ, 0, head_query),
    [KW_values] = HEAD(READ, 0, head_query),
    [KW_table] = HEAD(READ, 0, head_query),
    [KW_with] = HEAD(READ, 0, head_query),
    [KW_insert] = HEAD(WRITE, 0, NULL),
    [KW_update] = HEAD(WRITE, 0, NULL),
    [KW_delete] = HEAD(WRITE, 0, NULL),
    [KW_merge] = HEAD(WRITE, 0, NULL),
    [KW_truncate] = HEAD(WRITE, 0, NULL),
    [KW_begin] = HEAD(TX_CONTROL, SQL_F_BEGIN, head_begin),
    [KW_start] = HEAD(TX_CONTROL, SQL_F_BEGIN, head_start),
    [KW_commit] = HEAD(TX_CONTROL, 0, head_commit),
    [KW_end] = HEAD(TX_CONTROL, 0, head_commit),
    [KW_rollback] = HEAD(TX_CONTROL, 0, head_rollback),
    [KW_abort] = HEAD(TX_CONTROL, 0, head_rollback),
    [KW_savepoint] = HEAD(SAVEPOINT, SQL_F_SAVEPOINT, NULL),
    [KW_release] = HEAD(SAVEPOINT, SQL_F_SAVEPOINT, NULL),
    [KW_set] = HEAD(SESSION_STATE, 0, head_set),
    [KW_reset] = HEAD(SESSION_STATE, SQL_F_SESSION | SQL_F_SET, NULL),
    [KW_show] = HEAD(SHOW, 0, NULL),
    [KW_explain] = HEAD(EXPLAIN, 0, head_explain),
    [KW_prepare] = HEAD(PREPARE, 0, head_prepare),
    [KW_execute] = HEAD(EXECUTE, SQL_F_EXECUTE, NULL),
    [KW_deallocate] = HEAD(DEALLOCATE, 0, head_deallocate),
    [KW_discard] = HEAD(DISCARD, SQL_F_DISCARD, head_discard),
    [KW_declare] = HEAD(CURSOR, SQL_F_CURSOR, head_declare),
    [KW_fetch] = HEAD(CURSOR, SQL_F_CURSOR, NULL),
    [KW_move] = HEAD(CURSOR, SQL_F_CURSOR, NULL),
    [KW_close] = HEAD(CURSOR, SQL_F_CURSOR, NULL),
    [KW_listen] = HEAD(LISTEN, SESSION_PIN | SQL_F_LISTEN, NULL),
    [KW_unlisten] = HEAD(LISTEN, SQL_F_LISTEN, NULL),
    [KW_notify] = HEAD(NOTIFY, 0, NULL),
    [KW_lock] = HEAD(LOCK, 0, NULL),
    [KW_wait] = HEAD(WAIT, 0, NULL),
    [KW_copy] = HEAD(COPY, 0, head_copy),
    [KW_call] = HEAD(CALL, SQL_F_BODY, NULL),
    [KW_do] = HEAD(CALL, SQL_F_BODY, NULL),
    [KW_create] = HEAD(DDL, SQL_F_DDL, head_ddl),
    [KW_alter] = HEAD(DDL, SQL_F_DDL, head_ddl),
    [KW_drop] = HEAD(DDL, SQL_F_DDL, head_ddl),
    [KW_comment] = HEAD(DDL, SQL_F_DDL, NULL),
    [KW_grant] = HEAD(DDL, SQL_F_DDL, NULL),
    [KW_revoke] = HEAD(DDL, SQL_F_DDL, NULL),
    [KW_security] = HEAD(DDL, SQL_F_DDL, NULL),
    [KW_reassign] = HEAD(DDL, SQL_F_DDL, NULL),
    [KW_import] = HEAD(DDL, SQL_F_DDL, NULL),
    [KW_refresh] = HEAD(DDL, SQL_F_DDL, NULL),
    [KW_reindex] = HEAD(UTILITY, 0, head_ddl),
    [KW_cluster] = HEAD(UTILITY, 0, NULL),
    [KW_vacuum] = HEAD(UTILITY, SQL_F_ALONE, NULL),
    [KW_analyze] = HEAD(UTILITY, 0, NULL),
    [KW_analyse] = HEAD(UTILITY, 0, NULL),
    [KW_checkpoint] = HEAD(UTILITY, 0, NULL),
    [KW_load] = HEAD(UTILITY, SESSION_PIN | SQL_F_TAINT, NULL),
};

/* EXPLAIN ANALYZE CREATE TEMP TABLE ... makes one. Of EXPLAIN itself there is none. */
static void head_executed(struct cursor *c, struct statement *st)
{
    const struct head *head = &heads[c->keyword];
    set_class(st, head->class);
    st->flags |= head->flags;
    cursor_next(c);
    if (head->read != NULL && head->read != head_explain)
        head->read(c, st);
}

static void head_explain(struct cursor *c, struct statement *st)
{
    const bool analyze = skip_explain_options(c);
    if (starts_query(c))
        head_query(c, st);
    else if (analyze && heads[c->keyword].known)
        head_executed(c, st);
}

/* Neither a proven read nor transaction control that fits a READ ONLY transaction. */
static uint32_t read_flag(const struct statement *st)
{
    if (sql_class_on_replica(st->class))
        return SQL_F_READ;
    return st->class == SQL_TX_CONTROL || st->class == SQL_SAVEPOINT ? 0 : SQL_F_NOT_READ;
}

/* From the first token of a statement to its end. */
static void classify_one(struct cursor *c, const struct catalog *catalog, struct sql_facts *out)
{
    struct statement st = {.class = SQL_UNKNOWN, .reason = ROUTE_WHY_UNKNOWN, .catalog = catalog};
    const struct head *head = &heads[c->mark == '(' ? KW_select : c->keyword];
    const bool routine = c->keyword == KW_create;
    if (!head->known)
        st.flags = SQL_F_HIDING;
    if (head->known) {
        set_class(&st, head->class);
        st.flags = head->flags;
        if (head->read != head_query)
            cursor_next(c);
        if (head->read != NULL)
            head->read(c, &st);
    }
    if (!cursor_ends(c) || c->kind == SCAN_BAD)
        read_rest(c, &st, routine);
    while (!cursor_ends(c)) /* too deep to read */
        cursor_next(c);
    out->class = (uint8_t)st.class;
    out->reason = (uint8_t)st.reason;
    out->statements = 1;
    out->flags = st.flags | read_flag(&st);
}

/* ---- several statements ---- */

void sql_facts_init(struct sql_facts *facts)
{
    *facts = (struct sql_facts){.class = SQL_EMPTY,
                                .reason = ROUTE_WHY_EMPTY,
                                .statements = 0,
                                .flags = SQL_F_EMPTY | SQL_F_READ,
                                .fingerprint = 0};
}

/* What "into; more" leaves of transactions: the last one to say something is right. */
static uint32_t joined_state(const struct sql_facts *into, const struct sql_facts *more)
{
    const uint32_t state = SQL_F_BEGIN | SQL_F_TX_CLOSED;
    return more->flags & state ? more->flags & state : into->flags & state;
}

void sql_facts_join(struct sql_facts *into, const struct sql_facts *more)
{
    const uint32_t by_hand = SQL_F_READ | SQL_F_EMPTY | SQL_F_MULTI | SQL_F_BEGIN |
                             SQL_F_BEGIN_READ_ONLY | SQL_F_TX_END | SQL_F_TX_CLOSED |
                             SQL_F_DISCARD_ALL;
    if (more->statements == 0)
        return;
    if (into->statements == 0) {
        *into = *more;
        return;
    }
    uint32_t flags = ((into->flags | more->flags) & ~by_hand) | SQL_F_MULTI;
    flags |= into->flags & more->flags & SQL_F_READ;
    flags |= into->flags & SQL_F_BEGIN_READ_ONLY;
    flags |= more->flags & SQL_F_TX_END;
    flags |= joined_state(into, more);
    if (more->class > into->class) {
        into->class = more->class;
        into->reason = more->reason;
    }
    const uint32_t n = (uint32_t)into->statements + more->statements;
    into->statements = n < UINT16_MAX ? (uint16_t)n : UINT16_MAX;
    into->flags = flags;
    into->fingerprint = into->fingerprint * 31 + more->fingerprint;
}

void sql_facts_declare(struct sql_facts *facts, struct slice oids, const struct catalog *catalog)
{
    for (; oids.n >= 4; oids = slice_skip(oids, 4)) {
        const struct effect effect = lookup_parameter(catalog, slice_u32(oids.p));
        if (effect.class == SQL_READ || !(facts->flags & SQL_F_READ))
            continue;
        facts->class = (uint8_t)effect.class;
        facts->reason = (uint8_t)effect.reason;
        facts->flags = (facts->flags & ~(uint32_t)SQL_F_READ) | SQL_F_NOT_READ;
    }
}

static void set_unknown(struct sql_facts *out, enum route_reason why)
{
    *out = (struct sql_facts){.class = SQL_UNKNOWN,
                              .reason = (uint8_t)why,
                              .statements = 1,
                              .flags = SQL_F_NOT_READ | SQL_F_HIDING,
                              .fingerprint = 0};
}

/* Without one every encoding is read alike. */
static bool has_letters_beyond_ascii(struct slice sql)
{
    uint8_t all = 0;
    for (size_t i = 0; i < sql.n; i++)
        all |= sql.p[i];
    return all >= 0x80;
}

static void read_text(struct slice sql, const struct sql_env *env, bool quick,
                      struct sql_facts *out)
{
    sql_facts_init(out);
    if (env->ascii_trail_bytes && has_letters_beyond_ascii(sql)) {
        set_unknown(out, ROUTE_WHY_ENCODING);
        return;
    }
    if (quick && quick_classify(sql, env, out))
        return;
    if (sql.n > 0 && memchr(sql.p, 0, sql.n) != NULL) {
        set_unknown(out, ROUTE_WHY_BAD_TOKEN);
        return;
    }
    struct cursor c;
    cursor_init(&c, sql, env->standard_conforming_strings);
    for (;;) {
        while (c.mark == ';')
            cursor_next(&c);
        if (c.kind == SCAN_END)
            break;
        struct sql_facts one;
        one.fingerprint = 0;
        classify_one(&c, env->catalog, &one);
        sql_facts_join(out, &one);
        if (c.kind == SCAN_BAD) {
            CHECK(out->class == SQL_UNKNOWN);
            break;
        }
    }
    out->fingerprint = c.fingerprint.value;
    CHECK(((out->flags & SQL_F_READ) != 0) == sql_class_on_replica((enum sql_class)out->class));
}

/* What it writes may have triggers. */
static bool may_write(const struct sql_facts *facts)
{
    return facts->class >= SQL_HIDDEN_WRITE || facts->class == SQL_EXPLAIN;
}

static void classify(struct slice sql, const struct sql_env *env, bool quick, struct sql_facts *out)
{
    read_text(sql, env, quick, out);
    if (may_write(out))
        out->flags |= lookup_hiding(env->catalog, CATALOG_HIDES_WRITES);
}

void sql_classify(struct slice sql, const struct sql_env *env, struct sql_facts *out)
{
    classify(sql, env, true, out);
}

void sql_classify_in_full(struct slice sql, const struct sql_env *env, struct sql_facts *out)
{
    classify(sql, env, false, out);
}
