#include "proxy/pool/stmt.h"

#include "base/check.h"
#include "router/reader.h"

#include <stdlib.h>

#define TABLE_FIRST 64
#define NAMES_FIRST 8

struct stmt_name_entry {
    struct stmt *stmt; /* NULL: free */
    uint64_t hash;
    uint32_t name_n;
    char *name;
    struct stmt_shape told;
};

struct stmt_held {
    uint64_t generation; /* of its table, then */
    uint64_t altered;    /* ... and of its set's */
    struct stmt_held *next;
    struct list node;
    struct stmt *stmt;
    struct stmt_shape shape;
};

/* FNV-1a over 8 bytes at a time: only finds the bucket, bytes decide. */
static uint64_t hash_bytes(uint64_t h, struct slice s)
{
    size_t i = 0;
    for (; i + 8 <= s.n; i += 8) {
        uint64_t w;
        memcpy(&w, s.p + i, 8);
        h = (h ^ w) * 0x9E3779B97F4A7C15ULL;
        h ^= h >> 32;
    }
    for (; i < s.n; i++)
        h = (h ^ s.p[i]) * 0x100000001B3ULL;
    return h ^ h >> 29;
}

/* ---- statements ---- */

void stmt_table_init(struct stmt_table *table, uint32_t worker)
{
    *table = (struct stmt_table){.worker = worker, .bucket_n = TABLE_FIRST};
    table->buckets = calloc(TABLE_FIRST, sizeof *table->buckets);
    CHECK(table->buckets != NULL);
}

void stmt_table_free(struct stmt_table *table)
{
    CHECK(table->n == 0);
    free(table->buckets);
}

static void grow(struct stmt_table *t)
{
    uint32_t bucket_n = t->bucket_n * 2;
    struct stmt **buckets = calloc(bucket_n, sizeof *buckets);
    CHECK(buckets != NULL);
    for (uint32_t i = 0; i < t->bucket_n; i++)
        for (struct stmt *s = t->buckets[i], *next; s; s = next) {
            next = s->next;
            s->next = buckets[s->hash & (bucket_n - 1)];
            buckets[s->hash & (bucket_n - 1)] = s;
        }
    free(t->buckets);
    t->buckets = buckets;
    t->bucket_n = bucket_n;
}

static bool is_read_alike(const struct stmt *s, const struct sql_env *sql_env)
{
    return s->standard_strings == sql_env->standard_conforming_strings &&
           s->ascii_trail_bytes == sql_env->ascii_trail_bytes;
}

static bool is_same(const struct stmt *s, struct slice text, struct slice oids, struct slice env)
{
    return slice_equals(stmt_text(s), text) && slice_equals(stmt_oids(s), oids) &&
           slice_equals((struct slice){s->bytes + s->text_n + s->oids_n, s->env_n}, env);
}

static void copy_in(uint8_t *to, struct slice from)
{
    if (from.n)
        memcpy(to, from.p, from.n);
}

static uint64_t catalog_number(const struct sql_env *sql_env)
{
    return sql_env->catalog ? catalog_id(sql_env->catalog) : 0;
}

static void classify(struct stmt *s, const struct sql_env *sql_env)
{
    const struct sql_env own = {.standard_conforming_strings = s->standard_strings,
                                .ascii_trail_bytes = s->ascii_trail_bytes,
                                .catalog = sql_env->catalog};
    s->catalog = catalog_number(sql_env);
    sql_classify(stmt_text(s), &own, &s->facts);
    sql_facts_declare(&s->facts, stmt_oids(s), sql_env->catalog);
}

const struct sql_facts *stmt_facts(struct stmt *s, const struct sql_env *sql_env)
{
    if (s->catalog != catalog_number(sql_env))
        classify(s, sql_env);
    return &s->facts;
}

static bool is_query(struct slice text, bool standard_conforming_strings)
{
    static const char *const words[] = {"select", "insert", "update", "delete",
                                        "values", "table",  "with",   "merge"};
    struct reader r;
    reader_begin(&r, text, standard_conforming_strings);
    while (reader_is_mark(&r, '('))
        reader_next(&r);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (reader_is_word(&r, words[i]))
            return true;
    return false;
}

