#include "router/deallocate.h"

#include "router/scan.h"

#include <string.h>
#include <strings.h>

static bool is_word(const struct scan_token *t, const char *word)
{
    return t->kind == SCAN_WORD && t->text.n == strlen(word) &&
           strncasecmp((const char *)t->text.p, word, t->text.n) == 0;
}

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

static bool ends(struct scan *scan)
{
    struct scan_token t;
    do
        scan_next(scan, &t);
    while (t.kind == SCAN_PUNCT && *t.text.p == ';');
    return t.kind == SCAN_END;
}

void deallocate_read(struct slice sql, bool standard_conforming_strings, struct deallocate *out)
{
    struct scan scan;
    struct scan_token t;
    *out = (struct deallocate){.kind = DEALLOCATE_OTHER};
    scan_init(&scan, sql, standard_conforming_strings);
    do
        scan_next(&scan, &t);
    while (t.kind == SCAN_PUNCT && *t.text.p == ';');
    if (!is_word(&t, "deallocate"))
        return;
    scan_next(&scan, &t);
    if (is_word(&t, "prepare")) {
        struct scan at = scan;
        scan_next(&at, &t);
        if (t.kind == SCAN_WORD || t.kind == SCAN_QUOTED)
            scan = at;
        else /* the statement is called "prepare" */
            t = (struct scan_token){SCAN_WORD, {(const uint8_t *)"prepare", 7}};
    }
    bool all = is_word(&t, "all");
    if ((all || take_name(&t, out)) && ends(&scan))
        out->kind = all ? DEALLOCATE_ALL : DEALLOCATE_ONE;
}
