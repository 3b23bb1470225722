/* router/body.c: one pass over the tokens with one token of memory, a stack of bits for the
 * parentheses, and the question "did an operand just end?", which tells infix words from names. */
#include "router/body.h"

#include "base/check.h"

/* Has the previous token ended an operand? MAYBE: it was a word that PostgreSQL's grammar also uses
 * in front of one. NO is always the safe answer: then a name before "(" is a call. */
enum after { AFTER_NO, AFTER_MAYBE, AFTER_YES };

/* A name that waits for its next token to say what it is. */
enum pending {
    PENDING_NONE,
    PENDING_NAME,
    PENDING_TYPE,
    PENDING_INFIX /* infix behind a MAYBE word: only "(" would make it a call */
};

enum qualifier { QUALIFIER_NONE, QUALIFIER_PG_CATALOG, QUALIFIER_OTHER };

/* What "(" means behind a name in this place. */
enum place {
    PLACE_CALL,    /* the rule */
    PLACE_COLUMNS, /* alias(a, b), also with types behind the names */
    PLACE_CTE      /* WITH name(a, b) */
};

/* The third argument of set_config(), which must be the literal true to leave no trace. */
enum local { LOCAL_NONE, LOCAL_TRUE, LOCAL_OTHER };

struct body {
    struct cursor *c;
    struct body_options options;
    struct body_verdict verdict;
    unsigned depth;
    enum after after;
    enum pending pending;
    enum qualifier qualifier;
    enum place place;
    bool dotted;          /* the last token was the dot of a qualified name */
    bool want_type;       /* behind :: or the AS of a CAST */
    bool paren_after_as;  /* behind AS ( : a query, a window or column definitions? */
    bool opens_columns;   /* the "(" that is the token opens a column list */
    bool first;           /* no token of the statement was taken yet */
    bool done;            /* stop_at_end was met */
    enum keyword keyword; /* of the previous token, and of the one before */
    enum keyword keyword2;
    uint8_t mark; /* of the previous token, and of the one before */
    uint8_t mark2;
    bool name_before;      /* the previous token was a name */
    unsigned atomic;       /* BEGIN ATOMIC and CASE that are still open */
    unsigned config_depth; /* of the set_config() we are in, 0 outside */
    unsigned config_commas;
    enum local config_local;
    uint64_t cast;        /* bit d: the parenthesis at depth d is that of CAST, TREAT ... */
    uint64_t distinct_on; /* ... of DISTINCT ON: no operand ends with it */
    uint64_t columns;     /* ... of a column list: a name behind a name is a type */
    uint64_t with;        /* we are in the list of a WITH at depth d */
};

static bool bit(uint64_t bits, unsigned depth)
{
    return (bits >> depth & 1) != 0;
}

static void set_bit(uint64_t *bits, unsigned depth, bool on)
{
    *bits = (*bits & ~(UINT64_C(1) << depth)) | (uint64_t)on << depth;
}

static void forbid(struct body *b, enum sql_class class, enum route_reason reason)
{
    if (class <= b->verdict.class)
        return;
    b->verdict.class = class;
    b->verdict.reason = reason;
}

#define FORBID(b, name) forbid(b, SQL_##name, ROUTE_WHY_##name)

/* The text is no statement that we can read to its end. */
static void give_up(struct body *b, enum route_reason reason)
{
    b->verdict.broken = true;
    forbid(b, SQL_UNKNOWN, reason);
}

static bool starts_pg(struct slice name)
{
    return name.n > 3 && (name.p[0] | 0x20) == 'p' && (name.p[1] | 0x20) == 'g' && name.p[2] == '_';
}

static bool starts_pg_temp(struct slice name)
{
    static const char temp[] = "pg_temp";
    if (name.n < sizeof temp - 1)
        return false;
    for (size_t i = 3; i < sizeof temp - 1; i++)
        if ((name.p[i] | 0x20) != temp[i])
            return false;
    return starts_pg(name);
}

struct function_effect {
    enum sql_class class;
    enum route_reason reason;
    uint32_t flags;
};

static const struct function_effect effects[FN_CLASS_N] = {
    [FN_UNKNOWN] = {SQL_UNKNOWN, ROUTE_WHY_UNKNOWN_FUNCTION, 0},
#define FNCLASS(name, class, flags) [FN_##name] = {SQL_##class, ROUTE_WHY_##class, flags},
#include "router/function_classes.def"
#undef FNCLASS
};

