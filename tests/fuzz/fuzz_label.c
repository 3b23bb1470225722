/* tests/fuzz/fuzz_label.c: labels, their SQL, what a client was told, names of custom settings. Input: pairs of fields, each a
 * byte for its length and so many bytes (0xFE: the next byte, 1000 times); one without a name begins the second set.
 *
 * What must hold: a set is one object, however it was made, up to LABEL_BYTES_MAX; a label over another has the values of both,
 * its own first; the SQL fits, is read alike under any way to write strings, and sets just these values; what a client is told
 * makes what it knew what is.
 */
#include "base/check.h"
#include "proxy/pool/label.h"
#include "proxy/pool/told.h"
#include "proxy/wire/frame.h"
#include "proxy/wire/take.h"
#include "router/scan.h"

#include <stdlib.h>
#include <strings.h>

#define PAIRS_MAX 80
#define LONG_BYTES 1000
#define TEXT_MAX (PAIRS_MAX * 2 * (LONG_BYTES + 8))

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct pairs {
    struct put_param of[PAIRS_MAX];
    unsigned n;
};

/* No NUL: names and values are C strings wherever they come from. */
static struct slice take_field(struct slice *in)
{
    const uint8_t head = in->n > 0 ? in->p[0] : 0;
    const bool is_long = head == 0xFE && in->n > 1;
    *in = in->n > 0 ? slice_skip(*in, 1) : *in;
    size_t n = is_long ? LONG_BYTES : head < in->n ? head : in->n;
    uint8_t *block = malloc(n + 1);
    CHECK(block != NULL);
    for (size_t i = 0; i < n; i++) {
        const uint8_t c = in->p[is_long ? 0 : i];
        block[i] = c ? c : 'a';
    }
    block[n] = '\0';
    *in = n > 0 ? slice_skip(*in, is_long ? 1 : n) : *in;
    return (struct slice){block, n};
}

static void read_pairs(struct slice *in, struct pairs *pairs)
{
    pairs->n = 0;
    while (in->n > 0 && pairs->n < PAIRS_MAX) {
        struct slice name = take_field(in);
        if (name.n == 0) {
            free((void *)(uintptr_t)name.p);
            return;
        }
        pairs->of[pairs->n++] = (struct put_param){name, take_field(in)};
    }
}

static void free_pairs(struct pairs *pairs)
{
    for (unsigned i = 0; i < pairs->n; i++) {
        free((void *)(uintptr_t)pairs->of[i].name.p);
        free((void *)(uintptr_t)pairs->of[i].value.p);
    }
}

static bool same_name(struct slice a, const char *b)
{
    return strlen(b) == a.n && strncasecmp((const char *)a.p, b, a.n) == 0;
}

/* The last one of this name counts. */
static bool has_value(const struct pairs *pairs, const char *name, const char *value)
{
    for (unsigned i = pairs->n; i > 0; i--)
        if (same_name(pairs->of[i - 1].name, name))
            return slice_is(pairs->of[i - 1].value, value);
    return false;
}

/* NULL: too much. */
static struct label *label_of(struct list *labels, const struct pairs *pairs)
{
    struct label_draft draft = {0};
    for (unsigned i = 0; i < pairs->n; i++)
        if (!label_draft_set(&draft, pairs->of[i].name, pairs->of[i].value)) {
            CHECK(draft.n == LABEL_ENTRIES_MAX);
            return NULL;
        }
    return label_find(labels, &draft);
}

static const char *next_pair(const char *at, const char **value)
{
    *value = at + strlen(at) + 1;
    return *value + strlen(*value) + 1;
}

static void check_label(struct list *labels, struct label *label, const struct pairs *pairs)
{
    const char *at = (const char *)label->text, *end = at + label->bytes, *value, *before = "";
    CHECK(label->bytes <= LABEL_BYTES_MAX);
    while (at < end) {
        const char *name = at;
        at = next_pair(at, &value);
        CHECK(strcasecmp(before, name) < 0 || *before == '\0'); /* sorted, none twice */
        CHECK(has_value(pairs, name, value) && strcmp(label_value(label, name), value) == 0);
        before = name;
    }
    CHECK(at == end);
    struct label *again = label_of_text(labels, (struct slice){label->text, label->bytes});
    CHECK(again == label);
    label_unref(again);
}

static void check_over(struct list *labels, struct label *over, const struct label *under)
{
    struct label *both = label_over(labels, over, under);
    if (!both)
        return;
    const char *at = (const char *)both->text, *end = at + both->bytes, *value;
    while (at < end) {
        const char *name = at, *own = label_value(over, name);
        at = next_pair(at, &value);
        CHECK(strcmp(own ? own : label_value(under, name), value) == 0);
    }
    CHECK(both->bytes >= over->bytes);
    label_unref(both);
}

/* ---- SQL ---- */

/* The tokens of the text, read in both ways; false: they differ, or are bad. */
static bool reads_alike(struct slice sql)
{
    struct scan a, b;
    struct scan_token x, y;
    scan_init(&a, sql, true);
    scan_init(&b, sql, false);
    do {
        scan_next(&a, &x);
        scan_next(&b, &y);
        if (x.kind != y.kind || x.kind == SCAN_BAD || x.text.p != y.text.p || x.text.n != y.text.n)
            return false;
        for (size_t i = 0; i < x.text.n; i++)
            if (x.text.p[i] >= 0x80 && x.kind != SCAN_STRING)
                return false;
    } while (x.kind != SCAN_END);
    return true;
}

