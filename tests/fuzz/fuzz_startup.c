/* tests/fuzz/fuzz_startup.c: an answer never changes when more bytes come, what is accepted keeps
 * every limit, and the option reader always gets on. Input: what a client sends first. */
#include "base/check.h"
#include "proxy/wire/startup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PREFIXES_MAX 512
#define OPTIONS_MAX 4096

static void check_prefixes(struct slice in, enum startup_rc rc)
{
    bool known = false;
    for (size_t n = 0; n < in.n && n < PREFIXES_MAX; n++) {
        struct startup part;
        enum startup_rc part_rc = startup_read((struct slice){in.p, n}, &part);
        CHECK(part_rc == rc || (part_rc == STARTUP_MORE && !known));
        known = part_rc != STARTUP_MORE;
    }
}

static bool is_inside(struct slice part, struct slice all)
{
    return part.p == NULL || (part.p >= all.p && part.p + part.n <= all.p + all.n);
}

/* Written again from its parameters, it is the same packet. */
static void check_v3(struct slice packet, const struct startup *s)
{
    static uint8_t bytes[STARTUP_BYTES_MAX];
    struct put_param params[STARTUP_PARAMS_MAX];
    struct slice rest = s->params;
    size_t n = 0;
    while (n < STARTUP_PARAMS_MAX && startup_next_param(&rest, &params[n].name, &params[n].value)) {
        CHECK(params[n].name.n > 0);
        n++;
    }
    CHECK(rest.n == 0 && n >= 1);
    CHECK(s->user.n >= 1 && s->user.n <= STARTUP_NAME_MAX);
    CHECK(s->database.n >= 1 && s->database.n <= STARTUP_NAME_MAX);
    CHECK(is_inside(s->user, packet) && is_inside(s->database, packet));
    CHECK(is_inside(s->options, packet) && is_inside(s->replication, packet));
    CHECK(s->minor == 0 || s->minor == STARTUP_MINOR_MAX);
    CHECK(s->minor <= s->requested_minor);
    CHECK(s->needs_negotiation || s->minor == s->requested_minor);
    struct put o = put_into(bytes, sizeof bytes);
    put_startup(&o, s->requested_minor, params, n);
    CHECK(!o.full && slice_equals(put_slice(&o), packet));
}

static void check_options(struct slice options)
{
    static uint8_t text[OPTIONS_MAX];
    struct slice rest = options, name, value;
    if (options.n > OPTIONS_MAX)
        return;
    struct put words = put_into(text, options.n);
    for (;;) {
        size_t before = rest.n;
        enum startup_option_rc rc = startup_next_option(&rest, &words, &name, &value);
        CHECK(rc != STARTUP_OPTION_TOO_LONG);
        if (rc != STARTUP_OPTION_OK)
            return;
        CHECK(rest.n < before && name.n > 0);
        CHECK(is_inside(name, put_slice(&words)) && is_inside(value, put_slice(&words)));
        CHECK(memchr(name.p, '=', name.n) == NULL && memchr(name.p, '-', name.n) == NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct startup s;
    struct slice in = {data, size};
    enum startup_rc rc = startup_read(in, &s);
    check_prefixes(in, rc);
    if (rc == STARTUP_OK) {
        CHECK(s.total_bytes <= size && s.total_bytes <= STARTUP_BYTES_MAX);
        struct slice packet = {data, s.total_bytes};
        if (s.kind == STARTUP_V3)
            check_v3(packet, &s);
        if (s.kind == STARTUP_CANCEL)
            CHECK(s.cancel_key.n >= STARTUP_KEY_MIN && s.cancel_key.n <= STARTUP_KEY_MAX &&
                  is_inside(s.cancel_key, packet));
        if (s.options.p)
            check_options(s.options);
    } else if (rc != STARTUP_MORE) {
        CHECK(startup_error_text(rc) && startup_error_sqlstate(rc));
    }
    if (size > 0)
        check_options(in);
    return 0;
}
