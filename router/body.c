/* router/body.c: one pass over the tokens with one token of memory, a stack of bits for the
 * parentheses, and the question "did an operand just end?", which tells infix words from names. */
#include "router/body.h"

#include "base/check.h"
#include "router/cursor_inline.h"
#include "router/lookup.h"

#define CTES_MAX 32

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

/* What "(" means behind a name in this place. */
enum place {
    PLACE_OPEN, /* what stands in front of the name tells, should it ever be asked: see place_of_name() */
    PLACE_CALL,    /* the rule */
    PLACE_COLUMNS, /* alias(a, b), also with types behind the names */
    PLACE_CTE,     /* WITH name(a, b) */
    PLACE_FORM,    /* FROM coalesce(...), FROM (VALUES (1)): the grammar's own */
    PLACE_OPERATOR /* a OPERATOR(schema.+) b */
};

/* The third argument of set_config(), which must be the literal true to leave no trace. */
enum local { LOCAL_NONE, LOCAL_TRUE, LOCAL_OTHER };

/* current_setting('a.b') is a setting of the application's own, the same on every node. */
enum setting { SETTING_NONE, SETTING_OPEN, SETTING_NAMED };

/* A query of a WITH list: its name is no relation's. */
struct cte {
    struct slice name;
    bool quoted;
    bool open; /* its own query is still open, and without RECURSIVE cannot see it */
    unsigned depth;
};

/* What is so at one depth of parentheses. */
enum at {
    AT_CAST = 1 << 0,        /* bit d: the parenthesis at depth d is that of CAST, TREAT ... */
    AT_NO_OPERAND = 1 << 1,  /* ... of DISTINCT ON, OPERATOR: no operand ends with it */
    AT_COLUMNS = 1 << 2,     /* ... of a column list: a name behind a name is a type */
    AT_WITH = 1 << 3,        /* we are in the list of a WITH at depth d */
    AT_RECURSIVE = 1 << 4,   /* ... of a WITH RECURSIVE */
    AT_FROM = 1 << 5,        /* we are in a FROM clause, or a join tree, at depth d */
    AT_FROM_WORD = 1 << 6,   /* the parenthesis at depth d is that of EXTRACT(a FROM b) ... */
    AT_OPERATOR_IN = 1 << 7, /* ... of OPERATOR(schema.+) */
    AT_CALLED = 1 << 8,      /* ... of a function's arguments */
    AT_XML_PARSE = 1 << 9,   /* ... of XMLPARSE, XMLSERIALIZE, which have words of their own */
    AT_XML_ROOT = 1 << 10,   /* ... of XMLROOT */
    AT_XML_PASS = 1 << 11,   /* ... of XMLTABLE, XMLEXISTS */
    AT_WINDOW = 1 << 12,     /* we are in a WINDOW clause at depth d */
    AT_GROUP = 1 << 13,      /* ... in GROUP BY or GROUPING SETS, where CUBE ( is no call */
};

struct body {
    struct cursor c; /* the caller's, for the time of the proof */
    struct body_options options;
    struct body_verdict verdict;
    unsigned depth;
    enum after after;
    enum after after_before; /* in front of the pending name */
    enum pending pending;
    struct word name; /* the pending one */
    struct schema schema;
    enum place place;
    bool dotted;              /* the last token was the dot of a qualified name */
    bool want_type;           /* behind :: or the AS of a CAST */
    bool opens_columns;       /* the "(" that is the token opens a column list */
    bool opens_operator;      /* ... the name of an OPERATOR */
    bool opens_call;          /* ... arguments */
    bool want_relation;       /* the next token may be a relation's name */
    bool at_relation;         /* the token may be */
    bool relation;            /* the pending name is one, unless it is called */
    bool after_relation;      /* the token before was a relation's name */
    bool name_after_relation; /* ... the one before the pending name was */
    bool reads;               /* a relation or a parameter was seen */
    bool schema_into;         /* ... of the name that follows stands behind INTO */
    bool schema_reads;        /* the schema is information_schema or another of the server's own */
    bool done;                /* stop_at_end was met */
    /* The previous token, and those before; behind a dot, and of a label, without its keyword. In front of the
     * statement there is a SCAN_END. */
    CURSOR_SIGN(last, keyword, mark, kind);
    CURSOR_SIGN(last2, keyword2, mark2, kind2);
    CURSOR_SIGN(last3, keyword3, mark3, kind3);
    unsigned atomic;       /* BEGIN ATOMIC and CASE that are still open */
    unsigned config_depth; /* of the set_config() we are in, 0 outside */
    unsigned config_commas;
    enum local config_local;
    bool config_odd; /* its name or value is more than a constant */
    enum setting setting;
    unsigned cte_n;
    uint32_t at[BODY_DEPTH_MAX + 1]; /* enum at; of depths up to this one only */
    struct cte ctes[CTES_MAX];       /* the first cte_n of them */
};

static inline bool bit(const struct body *b, enum at at, unsigned depth)
{
    return (b->at[depth] & at) != 0;
}