static unsigned count(struct slice sql, const char *what)
{
    unsigned n = 0;
    const uint8_t *at = sql.p, *end = sql.p + sql.n;
    while ((at = memmem(at, (size_t)(end - at), what, strlen(what))) != NULL) {
        at++;
        n++;
    }
    return n;
}

static unsigned entries_of(const struct label *label)
{
    const char *at = (const char *)label->text, *end = at + label->bytes, *value;
    unsigned n = 0;
    for (; at < end; n++)
        at = next_pair(at, &value);
    return n;
}

static void check_sql(const struct label *from, const struct label *to)
{
    static uint8_t text[LABEL_SQL_MAX - 64]; /* as lease.c has it */
    struct put o = put_into(text, sizeof text);
    CHECK(label_sql(from, to, &o) && !o.full);
    CHECK(reads_alike(put_slice(&o)));
    if (!from)
        CHECK(count(put_slice(&o), "set_config(") >= entries_of(to));
    for (size_t i = 0; i < o.n; i++)
        CHECK(o.p[i] < 0x80 && o.p[i] != 0);
}

/* ---- told ---- */

static struct told *told_of(struct list *tolds, const struct pairs *pairs)
{
    static uint8_t bytes[TEXT_MAX];
    struct put o = put_into(bytes, sizeof bytes);
    for (unsigned i = 0; i < pairs->n; i++)
        put_param_status(&o, pairs->of[i].name, pairs->of[i].value);
    CHECK(!o.full);
    return told_find(tolds, put_slice(&o));
}

/* Of a name that is there twice, the first counts: servers' names are unique. */
static const char *told_value(const struct told *told, const char *name)
{
    const char *at = (const char *)told->text, *end = at + told->bytes, *value;
    while (at < end) {
        const char *is = at;
        at = next_pair(at, &value);
        if (strcmp(is, name) == 0)
            return value;
    }
    return NULL;
}

static void check_told(const struct told *was, const struct told *is)
{
    static uint8_t bytes[TEXT_MAX];
    struct put o = put_into(bytes, sizeof bytes);
    struct slice name, value;
    told_difference(was, is, &o);
    CHECK(!o.full && (was != is || o.n == 0 || is->bytes > 0));
    for (struct slice rest = put_slice(&o); rest.n > 0;) {
        const size_t n = 1 + (size_t)slice_u32(rest.p + 1);
        struct slice body = {rest.p + FRAME_HEAD_BYTES, n - FRAME_HEAD_BYTES};
        CHECK(*rest.p == 'S' && n <= rest.n);
        CHECK(take_cstr(&body, &name) && take_cstr(&body, &value) && body.n == 0);
        CHECK(!slice_is(name, "in_hot_standby"));
        const char *known = told_value(was, (const char *)name.p);
        CHECK(!known || !slice_is(value, known));
        rest = slice_skip(rest, n);
    }
}

/* ---- custom settings ---- */

static void check_custom(const struct pairs *pairs)
{
    struct custom_settings custom = {0};
    bool all = true;
    for (unsigned i = 0; i < pairs->n; i++)
        all = custom_settings_read(&custom, pairs->of[i].value) && all;
    CHECK(custom.n <= CUSTOM_SETTINGS_MAX && (all || custom.n == CUSTOM_SETTINGS_MAX));
    unsigned n = 0;
    for (const char *at = NULL; (at = custom_settings_next(&custom, at)); n++) {
        CHECK(strchr(at, '.') && strlen(at) <= CUSTOM_NAME_MAX);
        for (const char *c = at; *c; c++)
            CHECK((uint8_t)*c < 0x80 && (*c < 'A' || *c > 'Z') && *c != '\'' && *c != '\\');
    }
    CHECK(n == custom.n);
    custom_settings_free(&custom);
}

static void check_steps(struct label *from, struct label *to, struct slice text)
{
    struct label_steps steps;
    if (text.n == 0 || text.n > LABEL_STEP_TEXT_MAX)
        return;
    label_steps_init(&steps);
    CHECK(label_steps_find(&steps, from, text) == NULL);
    label_steps_add(&steps, from, to, text);
    label_steps_add(&steps, to, from, text);
    CHECK(label_steps_find(&steps, from, text) == to);
    CHECK(from == to || label_steps_find(&steps, to, text) == from);
    CHECK(label_steps_find(&steps, from, (struct slice){text.p, text.n - 1}) == NULL);
    label_steps_clear(&steps);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct pairs a, b;
    struct slice in = {data, size};
    struct list labels, tolds;
    list_init(&labels);
    list_init(&tolds);
    read_pairs(&in, &a);
    read_pairs(&in, &b);
    struct label *one = label_of(&labels, &a), *two = label_of(&labels, &b);
    if (one)
        check_label(&labels, one, &a);
    if (two)
        check_label(&labels, two, &b);
    if (one && two) {
        check_over(&labels, one, two);
        check_sql(NULL, one);
        check_sql(NULL, two);
        check_sql(one, two);
        check_sql(two, one);
        check_steps(one, two, a.n > 0 ? a.of[0].value : SLICE_NONE);
    }
    struct told *was = told_of(&tolds, &a), *is = told_of(&tolds, &b);
    check_told(was, is);
    check_custom(&a);
    label_unref(one);
    label_unref(two);
    told_unref(was);
    told_unref(is);
    CHECK(list_empty(&labels) && list_empty(&tolds));
    free_pairs(&a);
    free_pairs(&b);
    return 0;
}
