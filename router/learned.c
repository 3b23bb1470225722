/* router/learned.c: a set of fingerprints with an end. */
#include "router/learned.h"

#include <stddef.h>

#define MIX UINT64_C(0x9E3779B97F4A7C15)

uint64_t learned_key(uint64_t fingerprint, const char *database)
{
    uint64_t h = fingerprint;
    for (const char *p = database; *p; p++)
        h = (h ^ (uint8_t)*p) * MIX;
    h ^= h >> 29;
    return h ? h : 1;
}

static size_t bucket_of(uint64_t key)
{
    return (key * MIX) >> 32 & (LEARNED_BUCKETS - 1);
}

/* A clock that a slow writer read earlier may be behind what is stored. */
static bool is_alive(uint64_t since_ms, uint64_t now_ms)
{
    return now_ms < since_ms || now_ms - since_ms < LEARNED_MS;
}

bool learned_has(const struct learned *l, uint64_t key, uint64_t now_ms)
{
    if (atomic_load_explicit(&l->any, memory_order_relaxed) == 0)
        return false;
    const struct learned_slot *bucket = l->slots[bucket_of(key)];
    for (size_t i = 0; i < LEARNED_WAYS; i++)
        if (atomic_load_explicit(&bucket[i].key, memory_order_relaxed) == key)
            return is_alive(atomic_load_explicit(&bucket[i].since_ms, memory_order_relaxed),
                            now_ms);
    return false;
}

/* The slot of this key, else a free one, else the oldest. */
static struct learned_slot *slot_for(struct learned_slot *bucket, uint64_t key)
{
    struct learned_slot *best = &bucket[0];
    uint64_t best_since = UINT64_MAX;
    for (size_t i = 0; i < LEARNED_WAYS; i++) {
        uint64_t has = atomic_load_explicit(&bucket[i].key, memory_order_relaxed);
        uint64_t since = has ? atomic_load_explicit(&bucket[i].since_ms, memory_order_relaxed) : 0;
        if (has == key)
            return &bucket[i];
        if (since < best_since) {
            best = &bucket[i];
            best_since = since;
        }
    }
    return best;
}

bool learned_put(struct learned *l, uint64_t key, uint64_t now_ms)
{
    struct learned_slot *slot = slot_for(l->slots[bucket_of(key)], key);
    bool known = learned_has(l, key, now_ms);
    atomic_store_explicit(&slot->since_ms, now_ms, memory_order_relaxed);
    uint64_t was = atomic_exchange_explicit(&slot->key, key, memory_order_relaxed);
    atomic_store_explicit(&l->any, 1, memory_order_relaxed);
    return was != key || !known;
}