static inline void set_bit(struct body *b, enum at at, unsigned depth, bool on)
{
    b->at[depth] = (b->at[depth] & ~(uint32_t)at) | (on ? (uint32_t)at : 0);
}

/* No token of the statement was taken yet. */
static inline bool is_first(const struct body *b)
{
    return b->kind == SCAN_END;
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
    b->verdict.unread = true;
    forbid(b, SQL_UNKNOWN, reason);
}

static void suffer(struct body *b, struct effect effect)
{
    b->verdict.flags |= effect.flags;
    forbid(b, effect.class, effect.reason);
}

static void open_config(struct body *b)
{
    if (b->config_depth != 0) { /* one inside the other: do not count arguments */
        b->verdict.flags |= SQL_F_SESSION | SQL_F_SET_FUNCTION;
        FORBID(b, SESSION_FUNCTION);
    }
    b->config_depth = b->depth + 1;
    b->config_commas = 0;
    b->config_local = LOCAL_NONE;
    b->config_odd = false;
}

/* Is the name this one, quoted or not? */
static bool names(const struct word *name, enum keyword keyword)
{
    return name->known.keyword == keyword;
}

/* INSERT INTO t (a) is no call. Of a statement that is no query nothing but calls matters. */
static bool hides(const struct body *b)
{
    const bool into =
        b->schema.kind == QUALIFIER_NONE ? CURSOR_KEYWORD(b->last2) == KW_into : b->schema_into;
    return !into && (b->options.query || lookup_hides(b->options.calls, &b->name));
}

/* The pending name is called: "(" is the token. */
static void take_call(struct body *b)
{
    const struct word *name = &b->name;
    enum function_class fn;
    struct effect effect = lookup_function(b->options.catalog, &b->schema, name, &fn);
    if (fn == FN_SET_CONFIG)
        open_config(b);
    if (fn == FN_NODE && effect.class == SQL_NODE_IDENTITY && names(name, KW_current_setting)) {
        b->setting = SETTING_OPEN; /* its argument decides */
        return;
    }
    if (fn == FN_SET_CONFIG && effect.class == SQL_SESSION_FUNCTION)
        effect.class = SQL_TX_STATE, effect.reason = ROUTE_WHY_TX_STATE; /* at least */
    if ((effect.flags & SQL_F_HIDING) && !hides(b))
        effect.flags &= ~(uint32_t)SQL_F_HIDING;
    suffer(b, effect);
}

/* The pending name is the type of a cast or of 'literal'. */
static void take_type(struct body *b)
{
    const struct word *name = &b->name;
    suffer(b, lookup_type(b->options.catalog, &b->schema, name));
    if (name->keyword == KW_double && b->c.keyword != KW_precision) /* then it is a user's type */
        forbid(b, SQL_UNKNOWN, ROUTE_WHY_UNKNOWN_TYPE);
}

/* ---- names of WITH queries ---- */

static bool same_fold(struct slice a, struct slice b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++) {
        const uint8_t x = a.p[i], y = b.p[i];
        const bool letter = (x | 0x20) >= 'a' && (x | 0x20) <= 'z';
        if (x != y && (!letter || (x | 0x20) != (y | 0x20)))
            return false;
    }
    return true;
}

/* One quoted and one not are the same only where folding changes nothing. */
static bool is_cte_name(const struct cte *cte, const struct word *word)
{
    if (cte->quoted && word->quoted)
        return slice_equals(cte->name, word->text);
    if (cte->quoted == word->quoted)
        return same_fold(cte->name, word->text);
    const struct slice quoted = cte->quoted ? cte->name : word->text;
    for (size_t i = 0; i < quoted.n; i++)
        if ((quoted.p[i] >= 'A' && quoted.p[i] <= 'Z') || quoted.p[i] >= 0x80)
            return false;
    return same_fold(cte->name, word->text);
}

static bool is_cte(const struct body *b, const struct word *word)
{
    for (unsigned i = b->cte_n; i-- > 0;)
        if (!b->ctes[i].open && is_cte_name(&b->ctes[i], word))
            return true;
    return false;
}

static void push_cte(struct body *b)
{
    const struct word *word = &b->c.word;
    if (b->cte_n == CTES_MAX) /* then it counts as a relation */
        return;
    b->ctes[b->cte_n++] = (struct cte){.name = word->text,
                                       .quoted = word->quoted,
                                       .open = !bit(b, AT_RECURSIVE, b->depth),
                                       .depth = b->depth};
}

/* The parenthesis at depth has closed: what it declared is gone, what it defined is there. */
static void close_ctes(struct body *b, unsigned depth)
{
    while (b->cte_n > 0 && b->ctes[b->cte_n - 1].depth >= depth)
        b->cte_n--;
    if (b->cte_n > 0 && b->ctes[b->cte_n - 1].depth == depth - 1 && !bit(b, AT_COLUMNS, depth))
        b->ctes[b->cte_n - 1].open = false;
}

/* ---- names that are not called ---- */

