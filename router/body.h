/* router/body.h: prove that the words of one statement read only.
 *
 * Pure      private to router/. Tokens in, verdict out; memory is one struct, depth is bounded.
 * Rule      every name before "(" must be a known built-in function or a construct of the grammar,
 *           every type of a cast and every operator must be built in. The verdict only ever gets
 *           stricter. See README.md for the reasoning.
 */
#ifndef ROUTER_BODY_H
#define ROUTER_BODY_H

#include "router/classify.h"
#include "router/cursor.h"

#define BODY_DEPTH_MAX 63

struct body_verdict {
    enum sql_class class; /* SQL_READ, or what forbids it */
    enum route_reason reason;
    uint32_t flags;
    bool broken; /* a bad token, unbalanced or too deep: nothing after it was read */
    bool unread; /* the same, or a name by numbers (U&"..."): it may be that of any function */
};

/* What the caller knows about the statement whose words come. */
struct body_options {
    bool query;       /* INTO is SELECT INTO, DML words are hidden writes */
    bool routine;     /* CREATE: BEGIN ATOMIC ... END holds its own semicolons */
    bool stop_at_end; /* stop behind the ")" that closes the current "(": COPY (query) */
    const struct catalog *catalog; /* NULL: see struct sql_env */
    const struct catalog *calls;   /* not a query: what only calls are looked up in; or NULL */
};

/* From the cursor's token up to the end of the statement, or as stop_at_end says. */
void body_prove(struct cursor *c, const struct body_options *options, struct body_verdict *out);

#endif
