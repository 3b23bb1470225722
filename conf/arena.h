/* conf/arena.h: memory that is freed as one.
 *
 * Owns    every block it hands out, until arena_free(), which also wipes them: they hold passwords.
 * Errors  none: a failed allocation ends the process with a message.
 */
#ifndef CONF_ARENA_H
#define CONF_ARENA_H

#include <stddef.h>

struct arena;

struct arena *arena_new(void);
void arena_free(struct arena *a); /* NULL is fine */
/* Zeroed bytes, aligned for any type; n may be 0. */
void *arena_alloc(struct arena *a, size_t n);
/* A copy with a NUL behind it. */
char *arena_text(struct arena *a, const char *p, size_t n);
/* list if it has room for one more than n elements, else a bigger copy; updates *cap. */
void *arena_grow(struct arena *a, void *list, size_t n, size_t *cap, size_t element_bytes);

/* malloc() that never returns NULL, under the same rule; not owned by any arena. */
void *conf_malloc(size_t n);

#endif