static void take_relation(struct body *b)
{
    const struct word *name = &b->name;
    if (b->options.catalog == NULL)
        return;
    const struct effect effect = lookup_relation(b->options.catalog, &b->schema, name);
    if (effect.class == SQL_UNKNOWN && effect.reason == ROUTE_WHY_UNKNOWN_RELATION &&
        b->schema.kind == QUALIFIER_NONE && is_cte(b, name))
        return;
    suffer(b, effect);
}

/* cmin and cmax: which command of its transaction wrote a row is not in the WAL. SYSTEM_USER (16): how this
 * connection to this node was authenticated. */
static bool is_of_node(const struct word *name, enum qualifier kind)
{
    return same_fold(name->text, slice_of("cmin")) || same_fold(name->text, slice_of("cmax")) ||
           (kind == QUALIFIER_NONE && !name->quoted &&
            same_fold(name->text, slice_of("system_user")));
}

static inline void take_field(struct body *b, const struct word *name)
{
    if (b->options.catalog != NULL || name->known.function != FN_UNKNOWN)
        suffer(b, lookup_field(b->options.catalog, name));
}

/* The pending name is neither called nor a type: a column, a relation, an alias, a keyword. */
static void take_plain(struct body *b)
{
    const struct word *name = &b->name;
    const enum qualifier kind = b->schema.kind;
    if (b->c.keyword == KW_from && b->keyword == KW_rows) /* ROWS FROM (...) */
        b->relation = false;
    b->after_relation = b->relation;
    b->reads |= b->relation;
    if (!b->relation && is_of_node(name, kind))
        FORBID(b, NODE_IDENTITY);
    if (kind == QUALIFIER_PG_CATALOG || (kind == QUALIFIER_NONE && name_starts_pg(name->text)))
        FORBID(b, CATALOG_READ);
    else if (b->relation && kind == QUALIFIER_OTHER && b->schema_reads)
        return; /* in pg_toast, information_schema ...: said already */
    else if (b->relation)
        take_relation(b);
    else if (kind == QUALIFIER_OTHER)
        suffer(b, lookup_field(b->options.catalog, name));
}

/* Most often that comes to nothing: no relation, a name that nobody knows. */
static inline bool is_nothing(const struct body *b)
{
    if (b->relation || name_may_be_special(b->name.text))
        return false;
    return b->schema.kind == QUALIFIER_NONE ||
           (b->options.catalog == NULL && b->schema.kind == QUALIFIER_OTHER &&
            b->name.known.function == FN_UNKNOWN);
}

/* The pending name is a qualifier: "." is the token. */
static void take_qualifier(struct body *b)
{
    const struct word *name = &b->name;
    const bool pg = (*name->text.p | 0x20) == 'p' && name_starts_pg(name->text);
    const bool pg_catalog = names(name, KW_pg_catalog) && b->schema.kind == QUALIFIER_NONE;
    b->schema_into =
        b->schema.kind == QUALIFIER_NONE ? CURSOR_KEYWORD(b->last2) == KW_into : b->schema_into;
    b->schema.kind = pg_catalog ? QUALIFIER_PG_CATALOG : QUALIFIER_OTHER;
    b->schema.usable = b->options.catalog != NULL && lookup_name(name, &b->schema.name);
    b->dotted = true;
    b->schema_reads = (pg && !pg_catalog) || names(name, KW_information_schema);
    if (pg && name_starts_pg_temp(name->text)) {
        b->verdict.flags |= SQL_F_SESSION | SQL_F_PIN | SQL_F_TEMP;
        FORBID(b, PRIMARY_RELATION);
    } else if (b->schema_reads) {
        FORBID(b, CATALOG_READ);
    }
}

/* SUBSTRING and OVERLAY without their own words in it are calls of a function of that name. */
static void take_overload(struct body *b, const struct word *name)
{
    if (name->keyword == KW_substring || name->keyword == KW_overlay)
        suffer(b, lookup_overload(b->options.catalog, name));
}

static void take_form_in_from(struct body *b)
{
    take_overload(b, &b->name);
    if (b->keyword == KW_values) /* its commas part rows */
        set_bit(b, AT_FROM, b->depth, false);
}

/* XMLPARSE(DOCUMENT 'a'), XMLROOT(a, VERSION 'b'), XMLTABLE('a' PASSING 'b' COLUMNS c t PATH 'd'):
 * what looks like a type with its literal, or a call, is a word of the grammar. */
static bool is_xml_word(const struct body *b)
{
    const bool passes = bit(b, AT_XML_PASS, b->depth);
    switch ((unsigned)b->keyword) {
    case KW_document:
    case KW_content:
        return b->mark2 == '(' && bit(b, AT_XML_PARSE, b->depth);
    case KW_version:
        return b->mark2 == ',' && bit(b, AT_XML_ROOT, b->depth);
    case KW_ref:
    case KW_value:
        return passes && b->keyword2 == KW_by;
    case KW_passing:
    case KW_path:
        return passes && b->after_before == AFTER_YES;
    default:
        return false;
    }
}

