/* tests/oracle/parse_tree.c: a walk over the parse tree, as JSON, that looks for what is not a read. */
#include "tests/oracle/parse_tree.h"

#include <jansson.h>
#include <pg_query.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

struct name {
    const char *name;
    const char *class; /* as its list calls it; HARMLESS and KNOWN are what a read may use */
};

static const struct name functions[] = {
#define FN(name, class) {#name, #class},
#include "router/functions.def"
#undef FN
};
static const struct name types[] = {
#define TYPE(name, class) {#name, #class},
#include "router/types.def"
#undef TYPE
};
static const struct name operators[] = {
#define OP(text) {text, "KNOWN"},
#include "router/operators.def"
#undef OP
};

static bool is_harmless(const struct name *name)
{
    return strcmp(name->class, "HARMLESS") == 0 || strcmp(name->class, "KNOWN") == 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct name *)a)->name, ((const struct name *)b)->name);
}

/* The generated lists are sorted by Python, as bytes. */
static const struct name *find(const struct name *names, size_t n, const char *text)
{
    const struct name key = {text, NULL};
    return bsearch(&key, names, n, sizeof *names, compare_names);
}

#define FIND(list, text) find(list, COUNT(list), text)

/* The i-th part of [{"String":{"sval":"pg_catalog"}}, ...]; NULL if it is something else. */
static const char *part(const json_t *names, size_t i)
{
    const json_t *string = json_object_get(json_array_get(names, i), "String");
    return json_string_value(json_object_get(string, "sval"));
}

/* The last part of a name that is a built-in's, or NULL: unqualified or in pg_catalog. */
static const char *builtin_name(const json_t *names)
{
    const size_t n = json_array_size(names);
    if (n == 2 && part(names, 0) != NULL && strcmp(part(names, 0), "pg_catalog") == 0)
        return part(names, 1);
    return n == 1 ? part(names, 0) : NULL;
}

/* current_setting('a.b' [, missing]) */
static bool is_own_setting(const char *name, const json_t *call)
{
    const json_t *args = json_object_get(call, "args");
    const json_t *constant = json_object_get(json_array_get(args, 0), "A_Const");
    const char *setting =
        json_string_value(json_object_get(json_object_get(constant, "sval"), "sval"));
    return strcmp(name, "current_setting") == 0 && setting != NULL && strchr(setting, '.') != NULL;
}

static const char *judge_function(const json_t *call)
{
    const char *name = builtin_name(json_object_get(call, "funcname"));
    const struct name *known = name == NULL ? NULL : FIND(functions, name);
    if (known == NULL)
        return "unknown function";
    return is_harmless(known) || is_own_setting(name, call) ? NULL : "function";
}

static const char *judge_type(const json_t *type)
{
    const char *name = builtin_name(json_object_get(type, "names"));
    const struct name *known = name == NULL ? NULL : FIND(types, name);
    if (known == NULL)
        return "unknown type";
    return is_harmless(known) ? NULL : "catalog type";
}

static const char not_postgresql[] = "type $1, which only libpg_query parses";

/* libpg_query takes $1 for a literal where PostgreSQL wants one: date $1. */
static const char *judge_cast(const json_t *cast)
{
    const json_t *param = json_object_get(json_object_get(cast, "arg"), "ParamRef");
    const json_int_t at = json_integer_value(json_object_get(param, "location"));
    const json_t *type = json_object_get(json_object_get(cast, "typeName"), "location");
    return param != NULL && json_integer_value(type) < at ? not_postgresql : NULL;
}

static const char *judge_operator(const json_t *names)
{
    const char *name = builtin_name(names);
    return name != NULL && FIND(operators, name) != NULL ? NULL : "unknown operator";
}

static const char *judge_expression(const json_t *expr)
{
    const char *kind = json_string_value(json_object_get(expr, "kind"));
    if (kind != NULL && strstr(kind, "BETWEEN") != NULL) /* the name is the word itself */
        return NULL;
    return judge_operator(json_object_get(expr, "name"));
}

static const char *judge_relation(const json_t *relation)
{
    const char *schema = json_string_value(json_object_get(relation, "schemaname"));
    const char *name = json_string_value(json_object_get(relation, "relname"));
    if (schema != NULL &&
        (strncmp(schema, "pg_", 3) == 0 || strcmp(schema, "information_schema") == 0))
        return "catalog relation";
    return schema == NULL && strncmp(name, "pg_", 3) == 0 ? "catalog relation" : NULL;
}

