/* router/deallocate.h: which prepared statement a DEALLOCATE, EXECUTE or PREPARE is about.
 *
 * Pure      no I/O, no allocation, no clock, no globals. Linear in the text.
 * Promise   a text is DEALLOCATE_ONE or DEALLOCATE_ALL only if it is exactly that one statement, as PostgreSQL's
 *           grammar has it: DEALLOCATE [PREPARE] { name | ALL }.
 *           Of the others the beginning is read: EXECUTE name, PREPARE name.
 */
#ifndef ROUTER_DEALLOCATE_H
#define ROUTER_DEALLOCATE_H

#include "base/slice.h"

#define DEALLOCATE_NAME_MAX \
    63 /* PostgreSQL's NAMEDATALEN - 1: a longer one is cut there, and left to it here */

enum deallocate_kind { DEALLOCATE_OTHER, DEALLOCATE_ONE, DEALLOCATE_ALL };

struct deallocate {
    enum deallocate_kind kind;
    uint8_t name_n;
    uint8_t name[DEALLOCATE_NAME_MAX]; /* folded to lower case, quotes undone */
};

void deallocate_read(struct slice sql, bool standard_conforming_strings, struct deallocate *out);

enum named_kind { NAMED_OTHER, NAMED_EXECUTE, NAMED_PREPARE };

struct named {
    enum named_kind kind;
    uint8_t name_n;
    uint8_t name[DEALLOCATE_NAME_MAX]; /* as above */
    struct slice written;              /* the name in the text, with its quotes */
};

void named_read(struct slice sql, bool standard_conforming_strings, struct named *out);

#endif