/* The pending name is called: "(" is the token. */
static void take_call(struct body *b)
{
    const struct word *name = cursor_word_before(b->c);
    const enum function_class fn = name->plain ? function_find(name) : FN_UNKNOWN;
    const struct function_effect *effect = &effects[fn];
    b->verdict.flags |= effect->flags;
    if (b->qualifier == QUALIFIER_OTHER)
        effect = &effects[FN_UNKNOWN];
    forbid(b, effect->class, effect->reason);
    if (fn != FN_SET_CONFIG)
        return;
    if (b->config_depth != 0) /* one inside the other: do not count arguments */
        b->verdict.flags |= SQL_F_SESSION | SQL_F_SET_FUNCTION;
    b->config_depth = b->depth + 1;
    b->config_commas = 0;
    b->config_local = LOCAL_NONE;
}

/* The pending name is the type of a cast or of 'literal'. */
static void take_type(struct body *b)
{
    const struct word *name = cursor_word_before(b->c);
    const enum type_class type = name->plain ? type_find(name) : TYPE_UNKNOWN;
    if (b->qualifier == QUALIFIER_OTHER || type == TYPE_UNKNOWN)
        forbid(b, SQL_UNKNOWN, ROUTE_WHY_UNKNOWN_TYPE);
    else if (type == TYPE_CATALOG)
        FORBID(b, CATALOG_READ);
    if (name->keyword == KW_double && b->c->keyword != KW_precision) /* then it is a user's type */
        forbid(b, SQL_UNKNOWN, ROUTE_WHY_UNKNOWN_TYPE);
}

/* The pending name is neither called nor a type: a column, a relation, an alias, a keyword. */
static void take_plain(struct body *b)
{
    if (b->qualifier == QUALIFIER_PG_CATALOG ||
        (b->qualifier == QUALIFIER_NONE && starts_pg(cursor_word_before(b->c)->text)))
        FORBID(b, CATALOG_READ);
}

/* Is the name this one, quoted or not? A quoted name has no keyword: it must be looked up. */
static bool names(const struct word *name, enum keyword keyword)
{
    if (name->text.n < 10) /* "pg_catalog" is the shortest that is asked for */
        return false;
    return (name->plain ? keyword_find(name) : KW_NONE) == keyword;
}

/* The pending name is a qualifier: "." is the token. */
static void take_qualifier(struct body *b)
{
    const struct word *name = cursor_word_before(b->c);
    const bool pg = starts_pg(name->text);
    const bool pg_catalog = names(name, KW_pg_catalog) && b->qualifier == QUALIFIER_NONE;
    b->qualifier = pg_catalog ? QUALIFIER_PG_CATALOG : QUALIFIER_OTHER;
    b->dotted = true;
    if (pg && starts_pg_temp(name->text))
        b->verdict.flags |= SQL_F_SESSION | SQL_F_PIN | SQL_F_TEMP;
    if ((pg && !pg_catalog) || names(name, KW_information_schema))
        FORBID(b, CATALOG_READ);
}

/* "(" behind the pending name. */
static void take_open(struct body *b)
{
    if (b->pending == PENDING_TYPE)
        take_type(b);
    else if (b->place == PLACE_CALL || b->pending == PENDING_INFIX)
        take_call(b);
    else
        b->opens_columns = true;
}

/* Now that the next token is known, settle the pending name. */
static void settle(struct body *b)
{
    const struct cursor *c = b->c;
    const enum pending pending = b->pending;
    if (pending == PENDING_NONE)
        return;
    if (c->mark == '.') {
        take_qualifier(b);
        b->want_type = pending == PENDING_TYPE;
        b->pending = PENDING_NONE;
        return; /* the qualifier waits for its name */
    }
    if (c->mark == '(')
        take_open(b);
    else if (pending == PENDING_TYPE || (pending == PENDING_NAME && c->token.kind == SCAN_STRING))
        take_type(b);
    else if (pending == PENDING_NAME)
        take_plain(b);
    b->pending = PENDING_NONE;
    b->qualifier = QUALIFIER_NONE;
}

static enum place place_here(const struct body *b)
{
    if (b->dotted)
        return PLACE_CALL;
    if (b->keyword == KW_as && !bit(b->cast, b->depth))
        return PLACE_COLUMNS;
    if (b->mark == ')' && b->after == AFTER_YES)
        return PLACE_COLUMNS;
    if (bit(b->with, b->depth) &&
        (b->mark == ',' || b->keyword == KW_with || b->keyword == KW_recursive))
        return PLACE_CTE;
    return PLACE_CALL;
}

/* The token is a name; the next one will tell of what. */
static void pend(struct body *b, enum after after)
{
    b->place = place_here(b);
    b->pending = b->want_type ? PENDING_TYPE : PENDING_NAME;
    b->dotted = false;
    b->want_type = false;
    b->after = after;
}

