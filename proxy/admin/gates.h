/* proxy/admin/gates.h: PAUSE, RESUME, KILL, DISABLE, ENABLE, RECONNECT, WAIT_CLOSE, for one database or all.
 *
 * What    as PgBouncer's. The gates of the databases are set (pool/gate.h), every worker is visited and acts on it,
 *         and what has to come true then is looked at until it has: PAUSE and KILL are answered when no server is left,
 *         WAIT_CLOSE when none is that was open before the last RECONNECT.
 */
#ifndef ADMIN_GATES_H
#define ADMIN_GATES_H

#include "proxy/session/session.h"

/* `word` (lower case) is one of them: it is answered, now or later. arg: the name of a database; empty: all. */
bool gates_command(struct session *s, const char *word, struct slice arg);
/* Their names, for SHOW HELP. NULL behind the last. */
const char *gates_help(size_t index);
/* A command of this session is not over: look again. */
void gates_look(struct session *s);

#endif
