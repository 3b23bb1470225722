/* router/lookup.c: names to effects. */
#include "router/lookup.h"

#include "router/names_inline.h"

#define FIRST_USER_OID 16384 /* PostgreSQL's FirstNormalObjectId */

static const struct effect harmless = {SQL_READ, ROUTE_WHY_READ, 0};

static const struct effect function_effects[FN_CLASS_N] = {
    [FN_UNKNOWN] = {SQL_UNKNOWN, ROUTE_WHY_UNKNOWN_FUNCTION, SQL_F_HIDING},
#define FNCLASS(name, class, flags) [FN_##name] = {SQL_##class, ROUTE_WHY_##class, flags},
#include "router/function_classes.def"
#undef FNCLASS
};

static struct effect unknown(enum route_reason why)
{
    return (struct effect){SQL_UNKNOWN, why, 0};
}

static struct effect worse(struct effect a, struct effect b)
{
    struct effect worst = b.class > a.class ? b : a;
    worst.flags = a.flags | b.flags;
    return worst;
}

static struct effect rule(const struct catalog *catalog, enum catalog_rule rule)
{
    const struct catalog_answer a = catalog_rule(catalog, rule);
    return (struct effect){(enum sql_class)a.class, (enum route_reason)a.reason, 0};
}

/* What the catalog answers; not_known if it knows nothing, and could. */
static struct effect answer(const struct catalog *catalog, struct catalog_answer a,
                            struct effect not_known)
{
    if (!a.known)
        return worse(not_known, rule(catalog, CATALOG_MISSING));
    return (struct effect){(enum sql_class)a.class, (enum route_reason)a.reason,
                           a.hides ? SQL_F_HIDING : 0};
}

/* Has it bytes from 0x80 on? */
static bool is_foreign(struct slice text)
{
    uint64_t all = 0, eight;
    size_t i = 0;
    for (; i + 8 <= text.n; i += 8) {
        memcpy(&eight, text.p + i, 8);
        all |= eight;
    }
    for (; i < text.n; i++)
        all |= text.p[i];
    return (all & NAME_NOT_ASCII) != 0;
}

static bool has_upper(struct slice text)
{
    bool upper = false;
    for (size_t i = 0; i < text.n; i++)
        upper |= text.p[i] >= 'A' && text.p[i] <= 'Z';
    return upper;
}

bool lookup_name(const struct word *word, struct catalog_name *out)
{
    *out = (struct catalog_name){word->text, word->quoted, word->plain ? word->hash : 0};
    if (word->text.n > CATALOG_NAME_MAX)
        return false;
    if (word->quoted)
        return word->plain || memchr(word->text.p, '"', word->text.n) == NULL;
    out->quoted = is_foreign(word->text); /* only as it is stored */
    return !out->quoted || !has_upper(word->text);
}

/* In the schema if there is one, else in any; not_known if there is none. What cannot be compared with the
 * catalog's names could be any of them: that is unknown, whatever a name that is not there would mean. */
static struct effect find(const struct catalog *catalog, enum catalog_kind kind,
                          const struct schema *schema, const struct word *word,
                          struct effect not_known)
{
    static const struct slice pg_catalog = {(const uint8_t *)"pg_catalog", 10};
    struct catalog_name in = {pg_catalog, true, 0}, name;
    if (catalog == NULL)
        return not_known;
    if (!lookup_name(word, &name))
        return not_known.class > SQL_READ ? not_known : unknown(ROUTE_WHY_UNKNOWN_NAME);
    if (schema->kind == QUALIFIER_NONE)
        return answer(catalog, catalog_find(catalog, kind, NULL, &name), not_known);
    if (schema->kind == QUALIFIER_OTHER) {
        if (!schema->usable)
            return not_known;
        in = schema->name;
    }
    return answer(catalog, catalog_find(catalog, kind, &in, &name), not_known);
}

struct effect lookup_relation(const struct catalog *catalog, const struct schema *schema,
                              const struct word *word)
{
    if (catalog == NULL)
        return harmless;
    return find(catalog, CATALOG_RELATION, schema, word, unknown(ROUTE_WHY_UNKNOWN_RELATION));
}

struct effect lookup_function(const struct catalog *catalog, const struct schema *schema,
                              const struct word *word, enum function_class *builtin)
{
    const enum function_class fn = (enum function_class)word->known.function;
    const struct effect of_builtin = function_effects[fn];
    struct effect effect;
    *builtin = fn;
    if (schema->kind == QUALIFIER_OTHER || fn == FN_UNKNOWN)
        effect = find(catalog, CATALOG_FUNCTION, schema, word, function_effects[FN_UNKNOWN]);
    else /* in pg_catalog too: extensions and superusers put theirs there */
        effect = worse(of_builtin, find(catalog, CATALOG_FUNCTION, schema, word, harmless));
    if (fn != FN_UNKNOWN) /* public.dblink_connect(): what the name promises to keep */
        effect.flags |= of_builtin.flags;
    return effect;
}

struct effect lookup_overload(const struct catalog *catalog, const struct word *word)
{
    const struct schema any = {.kind = QUALIFIER_NONE};
    return find(catalog, CATALOG_FUNCTION, &any, word, harmless);
}

