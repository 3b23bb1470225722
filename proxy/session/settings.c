/* proxy/session/settings.c: the settings, their values by layers and transactions, and what a statement does to them. */
#include "proxy/session/settings_inside.h"

#include "base/check.h"
#include "conf/value.h"
#include "proxy/session/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define SHOWN_MAX 64 /* bytes of a client's word in an error */

/* ---- the table ---- */

#define WORD(constant, text) text,
static const char *const routes[] = {ROUTE_POLICIES(WORD)};
static const char *const consistencies[] = {CONF_ENUM_consistency(WORD)};
#undef WORD

static uint8_t base_route(const struct session *s)
{
    return s->policy;
}

static uint8_t base_consistency(const struct session *s)
{
    return (uint8_t)s->worker->hub.snapshot->conf->consistency;
}

static const struct setting {
    const char *name;
    const char *const *words;
    uint8_t word_n;
    uint8_t (*base)(const struct session *s); /* while nothing is set */
    bool (*raise)(struct session *s,
                  struct slice value); /* of those without words; NULL: not to be set */
    bool is_time;                      /* one of SETTING_TIME_N */
} table[SETTING_N] = {
    [SETTING_ROUTE] = {"pgweir.route", routes, sizeof routes / sizeof *routes, base_route, NULL},
    [SETTING_CONSISTENCY] = {"pgweir.consistency", consistencies,
                             sizeof consistencies / sizeof *consistencies, base_consistency, NULL},
    [SETTING_MIN_LSN] = {"pgweir.min_lsn", NULL, 0, NULL, floors_raise_token},
    [SETTING_LSN_TOKEN] = {"pgweir.lsn_token", NULL, 0, NULL, NULL},
    [SETTING_QUEUE_TIMEOUT] = {.name = "pgweir.queue_timeout", .is_time = true},
    [SETTING_READ_QUEUE_TIMEOUT] = {.name = "pgweir.read_queue_timeout", .is_time = true},
    [SETTING_WRITE_QUEUE_TIMEOUT] = {.name = "pgweir.write_queue_timeout", .is_time = true},
};

static bool find_setting(struct slice name, enum setting_id *id)
{
    for (int i = 0; i < SETTING_N; i++) {
        if (name.n == strlen(table[i].name) &&
            strncasecmp((const char *)name.p, table[i].name, name.n) == 0) {
            *id = (enum setting_id)i;
            return true;
        }
    }
    return false;
}

/* ---- values ---- */

enum { UNSET, BASE, FIRST_WORD }; /* a layer's value: nothing here, the base's, or a word */

struct settings *settings_of(struct session *s)
{
    if (!s->settings) {
        s->settings = calloc(1, sizeof *s->settings);
        CHECK(s->settings != NULL);
    }
    return s->settings;
}

void settings_drop_portal(struct settings *t)
{
    stmt_unref(t->portal);
    t->portal = NULL;
}

void settings_free(struct session *s)
{
    if (!s->settings)
        return;
    settings_drop_portal(s->settings);
    free(s->settings);
    s->settings = NULL;
}

/* The layer that says something of it; NULL: none does, or it says that the base holds. */
static const struct layer *layer_of(const struct session *s, enum setting_id id)
{
    if (!s->settings)
        return NULL;
    const struct layer *layer =
        s->settings->local.values[id] == UNSET ? &s->settings->session : &s->settings->local;
    return layer->values[id] < FIRST_WORD ? NULL : layer;
}

bool settings_get(const struct session *s, enum setting_id id, uint8_t *word)
{
    const struct layer *layer = layer_of(s, id);
    if (layer)
        *word = (uint8_t)(layer->values[id] - FIRST_WORD);
    return layer != NULL;
}

static bool settings_get_ms(const struct session *s, enum setting_id id, uint32_t *ms)
{
    const struct layer *layer = layer_of(s, id);
    if (layer)
        *ms = layer->ms[id - SETTING_TIME_FIRST];
    return layer != NULL;
}

/* What others read of a session without a look here. */
static void publish(struct session *s)
{
    uint8_t word;
    s->consistency = settings_get(s, SETTING_CONSISTENCY, &word) ? (uint8_t)(1 + word) : 0;
}

