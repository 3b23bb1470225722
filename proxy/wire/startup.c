#include "proxy/wire/startup.h"

#include <strings.h>

#include "base/check.h"
#include "proxy/wire/take.h"

#define HEAD_BYTES 8 /* length and protocol */
#define DIRECT_TLS_BYTE 0x16
#define MAJOR_REQUEST 1234
#define MINOR_CANCEL 5678
#define MINOR_SSL 5679
#define MINOR_GSSENC 5680
#define MINOR_HEALTH 6432 /* ours */

/* HTTP, SSH, SMTP, the PROXY protocol ...: letters and line ends where a length should be. */
static bool looks_like_text(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool printable = p[i] >= 0x20 && p[i] <= 0x7e;
        if (!printable && p[i] != '\r' && p[i] != '\n' && p[i] != '\t')
            return false;
    }
    return true;
}

static enum startup_rc read_length(struct slice in, uint32_t *total_bytes)
{
    if (in.n < 4)
        return STARTUP_MORE;
    uint32_t bytes = slice_u32(in.p);
    if (bytes > STARTUP_BYTES_MAX)
        return looks_like_text(in.p, 4) ? STARTUP_NOT_POSTGRES : STARTUP_TOO_LONG;
    if (bytes < HEAD_BYTES)
        return STARTUP_TOO_SHORT;
    *total_bytes = bytes;
    return STARTUP_OK;
}

/* The kind and, for a request of fixed form, whether its size can be right. */
static enum startup_rc read_protocol(uint32_t code, uint32_t total_bytes, enum startup_kind *kind)
{
    uint32_t major = code >> 16, minor = code & 0xffff;
    if (major == 3) {
        *kind = STARTUP_V3;
        return total_bytes > HEAD_BYTES ? STARTUP_OK : STARTUP_NO_TERMINATOR;
    }
    if (major == 2)
        return STARTUP_OLD_PROTOCOL;
    if (major == MAJOR_REQUEST &&
        (minor == MINOR_SSL || minor == MINOR_GSSENC || minor == MINOR_HEALTH)) {
        *kind = minor == MINOR_SSL      ? STARTUP_SSL
                : minor == MINOR_GSSENC ? STARTUP_GSSENC
                                        : STARTUP_HEALTH;
        return total_bytes == HEAD_BYTES ? STARTUP_OK : STARTUP_BAD_LAYOUT;
    }
    if (major == MAJOR_REQUEST && minor == MINOR_CANCEL) {
        *kind = STARTUP_CANCEL;
        bool fits = total_bytes >= HEAD_BYTES + 4 + STARTUP_KEY_MIN &&
                    total_bytes <= HEAD_BYTES + 4 + STARTUP_KEY_MAX;
        return fits ? STARTUP_OK : STARTUP_BAD_LAYOUT;
    }
    return STARTUP_UNKNOWN_PROTOCOL;
}

bool startup_next_param(struct slice *rest, struct slice *name, struct slice *value)
{
    struct slice left = *rest, n, v;
    if (!take_cstr(&left, &n) || n.n == 0 || !take_cstr(&left, &v))
        return false;
    *name = n;
    *value = v;
    *rest = left;
    return true;
}

static bool same_name(struct slice a, struct slice b)
{
    return a.n == b.n && strncasecmp((const char *)a.p, (const char *)b.p, a.n) == 0;
}

static bool has_name(const struct slice *names, size_t names_n, struct slice name)
{
    for (size_t i = 0; i < names_n; i++) {
        if (same_name(names[i], name))
            return true;
    }
    return false;
}

static void keep_param(struct startup *s, struct slice name, struct slice value)
{
    if (slice_is(name, "user"))
        s->user = value;
    else if (slice_is(name, "database"))
        s->database = value;
    else if (slice_is(name, "replication"))
        s->replication = value;
    else if (slice_is(name, "options"))
        s->options = value;
    else if (name.n >= 5 && memcmp(name.p, "_pq_.", 5) == 0)
        s->needs_negotiation = true;
}

