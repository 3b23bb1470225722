#include "proxy/pool/budget.h"

#include "base/check.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct budget *all;

struct greeting {
    struct greeting *next;
    uint32_t settings_n, n;
    uint8_t bytes[]; /* settings, greeting */
};

static struct budget *find(const struct budget_key *key)
{
    for (struct budget *b = all; b; b = b->next)
        if (b->cluster_id == (uintptr_t)key->cluster && b->node == key->node &&
            strcmp(b->entry, key->entry) == 0 && strcmp(b->database, key->database) == 0 &&
            strcmp(b->user, key->user) == 0)
            return b;
    return NULL;
}

struct budget *budget_find(const struct budget_key *key)
{
    pthread_mutex_lock(&lock);
    struct budget *b = find(key);
    if (!b) {
        b = calloc(1, sizeof *b);
        CHECK(b != NULL);
        b->cluster_id = (uintptr_t)key->cluster;
        b->node = key->node;
        b->entry = strdup(key->entry);
        b->database = strdup(key->database);
        b->user = strdup(key->user);
        CHECK(b->entry && b->database && b->user);
        b->next = all;
        all = b;
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
        struct budget **at = &all;
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

void budget_wait(struct budget *budget, uint32_t worker, uint64_t since_ms)
{
    CHECK(worker < WORKERS_MAX);
    uint64_t was = atomic_exchange(&budget->since_ms[worker], since_ms);
    if (!was && since_ms)
        atomic_fetch_add(&budget->waiting_n, 1);
    if (was && !since_ms)
        atomic_fetch_sub(&budget->waiting_n, 1);
}

int budget_longest_waiting(const struct budget *budget, uint32_t self, uint64_t *since_ms)
{
    int longest = -1;
    CHECK(self < WORKERS_MAX);
    unsigned ours = atomic_load_explicit(&budget->since_ms[self], memory_order_relaxed) != 0;
    if (atomic_load(&budget->waiting_n) <= ours) /* nobody else: no need to look at each */
        return -1;
    for (uint32_t w = 0; w < WORKERS_MAX; w++) {
        uint64_t since = atomic_load_explicit(&budget->since_ms[w], memory_order_relaxed);
        if (since == 0 || w == self || (longest >= 0 && since >= *since_ms))
            continue;
        longest = (int)w;
        *since_ms = since;
    }
    return longest;
}

unsigned budget_total_used(void)
{
    unsigned total = 0;
    pthread_mutex_lock(&lock);
    for (const struct budget *b = all; b; b = b->next)
        total += atomic_load(&b->used);
    pthread_mutex_unlock(&lock);
    return total;
}
