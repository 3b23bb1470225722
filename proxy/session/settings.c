#include "proxy/session/settings.h"

#include "base/check.h"
#include "proxy/session/session.h"
#include "proxy/wire/take.h"
#include "router/setting.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define OID_TEXT 25
#define PORTAL_NAME_MAX 63
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
} table[SETTING_N] = {
    [SETTING_ROUTE] = {"pgweir.route", routes, sizeof routes / sizeof *routes, base_route, NULL},
    [SETTING_CONSISTENCY] = {"pgweir.consistency", consistencies,
                             sizeof consistencies / sizeof *consistencies, base_consistency, NULL},
    [SETTING_MIN_LSN] = {"pgweir.min_lsn", NULL, 0, NULL, floors_raise_token},
    [SETTING_LSN_TOKEN] = {"pgweir.lsn_token", NULL, 0, NULL, NULL},
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

struct layer {
    uint8_t values[SETTING_N];
};

struct failure {
    char sqlstate[6], message[160], hint[160];
};

struct settings {
    struct layer startup, session, local;
    struct layer before; /* session, when the transaction began that has changed something */
    bool changed;
    bool savepoint;      /* what follows may be undone by ROLLBACK TO */
    bool failed, undone; /* in the transaction: an error came; ROLLBACK was run */
    struct stmt *portal; /* of ours, bound; NULL: none */
    uint8_t portal_name_n;
    uint8_t portal_name[PORTAL_NAME_MAX];
    struct failure failure; /* that a poison stands for */
};

static struct settings *settings_of(struct session *s)
{
    if (!s->settings) {
        s->settings = calloc(1, sizeof *s->settings);
        CHECK(s->settings != NULL);
    }
    return s->settings;
}

static void drop_portal(struct settings *t)
{
    stmt_unref(t->portal);
    t->portal = NULL;
}

void settings_free(struct session *s)
{
    if (!s->settings)
        return;
    drop_portal(s->settings);
    free(s->settings);
    s->settings = NULL;
}

bool settings_get(const struct session *s, enum setting_id id, uint8_t *word)
{
    if (!s->settings)
        return false;
    uint8_t value = s->settings->local.values[id];
    if (value == UNSET)
        value = s->settings->session.values[id];
    if (value < FIRST_WORD)
        return false;
    *word = (uint8_t)(value - FIRST_WORD);
    return true;
}

/* What others read of a session without a look here. */
static void publish(struct session *s)
{
    uint8_t word;
    s->consistency = settings_get(s, SETTING_CONSISTENCY, &word) ? (uint8_t)(1 + word) : 0;
}

static const char *value_text(const struct session *s, enum setting_id id)
{
    uint8_t word;
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
    drop_portal(t);
}

void settings_discard(struct session *s)
{
    if (!s->settings)
        return;
    s->settings->session = s->settings->startup;
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

static bool fails(struct failure *f, const char *sqlstate, const char *message)
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
    fails(f, "42704", message);
    snprintf(f->hint, sizeof f->hint, "pgweir knows: ");
    list_words(&table[0].name, SETTING_N, sizeof table[0], f->hint, sizeof f->hint);
    return false;
}

static bool bad_value(struct failure *f, const struct setting *setting, struct slice value)
{
    char text[SHOWN_MAX], message[160];
    snprintf(message, sizeof message, "invalid value for parameter \"%s\": \"%s\"", setting->name,
             shown(value, text));
    fails(f, "22023", message);
    if (!setting->words) {
        snprintf(f->hint, sizeof f->hint, "It takes what SHOW pgweir.lsn_token gave, or an LSN.");
        return false;
    }
    snprintf(f->hint, sizeof f->hint, "Available values: ");
    list_words(setting->words, setting->word_n, sizeof *setting->words, f->hint, sizeof f->hint);
    return false;
}

/* ---- running a statement ---- */

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
    fails(f, "0A000", "settings of pgweir cannot be changed after SAVEPOINT");
    snprintf(f->hint, sizeof f->hint, "Set them before the first SAVEPOINT of the transaction.");
    return false;
}