struct stmt *stmt_intern(struct stmt_table *table, struct slice text, struct slice oids,
                         struct slice env, const struct sql_env *sql_env)
{
    CHECK(text.n <= STMT_TEXT_MAX);
    uint64_t hash = hash_bytes(hash_bytes(hash_bytes(0xCBF29CE484222325ULL, text), oids), env);
    for (struct stmt *s = table->buckets[hash & (table->bucket_n - 1)]; s; s = s->next)
        if (s->hash == hash && is_same(s, text, oids, env) && is_read_alike(s, sql_env))
            return stmt_ref(s);
    if (table->n >= table->bucket_n)
        grow(table);
    struct stmt *s = malloc(sizeof *s + text.n + oids.n + env.n);
    CHECK(s != NULL);
    struct stmt **bucket = &table->buckets[hash & (table->bucket_n - 1)];
    *s = (struct stmt){.next = *bucket,
                       .table = table,
                       .hash = hash,
                       .id = table->next_id++,
                       .refs = 1,
                       .standard_strings = sql_env->standard_conforming_strings,
                       .ascii_trail_bytes = sql_env->ascii_trail_bytes,
                       .text_n = (uint32_t)text.n,
                       .oids_n = (uint32_t)oids.n,
                       .env_n = (uint32_t)env.n};
    copy_in(s->bytes, text);
    copy_in(s->bytes + text.n, oids);
    copy_in(s->bytes + text.n + oids.n, env);
    classify(s, sql_env);
    s->is_query = is_query(text, sql_env->standard_conforming_strings);
    hint_read(stmt_text(s), sql_env->standard_conforming_strings, &s->hint);
    *bucket = s;
    table->n++;
    return s;
}

struct stmt *stmt_ref(struct stmt *stmt)
{
    stmt->refs++;
    return stmt;
}

void stmt_unref(struct stmt *stmt)
{
    if (!stmt)
        return;
    CHECK(stmt->refs > 0);
    if (--stmt->refs > 0)
        return;
    struct stmt_table *t = stmt->table;
    struct stmt **at = &t->buckets[stmt->hash & (t->bucket_n - 1)];
    while (*at != stmt)
        at = &(*at)->next;
    *at = stmt->next;
    t->n--;
    free(stmt);
}

void stmt_table_replan(struct stmt_table *table)
{
    table->generation++;
}

static char *put_number(char *p, uint64_t number)
{
    char digits[20];
    unsigned n = 0;
    do
        digits[n++] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    while (n > 0)
        *p++ = digits[--n];
    return p;
}

/* "_pgweir_WORKER_ID". By hand: each Bind asks for it, and snprintf() costs ten times as much. */
struct slice stmt_name(const struct stmt *stmt, char buf[STMT_NAME_MAX])
{
    static const char prefix[] = "_pgweir_";
    _Static_assert(sizeof prefix + 10 + 1 + 20 <= STMT_NAME_MAX, "the longest name fits");
    char *p = (char *)memcpy(buf, prefix, sizeof prefix - 1) + sizeof prefix - 1;
    p = put_number(p, stmt->table->worker);
    *p++ = '_';
    p = put_number(p, stmt->id);
    return (struct slice){(const uint8_t *)buf, (size_t)(p - buf)};
}

/* ---- names: open addressing, linear ---- */

static uint64_t name_hash(struct slice name)
{
    return hash_bytes(0xCBF29CE484222325ULL, name);
}

uint64_t stmt_names_cost(size_t name_n, size_t text_n, size_t oids_n, size_t env_n)
{
    return sizeof(struct stmt_name_entry) + name_n + sizeof(struct stmt) + text_n + oids_n + env_n;
}

static uint64_t entry_cost(const struct stmt_name_entry *e)
{
    return stmt_names_cost(e->name_n, e->stmt->text_n, e->stmt->oids_n, e->stmt->env_n);
}

static struct stmt_name_entry *name_slot(const struct stmt_names *names, struct slice name,
                                         uint64_t hash)
{
    for (uint32_t i = (uint32_t)hash;; i++) {
        struct stmt_name_entry *e = &names->slots[i & (names->cap - 1)];
        if (!e->stmt || (e->hash == hash && e->name_n == name.n &&
                         (name.n == 0 || memcmp(e->name, name.p, name.n) == 0)))
            return e;
    }
}

