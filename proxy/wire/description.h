/* proxy/wire/description.h: what a server says of a statement's parameters and rows, as numbers to compare.
 *
 * Source  PostgreSQL documentation, "Message Formats"; equalTupleDescs(): names, types and their modifiers count.
 *         What a portal adds (formats), and where a column comes from (table, number), does not.
 * Pure    no I/O, no allocation, no clock, no globals.
 */
#ifndef WIRE_DESCRIPTION_H
#define WIRE_DESCRIPTION_H

#include "base/slice.h"

#define DESCRIPTION_UNREAD \
    2 /* of a body that is cut, or that nobody has read: equal to none that was */

/* RowDescription ('T') or NoData ('n'): never 0. */
uint64_t description_rows(uint8_t type, struct slice body);
/* ParameterDescription: never 0. */
uint64_t description_types(struct slice body);

#endif