/* In a column list, what stands behind a name is a type, or goes on with one. */
static bool is_column_type(const struct body *b)
{
    if (!b->name_before || !bit(b->columns, b->depth))
        return false;
    const enum keyword k = b->c->keyword;
    const bool goes_on = k == KW_precision || k == KW_varying || k == KW_with || k == KW_without ||
                         k == KW_time || k == KW_zone;
    return k != KW_collate && !(goes_on && b->keyword != KW_NONE);
}

typedef void take_word_fn(struct body *b);

static void take_ident(struct body *b)
{
    pend(b, AFTER_YES);
}

static void take_clause(struct body *b)
{
    set_bit(&b->with, b->depth, false);
    b->after = AFTER_NO;
}

static void take_as(struct body *b)
{
    b->want_type = bit(b->cast, b->depth);
    b->after = AFTER_NO;
}

/* Only in front of a query: WITH ORDINALITY, WITH TIES, WITH TIME ZONE stand behind something. */
static void take_with(struct body *b)
{
    set_bit(&b->with, b->depth, b->first || b->mark == '(');
    b->after = AFTER_NO;
}

static void take_not(struct body *b)
{
    (void)b; /* a NOT LIKE b, NOT a, IS NOT NULL: what ended before NOT still counts */
}

static void take_for(struct body *b)
{
    b->after = AFTER_NO; /* the word behind it decides: see take_locking() */
}

static void take_into(struct body *b)
{
    if (b->options.query)
        FORBID(b, HIDDEN_WRITE);
    b->after = AFTER_NO;
}

/* An unreserved word, so it may be a column; a column of that name costs us only the replica. */
static void take_dml(struct body *b)
{
    if (b->options.query && b->keyword != KW_for && b->keyword != KW_key)
        FORBID(b, HIDDEN_WRITE);
    pend(b, AFTER_MAYBE);
}

static void take_by(struct body *b)
{
    if (b->after == AFTER_NO && b->keyword != KW_group && b->keyword != KW_order)
        pend(b, AFTER_NO);
    b->after = AFTER_NO;
}

static void take_value(struct body *b)
{
    b->after = AFTER_YES;
}

/* A name that is never a function's; it may be a column's. */
static void take_form(struct body *b)
{
    b->after = AFTER_MAYBE;
}

static void take_operator_word(struct body *b)
{
    forbid(b, SQL_UNKNOWN, ROUTE_WHY_UNKNOWN_OPERATOR); /* a OPERATOR(schema.+) b */
    b->after = AFTER_NO;
}

static void take_infix(struct body *b)
{
    const bool zone = b->c->keyword == KW_zone && b->keyword == KW_time;
    if (b->after == AFTER_NO && !zone) {
        pend(b, AFTER_YES);
        return;
    }
    if (b->after == AFTER_MAYBE && !zone) {
        pend(b, AFTER_NO);
        b->pending = PENDING_INFIX;
    }
    b->after = AFTER_NO;
}

static void take_postfix(struct body *b)
{
    if (b->after == AFTER_NO)
        pend(b, AFTER_YES);
}

static void take_join_side(struct body *b)
{
    if (b->after != AFTER_YES)
        pend(b, b->after == AFTER_NO ? AFTER_YES : AFTER_MAYBE);
}

static void take_maybe(struct body *b)
{
    if (b->keyword == KW_fetch)
        b->after = AFTER_NO; /* FETCH FIRST (n) ROWS ONLY */
    else
        pend(b, AFTER_MAYBE);
}

/* Keywords only behind the word that goes before them in the grammar. */
static void take_after(struct body *b)
{
    const enum keyword now = b->c->keyword, before = b->keyword;
    const bool construct =
        (now == KW_sets && before == KW_grouping) ||
        ((now == KW_rollup || now == KW_cube) && before == KW_by && b->keyword2 == KW_group) ||
        (now == KW_materialized && (before == KW_as || before == KW_not)) ||
        (now == KW_recursive && before == KW_with) ||
        (now == KW_varying && (keyword_role(before) == KW_ROLE_TYPE));
    if (construct)
        b->after = now == KW_varying ? AFTER_YES : AFTER_NO;
    else
        pend(b, AFTER_YES);
}