/* What "(" would mean behind a name: dotted or not, behind these two tokens. */
static enum place place_behind(const struct body *b, uint32_t last, uint32_t last2,
                               enum after after, bool after_relation)
{
    const enum keyword keyword = CURSOR_KEYWORD(last), keyword2 = CURSOR_KEYWORD(last2);
    const uint8_t mark = CURSOR_MARK(last);
    if (keyword == KW_as && !bit(b, AT_CAST, b->depth))
        return PLACE_COLUMNS;
    if (after_relation || (mark == ')' && after == AFTER_YES) ||
        (keyword == KW_ordinality && keyword2 == KW_with))
        return PLACE_COLUMNS;
    if (bit(b, AT_WITH, b->depth) && (mark == ',' || keyword == KW_with || keyword == KW_recursive))
        return PLACE_CTE;
    return PLACE_CALL;
}

/* ... behind the name that is the token. */
static enum place place_here(const struct body *b)
{
    if (b->dotted)
        return PLACE_CALL;
    return place_behind(b, b->last, b->last2, b->after, b->after_relation);
}

/* ... behind the pending name, which is the last token. */
static enum place place_of_name(const struct body *b)
{
    if (b->place != PLACE_OPEN)
        return b->place;
    if (b->schema.kind != QUALIFIER_NONE)
        return PLACE_CALL;
    return place_behind(b, b->last2, b->last3, b->after_before, b->name_after_relation);
}

/* "(" behind the pending name. */
static void take_open(struct body *b)
{
    const enum place place = place_of_name(b);
    if (b->pending == PENDING_TYPE)
        take_type(b);
    else if (is_xml_word(b))
        return;
    else if (place == PLACE_OPERATOR)
        b->opens_operator = true;
    else if (place == PLACE_FORM)
        take_form_in_from(b);
    else if (place == PLACE_CALL || b->pending == PENDING_INFIX)
        b->opens_call = true, take_call(b);
    else
        b->opens_columns = true;
}

/* The pending name is in front of a string. */
static bool is_type_of_literal(const struct body *b)
{
    const enum keyword k = b->keyword;
    if (b->pending == PENDING_NAME)
        return !is_xml_word(b);
    const bool infix = k == KW_like || k == KW_ilike || k == KW_escape || k == KW_uescape ||
                       (k == KW_similar && bit(b, AT_FROM_WORD, b->depth));
    return !infix || bit(b, (enum at)(AT_XML_PASS | AT_XML_ROOT | AT_XML_PARSE), b->depth);
}

/* Now that the next token is known, settle the pending name. */
static void settle_name(struct body *b)
{
    const struct cursor *c = &b->c;
    const enum pending pending = b->pending;
    if (c->mark == '(')
        take_open(b);
    else if (pending == PENDING_TYPE || (c->kind == SCAN_STRING && is_type_of_literal(b)))
        take_type(b);
    else if (pending == PENDING_NAME)
        take_plain(b);
    b->pending = PENDING_NONE;
    b->schema.kind = QUALIFIER_NONE;
    b->relation = false;
}

static inline void settle(struct body *b)
{
    const struct cursor *c = &b->c;
    if (b->pending == PENDING_NONE)
        return;
    if (c->mark == '.') { /* the qualifier waits for its name */
        take_qualifier(b);
        b->want_type = b->pending == PENDING_TYPE;
        b->pending = PENDING_NONE;
    } else if (b->pending == PENDING_NAME && c->mark != '(' && c->kind != SCAN_STRING &&
               is_nothing(b)) {
        b->pending = PENDING_NONE;
        b->schema.kind = QUALIFIER_NONE;
    } else {
        settle_name(b);
    }
}

/* Piece by piece, as it was written a moment ago: a load of two pieces would wait until both are in the cache.
 * (The Makefile keeps the compiler from joining them.) */
static inline void copy_word(struct word *to, const struct word *from)
{
    to->text.p = from->text.p;
    to->text.n = from->text.n;
    to->hash = from->hash;
    to->what = from->what;
}

/* The token is a name; the next one will tell of what. */
static inline void pend(struct body *b, enum after after)
{
    if (!b->dotted)
        b->relation = b->at_relation;
    if (b->options.catalog != NULL && bit(b, AT_WITH, b->depth) && place_here(b) == PLACE_CTE)
        push_cte(b);
    b->place = PLACE_OPEN;
    b->name_after_relation = b->after_relation;
    copy_word(&b->name, &b->c.word);
    b->pending = b->want_type ? PENDING_TYPE : PENDING_NAME;
    b->dotted = false;
    b->want_type = false;
    b->after_before = b->after;
    b->after = after;
}

static bool is_name(unsigned kind)
{
    return kind == SCAN_WORD || kind == SCAN_QUOTED;
}

