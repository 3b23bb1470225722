/* router/quick.c: one pass over the bytes. The text lies in a buffer of ours with zeros behind it, so that no
 * look ahead asks where it ends; names are settled at once, by a look at the byte behind them. What a name does
 * is asked of lookup.c as everywhere; the state is what body.c keeps of the statements that are let through.
 *
 * Everything on the way of most tokens is FAST: then struct quick lives in registers. */
#include "router/quick.h"

#include "router/catalog_inline.h"
#include "router/cursor_inline.h"
#include "router/lookup.h"

#define WITHS_MAX 4

#define SLOW static __attribute__((noinline))

/* Has the token before ended an operand? As in body.c. */
enum after { AFTER_NO, AFTER_MAYBE, AFTER_YES };

/* What the token before was, as far as it matters. */
enum was { WAS_ELSE, WAS_CLOSED /* ")" */, WAS_STRING, WAS_RELATION };

/* The queries of a WITH list, as far as they were read; apart from struct quick, for it is indexed. */
struct withs {
    unsigned n;      /* the last one is open, until the list ends */
    unsigned closed; /* these are in scope */
    struct slice names[WITHS_MAX];
};

struct quick {
    const uint8_t *at; /* the next byte */
    struct withs *withs;
    const struct catalog *catalog;
    const struct catalog *calls;         /* of a write: for its calls alone */
    const struct catalog_filter *filter; /* of the catalog */
    struct fingerprint fingerprint;
    enum after after;
    enum keyword before; /* of the token before; KW_NONE behind a dot */
    enum was was;
    bool want_relation; /* the next token may be a relation's name */
    bool at_relation;   /* the token may be */
    bool reads;         /* a relation or a parameter was seen */
    bool writes;        /* INSERT, UPDATE, DELETE */
    bool ended;         /* at the end of the text, or a semicolon */
    unsigned depth;
    uint32_t froms; /* bit d: a FROM clause is open at depth d */
};

/* A name, or its qualifier, and what the lists say of it. */
struct part {
    struct slice text;
    const struct name_row *row;
    uint64_t hash;
    bool quoted;
    uint64_t all; /* as in struct name_key */
};

/* What the keywords that are let through do; the others are not. */
enum {
    DO_OPERAND = 1 << 0,    /* an operand follows */
    DO_VALUE = 1 << 1,      /* is one */
    DO_FROM = 1 << 2,       /* relations follow */
    DO_LEAVE = 1 << 3,      /* ends the FROM clause */
    DO_JOIN = 1 << 4,       /* a relation follows, in a FROM clause */
    DO_INFIX = 1 << 5,      /* behind an operand: another one follows */
    DO_POSTFIX = 1 << 6,    /* behind an operand: nothing */
    DO_LIKE = 1 << 7,       /* an infix that may follow a word that could be a keyword too */
    DO_FORM = 1 << 8,       /* name of a construct or type: no call */
    DO_NAME = 1 << 9,       /* a name like any other */
    DO_MAYBE = 1 << 10,     /* a name, yet an operand may follow */
    DO_BY = 1 << 11,        /* behind GROUP, ORDER, PARTITION */
    DO_NOTHING = 1 << 12,   /* NOT */
    DO_OPERATORS = 1 << 13, /* stands for operators, which the user may have defined */
    DO_WRITES = 1 << 14,    /* only in INSERT, UPDATE, DELETE */
    DO_FIRST = 1 << 15      /* only where an operand may begin */
};