static enum startup_rc read_params(struct startup *s)
{
    struct slice names[STARTUP_PARAMS_MAX];
    struct slice rest = s->params, name, value;
    size_t names_n = 0;
    while (startup_next_param(&rest, &name, &value)) {
        if (names_n == STARTUP_PARAMS_MAX)
            return STARTUP_TOO_MANY_PARAMS;
        if (has_name(names, names_n, name))
            return STARTUP_DUPLICATE_PARAM;
        names[names_n++] = name;
        keep_param(s, name, value);
    }
    return rest.n == 0 ? STARTUP_OK : STARTUP_BAD_LAYOUT;
}

static enum startup_rc check_names(struct startup *s)
{
    if (s->user.n == 0)
        return STARTUP_NO_USER;
    if (s->user.n > STARTUP_NAME_MAX)
        return STARTUP_USER_TOO_LONG;
    if (s->database.n == 0)
        s->database = s->user;
    if (s->database.n > STARTUP_NAME_MAX)
        return STARTUP_DATABASE_TOO_LONG;
    return STARTUP_OK;
}

/* body: what follows the protocol; not empty. */
static enum startup_rc read_v3(struct slice body, struct startup *s)
{
    CHECK(body.n > 0);
    if (body.p[body.n - 1] != 0)
        return STARTUP_NO_TERMINATOR;
    s->params = (struct slice){body.p, body.n - 1};
    enum startup_rc rc = read_params(s);
    if (rc != STARTUP_OK)
        return rc;
    s->minor = s->requested_minor >= STARTUP_MINOR_MAX ? STARTUP_MINOR_MAX : 0;
    if (s->minor != s->requested_minor)
        s->needs_negotiation = true;
    return check_names(s);
}

enum startup_rc startup_read(struct slice in, struct startup *out)
{
    struct startup s = {.kind = STARTUP_DIRECT_TLS};
    if (in.n > 0 && in.p[0] == DIRECT_TLS_BYTE) {
        *out = s;
        return STARTUP_OK;
    }
    enum startup_rc rc = read_length(in, &s.total_bytes);
    if (rc != STARTUP_OK)
        return rc;
    if (in.n < HEAD_BYTES)
        return STARTUP_MORE;
    uint32_t code = slice_u32(in.p + 4);
    rc = read_protocol(code, s.total_bytes, &s.kind);
    if (rc != STARTUP_OK)
        return rc;
    if (in.n < s.total_bytes)
        return STARTUP_MORE;
    struct slice body = {in.p + HEAD_BYTES, s.total_bytes - HEAD_BYTES};
    if (s.kind == STARTUP_V3) {
        s.requested_minor = (uint16_t)code;
        rc = read_v3(body, &s);
    } else if (s.kind == STARTUP_CANCEL) {
        s.cancel_pid = slice_u32(body.p);
        s.cancel_key = slice_skip(body, 4);
    }
    if (rc == STARTUP_OK)
        *out = s;
    return rc;
}

/* What each refusal says, and its SQLSTATE as PostgreSQL has it. */
static const struct {
    const char *text, *sqlstate;
} errors[] = {
    [STARTUP_OK] = {"startup packet is complete", "00000"},
    [STARTUP_MORE] = {"incomplete startup packet", "08P01"},
    [STARTUP_TOO_LONG] = {"invalid length of startup packet", "08P01"},
    [STARTUP_TOO_SHORT] = {"invalid length of startup packet", "08P01"},
    [STARTUP_NOT_POSTGRES] = {"this port speaks the PostgreSQL protocol only", "08P01"},
    [STARTUP_OLD_PROTOCOL] = {"old V2 protocol not supported", "0A000"},
    [STARTUP_UNKNOWN_PROTOCOL] = {"unsupported frontend protocol: server supports 3.0 to 3.2",
                                  "0A000"},
    [STARTUP_NO_TERMINATOR] = {"invalid startup packet layout: expected terminator as last byte",
                               "08P01"},
    [STARTUP_BAD_LAYOUT] = {"invalid startup packet layout", "08P01"},
    [STARTUP_NO_USER] = {"no username supplied", "28000"},
    [STARTUP_USER_TOO_LONG] = {"username too long", "08P01"},
    [STARTUP_DATABASE_TOO_LONG] = {"database name too long", "08P01"},
    [STARTUP_TOO_MANY_PARAMS] = {"too many startup parameters", "08P01"},
    [STARTUP_DUPLICATE_PARAM] = {"startup parameter given twice", "08P01"},
};
_Static_assert(sizeof errors / sizeof errors[0] == STARTUP_RC_N, "one row for each startup_rc");

