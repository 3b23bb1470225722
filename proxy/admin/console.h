/* proxy/admin/console.h: SHOW commands on the database `pgweir` (also `pgbouncer`), simple protocol.
 *
 * Threads a query arrives on its session's worker. What needs all workers is asked of each by mail and
 *         answered when the last one has written its part.
 * Owns    nothing of the session; a session that goes away before the answer is found missing by its pid.
 */
#ifndef ADMIN_CONSOLE_H
#define ADMIN_CONSOLE_H

#include "proxy/session/session.h"

struct control;

/* Before the workers start. */
void console_init(struct control *control);
void console_query(struct session *session, struct slice sql);

#endif
