/* router/quick.c: one pass over the bytes. The text lies in a buffer of ours with zeros behind it, so that no
 * look ahead asks where it ends; names are settled at once, by a look at the byte behind them. What a name does
 * is asked of lookup.c as everywhere; the state is what body.c keeps of the statements that are let through. */
#include "router/quick.h"

#include "router/cursor_inline.h"
#include "router/lookup.h"

/* Has the token before ended an operand? As in body.c. */
enum after { AFTER_NO, AFTER_MAYBE, AFTER_YES };

struct quick {
    const uint8_t *at; /* the next byte */
    const struct catalog *catalog;
    struct fingerprint fingerprint;
    enum after after;
    enum keyword before; /* of the token before; KW_NONE behind a dot */
    uint8_t mark;        /* of the token before: ) or ' or 0 */
    bool want_relation;  /* the next token may be a relation's name */
    bool at_relation;    /* the token may be */
    bool relation_ended; /* the token is one */
    bool after_relation; /* the token before was */
    bool reads;          /* a relation or a parameter was seen */
    unsigned depth;
    uint32_t froms; /* bit d: a FROM clause is open at depth d */
};

/* What the keywords that are let through do; the others are not. */
enum {
    DO_OPERAND = 1 << 0,   /* an operand follows */
    DO_VALUE = 1 << 1,     /* is one */
    DO_FROM = 1 << 2,      /* relations follow */
    DO_LEAVE = 1 << 3,     /* ends the FROM clause */
    DO_JOIN = 1 << 4,      /* a relation follows, in a FROM clause */
    DO_INFIX = 1 << 5,     /* behind an operand: another one follows */
    DO_POSTFIX = 1 << 6,   /* behind an operand: nothing */
    DO_LIKE = 1 << 7,      /* an infix that may follow a word that could be a keyword too */
    DO_FORM = 1 << 8,      /* name of a construct or type: no call */
    DO_NAME = 1 << 9,      /* a name like any other */
    DO_MAYBE = 1 << 10,    /* a name, yet an operand may follow */
    DO_BY = 1 << 11,       /* behind GROUP, ORDER, PARTITION */
    DO_NOTHING = 1 << 12,  /* NOT */
    DO_OPERATORS = 1 << 13 /* stands for operators, which the user may have defined */
};

static const uint16_t doings[KW_N] = {
    [KW_select] = DO_OPERAND | DO_LEAVE,
    [KW_where] = DO_OPERAND | DO_LEAVE,
    [KW_group] = DO_OPERAND | DO_LEAVE,
    [KW_having] = DO_OPERAND | DO_LEAVE,
    [KW_order] = DO_OPERAND | DO_LEAVE,
    [KW_limit] = DO_OPERAND | DO_LEAVE,
    [KW_offset] = DO_OPERAND | DO_LEAVE,
    [KW_union] = DO_OPERAND | DO_LEAVE,
    [KW_from] = DO_OPERAND | DO_FROM,
    [KW_join] = DO_JOIN | DO_INFIX,
    [KW_on] = DO_OPERAND,
    [KW_and] = DO_OPERAND,
    [KW_or] = DO_OPERAND,
    [KW_as] = DO_OPERAND,
    [KW_all] = DO_OPERAND,
    [KW_any] = DO_OPERAND,
    [KW_asc] = DO_OPERAND,
    [KW_desc] = DO_OPERAND,
    [KW_when] = DO_OPERAND,
    [KW_then] = DO_OPERAND,
    [KW_else] = DO_OPERAND,
    [KW_in] = DO_OPERAND | DO_OPERATORS,
    [KW_between] = DO_OPERAND | DO_OPERATORS,
    [KW_distinct] = DO_OPERAND | DO_OPERATORS,
    [KW_case] = DO_OPERAND | DO_OPERATORS,
    [KW_like] = DO_INFIX | DO_LIKE | DO_OPERATORS,
    [KW_ilike] = DO_INFIX | DO_LIKE | DO_OPERATORS,
    [KW_is] = DO_INFIX,
    [KW_over] = DO_INFIX,
    [KW_left] = DO_POSTFIX,
    [KW_right] = DO_POSTFIX,
    [KW_inner] = DO_POSTFIX,
    [KW_outer] = DO_POSTFIX,
    [KW_cross] = DO_POSTFIX,
    [KW_not] = DO_NOTHING,
    [KW_by] = DO_BY,
    [KW_null] = DO_VALUE,
    [KW_true] = DO_VALUE,
    [KW_false] = DO_VALUE,
    [KW_end] = DO_VALUE,
    [KW_current_date] = DO_VALUE,
    [KW_current_timestamp] = DO_VALUE,
    [KW_coalesce] = DO_FORM,
    [KW_greatest] = DO_FORM,
    [KW_least] = DO_FORM,
    [KW_exists] = DO_FORM,
    [KW_interval] = DO_FORM,
    [KW_timestamp] = DO_FORM,
    [KW_partition] = DO_NAME,
    [KW_name] = DO_MAYBE,
    [KW_key] = DO_MAYBE,
    [KW_value] = DO_MAYBE,
    [KW_path] = DO_MAYBE,
    [KW_version] = DO_MAYBE,
    [KW_content] = DO_MAYBE,
    [KW_groups] = DO_MAYBE,
};

