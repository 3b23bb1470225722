/* tests/fuzz/fuzz_server_messages.c: a body is read whole or refused; what is read lies inside it
 * and, written again, is the same body. Input: a message type, then its body. */
#include "base/check.h"
#include "proxy/wire/auth.h"
#include "proxy/wire/error_fields.h"
#include "proxy/wire/frame.h"
#include "proxy/wire/put.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t written[8192];

static bool is_inside(struct slice part, struct slice all)
{
    return part.p == NULL || (part.p >= all.p && part.p + part.n <= all.p + all.n);
}

static void check_same_body(const struct put *o, struct slice body)
{
    CHECK(!o->full && o->n >= FRAME_HEAD_BYTES);
    CHECK(slice_equals(slice_skip(put_slice(o), FRAME_HEAD_BYTES), body));
}

static bool check_request(struct slice body)
{
    struct auth_request r;
    if (!auth_read_request(body, &r))
        return false;
    struct put o = put_into(written, sizeof written);
    CHECK(r.kind < AUTH_KIND_N && r.code == slice_u32(body.p) && is_inside(r.data, body));
    if (r.kind == AUTH_MD5)
        put_auth_md5(&o, r.md5_salt);
    if (r.kind == AUTH_SASL_CONTINUE)
        put_auth_sasl_continue(&o, r.data);
    if (r.kind == AUTH_SASL_FINAL)
        put_auth_sasl_final(&o, r.data);
    if (o.n > 0)
        check_same_body(&o, body);
    return r.kind <= AUTH_SASL; /* the others take any data: a prefix of it is right too */
}

static bool check_password(struct slice body)
{
    struct slice password;
    if (!auth_read_password(body, &password))
        return false;
    struct put o = put_into(written, sizeof written);
    put_password(&o, password);
    check_same_body(&o, body);
    return true;
}

static bool check_sasl_initial(struct slice body)
{
    struct auth_sasl_initial r;
    if (!auth_read_sasl_initial(body, &r))
        return false;
    struct put o = put_into(written, sizeof written);
    CHECK(r.mechanism.n > 0 && is_inside(r.mechanism, body) && is_inside(r.data, body));
    put_sasl_initial(&o, r.mechanism, r.data);
    if (r.data.p)
        check_same_body(&o, body);
    return true;
}

static bool check_backend_key(struct slice body)
{
    struct slice key;
    uint32_t pid;
    if (!auth_read_backend_key(body, &pid, &key))
        return false;
    CHECK(key.n >= AUTH_KEY_MIN && key.n <= AUTH_KEY_MAX && is_inside(key, body));
    struct put o = put_into(written, sizeof written);
    put_cancel_request(&o, pid, key);
    CHECK(!o.full && slice_equals(slice_skip(put_slice(&o), 8), body));
    return false; /* a shorter key may be right */
}

static bool check_param_status(struct slice body)
{
    struct slice name, value;
    if (!auth_read_param_status(body, &name, &value))
        return false;
    struct put o = put_into(written, sizeof written);
    put_param_status(&o, name, value);
    check_same_body(&o, body);
    return true;
}

static bool check_ready(struct slice body)
{
    char status;
    if (!auth_read_ready(body, &status))
        return false;
    struct put o = put_into(written, sizeof written);
    put_ready(&o, status);
    check_same_body(&o, body);
    return true;
}

static bool check_negotiate(struct slice body)
{
    uint16_t minor;
    return auth_read_negotiate(body, &minor);
}

static bool check_error(struct slice body)
{
    struct error_fields f;
    bool whole = error_fields_read(body, &f);
    const struct slice all[] = {f.severity, f.sqlstate, f.message, f.detail, f.hint, f.routine};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        CHECK(is_inside(all[i], body));
        if (all[i].p)
            CHECK(all[i].p[all[i].n] == 0 &&
                  memchr(all[i].p, 0, all[i].n + 1) == all[i].p + all[i].n);
    }
    CHECK(f.sqlstate.p == NULL || f.sqlstate.n == 5);
    return whole;
}

static bool check(uint8_t type, struct slice body)
{
    switch (type) {
    case 'R':
        return check_request(body);
    case 'p':
        return check_password(body);
    case 'i':
        return check_sasl_initial(body);
    case 'K':
        return check_backend_key(body);
    case 'S':
        return check_param_status(body);
    case 'Z':
        return check_ready(body);
    case 'v':
        return check_negotiate(body);
    default:
        return check_error(body);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 4096)
        return 0;
    struct slice body = {data + 1, size - 1};
    if (!check(data[0], body))
        return 0;
    for (size_t n = 0; n < body.n; n++) /* whole or refused: no prefix is whole too */
        CHECK(!check(data[0], (struct slice){body.p, n}));
    return 0;
}
