/* router/lookup.h: what a name of a statement does: the closed lists first, then the catalog.
 *
 * Pure      private to router/. No memory of its own.
 * Rule      a built-in and a user's object of one name: the worst of both, since search_path decides
 *           and is not known here. A name in neither is unknown. Without a catalog (NULL) nothing
 *           but the closed lists is known, and a relation counts as a permanent table.
 */
#ifndef ROUTER_LOOKUP_H
#define ROUTER_LOOKUP_H

#include "router/classify.h"
#include "router/names.h"

struct effect {
    enum sql_class class; /* SQL_READ: harmless */
    enum route_reason reason;
    uint32_t flags;
};

enum qualifier { QUALIFIER_NONE, QUALIFIER_PG_CATALOG, QUALIFIER_OTHER };

/* What stands before the last dot of a name. */
struct schema {
    enum qualifier kind;
    bool usable;              /* name can be looked up; false behind (row). and $1. too */
    struct catalog_name name; /* of QUALIFIER_OTHER: the part right before the dot */
};

/* Where a name came from the text to how the catalog wants it; false if that cannot be told:
 * doubled quotes, or letters that the server folds by its own rules. */
bool lookup_name(const struct word *word, struct catalog_name *out);

struct effect lookup_relation(const struct catalog *catalog, const struct schema *schema,
                              const struct word *word);
struct effect lookup_function(const struct catalog *catalog, const struct schema *schema,
                              const struct word *word, enum function_class *builtin);

/* SUBSTRING and OVERLAY: words of the grammar, yet calls of whatever has that name. */
struct effect lookup_overload(const struct catalog *catalog, const struct word *word);

/* t.f and (x).f, should it be a call of f. */
struct effect lookup_field(const struct catalog *catalog, const struct word *word);
struct effect lookup_type(const struct catalog *catalog, const struct schema *schema,
                          const struct word *word);
/* A parameter of this type, which no word names. */
struct effect lookup_parameter(const struct catalog *catalog, uint32_t oid);
struct effect lookup_operator(const struct catalog *catalog, const struct schema *schema,
                              struct slice text);

/* LIKE, IN, CASE ... stand for operators, resolved by name as if they were written: for the first and third,
 * behind NOT for the second and fourth. */
struct word_operator {
    char text[8]; /* zero padded */
    uint8_t n;    /* 0: none */
};
extern const struct word_operator word_operators[KW_N][4];

struct effect lookup_word_operators(const struct catalog *catalog, enum keyword keyword,
                                    bool negated);
struct effect lookup_everywhere(const struct catalog *catalog);
/* Does a call of this name, which no list of built-in ones has, leave state in the session? Without facts: it may. */
bool lookup_hides(const struct catalog *catalog, const struct word *word);
/* No name of the user's is missing in it. */
bool lookup_is_complete(const struct catalog *catalog);
/* SQL_F_HIDING if that rule says so. */
uint32_t lookup_hiding(const struct catalog *catalog, enum catalog_rule rule);

#endif
