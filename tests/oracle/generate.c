/* tests/oracle/generate.c: derivations of a grammar, and mutations of token sequences. Its idea of a
 * token is rough on purpose: it must not share our scanner's mistakes. */
#include "tests/oracle/generate.h"

#include <ctype.h>
#include <string.h>

#define DEPTH_MAX 7
#define TOKENS_MAX 2048
#define RARE_EVERY 60

enum kind { KIND_LEAF, KIND_RULE, KIND_RARE };

struct rule {
    char symbol;
    enum kind kind;
    const char *text;
};

static const struct rule rules[] = {
#define LEAF(symbol, text) {#symbol[0], KIND_LEAF, text},
#define RULE(symbol, text) {#symbol[0], KIND_RULE, text},
#define RARE(symbol, text) {#symbol[0], KIND_RARE, text},
#include "tests/oracle/grammar.def"
#undef LEAF
#undef RULE
#undef RARE
};

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

struct text {
    char *out;
    size_t n;
    bool full;
};

uint32_t generate_below(uint64_t *seed, uint32_t n)
{
    *seed += UINT64_C(0x9E3779B97F4A7C15); /* splitmix64 */
    uint64_t z = *seed;
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return (uint32_t)((z ^ z >> 31) % n);
}

static void put(struct text *t, const char *bytes, size_t n)
{
    if (t->n + n >= ORACLE_TEXT_MAX) {
        t->full = true;
        return;
    }
    memcpy(t->out + t->n, bytes, n);
    t->n += n;
    t->out[t->n] = 0;
}

static bool fits(const struct rule *rule, char symbol, unsigned depth, bool rare)
{
    if (rule->symbol != symbol)
        return false;
    if (rare)
        return rule->kind == KIND_RARE;
    return depth >= DEPTH_MAX ? rule->kind == KIND_LEAF : rule->kind != KIND_RARE;
}

static const char *pick(uint64_t *seed, char symbol, unsigned depth)
{
    const char *found = NULL;
    const bool rare = generate_below(seed, RARE_EVERY) == 0;
    for (unsigned pass = rare ? 0 : 1; pass < 2 && found == NULL; pass++) {
        uint32_t n = 0;
        for (size_t i = 0; i < COUNT(rules); i++)
            if (fits(&rules[i], symbol, depth, pass == 0) && generate_below(seed, ++n) == 0)
                found = rules[i].text;
    }
    for (size_t i = 0; found == NULL && i < COUNT(rules); i++) /* a symbol without leaves */
        if (rules[i].symbol == symbol)
            found = rules[i].text;
    return found;
}

static void derive(uint64_t *seed, char symbol, unsigned depth, struct text *t)
{
    const char *rule = pick(seed, symbol, depth);
    for (; rule != NULL && *rule != 0 && !t->full; rule++) {
        if (rule[0] == '{' && rule[1] == '{') {
            put(t, ++rule, 1);
        } else if (rule[0] == '{' && rule[1] != 0 && rule[2] == '}') {
            derive(seed, rule[1], depth + 1, t);
            rule += 2;
        } else {
            put(t, rule, 1);
        }
    }
}

bool generate_statement(uint64_t *seed, char *out)
{
    struct text t = {.out = out};
    out[0] = 0;
    derive(seed, 's', generate_below(seed, 4), &t);
    return !t.full;
}

/* ---- mutations ---- */

struct token {
    const char *p;
    size_t n;
};

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '$' || (c & 0x80) != 0;
}

static size_t token_length(const char *p)
{
    size_t n = 1;
    if (*p == '\'' || *p == '"') {
        while (p[n] != 0 && p[n] != *p)
            n++;
        return p[n] == 0 ? n : n + 1;
    }
    if (isspace((unsigned char)*p)) {
        while (isspace((unsigned char)p[n]))
            n++;
    } else if (is_word(*p)) {
        while (is_word(p[n]))
            n++;
    }
    return n;
}

static size_t cut(const char *sql, struct token *tokens)
{
    size_t count = 0;
    for (; *sql != 0 && count < TOKENS_MAX; count++) {
        tokens[count] = (struct token){sql, token_length(sql)};
        sql += tokens[count].n;
    }
    return count;
}

