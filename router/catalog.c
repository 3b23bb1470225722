/* router/catalog.c: two open-addressing tables over one store of names.
 *
 *   name   (kind, name): the worst of all schemas, which is what most statements ask for
 *   fact   (name, schema): what one schema says; the facts of a name are chained, newest first
 *
 * Schemas are names too, of a kind of their own, so that a fact holds a number and not a text. Most names that are
 * asked for are not there: of these the filter knows most. */
#include "router/catalog_inline.h"

#include "base/check.h"
#include "router/classify.h"
#include "router/names_inline.h"

#include <stdlib.h>

#define NONE UINT32_MAX
#define FIRST_N 64 /* a power of two */
#define KIND_SCHEMA CATALOG_KIND_N

struct name {
    uint32_t hash;
    uint32_t text;  /* where it begins in texts */
    uint32_t facts; /* the newest one, NONE: a schema, or nothing put yet */
    uint8_t n, kind;
    uint8_t class, reason; /* the worst of its facts */
    bool hides;
};

struct fact {
    uint32_t name, schema; /* places in names */
    uint32_t next;         /* the next fact of the same name */
    uint8_t class, reason;
};

struct catalog {
    uint64_t id;
    struct catalog_answer rules[CATALOG_RULE_N];
    uint8_t *texts;
    uint32_t text_bytes, text_cap;
    struct name *names;
    uint32_t name_n, name_cap;
    struct fact *facts;
    uint32_t fact_n, fact_cap;
    uint32_t *name_slots, *fact_slots; /* places, NONE: free; twice as many as places */
    struct catalog_filter filter;
    uint8_t *settings;
    uint32_t setting_bytes;
};

/* ---- a name, folded and hashed ---- */

struct key {
    struct slice text;
    uint32_t hash;
    uint8_t kind;
    bool folds; /* upper-case letters of the text count as lower-case ones */
};

/* ASCII A-Z to a-z in eight bytes; other bytes stay. */
static uint64_t fold(uint64_t w)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t low = w & ones * 0x7f;
    const uint64_t upper = (low + ones * (0x80 - 'A')) & ~(low + ones * (0x7f - 'Z')) & ~w;
    return w | (upper & ones * 0x80) >> 2;
}

/* Both halves of the product: names often differ in their last bytes alone, which a product's lower half
 * would lose. */