static const uint16_t doings[KW_N] = {
    [KW_NONE] = DO_NAME,
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
    [KW_into] = DO_OPERAND | DO_WRITES,
    [KW_values] = DO_OPERAND | DO_WRITES,
    [KW_default] = DO_OPERAND | DO_WRITES,
    [KW_returning] = DO_OPERAND | DO_WRITES,
    [KW_do] = DO_OPERAND | DO_WRITES,
    [KW_set] = DO_NAME | DO_WRITES,
    [KW_update] = DO_NAME | DO_WRITES,
    [KW_partition] = DO_NAME,
    [KW_at] = DO_NAME | DO_FIRST,
    [KW_comment] = DO_NAME,
    [KW_level] = DO_NAME,
    [KW_role] = DO_NAME,
    [KW_session] = DO_NAME,
    [KW_start] = DO_NAME,
    [KW_system] = DO_NAME,
    [KW_name] = DO_MAYBE,
    [KW_key] = DO_MAYBE,
    [KW_value] = DO_MAYBE,
    [KW_path] = DO_MAYBE,
    [KW_version] = DO_MAYBE,
    [KW_content] = DO_MAYBE,
    [KW_groups] = DO_MAYBE,
};

static bool is_harmless(struct effect effect)
{
    return effect.class == SQL_READ && effect.flags == 0;
}

/* ---- what only some statements ask for: a catalog's names, names that are built in ---- */

static struct word word_of_part(const struct part *part)
{
    const struct known known = part->row->known;
    return (struct word){.text = part->text,
                         .hash = part->hash,
                         .known = known,
                         .keyword = part->quoted ? KW_NONE : known.keyword,
                         .plain = true,
                         .quoted = part->quoted};
}

enum question { IS_RELATION, IS_FIELD, IS_CALL };

/* Is the name harmless as what it is used for? With its qualifier, NULL: without one. */
SLOW bool ask(const struct catalog *catalog, enum question question, const struct part *qualifier,
              const struct part *name)
{
    const struct word word = word_of_part(name);
    struct schema schema = {.kind = QUALIFIER_NONE};
    enum function_class fn;
    if (qualifier != NULL) {
        const struct word of = word_of_part(qualifier);
        schema.kind = QUALIFIER_OTHER;
        schema.usable = catalog != NULL && lookup_name(&of, &schema.name);
    }
    if (question == IS_CALL)
        return is_harmless(lookup_function(catalog, &schema, &word, &fn));
    if (question == IS_FIELD)
        return is_harmless(lookup_field(catalog, &word));
    return is_harmless(lookup_relation(catalog, &schema, &word));
}

/* Of words, of which no two other bytes fold alike. */
static bool same_name(struct slice a, struct slice b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if ((a.p[i] | 0x20) != (b.p[i] | 0x20))
            return false;
    return true;
}

static bool is_with_name(const struct withs *withs, struct slice name)
{
    for (unsigned i = 0; i < withs->closed; i++)
        if (same_name(withs->names[i], name))
            return true;
    return false;
}

/* ask() in short for the most common question: an ASCII name without a qualifier. */
SLOW bool is_harmless_relation(const struct catalog *catalog, const struct withs *withs,
                               struct slice text, bool quoted, uint64_t hash)
{
    const struct catalog_name name = {text, quoted, hash};
    const struct catalog_answer answer = catalog_find(catalog, CATALOG_RELATION, NULL, &name);
    return answer.known ? answer.class == SQL_READ && !answer.hides : is_with_name(withs, text);
}

/* It leaves nothing in the session. */
SLOW bool is_quiet(const struct catalog *calls, const struct part *name)
{
    const struct word word = word_of_part(name);
    return !lookup_hides(calls, &word);
}

SLOW bool ask_operator(const struct catalog *catalog, const uint8_t *p, size_t n)
{
    static const struct schema any = {.kind = QUALIFIER_NONE};
    return is_harmless(lookup_operator(catalog, &any, (struct slice){p, n}));
}

SLOW bool ask_word_operators(const struct catalog *catalog, enum keyword keyword, bool negated)
{
    return is_harmless(lookup_word_operators(catalog, keyword, negated));
}

FAST bool is_ascii(const struct part *part)
{
    return (part->all & NAME_NOT_ASCII) == 0;
}

