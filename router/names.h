/* router/names.h: the closed lists of names: keywords, built-in functions, types, operators.
 *
 * Pure      constant tables, no I/O, no allocation.
 * Rule      names are compared as PostgreSQL folds them: ASCII letters without case. A quoted name
 *           must be asked for with word_of_quoted(), which keeps its case.
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

/* A name ready for look-up. */
struct word {
    struct slice text;
    uint64_t head; /* first 8 bytes, folded, zero padded */
    uint64_t tail; /* last 8 bytes, folded; 0 for names of 8 bytes or less */
    uint64_t hash;
    enum keyword keyword; /* KW_NONE for a quoted name, and until keyword_find() is asked */
    bool plain;           /* false: quoted, and no table can hold it; only the text is set then */
    bool quoted;
};

/* end: one past the last byte that may be read, at or behind the end of the text. */
void word_of(struct slice text, const uint8_t *end, struct word *word);

/* The same for a quoted name: not plain if it has upper case, or a byte outside a-z 0-9 _. */
void word_of_quoted(struct slice text, const uint8_t *end, struct word *word);

enum keyword keyword_find(const struct word *word);

extern const uint8_t keyword_roles[KW_N];

static inline enum kw_role keyword_role(enum keyword keyword)
{
    return (enum kw_role)keyword_roles[keyword];
}

enum function_class function_find(const struct word *word);
enum type_class type_find(const struct word *word);
bool operator_known(struct slice text);

/* pg_..., pg_temp...: names that PostgreSQL keeps for itself. */
bool name_starts_pg(struct slice name);
bool name_starts_pg_temp(struct slice name);

#endif
