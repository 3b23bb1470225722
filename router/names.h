/* router/names.h: the closed lists of names: keywords, built-in functions, types, operators.
 *
 * Pure      constant tables, no I/O, no allocation.
 * Rule      names are compared as PostgreSQL folds them: ASCII letters without case. A quoted name
 *           must be asked for with word_of_quoted(), which keeps its case.
 * Tables    words.def, made by scripts/gen-functions: one row for all that the lists say of a name.
 */
#ifndef ROUTER_NAMES_H
#define ROUTER_NAMES_H

#include "base/slice.h"

enum keyword {
    KW_NONE,
#define KW(name, role) KW_##name,
#include "router/keywords.def"
#undef KW
    KW_N
};

enum kw_role {
    KW_ROLE_NONE,
    KW_ROLE_AS,
    KW_ROLE_WITH,
    KW_ROLE_NOT,
    KW_ROLE_FOR,
    KW_ROLE_INTO,
    KW_ROLE_BY,
    KW_ROLE_DML,
    KW_ROLE_OPERATOR,
    KW_ROLE_CLAUSE,
    KW_ROLE_VALUE,
    KW_ROLE_FORM,
    KW_ROLE_TYPE,
    KW_ROLE_INFIX,
    KW_ROLE_POSTFIX,
    KW_ROLE_JOIN_SIDE,
    KW_ROLE_MAYBE,
    KW_ROLE_AFTER,
    KW_ROLE_IDENT,
    KW_ROLE_N
};

enum function_class {
    FN_UNKNOWN,
#define FNCLASS(name, class, flags) FN_##name,
#include "router/function_classes.def"
#undef FNCLASS
    FN_CLASS_N
};

enum type_class { TYPE_UNKNOWN, TYPE_KNOWN, TYPE_CATALOG /* regclass and its like */ };

/* What the closed lists say of a name; zeros if it is in none. */
struct known {
    uint8_t keyword;  /* enum keyword */
    uint8_t function; /* enum function_class */
    uint8_t type;     /* enum type_class */
    uint8_t n;        /* bytes of the name */
};

/* A name, looked up. */
struct word {
    struct slice text;
    uint64_t hash; /* of the folded name; only if plain */
    union {
        uint64_t what; /* all of these, to be written and copied in one piece */
        struct {
            struct known known; /* whatever the quotes; zeros if not plain */
            uint8_t keyword;    /* enum keyword: known.keyword, but KW_NONE for a quoted name */
            bool plain;         /* false: quoted, and no list can hold it: not only of a-z 0-9 _ */
            bool quoted;
        };
    };
};

/* end: one past the last byte that may be read, at or behind the end of the text. */
void word_of(struct slice text, const uint8_t *end, struct word *word);

/* The same for a quoted name, without its quotes. */
void word_of_quoted(struct slice text, const uint8_t *end, struct word *word);

extern const uint8_t keyword_roles[KW_N];

static inline enum kw_role keyword_role(enum keyword keyword)
{
    return (enum kw_role)keyword_roles[keyword];
}

bool operator_known(struct slice text);

/* pg_..., pg_temp...: names that PostgreSQL keeps for itself. */
bool name_starts_pg(struct slice name);
bool name_starts_pg_temp(struct slice name);

#endif
