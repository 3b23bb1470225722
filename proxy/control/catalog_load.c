#include "proxy/control/catalog_load.h"

#include "base/check.h"
#include "proxy/pool/catalog_slot.h"
#include "router/freshness.h"

#include <stdio.h>
#include <stdlib.h>

/* The steps: BEGIN, the fingerprint, the queries, COMMIT. One snapshot for all, as far as PostgreSQL's own
 * deparsing allows: that one looks at the newest catalog, and what it may see too early has another
 * fingerprint the next time. */
enum { STEP_BEGIN, STEP_FINGERPRINT, STEP_QUERIES, STEP_COMMIT = STEP_QUERIES + CATALOG_Q_N };

static const char *sql_of(unsigned step)
{
    switch (step) {
    case STEP_BEGIN:
        return "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    case STEP_FINGERPRINT:
        return catalog_fingerprint_sql;
    case STEP_COMMIT:
        return "COMMIT";
    default:
        return catalog_rows_sql((enum catalog_query)(step - STEP_QUERIES));
    }
}

static void say(struct catalog_load *load, const char *text)
{
    pg_copy_error(text, load->error, sizeof load->error);
    if (!load->error[0])
        snprintf(load->error, sizeof load->error, "the connection was lost");
}

static bool ask(struct catalog_load *load)
{
    load->answered = false;
    if (PQsendQuery(load->conn, sql_of(load->step)) && PQsetSingleRowMode(load->conn))
        return true;
    say(load, PQerrorMessage(load->conn));
    return false;
}

bool catalog_load_begin(struct catalog_load *load, PGconn *conn, enum catalog_want want)
{
    *load = (struct catalog_load){.conn = conn,
                                  .want = want,
                                  .step = want == CATALOG_WANT_ALL ? STEP_BEGIN : STEP_FINGERPRINT};
    if (want == CATALOG_WANT_ALL)
        load->rows = catalog_rows_new(catalog_next_id());
    return ask(load);
}

void catalog_load_end(struct catalog_load *load)
{
    catalog_rows_free(load->rows);
    load->rows = NULL;
}

/* ---- rows ---- */

static struct slice field(const PGresult *result, unsigned i)
{
    const int column = (int)i;
    if (PQgetisnull(result, 0, column))
        return SLICE_NONE;
    return (struct slice){(const uint8_t *)PQgetvalue(result, 0, column),
                          (size_t)PQgetlength(result, 0, column)};
}

static bool take_fingerprint(struct catalog_load *load, const PGresult *result)
{
    if (PQnfields(result) != 3)
        return false;
    const struct slice in_recovery = field(result, 0), text = field(result, 1),
                       lsn = field(result, 2);
    if (!in_recovery.p || !text.p || text.n >= sizeof load->fingerprint)
        return false;
    if (lsn.p && !lsn_parse(lsn, &load->lsn))
        return false;
    load->in_recovery = slice_is(in_recovery, "t");
    memcpy(load->fingerprint, text.p, text.n);
    load->fingerprint[text.n] = '\0';
    return true;
}

static bool take_row(struct catalog_load *load, const PGresult *result)
{
    if (load->step == STEP_FINGERPRINT)
        return take_fingerprint(load, result);
    if (load->step < STEP_QUERIES || load->step >= STEP_COMMIT)
        return false;
    const enum catalog_query query = (enum catalog_query)(load->step - STEP_QUERIES);
    const unsigned n = catalog_rows_fields(query);
    struct slice fields[CATALOG_FIELDS_MAX];
    if (PQnfields(result) != (int)n)
        return false;
    for (unsigned i = 0; i < n; i++)
        fields[i] = field(result, i);
    if (catalog_rows_take(load->rows, query, fields))
        return true;
    say(load, catalog_rows_error(load->rows));
    return false;
}

static bool take_result(struct catalog_load *load, const PGresult *result)
{
    const ExecStatusType status = PQresultStatus(result); /* each version of libpq has more */
    bool ok = false;
    if (status == PGRES_SINGLE_TUPLE && PQntuples(result) == 1)
        ok = take_row(load, result);
    else if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
        ok = load->answered = true;
    else if (status == PGRES_FATAL_ERROR)
        say(load, PQresultErrorMessage(result));
    if (!ok && !load->error[0])
        say(load, "an answer that is none to what was asked");
    return ok;
}

/* Its answer has ended. */
static enum catalog_progress next_step(struct catalog_load *load)
{
    if (!load->answered || (load->step == STEP_FINGERPRINT && !load->fingerprint[0])) {
        say(load, "an answer that is none to what was asked");
        return CATALOG_FAILED;
    }
    const unsigned last = load->want == CATALOG_WANT_ALL ? STEP_COMMIT : STEP_FINGERPRINT;
    if (load->step == last)
        return CATALOG_DONE;
    load->step++;
    return ask(load) ? CATALOG_MORE : CATALOG_FAILED;
}

enum catalog_progress catalog_load_step(struct catalog_load *load)
{
    while (!PQisBusy(load->conn)) {
        PGresult *result = PQgetResult(load->conn);
        if (!result) {
            const enum catalog_progress progress = next_step(load);
            if (progress != CATALOG_MORE)
                return progress;
            continue;
        }
        const bool ok = take_result(load, result);
        PQclear(result);
        if (!ok)
            return CATALOG_FAILED;
    }
    return CATALOG_MORE;
}

/* ---- blocking ---- */

/* PQgetResult() waits for what PQisBusy() says is missing; with single rows that is never much. */
static enum catalog_progress wait_and_step(struct catalog_load *load)
{
    enum catalog_progress progress;
    while ((progress = catalog_load_step(load)) == CATALOG_MORE) {
        PGresult *result = PQgetResult(load->conn);
        if (!result)
            progress = next_step(load);
        else if (!take_result(load, result))
            progress = CATALOG_FAILED;
        PQclear(result);
        if (progress != CATALOG_MORE)
            break;
    }
    return progress;
}

static PGconn *connect_blocking(const char *dsn)
{
    static const char options[] = CATALOG_OPTIONS;
    const char *const keys[] = {"dbname", "application_name", "options", "connect_timeout", NULL};
    const char *const values[] = {dsn, CATALOG_APPLICATION, options, "10", NULL};
    PGconn *conn = PQconnectdbParams(keys, values, 1);
    CHECK(conn != NULL);
    return conn;
}

struct catalog *catalog_load_blocking(const char *dsn, char *error, size_t error_bytes)
{
    struct catalog *catalog = NULL;
    struct catalog_counts counts;
    struct catalog_load load = {.error = ""};
    PGconn *conn = connect_blocking(dsn);
    enum catalog_progress progress = CATALOG_FAILED;
    if (PQstatus(conn) != CONNECTION_OK)
        say(&load, PQerrorMessage(conn));
    else if (catalog_load_begin(&load, conn, CATALOG_WANT_ALL))
        progress = wait_and_step(&load);
    if (progress == CATALOG_DONE)
        do
            progress = catalog_rows_prove(load.rows, CATALOG_ROWS_MAX);
        while (progress == CATALOG_MORE);
    if (progress == CATALOG_DONE)
        catalog = catalog_rows_finish(load.rows, &counts);
    else if (!load.error[0])
        say(&load, catalog_rows_error(load.rows));
    snprintf(error, error_bytes, "%s", load.error);
    catalog_load_end(&load);
    PQfinish(conn);
    return catalog;
}
