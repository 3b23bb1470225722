/* proxy/admin/route_cli.h: `pgweir route`: where statements would go, and why, without running them.
 *
 * Reads   SQL from the arguments, a file or standard input, statement by statement: a long input is never
 *         held as a whole.
 * Answers what the proxy would decide for each statement sent alone to a primary with a fresh replica.
 * Limits  ROUTE_STATEMENT_MAX bytes of one statement.
 */
#ifndef ADMIN_ROUTE_CLI_H
#define ADMIN_ROUTE_CLI_H

#define ROUTE_STATEMENT_MAX (1UL << 30) /* PostgreSQL takes no longer message */

/* argv[0] is "route". The process's exit code. */
int route_main(int argc, char **argv);

#endif
