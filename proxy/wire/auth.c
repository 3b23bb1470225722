#include "proxy/wire/auth.h"

#include "proxy/wire/take.h"

#define NEGOTIATED_OPTIONS_MAX 64 /* we never ask for more; usually for none */

/* AuthenticationSASL: names, each with its NUL, and an empty one at the end. */
static bool read_mechanisms(struct slice list, bool *scram_sha_256)
{
    struct slice name;
    bool found = false;
    while (take_cstr(&list, &name)) {
        if (name.n == 0) {
            *scram_sha_256 = found;
            return list.n == 0;
        }
        found |= slice_is(name, "SCRAM-SHA-256");
    }
    return false;
}

/* The kind of r->code, and what comes with it. */
static bool read_request_data(struct slice data, struct auth_request *r)
{
    switch (r->code) {
    case 0:
        r->kind = AUTH_OK;
        return data.n == 0;
    case 3:
        r->kind = AUTH_CLEARTEXT;
        return data.n == 0;
    case 5:
        r->kind = AUTH_MD5;
        if (data.n != sizeof r->md5_salt)
            return false;
        memcpy(r->md5_salt, data.p, sizeof r->md5_salt);
        return true;
    case 10:
        r->kind = AUTH_SASL;
        return read_mechanisms(data, &r->scram_sha_256);
    case 11:
        r->kind = AUTH_SASL_CONTINUE;
        r->data = data;
        return true;
    case 12:
        r->kind = AUTH_SASL_FINAL;
        r->data = data;
        return true;
    default:
        r->kind = AUTH_UNSUPPORTED;
        return true;
    }
}

bool auth_read_request(struct slice body, struct auth_request *out)
{
    struct auth_request r = {0};
    if (body.n > AUTH_REQUEST_BODY_MAX || !take_u32(&body, &r.code) || !read_request_data(body, &r))
        return false;
    *out = r;
    return true;
}

bool auth_read_password(struct slice body, struct slice *password)
{
    struct slice text;
    if (body.n > AUTH_PASSWORD_BODY_MAX || !take_cstr(&body, &text) || body.n > 0)
        return false;
    *password = text;
    return true;
}

bool auth_read_sasl_initial(struct slice body, struct auth_sasl_initial *out)
{
    struct auth_sasl_initial r = {0};
    uint32_t data_bytes;
    if (body.n > AUTH_SASL_BODY_MAX || !take_cstr(&body, &r.mechanism) || r.mechanism.n == 0 ||
        !take_u32(&body, &data_bytes))
        return false;
    if (data_bytes == UINT32_MAX) { /* -1: none */
        if (body.n > 0)
            return false;
    } else {
        if (data_bytes != body.n)
            return false;
        r.data = body;
    }
    *out = r;
    return true;
}

bool auth_read_sasl_response(struct slice body, struct slice *data)
{
    if (body.n > AUTH_SASL_BODY_MAX)
        return false;
    *data = body;
    return true;
}

bool auth_read_backend_key(struct slice body, uint32_t *pid, struct slice *key)
{
    uint32_t number;
    if (!take_u32(&body, &number) || body.n < AUTH_KEY_MIN || body.n > AUTH_KEY_MAX)
        return false;
    *pid = number;
    *key = body;
    return true;
}

bool auth_read_param_status(struct slice body, struct slice *name, struct slice *value)
{
    struct slice n, v;
    if (!take_cstr(&body, &n) || n.n == 0 || !take_cstr(&body, &v) || body.n > 0)
        return false;
    *name = n;
    *value = v;
    return true;
}

bool auth_read_ready(struct slice body, char *status)
{
    if (body.n != 1 || (body.p[0] != 'I' && body.p[0] != 'T' && body.p[0] != 'E'))
        return false;
    *status = (char)body.p[0];
    return true;
}

bool auth_read_negotiate(struct slice body, uint16_t *minor)
{
    uint32_t version, options_n;
    struct slice name;
    if (!take_u32(&body, &version) || version >> 16 != 3 || !take_u32(&body, &options_n) ||
        options_n > NEGOTIATED_OPTIONS_MAX)
        return false;
    for (uint32_t i = 0; i < options_n; i++) {
        if (!take_cstr(&body, &name) || name.n == 0)
            return false;
    }
    if (body.n > 0)
        return false;
    *minor = (uint16_t)version;
    return true;
}
