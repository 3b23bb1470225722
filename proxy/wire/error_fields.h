/* proxy/wire/error_fields.h: read the fields of an ErrorResponse or NoticeResponse.
 *
 * Source  PostgreSQL documentation, "Error and Notice Message Fields".
 * Pure    no I/O, no allocation, no clock, no globals.
 * Owns    nothing: slices point into the body, without their NUL.
 * Errors  any field may be missing: it is SLICE_NONE then. sqlstate is there only when it is five
 * of A-Z and 0-9. Unknown fields are skipped; of a field that comes twice the first counts.
 */
#ifndef WIRE_ERROR_FIELDS_H
#define WIRE_ERROR_FIELDS_H

#include "proxy/wire/put.h"

struct error_fields {
    struct slice severity; /* V, which is never translated; S when there is no V */
    struct slice sqlstate;
    struct slice message;
    struct slice detail;
    struct slice hint;
    struct slice file; /* F: the source file that raised it, e.g. postgres.c */
    struct slice routine;
};

/* Always fills *out with what is there. False: the body is cut or has bytes after its end. */
bool error_fields_read(struct slice body, struct error_fields *out);
/* An ErrorResponse of the same fields but for the severity and the message, where they are not SLICE_NONE. It needs
 * the body's bytes, FRAME_HEAD_BYTES, the message and twice the severity. */
void error_fields_put(struct put *o, struct slice body, struct slice severity,
                      struct slice message);

#endif
