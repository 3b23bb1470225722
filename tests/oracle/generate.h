/* tests/oracle/generate.h: SQL statements by chance, the same for the same seed.
 *
 * Owns      nothing; texts go to the caller's buffer and end with NUL. Limits: see ORACLE_TEXT_MAX.
 */
#ifndef TESTS_ORACLE_GENERATE_H
#define TESTS_ORACLE_GENERATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ORACLE_TEXT_MAX 16384

/* A number below n; *seed goes on. */
uint32_t generate_below(uint64_t *seed, uint32_t n);

/* A statement by grammar.def; false if it grew too long. */
bool generate_statement(uint64_t *seed, char *out);

/* sql with a few of its tokens left out, doubled, swapped, replaced or separated by comments. */
bool generate_mutation(uint64_t *seed, const char *sql, char *out);

#endif
