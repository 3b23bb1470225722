/* conf/option.c: the option tables, and how one value gets in and out of a struct. */
#include "conf/option.h"

#include "base/check.h"

#include <inttypes.h>
#include <stdlib.h>
#include <strings.h>

_Static_assert(sizeof(enum conf_pool_mode) == sizeof(uint32_t), "enums are stored as u32");

#define WORD(constant, text) {text, constant, WORD_OK},
const struct word pool_mode_words[] = {
    CONF_ENUM_pool_mode(WORD){0},
};
static const struct word auth_type_words[] = {
    CONF_ENUM_auth_type(WORD){"any", 0, WORD_LATER},
    {"cert", 0, WORD_LATER},
    {"hba", 0, WORD_LATER},
    {"ldap", 0, WORD_LATER},
    {"pam", 0, WORD_LATER},
    {0},
};
static const struct word client_sslmode_words[] = {
    CONF_ENUM_client_sslmode(WORD){"verify-ca", 0, WORD_LATER},
    {"verify-full", 0, WORD_LATER},
    {0},
};
/* PgBouncer, too, treats allow as prefer here. */
static const struct word server_sslmode_words[] = {
    CONF_ENUM_server_sslmode(WORD){"allow", CONF_SERVER_TLS_PREFER, WORD_ALIAS},
    {0},
};
static const struct word log_level_words[] = {
    CONF_ENUM_log_level(WORD){"warning", CONF_LOG_WARN, WORD_ALIAS},
    {0},
};
const struct word route_words[] = {CONF_ENUM_route(WORD){0}};
static const struct word log_format_words[] = {CONF_ENUM_log_format(WORD){0}};
const struct word tx_reads_words[] = {CONF_ENUM_tx_reads(WORD){0}};
static const struct word consistency_words[] = {CONF_ENUM_consistency(WORD){0}};
static const struct word balance_words[] = {CONF_ENUM_balance(WORD){0}};
static const struct word primary_reads_words[] = {CONF_ENUM_primary_reads(WORD){0}};
static const struct word queue_discipline_words[] = {CONF_ENUM_queue_discipline(WORD){0}};
const struct word shed_severity_words[] = {CONF_ENUM_shed_severity(WORD){0}};
static const struct word log_routes_words[] = {CONF_ENUM_log_routes(WORD){0}};

#define KIND_flag KIND_FLAG
#define KIND_u32 KIND_U32
#define KIND_ms KIND_MS
#define KIND_bytes KIND_BYTES
#define KIND_share KIND_SHARE
#define KIND_text KIND_TEXT
#define KIND_secret KIND_SECRET
#define MEMBER_flag(name) name
#define MEMBER_u32(name) name
#define MEMBER_ms(name) name##_ms
#define MEMBER_bytes(name) name
#define MEMBER_share(name) name
#define MEMBER_text(name) name
#define MEMBER_secret(name) name
#define RESTART true
#define RELOAD false

