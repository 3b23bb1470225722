/* proxy/pool/entries.h: settings written one behind the other, "name\0value\0". Private to labels and what is told. */
#ifndef POOL_ENTRIES_H
#define POOL_ENTRIES_H

#include "base/slice.h"

struct entry {
    const char *name, *value; /* NULL: before the first */
};

/* To the next one. False: there is none. */
static inline bool entry_next(struct slice text, struct entry *e)
{
    const char *at = e->value ? e->value + strlen(e->value) + 1 : (const char *)text.p;
    if (text.n == 0 || at == (const char *)text.p + text.n)
        return false;
    const char *value = at + strlen(at) + 1;
    *e = (struct entry){at, value};
    return true;
}

/* NULL: there is none of that name. */
static inline const char *entry_value(struct slice text, const char *name)
{
    for (struct entry e = {0}; entry_next(text, &e);)
        if (strcmp(e.name, name) == 0)
            return e.value;
    return NULL;
}

#endif