/* No such name in the catalog: then it is what the closed lists say. */
FAST bool is_missing(const struct quick *q, enum catalog_kind kind, const struct part *part)
{
    return is_ascii(part) && part->text.n <= CATALOG_NAME_MAX &&
           !catalog_may_have(q->filter, kind, part->hash);
}

/* 8 bytes from p on are ours to read. */
FAST bool is_operator_missing(const struct quick *q, const uint8_t *p, size_t n)
{
    return n == 0 || !catalog_may_have(q->filter, CATALOG_OPERATOR,
                                       name_key_of((struct slice){p, n}, p + 8).hash);
}

FAST bool are_word_operators_missing(const struct quick *q, enum keyword keyword, bool negated)
{
    const struct word_operator *first = &word_operators[keyword][negated], *second = first + 2;
    return is_operator_missing(q, (const uint8_t *)first->text, first->n) &&
           is_operator_missing(q, (const uint8_t *)second->text, second->n);
}

/* ---- names ---- */

/* Behind the comment at p, should there be one; comments in comments are not ours. */
SLOW const uint8_t *skip_comment(const uint8_t *p)
{
    if (p[0] == '-' && p[1] == '-')
        return p + strcspn((const char *)p, "\n\r");
    if (p[0] != '/' || p[1] != '*')
        return p;
    for (const uint8_t *q = p + 2; *q != 0 && (q[0] != '/' || q[1] != '*'); q++)
        if (q[0] == '*' && q[1] == '/')
            return q + 2;
    return p;
}

/* Behind white space and comments. */
FAST const uint8_t *skip_spaces(const uint8_t *p)
{
    while (scan_is(*p, SCAN_C_GAP)) {
        const uint8_t *behind = scan_is(*p, SCAN_C_SPACE) ? p + 1 : skip_comment(p);
        if (behind == p)
            break;
        p = behind;
    }
    return p;
}

/* The name at q->at, with or without quotes; false if it is no simple one. */
FAST bool read_part(struct quick *q, struct part *part)
{
    const bool quoted = *q->at == '"';
    const uint8_t *const from = q->at + quoted, *p = q->at + 1;
    if (quoted) {
        while (scan_is(*p, SCAN_C_LOWER))
            p++;
        if (p == from || p[0] != '"' || p[1] == '"') /* "a b", "a""b" */
            return false;
    } else {
        while (scan_is(*p, SCAN_C_IDENT))
            p++;
    }
    part->text = (struct slice){from, (size_t)(p - from)};
    part->quoted = quoted;
    const struct name_key key = name_key_of(part->text, from + 8);
    part->row = name_row_of(part->text, &key);
    part->hash = key.hash;
    part->all = key.all;
    fingerprint_other(&q->fingerprint, quoted ? fingerprint_of_quoted(key.hash) : key.hash);
    q->at = p + quoted;
    return true;
}

/* "(" follows the name. */
FAST bool take_call(struct quick *q, const struct part *qualifier, const struct part *name)
{
    const struct part copy = *name; /* a pointer would keep it out of registers */
    if (q->after != AFTER_NO || q->at_relation || q->before == KW_as || copy.quoted ||
        qualifier != NULL)
        return false;
    const unsigned function = copy.row->known.function;
    if (q->writes) /* INSERT INTO t (a): only what the session keeps counts */
        return function == FN_HARMLESS ||
               (function == FN_UNKNOWN && (q->before == KW_into || is_quiet(q->calls, &copy)));
    if (q->catalog == NULL || is_missing(q, CATALOG_FUNCTION, &copy))
        return function == FN_HARMLESS;
    return ask(q->catalog, IS_CALL, NULL, &copy);
}

/* t.f, should it be a call: without the catalog's help. */
FAST bool is_harmless_field(const struct quick *q, const struct part *name)
{
    const unsigned function = name->row->known.function;
    return (function == FN_UNKNOWN || function == FN_HARMLESS) &&
           (q->catalog == NULL || is_missing(q, CATALOG_FIELD, name));
}

