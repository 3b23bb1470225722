/* router/quick.h: classify everyday statements in a fraction of the time that classify.c and body.c need.
 *
 * Pure      private to router/.
 * Rule      it says "a read", "a write" or "not mine", and never anything but what the full path says, with the
 *           same flags and fingerprint. Whatever it has not heard of is not its own: casts, FOR, WITH in a query, quoted
 *           names that are not all lower case, any other statement, several of them. Unit tests, the oracle and
 *           the fuzzer hold each of their texts against sql_classify_in_full().
 * Limits    texts of QUICK_TEXT_MAX bytes, QUICK_DEPTH_MAX open parentheses.
 */
#ifndef ROUTER_QUICK_H
#define ROUTER_QUICK_H

#include "router/classify.h"

#define QUICK_TEXT_MAX 4000
#define QUICK_DEPTH_MAX 30

/* True: out is filled in. A text with a NUL byte in it is not ours. */
bool quick_classify(struct slice sql, const struct sql_env *env, struct sql_facts *out);

#endif
