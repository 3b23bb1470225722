/* conf/value.c: read and print numbers, times and sizes as the file writes them. */
#include "conf/value.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct unit {
    const char *name;
    uint64_t size; /* in us, or in bytes */
};

/* From the largest, so that printing finds the shortest form. {0} ends a list. */
static const struct unit time_units[] = {
    {"d", 86400000000},
    {"h", 3600000000},
    {"min", 60000000},
    {"s", 1000000},
    {"ms", 1000},
    {"us", 1},
    {0},
};
static const struct unit size_units[] = {
    {"TB", 1ull << 40}, {"GB", 1ull << 30}, {"MB", 1ull << 20}, {"kB", 1ull << 10}, {"B", 1}, {0},
};

bool value_u64(const char *text, uint64_t *out, struct why *why)
{
    if (*text == '-' && isdigit((unsigned char)text[1]))
        return why_not(why, "must not be negative: %.40s", text);
    if (!isdigit((unsigned char)*text)) /* strtoull would take blanks and a sign */
        return why_not(why, "not a number: \"%.40s\"", text);
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 0);
    if (*end)
        return why_not(
            why, "not a number: \"%.40s\"%s", text,
            *text == '0' && isdigit((unsigned char)text[1]) ? " (a leading 0 means octal)" : "");
    if (errno == ERANGE)
        return why_not(why, "number too large: %.40s", text);
    *out = v;
    return true;
}

bool value_share(const char *text, uint64_t *out, bool *percent, struct why *why)
{
    const char *p = text;
    uint64_t n = 0;
    *percent = strchr(text, '%') != NULL;
    if (!*percent)
        return value_u64(text, out, why);
    for (; isdigit((unsigned char)*p) && n <= 100; p++)
        n = n * 10 + (uint64_t)(*p - '0');
    if (strcmp(p, "%") != 0 || n < 1 || n > 100)
        return why_not(why, "not a percentage: \"%.40s\" (use 1%% to 100%%, or a number)", text);
    *out = n;
    return true;
}

bool value_flag(const char *text, bool *out, struct why *why)
{
    static const char *const words[2][4] = {{"0", "no", "off", "false"},
                                            {"1", "yes", "on", "true"}};
    for (size_t i = 0; i < 8; i++) {
        if (strcasecmp(text, words[i / 4][i % 4]) != 0)
            continue;
        *out = i / 4 == 1;
        return true;
    }
    return why_not(why, "neither yes nor no: \"%.40s\" (use yes, no, on, off, true, false, 1 or 0)",
                   text);
}

/* A decimal number with an optional fraction: whole + part / scale. */
struct decimal {
    uint64_t whole, part, scale;
};

/* Read it and move *text behind it. */
static bool read_decimal(const char **text, struct decimal *d)
{
    const uint64_t whole_max = 1000000000000000000, scale_max = 1000000;
    const char *p = *text;
    size_t digits = 0;
    *d = (struct decimal){.scale = 1};
    for (; isdigit((unsigned char)*p); p++, digits++) {
        d->whole = d->whole * 10 + (uint64_t)(*p - '0');
        if (d->whole > whole_max)
            return false;
    }
    if (*p == '.' && isdigit((unsigned char)p[1])) {
        for (p++; isdigit((unsigned char)*p); p++, digits++) {
            if (d->scale == scale_max)
                continue; /* finer than anything counts */
            d->part = d->part * 10 + (uint64_t)(*p - '0');
            d->scale *= 10;
        }
    }
    *text = p;
    return digits > 0;
}

static const struct unit *find_unit(const struct unit *units, const char *name)
{
    while (units->name && strcmp(units->name, name) != 0)
        units++;
    return units->name ? units : NULL;
}

/* number[fraction][unit], in the smallest unit. */
static bool read_quantity(const char *text, const struct unit *units, const char *bare_unit,
                          uint64_t *out, struct why *why)
{
    if (*text == '-')
        return why_not(why, "must not be negative: %.40s", text);
    struct decimal d;
    const char *p = text;
    if (!read_decimal(&p, &d))
        return why_not(why, "not a number: \"%.40s\"", text);
    while (*p == ' ' || *p == '\t')
        p++;
    const struct unit *unit = find_unit(units, *p ? p : bare_unit);
    if (!unit)
        return why_not(why, "unknown unit \"%.20s\" (use %s)", p,
                       units == time_units ? "us, ms, s, min, h or d" : "B, kB, MB, GB or TB");
    uint64_t whole, part;
    if (__builtin_mul_overflow(d.whole, unit->size, &whole) ||
        __builtin_mul_overflow(d.part, unit->size, &part) ||
        __builtin_add_overflow(whole, (part + d.scale - 1) / d.scale, &whole))
        return why_not(why, "number too large: %.40s", text);
    *out = whole;
    return true;
}

bool value_ms(const char *text, const char *bare_unit, uint64_t *out, struct why *why)
{
    uint64_t us;
    if (!read_quantity(text, time_units, bare_unit, &us, why))
        return false;
    *out = us / 1000 + (us % 1000 != 0);
    return true;
}

bool value_bytes(const char *text, uint64_t *out, struct why *why)
{
    return read_quantity(text, size_units, "B", out, why);
}

/* n counts steps of `step` smallest units. */
static void print_quantity(uint64_t n, uint64_t step, const struct unit *units,
                           char out[VALUE_TEXT_MAX])
{
    for (const struct unit *u = units; n && u->name; u++) {
        uint64_t per = u->size / step;
        if (per == 0 || n % per != 0)
            continue;
        snprintf(out, VALUE_TEXT_MAX, "%" PRIu64 "%s", n / per, u->name);
        return;
    }
    snprintf(out, VALUE_TEXT_MAX, "%" PRIu64, n);
}

void value_print_ms(uint64_t ms, char out[VALUE_TEXT_MAX])
{
    print_quantity(ms, 1000, time_units, out);
}

void value_print_bytes(uint64_t bytes, char out[VALUE_TEXT_MAX])
{
    print_quantity(bytes, 1, size_units, out);
}
