/* conf/message.h: where something was written, what is wrong with it, and what may have been meant.
 */
#ifndef CONF_MESSAGE_H
#define CONF_MESSAGE_H

#include "conf/conf.h"

/* A place in a source. Strings are borrowed from the load's arena or constant. */
struct origin {
    const char *file;  /* NULL: nobody set it */
    unsigned line;     /* 0: none, as for a variable */
    const char *label; /* the variable's name, shown instead of the key; NULL in a file */
};

/* Add one message; key may be "". Bytes that would disturb a terminal become '?'. */
__attribute__((format(printf, 5, 6))) void conf_say(struct conf_errors *errs,
                                                    enum conf_severity severity,
                                                    const struct origin *at, const char *key,
                                                    const char *fmt, ...);

/* Why a value was refused. */
struct why {
    char text[400];
};
/* Fill it; always returns false, for `return why_not(...)`. */
__attribute__((format(printf, 2, 3))) bool why_not(struct why *why, const char *fmt, ...);

/* The word most like a misspelt one. Zero all but word, offer candidates, then read best. */
struct nearest {
    const char *word;
    const char *best; /* NULL: nothing is near */
    size_t distance;
};
void nearest_offer(struct nearest *n, const char *candidate);
/* " (did you mean X?)", or "". */
const char *nearest_hint(const struct nearest *n, struct why *buf);

#endif
