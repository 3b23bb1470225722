/* proxy/control/catalog_sql.c: what the primary is asked about the user's objects. PostgreSQL 13 and later,
 * under search_path = pg_catalog, so that every other name in a definition is written with its schema.
 * Objects of the user are those that initdb did not make: oid >= 16384. What pg_temp holds belongs to one
 * session, which stays on the primary: it is left out. */
#include "base/check.h"
#include "proxy/control/catalog_rows.h"

#define TEXT_OF(x) #x
#define NUMBER(x) TEXT_OF(x)
#define LIMIT " LIMIT " NUMBER(CATALOG_ROWS_MAX) " + 1"
#define TEXT(sql) "left(" sql ", " NUMBER(CATALOG_TEXT_MAX) " + 1)"
/* current_setting('app.tenant'::text, true), as PostgreSQL deparses it, without the cast: the classifier knows
 * a literal by its place. Policies of tenants are written like this. */
#define PLAIN(sql) \
    "regexp_replace(" sql ", '(current_setting\\(''[A-Za-z0-9_.]+'')::text', '\\1', 'g')"
#define LASTING(n) n ".nspname !~ '^pg_(temp|toast_temp)_'"
#define IS_ARRAY(t) "(" t ".typcategory = 'A' AND " t ".typelem <> 0)"
/* The type of an array's elements, or the type itself. */
#define ELEMENT(t) "CASE WHEN " IS_ARRAY(t) " THEN " t ".typelem ELSE " t ".oid END"

/* A function that a standby may not run, or not with the same result. For the user's own the rule is:
 * IMMUTABLE or PARALLEL SAFE is fine (spec/routing.md, F1). */
#define BAD(p)                                                                            \
    "(CASE WHEN " p ".oid >= 16384 THEN " p ".provolatile <> 'i' AND " p                  \
    ".proparallel <> 's' ELSE " p ".provolatile = 'v' OR (" p ".provolatile = 's' AND " p \
    ".proparallel <> 's') END)"

/* A call that leaves arguments out runs their default expressions, whatever the function is marked as. */
#define BAD_DEFAULT(p)                                                                    \
    "coalesce(" p ".proargdefaults::text ~ '\\{(?!(CONST|FUNCEXPR|RELABELTYPE|ARRAYEXPR|" \
    "ARRAY|SQLVALUEFUNCTION)\\M)' OR EXISTS (SELECT 1 FROM regexp_matches(" p             \
    ".proargdefaults::text, ':funcid ([0-9]+)', 'g') AS m JOIN pg_proc f"                 \
    " ON f.oid = m[1]::oid WHERE " BAD("f") "), false)"

/* Functions of extensions that read, reset or fill what belongs to their node, or run SQL text, although they are
 * marked PARALLEL SAFE or IMMUTABLE: pg_stat_statements_reset(), pg_prewarm() ... */
#define OF_NODE(p) "(" p ".proname ~ '^(pg_|pgrowlocks$|xpath_table$|isn_weak$)')"

/* Does the check of domain k call a function that is BAD? */
#define BAD_CHECK                                                                           \
    "EXISTS (SELECT 1 FROM regexp_matches(k.conbin::text, ':(?:opfuncid|funcid) ([0-9]+)'," \
    " 'g') AS m JOIN pg_proc f ON f.oid = m[1]::oid WHERE " BAD("f") ")"
/* Every type, and what it is made of. */
#define MADE_OF                                                                         \
    "SELECT oid AS type, typbasetype AS dep FROM pg_type UNION ALL SELECT oid, typelem" \
    " FROM pg_type WHERE typcategory = 'A' UNION ALL SELECT c.reltype, a.atttypid"      \
    " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"       \
    " WHERE c.reltype <> 0 UNION ALL SELECT rngtypid, rngsubtype FROM pg_range"         \
    " UNION ALL SELECT (to_jsonb(r) ->> 'rngmultitypid')::oid, r.rngtypid FROM pg_range r"
/* A type that runs a function that is BAD by itself. */
#define BAD_TYPE(t)                                                                              \
    "(NOT " t ".typisdefined OR CASE " t ".typtype WHEN 'r' THEN EXISTS (SELECT 1 FROM pg_range" \
    " r JOIN pg_proc f ON f.oid IN (r.rngcanonical::oid, r.rngsubdiff::oid)"                     \
    " WHERE r.rngtypid = " t ".oid AND " BAD(                                                    \
        "f") ")"                                                                                 \
             " WHEN 'b' THEN EXISTS (SELECT 1 FROM pg_proc f WHERE f.oid >= 16384 AND f.oid IN"  \
             " (" t ".typinput::oid, " t ".typoutput::oid, " t ".typreceive::oid, " t            \
             ".typsend::oid,"                                                                    \
             " " t ".typmodin::oid, " t                                                          \
             ".typmodout::oid) AND " BAD("f") ")"                                                \
                                              " ELSE " t                                         \
                                              ".typtype NOT IN ('e', 'c', 'd', 'm') END)"
