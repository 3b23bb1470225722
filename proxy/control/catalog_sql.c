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

/* ---- what may leave state in a session ---- */

#define IS_PROC " = 'pg_proc'::regclass"
#define IS_CLASS " = 'pg_class'::regclass"
#define IS_REWRITE " = 'pg_rewrite'::regclass"
/* For a function in SQL or PL/pgSQL: what sets for longer than a transaction, takes or makes something that stays, or
 * runs text that is no plain write. Comments and literals count as code: that errs to the safe side. */
#define HIDES_PLAIN                                                                                \
    "'\\m(setseed|(un)?listen|prepare|deallocate|discard|load|pg_temp)\\M|advisory_(un)?lock"      \
    "|\\m(create|replace|into|global|local)\\s+temp(orary)?\\M"                                    \
    "|\\mset_config\\M(?!\\s*\\([^()]*(\\([^()]*\\)[^()]*)*,\\s*(is_local\\s*[:=]=?>?\\s*)?"       \
    "true\\s*\\))"                                                                                 \
    "|\\mexecute\\M(?!\\s+(on|function|procedure)\\M|\\s+(format\\s*\\(\\s*)?''\\s*"               \
    "(insert|update|delete|merge|truncate|alter|drop|create|grant|revoke|analyze|refresh|comment|" \
    "lock|notify)\\M)"                                                                             \
    "|(^|;|\\m(begin|then|else|loop|atomic)\\M)(\\s|--[^\\n]*\\n|/\\*([^*]|\\*[^/])*\\*/)*"        \
    "(set|reset)\\s+(?!local\\M|constraints\\M|transaction\\M)'"
/* For one in any other language: the words. */
#define HIDES_BY_WORD                                                                            \
    "'\\m(set_config|setseed|(un)?listen|prepare|deallocate|discard|load|pg_temp|temp|temporary" \
    "|execute|set|reset)\\M|advisory_(un)?lock'"
#define HIDING_SETTING \
    "'(?:\\mset_config\\s*\\(\\s*''|\\m(?:set|reset)\\s+(?:session\\s+)?)(\\w+(?:\\.\\w+)+)'"
#define HIDING_OWN                                                                                 \
    "own(oid, name, body, hides, writes) AS MATERIALIZED (SELECT b.oid, lower(b.proname), b.body," \
    " CASE WHEN b.lanname IN ('sql', 'plpgsql') THEN b.body ~* " HIDES_PLAIN                       \
    " ELSE b.body ~* " HIDES_BY_WORD                                                               \
    " END, b.body ~* '\\m(insert|update|delete|merge|truncate|copy)\\M'"                           \
    " FROM (SELECT p.oid, p.proname, l.lanname, CASE WHEN l.lanname = 'sql' AND p.prosrc = ''"     \
    " THEN pg_get_functiondef(p.oid) ELSE p.prosrc END AS body FROM pg_proc p"                     \
    " JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang"       \
    " WHERE p.oid >= 16384 AND p.prokind <> 'a' AND l.lanname NOT IN ('internal', 'c') "           \
    "AND " LASTING("n") ") AS b)"
/* A text calls whatever it names; and what those hide that it calls, it hides too. */
#define HIDING_CALLS                                                                            \
    "calls(callee, caller) AS MATERIALIZED (SELECT f.oid, c.oid FROM own c CROSS JOIN LATERAL"  \
    " regexp_split_to_table(lower(c.body), '\\W+') AS w(word) JOIN own f ON f.name = w.word"    \
    " WHERE EXISTS (SELECT 1 FROM own WHERE hides) UNION SELECT refobjid, objid FROM pg_depend" \
    " WHERE classid" IS_PROC " AND refclassid" IS_PROC " AND refobjid >= 16384),"               \
    " hiding(oid) AS (SELECT oid FROM own WHERE hides"                                          \
    " UNION SELECT c.caller FROM hiding h JOIN calls c ON c.callee = h.oid)"
#define HIDING_USERS                                                                       \
    "users(class, id) AS MATERIALIZED (SELECT DISTINCT d.classid::regclass::text, d.objid" \
    " FROM hiding h JOIN pg_depend d ON d.refobjid = h.oid AND d.refclassid" IS_PROC ")"
#define HIDING_RELATIONS                                                                    \
    "relations(oid) AS (SELECT r.ev_class FROM users JOIN pg_rewrite r ON r.oid = id"       \
    " WHERE class = 'pg_rewrite' AND r.ev_type = '1' UNION SELECT y.polrelid FROM users"    \
    " JOIN pg_policy y ON y.oid = id WHERE class = 'pg_policy' UNION SELECT r.ev_class"     \
    " FROM relations v JOIN pg_depend d ON d.refclassid" IS_CLASS " AND d.refobjid = v.oid" \
    " AND d.classid" IS_REWRITE " JOIN pg_rewrite r ON r.oid = d.objid)"
#define HIDING_KINDS                                                                              \
    "kinds(kind) AS (SELECT DISTINCT CASE WHEN class IN ('pg_trigger', 'pg_attrdef', 'pg_class')" \
    " OR (class = 'pg_constraint' AND EXISTS (SELECT 1 FROM pg_constraint k WHERE k.oid = id"     \
    " AND k.conrelid <> 0)) OR (class = 'pg_rewrite' AND EXISTS (SELECT 1 FROM pg_rewrite r"      \
    " WHERE r.oid = id AND r.ev_type <> '1')) THEN 'w' WHEN class IN ('pg_operator', 'pg_cast',"  \
    " 'pg_type', 'pg_constraint', 'pg_amproc') THEN 'a' END FROM users)"

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
const char
    catalog_fingerprint_sql[] =
        "SELECT pg_is_in_recovery(), concat_ws(' ', " ROWS_OF(
            "pg_class c "
            "WHERE c.oid "
            ">= 16384 "
            "AND "
            "c."
            "relpersisten"
            "ce <> 't'"
            " AND "
            "c.relkind "
            "IN ('r', "
            "'p', 'v', "
            "'m', 'S', "
            "'f', 'c')") ", " ROWS_OF("pg_proc c WHERE "
                                      "c.oid "
                                      ">= 16384") ","
                                                  " " ROWS_OF("pg_type c WHERE c.oid >= 16384 AND "
                                                              "c.typrelid = 0 AND c.typcategory <> "
                                                              "'A'") ", " ROWS_OF("pg_operator c "
                                                                                  "WHERE c.oid >= "
                                                                                  "16384") ","
                                                                                           " " ROWS_OF("pg_trigger c WHERE NOT c.tgisinternal") ", " ROWS_OF("pg_amop c WHERE c.oid >= 16384") ", " ROWS_OF("pg_amproc c WHERE c.oid >= 16384") ", " ROWS_OF("pg_cast c WHERE c.oid >= 16384") ", " ROWS_OF("pg_policy c") ", " ROWS_OF("pg_rewrite c WHERE c.oid >= 16384") ", " ROWS_OF(
                                                                                               "pg_"
                                                                                               "con"
                                                                                               "str"
                                                                                               "ain"
                                                                                               "t "
                                                                                               "c "
                                                                                               "WHE"
                                                                                               "RE "
                                                                                               "c."
                                                                                               "oid"
                                                                                               " >="
                                                                                               " 16"
                                                                                               "384"
                                                                                               " AN"
                                                                                               "D "
                                                                                               "c."
                                                                                               "con"
                                                                                               "typ"
                                                                                               "id "
                                                                                               "<> "
                                                                                               "0") ", " ROWS_OF("pg_"
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
