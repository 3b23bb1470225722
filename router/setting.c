#include "router/setting.h"

#include "router/reader.h"

static bool is_end(const struct reader *r)
{
    return r->token.kind == SCAN_END || reader_is_mark(r, ';');
}

bool setting_is_ours(struct slice name)
{
    size_t n = sizeof SETTING_PREFIX - 1;
    return name.n >= n && strncasecmp((const char *)name.p, SETTING_PREFIX, n) == 0;
}

static void add_to_name(struct setting_statement *out, struct slice part)
{
    for (size_t i = 0; i < part.n && out->name_n < SETTING_NAME_MAX; i++) {
        uint8_t c = part.p[i];
        out->name[out->name_n++] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    }
    out->name[out->name_n] = '\0';
}

/* name.name..., quoted or not: GUC names have no case. False: no name. */
static bool read_name(struct reader *r, struct setting_statement *out)
{
    for (;;) {
        if (r->token.kind != SCAN_WORD && r->token.kind != SCAN_QUOTED)
            return false;
        add_to_name(out, r->token.text);
        reader_next(r);
        if (!reader_is_mark(r, '.'))
            return true;
        add_to_name(out, slice_of("."));
        reader_next(r);
    }
}

/* A string constant without its quotes. What has an escape or a prefix is no value of ours: it stays as it is. */
static struct slice unquoted(struct slice text)
{
    uint8_t quote = *text.p;
    size_t edge = 1;
    if (quote == '$') /* $tag$ ... $tag$ */
        edge += (size_t)((const uint8_t *)memchr(text.p + 1, '$', text.n - 1) - text.p);
    else if (quote != '\'')
        return text;
    return (struct slice){text.p + edge, text.n - 2 * edge};
}

static bool read_value(struct reader *r, struct setting_statement *out)
{
    enum scan_kind kind = r->token.kind;
    const uint8_t *sign = NULL;
    if (reader_is_mark(r, '-') || reader_is_mark(r, '+')) {
        sign = r->token.text.p;
        reader_next(r);
        kind = r->token.kind == SCAN_NUMBER ? SCAN_NUMBER : SCAN_BAD;
    }
    if (kind != SCAN_STRING && kind != SCAN_WORD && kind != SCAN_QUOTED && kind != SCAN_NUMBER)
        return false;
    struct slice text = r->token.text;
    if (sign)
        text = (struct slice){sign, (size_t)(text.p + text.n - sign)};
    out->value = kind == SCAN_STRING ? unquoted(text) : text;
    reader_next(r);
    return true;
}

static enum setting_kind read_set(struct reader *r, struct setting_statement *out)
{
    bool local = reader_accept(r, "local");
    if (!local)
        reader_accept(r, "session");
    if (!read_name(r, out) || !setting_is_ours(slice_of(out->name)))
        return SETTING_NONE;
    if (!reader_accept(r, "to")) {
        if (!reader_is_mark(r, '='))
            return SETTING_MALFORMED;
        reader_next(r);
    }
    if (reader_accept(r, "default"))
        return local ? SETTING_LOCAL_DEFAULT : SETTING_DEFAULT;
    if (!read_value(r, out))
        return SETTING_MALFORMED;
    if (reader_is_mark(r, ','))
        return SETTING_LIST;
    return local ? SETTING_SET_LOCAL : SETTING_SET;
}

static enum setting_kind read_one(struct reader *r, struct setting_statement *out)
{
    enum setting_kind kind = SETTING_NONE;
    *out = (struct setting_statement){0};
    if (reader_accept(r, "set")) {
        kind = read_set(r, out);
    } else if (reader_accept(r, "reset")) {
        if (reader_accept(r, "all"))
            kind = SETTING_RESET_ALL;
        else if (read_name(r, out) && setting_is_ours(slice_of(out->name)))
            kind = SETTING_RESET;
    } else if (reader_accept(r, "show")) {
        if (read_name(r, out) && setting_is_ours(slice_of(out->name)))
            kind = SETTING_SHOW;
    }
    if (kind == SETTING_NONE || kind == SETTING_LIST || is_end(r))
        return kind;
    return kind == SETTING_RESET_ALL || r->token.kind == SCAN_BAD ? SETTING_NONE
                                                                  : SETTING_MALFORMED;
}

void setting_read(struct slice sql, bool standard_conforming_strings, struct setting_statement *out)
{
    struct reader r;
    reader_begin(&r, sql, standard_conforming_strings);
    out->kind = read_one(&r, out);
    if (out->kind == SETTING_NONE || out->kind == SETTING_LIST)
        return;
    reader_skip_semicolons(&r);
    if (r.token.kind != SCAN_END && out->kind != SETTING_MALFORMED)
        out->kind = out->kind == SETTING_RESET_ALL ? SETTING_NONE : SETTING_MIXED;
}

bool setting_within(struct slice sql, bool standard_conforming_strings)
{
    struct reader r;
    reader_begin(&r, sql, standard_conforming_strings);
    while (r.token.kind != SCAN_END && r.token.kind != SCAN_BAD) {
        struct setting_statement one;
        enum setting_kind kind = read_one(&r, &one);
        if (kind != SETTING_NONE && kind != SETTING_SHOW && kind != SETTING_RESET_ALL)
            return true;
        while (!is_end(&r) && r.token.kind != SCAN_BAD)
            reader_next(&r);
        reader_skip_semicolons(&r);
    }
    return false;
}
