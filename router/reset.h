/* router/reset.h: which settings a statement sets back to their default.
 *
 * Pure      no I/O, no allocation, no clock, no globals. Linear in the text.
 * Promise   RESET_ONE or RESET_ALL only for a text that is exactly one such statement: RESET name, RESET ALL,
 *           RESET TIME ZONE, SET [SESSION] name { TO | = } DEFAULT, SET [SESSION] TIME ZONE { DEFAULT | LOCAL }; and, as
 *           one of `role`, which goes with it, RESET SESSION AUTHORIZATION, SET [SESSION] SESSION AUTHORIZATION DEFAULT.
 */
#ifndef ROUTER_RESET_H
#define ROUTER_RESET_H

#include "base/slice.h"

#define RESET_NAME_MAX 128

enum reset_kind { RESET_OTHER, RESET_ONE, RESET_ALL };

struct reset {
    enum reset_kind kind;
    char name[RESET_NAME_MAX]; /* in lower case */
};

void reset_read(struct slice sql, bool standard_conforming_strings, struct reset *out);

#endif