static inline bool is_harmless(struct effect effect)
{
    return effect.class == SQL_READ && effect.flags == 0;
}

static inline const uint8_t *skip_spaces(const uint8_t *p)
{
    while (scan_is(*p, SCAN_C_SPACE))
        p++;
    return p;
}

/* ---- names ---- */

/* The name at p, with or without quotes; NULL if it is none, or no simple one. */
static inline const uint8_t *read_name(struct quick *q, const uint8_t *p, struct word *word)
{
    const bool quoted = *p == '"';
    const uint8_t *const from = p + quoted;
    p = from;
    if (quoted)
        while (scan_is(*p, SCAN_C_LOWER))
            p++;
    else
        while (scan_is(*p, SCAN_C_IDENT))
            p++;
    const struct slice text = {from, (size_t)(p - from)};
    if (quoted ? text.n == 0 || p[0] != '"' || p[1] == '"'
               : text.n == 1 && (*p == '\'' || *p == '&'))
        return NULL; /* "a b", "a""b"; E'', U&"" */
    name_look_up(text, p + 8, word);
    if (quoted) {
        word->quoted = true;
        word->keyword = KW_NONE;
    }
    fingerprint_other(&q->fingerprint, quoted ? fingerprint_of_quoted(word) : word->hash);
    return p + quoted;
}

/* "(" follows the name. */
static bool take_call(struct quick *q, const struct word *word, const struct schema *schema)
{
    enum function_class fn;
    const bool simple =
        q->after == AFTER_NO && !q->at_relation && q->before != KW_as && !word->quoted;
    return simple && schema->kind == QUALIFIER_NONE &&
           is_harmless(lookup_function(q->catalog, schema, word, &fn));
}

/* pg_..., and cmin or cmax: body.c knows what they are. */
static inline bool is_special(struct slice name)
{
    const uint8_t first = name.p[0] | 0x20;
    return (first == 'p' && name_starts_pg(name)) ||
           (first == 'c' && name.n == 4 && (name.p[1] | 0x20) == 'm');
}

/* Neither "(", a string nor a dot follows the name. */
static inline bool take_plain(struct quick *q, const struct word *word, const struct schema *schema)
{
    if (is_special(word->text))
        return false;
    if (q->at_relation) {
        q->reads = true;
        q->relation_ended = true;
        return q->catalog == NULL || is_harmless(lookup_relation(q->catalog, schema, word));
    }
    if (schema->kind == QUALIFIER_NONE ||
        (q->catalog == NULL && word->known.function == FN_UNKNOWN))
        return true;
    return is_harmless(lookup_field(q->catalog, word));
}

/* The name is a qualifier: p is at its dot. */
static inline bool take_qualifier(struct quick *q, const struct word *word, struct schema *schema)
{
    if (is_special(word->text) ||
        word->known.keyword != KW_NONE) /* pg_catalog, information_schema */
        return false;
    schema->kind = QUALIFIER_OTHER;
    schema->usable = q->catalog != NULL && lookup_name(word, &schema->name);
    fingerprint_other(&q->fingerprint, '.');
    return true;
}

/* t.*: p is at the star. */
static bool take_star(struct quick *q, const uint8_t *p)
{
    q->after = AFTER_YES;
    q->before = KW_NONE;
    fingerprint_other(&q->fingerprint, fingerprint_of_bytes((struct slice){p, 1}));
    q->at = p + 1;
    return !q->at_relation && !scan_is(p[1], SCAN_C_OPERATOR);
}

