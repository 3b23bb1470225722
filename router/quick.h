/* router/quick.h: prove everyday SELECTs to be reads in a fraction of the time that body.c needs.
 *
 * Pure      private to router/.
 * Rule      it only ever says "a read" or "not mine", and a read only where the full path says the same, with
 *           the same flags and fingerprint. Whatever it has not heard of is not its own: comments, WITH, casts,
 *           FOR, quoted names that are not all lower case, and all that is no SELECT. tests/unit and the fuzzers
 *           hold each text against the full path.
 * Limits    texts of QUICK_TEXT_MAX bytes, QUICK_DEPTH_MAX open parentheses.
 */
#ifndef ROUTER_QUICK_H
#define ROUTER_QUICK_H

#include "router/classify.h"

#define QUICK_TEXT_MAX 1000
#define QUICK_DEPTH_MAX 30

/* sql holds no NUL byte. True: out is filled in. */
bool quick_read(struct slice sql, const struct sql_env *env, struct sql_facts *out);

#endif
