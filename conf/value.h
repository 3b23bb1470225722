/* conf/value.h: read and print numbers, times and sizes as the file writes them.
 *
 * Pure    no I/O, no allocation. A refused value leaves *out alone and says why.
 */
#ifndef CONF_VALUE_H
#define CONF_VALUE_H

#include "conf/message.h"

enum { VALUE_TEXT_MAX = 40 }; /* bytes that any printed number needs, NUL included */

/* C base prefixes: 0x1f, 0777. No sign. */
bool value_u64(const char *text, uint64_t *out, struct why *why);
/* The same, or a percentage, "1%" to "100%". */
bool value_share(const char *text, uint64_t *out, bool *percent, struct why *why);
/* 0, 1, yes, no, on, off, true, false; PgBouncer knows only 0 and 1. */
bool value_flag(const char *text, bool *out, struct why *why);
/* "250ms", "0.5h", or a bare number in bare_unit. Rounded up to ms, since 0 often means no limit.
 */
bool value_ms(const char *text, const char *bare_unit, uint64_t *out, struct why *why);
/* "16MB", or a bare number of bytes. */
bool value_bytes(const char *text, uint64_t *out, struct why *why);

/* The shortest exact form with a unit: "1h", "1500ms", "16MB". */
void value_print_ms(uint64_t ms, char out[VALUE_TEXT_MAX]);
void value_print_bytes(uint64_t bytes, char out[VALUE_TEXT_MAX]);

#endif