/* From its first word on, behind which p is, a name with its qualifiers and what it is used for. */
static inline bool take_name(struct quick *q, const uint8_t *p, struct word *word, enum after after)
{
    struct schema schema;
    schema.kind = QUALIFIER_NONE;
    const enum keyword keyword = (enum keyword)word->keyword;
    while (*p == '.') {
        if (!take_qualifier(q, word, &schema))
            return false;
        p++;
        after = AFTER_YES;
        if (*p == '*')
            return take_star(q, p);
        if (*p != '"' && !scan_is(*p, SCAN_C_IDENT_START))
            return false;
        p = read_name(q, p, word);
        if (p == NULL)
            return false;
    }
    p = skip_spaces(p);
    q->at = p;
    if (*p == '(') {
        if (!take_call(q, word, &schema))
            return false;
    } else {
        const bool prefix = scan_is(*p, SCAN_C_IDENT_START) && (p[1] == '\'' || p[1] == '&');
        if (prefix || *p == '\'' || *p == '.' || !take_plain(q, word, &schema))
            return false;
    }
    q->after = after;
    q->before = schema.kind == QUALIFIER_NONE ? keyword : KW_NONE;
    return true;
}

/* ---- keywords ---- */

/* coalesce( and interval '1 day': where a name in this place could be an alias it is not ours. */
static bool take_form(struct quick *q)
{
    if (q->at_relation || q->after_relation || (q->mark == ')' && q->after == AFTER_YES))
        return false;
    q->after = AFTER_MAYBE;
    return true;
}

/* Behind a word that may be a keyword LIKE is one too, unless it is called. */
static bool take_infix(struct quick *q, const uint8_t *p, unsigned doing)
{
    if (q->after == AFTER_NO)
        return false;
    if (q->after == AFTER_MAYBE) {
        p = skip_spaces(p);
        if (!(doing & DO_LIKE) || *p == '(' || *p == '.')
            return false;
    }
    q->after = AFTER_NO;
    return true;
}

static bool take_operators(struct quick *q, enum keyword keyword)
{
    return q->catalog == NULL ||
           is_harmless(lookup_word_operators(q->catalog, keyword, q->before == KW_not));
}

static inline bool take_keyword(struct quick *q, const uint8_t *p, struct word *word)
{
    const enum keyword keyword = (enum keyword)word->keyword, before = q->before;
    const unsigned doing = doings[keyword];
    if (doing == 0 || before == KW_as ||
        (before == KW_distinct && (doing & DO_FROM || keyword == KW_on)))
        return false; /* also SELECT a AS from, IS DISTINCT FROM, DISTINCT ON (a) */
    if ((doing & DO_OPERATORS) && !take_operators(q, keyword))
        return false;
    if (doing & (DO_NAME | DO_MAYBE))
        return take_name(q, p, word, doing & DO_NAME ? AFTER_YES : AFTER_MAYBE);
    if (doing & (DO_OPERAND | DO_VALUE))
        q->after = doing & DO_VALUE ? AFTER_YES : AFTER_NO;
    const uint32_t here = UINT32_C(1) << q->depth;
    if (doing & DO_LEAVE)
        q->froms &= ~here;
    if (doing & DO_FROM)
        q->froms |= here;
    if (doing & (DO_FROM | DO_JOIN))
        q->want_relation = (q->froms & here) != 0;
    q->at = p;
    q->before = keyword;
    if (doing & DO_INFIX)
        return take_infix(q, p, doing);
    if (doing & DO_POSTFIX)
        return q->after == AFTER_YES;
    if (doing & DO_FORM)
        return take_form(q);
    if (doing & DO_BY) {
        q->after = AFTER_NO;
        return before == KW_group || before == KW_order || before == KW_partition;
    }
    return true;
}

/* ---- the other tokens ---- */

static inline bool take_word(struct quick *q)
{
    struct word word;
    const uint8_t *p = read_name(q, q->at, &word);
    if (p == NULL)
        return false;
    const bool known =
        word.keyword == KW_NONE ? take_name(q, p, &word, AFTER_YES) : take_keyword(q, p, &word);
    q->mark = 0;
    return known;
}

static inline bool take_literal(struct quick *q, const uint8_t *end, uint8_t mark)
{
    fingerprint_literal(&q->fingerprint);
    q->at = end;
    q->after = AFTER_YES;
    q->before = KW_NONE;
    q->mark = mark;
    return true;
}

/* 1 and 1.5 */
static inline bool take_number(struct quick *q)
{
    const uint8_t *p = q->at + 1;
    while (scan_is(*p, SCAN_C_DIGIT))
        p++;
    if (p[0] == '.' && scan_is(p[1], SCAN_C_DIGIT))
        for (p++; scan_is(*p, SCAN_C_DIGIT);)
            p++;
    if (scan_is(*p, SCAN_C_IDENT) || *p == '.')
        return false;
    return take_literal(q, p, 0);
}

/* 'text': no continuation, no type in front of it. */
static bool take_string(struct quick *q)
{
    const uint8_t *p = q->at;
    if (q->mark == ')' || q->mark == '\'')
        return false;
    do {
        for (p++; *p != '\''; p++)
            if (*p == 0)
                return false;
        p++;
    } while (*p == '\'');
    return take_literal(q, p, '\'');
}

