/* conf/ini.c: PgBouncer's ini grammar, on inih.
 *
 * inih finds sections, names and values. Its reader callback is ours: it counts lines over
 * %include, skips blanks in front, takes the names out (PgBouncer quotes some, inih does not) and
 * reports each broken line, of which inih would only tell the first. So inih sees well-formed lines
 * only.
 */
#include "base/check.h"
#include "conf/loader.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <pthread.h>
#include <stdlib.h>

/* One open file. */
struct layer {
    const char *name;
    char *bytes; /* NULL when the bytes are the caller's */
    size_t n;
    const char *p, *end;
    unsigned line;
};

enum section { SECTION_NONE, SECTION_DATABASES, SECTION_USERS, SECTION_GLOBAL, SECTION_PEERS };

struct reader {
    struct loader *l;
    struct layer layers[CONF_INCLUDE_DEPTH_MAX + 1];
    size_t depth; /* open layers */
    size_t files; /* opened so far */
    struct origin at;
    const char *key; /* of the line that inih was given last */
};

static const struct {
    const char *name;
    enum section section;
} sections[] = {
    {"databases", SECTION_DATABASES}, {"users", SECTION_USERS}, {"pgweir", SECTION_GLOBAL},
    {"pgbouncer", SECTION_GLOBAL},    {"peers", SECTION_PEERS},
};
enum { SECTION_N = sizeof sections / sizeof *sections };

static enum section find_section(const char *name)
{
    for (size_t i = 0; i < SECTION_N; i++)
        if (strcmp(sections[i].name, name) == 0)
            return sections[i].section;
    return SECTION_NONE;
}

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

static struct slice trim(const char *p, const char *end)
{
    while (p < end && blank(*p))
        p++;
    while (p < end && blank(end[-1]))
        end--;
    return (struct slice){(const uint8_t *)p, (size_t)(end - p)};
}

static const char *text_of(struct reader *r, struct slice s)
{
    return arena_text(r->l->arena, (const char *)s.p, s.n);
}

static void push(struct reader *r, const char *name, const char *bytes, size_t n, char *owned)
{
    CHECK(r->depth <= CONF_INCLUDE_DEPTH_MAX);
    struct layer *layer = &r->layers[r->depth++];
    *layer = (struct layer){name, owned, n, bytes, bytes + n, 0};
    if (n >= 3 && memcmp(bytes, "\xEF\xBB\xBF", 3) == 0)
        layer->p += 3;
    r->files++;
}

static void pop(struct reader *r)
{
    CHECK(r->depth > 0);
    struct layer *layer = &r->layers[--r->depth];
    if (layer->bytes)
        loader_drop(layer->bytes, layer->n);
}

/* The next line of the innermost file, trimmed; false at the end of everything. */
static bool next_line(struct reader *r, struct slice *line)
{
    while (r->depth > 0 && r->layers[r->depth - 1].p == r->layers[r->depth - 1].end)
        pop(r);
    if (r->depth == 0)
        return false;
    struct layer *layer = &r->layers[r->depth - 1];
    const char *stop = memchr(layer->p, '\n', (size_t)(layer->end - layer->p));
    *line = trim(layer->p, stop ? stop : layer->end);
    layer->p = stop ? stop + 1 : layer->end;
    layer->line++;
    r->at = (struct origin){layer->name, layer->line, NULL};
    return true;
}

/* Where an included file may be: beside the file that includes it, then where pgweir was started.
 */
static char *open_included(struct reader *r, const char *name, const char **path, size_t *n)
{
    const char *parent = r->layers[r->depth - 1].name;
    const char *slash = strrchr(parent, '/');
    if (name[0] != '/' && slash) {
        size_t folder_n = (size_t)(slash + 1 - parent), name_n = strlen(name);
        char *beside = arena_alloc(r->l->arena, folder_n + name_n + 1);
        memcpy(beside, parent, folder_n);
        memcpy(beside + folder_n, name, name_n);
        char *bytes = loader_read(r->l, beside, n);
        *path = beside;
        if (bytes || errno != ENOENT)
            return bytes;
    }
    *path = name;
    return loader_read(r->l, name, n);
}