/* t.f and (x).f may call f. */
static const char *judge_field(const json_t *fields, size_t least)
{
    const size_t n = json_array_size(fields);
    const char *name = n < least ? NULL : part(fields, n - 1);
    const struct name *known = name == NULL ? NULL : FIND(functions, name);
    if (known == NULL || strcmp(known->class, "NODE_ALONE") == 0) /* those take no argument */
        return NULL;
    return is_harmless(known) ? NULL : "field that is a function";
}

static const char *judge_column(const json_t *column)
{
    return judge_field(json_object_get(column, "fields"), 2);
}

static const char *judge_indirection(const json_t *indirection)
{
    return judge_field(json_object_get(indirection, "indirection"), 1);
}

static const char *judge_sample(const json_t *sample)
{
    const char *name = builtin_name(json_object_get(sample, "method"));
    return name != NULL && FIND(functions, name) != NULL ? NULL : "unknown method";
}

static const char *judge_copy(const json_t *copy)
{
    if (json_is_true(json_object_get(copy, "is_from")) ||
        json_is_true(json_object_get(copy, "is_program")) ||
        json_object_get(copy, "filename") != NULL)
        return "copy";
    const json_t *relation = json_object_get(copy, "relation");
    return relation == NULL ? NULL : judge_relation(relation);
}

static const char *judge_using(const json_t *names)
{
    return json_array_size(names) == 0 ? NULL : judge_operator(names);
}

static const char *judge_explain(const json_t *explain)
{
    const json_t *query = json_object_get(explain, "query");
    return json_object_get(query, "SelectStmt") != NULL ? NULL : "explain of no query";
}

static const char *is_into(const json_t *node)
{
    (void)node;
    return "into";
}

static const char *is_lock(const json_t *node)
{
    (void)node;
    return "lock";
}

static const char *is_write(const json_t *node)
{
    (void)node;
    return "write";
}

static const struct {
    const char *key;
    const char *(*judge)(const json_t *);
} judges[] = {
    {"FuncCall", judge_function},
    {"TypeName", judge_type},
    {"typeName", judge_type},
    {"TypeCast", judge_cast},
    {"A_Expr", judge_expression},
    {"operName", judge_using},
    {"useOp", judge_using},
    {"RangeVar", judge_relation},
    {"ColumnRef", judge_column},
    {"A_Indirection", judge_indirection},
    {"RangeTableSample", judge_sample},
    {"CopyStmt", judge_copy},
    {"ExplainStmt", judge_explain},
    {"intoClause", is_into},
    {"lockingClause", is_lock},
    {"InsertStmt", is_write},
    {"UpdateStmt", is_write},
    {"DeleteStmt", is_write},
    {"MergeStmt", is_write},
};

static const char *judge_node(const char *key, const json_t *node)
{
    for (size_t i = 0; i < COUNT(judges); i++)
        if (strcmp(judges[i].key, key) == 0)
            return judges[i].judge(node);
    return NULL;
}

/* libpg_query bounds the depth of what it parses. */
static const char *walk(json_t *node)
{
    const char *key, *why = NULL;
    json_t *child;
    size_t i;
    if (json_is_array(node)) {
        json_array_foreach(node, i, child) if ((why = walk(child)) != NULL) return why;
    } else if (json_is_object(node)) {
        json_object_foreach(node, key, child) if ((why = judge_node(key, child)) != NULL ||
                                                  (why = walk(child)) != NULL) return why;
    }
    return NULL;
}

static const char *judge_statement(json_t *statement)
{
    json_t *stmt = json_object_get(statement, "stmt");
    const char *kind = json_object_iter_key(json_object_iter(stmt));
    if (kind == NULL || (strcmp(kind, "SelectStmt") != 0 && strcmp(kind, "ExplainStmt") != 0 &&
                         strcmp(kind, "CopyStmt") != 0))
        return "not a query";
    return walk(stmt);
}

static struct tree_verdict judge_tree(const char *tree)
{
    json_error_t error;
    json_t *root = json_loads(tree, 0, &error);
    if (root == NULL)
        return (struct tree_verdict){TREE_ERROR, error.text};
    const char *why = NULL;
    size_t i;
    json_t *statement;
    json_array_foreach(json_object_get(root, "stmts"), i,
                       statement) if ((why = judge_statement(statement)) != NULL) break;
    json_decref(root);
    if (why == not_postgresql)
        return (struct tree_verdict){TREE_ERROR, why};
    return (struct tree_verdict){why == NULL ? TREE_READ : TREE_NOT_READ, why};
}

struct tree_verdict tree_judge(const char *sql)
{
    const PgQueryParseResult result = pg_query_parse(sql);
    const struct tree_verdict verdict = result.error != NULL
                                            ? (struct tree_verdict){TREE_ERROR, NULL}
                                            : judge_tree(result.parse_tree);
    pg_query_free_parse_result(result);
    return verdict;
}
