/* proxy/pool/stmt.h: prepared statements, shared by exact text, known by name to clients and servers.
 *
 * What    a struct stmt is one (text, parameter types, settings that change parsing, how we read it). Servers know
 *         it by a name of ours, stmt_name(). Clients know it by theirs: struct stmt_names maps
 *         them.
 * Source  spec/pooling.md 2.3.
 * Owns    counted references: each client name, each server entry and each pending Parse holds
 *         one.
 * Threads one worker's. Names hold the worker's number and a counter, so they are unique in the
 *         process.
 * Limits  a text over STMT_TEXT_MAX is not shared (its client is pinned). A client's names: client_statements_memory. A server keeps at most
 *         max_prepared_statements; the least recently used one is closed.
 */
#ifndef POOL_STMT_H
#define POOL_STMT_H

#include "base/list.h"
#include "base/slice.h"
#include "router/classify.h"
#include "router/hint.h"

#include <stdatomic.h>

#define STMT_TEXT_MAX (1U << 20)
#define STMT_NAME_MAX 40

struct stmt_table;

/* What its rows and parameters are (wire/description.h). 0: not known. */
struct stmt_shape {
    uint64_t rows, types;
};
/* Rows of the second shape can be read by the first one. What is not known does not differ. */
static inline bool stmt_shape_fits(struct stmt_shape told, struct stmt_shape is)
{
    return (!told.rows || told.rows == is.rows) &&
           (!told.types || !is.types || told.types == is.types);
}

struct stmt {
    struct stmt *next; /* in its bucket */
    struct stmt_table *table;
    uint64_t hash, id;
    uint32_t refs;
    uint32_t text_n, oids_n, env_n;
    uint64_t catalog;       /* the id of the catalog that facts were made with; 0: none */
    struct sql_facts facts; /* by stmt_facts() */
    bool standard_strings;  /* how its text is read: of two roles or databases, in two ways */
    bool ascii_trail_bytes;
    struct hint hint; /* its token points into bytes */
    bool is_query;    /* SELECT, INSERT and the like: PostgreSQL analyses it when it is parsed */
    uint8_t bytes[];  /* text, oids (raw, as on the wire), env */
};

struct stmt_table {
    uint32_t worker;
    uint64_t next_id;
    uint64_t generation;  /* grows when plans have been found stale */
    uint32_t n, bucket_n; /* bucket_n: a power of two */
    struct stmt **buckets;
};

void stmt_table_init(struct stmt_table *table, uint32_t worker);
void stmt_table_free(struct stmt_table *table); /* must be empty */
/* The statement of this identity, with a reference; made and classified if it is new. */
struct stmt *stmt_intern(struct stmt_table *table, struct slice text, struct slice oids,
                         struct slice env, const struct sql_env *sql_env);
/* What it does, by the catalog of sql_env: classified again when that is another one than before. */
const struct sql_facts *stmt_facts(struct stmt *stmt, const struct sql_env *sql_env);
struct stmt *stmt_ref(struct stmt *stmt);
void stmt_unref(struct stmt *stmt); /* NULL is fine */
static inline struct slice stmt_text(const struct stmt *s)
{
    return (struct slice){s->bytes, s->text_n};
}
static inline struct slice stmt_oids(const struct stmt *s)
{
    return (struct slice){s->bytes + s->text_n, s->oids_n};
}
/* A plan that a server keeps does not fit the tables any more: all servers get their statements anew. */
void stmt_table_replan(struct stmt_table *table);
/* Its name at servers: "_pgweir_<worker>_<id>". */
struct slice stmt_name(const struct stmt *stmt, char buf[STMT_NAME_MAX]);

/* ---- a client's names ---- */
struct stmt_names {
    struct stmt_name_entry *slots;
    uint32_t n, cap; /* cap: 0 or a power of two */
    uint64_t bytes;  /* of all, by stmt_names_cost() */
};
/* What a name of so many bytes costs the client that has it: its entry, and all of its statement. */
uint64_t stmt_names_cost(size_t name_n, size_t text_n, size_t oids_n, size_t env_n);
struct stmt *stmt_names_get(const struct stmt_names *names, struct slice name);
/* The next one; *at: 0 for the first. */
bool stmt_names_each(const struct stmt_names *names, uint32_t *at, struct slice *name);
/* A name whose statement is called this at servers, borrowed; SLICE_NONE: there is none. */
struct slice stmt_names_find(const struct stmt_names *names, struct slice at_servers);
/* Takes a reference of its own; replaces an earlier entry. */
void stmt_names_put(struct stmt_names *names, struct slice name, struct stmt *stmt);
void stmt_names_remove(struct stmt_names *names, struct slice name);
/* The client has been told what the rows of this name are. */
void stmt_names_tell(struct stmt_names *names, struct slice name, struct stmt_shape shape);
/* All zero: it has not been told, or there is no such name. */
struct stmt_shape stmt_names_told(const struct stmt_names *names, struct slice name);
void stmt_names_clear(struct stmt_names *names);

/* ---- what a server has ---- */
#define STMT_SERVER_BUCKETS 64
struct stmt_held;
struct stmt_set {
    struct stmt_held *buckets[STMT_SERVER_BUCKETS];
    struct list lru; /* most recently used first */
    uint32_t n;
    struct stmt *unnamed; /* in its unnamed slot, for sure; NULL: none, or not known */
    struct stmt_shape unnamed_shape;
    const atomic_uint_fast64_t *altered; /* changes of the tables that it stands for */
};
void stmt_set_init(struct stmt_set *set, const atomic_uint_fast64_t *altered);
bool stmt_set_has(struct stmt_set *set, const struct stmt *stmt); /* and marks it as used */
/* It has it, but from before the last stmt_table_replan(), or before the tables were altered. */
bool stmt_set_is_stale(struct stmt_set *set, const struct stmt *stmt);
void stmt_set_add(struct stmt_set *set, struct stmt *stmt);
/* Maybe: it gets it anew before it is used. */
void stmt_set_add_stale(struct stmt_set *set, struct stmt *stmt);
void stmt_set_doubt(struct stmt_set *set); /* the same of all that it has */
/* It has said what the rows are of the one that it has: just now, so it is not stale. */
void stmt_set_shape(struct stmt_set *set, const struct stmt *stmt, struct stmt_shape shape);
struct stmt_shape stmt_set_shape_of(struct stmt_set *set, const struct stmt *stmt);
void stmt_set_remove(struct stmt_set *set, const struct stmt *stmt);
struct stmt *stmt_set_oldest(const struct stmt_set *set);       /* borrowed; NULL: empty */
void stmt_set_unnamed(struct stmt_set *set, struct stmt *stmt); /* takes a reference of its own */
void stmt_set_clear(struct stmt_set *set);

#endif
