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
    for (struct entry e = {0}; entry_next(label_text(label), &e);) {
        if (!changes_parsing(e.name))
            continue;
        size_t pair = (size_t)(e.value + strlen(e.value) + 1 - e.name);
        uint8_t *grown = realloc(label->parse_env, label->parse_env_bytes + pair);
        CHECK(grown != NULL);
        memcpy(grown + label->parse_env_bytes, e.name, pair);
        label->parse_env = grown;
        label->parse_env_bytes += (uint32_t)pair;
    }
}

const char *label_value(const struct label *label, const char *name)
{
    return entry_value(label_text(label), name);
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
    for (struct entry e = {0}; entry_next(label_text(label), &e);) {
        tx_modes_set(&label->tx, slice_of(e.name), slice_of(e.value));
        if (strcmp(e.name, "idle_in_transaction_session_timeout") == 0)
            label->idle_in_tx_ms = time_ms(e.value);
        if (strcmp(e.name, "idle_session_timeout") == 0)
            label->idle_ms = time_ms(e.value);
        if (strcmp(e.name, "search_path") == 0)
            label->temp_first = strncmp(e.value, "pg_temp", 7) == 0;
    }
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

/* False: too many. Later ones replace what is there. */
static bool draft_text(struct label_draft *draft, struct slice text)
{
    for (struct entry e = {0}; entry_next(text, &e);)
        if (!label_draft_set(draft, slice_of(e.name), slice_of(e.value)))
            return false;
    return true;
}

struct label *label_of_text(struct list *labels, struct slice text)
{
    struct label_draft draft = {0};
    CHECK(draft_text(&draft, text)); /* it was a label's */
    return label_find(labels, &draft);
}

struct label *label_over(struct list *labels, struct label *label, const struct label *under)
{
    struct label_draft draft = {0};
    CHECK(draft_text(&draft, label_text(under)));
    return draft_text(&draft, label_text(label)) ? label_find(labels, &draft) : NULL;
}

struct label *label_without(struct list *labels, const struct label *label, const char *name)
{
    struct label_draft draft = {0};
    for (struct entry e = {0}; entry_next(label_text(label), &e);)
        if (strcmp(e.name, name) != 0)
            CHECK(label_draft_set(&draft, slice_of(e.name), slice_of(e.value)));
    return label_find(labels, &draft);
}

/* ---- steps ---- */

struct label_step {
    struct label_step *next; /* in its bucket */
    struct list node;        /* by_age */
    struct label *from, *to; /* references */
    uint32_t bucket;
    uint16_t text_n;
    uint8_t text[];
};

static uint32_t bucket_of(const struct label *from, struct slice text)
{
    uint64_t h = 0xcbf29ce484222325ULL ^ (uintptr_t)from; /* FNV-1a */
    for (size_t i = 0; i < text.n; i++)
        h = (h ^ text.p[i]) * 0x100000001b3ULL;
    return (uint32_t)(h >> 32) % LABEL_STEP_BUCKETS;
}

void label_steps_init(struct label_steps *steps)
{
    memset(steps, 0, sizeof *steps);
    list_init(&steps->by_age);
}

static void drop_oldest(struct label_steps *steps)
{
    struct label_step *step = LIST_ENTRY(steps->by_age.next, struct label_step, node);
    struct label_step **at = &steps->buckets[step->bucket];
    while (*at != step)
        at = &(*at)->next;
    *at = step->next;
    list_remove(&step->node);
    label_unref(step->from);
    label_unref(step->to);
    free(step);
    steps->n--;
}

void label_steps_clear(struct label_steps *steps)
{
    while (steps->n > 0)
        drop_oldest(steps);
}

struct label *label_steps_find(const struct label_steps *steps, const struct label *from,
                               struct slice text)
{
    for (struct label_step *s = steps->buckets[bucket_of(from, text)]; s; s = s->next)
        if (s->from == from && slice_equals((struct slice){s->text, s->text_n}, text))
            return s->to;
    return NULL;
}

void label_steps_add(struct label_steps *steps, struct label *from, struct label *to,
                     struct slice text)
{
    CHECK(text.n <= LABEL_STEP_TEXT_MAX);
    if (label_steps_find(steps, from, text))
        return;
    if (steps->n >= LABEL_STEPS_MAX)
        drop_oldest(steps);
    struct label_step *step = malloc(sizeof *step + text.n);
    CHECK(step != NULL);
    step->from = label_ref(from);
    step->to = label_ref(to);
    step->bucket = bucket_of(from, text);
    step->text_n = (uint16_t)text.n;
    memcpy(step->text, text.p, text.n);
    step->next = steps->buckets[step->bucket];
    steps->buckets[step->bucket] = step;
    list_push_back(&steps->by_age, &step->node);
    steps->n++;
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

/* ---- custom settings ---- */

/* Quotes count as part of a name, and are left out of it. */
static bool is_name_byte(uint8_t c, bool first)
{
    return (unsigned)((c | 0x20) - 'a') < 26 || c == '_' || c == '"' ||
           (!first && ((unsigned)(c - '0') < 10 || c == '$'));
}

/* The length of a name with dots that starts here; 0: none does. */
static size_t dotted_name(struct slice text)
{
    size_t n = 0, dots = 0;
    for (bool first = true; n < text.n; n++) {
        bool dot = text.p[n] == '.' && !first;
        if (!dot && !is_name_byte(text.p[n], first))
            break;
        dots += dot;
        first = dot;
    }
    return dots > 0 && text.p[n - 1] != '.' ? n : 0;
}

const char *custom_settings_next(const struct custom_settings *custom, const char *name)
{
    if (custom->n == 0)
        return NULL;
    name = name ? name + strlen(name) + 1 : custom->text;
    return name == custom->text + custom->bytes ? NULL : name;
}

static bool add_custom(struct custom_settings *custom, struct slice name)
{
    char lower[CUSTOM_NAME_MAX + 1];
    size_t n = 0;
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] != '"')
            lower[n++] =
                (char)(name.p[i] >= 'A' && name.p[i] <= 'Z' ? name.p[i] | 0x20 : name.p[i]);
    lower[n++] = '\0';
    for (const char *at = NULL; (at = custom_settings_next(custom, at));)
        if (strcmp(at, lower) == 0)
            return true;
    if (custom->n == CUSTOM_SETTINGS_MAX)
        return false;
    custom->text = realloc(custom->text, custom->bytes + n);
    CHECK(custom->text != NULL);
    memcpy(custom->text + custom->bytes, lower, n);
    custom->bytes += (uint32_t)n;
    custom->n++;
    return true;
}

bool custom_settings_read(struct custom_settings *custom, struct slice text)
{
    bool before = false; /* the byte before could belong to a name */
    for (size_t i = 0; i < text.n; i++) {
        size_t n = before ? 0 : dotted_name(slice_skip(text, i));
        before = is_name_byte(text.p[i], false) || text.p[i] == '.';
        if (n > 0 && n <= CUSTOM_NAME_MAX && !add_custom(custom, (struct slice){text.p + i, n}))
            return false;
    }
    return true;
}

bool custom_settings_of_label(struct custom_settings *custom, const struct label *label)
{
    bool all = true;
    for (struct entry e = {0}; entry_next(label_text(label), &e);)
        if (strchr(e.name, '.'))
            all = custom_settings_read(custom, slice_of(e.name)) && all;
    return all;
}

void custom_settings_free(struct custom_settings *custom)
{
    free(custom->text);
    *custom = (struct custom_settings){0};
}
