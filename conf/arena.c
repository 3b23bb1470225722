/* conf/arena.c: memory that is freed as one. */
#include "conf/arena.h"

#include "base/check.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 16 * 1024 };

struct block {
    struct block *next;
    size_t used, size;
    alignas(max_align_t) char bytes[];
};

struct arena {
    struct block *first;
};

void *conf_malloc(size_t n)
{
    void *p = malloc(n ? n : 1);
    if (!p) {
        fputs("pgweir: out of memory while reading the configuration\n", stderr);
        exit(71); /* EX_OSERR */
    }
    return p;
}

struct arena *arena_new(void)
{
    struct arena *a = conf_malloc(sizeof *a);
    a->first = NULL;
    return a;
}

void arena_free(struct arena *a)
{
    if (!a)
        return;
    for (struct block *b = a->first, *next; b; b = next) {
        next = b->next;
        explicit_bzero(b->bytes, b->size);
        free(b);
    }
    free(a);
}

static struct block *block_new(struct arena *a, size_t n)
{
    size_t size = n > BLOCK_BYTES ? n : BLOCK_BYTES;
    struct block *b = conf_malloc(sizeof *b + size);
    *b = (struct block){.next = a->first, .size = size};
    memset(b->bytes, 0, size);
    a->first = b;
    return b;
}

void *arena_alloc(struct arena *a, size_t n)
{
    CHECK(n < SIZE_MAX / 2);
    const size_t align = alignof(max_align_t);
    n = (n + align - 1) / align * align;
    struct block *b = a->first;
    if (!b || b->size - b->used < n)
        b = block_new(a, n);
    void *p = b->bytes + b->used;
    b->used += n;
    return p;
}

char *arena_text(struct arena *a, const char *p, size_t n)
{
    char *copy = arena_alloc(a, n + 1);
    if (n)
        memcpy(copy, p, n);
    return copy;
}

void *arena_grow(struct arena *a, void *list, size_t n, size_t *cap, size_t element_bytes)
{
    if (n < *cap)
        return list;
    CHECK(n == *cap);
    size_t more = n ? 2 * n : 8;
    void *grown = arena_alloc(a, more * element_bytes);
    if (n)
        memcpy(grown, list, n * element_bytes);
    *cap = more;
    return grown;
}
