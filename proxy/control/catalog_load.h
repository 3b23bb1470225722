/* proxy/control/catalog_load.h: one reading of a database's catalog, through libpq.
 *
 * What     a transaction that asks the fingerprint and then every query of catalog_sql.def, row by row;
 *          or the fingerprint alone. The caller owns the connection and waits; catalog_load_blocking()
 *          does all of it, for the command line.
 * Threads  one.
 */
#ifndef CONTROL_CATALOG_LOAD_H
#define CONTROL_CATALOG_LOAD_H

#include "proxy/control/catalog_rows.h"
#include "proxy/control/pg.h"

#define CATALOG_FINGERPRINT_BYTES 1024
#define CATALOG_ERROR_BYTES 256
/* What each session of ours is set to. A query that takes longer is given up. */
#define CATALOG_STATEMENT_MS 60000
#define CATALOG_OPTIONS                                                                           \
    "-c search_path=pg_catalog -c standard_conforming_strings=on -c lock_timeout=5000 -c jit=off" \
    " -c statement_timeout=60000 -c default_transaction_read_only=on -c quote_all_identifiers=off"
#define CATALOG_APPLICATION "pgweir catalog"

enum catalog_want { CATALOG_WANT_FINGERPRINT, CATALOG_WANT_ALL };

struct catalog_load {
    PGconn *conn; /* borrowed */
    enum catalog_want want;
    unsigned step;
    bool in_recovery; /* the node is no primary (any more) */
    bool answered;    /* the statement of this step */
    uint64_t lsn;     /* all that the snapshot shows has been flushed up to here */
    char fingerprint[CATALOG_FINGERPRINT_BYTES];
    char error[CATALOG_ERROR_BYTES];
    struct catalog_rows *rows; /* all of them, after CATALOG_DONE with CATALOG_WANT_ALL */
};

/* Sends the first statement. False: error. */
bool catalog_load_begin(struct catalog_load *load, PGconn *conn, enum catalog_want want);
/* Takes what libpq has read, until it would block (CATALOG_MORE). After a failure the connection is of
 * no more use. */
enum catalog_progress catalog_load_step(struct catalog_load *load);
void catalog_load_end(struct catalog_load *load); /* frees rows that were not taken */

/* The catalog of the database that dsn names (a libpq connection string). NULL: error says why. */
struct catalog *catalog_load_blocking(const char *dsn, char *error, size_t error_bytes);

#endif