struct stmt *stmt_names_get(const struct stmt_names *names, struct slice name)
{
    return names->n ? name_slot(names, name, name_hash(name))->stmt : NULL;
}

static void grow_names(struct stmt_names *names)
{
    struct stmt_names bigger = {
        .cap = names->cap ? names->cap * 2 : NAMES_FIRST, .n = names->n, .bytes = names->bytes};
    bigger.slots = calloc(bigger.cap, sizeof *bigger.slots);
    CHECK(bigger.slots != NULL);
    for (uint32_t i = 0; i < names->cap; i++) {
        struct stmt_name_entry *e = &names->slots[i];
        if (e->stmt)
            *name_slot(&bigger, (struct slice){(uint8_t *)e->name, e->name_n}, e->hash) = *e;
    }
    free(names->slots);
    *names = bigger;
}

bool stmt_names_each(const struct stmt_names *names, uint32_t *at, struct slice *name)
{
    while (*at < names->cap) {
        const struct stmt_name_entry *e = &names->slots[(*at)++];
        *name = (struct slice){(uint8_t *)e->name, e->name_n};
        if (e->stmt)
            return true;
    }
    return false;
}

struct slice stmt_names_find(const struct stmt_names *names, struct slice at_servers)
{
    char buf[STMT_NAME_MAX];
    for (uint32_t i = 0; i < names->cap; i++) {
        const struct stmt_name_entry *e = &names->slots[i];
        if (e->stmt && slice_equals(stmt_name(e->stmt, buf), at_servers))
            return (struct slice){(uint8_t *)e->name, e->name_n};
    }
    return SLICE_NONE;
}

void stmt_names_put(struct stmt_names *names, struct slice name, struct stmt *stmt)
{
    if (names->n * 2 >= names->cap)
        grow_names(names);
    uint64_t hash = name_hash(name);
    struct stmt_name_entry *e = name_slot(names, name, hash);
    stmt_ref(stmt);
    if (e->stmt) {
        names->bytes -= entry_cost(e);
        stmt_unref(e->stmt);
        e->stmt = stmt;
        e->told = (struct stmt_shape){0};
        names->bytes += entry_cost(e);
        return;
    }
    char *copy = malloc(name.n ? name.n : 1);
    CHECK(copy != NULL);
    copy_in((uint8_t *)copy, name);
    *e = (struct stmt_name_entry){
        .stmt = stmt, .hash = hash, .name_n = (uint32_t)name.n, .name = copy};
    names->bytes += entry_cost(e);
    names->n++;
}

void stmt_names_remove(struct stmt_names *names, struct slice name)
{
    if (!names->n)
        return;
    struct stmt_name_entry *e = name_slot(names, name, name_hash(name));
    if (!e->stmt)
        return;
    names->bytes -= entry_cost(e);
    stmt_unref(e->stmt);
    free(e->name);
    *e = (struct stmt_name_entry){0};
    names->n--;
    /* Entries behind the hole may have been pushed past it: put the run in again. */
    uint32_t i = (uint32_t)(e - names->slots);
    for (;;) {
        i = (i + 1) & (names->cap - 1);
        struct stmt_name_entry moved = names->slots[i];
        if (!moved.stmt)
            return;
        names->slots[i] = (struct stmt_name_entry){0};
        *name_slot(names, (struct slice){(uint8_t *)moved.name, moved.name_n}, moved.hash) = moved;
    }
}

void stmt_names_tell(struct stmt_names *names, struct slice name, struct stmt_shape shape)
{
    struct stmt_name_entry *e = names->n ? name_slot(names, name, name_hash(name)) : NULL;
    if (e && e->stmt)
        e->told = shape;
}

struct stmt_shape stmt_names_told(const struct stmt_names *names, struct slice name)
{
    const struct stmt_name_entry *e = names->n ? name_slot(names, name, name_hash(name)) : NULL;
    return e ? e->told : (struct stmt_shape){0}; /* a free slot is all zero */
}

