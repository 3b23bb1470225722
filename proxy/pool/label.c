#include "proxy/pool/label.h"

#include "base/check.h"

#include <stdlib.h>
#include <strings.h>

static int compare_names(struct slice a, struct slice b)
{
    int order = strncasecmp((const char *)a.p, (const char *)b.p, a.n < b.n ? a.n : b.n);
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

bool label_draft_set(struct label_draft *draft, struct slice name, struct slice value)
{
    unsigned at = 0;
    while (at < draft->n && compare_names(draft->entries[at].name, name) < 0)
        at++;
    if (at < draft->n && compare_names(draft->entries[at].name, name) == 0) {
        draft->entries[at].value = value;
        return true;
    }
    if (draft->n == LABEL_ENTRIES_MAX)
        return false;
    memmove(&draft->entries[at + 1], &draft->entries[at], (draft->n - at) * sizeof *draft->entries);
    draft->entries[at] = (struct put_param){name, value};
    draft->n++;
    return true;
}

static void write_text(struct label *label, const struct label_draft *draft)
{
    struct put o = put_into(label->text, label->bytes);
    for (unsigned i = 0; i < draft->n; i++) {
        size_t start = o.n;
        put_cstr(&o, draft->entries[i].name);
        for (; start < o.n; start++)
            if (o.p[start] >= 'A' && o.p[start] <= 'Z')
                o.p[start] = (uint8_t)(o.p[start] | 0x20);
        put_cstr(&o, draft->entries[i].value);
    }
    CHECK(!o.full && o.n == label->bytes);
}

/* Settings under which the same text may mean another statement (spec/pooling.md 2.3, Identity). */
static bool changes_parsing(const char *name)
{
    static const char *const names[] = {"client_encoding", "standard_conforming_strings",
                                        "backslash_quote", "search_path"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static void find_parse_env(struct label *label)
{
    const char *at = (const char *)label->text, *end = at + label->bytes;
    while (at < end) {
        size_t pair = strlen(at) + 1;
        pair += strlen(at + pair) + 1;
        if (changes_parsing(at)) {
            uint8_t *grown = realloc(label->parse_env, label->parse_env_bytes + pair);
            CHECK(grown != NULL);
            memcpy(grown + label->parse_env_bytes, at, pair);
            label->parse_env = grown;
            label->parse_env_bytes += (uint32_t)pair;
        }
        at += pair;
    }
}

const char *label_value(const struct label *label, const char *name)
{
    const char *at = (const char *)label->text, *end = at + label->bytes;
    while (at < end) {
        const char *value = at + strlen(at) + 1;
        if (strcmp(at, name) == 0)
            return value;
        at = value + strlen(value) + 1;
    }
    return NULL;
}

/* A time as PostgreSQL takes it: a number of ms, or with a unit. 0: none, or not understood. */
static uint64_t time_ms(const char *text)
{
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"", 1}, {"ms", 1}, {"s", 1000}, {"min", 60000}, {"h", 3600000}, {"d", 86400000}};
    char *unit;
    unsigned long long n = strtoull(text, &unit, 10);
    while (*unit == ' ')
        unit++;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(unit, units[i].unit) == 0)
            return n > INT32_MAX ? 0 : n * units[i].ms;
    return 0;
}

/* What pgweir itself has to know of it. */
static void read_label(struct label *label)
{
    const char *at = (const char *)label->text, *end = at + label->bytes;
    while (at < end) {
        const char *value = at + strlen(at) + 1;
        tx_modes_set(&label->tx, slice_of(at), slice_of(value));
        if (strcmp(at, "idle_in_transaction_session_timeout") == 0)
            label->idle_in_tx_ms = time_ms(value);
        at = value + strlen(value) + 1;
    }
}

static bool is_among(struct slice name, const struct put_param *changes, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (compare_names(name, changes[i].name) == 0)
            return true;
    return false;
}

struct label *label_change(struct list *labels, const struct label *from,
                           const struct put_param *changes, unsigned n)
{
    struct label_draft draft = {0};
    const char *at = (const char *)from->text, *end = at + from->bytes;
    while (at < end) {
        const char *value = at + strlen(at) + 1;
        if (!is_among(slice_of(at), changes, n))
            CHECK(label_draft_set(&draft, slice_of(at), slice_of(value)));
        at = value + strlen(value) + 1;
    }
    for (unsigned i = 0; i < n; i++)
        if (changes[i].value.p && !label_draft_set(&draft, changes[i].name, changes[i].value))
            return NULL;
    return label_find(labels, &draft);
}

struct label *label_find(struct list *labels, struct label_draft *draft)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < draft->n; i++)
        bytes += draft->entries[i].name.n + draft->entries[i].value.n + 2;
    if (bytes > LABEL_BYTES_MAX)
        return NULL;
    struct label *label = calloc(1, sizeof *label + bytes);
    CHECK(label != NULL);
    list_init(&label->node);
    label->refs = 1;
    label->bytes = (uint32_t)bytes;
    write_text(label, draft);
    for (struct list *n = labels->next; n != labels; n = n->next) {
        struct label *other = LIST_ENTRY(n, struct label, node);
        if (other->bytes == bytes && memcmp(other->text, label->text, bytes) == 0) {
            free(label);
            return label_ref(other);
        }
    }
    find_parse_env(label);
    read_label(label);
    list_push_front(labels, &label->node);
    return label;
}

struct label *label_ref(struct label *label)
{
    label->refs++;
    return label;
}

void label_unref(struct label *label)
{
    if (!label)
        return;
    CHECK(label->refs > 0);
    if (--label->refs > 0)
        return;
    list_remove(&label->node);
    free(label->greeting);
    free(label->parse_env);
    free(label);
}

void label_set_greeting(struct label *label, struct slice messages)
{
    free(label->greeting);
    label->greeting = malloc(messages.n ? messages.n : 1);
    CHECK(label->greeting != NULL);
    memcpy(label->greeting, messages.p, messages.n);
    label->greeting_bytes = (uint32_t)messages.n;
}

/* E'...' reads the same whatever standard_conforming_strings says. */
static void put_literal(struct put *out, const char *text)
{
    put_bytes(out, slice_of("E'"));
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            put_u8(out, (uint8_t)*text);
        put_u8(out, (uint8_t)*text);
    }
    put_bytes(out, slice_of("'"));
}

bool label_sql(const struct label *label, struct put *out)
{
    put_bytes(out, slice_of(LABEL_SQL_FIRST "RESET SESSION AUTHORIZATION;RESET ALL"));
    const char *at = (const char *)label->text, *end = at + label->bytes;
    while (at < end) {
        const char *value = at + strlen(at) + 1;
        put_bytes(out, slice_of(";SELECT pg_catalog.set_config("));
        put_literal(out, at);
        put_bytes(out, slice_of(","));
        put_literal(out, value);
        put_bytes(out, slice_of(",false)"));
        at = value + strlen(value) + 1;
    }
    return !out->full;
}