static take_word_fn *const take_word_as[KW_ROLE_N] = {
    [KW_ROLE_NONE] = take_ident,
    [KW_ROLE_AS] = take_as,
    [KW_ROLE_WITH] = take_with,
    [KW_ROLE_NOT] = take_not,
    [KW_ROLE_FOR] = take_for,
    [KW_ROLE_INTO] = take_into,
    [KW_ROLE_BY] = take_by,
    [KW_ROLE_DML] = take_dml,
    [KW_ROLE_OPERATOR] = take_operator_word,
    [KW_ROLE_CLAUSE] = take_clause,
    [KW_ROLE_VALUE] = take_value,
    [KW_ROLE_FORM] = take_form,
    [KW_ROLE_TYPE] = take_form,
    [KW_ROLE_INFIX] = take_infix,
    [KW_ROLE_POSTFIX] = take_postfix,
    [KW_ROLE_JOIN_SIDE] = take_join_side,
    [KW_ROLE_MAYBE] = take_maybe,
    [KW_ROLE_AFTER] = take_after,
    [KW_ROLE_IDENT] = take_ident,
};

/* FOR UPDATE, FOR NO KEY UPDATE, FOR SHARE, FOR KEY SHARE; not substring(x FROM 1 FOR n). */
static void take_locking(struct body *b)
{
    const enum keyword k = b->c->keyword;
    if (b->keyword == KW_for && (k == KW_update || k == KW_share || k == KW_no || k == KW_key))
        FORBID(b, LOCKING_READ);
}

/* SELECT INTO TEMP t, SELECT INTO LOCAL TEMPORARY t. */
static void take_temp(struct body *b)
{
    const enum keyword k = b->c->keyword;
    if (b->options.query && b->keyword == KW_into &&
        (k == KW_temp || k == KW_temporary || k == KW_local || k == KW_global))
        b->verdict.flags |= SQL_F_SESSION | SQL_F_PIN | SQL_F_TEMP;
}

/* CREATE FUNCTION ... BEGIN ATOMIC ...; ...; END: CASE has an END of its own. */
static void take_atomic(struct body *b)
{
    const enum keyword k = b->c->keyword;
    if (b->atomic == 0)
        b->atomic = k == KW_atomic && b->keyword == KW_begin;
    else if (k == KW_case)
        b->atomic++;
    else if (k == KW_end)
        b->atomic--;
}

static void take_word(struct body *b)
{
    const struct cursor *c = b->c;
    if (b->options.routine)
        take_atomic(b);
    if (b->dotted || b->want_type) {
        pend(b, AFTER_YES);
        return;
    }
    if (is_column_type(b)) {
        b->want_type = true;
        pend(b, AFTER_YES);
        return;
    }
    if (b->keyword == KW_for)
        take_locking(b);
    if (b->keyword == KW_into)
        take_temp(b);
    take_word_as[keyword_role(c->keyword)](b);
}

/* Does AS ( open something else than column definitions? */
static bool opens_query_or_window(const struct cursor *c)
{
    static const uint8_t opens[KW_N] = {
        [KW_select] = 1, [KW_with] = 1,   [KW_values] = 1, [KW_table] = 1,     [KW_insert] = 1,
        [KW_update] = 1, [KW_delete] = 1, [KW_merge] = 1,  [KW_partition] = 1, [KW_order] = 1,
        [KW_rows] = 1,   [KW_range] = 1,  [KW_groups] = 1,
    };
    return c->mark == '(' || c->mark == ')' || opens[c->keyword];
}

/* AS row(a t) and f() row(a t): a name that cannot be a function's can still be an alias. */
static bool is_form_alias(const struct body *b)
{
    const enum kw_role role = keyword_role(b->keyword);
    return (role == KW_ROLE_FORM || role == KW_ROLE_TYPE) &&
           (b->keyword2 == KW_as || b->mark2 == ')');
}

static void take_open_paren(struct body *b)
{
    const enum keyword k = b->keyword;
    if (b->depth == BODY_DEPTH_MAX) {
        give_up(b, ROUTE_WHY_TOO_DEEP);
        b->done = true;
        return;
    }
    if (k != KW_as && k != KW_materialized && !b->opens_columns)
        set_bit(&b->with, b->depth, false); /* a query, not the next name of the WITH list */
    b->depth++;
    set_bit(&b->cast, b->depth, k == KW_cast || k == KW_treat || k == KW_xmlserialize);
    set_bit(&b->distinct_on, b->depth, k == KW_on && b->keyword2 == KW_distinct);
    set_bit(&b->columns, b->depth, b->opens_columns || is_form_alias(b));
    set_bit(&b->with, b->depth, false);
    b->paren_after_as = k == KW_as;
    b->opens_columns = false;
    b->after = AFTER_NO;
}

static void take_close_paren(struct body *b)
{
    if (b->depth == 0) {
        b->done = b->options.stop_at_end;
        if (!b->done)
            give_up(b, ROUTE_WHY_BAD_TOKEN);
        return;
    }
    b->after = bit(b->distinct_on, b->depth) ? AFTER_NO : AFTER_YES;
    b->depth--;
}

