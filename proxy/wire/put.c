#include "proxy/wire/put.h"

#include "base/check.h"
#include "proxy/wire/startup.h"
#include "proxy/wire/take.h"

#define PROTOCOL_3 (3U << 16)
#define CODE_CANCEL (1234U << 16 | 5678U)
#define CODE_SSL (1234U << 16 | 5679U)

enum auth_code {
    CODE_AUTH_OK = 0,
    CODE_AUTH_CLEARTEXT = 3,
    CODE_AUTH_MD5 = 5,
    CODE_AUTH_SASL = 10,
    CODE_AUTH_SASL_CONTINUE = 11,
    CODE_AUTH_SASL_FINAL = 12
};

static struct slice slice_or_none(const char *text)
{
    return text ? slice_of(text) : SLICE_NONE;
}

/* Room for n more bytes, or NULL with full set. */
static uint8_t *reserve(struct put *o, size_t n)
{
    CHECK(o->n <= o->cap);
    if (o->full || n > o->cap - o->n) {
        o->full = true;
        return NULL;
    }
    uint8_t *at = o->p + o->n;
    o->n += n;
    return at;
}

void put_u8(struct put *o, uint8_t v)
{
    uint8_t *at = reserve(o, 1);
    if (at)
        at[0] = v;
}

void put_u16(struct put *o, uint16_t v)
{
    uint8_t *at = reserve(o, 2);
    if (!at)
        return;
    at[0] = (uint8_t)(v >> 8);
    at[1] = (uint8_t)v;
}

static void store_u32(uint8_t *at, uint32_t v)
{
    at[0] = (uint8_t)(v >> 24);
    at[1] = (uint8_t)(v >> 16);
    at[2] = (uint8_t)(v >> 8);
    at[3] = (uint8_t)v;
}

void put_u32(struct put *o, uint32_t v)
{
    uint8_t *at = reserve(o, 4);
    if (at)
        store_u32(at, v);
}

void put_bytes(struct put *o, struct slice bytes)
{
    if (bytes.n == 0)
        return;
    uint8_t *at = reserve(o, bytes.n);
    if (at)
        memcpy(at, bytes.p, bytes.n);
}

void put_cstr(struct put *o, struct slice text)
{
    const uint8_t *nul = text.n > 0 ? memchr(text.p, 0, text.n) : NULL;
    size_t n = nul ? (size_t)(nul - text.p) : text.n;
    if (n > o->cap) { /* so that n + 1 cannot wrap */
        o->full = true;
        return;
    }
    uint8_t *at = reserve(o, n + 1);
    if (!at)
        return;
    if (n > 0)
        memcpy(at, text.p, n);
    at[n] = 0;
}

/* A message under construction: where it starts, and where its length goes. */
struct message {
    size_t start, length_at;
};

static struct message begin_untyped(struct put *o)
{
    struct message m = {o->n, o->n};
    put_u32(o, 0);
    return m;
}

static struct message begin(struct put *o, char type)
{
    struct message m = {o->n, o->n + 1};
    put_u8(o, (uint8_t)type);
    put_u32(o, 0);
    return m;
}

/* Write the length, or take the whole message back. */
static void end(struct put *o, struct message m)
{
    if (!o->full && o->n - m.length_at > INT32_MAX)
        o->full = true;
    if (o->full) {
        o->n = m.start;
        return;
    }
    store_u32(o->p + m.length_at, (uint32_t)(o->n - m.length_at));
}

static void put_empty(struct put *o, char type)
{
    end(o, begin(o, type));
}

static void put_one_cstr(struct put *o, char type, struct slice text)
{
    struct message m = begin(o, type);
    put_cstr(o, text);
    end(o, m);
}

static void put_auth(struct put *o, enum auth_code code, struct slice data)
{
    struct message m = begin(o, 'R');
    put_u32(o, (uint32_t)code);
    put_bytes(o, data);
    end(o, m);
}

void put_auth_ok(struct put *o)
{
    put_auth(o, CODE_AUTH_OK, SLICE_NONE);
}

