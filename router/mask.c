/* router/mask.c: each literal becomes a question mark. */
#include "router/mask.h"

#include "base/utf8.h"
#include "router/scan.h"

struct masked {
    char *out;
    size_t n, cap;
    bool full;
};

static void add(struct masked *m, struct slice bytes)
{
    m->full = m->full || bytes.n > m->cap - m->n;
    if (m->full)
        return;
    memcpy(m->out + m->n, bytes.p, bytes.n);
    m->n += bytes.n;
}

/* Character by character, so that a cut is between two. */
static void add_text(struct masked *m, struct slice text)
{
    while (text.n > 0 && !m->full) {
        struct slice c = {text.p, utf8_bytes(text)};
        bool bad = c.n == 0 || utf8_is_control(c);
        add(m, bad ? slice_of("?") : c);
        text = slice_skip(text, c.n ? c.n : 1);
    }
}

size_t sql_mask(struct slice sql, bool standard_conforming_strings, char *out, size_t cap)
{
    struct masked m = {.out = out, .cap = cap};
    struct scan scan;
    struct scan_token t;
    const uint8_t *behind = sql.p; /* the token before */
    scan_init(&scan, sql, standard_conforming_strings);
    for (scan_next(&scan, &t); t.kind != SCAN_END && t.kind != SCAN_BAD && !m.full;
         scan_next(&scan, &t)) {
        const uint8_t *from = t.kind == SCAN_QUOTED ? t.text.p - 1 : t.text.p;
        if (from > behind && m.n > 0)
            add(&m, slice_of(" "));
        behind = t.kind == SCAN_QUOTED ? t.text.p + t.text.n + 1 : t.text.p + t.text.n;
        if (t.kind == SCAN_STRING || t.kind == SCAN_NUMBER)
            add(&m, slice_of("?"));
        else
            add_text(&m, (struct slice){from, (size_t)(behind - from)});
    }
    return m.n;
}