FAST bool take_relation(const struct quick *q, const struct part *qualifier,
                        const struct part *name)
{
    if (q->catalog == NULL)
        return true;
    if (qualifier == NULL && is_ascii(name))
        return is_harmless_relation(q->catalog, q->withs, name->text, name->quoted, name->hash);
    const struct part of = qualifier == NULL ? *name : *qualifier, copy = *name;
    return ask(q->catalog, IS_RELATION, qualifier == NULL ? NULL : &of, &copy);
}

/* Neither "(", a string nor a dot follows the name. */
FAST bool take_plain(struct quick *q, const struct part *qualifier, const struct part *name)
{
    if (name_may_be_special(name->text))
        return false;
    q->was = q->at_relation ? WAS_RELATION : WAS_ELSE;
    q->reads |= q->at_relation;
    if (q->at_relation)
        return take_relation(q, qualifier, name);
    if (q->writes || qualifier == NULL || is_harmless_field(q, name))
        return true;
    const struct part copy = *name;
    return ask(q->catalog, IS_FIELD, NULL, &copy);
}

/* t.* */
FAST bool take_star(struct quick *q)
{
    fingerprint_other(&q->fingerprint, fingerprint_of_bytes((struct slice){q->at, 1}));
    q->at++;
    q->after = AFTER_YES;
    q->before = KW_NONE;
    q->was = WAS_ELSE;
    return !q->at_relation && !scan_is(*q->at, SCAN_C_OPERATOR);
}

/* Behind the last part of a name: what is it used for? E'' and N'' begin like one, and are not ours. */
FAST bool take_name(struct quick *q, const struct part *qualifier, const struct part *name)
{
    const uint8_t *p = skip_spaces(q->at);
    q->at = p;
    if (*p == '(') {
        if (!take_call(q, qualifier, name))
            return false;
        q->was = WAS_ELSE;
        return true;
    }
    return *p != '\'' && *p != '.' && take_plain(q, qualifier, name);
}

/* ---- keywords ---- */

/* Behind a word that may be a keyword LIKE is one too, unless it is called. */
FAST bool take_infix(struct quick *q, unsigned doing)
{
    const uint8_t *p = skip_spaces(q->at);
    if (q->after == AFTER_MAYBE && (!(doing & DO_LIKE) || *p == '(' || *p == '.'))
        return false;
    const bool behind_operand = q->after != AFTER_NO;
    q->after = AFTER_NO;
    return behind_operand;
}

/* coalesce( and interval '1 day': where a name in this place could be an alias it is not ours. */
FAST bool take_form(struct quick *q)
{
    if (q->at_relation || q->was == WAS_RELATION || (q->was == WAS_CLOSED && q->after == AFTER_YES))
        return false;
    q->after = AFTER_MAYBE;
    return true;
}