void put_auth_cleartext(struct put *o)
{
    put_auth(o, CODE_AUTH_CLEARTEXT, SLICE_NONE);
}

void put_auth_md5(struct put *o, const uint8_t salt[4])
{
    put_auth(o, CODE_AUTH_MD5, (struct slice){salt, 4});
}

void put_auth_sasl(struct put *o)
{
    static const uint8_t mechanisms[] =
        "SCRAM-SHA-256\0"; /* and the literal's own NUL ends the list */
    put_auth(o, CODE_AUTH_SASL, (struct slice){mechanisms, sizeof mechanisms});
}

void put_auth_sasl_continue(struct put *o, struct slice data)
{
    put_auth(o, CODE_AUTH_SASL_CONTINUE, data);
}

void put_auth_sasl_final(struct put *o, struct slice data)
{
    put_auth(o, CODE_AUTH_SASL_FINAL, data);
}

void put_param_status(struct put *o, struct slice name, struct slice value)
{
    struct message m = begin(o, 'S');
    put_cstr(o, name);
    put_cstr(o, value);
    end(o, m);
}

void put_backend_key(struct put *o, uint32_t pid, struct slice key)
{
    CHECK(key.n >= PUT_KEY_MIN && key.n <= PUT_CLIENT_KEY_MAX);
    struct message m = begin(o, 'K');
    put_u32(o, pid);
    put_bytes(o, key);
    end(o, m);
}

void put_ready(struct put *o, char status)
{
    CHECK(status == 'I' || status == 'T' || status == 'E');
    struct message m = begin(o, 'Z');
    put_u8(o, (uint8_t)status);
    end(o, m);
}

static bool is_protocol_option(struct slice name)
{
    return name.n >= 5 && memcmp(name.p, "_pq_.", 5) == 0;
}

void put_negotiate_version(struct put *o, uint16_t minor, struct slice startup_params)
{
    uint32_t options_n = 0;
    struct slice name, value;
    struct message m = begin(o, 'v');
    put_u32(o, PROTOCOL_3 | minor);
    size_t count_at = o->n;
    put_u32(o, 0);
    for (struct slice rest = startup_params; startup_next_param(&rest, &name, &value);) {
        if (!is_protocol_option(name))
            continue;
        put_cstr(o, name);
        options_n++;
    }
    if (!o->full)
        store_u32(o->p + count_at, options_n);
    end(o, m);
}

static void put_field(struct put *o, char field, const char *text)
{
    if (text == NULL)
        return;
    put_u8(o, (uint8_t)field);
    put_cstr(o, slice_of(text));
}

static void put_report(struct put *o, char type, const struct wire_error *e)
{
    CHECK(e->severity && e->sqlstate && e->message);
    struct message m = begin(o, type);
    put_field(o, 'S', e->severity);
    put_field(o, 'V', e->severity);
    put_field(o, 'C', e->sqlstate);
    put_field(o, 'M', e->message);
    put_field(o, 'D', e->detail);
    put_field(o, 'H', e->hint);
    put_u8(o, 0);
    end(o, m);
}

void put_error(struct put *o, const struct wire_error *e)
{
    put_report(o, 'E', e);
}

void put_notice(struct put *o, const struct wire_error *e)
{
    put_report(o, 'N', e);
}

void put_command_complete(struct put *o, const char *tag)
{
    put_one_cstr(o, 'C', slice_or_none(tag));
}

void put_empty_query(struct put *o)
{
    put_empty(o, 'I');
}

void put_parse_complete(struct put *o)
{
    put_empty(o, '1');
}

void put_bind_complete(struct put *o)
{
    put_empty(o, '2');
}

void put_close_complete(struct put *o)
{
    put_empty(o, '3');
}

void put_no_data(struct put *o)
{
    put_empty(o, 'n');
}

