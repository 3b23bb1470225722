/* proxy/control/catalog_rows.h: rows of PostgreSQL's catalogs to a struct catalog.
 *
 * What     catalog_rows_sql() says what to ask, catalog_rows_take() takes each row of the answers in
 *          the order of enum catalog_query, catalog_rows_prove() then proves views, policies and the
 *          CHECKs of domains by their text, in steps.
 * Pure     no I/O, no clock. Rows are untrusted: what does not fit ends the work with an error text.
 * Rule     nothing is READ that was not proven. What depends on something that no row described is not
 *          READ either.
 * Limits   CATALOG_ROWS_MAX rows of a query, CATALOG_TEXT_MAX bytes of an expression (a longer one
 *          stays unproven), CATALOG_PASSES_MAX rounds of proofs.
 */
#ifndef CONTROL_CATALOG_ROWS_H
#define CONTROL_CATALOG_ROWS_H

#include "base/slice.h"
#include "router/catalog.h"

#define CATALOG_ROWS_MAX 1000000
#define CATALOG_TEXT_MAX 65536
#define CATALOG_TEXTS_MAX (256U << 20) /* names and expressions together */
#define CATALOG_PASSES_MAX 64          /* a view over a view over a view ... */
#define CATALOG_FIELDS_MAX 5

enum catalog_query {
#define QUERY(name, fields, sql) CATALOG_Q_##name,
#include "proxy/control/catalog_sql.def"
#undef QUERY
    CATALOG_Q_N
};

const char *catalog_rows_sql(enum catalog_query query);
unsigned catalog_rows_fields(enum catalog_query query);
/* One row: is the node in recovery; a text that changes with what the queries above would say; the primary's flush LSN,
 * taken after the snapshot. */
extern const char catalog_fingerprint_sql[];

struct catalog_rows;
struct catalog_counts {
    uint32_t relations, functions, types, views, views_read;
    uint32_t hiding; /* functions that may leave state in a session */
};

struct catalog_rows *catalog_rows_new(uint64_t id);
void catalog_rows_free(struct catalog_rows *rows); /* NULL is fine */
/* fields: catalog_rows_fields() of them, p NULL for a null. False: catalog_rows_error(). */
bool catalog_rows_take(struct catalog_rows *rows, enum catalog_query query,
                       const struct slice *fields);
const char *catalog_rows_error(const struct catalog_rows *rows);
/* After the last row: prove on, looking at `steps` texts at most. */
enum catalog_progress { CATALOG_MORE, CATALOG_DONE, CATALOG_FAILED };
enum catalog_progress catalog_rows_prove(struct catalog_rows *rows, unsigned steps);
/* Once, after CATALOG_DONE: the catalog is the caller's. */
struct catalog *catalog_rows_finish(struct catalog_rows *rows, struct catalog_counts *counts);

#endif