static void include(struct reader *r, struct slice rest)
{
    if (rest.n == 0) {
        loader_say(r->l, CONF_ERROR, &r->at, "%include", "names no file");
        return;
    }
    if (r->depth > CONF_INCLUDE_DEPTH_MAX) {
        loader_say(r->l, CONF_ERROR, &r->at, "%include", "more than %d levels deep",
                   CONF_INCLUDE_DEPTH_MAX);
        /* Most likely a circle; leave it instead of walking every way round. */
        while (r->depth > 0)
            pop(r);
        return;
    }
    if (r->files >= CONF_INCLUDE_FILES_MAX) {
        loader_say(r->l, CONF_ERROR, &r->at, "%include", "more than %d files",
                   CONF_INCLUDE_FILES_MAX);
        return;
    }
    size_t n = 0;
    const char *name = text_of(r, rest), *path = name;
    char *bytes = open_included(r, name, &path, &n);
    if (!bytes) {
        loader_say(r->l, CONF_ERROR, &r->at, "%include", "cannot read %.300s: %s", path,
                   strerrordesc_np(errno));
        return;
    }
    push(r, path, bytes, n, bytes);
}

static void directive(struct reader *r, struct slice line)
{
    static const char word[] = "%include";
    const size_t n = sizeof word - 1;
    if (line.n >= n && memcmp(line.p, word, n) == 0 && (line.n == n || blank((char)line.p[n]))) {
        const char *p = (const char *)line.p;
        include(r, trim(p + n, p + line.n));
        return;
    }
    loader_say(r->l, CONF_ERROR, &r->at, "", "unknown directive; only %%include is known");
}

/* A [section] line: judge it, and give inih its bare form. False: nothing to give. */
static bool section_line(struct reader *r, struct slice line, struct slice *out)
{
    const char *p = (const char *)line.p, *end = p + line.n;
    const char *close = memchr(p, ']', line.n);
    struct slice rest = close ? trim(close + 1, end) : SLICE_NONE;
    if (!close || (rest.n && rest.p[0] != ';' && rest.p[0] != '#')) {
        loader_say(r->l, CONF_ERROR, &r->at, "", "expected [section] and nothing behind it");
        return false;
    }
    const char *name = text_of(r, (struct slice){line.p + 1, (size_t)(close - p) - 1});
    *out = (struct slice){line.p, (size_t)(close + 1 - p)};
    if (strcmp(name, "pgbouncer") == 0)
        r->l->conf->flavour = CONF_PGBOUNCER;
    if (find_section(name) == SECTION_PEERS && !r->l->peers_warned) {
        r->l->peers_warned = true;
        loader_say(r->l, CONF_WARNING, &r->at, "[peers]",
                   "not supported yet: cancel requests are not passed on to other processes");
    }
    if (find_section(name) != SECTION_NONE)
        return true;
    struct nearest near = {.word = name};
    struct why hint;
    for (size_t i = 0; i < SECTION_N; i++)
        nearest_offer(&near, sections[i].name);
    loader_say(r->l, CONF_ERROR, &r->at, "", "unknown section [%.40s]%s", name,
               nearest_hint(&near, &hint));
    *out = slice_of("[?]"); /* so that its keys are not taken for another section's */
    return true;
}

/* A quoted name: the quote is doubled inside. Moves *p behind it; NULL when it has no end. */
static const char *quoted_key(struct reader *r, const char **p, const char *end)
{
    const char quote = **p;
    char *name = arena_alloc(r->l->arena, (size_t)(end - *p) + 1);
    size_t n = 0;
    for (const char *q = *p + 1; q < end; q++) {
        if (*q == quote) {
            if (q + 1 == end || q[1] != quote) {
                *p = q + 1;
                return name;
            }
            q++;
        }
        name[n++] = *q;
    }
    return NULL;
}

static const char *plain_key(struct reader *r, const char **p, const char *end)
{
    const char *start = *p, *q = start;
    while (q < end && (isalnum((unsigned char)*q) || strchr("_.*-", *q)))
        q++;
    *p = q;
    return q == start ? NULL : arena_text(r->l->arena, start, (size_t)(q - start));
}

