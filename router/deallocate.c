#include "router/deallocate.h"

#include "router/reader.h"

/* False: too long, or letters whose lower case depends on the encoding. */
static bool take_name(const struct scan_token *t, struct deallocate *out)
{
    bool quoted = t->kind == SCAN_QUOTED;
    if (t->kind != SCAN_WORD && !quoted)
        return false;
    for (size_t i = 0; i < t->text.n; i++) {
        uint8_t c = t->text.p[i];
        if (out->name_n == DEALLOCATE_NAME_MAX || (!quoted && c >= 0x80))
            return false;
        out->name[out->name_n++] = !quoted && c >= 'A' && c <= 'Z' ? c | 0x20 : c;
        if (quoted && c == '"') /* doubled */
            i++;
    }
    return out->name_n > 0;
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
    if (!all && !take_name(&r.token, out))
        return;
    reader_next(&r);
    reader_skip_semicolons(&r);
    if (r.token.kind == SCAN_END)
        out->kind = all ? DEALLOCATE_ALL : DEALLOCATE_ONE;
}
