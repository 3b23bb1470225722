/* proxy/control/pg.h: libpq for this folder: how a connection to a node is begun, and its error texts.
 *
 * Module   the only one that includes libpq; who needs it includes this header.
 * Blocks   libpq reads the certificate files of server_tls_* at each connect; nothing else.
 */
#ifndef CONTROL_PG_H
#define CONTROL_PG_H

#include "proxy/control/login.h"
#include "proxy/pool/cluster.h"

#include <libpq-fe.h>

/* The beginning of a login, with verbose errors and without notices. options: as in PGOPTIONS. Look at
 * PQstatus(): it may have failed at once. */
PGconn *pg_connect_start(const struct node *node, const struct node_address *address,
                         const struct login *login, const char *application, const char *options);
/* libpq's text in one line, blanks joined. Where it says LOCATION (verbose, for the SQLSTATE's sake), it
 * ends. */
void pg_copy_error(const char *text, char *to, size_t to_bytes);
/* "FATAL: 57P01: ...": the server goes away, or is not up yet. */
bool pg_says_not_now(const char *error);
/* "FATAL: 28P01: ...": the server answered the login, and said no, not merely "not now". */
bool pg_login_refused(const PGconn *conn, const char *error);

/* Take libpq's own variables out of the environment: an operator's PGHOST or PGOPTIONS is not meant for
 * what we connect to by ourselves. While there is one thread. */
void pg_clean_environment(void);

#endif