/* A "key = value" line: keep the key, give the value. */
static bool key_line(struct reader *r, struct slice line, struct slice *value)
{
    const char *p = (const char *)line.p, *end = p + line.n;
    bool quoted = *p == '\'' || *p == '"';
    const char *key = quoted ? quoted_key(r, &p, end) : plain_key(r, &p, end);
    while (p < end && blank(*p))
        p++;
    if (!key || p == end || *p != '=') {
        loader_say(r->l, CONF_ERROR, &r->at, "", "expected key = value%s",
                   quoted ? "" : " (other names than [A-Za-z0-9_.*-] need 'quotes')");
        return false;
    }
    r->key = key;
    *value = trim(p + 1, end);
    return true;
}

/* Whether the line can be used at all. */
static bool line_is_sound(struct reader *r, struct slice line)
{
    if (line.n > CONF_LINE_MAX)
        loader_say(r->l, CONF_ERROR, &r->at, "", "line of %zu bytes is too long (at most %d)",
                   line.n, CONF_LINE_MAX);
    else if (memchr(line.p, 0, line.n))
        loader_say(r->l, CONF_ERROR, &r->at, "", "line contains a zero byte");
    else
        return true;
    return false;
}

/* inih's fgets(): one well-formed line into str, or NULL at the end. */
static char *read_line(char *str, int num, void *stream)
{
    struct reader *r = stream;
    struct slice line, out;
    while (next_line(r, &line)) {
        if (line.n == 0 || line.p[0] == ';' || line.p[0] == '#' || !line_is_sound(r, line))
            continue;
        if (line.p[0] == '%') {
            directive(r, line);
            continue;
        }
        bool section = line.p[0] == '[';
        if (section ? !section_line(r, line, &out) : !key_line(r, line, &out))
            continue;
        /* The key itself waits in r->key: inih would cut a quoted one at '=' or ':'. */
        int n = snprintf(str, (size_t)num, "%s%.*s\n", section ? "" : "key=", (int)out.n, out.p);
        CHECK(n > 0 && n < num);
        return str;
    }
    return NULL;
}

/* inih found a key and its value. */
static int on_value(void *user, const char *section, const char *name, const char *value)
{
    (void)name;
    struct reader *r = user;
    struct loader *l = r->l;
    switch (find_section(section)) {
    case SECTION_GLOBAL:
        loader_set(l, r->key, value, &r->at);
        break;
    case SECTION_DATABASES:
        loader_database(l, r->key, value, &r->at);
        break;
    case SECTION_USERS:
        loader_user(l, r->key, value, &r->at);
        break;
    case SECTION_PEERS:
        break;
    case SECTION_NONE:
        if (!*section)
            loader_say(l, CONF_ERROR, &r->at, r->key, "stands before any [section]");
        break;
    }
    return 1;
}

/* Debian builds inih with variables in place of its compile-time options. */
static void set_up_inih(void)
{
    const int room = CONF_LINE_MAX + 16; /* "key=", '\n', NUL, and what inih keeps back */
    ini_max_line = room;
    ini_initial_alloc = room;
    ini_use_stack = false;
    ini_allow_realloc = false;
    ini_allow_inline_comments = false;
    ini_allow_multiline = false;
    ini_allow_no_value = false;
    ini_stop_on_first_error = false;
}

void loader_read_ini(struct loader *l)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_up_inih);
    const struct conf_sources *src = l->src;
    struct reader *r = arena_alloc(l->arena, sizeof *r);
    *r = (struct reader){.l = l};
    const struct origin file = {src->path ? src->path : "configuration", 0, NULL};
    if (src->text) {
        push(r, file.file, src->text, src->text_n, NULL);
    } else if (src->path) {
        size_t n = 0;
        char *bytes = loader_read(l, src->path, &n);
        if (!bytes) {
            loader_say(l, CONF_ERROR, &file, "", "cannot read the file: %s",
                       strerrordesc_np(errno));
            l->unreadable = true;
            return;
        }
        push(r, src->path, bytes, n, bytes);
    }
    int rc = ini_parse_stream(read_line, r, on_value, r);
    if (rc != 0) /* our reader leaves inih nothing to complain about but memory */
        loader_say(l, CONF_ERROR, &file, "", "the ini parser failed (code %d)", rc);
    while (r->depth > 0)
        pop(r);
}
