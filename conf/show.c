/* conf/show.c: the table told to people: SHOW CONFIG, what changed, and the commented sample. */
#include "base/check.h"
#include "conf/option.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

enum { SHOWN_N = OPTION_N + FOREIGN_N };

/* Options first, then PgBouncer's keys; shown by name. */
static uint16_t by_name[SHOWN_N];
_Static_assert(sizeof((struct conf_shown){0}.buf) >= VALUE_TEXT_MAX, "a number must fit");

static const char *name_of(size_t i)
{
    return i < OPTION_N ? options[i].field.name : foreign_keys[i - OPTION_N].name;
}

static int by_name_order(const void *a, const void *b)
{
    return strcmp(name_of(*(const uint16_t *)a), name_of(*(const uint16_t *)b));
}

static void sort_names(void)
{
    for (size_t i = 0; i < SHOWN_N; i++)
        by_name[i] = (uint16_t)i;
    qsort(by_name, SHOWN_N, sizeof *by_name, by_name_order);
}

size_t conf_show_count(void)
{
    return SHOWN_N;
}

static const char *default_text(const struct option *o, enum conf_flavour flavour)
{
    return o->defaults[flavour] ? o->defaults[flavour] : o->defaults[0];
}

static void show_option(const struct conf *conf, const struct option *o, struct conf_shown *out)
{
    struct conf scratch = {0};
    struct why why;
    bool ok = field_set(&scratch, &o->field, default_text(o, conf->flavour), &why);
    CHECK(ok);
    out->key = o->field.name;
    out->value = field_show(conf, &o->field, out->buf);
    out->default_value = field_show(&scratch, &o->field, out->default_buf);
    out->changeable = !o->restart;
}

void conf_show(const struct conf *conf, size_t index, struct conf_shown *out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, sort_names);
    CHECK(index < SHOWN_N);
    size_t i = by_name[index];
    if (i < OPTION_N) {
        show_option(conf, &options[i], out);
        return;
    }
    const struct foreign *f = &foreign_keys[i - OPTION_N];
    out->key = f->name;
    out->value = conf->foreign[i - OPTION_N];
    out->default_value = f->default_value;
    out->changeable = false;
}

size_t conf_restart_changes(const struct conf *was, const struct conf *now, const char **names,
                            size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < OPTION_N; i++) {
        const struct option *o = &options[i];
        if (!o->restart || field_equal(was, now, &o->field))
            continue;
        if (n < cap)
            names[n] = o->field.name;
        n++;
    }
    return n;
}

/* ---- the sample ---- */

/* The order of the table, with its headings. */
static const struct {
    const char *group; /* NULL in an option's row */
    enum option_id id;
} layout[] = {
#define GROUP(title) {title, OPTION_N},
#define OPT(name, ...) {NULL, OPTION_##name},
#define OPT_ENUM(name, ...) {NULL, OPTION_##name},
#include "conf/options.def"
};

static const char head[] =
    "; pgweir.ini: the sample configuration, made from conf/options.def by `make sample`.\n"
    ";\n"
    "; Every option stands here with its default; take the ; away to change it. Times take us, ms, "
    "s, min,\n"
    "; h or d (a bare number is seconds unless said otherwise), sizes kB, MB or GB. A section "
    "[pgbouncer]\n"
    "; instead of [pgweir] gives PgBouncer's defaults. Errors are told all at once, as file:line.\n"
    "; SIGHUP reloads; options marked \"restart\" need a new process.\n"
    "; In a container, PGWEIR_<OPTION> variables set the same, secrets also by "
    "PGWEIR_<OPTION>_FILE.\n"
    "\n"
    "[databases]\n"
    "; roles are found by asking the nodes, and followed through failovers\n"
    "app = host=pg1,pg2,pg3 port=5432 dbname=app\n"
    "; one user at the servers, own limits; values with blanks stand in 'quotes'\n"
    ";reports = host=pg2 user=reporter password='secret' pool_size=5 pool_mode=session "
    "queue_timeout=1min\n"
    "; where its statements go unless the client says otherwise: route=auto, primary, replica or "
    "any.\n"
    "; Clients may also ask for app@ro (replicas, read only) and app@rw (the primary)\n"
    ";exports = host=pg1,pg2,pg3 dbname=app route=replica\n"
    "; every other name\n"
    ";* = host=pg1\n"
    "\n"
    "[users]\n"
    ";batch = pool_size=2 queue_timeout=1min\n"
    "\n"
    "[pgweir]\n"
    "; who may log in: lines of \"user\" \"secret\"\n"
    "auth_file = /etc/pgweir/userlist.txt\n";

/* Break a sentence into comment lines. */
static void print_comment(FILE *out, const char *text)
{
    enum { WIDTH = 100 };
    size_t column = 0;
    while (*text) {
        size_t n = strcspn(text, " ");
        if (column && column + 1 + n > WIDTH) {
            fputc('\n', out);
            column = 0;
        }
        fprintf(out, "%s%.*s", column ? " " : "; ", (int)n, text);
        column += n + (column ? 1 : 2);
        text += n + (text[n] == ' ');
    }
    fputc('\n', out);
}

static void bounds_of(const struct option *o, char *out, size_t size)
{
    char low[VALUE_TEXT_MAX], high[VALUE_TEXT_MAX];
    const struct field *f = &o->field;
    void (*print)(uint64_t, char *) = f->kind == KIND_BYTES ? value_print_bytes : value_print_ms;
    out[0] = 0;
    if (f->kind == KIND_MS || f->kind == KIND_BYTES) {
        print(f->min, low);
        print(f->max, high);
        snprintf(out, size, "%s to %s%s", low, high,
                 strcmp(o->unit, "ms") == 0 ? "; a bare number is ms" : "");
    } else if (f->kind == KIND_U32) {
        const char *unit = o->unit;
        if (strcmp(unit, "mode") == 0)
            snprintf(out, size, "0 to %#" PRIo64, f->max);
        else
            snprintf(out, size, "%" PRIu64 " to %" PRIu64 "%s%s", f->min, f->max, *unit ? " " : "",
                     unit);
    } else if (f->kind == KIND_SHARE) {
        snprintf(out, size, "%" PRIu64 " to %" PRIu64 " %s, or 1%% to 100%%", f->min, f->max,
                 o->unit);
    } else if (f->kind == KIND_FLAG) {
        snprintf(out, size, "yes or no");
    }
}

static void print_option(FILE *out, const struct option *o)
{
    char range[200], line[1200];
    if (o->field.kind == KIND_ENUM)
        words_print(o->field.words, " | ", " | ", range, sizeof range);
    else
        bounds_of(o, range, sizeof range);
    const char *other = o->defaults[CONF_PGBOUNCER];
    snprintf(line, sizeof line, "%s%s%s%s%s%s%s", o->help, *range ? " " : "", *range ? "[" : "",
             range, *range ? "]" : "", o->restart ? " [restart]" : "",
             other ? " Under [pgbouncer]: " : "");
    size_t n = strlen(line);
    if (other)
        snprintf(line + n, sizeof line - n, "%s.", *other ? other : "empty");
    print_comment(out, line);
    fprintf(out, ";%s =%s%s\n", o->field.name, *o->defaults[0] ? " " : "", o->defaults[0]);
}

void conf_print_sample(FILE *out)
{
    fputs(head, out);
    for (size_t i = 0; i < sizeof layout / sizeof *layout; i++) {
        if (layout[i].group)
            fprintf(out, "\n; ---- %s ----\n", layout[i].group);
        else
            print_option(out, &options[layout[i].id]);
    }
}
