/* router/hitters.c: counting the frequent ones. */
#include "router/hitters.h"

#include <stddef.h>

#define MIX UINT64_C(0x9E3779B97F4A7C15)

static uint64_t key_of(uint64_t fingerprint, uint8_t reason)
{
    uint64_t key = (fingerprint ^ reason * MIX) * MIX;
    key ^= key >> 29;
    return key ? key : 1;
}

struct hitter *hitters_count(struct hitters *h, uint64_t fingerprint, uint8_t reason,
                             uint64_t now_ms)
{
    uint64_t key = key_of(fingerprint, reason);
    size_t bucket = key >> 32 & (HITTERS_BUCKETS - 1), rarest = 0;
    for (size_t i = 0; i < HITTERS_WAYS; i++) {
        struct hitter *e = &h->entries[bucket][i];
        if (h->keys[bucket][i] == key) {
            e->count++;
            e->last_ms = now_ms;
            return NULL;
        }
        if (e->count < h->entries[bucket][rarest].count)
            rarest = i;
    }
    struct hitter *e = &h->entries[bucket][rarest];
    h->keys[bucket][rarest] = key;
    *e = (struct hitter){.fingerprint = fingerprint,
                         .count = e->count + 1,
                         .error = e->count,
                         .last_ms = now_ms,
                         .reason = reason};
    return e;
}
