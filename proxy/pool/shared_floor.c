#include "proxy/pool/shared_floor.h"

#include "base/check.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct shared_floor {
    struct shared_floor *next;
    const struct cluster *cluster; /* only compared: the sets that hold us hold it too */
    char *database;
    unsigned refs; /* under the lock */
    atomic_uint_fast64_t word;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct shared_floor *all;

static struct shared_floor *add(const struct cluster *cluster, const char *database)
{
    struct shared_floor *f = calloc(1, sizeof *f);
    CHECK(f != NULL);
    *f = (struct shared_floor){.next = all, .cluster = cluster, .database = strdup(database)};
    CHECK(f->database != NULL);
    all = f;
    return f;
}

struct shared_floor *shared_floor_find(const struct cluster *cluster, const char *database)
{
    pthread_mutex_lock(&lock);
    struct shared_floor *f = all;
    while (f && (f->cluster != cluster || strcmp(f->database, database) != 0))
        f = f->next;
    if (!f)
        f = add(cluster, database);
    f->refs++;
    pthread_mutex_unlock(&lock);
    return f;
}

void shared_floor_unref(struct shared_floor *f)
{
    pthread_mutex_lock(&lock);
    bool last = --f->refs == 0;
    for (struct shared_floor **at = &all; last && *at; at = &(*at)->next)
        if (*at == f) {
            *at = f->next;
            break;
        }
    pthread_mutex_unlock(&lock);
    if (!last)
        return;
    free(f->database);
    free(f);
}

/* Another primary's numbers are no lower or higher: the newest word counts, and whoever reads a word of
 * a node that is not the primary takes the primary's newest number instead. */
void shared_floor_used(struct shared_floor *f, uint8_t primary, uint64_t begun)
{
    uint64_t after = begun + 1, was = atomic_load(&f->word);
    CHECK(shared_floor_after(after) == after);
    uint64_t word = (uint64_t)primary << 56 | after;
    while (was == 0 || shared_floor_node(was) != primary || shared_floor_after(was) < after)
        if (atomic_compare_exchange_weak(&f->word, &was, word))
            return;
}

uint64_t shared_floor_now(const struct shared_floor *f)
{
    return atomic_load(&f->word);
}