/* In a column list, what stands behind the first name of an item is a type. */
static bool is_column_type(const struct body *b)
{
    if (!bit(b, AT_COLUMNS, b->depth) || !is_name(b->kind))
        return false;
    const bool first = b->mark2 == '(' || b->mark2 == ',' || b->keyword2 == KW_columns;
    return first && b->c.keyword != KW_for; /* a FOR ORDINALITY */
}

typedef void take_word_fn(struct body *b);

static void take_ident(struct body *b)
{
    pend(b, AFTER_YES);
}

static void take_clause(struct body *b)
{
    const enum keyword k = b->c.keyword;
    if (k == KW_select || k == KW_table) /* the query behind the list; VALUES may be a name */
        set_bit(b, AT_WITH, b->depth, false);
    if (k == KW_returning && b->options.query && b->verdict.class < SQL_HIDDEN_WRITE)
        forbid(b, SQL_UNKNOWN,
               ROUTE_WHY_UNKNOWN_TYPE); /* JSON_OBJECT(... RETURNING type), a cast */
    b->after = AFTER_NO;
}

static void take_as(struct body *b)
{
    b->want_type = bit(b, AT_CAST, b->depth);
    b->after = AFTER_NO;
}

/* Only in front of a query: WITH ORDINALITY, WITH TIES, WITH TIME ZONE stand behind something. */
static void take_with(struct body *b)
{
    const bool list = is_first(b) || b->mark == '(';
    set_bit(b, AT_WITH, b->depth, list);
    set_bit(b, AT_RECURSIVE, b->depth, false);
    if (list)
        set_bit(b, AT_FROM, b->depth, false);
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

/* Does a statement begin here: the query of a WITH, or what follows its list? */
static bool starts_statement(const struct body *b)
{
    if (is_first(b))
        return true;
    if (b->mark == '(')
        return (b->keyword2 == KW_as || b->keyword2 == KW_materialized) &&
               bit(b, AT_WITH, b->depth - 1);
    return bit(b, AT_WITH, b->depth) && b->mark != ',' && b->keyword != KW_with &&
           b->keyword != KW_recursive;
}

/* Unreserved words: elsewhere they are names, of columns most often. */
static void take_dml(struct body *b)
{
    if (b->options.query && starts_statement(b))
        FORBID(b, HIDDEN_WRITE);
    pend(b, AFTER_YES);
}

static void take_by(struct body *b)
{
    if (b->keyword != KW_group && b->keyword != KW_order && b->keyword != KW_partition) {
        pend(b, b->after == AFTER_NO ? AFTER_NO : AFTER_YES);
        return;
    }
    if (b->keyword == KW_group)
        set_bit(b, AT_GROUP, b->depth, true);
    b->after = AFTER_NO;
}

static void take_value(struct body *b)
{
    b->after = AFTER_YES;
}

/* A name that is never a function's; it may be a column's. */
static void take_form(struct body *b)
{
    if (place_here(b) != PLACE_CALL) { /* an alias, the name of a WITH query */
        pend(b, AFTER_YES);
        return;
    }
    take_overload(b, &b->c.word);
    b->after = AFTER_MAYBE;
}

static void take_operator_word(struct body *b)
{
    pend(b, AFTER_YES);
    if (!b->at_relation && b->keyword != KW_tablesample) /* there it is a function */
        b->place = PLACE_OPERATOR;
}

static void take_infix(struct body *b)
{
    const bool zone = b->c.keyword == KW_zone && b->keyword == KW_time;
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
    if (b->after == AFTER_YES)
        return;
    const bool maybe = b->after == AFTER_MAYBE;
    pend(b, AFTER_YES);
    if (maybe)
        b->pending = PENDING_INFIX;
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

/* AS MATERIALIZED and AS NOT MATERIALIZED */
static bool in_with_list(const struct body *b)
{
    const bool as = b->keyword == KW_as || (b->keyword == KW_not && b->keyword2 == KW_as);
    return as && (bit(b, AT_WITH, b->depth) || !b->options.query);
}

/* At the start of an item of GROUP BY or GROUPING SETS. */
static bool starts_grouping(const struct body *b)
{
    return bit(b, AT_GROUP, b->depth) && (b->mark == ',' || b->mark == '(' || b->keyword == KW_by ||
                                          b->keyword == KW_all || b->keyword == KW_distinct);
}

/* Keywords only behind the word that goes before them in the grammar. */
static void take_after(struct body *b)
{
    const enum keyword now = b->c.keyword, before = b->keyword;
    const bool construct = (now == KW_sets && before == KW_grouping) ||
                           (now == KW_materialized && in_with_list(b)) ||
                           ((now == KW_recursive || now == KW_ordinality) && before == KW_with) ||
                           (now == KW_varying && (keyword_role(before) == KW_ROLE_TYPE));
    if ((now == KW_rollup || now == KW_cube) && starts_grouping(b)) {
        pend(b, AFTER_NO);
        b->place = PLACE_FORM; /* if "(" follows */
        return;
    }
    if (now == KW_recursive && construct)
        set_bit(b, AT_RECURSIVE, b->depth, true);
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
    const enum keyword k = b->c.keyword;
    if (b->keyword == KW_for && !bit(b, AT_FROM_WORD, b->depth) &&
        (k == KW_update || k == KW_share || k == KW_no || k == KW_key))
        FORBID(b, LOCKING_READ);
}

/* SELECT INTO TEMP t, SELECT INTO LOCAL TEMPORARY t. */
static void take_temp(struct body *b)
{
    const enum keyword k = b->c.keyword;
    if (b->options.query && b->keyword == KW_into &&
        (k == KW_temp || k == KW_temporary || k == KW_local || k == KW_global))
        b->verdict.flags |= SQL_F_SESSION | SQL_F_PIN | SQL_F_TEMP;
}

/* CREATE FUNCTION ... BEGIN ATOMIC ...; ...; END: CASE has an END of its own. */
static void take_atomic(struct body *b)
{
    const enum keyword k = b->c.keyword;
    if (b->atomic == 0)
        b->atomic = k == KW_atomic && b->keyword == KW_begin;
    else if (k == KW_case)
        b->atomic++;
    else if (k == KW_end)
        b->atomic--;
}

/* What a reserved word does to the FROM clause of its depth. */
enum clause { CLAUSE_SAME, CLAUSE_FROM, CLAUSE_OTHER, CLAUSE_JOIN, CLAUSE_TABLE, CLAUSE_PREFIX };

static const uint8_t clauses[KW_N] = {
    [KW_from] = CLAUSE_FROM,    [KW_where] = CLAUSE_OTHER,  [KW_group] = CLAUSE_OTHER,
    [KW_having] = CLAUSE_OTHER, [KW_window] = CLAUSE_OTHER, [KW_order] = CLAUSE_OTHER,
    [KW_limit] = CLAUSE_OTHER,  [KW_offset] = CLAUSE_OTHER, [KW_fetch] = CLAUSE_OTHER,
    [KW_for] = CLAUSE_OTHER,    [KW_union] = CLAUSE_OTHER,  [KW_intersect] = CLAUSE_OTHER,
    [KW_except] = CLAUSE_OTHER, [KW_select] = CLAUSE_OTHER, [KW_join] = CLAUSE_JOIN,
    [KW_table] = CLAUSE_TABLE,  [KW_only] = CLAUSE_PREFIX,  [KW_lateral] = CLAUSE_PREFIX,
};

static void take_from(struct body *b)
{
    if (bit(b, AT_FROM_WORD, b->depth)) /* EXTRACT(a FROM b) */
        return;
    if (b->keyword == KW_distinct && (b->keyword2 == KW_is || b->keyword2 == KW_not))
        return;
    set_bit(b, AT_FROM, b->depth, true);
    b->want_relation = true;
}

static void take_in_clause(struct body *b)
{
    switch ((enum clause)clauses[b->c.keyword]) {
    case CLAUSE_SAME:
        return;
    case CLAUSE_FROM:
        take_from(b);
        return;
    case CLAUSE_OTHER:
        set_bit(b, AT_FROM, b->depth, false);
        set_bit(b, AT_GROUP, b->depth, false);
        set_bit(b, AT_WINDOW, b->depth, b->c.keyword == KW_window);
        return;
    case CLAUSE_JOIN:
        b->want_relation = bit(b, AT_FROM, b->depth);
        return;
    case CLAUSE_TABLE:
        b->want_relation = true;
        return;
    case CLAUSE_PREFIX:
        b->want_relation = b->at_relation;
        return;
    }
}

/* A word of the grammar that may be a relation's name as well. */
static bool is_form(enum keyword k)
{
    const enum kw_role role = keyword_role(k);
    return role == KW_ROLE_FORM || role == KW_ROLE_TYPE || k == KW_values;
}

/* Any word may be a label: SELECT a AS select. Not so AS MATERIALIZED, nor AS in a CAST. */
static bool is_label(const struct body *b)
{
    return b->options.query && b->keyword == KW_as && !bit(b, AT_CAST, b->depth) &&
           !bit(b, AT_WITH, b->depth);
}

/* A word that is no keyword: the same as take_keyword() would do, without its questions. */
static inline void take_other_word(struct body *b)
{
    if (is_column_type(b) && !b->dotted && !is_label(b))
        b->want_type = true;
    pend(b, AFTER_YES);
}

static void take_keyword(struct body *b)
{
    const struct cursor *c = &b->c;
    if (b->dotted || is_label(b)) {
        pend(b, AFTER_YES);
        b->c.keyword = KW_NONE;
        return;
    }
    if (b->want_type) {
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
    if (c->keyword == KW_columns && bit(b, AT_XML_PASS, b->depth)) {
        set_bit(b, AT_COLUMNS, b->depth, true);
        pend(b, AFTER_NO); /* it may still be a function */
        return;
    }
    take_in_clause(b);
    if (b->options.catalog != NULL)
        suffer(b, lookup_word_operators(b->options.catalog, (enum keyword)c->keyword,
                                        b->keyword == KW_not));
    if (b->at_relation && is_form(c->keyword)) {
        pend(b, AFTER_YES);
        b->place = PLACE_FORM;
        return;
    }
    take_word_as[keyword_role(c->keyword)](b);
}

/* f() AS (a t): neither the query of a WITH nor a window. The bits are those of the depth outside. */
static bool opens_definitions(const struct body *b)
{
    return b->options.query && b->keyword == KW_as && !bit(b, AT_WITH, b->depth - 1) &&
           !bit(b, AT_WINDOW, b->depth - 1);
}

static const uint16_t opened_by[KW_N] = {
    [KW_cast] = AT_CAST,           [KW_xmlserialize] = AT_CAST | AT_XML_PARSE,
    [KW_xmlparse] = AT_XML_PARSE,  [KW_xmlroot] = AT_XML_ROOT,
    [KW_xmltable] = AT_XML_PASS,   [KW_xmlexists] = AT_XML_PASS,
    [KW_sets] = AT_GROUP,          [KW_extract] = AT_FROM_WORD,
    [KW_substring] = AT_FROM_WORD, [KW_trim] = AT_FROM_WORD,
    [KW_overlay] = AT_FROM_WORD,
};

static void take_open_paren(struct body *b)
{
    const enum keyword k = b->keyword;
    if (b->depth == BODY_DEPTH_MAX) {
        give_up(b, ROUTE_WHY_TOO_DEEP);
        b->done = true;
        return;
    }
    if (k != KW_as && k != KW_materialized && k != KW_recursive && !b->opens_columns)
        set_bit(b, AT_WITH, b->depth, false); /* a query, not the next name of the WITH list */
    b->depth++;
    const bool definitions = b->opens_columns || opens_definitions(b);
    uint32_t at = opened_by[k] | (b->opens_operator ? AT_OPERATOR_IN | AT_NO_OPERAND : 0);
    at |= (definitions ? AT_COLUMNS : 0) | (b->opens_call ? AT_CALLED : 0);
    at |= (b->at_relation ? AT_FROM : 0);
    if (k == KW_on && b->keyword2 == KW_distinct)
        at |= AT_NO_OPERAND;
    b->at[b->depth] = at;
    b->want_relation = b->at_relation;
    b->opens_columns = false;
    b->opens_operator = false;
    b->opens_call = false;
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
    if (bit(b, AT_OPERATOR_IN, b->depth) && b->kind != SCAN_OPERATOR)
        forbid(b, SQL_UNKNOWN, ROUTE_WHY_UNKNOWN_OPERATOR);
    b->after = bit(b, AT_NO_OPERAND, b->depth) ? AFTER_NO : AFTER_YES;
    close_ctes(b, b->depth);
    b->depth--;
}

static void take_punct(struct body *b)
{
    switch (b->c.mark) {
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
            b->schema = (struct schema){.kind = QUALIFIER_OTHER};
        b->dotted = true;
        return;
    case ';':
        if (b->atomic == 0)
            give_up(b, ROUTE_WHY_BAD_TOKEN);
        b->after = AFTER_NO;
        break;
    case ',':
        b->want_relation = bit(b, AT_FROM, b->depth);
        b->after = AFTER_NO;
        break;
    default:
        b->after = AFTER_NO;
        break;
    }
}

static void take_operator(struct body *b)
{
    static const struct schema any = {.kind = QUALIFIER_NONE};
    const struct cursor *c = &b->c;
    const struct slice op = c->text;
    const bool named = bit(b, AT_OPERATOR_IN, b->depth);
    const bool star = c->mark == '*' && (b->dotted || b->after == AFTER_NO);
    if (op.n == 2 && op.p[0] == ':' && op.p[1] == ':')
        b->want_type = true;
    else if (b->options.catalog == NULL && !named && c->mark != 0 && c->mark != '!' &&
             c->mark != '`')
        ; /* all other operators of one byte are built in */
    else if (named)
        suffer(b, lookup_operator(b->options.catalog, &b->schema, op));
    else if (!star)
        suffer(b, lookup_operator(b->options.catalog, &any, op));
    b->after = star && b->dotted ? AFTER_YES : AFTER_NO;
}

static void close_config(struct body *b)
{
    b->config_depth = 0;
    if (b->config_commas != 2 || b->config_local != LOCAL_TRUE) {
        b->verdict.flags |= SQL_F_SESSION | SQL_F_SET_FUNCTION;
        FORBID(b, SESSION_FUNCTION);
    } else if (b->config_odd) {
        FORBID(b, SESSION_FUNCTION);
    } else {
        b->verdict.flags |= SQL_F_TX_STATE;
    }
}

/* Follow the arguments of set_config(). */
static void note_config(struct body *b)
{
    const struct cursor *c = &b->c;
    if (b->depth == b->config_depth && c->mark == ')') {
        close_config(b);
    } else if (b->depth == b->config_depth && c->mark == ',') {
        b->config_commas++;
    } else if (b->config_commas == 2) {
        const bool is_true = b->config_local == LOCAL_NONE && c->keyword == KW_true;
        b->config_local = is_true ? LOCAL_TRUE : LOCAL_OTHER;
    } else if (c->kind != SCAN_STRING && c->kind != SCAN_PARAM && c->kind != SCAN_NUMBER) {
        b->config_odd = true;
    }
}

/* 'text' in one piece: no escapes, no quotes, no continuation line, no comment before one. */
static bool is_plain_literal(struct slice text)
{
    return text.p[0] == '\'' && memchr(text.p + 1, '\'', text.n - 1) == text.p + text.n - 1 &&
           memchr(text.p, '\\', text.n) == NULL;
}

/* The token is in current_setting(): the literal name of an application's setting, then its end? */
static void note_setting(struct body *b)
{
    const struct cursor *c = &b->c;
    const struct slice text = c->text;
    const bool name = b->setting == SETTING_OPEN && c->kind == SCAN_STRING &&
                      is_plain_literal(text) && memchr(text.p, '.', text.n) != NULL;
    if (name) {
        b->setting = SETTING_NAMED;
        return;
    }
    if (b->setting == SETTING_OPEN || (c->mark != ')' && c->mark != ','))
        FORBID(b, NODE_IDENTITY);
    b->setting = SETTING_NONE;
}

/* What is seldom under way, and must see each token first. */
static inline bool is_watching(const struct body *b)
{
    return (b->config_depth | b->setting | b->options.routine) != 0;
}

static void watch(struct body *b)
{
    if (b->config_depth != 0)
        note_config(b);
    if (b->setting != SETTING_NONE)
        note_setting(b);
    if (b->options.routine && b->c.kind == SCAN_WORD)
        take_atomic(b);
}

static inline bool at_end(const struct body *b)
{
    if (b->c.kind >= SCAN_END || b->done)
        return true;
    return b->c.mark == ';' && b->depth == 0 && b->atomic == 0;
}

static inline void take_token(struct body *b)
{
    switch ((enum scan_kind)b->c.kind) {
    case SCAN_WORD:
        if (b->c.keyword == KW_NONE)
            take_other_word(b);
        else
            take_keyword(b);
        return;
    case SCAN_PUNCT:
        take_punct(b);
        return;
    case SCAN_QUOTED:
        b->want_type |= is_column_type(b);
        pend(b, AFTER_YES);
        return;
    case SCAN_UQUOTED:
        b->verdict.unread = true;
        forbid(b, SQL_UNKNOWN, ROUTE_WHY_UNKNOWN_NAME);
        b->after = AFTER_YES;
        return;
    case SCAN_PARAM:
        b->reads = true;
        b->after = AFTER_YES;
        return;
    case SCAN_STRING:
        /* A type with arguments, f(1) 'x'; and a.N'x', where N is the type a.nchar. */
        if ((b->mark == ')' && bit(b, AT_CALLED, b->depth + 1)) || b->dotted)
            forbid(b, SQL_UNKNOWN, ROUTE_WHY_UNKNOWN_TYPE);
        b->after = AFTER_YES;
        return;
    case SCAN_NUMBER:
        b->after = AFTER_YES;
        return;
    case SCAN_OPERATOR:
        take_operator(b);
        return;
    case SCAN_END:
    case SCAN_BAD:
        CHECK_UNREACHABLE();
    }
}

static inline void step(struct body *b)
{
    if (is_watching(b))
        watch(b);
    b->at_relation = b->want_relation;
    b->want_relation = false;
    b->after_relation = false;
    settle(b);
    take_token(b);
    if (b->dotted && b->c.mark != '.') { /* t.* */
        b->dotted = false;
        b->schema.kind = QUALIFIER_NONE;
    }
    b->last3 = b->last2;
    b->last2 = b->last;
    b->last = b->c.sign;
}

void body_prove(struct cursor *c, const struct body_options *options, struct body_verdict *out)
{
    struct body b;
    b.c = *c;
    b.options = *options;
    memset(&b.verdict, 0,
           offsetof(struct body, at) + sizeof b.at[0] - offsetof(struct body, verdict));
    b.verdict.class = SQL_READ; /* the rest is set before it is read */
    b.verdict.reason = ROUTE_WHY_READ;
    b.last = CURSOR_SIGN_OF(KW_NONE, 0, SCAN_END);
    while (!at_end(&b)) {
        step(&b);
        cursor_step(&b.c);
    }
    *c = b.c;
    settle(&b);
    if (b.config_depth != 0)
        b.verdict.flags |= SQL_F_SESSION | SQL_F_SET_FUNCTION;
    if (b.setting != SETTING_NONE)
        FORBID(&b, NODE_IDENTITY);
    if (b.reads)
        suffer(&b, lookup_everywhere(options->catalog));
    if (b.depth != 0 || c->kind == SCAN_BAD || (options->stop_at_end && !b.done))
        give_up(&b, ROUTE_WHY_BAD_TOKEN);
    if (b.verdict.unread)
        b.verdict.flags |= SQL_F_HIDING;
    *out = b.verdict;
}
