/* proxy/admin/rows.h: the console's answers, row by row, into a session's output. */
#ifndef ADMIN_ROWS_H
#define ADMIN_ROWS_H

#include "proxy/session/session.h"

#define TEXT_OID 25
#define INT4_OID 23
#define INT8_OID 20
#define COLUMNS_MAX 24
#define ROW_MAX 2048

/* Texts that were added must live until the row is sent; numbers are kept in it. */
struct row {
    uint16_t n;
    struct slice values[COLUMNS_MAX];
    size_t used;
    char text[ROW_MAX / 2];
};

void row_text(struct row *r, const char *text);
void row_slice(struct row *r, struct slice text);
void row_null(struct row *r);
void row_number(struct row *r, uint64_t number);
void row_lsn(struct row *r, uint64_t lsn);
void rows_columns(struct session *s, const struct put_column *columns, size_t n);
void rows_send(struct session *s, const struct row *r);
void rows_end(struct session *s, const char *tag); /* CommandComplete, ReadyForQuery */
void rows_put(struct session *s, const struct put *o);

#endif