static void take_punct(struct body *b)
{
    switch (b->c->mark) {
    case '(':
        take_open_paren(b);
        break;
    case ')':
        take_close_paren(b);
        break;
    case ']':
        b->after = AFTER_YES;
        break;
    case '.':
        if (!b->dotted) /* (row).field, $1.field: no name that settle() has seen */
            b->qualifier = QUALIFIER_OTHER;
        b->dotted = true;
        return;
    case ';':
        if (b->atomic == 0)
            give_up(b, ROUTE_WHY_BAD_TOKEN);
        b->after = AFTER_NO;
        break;
    default:
        b->after = AFTER_NO;
        break;
    }
}

static void take_operator(struct body *b)
{
    const struct cursor *c = b->c;
    const struct slice op = c->token.text;
    const bool star = b->dotted && c->mark == '*';
    b->after = star ? AFTER_YES : AFTER_NO;
    if (op.n == 2 && op.p[0] == ':' && op.p[1] == ':')
        b->want_type = true;
    else if (!operator_known(op))
        forbid(b, SQL_UNKNOWN, ROUTE_WHY_UNKNOWN_OPERATOR);
}

/* Follow the arguments of set_config(). */
static void note_config(struct body *b)
{
    const struct cursor *c = b->c;
    if (b->depth == b->config_depth && c->mark == ')') {
        if (b->config_commas != 2 || b->config_local != LOCAL_TRUE)
            b->verdict.flags |= SQL_F_SESSION | SQL_F_SET_FUNCTION;
        b->config_depth = 0;
    } else if (b->depth == b->config_depth && c->mark == ',') {
        b->config_commas++;
    } else if (b->config_commas == 2) {
        const bool is_true = b->config_local == LOCAL_NONE && c->keyword == KW_true;
        b->config_local = is_true ? LOCAL_TRUE : LOCAL_OTHER;
    }
}

static void take_token(struct body *b)
{
    switch (b->c->token.kind) {
    case SCAN_WORD:
        take_word(b);
        break;
    case SCAN_QUOTED:
        b->want_type |= is_column_type(b);
        pend(b, AFTER_YES);
        break;
    case SCAN_UQUOTED:
        forbid(b, SQL_UNKNOWN, ROUTE_WHY_UNKNOWN_NAME);
        b->after = AFTER_YES;
        break;
    case SCAN_STRING:
    case SCAN_NUMBER:
    case SCAN_PARAM:
        b->after = AFTER_YES;
        break;
    case SCAN_OPERATOR:
        take_operator(b);
        break;
    case SCAN_PUNCT:
        take_punct(b);
        break;
    case SCAN_END:
    case SCAN_BAD:
        CHECK_UNREACHABLE();
    }
}

static void step(struct body *b)
{
    const struct cursor *c = b->c;
    const bool was_dotted = b->dotted;
    if (b->config_depth != 0)
        note_config(b);
    settle(b);
    if (b->paren_after_as)
        set_bit(&b->columns, b->depth, !opens_query_or_window(c));
    b->paren_after_as = false;
    take_token(b);
    if (was_dotted && c->mark != '.') {
        b->dotted = false;
        if (b->pending == PENDING_NONE)
            b->qualifier = QUALIFIER_NONE;
    }
    b->keyword2 = b->keyword;
    b->keyword = was_dotted ? KW_NONE : c->keyword;
    b->mark2 = b->mark;
    b->mark = c->mark;
    b->name_before = c->token.kind == SCAN_WORD || c->token.kind == SCAN_QUOTED;
    b->first = false;
}

static bool at_end(const struct body *b)
{
    if (b->done || b->c->token.kind == SCAN_END || b->c->token.kind == SCAN_BAD)
        return true;
    return b->c->mark == ';' && b->depth == 0 && b->atomic == 0;
}

void body_prove(struct cursor *c, const struct body_options *options, struct body_verdict *out)
{
    struct body b = {
        .c = c,
        .options = *options,
        .verdict = {SQL_READ, ROUTE_WHY_READ, 0, false},
        .first = true,
    };
    while (!at_end(&b)) {
        step(&b);
        cursor_next(c);
    }
    settle(&b);
    if (b.config_depth != 0)
        b.verdict.flags |= SQL_F_SESSION | SQL_F_SET_FUNCTION;
    if (b.depth != 0 || c->token.kind == SCAN_BAD || (options->stop_at_end && !b.done))
        give_up(&b, ROUTE_WHY_BAD_TOKEN);
    *out = b.verdict;
}