/* What holds for this client: its own word on that kind of wait, on both kinds, or the configuration's. */
uint64_t settings_queue_timeout_ms(const struct session *s, enum setting_id id)
{
    uint32_t ms;
    bool reads = id == SETTING_READ_QUEUE_TIMEOUT;
    if ((settings_get_ms(s, id, &ms) && ms > 0) || settings_get_ms(s, SETTING_QUEUE_TIMEOUT, &ms))
        return ms;
    return s->set->queue_ms[reads ? WANT_READ : WANT_PRIMARY];
}

static const char *value_text(const struct session *s, enum setting_id id,
                              char text[VALUE_TEXT_MAX])
{
    uint8_t word;
    if (table[id].is_time) {
        value_print_ms(settings_queue_timeout_ms(s, id), text);
        return text;
    }
    if (!settings_get(s, id, &word))
        word = table[id].base(s);
    CHECK(word < table[id].word_n);
    return table[id].words[word];
}

/* ---- transactions ---- */

static void before_change(struct settings *t)
{
    if (t->changed)
        return;
    t->changed = true;
    t->failed = t->undone = false;
    t->before = t->session;
}

static void end_transaction(struct session *s, bool commits)
{
    struct settings *t = s->settings;
    if (t->changed && !commits)
        t->session = t->before;
    t->local = (struct layer){0};
    t->changed = t->savepoint = t->failed = t->undone = false;
    publish(s);
}

bool settings_watch(const struct session *s)
{
    return s->settings && (s->settings->changed || s->settings->savepoint);
}

/* ROLLBACK is the tag of ROLLBACK TO as well: with a savepoint only ReadyForQuery tells. */
void settings_tag(struct session *s, struct slice tag)
{
    if (!settings_watch(s))
        return;
    if (slice_is(tag, "COMMIT") || slice_is(tag, "PREPARE TRANSACTION"))
        end_transaction(s, true);
    else if (slice_is(tag, "ROLLBACK") && !s->settings->savepoint)
        end_transaction(s, false);
    else if (slice_is(tag, "ROLLBACK"))
        s->settings->undone = true;
}

void settings_failed(struct session *s)
{
    if (s->settings)
        s->settings->failed = true;
}

void settings_savepoint(struct session *s)
{
    if (s->settings)
        s->settings->savepoint = true;
}

void settings_ready(struct session *s)
{
    struct settings *t = s->settings;
    if (!t || s->tx_status != 'I')
        return;
    end_transaction(s, !t->failed && !t->undone);
    settings_drop_portal(t);
}

void settings_discard(struct session *s)
{
    if (!s->settings)
        return;
    s->settings->session = s->settings->startup;
    publish(s);
}

void settings_note_reset_all(struct session *s)
{
    if (!s->settings || s->tx_status == 'E')
        return;
    before_change(s->settings);
    s->settings->session = s->settings->startup;
    s->settings->local = (struct layer){0};
    publish(s);
}

/* ---- errors ---- */

/* A client's word, fit for any encoding and for a literal. */
static const char *shown(struct slice text, char out[SHOWN_MAX])
{
    size_t n = text.n < SHOWN_MAX - 1 ? text.n : SHOWN_MAX - 1;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = text.p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     (c != '\0' && strchr(" ._-+:/,=", c));
        out[i] = (char)(plain ? c : '?');
    }
    out[n] = '\0';
    return out;
}

static void list_words(const char *const *words, size_t n, size_t stride, char *out, size_t size)
{
    size_t at = strlen(out);
    for (size_t i = 0; i < n && at < size; i++) {
        const char *word;
        memcpy(&word, (const char *)words + i * stride, sizeof word);
        at += (size_t)snprintf(out + at, size - at, "%s%s", i ? ", " : "", word);
    }
}

bool failure_is(struct failure *f, const char *sqlstate, const char *message)
{
    memcpy(f->sqlstate, sqlstate, sizeof f->sqlstate);
    snprintf(f->message, sizeof f->message, "%s", message);
    f->hint[0] = '\0';
    return false;
}

static bool unknown_setting(struct failure *f, struct slice name)
{
    char text[SHOWN_MAX], message[128];
    snprintf(message, sizeof message, "unrecognized configuration parameter \"%s\"",
             shown(name, text));
    failure_is(f, "42704", message);
    snprintf(f->hint, sizeof f->hint, "pgweir knows: ");
    list_words(&table[0].name, SETTING_N, sizeof table[0], f->hint, sizeof f->hint);
    return false;
}

