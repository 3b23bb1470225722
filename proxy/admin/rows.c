#include "proxy/admin/rows.h"

#include "base/check.h"
#include "router/freshness.h"

#include <inttypes.h>
#include <stdio.h>

void rows_put(struct session *s, const struct put *o)
{
    CHECK(!o->full);
    conn_out_copy(s->conn, o->p, o->n);
}

void rows_columns(struct session *s, const struct put_column *columns, size_t n)
{
    uint8_t bytes[ROW_MAX];
    struct put o = put_into(bytes, sizeof bytes);
    put_row_description(&o, columns, (uint16_t)n);
    rows_put(s, &o);
}

void row_slice(struct row *r, struct slice text)
{
    CHECK(r->n < COLUMNS_MAX);
    r->values[r->n++] = text;
}

void row_text(struct row *r, const char *text)
{
    row_slice(r, slice_of(text));
}

void row_null(struct row *r)
{
    row_slice(r, SLICE_NONE);
}

void row_number(struct row *r, uint64_t number)
{
    int n = snprintf(r->text + r->used, sizeof r->text - r->used, "%" PRIu64, number);
    CHECK(n > 0 && (size_t)n < sizeof r->text - r->used);
    row_slice(r, (struct slice){(const uint8_t *)r->text + r->used, (size_t)n});
    r->used += (size_t)n;
}

void row_lsn(struct row *r, uint64_t lsn)
{
    char text[LSN_TEXT_BYTES];
    size_t n = lsn_format(lsn, text);
    CHECK(r->used + n < sizeof r->text);
    memcpy(r->text + r->used, text, n);
    row_slice(r, (struct slice){(const uint8_t *)r->text + r->used, n});
    r->used += n;
}

void rows_send(struct session *s, const struct row *r)
{
    uint8_t bytes[ROW_MAX];
    struct put o = put_into(bytes, sizeof bytes);
    put_data_row(&o, r->values, r->n);
    rows_put(s, &o);
}

void rows_end(struct session *s, const char *tag)
{
    uint8_t bytes[64];
    struct put o = put_into(bytes, sizeof bytes);
    put_command_complete(&o, tag);
    put_ready(&o, 'I');
    rows_put(s, &o);
}
