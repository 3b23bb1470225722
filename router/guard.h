/* router/guard.h: what to do when a replica refuses a read of which nothing has been answered yet.
 *
 * Pure      no I/O, no allocation, no clock, no globals.
 * Promise   only what a primary, or another replica, may do better is run again; the client's own errors
 *           and its cancels (57014) pass.
 * How       by SQLSTATE. Where that alone says too little, by the source file that raised the error (field F,
 *           which lc_messages does not translate), or by words of its text.
 * Source    PostgreSQL 13 to 18; spec/routing.md part B, "Execution guard".
 */
#ifndef ROUTER_GUARD_H
#define ROUTER_GUARD_H

#include "base/slice.h"

enum guard_action {
    GUARD_PASS,      /* it is the client's */
    GUARD_LEARN,     /* no replica can run this: once on the primary, and from now on there */
    GUARD_PRIMARY,   /* something has not been replayed yet: once on the primary */
    GUARD_ELSEWHERE, /* this replica's own trouble: once on another replica, else on the primary */
    GUARD_ACTION_N
};

struct guard_error {
    struct slice sqlstate, message, detail, file; /* SLICE_NONE: the server did not say */
    bool read_only; /* the transaction is READ ONLY because the client said so */
};

enum guard_action guard_judge(const struct guard_error *error);

/* A primary said that it is read only, and nobody had asked for that: it may be none any more. */
bool guard_role_changed(const struct guard_error *error);

#endif
