/* tests/oracle/parse_tree.h: what PostgreSQL's own parser (libpg_query) says about a text.
 *
 * Shares with router/ only the lists of names (functions.def, types.def, operators.def): no scanner,
 * no proof. Owns what it parses for the length of a call.
 */
#ifndef TESTS_ORACLE_PARSE_TREE_H
#define TESTS_ORACLE_PARSE_TREE_H

struct tree_verdict {
    enum { TREE_ERROR, TREE_READ, TREE_NOT_READ } what;
    const char *why; /* of TREE_NOT_READ */
};

struct tree_verdict tree_judge(const char *sql);

#endif
