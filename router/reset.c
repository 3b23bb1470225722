#include "router/reset.h"

#include "router/reader.h"

#include <stdio.h>

static bool add(struct reset *out, size_t *n, struct slice part)
{
    for (size_t i = 0; i < part.n; i++) {
        uint8_t c = part.p[i];
        if (*n + 1 >= RESET_NAME_MAX)
            return false;
        out->name[(*n)++] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    }
    out->name[*n] = '\0';
    return true;
}

/* name.name..., quoted or not: names of settings have no case. */
static bool read_name(struct reader *r, struct reset *out)
{
    size_t n = 0;
    for (;;) {
        if ((r->token.kind != SCAN_WORD && r->token.kind != SCAN_QUOTED) ||
            !add(out, &n, r->token.text))
            return false;
        reader_next(r);
        if (!reader_is_mark(r, '.'))
            return true;
        add(out, &n, slice_of("."));
        reader_next(r);
    }
}

static bool time_zone(struct reader *r, struct reset *out)
{
    if (!reader_is_word(r, "time"))
        return false;
    struct reader ahead = *r;
    reader_next(&ahead);
    if (!reader_accept(&ahead, "zone"))
        return false;
    *r = ahead;
    snprintf(out->name, sizeof out->name, "timezone");
    return true;
}

/* SESSION AUTHORIZATION, which takes the role with it; behind a SESSION that says how long, too. */
static bool session_authorization(struct reader *r, struct reset *out)
{
    struct reader ahead = *r;
    if (!reader_accept(&ahead, "session") || !reader_accept(&ahead, "authorization"))
        return false;
    *r = ahead;
    snprintf(out->name, sizeof out->name, "role");
    return true;
}

static enum reset_kind read_reset(struct reader *r, struct reset *out)
{
    if (time_zone(r, out))
        return RESET_ONE;
    if (session_authorization(r, out))
        return RESET_ONE;
    if (reader_accept(r, "all"))
        return RESET_ALL;
    return read_name(r, out) ? RESET_ONE : RESET_OTHER;
}

static enum reset_kind read_set(struct reader *r, struct reset *out)
{
    bool rights = session_authorization(r, out);
    if (!rights && reader_accept(r, "session"))
        rights = session_authorization(r, out);
    if (rights)
        return reader_accept(r, "default") ? RESET_ONE : RESET_OTHER;
    if (time_zone(r, out))
        return reader_accept(r, "default") || reader_accept(r, "local") ? RESET_ONE : RESET_OTHER;
    if (!read_name(r, out))
        return RESET_OTHER;
    if (reader_is_mark(r, '='))
        reader_next(r);
    else if (!reader_accept(r, "to"))
        return RESET_OTHER;
    return reader_accept(r, "default") ? RESET_ONE : RESET_OTHER;
}

void reset_read(struct slice sql, bool standard_conforming_strings, struct reset *out)
{
    struct reader r;
    *out = (struct reset){.kind = RESET_OTHER};
    reader_begin(&r, sql, standard_conforming_strings);
    enum reset_kind kind = RESET_OTHER;
    if (reader_accept(&r, "reset"))
        kind = read_reset(&r, out);
    else if (reader_accept(&r, "set"))
        kind = read_set(&r, out);
    reader_skip_semicolons(&r);
    if (r.token.kind == SCAN_END)
        out->kind = kind;
}
