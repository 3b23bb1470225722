#include "proxy/pool/budget.h"

#include "base/check.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 256

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct budget *buckets[BUCKETS];

#define BUDGET_OPTION(name, option) [name] = option,
static const char *const options[] = {BUDGETS(BUDGET_OPTION)};
#undef BUDGET_OPTION

const char *budget_option(enum budget_kind kind)
{
    CHECK(kind < BUDGET_KIND_N);
    return options[kind];
}

struct greeting {
    struct greeting *next;
    uint32_t settings_n, n;
    uint8_t bytes[]; /* settings, greeting */
};

static uint32_t hash_text(uint32_t h, const char *text)
{
    for (; *text; text++)
        h = (h ^ (uint8_t)*text) * 16777619U;
    return (h ^ 0xffU) * 16777619U;
}

static struct budget **bucket_of(const struct budget_key *key)
{
    uint32_t h = 2166136261U ^ (uint32_t)key->kind ^ key->node << 4;
    h = hash_text(hash_text(hash_text(h, key->entry), key->database), key->user);
    return &buckets[h % BUCKETS];
}

static bool has_key(const struct budget *b, const struct budget_key *key)
{
    return b->kind == key->kind && b->cluster_id == (uintptr_t)key->cluster &&
           b->node == key->node && strcmp(b->entry, key->entry) == 0 &&
           strcmp(b->database, key->database) == 0 && strcmp(b->user, key->user) == 0;
}

static struct budget *budget_new(const struct budget_key *key)
{
    struct budget *b = calloc(1, sizeof *b);
    CHECK(b != NULL);
    b->kind = key->kind;
    b->cluster_id = (uintptr_t)key->cluster;
    b->node = key->node;
    b->entry = strdup(key->entry);
    b->database = strdup(key->database);
    b->user = strdup(key->user);
    CHECK(b->entry && b->database && b->user);
    return b;
}

struct budget *budget_find(const struct budget_key *asked)
{
    struct budget_key key = *asked;
    key.entry = key.entry ? key.entry : "";
    key.database = key.database ? key.database : "";
    key.user = key.user ? key.user : "";
    pthread_mutex_lock(&lock);
    struct budget **bucket = bucket_of(&key), *b = *bucket;
    while (b && !has_key(b, &key))
        b = b->next;
    if (!b) {
        b = budget_new(&key);
        b->next = *bucket;
        *bucket = b;
    }
    atomic_fetch_add(&b->refs, 1);
    pthread_mutex_unlock(&lock);
    return b;
}

static void free_greetings(struct budget *b)
{
    for (struct greeting *g = b->greetings, *next; g; g = next) {
        next = g->next;
        free(g);
    }
    b->greetings = NULL;
    b->greeting_n = 0;
}

static struct greeting *find_greeting(const struct budget *b, struct slice settings)
{
    struct greeting *g = b->greetings;
    while (g && !slice_equals(settings, (struct slice){g->bytes, g->settings_n}))
        g = g->next;
    return g;
}

uint8_t *budget_greeting(struct budget *budget, struct slice settings, uint32_t *bytes)
{
    uint8_t *copy = NULL;
    pthread_mutex_lock(&lock);
    const struct greeting *g = find_greeting(budget, settings);
    if (g && (copy = malloc(g->n ? g->n : 1)) != NULL) {
        memcpy(copy, g->bytes + g->settings_n, g->n);
        *bytes = g->n;
    }
    pthread_mutex_unlock(&lock);
    return copy;
}

void budget_set_greeting(struct budget *budget, struct slice settings, struct slice greeting)
{
    struct greeting *g = malloc(sizeof *g + settings.n + greeting.n);
    CHECK(g != NULL);
    *g = (struct greeting){.settings_n = (uint32_t)settings.n, .n = (uint32_t)greeting.n};
    if (settings.n)
        memcpy(g->bytes, settings.p, settings.n);
    memcpy(g->bytes + settings.n, greeting.p, greeting.n);
    pthread_mutex_lock(&lock);
    if (find_greeting(budget, settings) || budget->greeting_n == BUDGET_GREETINGS_MAX) {
        free(g);
    } else {
        g->next = budget->greetings;
        budget->greetings = g;
        budget->greeting_n++;
    }
    pthread_mutex_unlock(&lock);
}

void budget_unref(struct budget *budget)
{
    pthread_mutex_lock(&lock);
    if (atomic_fetch_sub(&budget->refs, 1) == 1) {
        struct budget_key key = {.kind = budget->kind,
                                 .node = budget->node,
                                 .entry = budget->entry,
                                 .database = budget->database,
                                 .user = budget->user};
        struct budget **at = bucket_of(&key);
        while (*at != budget)
            at = &(*at)->next;
        *at = budget->next;
        free_greetings(budget);
        free(budget->entry);
        free(budget->database);
        free(budget->user);
        free(budget);
    }
    pthread_mutex_unlock(&lock);
}

bool budget_take(struct budget *budget, uint32_t limit)
{
    unsigned used = atomic_load(&budget->used);
    do {
        if (limit && used >= limit)
            return false;
    } while (!atomic_compare_exchange_weak(&budget->used, &used, used + 1));
    return true;
}

void budget_give(struct budget *budget)
{
    unsigned was = atomic_fetch_sub(&budget->used, 1);
    CHECK(was > 0);
}

bool budget_is_full(const struct budget *budget)
{
    uint32_t limit = atomic_load(&budget->limit);
    return limit && atomic_load(&budget->used) >= limit;
}

void waits_set(struct waits *waits, uint32_t worker, uint64_t since_ms)
{
    CHECK(worker < WORKERS_MAX);
    uint64_t was = atomic_exchange(&waits->since_ms[worker], since_ms);
    if (!was && since_ms)
        atomic_fetch_add(&waits->n, 1);
    if (was && !since_ms)
        atomic_fetch_sub(&waits->n, 1);
}

int waits_longest(const struct waits *waits, uint32_t self, uint64_t *since_ms)
{
    int longest = -1;
    CHECK(self <= WORKERS_MAX);
    unsigned ours = self < WORKERS_MAX &&
                    atomic_load_explicit(&waits->since_ms[self], memory_order_relaxed) != 0;
    if (atomic_load(&waits->n) <= ours) /* nobody else: no need to look at each */
        return -1;
    for (uint32_t w = 0; w < WORKERS_MAX; w++) {
        uint64_t since = atomic_load_explicit(&waits->since_ms[w], memory_order_relaxed);
        if (since == 0 || w == self || (longest >= 0 && since >= *since_ms))
            continue;
        longest = (int)w;
        *since_ms = since;
    }
    return longest;
}

void budget_each(void (*fn)(const struct budget *budget, void *context), void *context)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < BUCKETS; i++)
        for (const struct budget *b = buckets[i]; b; b = b->next)
            fn(b, context);
    pthread_mutex_unlock(&lock);
}

struct sum {
    int kind; /* -1: all */
    unsigned used;
};

static void add_used(const struct budget *budget, void *context)
{
    struct sum *sum = context;
    if (sum->kind < 0 || (enum budget_kind)sum->kind == budget->kind)
        sum->used += atomic_load(&budget->used);
}

unsigned budget_total_used(void)
{
    struct sum sum = {.kind = -1};
    budget_each(add_used, &sum);
    return sum.used;
}

unsigned budget_kind_used(enum budget_kind kind)
{
    struct sum sum = {.kind = (int)kind};
    budget_each(add_used, &sum);
    return sum.used;
}
