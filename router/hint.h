/* router/hint.h: what a comment before or behind a statement asks for.
 *
 *   hint = "/" "*" [ "pgweir:" ] item { "," item } "*" "/"
 *   item = "route=" ( "primary" | "replica" | "replica!" | "any" | "lsn:" token ) | "min_lsn=" token | "lsn:" token
 *
 * Pure      no I/O, no allocation, no clock, no globals. Linear in the text, no recursion. A text without a comment
 *           at its start or end costs a look at a few bytes.
 * Strict    exact words, each item once, blanks only around items; no nested comment. Any other comment (sqlcommenter,
 *           marginalia) says nothing. One that begins with "pgweir:" and is not understood is UNREADABLE: primary.
 * Where     before the first token, or behind the last one; not in between, in strings or in line comments. Other
 *           comments may stand beside it, but a line comment at the very end hides the hints behind the last token.
 * Owns      nothing: the token points into the text.
 */
#ifndef ROUTER_HINT_H
#define ROUTER_HINT_H

#include "base/slice.h"

#define HINT_BYTES_MAX 256 /* of a comment that can be a hint */

enum hint_route {
    HINT_NONE,
    HINT_PRIMARY,
    HINT_REPLICA,
    HINT_REPLICA_FORCED, /* replica!: also for calls that are not known to be harmless */
    HINT_ANY,
    HINT_UNREADABLE,
    HINT_ROUTE_N
};

struct hint {
    enum hint_route route;
    struct slice min_lsn; /* a token that floor_token_read() takes; no bytes: none */
};

void hint_read(struct slice sql, bool standard_conforming_strings, struct hint *out);

/* Of two statements of one segment: the primary if either asks for it, else what both ask for. */
enum hint_route hint_join(enum hint_route a, enum hint_route b);

#endif