static const char *const inserts[] = {"SELECT",
                                      "FROM",
                                      "WHERE",
                                      "UPDATE",
                                      "DELETE",
                                      "INSERT",
                                      "INTO",
                                      "FOR",
                                      "SHARE",
                                      "KEY",
                                      "NO",
                                      "OF",
                                      "WITH",
                                      "RECURSIVE",
                                      "AS",
                                      "MATERIALIZED",
                                      "NOT",
                                      "TABLE",
                                      "VALUES",
                                      "ONLY",
                                      "LATERAL",
                                      "JOIN",
                                      "LEFT",
                                      "NATURAL",
                                      "CROSS",
                                      "ON",
                                      "USING",
                                      "GROUP",
                                      "ORDER",
                                      "BY",
                                      "HAVING",
                                      "WINDOW",
                                      "OVER",
                                      "FILTER",
                                      "WITHIN",
                                      "UNION",
                                      "EXCEPT",
                                      "ALL",
                                      "DISTINCT",
                                      "LIMIT",
                                      "OFFSET",
                                      "FETCH",
                                      "FIRST",
                                      "NEXT",
                                      "ROWS",
                                      "ROW",
                                      "RANGE",
                                      "IN",
                                      "IS",
                                      "LIKE",
                                      "ILIKE",
                                      "SIMILAR",
                                      "TO",
                                      "BETWEEN",
                                      "AND",
                                      "OR",
                                      "EXISTS",
                                      "ANY",
                                      "ARRAY",
                                      "CASE",
                                      "WHEN",
                                      "THEN",
                                      "ELSE",
                                      "END",
                                      "CAST",
                                      "::",
                                      "(",
                                      ")",
                                      "()",
                                      "[",
                                      "]",
                                      ",",
                                      ";",
                                      ".",
                                      "*",
                                      "+",
                                      "=",
                                      "1",
                                      "'x'",
                                      "$1",
                                      "a",
                                      "t",
                                      "my_function",
                                      "nextval",
                                      "lower",
                                      "my_type",
                                      "int",
                                      "double",
                                      "precision",
                                      "OPERATOR",
                                      "EXTRACT",
                                      "SUBSTRING",
                                      "TRIM",
                                      "OVERLAY",
                                      "POSITION",
                                      "COALESCE",
                                      "AT",
                                      "TIME",
                                      "ZONE",
                                      "COLLATE",
                                      "TABLESAMPLE",
                                      "ORDINALITY",
                                      "ROLLUP",
                                      "CUBE",
                                      "GROUPING",
                                      "SETS",
                                      "ESCAPE",
                                      "ISNULL",
                                      "OVERLAPS",
                                      "VARIADIC",
                                      "SYMMETRIC",
                                      "my_function(1)",
                                      "nextval('s')",
                                      "FOR UPDATE",
                                      "INTO x",
                                      "::my_type",
                                      "EXPLAIN",
                                      "ANALYZE",
                                      "COPY",
                                      "STDOUT",
                                      "BEGIN",
                                      "COMMIT",
                                      "SET",
                                      "RETURNING",
                                      "VALUE",
                                      "name",
                                      "DO",
                                      "USER",
                                      "FULL",
                                      "OUTER",
                                      "INNER",
                                      "PARTITION",
                                      "DEFAULT",
                                      "NULL",
                                      "TRUE",
                                      "UNIQUE",
                                      "BOTH",
                                      "PLACING",
                                      "DESC",
                                      "NULLS",
                                      "LAST",
                                      "TIES",
                                      "SKIP",
                                      "LOCKED",
                                      "CURRENT",
                                      "XMLTABLE",
                                      "PASSING",
                                      "COLUMNS",
                                      "PATH",
                                      "/* x */",
                                      "-- y\n",
                                      "E'\\''",
                                      "$$",
                                      "\"q\"",
                                      "U&'x'",
                                      "pg_class",
                                      "pg_catalog.",
                                      "public."};

static void swap(struct token *a, struct token *b)
{
    const struct token t = *a;
    *a = *b;
    *b = t;
}

/* One change to tokens[0 .. n). */
static size_t mutate(uint64_t *seed, struct token *tokens, size_t n)
{
    const uint32_t at = generate_below(seed, (uint32_t)n);
    const char *other = inserts[generate_below(seed, COUNT(inserts))];
    switch (generate_below(seed, 6)) {
    case 0: /* left out */
        memmove(tokens + at, tokens + at + 1, (n - at - 1) * sizeof *tokens);
        return n - 1;
    case 1:
        swap(&tokens[at], &tokens[generate_below(seed, (uint32_t)n)]);
        return n;
    case 2: /* another one of the text */
        tokens[at] = tokens[generate_below(seed, (uint32_t)n)];
        return n;
    case 3:
        tokens[at] = (struct token){other, strlen(other)};
        return n;
    default:
        if (n == TOKENS_MAX)
            return n;
        memmove(tokens + at + 1, tokens + at, (n - at) * sizeof *tokens);
        tokens[at] = (struct token){other, strlen(other)};
        return n + 1;
    }
}

/* What would run together must be parted; what stood together stays so. */
static bool needs_blank(const struct token *before, const struct token *now)
{
    return now->p != before->p + before->n && is_word(before->p[before->n - 1]) && is_word(*now->p);
}

bool generate_mutation(uint64_t *seed, const char *sql, char *out)
{
    static struct token tokens[TOKENS_MAX + 1];
    struct text t = {.out = out};
    size_t n = cut(sql, tokens);
    out[0] = 0;
    for (uint32_t i = 1 + generate_below(seed, 3); i > 0 && n > 1; i--)
        n = mutate(seed, tokens, n);
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && needs_blank(&tokens[i - 1], &tokens[i]))
            put(&t, " ", 1);
        put(&t, tokens[i].p, tokens[i].n);
    }
    return !t.full && n > 0;
}
