/* router/catalog.h: what the catalog of one database says about names that are not built in.
 *
 * What    a table from (kind, schema, name) to a class and a reason. The control thread fills it from
 *         the primary; afterwards it is only read, by any thread.
 * Rule    a name that is not in the table is unknown, and unknown goes to the primary. A name without
 *         its schema means the worst of all schemas: search_path need not be known.
 * Owns    its memory; names are copied in. No I/O, no clock, no globals.
 * Limits  names of CATALOG_NAME_MAX bytes (NAMEDATALEN - 1); longer ones are never found.
 */
#ifndef ROUTER_CATALOG_H
#define ROUTER_CATALOG_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

#define CATALOG_NAME_MAX 63

enum catalog_kind {
    CATALOG_RELATION, /* tables, views, sequences: what may stand behind FROM */
    CATALOG_FUNCTION, /* and aggregates; the worst of all that share a name */
    CATALOG_FIELD,    /* functions of one argument, which t.f and (x).f call as well */
    CATALOG_TYPE,
    CATALOG_OPERATOR,
    CATALOG_PARAMETER, /* types that a Parse declares, by their oid in decimal; only the bad ones are here */
    CATALOG_KIND_N
};

/* What no fact about one name can say. */
enum catalog_rule {
    CATALOG_EVERYWHERE, /* of every statement that reads a relation or takes a parameter: such as an implicit
                           cast by a function that writes */
    CATALOG_HIDES_READS, /* such statements run a function that hides (below) unnamed: for a cast, an operator ... */
    CATALOG_HIDES_WRITES, /* statements that write do: a trigger, a default ... */
    CATALOG_MISSING, /* of a built-in name that no fact is about: harmless, unless the facts are not complete
                           and a user's may go before it */
    CATALOG_RULE_N
};

/* A name as it stands in SQL text. */
struct catalog_name {
    struct slice text; /* without the quotes, doubled quotes left as they are */
    bool quoted;       /* false: upper-case ASCII letters count as lower-case ones */
    uint64_t hash;     /* of struct name_key, should it be known already; else 0 */
};

struct catalog_answer {
    bool known;
    uint8_t class;  /* enum sql_class; SQL_READ: a replica may serve it */
    uint8_t reason; /* enum route_reason */
    bool hides;     /* it may leave state in the session */
};

struct catalog;

/* id: unique in the process and not 0; it tells which catalog a statement was classified with. */
struct catalog *catalog_new(uint64_t id);
void catalog_free(struct catalog *catalog);
uint64_t catalog_id(const struct catalog *catalog);
size_t catalog_bytes(const struct catalog *catalog); /* the memory that it takes */

/* Exact names, as in the catalog. A second one for the same kind, schema and name replaces the first
 * (views are put as unknown, and again when their definition is proven). */
void catalog_put(struct catalog *catalog, enum catalog_kind kind, struct slice schema,
                 struct slice name, uint8_t class, uint8_t reason);

/* It runs code that may leave state in the session: in any schema, for all that has been put under this name. */
void catalog_mark(struct catalog *catalog, enum catalog_kind kind, struct slice name);
/* That code sets one of this name. */
void catalog_put_setting(struct catalog *catalog, struct slice name);
struct slice catalog_settings(const struct catalog *catalog); /* with a space behind each */

/* schema NULL: any schema. */
struct catalog_answer catalog_find(const struct catalog *catalog, enum catalog_kind kind,
                                   const struct catalog_name *schema,
                                   const struct catalog_name *name);

/* The worst that was put counts; SQL_READ while there is nothing. */
void catalog_put_rule(struct catalog *catalog, enum catalog_rule rule, uint8_t class,
                      uint8_t reason);
struct catalog_answer catalog_rule(const struct catalog *catalog, enum catalog_rule rule);

#endif