void stmt_names_clear(struct stmt_names *names)
{
    for (uint32_t i = 0; i < names->cap; i++) {
        stmt_unref(names->slots[i].stmt);
        free(names->slots[i].name);
    }
    free(names->slots);
    *names = (struct stmt_names){0};
}

/* ---- a server's set ---- */

void stmt_set_init(struct stmt_set *set, const atomic_uint_fast64_t *altered)
{
    *set = (struct stmt_set){.altered = altered};
    list_init(&set->lru);
}

static struct stmt_held **held_at(struct stmt_set *set, const struct stmt *stmt)
{
    struct stmt_held **at = &set->buckets[stmt->id % STMT_SERVER_BUCKETS];
    while (*at && (*at)->stmt != stmt)
        at = &(*at)->next;
    return at;
}

bool stmt_set_has(struct stmt_set *set, const struct stmt *stmt)
{
    struct stmt_held *h = *held_at(set, stmt);
    if (h && set->lru.next != &h->node) {
        list_remove(&h->node);
        list_push_front(&set->lru, &h->node);
    }
    return h != NULL;
}

bool stmt_set_is_stale(struct stmt_set *set, const struct stmt *stmt)
{
    const struct stmt_held *h = *held_at(set, stmt);
    return h && (h->generation != stmt->table->generation || h->altered != *set->altered);
}

void stmt_set_add(struct stmt_set *set, struct stmt *stmt)
{
    if (stmt_set_has(set, stmt))
        return;
    struct stmt_held *h = malloc(sizeof *h),
                     **bucket = &set->buckets[stmt->id % STMT_SERVER_BUCKETS];
    CHECK(h != NULL);
    *h = (struct stmt_held){.next = *bucket,
                            .stmt = stmt_ref(stmt),
                            .generation = stmt->table->generation,
                            .altered = *set->altered};
    *bucket = h;
    list_push_front(&set->lru, &h->node);
    set->n++;
}

static void make_stale(struct stmt_held *h)
{
    h->generation = h->stmt->table->generation - 1;
}

void stmt_set_add_stale(struct stmt_set *set, struct stmt *stmt)
{
    bool had = stmt_set_has(set, stmt);
    stmt_set_add(set, stmt);
    struct stmt_held *h = *held_at(set, stmt);
    if (!had && h)
        make_stale(h);
}

void stmt_set_doubt(struct stmt_set *set)
{
    for (unsigned i = 0; i < STMT_SERVER_BUCKETS; i++)
        for (struct stmt_held *h = set->buckets[i]; h; h = h->next)
            make_stale(h);
}

void stmt_set_shape(struct stmt_set *set, const struct stmt *stmt, struct stmt_shape shape)
{
    struct stmt_held *h = *held_at(set, stmt);
    if (!h)
        return;
    h->shape = shape;
    h->generation = stmt->table->generation;
    h->altered = *set->altered;
}

struct stmt_shape stmt_set_shape_of(struct stmt_set *set, const struct stmt *stmt)
{
    const struct stmt_held *h = *held_at(set, stmt);
    return h ? h->shape : (struct stmt_shape){0};
}

void stmt_set_remove(struct stmt_set *set, const struct stmt *stmt)
{
    struct stmt_held **at = held_at(set, stmt), *h = *at;
    if (!h)
        return;
    *at = h->next;
    list_remove(&h->node);
    set->n--;
    stmt_unref(h->stmt);
    free(h);
}

struct stmt *stmt_set_oldest(const struct stmt_set *set)
{
    return list_empty(&set->lru) ? NULL : LIST_ENTRY(set->lru.prev, struct stmt_held, node)->stmt;
}

void stmt_set_unnamed(struct stmt_set *set, struct stmt *stmt)
{
    struct stmt *was = set->unnamed;
    set->unnamed = stmt ? stmt_ref(stmt) : NULL;
    set->unnamed_shape = (struct stmt_shape){0};
    stmt_unref(was);
}

void stmt_set_clear(struct stmt_set *set)
{
    stmt_set_unnamed(set, NULL);
    for (struct stmt *s; (s = stmt_set_oldest(set)) != NULL;)
        stmt_set_remove(set, s);
}
