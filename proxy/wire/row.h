/* proxy/wire/row.h: a DataRow of text values.
 *
 * Source  PostgreSQL documentation, "Message Formats".
 * Pure    no I/O, no allocation, no clock, no globals.
 */
#ifndef WIRE_ROW_H
#define WIRE_ROW_H

#include "base/slice.h"

/* Its n values; p of one that is NULL is NULL. False: it is cut, it has more or fewer, or a value has a NUL byte, as
 * no text of PostgreSQL's does. */
bool row_read(struct slice body, struct slice *values, unsigned n);

#endif
