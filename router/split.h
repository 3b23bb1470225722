/* router/split.h: cut text into statements at top-level semicolons, as psql does.
 *
 * Pure      no I/O, no allocation, no clock, no globals. Linear in the statement.
 * Top level no open parenthesis, and not inside the body of CREATE FUNCTION ... BEGIN ATOMIC ... END.
 * Errors    none: what does not scan as SQL belongs to the statement that it stands in. A quote or comment
 *           that does not end takes all that follows.
 * Source    the rules of PostgreSQL's psqlscan.l; backslash commands are not known.
 */
#ifndef ROUTER_SPLIT_H
#define ROUTER_SPLIT_H

#include "base/slice.h"

struct split {
    struct slice statement; /* without its semicolon and the white space around it */
    size_t used;            /* bytes of the text up to behind the semicolon */
    bool blank;             /* it holds nothing but comments */
};

/* The first statement of the text. False: its end is not there, and `last` does not say that no more
 * will come; or the text is empty (or white space). */
bool split_next(struct slice text, bool last, bool standard_conforming_strings, struct split *out);

#endif