const char *startup_error_text(enum startup_rc rc)
{
    CHECK(rc < STARTUP_RC_N);
    return errors[rc].text;
}

const char *startup_error_sqlstate(enum startup_rc rc)
{
    CHECK(rc < STARTUP_RC_N);
    return errors[rc].sqlstate;
}

/* As isspace() in the C locale, which pg_split_opts() goes by. */
static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Take the next word off *rest and write it without backslashes. END: there is none. */
static enum startup_option_rc take_word(struct slice *rest, struct put *text, struct slice *word)
{
    size_t i = 0, start = text->n;
    while (i < rest->n && is_space(rest->p[i]))
        i++;
    if (i == rest->n)
        return STARTUP_OPTION_END;
    for (; i < rest->n && !is_space(rest->p[i]); i++) {
        if (rest->p[i] == '\\' && ++i == rest->n)
            break; /* a backslash at the very end stands for nothing */
        put_u8(text, rest->p[i]);
    }
    if (text->full)
        return STARTUP_OPTION_TOO_LONG;
    *rest = slice_skip(*rest, i);
    *word = (struct slice){text->p + start, text->n - start};
    return STARTUP_OPTION_OK;
}

static bool has_prefix(struct slice word, const char *prefix)
{
    size_t n = strlen(prefix);
    return word.n >= n && memcmp(word.p, prefix, n) == 0;
}

/* Split "name=value". The bytes are inside text, so the name can be put right in place. */
static bool split_setting(struct slice setting, struct put *text, struct slice *name,
                          struct slice *value)
{
    const uint8_t *equals = setting.n > 0 ? memchr(setting.p, '=', setting.n) : NULL;
    if (equals == NULL || equals == setting.p)
        return false;
    size_t name_n = (size_t)(equals - setting.p);
    uint8_t *at = text->p + (setting.p - text->p);
    for (size_t i = 0; i < name_n; i++) {
        if (at[i] == '-')
            at[i] = '_';
    }
    *name = (struct slice){setting.p, name_n};
    *value = slice_skip(setting, name_n + 1);
    return true;
}

enum startup_option_rc startup_next_option(struct slice *rest, struct put *text, struct slice *name,
                                           struct slice *value)
{
    struct slice left = *rest, word;
    enum startup_option_rc rc = take_word(&left, text, &word);
    if (rc != STARTUP_OPTION_OK)
        return rc;
    if (!has_prefix(word, "-c") && !has_prefix(word, "--"))
        return STARTUP_OPTION_BAD;
    bool next_word = slice_is(word, "-c");
    if (next_word) {
        rc = take_word(&left, text, &word);
        if (rc != STARTUP_OPTION_OK)
            return rc == STARTUP_OPTION_END ? STARTUP_OPTION_BAD : rc;
    } else {
        word = slice_skip(word, 2);
    }
    if (!split_setting(word, text, name, value))
        return STARTUP_OPTION_BAD;
    CHECK(left.n < rest->n); /* progress: CVE-2026-107349 was a loop that made none */
    *rest = left;
    return STARTUP_OPTION_OK;
}
