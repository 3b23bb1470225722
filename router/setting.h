/* router/setting.h: SET, RESET and SHOW of a setting of ours, pgweir.*, in SQL text.
 *
 * Pure      no I/O, no allocation, no clock, no globals. Linear in the text, no recursion.
 * Owns      nothing: name_text and value point into the text.
 * Source    PostgreSQL's gram.y: VariableSetStmt, VariableResetStmt, VariableShowStmt.
 */
#ifndef ROUTER_SETTING_H
#define ROUTER_SETTING_H

#include "base/slice.h"

#define SETTING_PREFIX "pgweir."
#define SETTING_NAME_MAX \
    63 /* of the whole name, as PostgreSQL's NAMEDATALEN; a longer one is cut */

enum setting_kind {
    SETTING_NONE, /* nothing of ours: PostgreSQL's */
    SETTING_SET,
    SETTING_SET_LOCAL,
    SETTING_DEFAULT,       /* SET ... TO DEFAULT */
    SETTING_LOCAL_DEFAULT, /* SET LOCAL ... TO DEFAULT */
    SETTING_RESET,
    SETTING_SHOW,
    SETTING_RESET_ALL, /* PostgreSQL's, and ours too */
    SETTING_MIXED,     /* of ours, but not alone in the text */
    SETTING_LIST,      /* of ours, with more than one value */
    SETTING_MALFORMED  /* of ours, and no grammar has it */
};

struct setting_statement {
    enum setting_kind kind;
    size_t name_n;
    char name[SETTING_NAME_MAX + 1]; /* in lower case, with the prefix and a NUL */
    struct slice value;              /* SET: without its quotes */
};

/* What the text is, if it is one statement. SETTING_NONE for texts of any other kind after their first
 * word has been looked at. */
void setting_read(struct slice sql, bool standard_conforming_strings,
                  struct setting_statement *out);

/* One of several statements is a SET or RESET of ours. */
bool setting_within(struct slice sql, bool standard_conforming_strings);

/* The name is one of ours, whatever the case of its letters. */
bool setting_is_ours(struct slice name);

#endif