static bool take_operator(struct quick *q)
{
    static const struct schema any = {.kind = QUALIFIER_NONE};
    const uint8_t *p = q->at;
    const size_t n = scan_is(p[1], SCAN_C_OPERATOR) ? 2 : 1;
    const struct slice text = {p, n};
    const bool pair = (*p == '<' || *p == '>' || *p == '!' || *p == '|') &&
                      (p[1] == '=' || p[1] == '>' || p[1] == '|');
    if (n == 2 && (!pair || scan_is(p[2], SCAN_C_OPERATOR)))
        return false;
    const bool star = *p == '*' && q->after == AFTER_NO;
    if (!star && (n == 2 || q->catalog != NULL || *p == '!' || *p == '`') &&
        !is_harmless(lookup_operator(q->catalog, &any, text)))
        return false;
    fingerprint_other(&q->fingerprint, fingerprint_of_bytes(text));
    q->at = p + n;
    q->after = AFTER_NO;
    q->before = KW_NONE;
    q->mark = 0;
    return true;
}

static inline bool open_parenthesis(struct quick *q)
{
    if (q->depth == QUICK_DEPTH_MAX || q->before == KW_as)
        return false;
    q->depth++;
    const uint32_t here = UINT32_C(1) << q->depth;
    q->froms = q->at_relation ? q->froms | here : q->froms & ~here;
    q->want_relation = q->at_relation;
    q->after = AFTER_NO;
    return true;
}

static inline bool take_punct(struct quick *q)
{
    const uint8_t c = *q->at++;
    if (c == ',') {
        fingerprint_comma(&q->fingerprint);
        q->want_relation = (q->froms >> q->depth & 1) != 0;
        q->after = AFTER_NO;
    } else {
        fingerprint_other(&q->fingerprint, c);
        if (c == '(' ? !open_parenthesis(q) : c != ')' || q->depth == 0)
            return false;
        if (c == ')') {
            q->depth--;
            q->after = AFTER_YES;
        }
    }
    q->before = KW_NONE;
    q->mark = c;
    return true;
}

static bool take_parameter(struct quick *q)
{
    const uint8_t *p = q->at + 1;
    while (scan_is(*p, SCAN_C_DIGIT))
        p++;
    if (p == q->at + 1 || scan_is(*p, SCAN_C_IDENT) || *p == '.')
        return false;
    q->reads = true;
    return take_literal(q, p, 0);
}

static inline bool take_token(struct quick *q)
{
    const unsigned class = scan_classes[*q->at];
    if ((class & SCAN_C_IDENT_START) || *q->at == '"')
        return take_word(q);
    if (class & SCAN_C_ALONE)
        return take_punct(q);
    if (class & SCAN_C_OPERATOR)
        return take_operator(q);
    if (class & SCAN_C_DIGIT)
        return take_number(q);
    if (*q->at == '\'')
        return take_string(q);
    return *q->at == '$' && take_parameter(q);
}

/* All tokens up to end, and the semicolon that may stand there. */
static inline bool take_all(struct quick *q, const uint8_t *end)
{
    for (;;) {
        q->at = skip_spaces(q->at);
        if (q->at == end)
            return true;
        if (*q->at == ';') {
            fingerprint_other(&q->fingerprint, ';');
            return skip_spaces(q->at + 1) == end;
        }
        q->at_relation = q->want_relation;
        q->want_relation = false;
        q->after_relation = q->relation_ended;
        q->relation_ended = false;
        if (!take_token(q))
            return false;
    }
}

bool quick_read(struct slice sql, const struct sql_env *env, struct sql_facts *out)
{
    uint8_t text[QUICK_TEXT_MAX + 16];
    if (!env->standard_conforming_strings || sql.n < 6 || sql.n > QUICK_TEXT_MAX ||
        (sql.p[0] | 0x20) != 's')
        return false;
    memcpy(text, sql.p, sql.n);
    memset(text + sql.n, 0, 16);
    struct quick q = {.at = text, .catalog = env->catalog};
    struct word first;
    const uint8_t *p = read_name(&q, text, &first);
    if (p == NULL || first.keyword != KW_select)
        return false;
    q.at = p;
    q.before = KW_select;
    if (!take_all(&q, text + sql.n) || q.depth != 0)
        return false;
    if (q.reads && !is_harmless(lookup_everywhere(env->catalog)))
        return false;
    *out = (struct sql_facts){.class = SQL_READ,
                              .reason = ROUTE_WHY_READ,
                              .statements = 1,
                              .flags = SQL_F_READ,
                              .fingerprint = q.fingerprint.value};
    return true;
}