static uint64_t mix(uint64_t h, uint64_t w)
{
    const unsigned __int128 product = (unsigned __int128)(h ^ w) * UINT64_C(0x9E3779B97F4A7C15);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static bool can_be_stored(struct slice text)
{
    return text.n > 0 && text.n <= CATALOG_NAME_MAX;
}

static uint64_t hash_of(struct slice text)
{
    return name_key_of(text, text.p + text.n).hash;
}

/* hash: of the text. */
static struct key key_of(unsigned kind, struct slice text, bool folds, uint64_t hash)
{
    return (struct key){text, (uint32_t)mix(hash, kind), (uint8_t)kind, folds};
}

static uint32_t four(const uint8_t *p)
{
    uint32_t w;
    memcpy(&w, p, sizeof w);
    return w;
}

/* All of 1 to 8 bytes, in no order; some of them twice. */
static uint64_t up_to_eight(const uint8_t *p, size_t n)
{
    if (n >= 4)
        return (uint64_t)four(p) << 32 | four(p + n - 4);
    return (uint64_t)p[0] << 16 | (uint64_t)p[n / 2] << 8 | p[n - 1];
}

static bool is_text(const struct key *key, const uint8_t *stored)
{
    for (size_t at = 0; at < key->text.n; at += 8) {
        const size_t n = key->text.n - at < 8 ? key->text.n - at : 8;
        const uint64_t asked = up_to_eight(key->text.p + at, n);
        if ((key->folds ? fold(asked) : asked) != up_to_eight(stored + at, n))
            return false;
    }
    return true;
}

static uint32_t name_find(const struct catalog *c, const struct key *key)
{
    const uint32_t mask = c->name_cap * 2 - 1;
    for (uint32_t slot = key->hash;; slot++) {
        const uint32_t place = c->name_slots[slot & mask];
        if (place == NONE)
            return NONE;
        const struct name *name = &c->names[place];
        if (name->hash == key->hash && name->n == key->text.n && name->kind == key->kind &&
            is_text(key, c->texts + name->text))
            return place;
    }
}

static uint32_t fact_hash(uint32_t name, uint32_t schema)
{
    return (uint32_t)mix(0, (uint64_t)name << 32 | schema);
}

static uint32_t fact_find(const struct catalog *c, uint32_t name, uint32_t schema)
{
    const uint32_t mask = c->fact_cap * 2 - 1;
    for (uint32_t slot = fact_hash(name, schema);; slot++) {
        const uint32_t place = c->fact_slots[slot & mask];
        if (place == NONE || (c->facts[place].name == name && c->facts[place].schema == schema))
            return place;
    }
}

/* ---- growth ---- */

static void *grown(void *p, size_t bytes)
{
    void *bigger = realloc(p, bytes);
    CHECK(bigger != NULL);
    return bigger;
}

static void slot_take(uint32_t *slots, uint32_t cap, uint32_t hash, uint32_t place)
{
    uint32_t slot = hash;
    while (slots[slot & (cap * 2 - 1)] != NONE)
        slot++;
    slots[slot & (cap * 2 - 1)] = place;
}

static uint32_t *empty_slots(uint32_t *slots, uint32_t cap)
{
    const size_t bytes = sizeof *slots * cap * 2;
    slots = grown(slots, bytes);
    memset(slots, 0xff, bytes); /* NONE */
    return slots;
}

static void grow_names(struct catalog *c)
{
    c->name_cap *= 2;
    c->names = grown(c->names, sizeof *c->names * c->name_cap);
    c->name_slots = empty_slots(c->name_slots, c->name_cap);
    for (uint32_t i = 0; i < c->name_n; i++)
        slot_take(c->name_slots, c->name_cap, c->names[i].hash, i);
}

static void grow_facts(struct catalog *c)
{
    c->fact_cap *= 2;
    c->facts = grown(c->facts, sizeof *c->facts * c->fact_cap);
    c->fact_slots = empty_slots(c->fact_slots, c->fact_cap);
    for (uint32_t i = 0; i < c->fact_n; i++)
        slot_take(c->fact_slots, c->fact_cap, fact_hash(c->facts[i].name, c->facts[i].schema), i);
}

static uint32_t text_add(struct catalog *c, struct slice text)
{
    if (c->text_cap - c->text_bytes < text.n) {
        CHECK(c->text_cap <= UINT32_MAX / 2);
        c->text_cap *= 2;
        c->texts = grown(c->texts, c->text_cap);
    }
    memcpy(c->texts + c->text_bytes, text.p, text.n);
    c->text_bytes += (uint32_t)text.n;
    return c->text_bytes - (uint32_t)text.n;
}

/* ---- filling ---- */

struct catalog *catalog_new(uint64_t id)
{
    CHECK(id != 0);
    struct catalog *c = calloc(1, sizeof *c);
    CHECK(c != NULL);
    *c = (struct catalog){
        .id = id, .text_cap = FIRST_N * 16, .name_cap = FIRST_N, .fact_cap = FIRST_N};
    for (int i = 0; i < CATALOG_RULE_N; i++)
        c->rules[i] = (struct catalog_answer){true, SQL_READ, ROUTE_WHY_READ, false};
    c->texts = grown(NULL, c->text_cap);
    c->names = grown(NULL, sizeof *c->names * c->name_cap);
    c->facts = grown(NULL, sizeof *c->facts * c->fact_cap);
    c->name_slots = empty_slots(NULL, c->name_cap);
    c->fact_slots = empty_slots(NULL, c->fact_cap);
    return c;
}

void catalog_free(struct catalog *c)
{
    if (!c)
        return;
    free(c->texts);
    free(c->names);
    free(c->facts);
    free(c->name_slots);
    free(c->fact_slots);
    free(c->settings);
    free(c);
}

uint64_t catalog_id(const struct catalog *c)
{
    return c->id;
}

size_t catalog_bytes(const struct catalog *c)
{
    return sizeof *c + c->text_cap + c->name_cap * (sizeof *c->names + 2 * sizeof *c->name_slots) +
           c->fact_cap * (sizeof *c->facts + 2 * sizeof *c->fact_slots);
}

static uint32_t name_get(struct catalog *c, const struct key *key)
{
    const uint32_t found = name_find(c, key);
    if (found != NONE)
        return found;
    if (c->name_n == c->name_cap)
        grow_names(c);
    c->names[c->name_n] = (struct name){.hash = key->hash,
                                        .text = text_add(c, key->text),
                                        .facts = NONE,
                                        .n = (uint8_t)key->text.n,
                                        .kind = key->kind};
    slot_take(c->name_slots, c->name_cap, key->hash, c->name_n);
    return c->name_n++;
}

static uint32_t fact_add(struct catalog *c, uint32_t name, uint32_t schema)
{
    if (c->fact_n == c->fact_cap)
        grow_facts(c);
    c->facts[c->fact_n] =
        (struct fact){.name = name, .schema = schema, .next = c->names[name].facts};
    c->names[name].facts = c->fact_n;
    slot_take(c->fact_slots, c->fact_cap, fact_hash(name, schema), c->fact_n);
    return c->fact_n++;
}

/* The worst may have been the one that was replaced. What is as bad as before ends the search: a
 * thousand schemas with the same view are proven one after the other. */
static void worst_again(struct catalog *c, struct name *name)
{
    const uint8_t was = name->class;
    const struct fact *worst = &c->facts[name->facts];
    for (uint32_t i = worst->next; i != NONE && worst->class < was; i = c->facts[i].next)
        if (c->facts[i].class > worst->class)
            worst = &c->facts[i];
    name->class = worst->class;
    name->reason = worst->reason;
}

void catalog_put(struct catalog *c, enum catalog_kind kind, struct slice schema, struct slice text,
                 uint8_t class, uint8_t reason)
{
    CHECK(kind < CATALOG_KIND_N && class < SQL_CLASS_N && reason < ROUTE_WHY_N);
    if (!can_be_stored(text) || !can_be_stored(schema))
        return;
    const uint64_t hash = hash_of(text), bit = hash >> CATALOG_FILTER_SHIFT;
    c->filter.bits[kind][bit / 64] |= UINT64_C(1) << bit % 64;
    const struct key name_key = key_of(kind, text, false, hash);
    const struct key schema_key = key_of(KIND_SCHEMA, schema, false, hash_of(schema));
    const uint32_t in = name_get(c, &schema_key);
    const uint32_t of = name_get(c, &name_key);
    const bool first = c->names[of].facts == NONE;
    uint32_t at = fact_find(c, of, in);
    if (at == NONE)
        at = fact_add(c, of, in);
    struct fact *fact = &c->facts[at];
    struct name *name = &c->names[of];
    const bool was_worst = !first && fact->class == name->class;
    fact->class = class;
    fact->reason = reason;
    if (first || class > name->class) {
        name->class = class;
        name->reason = reason;
    } else if (was_worst) {
        worst_again(c, name);
    }
}

void catalog_put_rule(struct catalog *c, enum catalog_rule rule, uint8_t class, uint8_t reason)
{
    CHECK(rule < CATALOG_RULE_N && class < SQL_CLASS_N && reason < ROUTE_WHY_N);
    if (class > c->rules[rule].class)
        c->rules[rule] = (struct catalog_answer){true, class, reason, false};
}

void catalog_mark(struct catalog *c, enum catalog_kind kind, struct slice text)
{
    CHECK(kind < CATALOG_KIND_N);
    const struct key key = key_of(kind, text, false, hash_of(text));
    const uint32_t of = can_be_stored(text) ? name_find(c, &key) : NONE;
    if (of != NONE)
        c->names[of].hides = true;
}

void catalog_put_setting(struct catalog *c, struct slice name)
{
    c->settings = grown(c->settings, c->setting_bytes + name.n + 1);
    memcpy(c->settings + c->setting_bytes, name.p, name.n);
    c->setting_bytes += (uint32_t)name.n + 1;
    c->settings[c->setting_bytes - 1] = ' ';
}

struct slice catalog_settings(const struct catalog *c)
{
    return (struct slice){c->settings, c->setting_bytes};
}

/* ---- asking ---- */

static struct catalog_answer answer(uint8_t class, uint8_t reason, bool hides)
{
    return (struct catalog_answer){true, class, reason, hides};
}

/* A doubled quote stands for one, so the text is not the name: such names stay unknown. */
static bool can_be_asked(const struct catalog_name *name)
{
    return can_be_stored(name->text) &&
           (!name->quoted || memchr(name->text.p, '"', name->text.n) == NULL);
}

static uint32_t asked_find(const struct catalog *c, unsigned kind, const struct catalog_name *name,
                           uint64_t hash)
{
    const struct key key = key_of(kind, name->text, !name->quoted, hash);
    return name_find(c, &key);
}

static uint64_t asked_hash(const struct catalog_name *name)
{
    return name->hash != 0 ? name->hash : hash_of(name->text);
}

const struct catalog_filter *catalog_filter(const struct catalog *c)
{
    return &c->filter;
}

struct catalog_answer catalog_find(const struct catalog *c, enum catalog_kind kind,
                                   const struct catalog_name *schema,
                                   const struct catalog_name *text)
{
    const struct catalog_answer unknown = {false, SQL_UNKNOWN, ROUTE_WHY_UNKNOWN_NAME, false};
    CHECK(kind < CATALOG_KIND_N);
    if (!can_be_asked(text))
        return unknown;
    const uint64_t hash = asked_hash(text);
    if (!catalog_may_have(&c->filter, kind, hash))
        return unknown;
    const uint32_t name = asked_find(c, kind, text, hash);
    if (name == NONE)
        return unknown;
    if (!schema)
        return answer(c->names[name].class, c->names[name].reason, c->names[name].hides);
    if (!can_be_asked(schema))
        return unknown;
    const uint32_t in = asked_find(c, KIND_SCHEMA, schema, asked_hash(schema));
    const uint32_t fact = in == NONE ? NONE : fact_find(c, name, in);
    return fact == NONE ? unknown
                        : answer(c->facts[fact].class, c->facts[fact].reason, c->names[name].hides);
}

struct catalog_answer catalog_rule(const struct catalog *c, enum catalog_rule rule)
{
    CHECK(rule < CATALOG_RULE_N);
    return c->rules[rule];
}