const struct option options[OPTION_N] = {
#define OPT(name, kind, weir, bouncer, low, high, unit_text, applies, help_text) \
    [OPTION_##name] = {.field = {#name, KIND_##kind, low, high, unit_text, NULL, \
                                 offsetof(struct conf, MEMBER_##kind(name))},    \
                       .defaults = {weir, bouncer},                              \
                       .unit = unit_text,                                        \
                       .restart = applies,                                       \
                       .help = help_text},
#define OPT_ENUM(name, tag, weir, bouncer, applies, help_text)                                    \
    [OPTION_##                                                                                    \
        name] = {.field = {#name, KIND_ENUM, 0, 0, "", tag##_words, offsetof(struct conf, name)}, \
                 .defaults = {weir, bouncer},                                                     \
                 .unit = "",                                                                      \
                 .restart = applies,                                                              \
                 .help = help_text},
#include "conf/options.def"
};

const struct foreign foreign_keys[FOREIGN_N] = {
#define KEY(name, default_value, state, note) \
    [FOREIGN_##name] = {#name, default_value, state, note},
#include "conf/pgbouncer_keys.def"
};

/* Other names of an option. */
static const struct {
    const char *name;
    enum option_id id;
} aliases[] = {
    {"query_wait_timeout", OPTION_queue_timeout},
};
enum { ALIAS_N = sizeof aliases / sizeof *aliases };

enum option_id option_find(const char *name)
{
    for (enum option_id id = 0; id < OPTION_N; id++)
        if (strcmp(options[id].field.name, name) == 0)
            return id;
    for (size_t i = 0; i < ALIAS_N; i++)
        if (strcmp(aliases[i].name, name) == 0)
            return aliases[i].id;
    return OPTION_N;
}

enum foreign_id foreign_find(const char *name)
{
    enum foreign_id id = 0;
    while (id < FOREIGN_N && strcmp(foreign_keys[id].name, name) != 0)
        id++;
    return id;
}

void option_suggest(struct nearest *nearest)
{
    for (size_t i = 0; i < OPTION_N; i++)
        nearest_offer(nearest, options[i].field.name);
    for (size_t i = 0; i < ALIAS_N; i++)
        nearest_offer(nearest, aliases[i].name);
    for (size_t i = 0; i < FOREIGN_N; i++)
        nearest_offer(nearest, foreign_keys[i].name);
}

static void print_amount(uint64_t v, enum kind kind, char out[VALUE_TEXT_MAX])
{
    if (kind == KIND_MS)
        value_print_ms(v, out);
    else if (kind == KIND_BYTES)
        value_print_bytes(v, out);
    else
        snprintf(out, VALUE_TEXT_MAX, "%" PRIu64, v);
}

static bool within(const struct field *f, uint64_t v, struct why *why)
{
    if (v >= f->min && v <= f->max)
        return true;
    char value[VALUE_TEXT_MAX], bound[VALUE_TEXT_MAX];
    print_amount(v, f->kind, value);
    print_amount(v < f->min ? f->min : f->max, f->kind, bound);
    return why_not(why, "%s is %s %s", value,
                   v < f->min ? "below the minimum" : "above the maximum", bound);
}

static bool text_fits(const struct field *f, const char *text, struct why *why)
{
    size_t n = strlen(text);
    if (n < f->min)
        return why_not(why, "must not be empty");
    if (n > f->max)
        return why_not(why, "%zu bytes are too long (at most %" PRIu64 ")", n, f->max);
    return true;
}

void words_print(const struct word *words, const char *between, const char *last, char *out,
                 size_t size)
{
    size_t used = 0, left = 0;
    for (const struct word *w = words; w->text; w++)
        left += w->state == WORD_OK;
    out[0] = 0;
    for (const struct word *w = words; w->text && used < size; w++) {
        if (w->state != WORD_OK)
            continue;
        left--;
        const char *then = left == 0 ? "" : left == 1 ? last : between;
        int n = snprintf(out + used, size - used, "%s%s", w->text, then);
        CHECK(n > 0);
        used += (size_t)n;
    }
}

static bool find_word(const struct field *f, const char *text, uint32_t *out, struct why *why)
{
    const struct word *w = f->words;
    while (w->text && strcasecmp(w->text, text) != 0)
        w++;
    if (w->text && w->state != WORD_LATER) {
        *out = w->value;
        return true;
    }
    char use[160];
    words_print(f->words, ", ", " or ", use, sizeof use);
    if (w->text)
        return why_not(why, "%s is not supported yet (use %s)", w->text, use);
    return why_not(why, "unknown value \"%.40s\" (use %s)", text, use);
}

static bool read_number(const struct field *f, const char *text, uint64_t *out, struct why *why)
{
    bool ok = f->kind == KIND_MS      ? value_ms(text, f->unit, out, why)
              : f->kind == KIND_BYTES ? value_bytes(text, out, why)
                                      : value_u64(text, out, why);
    return ok && within(f, *out, why);
}

static bool read_share(const struct field *f, const char *text, struct conf_share *out,
                       struct why *why)
{
    uint64_t number;
    bool percent;
    if (!value_share(text, &number, &percent, why) || (!percent && !within(f, number, why)))
        return false;
    *out = (struct conf_share){0};
    *(percent ? &out->percent : &out->n) = (uint32_t)number;
    return true;
}

bool field_set(void *base, const struct field *f, const char *text, struct why *why)
{
    char *at = (char *)base + f->offset;
    uint64_t number = 0;
    uint32_t word = 0;
    struct conf_share share = {0};
    bool flag = false;
    switch (f->kind) {
    case KIND_FLAG:
        if (!value_flag(text, &flag, why))
            return false;
        memcpy(at, &flag, sizeof flag);
        return true;
    case KIND_ENUM:
        if (!find_word(f, text, &word, why))
            return false;
        memcpy(at, &word, sizeof word);
        return true;
    case KIND_U32:
        if (!read_number(f, text, &number, why))
            return false;
        word = (uint32_t)number;
        memcpy(at, &word, sizeof word);
        return true;
    case KIND_SHARE:
        if (!read_share(f, text, &share, why))
            return false;
        memcpy(at, &share, sizeof share);
        return true;
    case KIND_MS:
    case KIND_BYTES:
        if (!read_number(f, text, &number, why))
            return false;
        memcpy(at, &number, sizeof number);
        return true;
    case KIND_TEXT:
    case KIND_SECRET:
        if (!text_fits(f, text, why))
            return false;
        memcpy(at, &text, sizeof text);
        return true;
    }
    CHECK_UNREACHABLE();
}

static const char *word_text(const struct word *words, uint32_t value)
{
    const struct word *w = words;
    while (w->text && (w->state != WORD_OK || w->value != value))
        w++;
    CHECK(w->text);
    return w->text;
}

const char *field_show(const void *base, const struct field *f, char buf[VALUE_TEXT_MAX])
{
    const char *at = (const char *)base + f->offset;
    uint64_t number = 0;
    uint32_t word = 0;
    struct conf_share share;
    bool flag = false;
    const char *text = NULL;
    switch (f->kind) {
    case KIND_FLAG:
        memcpy(&flag, at, sizeof flag);
        return flag ? "1" : "0";
    case KIND_ENUM:
        memcpy(&word, at, sizeof word);
        return word_text(f->words, word);
    case KIND_U32:
        memcpy(&word, at, sizeof word);
        snprintf(buf, VALUE_TEXT_MAX, "%" PRIu32, word);
        return buf;
    case KIND_SHARE:
        memcpy(&share, at, sizeof share);
        snprintf(buf, VALUE_TEXT_MAX, "%" PRIu32 "%s", share.percent ? share.percent : share.n,
                 share.percent ? "%" : "");
        return buf;
    case KIND_MS:
        memcpy(&number, at, sizeof number);
        snprintf(buf, VALUE_TEXT_MAX, "%.12g",
                 (double)number / (strcmp(f->unit, "s") == 0 ? 1000.0 : 1.0));
        return buf;
    case KIND_BYTES:
        memcpy(&number, at, sizeof number);
        snprintf(buf, VALUE_TEXT_MAX, "%" PRIu64, number);
        return buf;
    case KIND_TEXT:
    case KIND_SECRET:
        memcpy(&text, at, sizeof text);
        return f->kind == KIND_SECRET && *text ? "********" : text;
    }
    CHECK_UNREACHABLE();
}

bool field_equal(const void *a, const void *b, const struct field *f)
{
    const char *x = (const char *)a + f->offset, *y = (const char *)b + f->offset;
    const char *s, *t;
    switch (f->kind) {
    case KIND_FLAG:
        return memcmp(x, y, sizeof(bool)) == 0;
    case KIND_ENUM:
    case KIND_U32:
        return memcmp(x, y, sizeof(uint32_t)) == 0;
    case KIND_SHARE:
        return memcmp(x, y, sizeof(struct conf_share)) == 0;
    case KIND_MS:
    case KIND_BYTES:
        return memcmp(x, y, sizeof(uint64_t)) == 0;
    case KIND_TEXT:
    case KIND_SECRET:
        memcpy(&s, x, sizeof s);
        memcpy(&t, y, sizeof t);
        return strcmp(s, t) == 0;
    }
    CHECK_UNREACHABLE();
}
