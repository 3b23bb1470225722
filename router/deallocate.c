#include "router/deallocate.h"

#include "router/reader.h"

/* False: too long, or letters whose lower case depends on the encoding. */
static bool take_name(const struct scan_token *t, uint8_t *name, uint8_t *name_n)
{
    bool quoted = t->kind == SCAN_QUOTED;
    if (t->kind != SCAN_WORD && !quoted)
        return false;
    for (size_t i = 0; i < t->text.n; i++) {
        uint8_t c = t->text.p[i];
        if (*name_n == DEALLOCATE_NAME_MAX || (!quoted && c >= 0x80))
            return false;
        name[(*name_n)++] = !quoted && c >= 'A' && c <= 'Z' ? c | 0x20 : c;
        if (quoted && c == '"') /* doubled */
            i++;
    }
    return *name_n > 0;
}

void deallocate_read(struct slice sql, bool standard_conforming_strings, struct deallocate *out)
{
    struct reader r;
    *out = (struct deallocate){.kind = DEALLOCATE_OTHER};
    reader_begin(&r, sql, standard_conforming_strings);
    if (!reader_accept(&r, "deallocate"))
        return;
    struct reader ahead = r;
    if (reader_accept(&ahead, "prepare") &&
        (ahead.token.kind == SCAN_WORD || ahead.token.kind == SCAN_QUOTED))
        r = ahead; /* else the statement is called "prepare" */
    bool all = reader_is_word(&r, "all");
    if (!all && !take_name(&r.token, out->name, &out->name_n))
        return;
    reader_next(&r);
    reader_skip_semicolons(&r);
    if (r.token.kind == SCAN_END)
        out->kind = all ? DEALLOCATE_ALL : DEALLOCATE_ONE;
}

void named_read(struct slice sql, bool standard_conforming_strings, struct named *out)
{
    struct reader r;
    *out = (struct named){.kind = NAMED_OTHER};
    reader_begin(&r, sql, standard_conforming_strings);
    bool executes = reader_accept(&r, "execute");
    if (!executes && !reader_accept(&r, "prepare"))
        return;
    const struct slice text = r.token.text;
    if (!take_name(&r.token, out->name, &out->name_n))
        return;
    bool quoted = r.token.kind == SCAN_QUOTED; /* whose text is what stands between them */
    out->written = quoted ? (struct slice){text.p - 1, text.n + 2} : text;
    out->kind = executes ? NAMED_EXECUTE : NAMED_PREPARE;
}