static void put_local_warning(struct put *o)
{
    put_notice(o, &(struct wire_error){"WARNING", "25P01",
                                       "SET LOCAL can only be used in transaction blocks", NULL,
                                       NULL});
}

static bool change(struct session *s, const struct setting_statement *st, enum setting_id id,
                   struct put *o, struct failure *f)
{
    struct settings *t = settings_of(s);
    bool local = st->kind == SETTING_SET_LOCAL || st->kind == SETTING_LOCAL_DEFAULT;
    uint8_t value = t->startup.values[id];
    if (st->kind == SETTING_SET || st->kind == SETTING_SET_LOCAL) {
        if (!read_word(&table[id], st->value, &value))
            return bad_value(f, &table[id], st->value);
    }
    if (!may_change(t, f))
        return false;
    before_change(t);
    if (local && s->tx_status == 'I' && !s->segment_open) {
        put_local_warning(o);
    } else if (local) {
        t->local.values[id] = value == UNSET ? BASE : value;
    } else { /* which also ends what SET LOCAL has said */
        t->session.values[id] = value;
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
        return fails(f, "55P02", message);
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

enum ran { RAN, RAN_FAILED, RAN_WAITS };

static enum ran show_token(struct session *s, struct put *o, struct failure *f)
{
    char text[FLOOR_TOKEN_BYTES];
    switch (floors_token(s, text)) {
    case FLOORS_TOKEN_READY:
        put_value(o, text);
        return RAN;
    case FLOORS_TOKEN_WAIT:
        return RAN_WAITS;
    case FLOORS_TOKEN_LATE:
        break;
    }
    fails(f, "55000", "the position of what this client has seen is not known yet");
    snprintf(f->hint, sizeof f->hint, "No sample of the node came within probe_timeout; retry.");
    return RAN_FAILED;
}

static enum ran show(struct session *s, enum setting_id id, struct put *o, struct failure *f)
{
    char token[FLOOR_TOKEN_BYTES] = "";
    if (id == SETTING_LSN_TOKEN)
        return show_token(s, o, f);
    if (id == SETTING_MIN_LSN && s->asked_lsn)
        floor_token_write(s->asked_timeline, s->asked_lsn, token);
    put_value(o, id == SETTING_MIN_LSN ? token : value_text(s, id));
    return RAN;
}

static void put_column_name(struct put *o, const char *name)
{
    put_row_description(o, &(struct put_column){name, OID_TEXT}, 1);
}

/* Not one that can be run: f says why. */
static bool is_sound(const struct setting_statement *st, enum setting_id *found, struct failure *f)
{
    enum setting_id id;
    char message[128];
    if (st->kind == SETTING_MIXED) {
        fails(f, "0A000", "a SET or RESET of pgweir.* has to be the only statement of its query");
        snprintf(f->hint, sizeof f->hint, "Send it on its own.");
        return false;
    }
    if (!find_setting((struct slice){(const uint8_t *)st->name, st->name_n}, &id))
        return unknown_setting(f, (struct slice){(const uint8_t *)st->name, st->name_n});
    if (st->kind == SETTING_LIST) {
        snprintf(message, sizeof message, "SET %s takes only one argument", table[id].name);
        return fails(f, "22023", message);
    }
    if (st->kind == SETTING_MALFORMED) {
        snprintf(message, sizeof message, "syntax error in a statement about \"%s\"",
                 table[id].name);
        return fails(f, "42601", message);
    }
    *found = id;
    return true;
}

/* The statement's DataRow and CommandComplete. FAILED: f says why. WAITS: session_run() is called again. */
static enum ran run(struct session *s, const struct setting_statement *st, struct put *o,
                    struct failure *f)
{
    enum setting_id id = SETTING_N;
    if (!is_sound(st, &id, f))
        return RAN_FAILED;
    if (st->kind == SETTING_SHOW)
        return show(s, id, o, f);
    if (table[id].words ? !change(s, st, id, o, f) : !raise_floor(s, st, &table[id], f))
        return RAN_FAILED;
    put_command_complete(o, st->kind == SETTING_RESET ? "RESET" : "SET");
    return RAN;
}

bool settings_startup(struct session *s, struct slice name, struct slice value)
{
    struct failure f = {0};
    enum setting_id id = SETTING_N;
    uint8_t word = 0;
    struct setting_statement st = {.kind = SETTING_SET, .value = value};
    bool ok = find_setting(name, &id) || unknown_setting(&f, name);
    if (ok && !table[id].words)
        ok = raise_floor(s, &st, &table[id], &f);
    else if (ok)
        ok = read_word(&table[id], value, &word) || bad_value(&f, &table[id], value);
    if (!ok) {
        session_fatal(s, f.sqlstate, f.message, NULL, f.hint);
        return false;
    }
    if (table[id].words)
        settings_of(s)->startup.values[id] = settings_of(s)->session.values[id] = word;
    publish(s);
    return true;
}

/* ---- texts ---- */

static void read_text(const struct session *s, struct slice text, struct setting_statement *out)
{
    setting_read(text, !s->odd_strings, out);
}

/* Parse: a word that cannot begin a statement of ours is no reason to scan. */
static bool may_begin(struct slice text)
{
    size_t i = 0;
    while (i < text.n && (text.p[i] == ' ' || (text.p[i] >= '\t' && text.p[i] <= '\r')))
        i++;
    if (text.n - i < 3)
        return false;
    const char *p = (const char *)text.p + i;
    return *p == '/' || *p == '-' || *p == ';' || strncasecmp(p, "set", 3) == 0 ||
           strncasecmp(p, "res", 3) == 0 || strncasecmp(p, "sho", 3) == 0;
}

static bool is_ours(enum setting_kind kind)
{
    return kind != SETTING_NONE && kind != SETTING_RESET_ALL;
}

static struct slice body_of(const struct message *m)
{
    return (struct slice){m->p + FRAME_HEAD_BYTES, m->bytes - FRAME_HEAD_BYTES};
}

/* What a simple query asks for. */
static void read_query(const struct session *s, const struct message *m,
                       const struct sql_facts *facts, struct setting_statement *out)
{
    struct slice text = client_query_text(m);
    read_text(s, text, out);
    if (facts->flags & SQL_F_MULTI && setting_within(text, !s->odd_strings))
        out->kind = SETTING_MIXED;
}

/* The statement that a Parse brings, or a Bind or a Describe names. */
static bool read_named(const struct session *s, const struct message *m,
                       struct setting_statement *out)
{
    struct slice body = body_of(m), name, text;
    out->kind = SETTING_NONE;
    if (m->type == 'P') {
        if (!take_cstr(&body, &name) || !take_cstr(&body, &text) || !may_begin(text))
            return false;
    } else {
        if (m->type == 'D' && (body.n < 2 || *body.p != 'S'))
            return false;
        if (m->type == 'D')
            body = slice_skip(body, 1);
        if ((m->type == 'B' && !take_cstr(&body, &name)) || !take_cstr(&body, &name))
            return false;
        const struct stmt *stmt = statement_find(s, name);
        if (!stmt || !settings_may_be(&stmt->facts))
            return false;
        text = stmt_text(stmt);
    }
    read_text(s, text, out);
    return out->kind != SETTING_NONE;
}

bool settings_is_ours(struct session *s, const struct message *m, const struct sql_facts *facts)
{
    struct setting_statement st;
    if (m->type == 'Q')
        read_query(s, m, facts, &st);
    else
        read_named(s, m, &st);
    return is_ours(st.kind);
}

/* ---- answering ---- */

/* Without a server the rest of the segment is dropped by us; with one, a Bind that fails there makes it
 * drop the rest, and its transaction fail. */
static void refuse(struct session *s, const struct failure *f)
{
    settings_failed(s);
    if (s->server) {
        settings_of(s)->failure = *f;
        s->segment_open = true;
        statement_poison(s, REPLY_SETTING);
        return;
    }
    session_error(s, f->sqlstate, f->message, NULL, f->hint[0] ? f->hint : NULL);
    tx_refused(s);
    s->skip_to_sync = true;
}

void settings_say_error(struct session *s)
{
    const struct failure *f = &settings_of(s)->failure;
    session_error(s, f->sqlstate, f->message, NULL, f->hint[0] ? f->hint : NULL);
}

static void say_put(struct session *s, const struct put *o)
{
    CHECK(!o->full);
    reply_say(s, o->p, o->n);
}

static void malformed(struct session *s)
{
    session_fatal(s, "08P01", "invalid message format", NULL, NULL);
}

static void answer_parse(struct session *s, const struct message *m)
{
    uint8_t bytes[8];
    struct put o = put_into(bytes, sizeof bytes);
    struct failure f;
    if (statement_adopt(s, m->p, m->bytes, true)) {
        put_parse_complete(&o);
        say_put(s, &o);
    } else {
        fails(&f, "42P05", "the prepared statement already exists, or its Parse is malformed");
        refuse(s, &f);
    }
}

static bool portal_is(const struct settings *t, struct slice name)
{
    return t && t->portal && slice_equals(name, (struct slice){t->portal_name, t->portal_name_n});
}

static void no_statement(struct session *s)
{
    struct failure f;
    fails(&f, "26000", "prepared statement does not exist");
    refuse(s, &f);
}

/* A Bind or Describe: of a statement that is still there. It may have been closed behind its Parse. */
static bool names_ours(const struct session *s, const struct message *m)
{
    struct setting_statement st;
    return read_named(s, m, &st) && is_ours(st.kind);
}

static void answer_bind(struct session *s, const struct message *m)
{
    uint8_t bytes[8];
    struct put o = put_into(bytes, sizeof bytes);
    struct slice body = body_of(m), portal, name;
    struct failure f;
    if (!take_cstr(&body, &portal) || !take_cstr(&body, &name) || body.n < 2 ||
        body.n < 4 + 2 * (size_t)slice_u16(body.p)) {
        malformed(s);
        return;
    }
    if (!names_ours(s, m)) {
        no_statement(s);
        return;
    }
    struct settings *t = settings_of(s);
    drop_portal(t);
    bool parameters = slice_u16(body.p + 2 + 2 * (size_t)slice_u16(body.p)) > 0;
    if (parameters || portal.n > PORTAL_NAME_MAX) {
        fails(&f, "08P01",
              "a statement about pgweir.* takes no parameters and a short portal name");
        refuse(s, &f);
        return;
    }
    t->portal = stmt_ref(statement_find(s, name));
    t->portal_name_n = (uint8_t)portal.n;
    if (portal.n)
        memcpy(t->portal_name, portal.p, portal.n);
    put_bind_complete(&o);
    say_put(s, &o);
}

static void answer_describe(struct session *s, const struct message *m)
{
    static const uint8_t no_parameters[] = {'t', 0, 0, 0, 6, 0, 0};
    uint8_t bytes[256];
    struct put o = put_into(bytes, sizeof bytes);
    struct setting_statement st;
    if (m->p[FRAME_HEAD_BYTES] == 'S') {
        read_named(s, m, &st);
        put_bytes(&o, (struct slice){no_parameters, sizeof no_parameters});
    } else {
        read_text(s, stmt_text(s->settings->portal), &st);
    }
    if (st.kind == SETTING_SHOW)
        put_column_name(&o, st.name);
    else
        put_no_data(&o);
    say_put(s, &o);
}

/* False: it waits. */
static bool answer_execute(struct session *s)
{
    uint8_t bytes[512];
    struct put o = put_into(bytes, sizeof bytes);
    struct setting_statement st;
    struct failure f;
    read_text(s, stmt_text(s->settings->portal), &st);
    enum ran ran = run(s, &st, &o, &f);
    if (ran == RAN)
        say_put(s, &o);
    else if (ran == RAN_FAILED)
        refuse(s, &f);
    return ran != RAN_WAITS;
}

static void no_portal(struct session *s)
{
    struct failure f;
    fails(&f, "34000", "portal does not exist");
    refuse(s, &f);
}

/* A message of the extended protocol that is about a statement or a portal of ours. False: it waits. */
static bool answer_extended(struct session *s, const struct message *m)
{
    struct slice body = body_of(m), name;
    const bool describes = m->type == 'D', of_portal = describes && body.n && *body.p == 'P';
    const bool portal = m->type == 'E' || of_portal;
    if (describes && !of_portal && (body.n == 0 || *body.p != 'S')) {
        malformed(s);
        return true;
    }
    if (describes)
        body = slice_skip(body, 1);
    if (portal && !take_cstr(&body, &name))
        malformed(s);
    else if (portal && !portal_is(s->settings, name))
        no_portal(s);
    else if (describes && !portal && !names_ours(s, m))
        no_statement(s);
    else if (m->type == 'P')
        answer_parse(s, m);
    else if (m->type == 'B')
        answer_bind(s, m);
    else if (m->type == 'D')
        answer_describe(s, m);
    else
        return answer_execute(s);
    return true;
}

/* ---- without a server ---- */

/* False: it waits. */
static bool answer_query(struct session *s, const struct setting_statement *st)
{
    uint8_t bytes[512];
    struct put o = put_into(bytes, sizeof bytes);
    struct failure f;
    if (st->kind == SETTING_SHOW)
        put_column_name(&o, st->name);
    enum ran ran = run(s, st, &o, &f);
    if (ran == RAN_WAITS)
        return false;
    if (ran == RAN) {
        say_put(s, &o);
    } else {
        settings_failed(s);
        session_error(s, f.sqlstate, f.message, NULL, f.hint[0] ? f.hint : NULL);
        tx_refused(s); /* a transaction that no server knows fails here */
    }
    statement_forget_unnamed(s); /* as every simple query */
    settings_ready(s);
    session_notice_ready(s);
    return true;
}

void settings_answer(struct session *s, size_t bytes)
{
    struct message m;
    for (size_t done = 0; done < bytes && s->state == SESSION_READY && !s->skip_to_sync;
         done += m.bytes) {
        CHECK(client_look(s, 0, &m) == FOUND_MESSAGE); /* it was a moment ago */
        if (m.type == 'Q') {
            struct setting_statement st;
            struct sql_facts facts = s->segment;
            read_query(s, &m, &facts, &st);
            if (!answer_query(s, &st))
                return;
        } else if (m.type == 'C') {
            client_close_locally(s, &m);
        } else if (m.type == 'S') {
            settings_ready(s);
            session_notice_ready(s);
        } else if (!answer_extended(s, &m)) {
            return;
        }
        if (s->state == SESSION_READY)
            conn_in_drop(s->conn, m.bytes);
    }
}

/* ---- with a server ---- */

/* What was asked before has to be answered first, and the server is told to do so. */
static bool turn_has_come(struct session *s)
{
    static const uint8_t flush[] = {'H', 0, 0, 0, 4};
    if (s->replies.n == 0 && s->server_body_left == 0) {
        s->flush_sent = false;
        return true;
    }
    if (s->segment_open && !s->flush_sent) {
        conn_out_copy(s->server->conn, flush, sizeof flush);
        s->flush_sent = true;
    }
    return false;
}

/* RESET ALL is PostgreSQL's, and ours too if it succeeds. */
static void note_reset_all(struct session *s)
{
    if (!s->settings || s->tx_status == 'E')
        return;
    before_change(s->settings);
    s->settings->session = s->settings->startup;
    s->settings->local = (struct layer){0};
    publish(s);
}

/* The server raises the error, so that its transaction fails. The texts hold nothing that ends a literal. */
static void raise_there(struct session *s, const struct failure *f)
{
    char sql[512];
    uint8_t bytes[600];
    struct put o = put_into(bytes, sizeof bytes);
    int n = snprintf(sql, sizeof sql,
                     "DO $pgweir$BEGIN RAISE EXCEPTION USING ERRCODE = '%s', MESSAGE = '%s', "
                     "HINT = '%s'; END$pgweir$",
                     f->sqlstate, f->message, f->hint);
    CHECK(n > 0 && (size_t)n < sizeof sql);
    put_query(&o, slice_of(sql));
    CHECK(!o.full);
    stmt_set_unnamed(&s->server->stmts, NULL);
    statement_forget_unnamed(s);
    reply_push(s, REPLY_QUERY);
    s->segment_serial++;
    s->segment_open = false;
    conn_out_copy(s->server->conn, o.p, o.n);
}

enum settings_rc settings_query(struct session *s, const struct message *m,
                                const struct sql_facts *facts)
{
    struct setting_statement st;
    struct failure f;
    uint8_t bytes[512];
    struct put o = put_into(bytes, sizeof bytes);
    if (s->skipping || s->copy_in)
        return SETTINGS_PASS;
    read_query(s, m, facts, &st);
    if (st.kind == SETTING_RESET_ALL)
        note_reset_all(s);
    if (!is_ours(st.kind))
        return SETTINGS_PASS;
    if (!turn_has_come(s))
        return SETTINGS_WAIT;
    if (s->skipping || s->tx_status == 'E') /* PostgreSQL's own 25P02 */
        return SETTINGS_PASS;
    if (s->segment_open) { /* this query ends what was begun without a Sync: the server has to see one */
        fails(&f, "0A000", "a statement about pgweir.* cannot end a pipeline without Sync");
        raise_there(s, &f);
    } else if (s->tx_status == 'I') {
        if (!answer_query(s, &st))
            return SETTINGS_WAIT;
    } else {
        if (st.kind == SETTING_SHOW)
            put_column_name(&o, st.name);
        enum ran ran = run(s, &st, &o, &f);
        if (ran == RAN_WAITS)
            return SETTINGS_WAIT;
        if (ran == RAN) {
            say_put(s, &o);
            statement_forget_unnamed(s);
            session_notice_ready(s);
        } else {
            raise_there(s, &f);
        }
    }
    client_drop(s, m->bytes);
    return SETTINGS_DONE;
}

bool settings_uses_portal(struct session *s, const struct message *m)
{
    struct slice body = body_of(m), name;
    if (!s->settings || !s->settings->portal)
        return false;
    if (m->type == 'D' && body.n >= 2 && *body.p == 'P')
        body = slice_skip(body, 1);
    else if (m->type != 'E' && m->type != 'B')
        return false;
    return take_cstr(&body, &name) && portal_is(s->settings, name);
}

enum settings_rc settings_message(struct session *s, const struct message *m)
{
    struct setting_statement st = {0};
    struct failure f;
    bool portal = settings_uses_portal(s, m);
    if (s->copy_in || s->skipping)
        return SETTINGS_PASS;
    if (m->type != 'E')
        read_named(s, m, &st);
    if (m->type == 'B' && st.kind == SETTING_RESET_ALL)
        note_reset_all(s);
    if (m->type == 'B' && portal && !is_ours(st.kind)) { /* another statement takes its place */
        drop_portal(s->settings);
        return SETTINGS_PASS;
    }
    if (!portal && !is_ours(st.kind))
        return SETTINGS_PASS;
    if (!turn_has_come(s))
        return SETTINGS_WAIT;
    if (s->skipping)
        return SETTINGS_PASS;
    if (s->tx_status == 'E' && !s->segment_open) {
        fails(&f, "25P02",
              "current transaction is aborted, commands ignored until end of transaction block");
        refuse(s, &f);
    } else if (!answer_extended(s, m)) {
        return SETTINGS_WAIT;
    }
    if (s->state == SESSION_READY)
        client_drop(s, m->bytes);
    return SETTINGS_DONE;
}
