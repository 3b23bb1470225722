/* conf/message.c: messages of a load, and suggestions for misspelt words. */
#include "conf/message.h"

#include "base/check.h"
#include "conf/arena.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>

enum { MESSAGE_MAX = 1024, WORD_MAX = 63 };

static void make_printable(char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p; p++)
        if (*p < 0x20 || *p == 0x7f)
            *p = '?';
}

/* "file:line: key: ", as much of it as there is. Returns its length, <= size - 1. */
static size_t print_place(char *buf, size_t size, const struct origin *at, const char *key)
{
    const char *name = at->label ? at->label : key;
    const char *colon = *name ? ": " : "";
    const char *file = at->file ? at->file : "configuration";
    int n = at->line ? snprintf(buf, size, "%s:%u: %s%s", file, at->line, name, colon)
                     : snprintf(buf, size, "%s: %s%s", file, name, colon);
    CHECK(n >= 0);
    return (size_t)n < size ? (size_t)n : size - 1;
}

void conf_say(struct conf_errors *errs, enum conf_severity severity, const struct origin *at,
              const char *key, const char *fmt, ...)
{
    if (severity == CONF_ERROR)
        errs->error_n++;
    if (errs->n == CONF_ERRORS_MAX) {
        errs->dropped_n++;
        return;
    }
    if (!errs->list)
        errs->list = conf_malloc(CONF_ERRORS_MAX * sizeof *errs->list);
    char *text = conf_malloc(MESSAGE_MAX);
    /* A long place must leave room for the reason. */
    size_t n = print_place(text, MESSAGE_MAX / 2, at, key);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text + n, MESSAGE_MAX - n, fmt, ap);
    va_end(ap);
    make_printable(text);
    errs->list[errs->n++] = (struct conf_message){severity, text};
}

void conf_errors_free(struct conf_errors *errs)
{
    for (size_t i = 0; i < errs->n; i++)
        free(errs->list[i].text);
    free(errs->list);
    *errs = (struct conf_errors){0};
}

void conf_errors_print(const struct conf_errors *errs, FILE *out)
{
    for (size_t i = 0; i < errs->n; i++)
        fprintf(out, "%s: %s\n", errs->list[i].severity == CONF_ERROR ? "error" : "warning",
                errs->list[i].text);
    if (errs->dropped_n)
        fprintf(out, "... and %zu more\n", errs->dropped_n);
}

bool why_not(struct why *why, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why->text, sizeof why->text, fmt, ap);
    va_end(ap);
    return false;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static bool same_letter(char a, char b)
{
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/* Insertions, deletions, changes and swaps of neighbours that turn a into b. */
static size_t edit_distance(const char *a, size_t a_n, const char *b, size_t b_n)
{
    CHECK(a_n <= WORD_MAX && b_n <= WORD_MAX);
    size_t d[WORD_MAX + 1][WORD_MAX + 1];
    for (size_t i = 0; i <= a_n; i++) {
        for (size_t j = 0; j <= b_n; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            size_t change = d[i - 1][j - 1] + !same_letter(a[i - 1], b[j - 1]);
            d[i][j] = least(change, 1 + least(d[i - 1][j], d[i][j - 1]));
            if (i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) &&
                same_letter(a[i - 2], b[j - 1]))
                d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1);
        }
    }
    return d[a_n][b_n];
}

void nearest_offer(struct nearest *n, const char *candidate)
{
    size_t word_n = strlen(n->word), candidate_n = strlen(candidate);
    if (word_n > WORD_MAX || candidate_n > WORD_MAX)
        return;
    /* Further than this and the suggestion would be a guess. */
    size_t limit = word_n < 4 ? 1 : word_n < 10 ? 2 : 3;
    size_t more = word_n > candidate_n ? word_n - candidate_n : candidate_n - word_n;
    if (more > limit)
        return;
    size_t distance = edit_distance(n->word, word_n, candidate, candidate_n);
    if (distance > limit || (n->best && distance >= n->distance))
        return;
    n->best = candidate;
    n->distance = distance;
}

const char *nearest_hint(const struct nearest *n, struct why *buf)
{
    if (!n->best)
        return "";
    why_not(buf, " (did you mean %s?)", n->best);
    return buf->text;
}