struct effect lookup_field(const struct catalog *catalog, const struct word *word)
{
    const struct schema any = {.kind = QUALIFIER_NONE};
    const enum function_class fn = (enum function_class)word->known.function;
    const bool column = fn == FN_UNKNOWN || fn == FN_NODE_ALONE;
    const struct effect of_builtin = column ? harmless : function_effects[fn];
    return worse(of_builtin, find(catalog, CATALOG_FIELD, &any, word, harmless));
}

struct effect lookup_type(const struct catalog *catalog, const struct schema *schema,
                          const struct word *word)
{
    /* where INT and TIMESTAMP are found */
    static const struct schema own = {.kind = QUALIFIER_PG_CATALOG};
    const enum type_class type = (enum type_class)word->known.type;
    const bool of_grammar = keyword_role((enum keyword)word->keyword) == KW_ROLE_TYPE;
    const struct effect of_builtin =
        type == TYPE_CATALOG ? (struct effect){SQL_CATALOG_READ, ROUTE_WHY_CATALOG_READ, 0}
                             : harmless;
    if (schema->kind == QUALIFIER_OTHER || type == TYPE_UNKNOWN)
        return find(catalog, CATALOG_TYPE, schema, word, unknown(ROUTE_WHY_UNKNOWN_TYPE));
    return worse(of_builtin,
                 find(catalog, CATALOG_TYPE, of_grammar ? &own : schema, word, harmless));
}

struct effect lookup_parameter(const struct catalog *catalog, uint32_t oid)
{
    uint8_t digits[10];
    size_t at = sizeof digits;
    if (catalog == NULL || oid < FIRST_USER_OID)
        return harmless;
    for (uint32_t rest = oid; rest > 0; rest /= 10)
        digits[--at] = (uint8_t)('0' + rest % 10);
    const struct catalog_name name = {{digits + at, sizeof digits - at}, true, 0};
    return answer(catalog, catalog_find(catalog, CATALOG_PARAMETER, NULL, &name), harmless);
}

struct effect lookup_operator(const struct catalog *catalog, const struct schema *schema,
                              struct slice text)
{
    static const struct slice not_equal = {(const uint8_t *)"<>", 2};
    const bool builtin = schema->kind != QUALIFIER_OTHER && operator_known(text);
    if (builtin && catalog == NULL)
        return harmless;
    const struct word word = {.text = slice_is(text, "!=") ? not_equal : text, /* as the lexer */
                              .quoted = true};
    return find(catalog, CATALOG_OPERATOR, schema, &word,
                builtin ? harmless : unknown(ROUTE_WHY_UNKNOWN_OPERATOR));
}

#define OP(text)              \
    {                         \
        text, sizeof text - 1 \
    }
const struct word_operator word_operators[KW_N][4] = {
    [KW_like] = {OP("~~"), OP("!~~")},
    [KW_ilike] = {OP("~~*"), OP("!~~*")},
    [KW_similar] = {OP("~"), OP("!~")},
    [KW_between] = {OP(">="), OP("<"), OP("<="), OP(">")},
    [KW_in] = {OP("="), OP("<>")},
    [KW_distinct] = {OP("="), OP("=")},
    [KW_nullif] = {OP("=")},
    [KW_case] = {OP("=")},
    [KW_using] = {OP("=")},
    [KW_natural] = {OP("=")},
};
#undef OP

struct effect lookup_word_operators(const struct catalog *catalog, enum keyword keyword,
                                    bool negated)
{
    static const struct schema any = {.kind = QUALIFIER_NONE};
    struct effect effect = harmless;
    for (unsigned i = negated; i < 4; i += 2) {
        const struct word_operator *op = &word_operators[keyword][i];
        const struct slice text = {(const uint8_t *)op->text, op->n};
        if (text.n > 0)
            effect = worse(effect, lookup_operator(catalog, &any, text));
    }
    return effect;
}

bool lookup_is_complete(const struct catalog *catalog)
{
    return catalog != NULL && catalog_rule(catalog, CATALOG_MISSING).class == SQL_READ;
}

bool lookup_hides(const struct catalog *catalog, const struct word *word)
{
    struct catalog_name name;
    if (word->text.n == 8 && strncasecmp((const char *)word->text.p, "conflict", 8) == 0)
        return false; /* INSERT ... ON CONFLICT (a) */
    if (!lookup_is_complete(catalog))
        return word->keyword == KW_NONE; /* SET (a, b) = ... */
    if (!lookup_name(word, &name))
        return true;
    return catalog_find(catalog, CATALOG_FUNCTION, NULL, &name).hides;
}

uint32_t lookup_hiding(const struct catalog *catalog, enum catalog_rule rule)
{
    return catalog != NULL && catalog_rule(catalog, rule).class != SQL_READ ? SQL_F_HIDING : 0;
}

struct effect lookup_everywhere(const struct catalog *catalog)
{
    if (catalog == NULL)
        return harmless;
    struct effect effect = rule(catalog, CATALOG_EVERYWHERE);
    effect.flags = lookup_hiding(catalog, CATALOG_HIDES_READS);
    return effect;
}