static bool bad_value(struct failure *f, const struct setting *setting, struct slice value)
{
    char text[SHOWN_MAX], message[160];
    snprintf(message, sizeof message, "invalid value for parameter \"%s\": \"%s\"", setting->name,
             shown(value, text));
    failure_is(f, "22023", message);
    if (setting->is_time) {
        snprintf(f->hint, sizeof f->hint,
                 "It takes a time as in 500ms, 5s or 1min; a bare number is in ms.");
        return false;
    }
    if (!setting->words) {
        snprintf(f->hint, sizeof f->hint, "It takes what SHOW pgweir.lsn_token gave, or an LSN.");
        return false;
    }
    snprintf(f->hint, sizeof f->hint, "Available values: ");
    list_words(setting->words, setting->word_n, sizeof *setting->words, f->hint, sizeof f->hint);
    return false;
}

/* ---- running a statement ---- */

/* As PostgreSQL's own timeouts: a bare number is in ms, and INT_MAX of them are the most. */
static bool read_time(struct slice value, uint32_t *out)
{
    char text[VALUE_TEXT_MAX];
    struct why why;
    uint64_t ms;
    if (value.n == 0 || value.n >= sizeof text || memchr(value.p, '\0', value.n))
        return false;
    memcpy(text, value.p, value.n);
    text[value.n] = '\0';
    if (!value_ms(text, "ms", &ms, &why) || ms > INT32_MAX)
        return false;
    *out = (uint32_t)ms;
    return true;
}

static bool read_word(const struct setting *setting, struct slice value, uint8_t *out)
{
    for (uint8_t i = 0; i < setting->word_n; i++) {
        if (value.n == strlen(setting->words[i]) &&
            strncasecmp((const char *)value.p, setting->words[i], value.n) == 0) {
            *out = (uint8_t)(FIRST_WORD + i);
            return true;
        }
    }
    return false;
}

static bool may_change(const struct settings *t, struct failure *f)
{
    if (!t->savepoint)
        return true;
    failure_is(f, "0A000", "settings of pgweir cannot be changed after SAVEPOINT");
    snprintf(f->hint, sizeof f->hint, "Set them before the first SAVEPOINT of the transaction.");
    return false;
}

static void put_local_warning(struct put *o)
{
    put_notice(o, &(struct wire_error){"WARNING", "25P01",
                                       "SET LOCAL can only be used in transaction blocks", NULL,
                                       NULL});
}

/* What the client wrote, put into a layer. */
static bool read_value(enum setting_id id, struct slice value, struct layer *into)
{
    uint32_t ms = 0;
    uint8_t word = FIRST_WORD;
    if (table[id].is_time ? !read_time(value, &ms) : !read_word(&table[id], value, &word))
        return false;
    into->values[id] = word;
    if (table[id].is_time)
        into->ms[id - SETTING_TIME_FIRST] = ms;
    return true;
}

static void copy_value(struct layer *to, const struct layer *from, enum setting_id id)
{
    to->values[id] = from->values[id];
    if (table[id].is_time)
        to->ms[id - SETTING_TIME_FIRST] = from->ms[id - SETTING_TIME_FIRST];
}

static bool change(struct session *s, const struct setting_statement *st, enum setting_id id,
                   struct put *o, struct failure *f)
{
    struct settings *t = settings_of(s);
    bool local = st->kind == SETTING_SET_LOCAL || st->kind == SETTING_LOCAL_DEFAULT;
    struct layer wanted = t->startup;
    if (st->kind == SETTING_SET || st->kind == SETTING_SET_LOCAL) {
        if (!read_value(id, st->value, &wanted))
            return bad_value(f, &table[id], st->value);
    }
    if (!may_change(t, f))
        return false;
    before_change(t);
    if (local && s->tx_status == 'I' && !s->segment_open) {
        put_local_warning(o);
    } else if (local) {
        copy_value(&t->local, &wanted, id);
        if (wanted.values[id] == UNSET)
            t->local.values[id] = BASE;
    } else { /* which also ends what SET LOCAL has said */
        copy_value(&t->session, &wanted, id);
        t->local.values[id] = UNSET;
    }
    publish(s);
    return true;
}