/* pg_type.typlen of the types that consoles use; drivers read it only for binary values. */
static uint16_t type_bytes(uint32_t oid)
{
    switch (oid) {
    case 16: /* bool */
        return 1;
    case 21: /* int2 */
        return 2;
    case 23:  /* int4 */
    case 26:  /* oid */
    case 700: /* float4 */
        return 4;
    case 20:  /* int8 */
    case 701: /* float8 */
        return 8;
    default:
        return (uint16_t)-1;
    }
}

void put_row_description(struct put *o, const struct put_column *columns, uint16_t columns_n)
{
    struct message m = begin(o, 'T');
    put_u16(o, columns_n);
    for (uint16_t i = 0; i < columns_n; i++) {
        put_cstr(o, slice_of(columns[i].name));
        put_u32(o, 0); /* no table */
        put_u16(o, 0); /* no column of it */
        put_u32(o, columns[i].oid);
        put_u16(o, type_bytes(columns[i].oid));
        put_u32(o, UINT32_MAX); /* no type modifier */
        put_u16(o, 0);          /* text */
    }
    end(o, m);
}

void put_data_row(struct put *o, const struct slice *values, uint16_t values_n)
{
    struct message m = begin(o, 'D');
    put_u16(o, values_n);
    for (uint16_t i = 0; i < values_n; i++) {
        if (values[i].p == NULL) {
            put_u32(o, UINT32_MAX);
            continue;
        }
        /* A value that its length cannot say does not fit a message either: end() takes it back. */
        put_u32(o, (uint32_t)values[i].n);
        put_bytes(o, values[i]);
    }
    end(o, m);
}

void put_startup(struct put *o, uint16_t minor, const struct put_param *params, size_t params_n)
{
    struct message m = begin_untyped(o);
    put_u32(o, PROTOCOL_3 | minor);
    for (size_t i = 0; i < params_n; i++) {
        CHECK(params[i].name.n > 0 && params[i].name.p[0] != 0); /* would end the list early */
        put_cstr(o, params[i].name);
        put_cstr(o, params[i].value);
    }
    put_u8(o, 0);
    end(o, m);
}

void put_ssl_request(struct put *o)
{
    struct message m = begin_untyped(o);
    put_u32(o, CODE_SSL);
    end(o, m);
}

void put_cancel_request(struct put *o, uint32_t pid, struct slice key)
{
    CHECK(key.n >= PUT_KEY_MIN && key.n <= PUT_SERVER_KEY_MAX);
    struct message m = begin_untyped(o);
    put_u32(o, CODE_CANCEL);
    put_u32(o, pid);
    put_bytes(o, key);
    end(o, m);
}

void put_password(struct put *o, struct slice password)
{
    put_one_cstr(o, 'p', password);
}

void put_sasl_initial(struct put *o, struct slice mechanism, struct slice data)
{
    struct message m = begin(o, 'p');
    put_cstr(o, mechanism);
    put_u32(o, (uint32_t)data.n);
    put_bytes(o, data);
    end(o, m);
}

void put_sasl_response(struct put *o, struct slice data)
{
    struct message m = begin(o, 'p');
    put_bytes(o, data);
    end(o, m);
}

void put_query(struct put *o, struct slice sql)
{
    put_one_cstr(o, 'Q', sql);
}

void put_parse(struct put *o, struct slice name, struct slice sql, struct slice param_oids)
{
    CHECK(param_oids.n % 4 == 0 && param_oids.n / 4 <= UINT16_MAX);
    struct message m = begin(o, 'P');
    put_cstr(o, name);
    put_cstr(o, sql);
    put_u16(o, (uint16_t)(param_oids.n / 4));
    put_bytes(o, param_oids);
    end(o, m);
}

void put_close_statement(struct put *o, struct slice name)
{
    struct message m = begin(o, 'C');
    put_u8(o, 'S');
    put_cstr(o, name);
    end(o, m);
}

void put_sync(struct put *o)
{
    put_empty(o, 'S');
}

void put_flush(struct put *o)
{
    put_empty(o, 'H');
}

void put_terminate(struct put *o)
{
    put_empty(o, 'X');
}
