/* router/mask.h: SQL text for people's eyes: no literals, no comments, white space as one blank.
 *
 * Pure      no I/O, no allocation, no clock, no globals.
 * Promise   nothing of a string, number or comment is in the result, and it is printable UTF-8 if the names in
 *           the text are; what does not scan ends it.
 */
#ifndef ROUTER_MASK_H
#define ROUTER_MASK_H

#include "base/slice.h"

/* At most cap bytes into out, without a NUL. The number written. */
size_t sql_mask(struct slice sql, bool standard_conforming_strings, char *out, size_t cap);

#endif