/* A floor is only ever raised: neither RESET nor ROLLBACK takes back what a client asked to see. */
static bool raise_floor(struct session *s, const struct setting_statement *st,
                        const struct setting *setting, struct failure *f)
{
    char message[128];
    if (!setting->raise) {
        snprintf(message, sizeof message, "parameter \"%s\" cannot be changed", setting->name);
        return failure_is(f, "55P02", message);
    }
    bool sets = st->kind == SETTING_SET || st->kind == SETTING_SET_LOCAL;
    return !sets || setting->raise(s, st->value) || bad_value(f, setting, st->value);
}

static void put_value(struct put *o, const char *text)
{
    struct slice value = slice_of(text);
    put_data_row(o, &value, 1);
    put_command_complete(o, "SHOW");
}

static enum ran show_token(struct session *s, struct put *o, struct failure *f)
{
    char text[FLOOR_TOKEN_BYTES];
    switch (floors_token(s, text)) {
    case FLOORS_TOKEN_READY:
        put_value(o, text);
        return RAN;
    case FLOORS_TOKEN_WAIT:
        return RAN_WAITS;
    case FLOORS_TOKEN_CANCELLED:
        failure_is(f, "57014", "canceling statement due to user request");
        return RAN_FAILED;
    case FLOORS_TOKEN_LATE:
        break;
    }
    failure_is(f, "55000", "the position of what this client has seen is not known yet");
    snprintf(f->hint, sizeof f->hint, "No sample of the node came within probe_timeout; retry.");
    return RAN_FAILED;
}

static enum ran show(struct session *s, enum setting_id id, struct put *o, struct failure *f)
{
    char token[FLOOR_TOKEN_BYTES] = "", text[VALUE_TEXT_MAX];
    if (id == SETTING_LSN_TOKEN)
        return show_token(s, o, f);
    if (id == SETTING_MIN_LSN && s->asked_lsn)
        floor_token_write(s->asked_timeline, s->asked_lsn, token);
    put_value(o, id == SETTING_MIN_LSN ? token : value_text(s, id, text));
    return RAN;
}

/* Not one that can be run: f says why. */
static bool is_sound(const struct setting_statement *st, enum setting_id *found, struct failure *f)
{
    enum setting_id id;
    char message[128];
    if (st->kind == SETTING_MIXED) {
        failure_is(f, "0A000",
                   "a SET or RESET of pgweir.* has to be the only statement of its query");
        snprintf(f->hint, sizeof f->hint, "Send it on its own.");
        return false;
    }
    if (!find_setting((struct slice){(const uint8_t *)st->name, st->name_n}, &id))
        return unknown_setting(f, (struct slice){(const uint8_t *)st->name, st->name_n});
    if (st->kind == SETTING_LIST) {
        snprintf(message, sizeof message, "SET %s takes only one argument", table[id].name);
        return failure_is(f, "22023", message);
    }
    if (st->kind == SETTING_MALFORMED) {
        snprintf(message, sizeof message, "syntax error in a statement about \"%s\"",
                 table[id].name);
        return failure_is(f, "42601", message);
    }
    *found = id;
    return true;
}

enum ran settings_run(struct session *s, const struct setting_statement *st, struct put *o,
                      struct failure *f)
{
    enum setting_id id = SETTING_N;
    if (!is_sound(st, &id, f))
        return RAN_FAILED;
    if (st->kind == SETTING_SHOW)
        return show(s, id, o, f);
    bool has_layers = table[id].words || table[id].is_time;
    if (has_layers ? !change(s, st, id, o, f) : !raise_floor(s, st, &table[id], f))
        return RAN_FAILED;
    put_command_complete(o, st->kind == SETTING_RESET ? "RESET" : "SET");
    return RAN;
}

bool settings_startup(struct session *s, struct slice name, struct slice value)
{
    struct failure f = {0};
    enum setting_id id = SETTING_N;
    struct layer wanted = {0};
    struct setting_statement st = {.kind = SETTING_SET, .value = value};
    bool ok = find_setting(name, &id) || unknown_setting(&f, name);
    bool has_layers = ok && (table[id].words || table[id].is_time);
    if (has_layers)
        ok = read_value(id, value, &wanted) || bad_value(&f, &table[id], value);
    else if (ok)
        ok = raise_floor(s, &st, &table[id], &f);
    if (!ok) {
        session_fatal(s, f.sqlstate, f.message, NULL, f.hint);
        return false;
    }
    if (has_layers) {
        copy_value(&settings_of(s)->startup, &wanted, id);
        copy_value(&settings_of(s)->session, &wanted, id);
    }
    publish(s);
    return true;
}
