/* router/wait_lsn.h: PostgreSQL 19's WAIT FOR LSN 'LSN' [WITH (...)], as the client's wish to see that much.
 *
 * Pure      no I/O, no allocation, no clock, no globals. Linear in the text.
 * Untested  against a server: PostgreSQL 19 is not out yet. Its grammar: postgresql.org/docs/19/sql-wait-for.html.
 */
#ifndef ROUTER_WAIT_LSN_H
#define ROUTER_WAIT_LSN_H

#include "base/slice.h"

/* The text is this one statement; its LSN. False leaves *lsn alone. */
bool wait_lsn_read(struct slice sql, uint64_t *lsn);

#endif