/* Types that run a function that is BAD when a value becomes one of them, though no text names them: such types,
 * domains with such a check, and what is made of those. */
#define BAD_TYPES                                                                         \
    "ARRAY(WITH RECURSIVE bad(type) AS (SELECT k.contypid FROM pg_constraint k"           \
    " WHERE k.contypid >= 16384 AND k.contype = 'c' AND " BAD_CHECK                       \
    " UNION SELECT t.oid FROM pg_type t WHERE t.oid >= 16384 AND " BAD_TYPE(              \
        "t") " UNION SELECT d.type FROM bad JOIN (" MADE_OF ") AS d ON d.dep = bad.type)" \
             " SELECT type FROM bad)"
/* What goes in and what comes out: a literal, a column, a parameter, a result becomes one. */
#define BAD_ARGUMENT(p)                                                                       \
    "((" p ".proargtypes::oid[] || " p ".prorettype || coalesce(" p ".proallargtypes, '{}'))" \
    " && " BAD_TYPES ")"

/* What the grammar calls PostgreSQL's own types, where that is not their name. */
#define WORDS_OF_TYPES                                                                        \
    "(VALUES ('int2', 'smallint'), ('int4', 'int'), ('int4', 'integer'), ('int8', 'bigint')," \
    " ('bool', 'boolean'), ('float4', 'real'), ('float4', 'float'), ('float8', 'float'),"     \
    " ('float8', 'double'), ('numeric', 'dec'), ('numeric', 'decimal'), ('varbit', 'bit'),"   \
    " ('bpchar', 'char'), ('bpchar', 'character'), ('bpchar', 'nchar'),"                      \
    " ('bpchar', 'national'), ('varchar', 'char'), ('varchar', 'character'),"                 \
    " ('varchar', 'nchar'), ('varchar', 'national'), ('timetz', 'time'),"                     \
    " ('timestamptz', 'timestamp')) AS words(type, word)"

static const struct {
    unsigned fields;
    const char *sql;
} queries[] = {
#define QUERY(name, fields, sql) [CATALOG_Q_##name] = {fields, sql},
#include "proxy/control/catalog_sql.def"
#undef QUERY
};

/* xmin tells a changed row from an unchanged one. Sums need no order. Columns are looked at for composite
 * types alone: whatever else changes a column to another type changes the table's row too, as a rule. */
#define ROWS_OF(from)                                                              \
    "(SELECT count(*) || '/' || coalesce(sum(hashint8extended((c.oid::int8 << 32)" \
    " | c.xmin::text::int8, 0)), 0) FROM " from ")"
const char catalog_fingerprint_sql[] =
    "SELECT pg_is_in_recovery(), concat_ws(' ', " ROWS_OF(
        "pg_class c WHERE c.oid >= 16384 AND c.relpersistence <> 't'"
        " AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c')") ", " ROWS_OF("pg_proc c WHERE "
                                                                              "c.oid "
                                                                              ">= 16384") ","
                                                                                          " " ROWS_OF("pg_type c WHERE c.oid >= 16384 AND c.typrelid = 0 AND c.typcategory <> 'A'") ", " ROWS_OF("pg_operator c WHERE c.oid >= 16384") ", " ROWS_OF("pg_amop c WHERE c.oid >= 16384") ", " ROWS_OF("pg_amproc c WHERE c.oid >= 16384") ", " ROWS_OF("pg_cast c WHERE c.oid >= 16384") ", " ROWS_OF("pg_policy c") ", " ROWS_OF("pg_rewrite c WHERE c.oid >= 16384") ", " ROWS_OF("pg_constraint c WHERE c.oid >= 16384 AND c.contypid <> 0") ", " ROWS_OF(
                                                                                              "pg_"
                                                                                              "name"
                                                                                              "spac"
                                                                                              "e c "
                                                                                              "WHER"
                                                                                              "E "
                                                                                              "c."
                                                                                              "nspn"
                                                                                              "ame "
                                                                                              "!~ "
                                                                                              "'^"
                                                                                              "pg_"
                                                                                              "'") ", " ROWS_OF("(SELECT inhrelid AS oid, xmin FROM pg_inherits) c") ", " ROWS_OF("(SELECT a.attrelid AS oid, a.xmin FROM pg_attribute a JOIN pg_class r"
                                                                                                                                                                                  " ON r.oid = a.attrelid WHERE r.relkind = 'c' AND r.oid >= 16384) c") "),"
                                                                                                                                                                                                                                                        " CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn() END";

const char *catalog_rows_sql(enum catalog_query query)
{
    CHECK(query < CATALOG_Q_N);
    return queries[query].sql;
}

unsigned catalog_rows_fields(enum catalog_query query)
{
    CHECK(query < CATALOG_Q_N && queries[query].fields <= CATALOG_FIELDS_MAX);
    return queries[query].fields;
}