FAST bool take_rare_keyword(struct quick *q, unsigned doing, enum keyword before)
{
    if (doing & DO_INFIX)
        return take_infix(q, doing);
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

FAST bool take_keyword(struct quick *q, enum keyword keyword, unsigned doing)
{
    const enum keyword before = q->before;
    const uint32_t here = UINT32_C(1) << q->depth;
    if (before == KW_distinct && (doing & DO_FROM || keyword == KW_on))
        return false; /* IS DISTINCT FROM, DISTINCT ON (a) */
    if ((doing & DO_OPERATORS) && q->catalog != NULL &&
        !are_word_operators_missing(q, keyword, before == KW_not) &&
        !ask_word_operators(q->catalog, keyword, before == KW_not))
        return false;
    if (doing & DO_LEAVE)
        q->froms &= ~here;
    if (doing & DO_FROM)
        q->froms |= here;
    if (doing & (DO_FROM | DO_JOIN))
        q->want_relation = (q->froms & here) != 0;
    q->before = keyword;
    if (doing & DO_OPERAND)
        q->after = AFTER_NO;
    else if (doing & DO_VALUE)
        q->after = AFTER_YES;
    else if (!take_rare_keyword(q, doing, before))
        return false;
    q->was = WAS_ELSE;
    return true;
}

/* From the dot behind the first part of a name to its end, or to the * behind its last dot. */
FAST bool read_qualified(struct quick *q, struct part *qualifier, struct part *name)
{
    do {
        if (name_may_be_special(name->text) ||
            name->row->known.keyword != KW_NONE) /* information_schema ... */
            return false;
        fingerprint_other(&q->fingerprint, '.');
        q->at++;
        *qualifier = *name;
        if (*q->at == '*')
            return true;
        if (*q->at != '"' && !scan_is(*q->at, SCAN_C_IDENT_START))
            return false;
        if (!read_part(q, name))
            return false;
    } while (*q->at == '.');
    return true;
}

/* Is the word ours, here? */
FAST bool is_let_through(const struct quick *q, enum keyword keyword, unsigned doing)
{
    if (keyword == KW_NONE)
        return true;
    if ((doing & DO_WRITES) && !q->writes) /* SELECT INTO */
        return false;
    if ((doing & DO_FIRST) && q->after != AFTER_NO) /* a AT TIME ZONE */
        return false;
    return doing != 0 && q->before != KW_as; /* SELECT a AS from */
}

/* A keyword, or a name with its qualifiers. */
FAST bool take_word(struct quick *q)
{
    struct part name, qualifier;
    if (!read_part(q, &name))
        return false;
    const enum keyword keyword = name.quoted ? KW_NONE : (enum keyword)name.row->known.keyword;
    const unsigned doing = doings[keyword];
    if (!is_let_through(q, keyword, doing))
        return false;
    if (!(doing & (DO_NAME | DO_MAYBE)))
        return take_keyword(q, keyword, doing);
    const bool dotted = *q->at == '.';
    if (dotted && !read_qualified(q, &qualifier, &name))
        return false;
    if (dotted && q->at[-1] == '.')
        return take_star(q);
    if (!take_name(q, dotted ? &qualifier : NULL, &name))
        return false;
    q->after = doing & DO_MAYBE ? AFTER_MAYBE : AFTER_YES;
    q->before = dotted ? KW_NONE : keyword;
    return true;
}

/* ---- a WITH list in front of all: name AS (SELECT ...), ... ---- */

/* The next token, if it is this keyword. */
FAST bool take_expected(struct quick *q, enum keyword keyword)
{
    struct part part;
    q->at = skip_spaces(q->at);
    return scan_is(*q->at, SCAN_C_IDENT_START) && read_part(q, &part) &&
           part.row->known.keyword == keyword;
}

/* As far as the SELECT of the query behind the name. */
FAST bool open_with(struct quick *q)
{
    struct part name;
    struct withs *withs = q->withs;
    q->at = skip_spaces(q->at);
    if (withs->n == WITHS_MAX || !scan_is(*q->at, SCAN_C_IDENT_START) || !read_part(q, &name) ||
        !is_ascii(&name) || name.row->known.keyword != KW_NONE || name_may_be_special(name.text))
        return false;
    withs->names[withs->n++] = name.text;
    if (!take_expected(q, KW_as))
        return false;
    q->at = skip_spaces(q->at);
    if (*q->at != '(')
        return false;
    q->at++;
    fingerprint_other(&q->fingerprint, '(');
    q->depth = 1;
    return take_expected(q, KW_select);
}

/* Behind the ) of such a query: the next one, or the query that they are for. */
FAST bool next_with(struct quick *q)
{
    q->withs->closed++;
    q->at = skip_spaces(q->at);
    q->froms = 0;
    q->after = AFTER_NO;
    q->was = WAS_ELSE;
    q->before = KW_select;
    if (*q->at != ',')
        return take_expected(q, KW_select);
    q->at++;
    fingerprint_comma(&q->fingerprint);
    return open_with(q);
}

/* ---- the other tokens ---- */

FAST bool take_literal(struct quick *q, const uint8_t *end, enum was was)
{
    fingerprint_literal(&q->fingerprint);
    q->at = end;
    q->after = AFTER_YES;
    q->before = KW_NONE;
    q->was = was;
    return true;
}

FAST const uint8_t *skip_digits(const uint8_t *p)
{
    while (scan_is(*p, SCAN_C_DIGIT))
        p++;
    return p;
}

/* 1 and 1.5 */
FAST bool take_number(struct quick *q)
{
    const uint8_t *p = skip_digits(q->at);
    if (p[0] == '.' && scan_is(p[1], SCAN_C_DIGIT))
        p = skip_digits(p + 1);
    return !scan_is(*p, SCAN_C_IDENT) && *p != '.' && take_literal(q, p, WAS_ELSE);
}

FAST bool take_parameter(struct quick *q)
{
    const uint8_t *p = skip_digits(q->at + 1);
    q->reads = true;
    return p > q->at + 1 && !scan_is(*p, SCAN_C_IDENT) && *p != '.' && take_literal(q, p, WAS_ELSE);
}

/* 'text': no continuation, no type in front of it. */
FAST bool take_string(struct quick *q)
{
    const uint8_t *p = q->at;
    if (q->was == WAS_CLOSED || q->was == WAS_STRING)
        return false;
    do {
        for (p++; *p != '\''; p++)
            if (*p == 0)
                return false;
        p++;
    } while (*p == '\'');
    return take_literal(q, p, WAS_STRING);
}

FAST bool take_user_operator(const struct quick *q, size_t n)
{
    static const uint8_t not_equal[8] = "<>";
    const uint8_t *p = *q->at == '!' ? not_equal : q->at; /* as the lexer */
    return is_operator_missing(q, p, n) || ask_operator(q->catalog, p, n);
}

/* Those of one byte, and <= >= <> != || */
FAST bool take_operator(struct quick *q)
{
    const uint8_t *p = q->at;
    const bool star = *p == '*' && q->after == AFTER_NO;
    size_t n = 1;
    if (scan_is(p[1], SCAN_C_OPERATOR)) {
        const bool equal = p[1] == '=' && (*p == '<' || *p == '>' || *p == '!');
        const bool pair = equal || (p[1] == '>' && *p == '<') || (p[1] == '|' && *p == '|');
        if (!pair || scan_is(p[2], SCAN_C_OPERATOR))
            return false;
        n = 2;
    } else if (*p == '!' || *p == '`' || *p == '&') { /* U&"" */
        return false;
    }
    if (q->catalog != NULL && !star && !take_user_operator(q, n))
        return false;
    fingerprint_other(&q->fingerprint, n == 1 ? fingerprint_of_bytes((struct slice){p, 1})
                                              : fingerprint_of_bytes((struct slice){p, 2}));
    q->at = p + n;
    q->after = AFTER_NO;
    q->before = KW_NONE;
    q->was = WAS_ELSE;
    return true;
}

FAST bool open_parenthesis(struct quick *q)
{
    if (q->depth == QUICK_DEPTH_MAX || q->before == KW_as)
        return false;
    q->depth++;
    const uint32_t here = UINT32_C(1) << q->depth;
    q->froms = q->at_relation ? q->froms | here : q->froms & ~here;
    q->want_relation = q->at_relation;
    q->after = AFTER_NO;
    q->was = WAS_ELSE;
    q->before = KW_NONE;
    return true;
}

FAST bool close_parenthesis(struct quick *q)
{
    if (q->depth == 0)
        return false;
    q->depth--;
    q->after = AFTER_YES;
    q->was = WAS_CLOSED;
    q->before = KW_NONE;
    return q->depth > 0 || q->withs->n == q->withs->closed || next_with(q);
}

FAST bool take_punct(struct quick *q)
{
    const uint8_t c = *q->at;
    q->at++;
    if (c == ',') {
        fingerprint_comma(&q->fingerprint);
        q->want_relation = (q->froms >> q->depth & 1) != 0;
        q->after = AFTER_NO;
        q->was = WAS_ELSE;
        q->before = KW_NONE;
        return true;
    }
    fingerprint_other(&q->fingerprint, c);
    return (c == '(' && open_parenthesis(q)) || (c == ')' && close_parenthesis(q));
}

/* At the byte of a token; false if it is not ours. */
FAST bool take_token(struct quick *q)
{
    const uint8_t c = *q->at;
    const unsigned class = scan_classes[c];
    q->at_relation = q->want_relation;
    q->want_relation = false;
    if ((class & SCAN_C_IDENT_START) || c == '"')
        return take_word(q);
    if (class & SCAN_C_ALONE && c != ';')
        return take_punct(q);
    if (class & SCAN_C_OPERATOR)
        return take_operator(q);
    if (class & SCAN_C_DIGIT)
        return take_number(q);
    if (c == '\'')
        return take_string(q);
    if (c == '$')
        return take_parameter(q);
    q->ended = c == ';' || c == 0;
    return false;
}

/* The first word, of WITH up to the first SELECT; false if it is none of ours. */
static bool read_head(struct quick *q)
{
    struct part part;
    if (!scan_is(*q->at, SCAN_C_IDENT_START) || !read_part(q, &part))
        return false;
    const enum keyword keyword = (enum keyword)part.row->known.keyword;
    q->writes = keyword == KW_insert || keyword == KW_update || keyword == KW_delete;
    return keyword == KW_select || q->writes || (keyword == KW_with && open_with(q));
}

/* All tokens behind the first, up to the end of the text or a semicolon in front of it. */
FAST bool read_rest(struct quick *q, const uint8_t *end)
{
    for (;;) {
        q->at = skip_spaces(q->at);
        if (!take_token(q))
            break;
    }
    if (!q->ended)
        return false;
    if (*q->at == ';')
        fingerprint_other(&q->fingerprint, ';');
    return skip_spaces(q->at + (*q->at == ';')) == end && q->depth == 0;
}

/* While the facts are not complete, names that are missing mean more than that. */
static bool is_complete(const struct catalog *catalog)
{
    return catalog_rule(catalog, CATALOG_MISSING).class == SQL_READ;
}

bool quick_classify(struct slice sql, const struct sql_env *env, struct sql_facts *out)
{
    uint8_t text[QUICK_TEXT_MAX + 16];
    if (!env->standard_conforming_strings || sql.n > QUICK_TEXT_MAX || sql.n == 0)
        return false;
    memcpy(text, sql.p, sql.n);
    memset(text + sql.n, 0, 16);
    struct withs withs;
    withs.n = withs.closed = 0;
    struct quick head = {.at = text, .withs = &withs};
    if (!read_head(&head))
        return false;
    const struct catalog *catalog = head.writes ? NULL : env->catalog;
    if (catalog != NULL && !is_complete(catalog))
        return false;
    /* not all of head: only a struct that no one points to is fast */
    struct quick q = {.at = head.at,
                      .withs = &withs,
                      .depth = head.depth,
                      .fingerprint = {.value = head.fingerprint.value},
                      .writes = head.writes,
                      .before = head.writes ? KW_NONE : KW_select,
                      .catalog = catalog,
                      .calls = env->catalog,
                      .filter = catalog == NULL ? NULL : catalog_filter(catalog)};
    if (!read_rest(&q, text + sql.n))
        return false;
    if (q.reads && q.catalog != NULL && !is_harmless(lookup_everywhere(q.catalog)))
        return false;
    const bool writes = q.writes;
    *out = (struct sql_facts){.class = writes ? SQL_WRITE : SQL_READ,
                              .reason = writes ? ROUTE_WHY_WRITE : ROUTE_WHY_READ,
                              .statements = 1,
                              .flags = writes ? SQL_F_NOT_READ : SQL_F_READ,
                              .fingerprint = q.fingerprint.value};
    return true;
}
