/* proxy/wire/put.h: write PostgreSQL v3 messages into a buffer of fixed size.
 *
 * Source  PostgreSQL documentation, chapter "Frontend/Backend Protocol", "Message Formats".
 * Pure    no I/O, no allocation, no clock, no globals.
 * Units   lengths are bytes; n counts the bytes written, cap what the buffer holds.
 * Owns    nothing: the buffer is the caller's, slices and strings are read during the call only.
 * Errors  what does not fit sets full. full is sticky: every later put writes nothing, so that no
 *         message can follow one that was dropped. The caller clears it with a fresh put.
 * Limits  n never exceeds cap and nothing is written past cap. A message is written whole or not at
 *         all: when it does not fit, n is back at its start (bytes past n are then undefined).
 *         A string is cut at its first NUL, so a value can never smuggle in another field.
 */
#ifndef WIRE_PUT_H
#define WIRE_PUT_H

#include "base/slice.h"

#define PUT_KEY_MIN 4          /* cancel key of protocol 3.0 */
#define PUT_CLIENT_KEY_MAX 32  /* the longest key that we hand out */
#define PUT_SERVER_KEY_MAX 256 /* the longest key that a server may give us */

struct put {
    uint8_t *p;
    size_t n, cap;
    bool full;
};

static inline struct put put_into(uint8_t *p, size_t cap)
{
    return (struct put){.p = p, .n = 0, .cap = cap, .full = false};
}

/* What was written so far. */
static inline struct slice put_slice(const struct put *o)
{
    return (struct slice){o->p, o->n};
}

/* The raw writers: each writes all of its bytes or sets full and writes nothing. */
void put_u8(struct put *o, uint8_t v);
void put_u16(struct put *o, uint16_t v);
void put_u32(struct put *o, uint32_t v);
void put_bytes(struct put *o, struct slice bytes);
void put_cstr(struct put *o, struct slice text); /* text up to its first NUL, then a NUL */

/* One ErrorResponse or NoticeResponse. severity is written as S and V; detail and hint may be NULL.
 */
struct wire_error {
    const char *severity, *sqlstate, *message, *detail, *hint;
};

/* A column of a RowDescription in text format. The type length is that of oid (bool, int2, int4,
 * int8, float4, float8, oid), -1 for every other. */
struct put_column {
    const char *name;
    uint32_t oid;
};

struct put_param {
    struct slice name, value;
};

/* Towards clients. */
void put_auth_ok(struct put *o);
void put_auth_cleartext(struct put *o);
void put_auth_md5(struct put *o, const uint8_t salt[4]);
void put_auth_sasl(struct put *o); /* offers SCRAM-SHA-256 only */
void put_auth_sasl_continue(struct put *o, struct slice data);
void put_auth_sasl_final(struct put *o, struct slice data);
void put_param_status(struct put *o, struct slice name, struct slice value);
/* key: PUT_KEY_MIN .. PUT_CLIENT_KEY_MAX bytes (checked: it is ours). */
void put_backend_key(struct put *o, uint32_t pid, struct slice key);
void put_ready(struct put *o, char status); /* 'I', 'T' or 'E' (checked) */
/* NegotiateProtocolVersion: version 3.minor, and the name of each _pq_.* in startup.params. */
void put_negotiate_version(struct put *o, uint16_t minor, struct slice startup_params);
void put_error(struct put *o, const struct wire_error *e);
void put_notice(struct put *o, const struct wire_error *e);
void put_command_complete(struct put *o, const char *tag);
void put_empty_query(struct put *o);
void put_parse_complete(struct put *o);
void put_bind_complete(struct put *o);
void put_close_complete(struct put *o);
void put_no_data(struct put *o);
void put_row_description(struct put *o, const struct put_column *columns, uint16_t columns_n);
/* A value with p == NULL is SQL NULL; p != NULL and n == 0 is the empty string. */
void put_data_row(struct put *o, const struct slice *values, uint16_t values_n);

/* Towards servers. */
/* StartupMessage 3.minor. Names must not be empty (checked: startup_read refuses them). */
void put_startup(struct put *o, uint16_t minor, const struct put_param *params, size_t params_n);
void put_ssl_request(struct put *o);
/* key: PUT_KEY_MIN .. PUT_SERVER_KEY_MAX bytes (checked: auth_read_backend_key bounds it). */
void put_cancel_request(struct put *o, uint32_t pid, struct slice key);
void put_password(struct put *o, struct slice password);
void put_sasl_initial(struct put *o, struct slice mechanism, struct slice data);
void put_sasl_response(struct put *o, struct slice data);
void put_query(struct put *o, struct slice sql);
/* param_oids: raw big-endian oids as in a client's Parse, 4 bytes each, at most 65535 (checked). */
void put_parse(struct put *o, struct slice name, struct slice sql, struct slice param_oids);
void put_close_statement(struct put *o, struct slice name);
void put_sync(struct put *o);
void put_flush(struct put *o);
void put_terminate(struct put *o);

#endif
