/* proxy/wire/saslprep.h: normalise a password with SASLprep, with libidn.
 *
 * Source RFC 4013, as PostgreSQL's pg_saslprep() applies it (stored strings: code points that
 *        Unicode 3.2 has not assigned are refused).
 * Pure   no I/O, no clock, no globals. libidn allocates inside the call.
 * Errors false: not UTF-8, a forbidden character, nothing left, or no room. The caller then uses
 *        the raw bytes, as PostgreSQL does. out is as it was, full aside.
 * Limits a text with other than ASCII characters has at most SASLPREP_TEXT_MAX bytes, before and
 *        after. ASCII has no limit but the room in out and is copied as it is.
 */
#ifndef WIRE_SASLPREP_H
#define WIRE_SASLPREP_H

#include "base/slice.h"
#include "proxy/wire/put.h"

#define SASLPREP_TEXT_MAX 4095

bool saslprep(struct slice text, struct put *out);

#endif
