#include "proxy/pool/budget.h"

#include "base/check.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct budget *all;

static struct budget *find(const struct cluster *cluster, uint32_t node, const char *database,
                           const char *user)
{
    for (struct budget *b = all; b; b = b->next)
        if (b->cluster_id == (uintptr_t)cluster && b->node == node &&
            strcmp(b->database, database) == 0 && strcmp(b->user, user) == 0)
            return b;
    return NULL;
}

struct budget *budget_find(const struct cluster *cluster, uint32_t node, const char *database,
                           const char *user)
{
    pthread_mutex_lock(&lock);
    struct budget *b = find(cluster, node, database, user);
    if (!b) {
        b = calloc(1, sizeof *b);
        CHECK(b != NULL);
        b->cluster_id = (uintptr_t)cluster;
        b->node = node;
        b->database = strdup(database);
        b->user = strdup(user);
        CHECK(b->database && b->user);
        b->next = all;
        all = b;
    }
    atomic_fetch_add(&b->refs, 1);
    pthread_mutex_unlock(&lock);
    return b;
}

void budget_unref(struct budget *budget)
{
    pthread_mutex_lock(&lock);
    if (atomic_fetch_sub(&budget->refs, 1) == 1) {
        struct budget **at = &all;
        while (*at != budget)
            at = &(*at)->next;
        *at = budget->next;
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
