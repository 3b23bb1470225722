/* proxy/session/state.c: what SQL leaves in a session, and how the client finds it again on its next server.
 *
 *   settings  become the client's label: a server with another label gets them first (lease.c)
 *   the rest  keeps the server for this client, until PostgreSQL says that nothing of it is left
 *
 * Asking    a statement that may leave something marks what (`touched`). When its transaction has ended, and its
 *           client has the answer, the server is asked what there is. Nothing is worked out here: what a ROLLBACK, a
 *           savepoint, a function or DO has made of a setting, PostgreSQL tells.
 * Known     a SET that stood alone is not asked about twice: what it makes of a label is remembered (label_steps).
 * In doubt  the question fails: the server stays with its client, and is asked again after the next transaction. A replica is
 *           asked again before that, as the next statement may belong on the primary.
 */
#include "proxy/session/session.h"

#include "base/check.h"
#include "proxy/io/log.h"
#include "proxy/wire/row.h"
#include "router/reset.h"
#include "router/scan.h"

#include <stdlib.h>
#include <strings.h>

#define LOOK_SQL_MAX (256U << 10)
#define LOOK_FAILURES_MAX 3 /* in a row, on a replica */
/* RESET leaves custom settings empty; more of those than this are not kept. */
#define EMPTY_KEPT_MAX (LABEL_ENTRIES_MAX / 2)

/* ---- which statements ---- */

struct effect {
    uint32_t flag,
        with; /* of a statement that has both; with: 0, or SQL_F_PIN where it begins something */
    uint16_t begins; /* what may be there afterwards */
    uint16_t ends;   /* what may not be there any more */
};

static const struct effect effects[] = {
    {SQL_F_SET, 0, LEFT_SETTINGS, 0},
    {SQL_F_SET_FUNCTION, 0, LEFT_SETTINGS, 0},
    {SQL_F_PREPARE, SQL_F_PIN, LEFT_PREPARED, 0},
    {SQL_F_DEALLOCATE, 0, 0, LEFT_PREPARED},
    {SQL_F_DEALLOCATE_ALL, 0, 0, LEFT_PREPARED},
    {SQL_F_CURSOR, SQL_F_PIN, LEFT_CURSORS, 0},
    {SQL_F_CURSOR, 0, 0, LEFT_CURSORS},
    {SQL_F_LISTEN, SQL_F_PIN, LEFT_CHANNELS, 0},
    {SQL_F_LISTEN, 0, 0, LEFT_CHANNELS},
    {SQL_F_ADVISORY, SQL_F_PIN, LEFT_LOCKS, 0},
    {SQL_F_ADVISORY, 0, 0, LEFT_LOCKS},
    {SQL_F_TEMP, 0, LEFT_TEMP, 0},
    {SQL_F_DDL, 0, 0, LEFT_TEMP},
    {SQL_F_DISCARD, 0, 0, LEFT_ASKABLE},
    {SQL_F_BODY, 0, LEFT_ASKABLE, 0},
    {SQL_F_HIDING, 0, LEFT_ASKABLE, 0},
};

#define SOILS (LEFT_SEED | LEFT_OTHER) /* such a server is for nobody else */
#define LEAVES_OR_TAKES                                                                         \
    (SQL_F_SET | SQL_F_SET_FUNCTION | SQL_F_PREPARE | SQL_F_DEALLOCATE | SQL_F_DEALLOCATE_ALL | \
     SQL_F_CURSOR | SQL_F_LISTEN | SQL_F_ADVISORY | SQL_F_TEMP | SQL_F_DDL | SQL_F_DISCARD |    \
     SQL_F_BODY | SQL_F_HIDING | SQL_F_PIN | SQL_F_TAINT | SQL_F_EXECUTE)

/* What nobody can be asked about stays for good. */
static uint16_t stays(uint32_t flags)
{
    const uint32_t askable =
        SQL_F_PREPARE | SQL_F_CURSOR | SQL_F_LISTEN | SQL_F_ADVISORY | SQL_F_TEMP;
    if (flags & SQL_F_TAINT)
        return LEFT_SEED;
    if (flags & SQL_F_SEQUENCE)
        return LEFT_SEQUENCES;
    return flags & SQL_F_PIN && !(flags & askable) ? LEFT_OTHER : 0;
}

static uint16_t touches(const struct session *s, uint32_t flags)
{
    uint16_t touched = 0;
    for (size_t i = 0; i < sizeof effects / sizeof *effects; i++) {
        const struct effect *e = &effects[i];
        if (flags & e->flag && (flags & e->with) == e->with)
            touched |= e->begins | (e->ends & s->state_of.left);
    }
    if (flags & SQL_F_EXECUTE)
        touched |= s->state_of.prepared;
    return touched;
}

/* By the number of the bit. */
static const char *const names[LEFT_N] = {
    "settings",       "prepared_statement", "cursor_with_hold", "listen",
    "advisory_lock",  "temporary_object",   "setseed_or_load",  "currval",
    "long_statement", "session_function",
};

const char *state_text(uint16_t left)
{
    for (unsigned i = 0; i < LEFT_N; i++)
        if (left & 1U << i)
            return names[i];
    return "";
}

/* ---- what is sent ---- */

static bool is_word(const struct scan_token *t, const char *word)
{
    return t->kind == SCAN_WORD && t->text.n == strlen(word) &&
           strncasecmp((const char *)t->text.p, word, t->text.n) == 0;
}

/* PREPARE name AS statement: what EXECUTE will do. */
static uint16_t prepared_touches(const struct session *s, struct slice text)
{
    struct scan scan;
    struct scan_token token;
    struct sql_env env = statement_sql_env(s);
    struct sql_facts facts;
    scan_init(&scan, text, env.standard_conforming_strings);
    do {
        scan_next(&scan, &token);
        if (token.kind == SCAN_END || token.kind == SCAN_BAD)
            return LEFT_ASKABLE;
    } while (!is_word(&token, "as"));
    size_t at = (size_t)(token.text.p + token.text.n - text.p);
    sql_classify(slice_skip(text, at), &env, &facts);
    return touches(s, facts.flags) | stays(facts.flags);
}

static void keep_text(struct state_of *st, struct slice text)
{
    st->sole = text.n > 0 && text.n <= LABEL_STEP_TEXT_MAX;
    if (!st->sole)
        return;
    free(st->text);
    st->text = malloc(text.n);
    CHECK(st->text != NULL);
    memcpy(st->text, text.p, text.n);
    st->text_n = (uint16_t)text.n;
}

/* A statement that does nothing but set: its effect is the same whenever it runs with this label. */
static bool is_step(const struct session *s, const struct sql_facts *facts)
{
    const struct state_of *st = &s->state_of;
    return facts->statements == 1 && facts->class == SQL_SESSION_STATE &&
           (facts->flags & LEAVES_OR_TAKES) == SQL_F_SET && s->tx_status == 'I' &&
           s->tx.state == TX_NONE && s->replies.n == 0 && st->touched == 0 &&
           s->server->label == s->label;
}

static void pin(struct session *s, uint16_t left, uint64_t fingerprint)
{
    struct state_of *st = &s->state_of;
    uint16_t more = left & (uint16_t)~st->left;
    st->left |= left;
    if (!more)
        return;
    for (unsigned i = 0; i < LEFT_N; i++)
        s->worker->stats.pins[i] += (more >> i) & 1;
    LOG(LOG_WARN, "session.pinned", LF_U("client", s->serial), LF_S("db", s->set->database),
        LF_S("user", s->set->user), LF_S("reason", state_text(more)),
        LF_U("fingerprint", fingerprint));
}

/* A SET, or a set_config() without any FROM, that runs alone: its answer shows nothing of the database's state. */
static bool sees_no_data(const struct session *s, const struct sql_facts *facts, struct slice text)
{
    uint32_t left = facts->flags & LEAVES_OR_TAKES;
    if ((left != SQL_F_SET && left != SQL_F_SET_FUNCTION) || facts->statements != 1 ||
        s->tx_status != 'I' || s->tx.state != TX_NONE || s->replies.n > 1)
        return false;
    if (left == SQL_F_SET)
        return facts->class == SQL_SESSION_STATE;
    struct scan scan;
    struct scan_token t;
    unsigned selects = 0;
    scan_init(&scan, text, !s->odd_strings);
    for (scan_next(&scan, &t); t.kind != SCAN_END; scan_next(&scan, &t)) {
        if (t.kind == SCAN_BAD || is_word(&t, "from") || is_word(&t, "table"))
            return false;
        selects += is_word(&t, "select");
    }
    return facts->class == SQL_SESSION_FUNCTION && selects == 1;
}

/* Functions may set what no statement names: once for each catalog. */
static bool custom_settings_of_bodies(struct session *s)
{
    struct pool_set *set = s->set;
    const struct catalog *catalog = catalog_use_now(&set->catalog);
    if (!catalog || set->settings_of == catalog_id(catalog))
        return true;
    set->settings_of = catalog_id(catalog);
    return custom_settings_read(&set->custom_settings, catalog_settings(catalog));
}

static bool mentions(struct slice text, const char *what)
{
    size_t n = strlen(what);
    for (size_t i = 0; i + n <= text.n; i++)
        if ((text.p[i] | 0x20) == *what && strncasecmp((const char *)text.p + i, what, n) == 0)
            return true;
    return false;
}

/* SET NAMES, in other words too. */
static bool mentions_reading(struct slice text)
{
    return mentions(text, "standard_conforming_strings") || mentions(text, "client_encoding") ||
           mentions(text, "names");
}

/* Until it is answered, what comes behind it is read in the way that held before: it may leave anything. */
static void note_reading(struct session *s, const struct sql_facts *facts, struct slice text,
                         struct slice values)
{
    struct state_of *st = &s->state_of;
    bool hidden = (facts->flags & (SQL_F_BODY | SQL_F_HIDING)) != 0;
    bool sets = (facts->flags & (SQL_F_SET | SQL_F_SET_FUNCTION | SQL_F_TX_STATE)) != 0;
    if (st->rereads)
        st->touched |= LEFT_ASKABLE;
    if (!hidden && !(sets && (mentions_reading(text) || mentions_reading(values))))
        return;
    st->rereads = true;
    st->env[1]++;
}

/* It may run defaults, triggers and the like that no catalog knows yet. */
static bool is_behind_ddl(const struct session *s, const struct sql_facts *facts)
{
    bool with_others = facts->statements > 1 && facts->flags & SQL_F_DDL;
    return with_others || (s->ddl_seen && !(facts->flags & (SQL_F_DDL | SQL_F_COMMIT)));
}

void state_saw(struct session *s, const struct sql_facts *facts, struct slice text,
               struct slice values)
{
    struct state_of *st = &s->state_of;
    uint32_t flags = facts->flags;
    if (!s->session_pooling)
        note_reading(s, facts, text, values);
    st->sees_no_data = sees_no_data(s, facts, text);
    if (s->session_pooling) {
        st->left |= stays(flags) & SOILS; /* what server_reset_query does not take away */
        return;
    }
    bool unknown = is_behind_ddl(s, facts);
    if (!(flags & LEAVES_OR_TAKES) && !st->sole && !unknown)
        return;
    if (is_step(s, facts))
        keep_text(st, text);
    else
        st->sole = false;
    st->failed = st->ran = false;
    st->touched |= unknown ? LEFT_ASKABLE : touches(s, flags);
    st->fingerprint = facts->fingerprint;
    if (flags & SQL_F_PREPARE)
        st->prepared |= prepared_touches(s, text);
    if (flags & (SQL_F_SET | SQL_F_SET_FUNCTION | SQL_F_BODY | SQL_F_HIDING) &&
        !(custom_settings_of_bodies(s) && custom_settings_read(&st->custom, text) &&
          custom_settings_read(&st->custom, values)))
        pin(s, LEFT_OTHER, facts->fingerprint);
    pin(s, stays(flags), facts->fingerprint);
}

void state_saw_unread(struct session *s)
{
    s->state_of.sees_no_data = false;
    s->state_of.sole = false;
    server_note_sequences(s->server, s->serial);
    if (!s->session_pooling)
        s->state_of.touched |= LEFT_ASKABLE;
}

void state_pin(struct session *s, uint16_t left)
{
    pin(s, left, 0);
}

/* Any name goes with that prefix, until the library is there and knows them all. */
static bool is_strange_to_plpgsql(const char *name)
{
    static const char prefix[] = "plpgsql.";
    static const char *const known[] = {"check_asserts", "extra_errors", "extra_warnings",
                                        "print_strict_params", "variable_conflict"};
    if (strncmp(name, prefix, sizeof prefix - 1) != 0)
        return false;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name + sizeof prefix - 1, known[i]) == 0)
            return false;
    return true;
}

bool state_wants_new_server(struct session *s)
{
    struct reset set;
    if (s->state != SESSION_READY || s->session_pooling)
        return false;
    if (s->label->temp_first)
        return true;
    if (s->segment.class != SQL_SESSION_STATE || s->segment.statements != 1)
        return false;
    reset_read(client_segment_text(s), !s->odd_strings, &set);
    return is_strange_to_plpgsql(set.name);
}

/* ---- what comes back ---- */

bool state_saw_no_data(struct session *s)
{
    bool none = s->state_of.sees_no_data && s->tx_status == 'I' && s->replies.n == 0;
    s->state_of.sees_no_data = false;
    return none;
}

void state_reported(struct session *s)
{
    s->state_of.env[1]++;
    if (!s->session_pooling)
        s->state_of.touched |= LEFT_SETTINGS; /* by a function, as a rule */
}

void state_error(struct session *s)
{
    s->state_of.failed = true;
}

void state_answered(struct session *s)
{
    s->state_of.rereads = s->state_of.doubt = false;
}

static void take_label(struct session *s, struct label *actual)
{
    struct label *wanted = label_over(&s->set->labels, actual, s->state_of.startup);
    if (!wanted) { /* too much: the server is the only one that has it */
        pin(s, LEFT_SETTINGS, s->state_of.fingerprint);
        wanted = label_ref(actual);
    }
    label_ref(actual);
    label_unref(s->server->label);
    s->server->label = actual;
    label_unref(s->label);
    s->label = wanted;
}

void state_tag(struct session *s, struct slice tag)
{
    struct state_of *st = &s->state_of;
    st->ran = slice_is(tag, "SET") || slice_is(tag, "RESET");
    if (!slice_is(tag, "DISCARD ALL"))
        return;
    /* Whatever runs in one transaction with it has run before it: PostgreSQL takes it alone only. */
    take_label(s, s->set->base);
    st->discarded = true;
    st->touched = st->prepared = 0;
    st->left &= SOILS;
}

/* A lone SET, answered. True: what it did is known. */
static bool step(struct session *s)
{
    struct state_of *st = &s->state_of;
    if (!st->sole || st->touched != LEFT_SETTINGS)
        return false;
    if (st->failed || !st->ran)
        return true;
    struct label *to = label_steps_find(&s->set->label_steps, s->server->label,
                                        (struct slice){st->text, st->text_n});
    if (to)
        take_label(s, to);
    return to != NULL;
}

void state_discard(struct session *s)
{
    s->state_of.discarded = false;
    uint8_t bytes[SERVER_GREETING_MAX];
    struct put o = put_into(bytes, sizeof bytes);
    struct label *startup = s->state_of.startup;
    struct told *is =
        told_find(&s->set->tolds, (struct slice){startup->greeting, startup->greeting_bytes});
    told_difference(s->told, is, &o);
    CHECK(!o.full); /* it is a part of a greeting */
    conn_out_copy(s->conn, o.p, o.n);
    told_unref(s->told);
    s->told = is;
    label_unref(s->label);
    s->label = label_ref(startup);
    startup_note_reading(s);
}

/* ---- asking ---- */

struct look {
    struct label_draft draft;
    uint16_t asked, found;
    bool failed, full;
    uint32_t n;
    uint8_t bytes[LABEL_BYTES_MAX]; /* of names and values in the draft */
};

static void ask(struct put *o, const char *sql)
{
    put_bytes(o, slice_of(" UNION ALL "));
    put_bytes(o, slice_of(sql));
}

static void ask_custom(struct put *o, const struct custom_settings *custom)
{
    for (const char *at = NULL; (at = custom_settings_next(custom, at));) {
        ask(o, "SELECT 's',");
        label_put_literal(o, at);
        put_bytes(o, slice_of(",pg_catalog.current_setting("));
        label_put_literal(o, at);
        put_bytes(o, slice_of(",true)"));
    }
}

/* Custom ones: of the client's SQL, of what it came with, and of functions. */
static void ask_settings(struct session *s, struct put *o)
{
    struct state_of *st = &s->state_of;
    ask(o, "SELECT 's'," LABEL_SQL_SETTINGS);
    ask(o, "SELECT 's','role',pg_catalog.current_setting('role')");
    ask(o, "SELECT 's','session_authorization',session_user::pg_catalog.text");
    if (!custom_settings_of_label(&st->custom, s->server->label))
        pin(s, LEFT_OTHER, st->fingerprint);
    ask_custom(o, &st->custom);
    ask_custom(o, &s->set->custom_settings);
}

static const struct {
    uint16_t left;
    char kind;
    const char *sql;
} questions[] = {
    {LEFT_PREPARED, 'p',
     "(SELECT 'p','','' FROM pg_catalog.pg_prepared_statements WHERE from_sql LIMIT 1)"},
    {LEFT_CURSORS, 'c', "(SELECT 'c','','' FROM pg_catalog.pg_cursors WHERE is_holdable LIMIT 1)"},
    {LEFT_CHANNELS, 'l', "(SELECT 'l','','' FROM pg_catalog.pg_listening_channels() LIMIT 1)"},
    {LEFT_LOCKS, 'a',
     "(SELECT 'a','','' FROM pg_catalog.pg_locks WHERE locktype='advisory'"
     " AND pid=pg_catalog.pg_backend_pid() LIMIT 1)"},
    {LEFT_TEMP, 't',
     "(SELECT 't','','' FROM pg_catalog.pg_depend WHERE refobjid=pg_catalog.pg_my_temp_schema()"
     " AND refclassid='pg_catalog.pg_namespace'::pg_catalog.regclass LIMIT 1)"},
};

static void look(struct session *s)
{
    struct state_of *st = &s->state_of;
    uint8_t text[LOOK_SQL_MAX];
    struct put sql = put_into(text, sizeof text);
    struct look *l = calloc(1, sizeof *l);
    CHECK(l != NULL);
    l->asked = st->touched;
    put_bytes(&sql, slice_of(LABEL_SQL_FIRST "SELECT NULL,NULL,NULL WHERE false"));
    if (l->asked & LEFT_SETTINGS)
        ask_settings(s, &sql);
    for (size_t i = 0; i < sizeof questions / sizeof *questions; i++)
        if (l->asked & questions[i].left)
            ask(&sql, questions[i].sql);
    CHECK(!sql.full); /* two times CUSTOM_SETTINGS_MAX names of CUSTOM_NAME_MAX bytes, each twice */
    struct put o = put_into(conn_out_reserve(s->server->conn, sql.n + 16), sql.n + 16);
    put_query(&o, put_slice(&sql));
    CHECK(!o.full);
    conn_out_commit(s->server->conn, o.n);
    stmt_set_unnamed(&s->server->stmts, NULL);
    server_chore_begin(s->server);
    s->worker->stats.looks++;
    st->look = l;
}

/* A value of the row; its bytes are kept. */
static struct slice keep(struct look *l, struct slice bytes)
{
    if (l->n + bytes.n > sizeof l->bytes) {
        l->full = true;
        return SLICE_NONE;
    }
    uint8_t *p = l->bytes + l->n;
    memcpy(p, bytes.p, bytes.n);
    l->n += (uint32_t)bytes.n;
    return (struct slice){p, bytes.n};
}

static void take_setting(const struct session *s, struct look *l, struct slice name,
                         struct slice value)
{
    const char *right = slice_is(name, "role")                    ? "role"
                        : slice_is(name, "session_authorization") ? "session_authorization"
                                                                  : NULL;
    bool none = right && slice_is(value, strcmp(right, "role") == 0 ? "none" : s->set->user);
    if (none && !label_value(s->state_of.startup, right)) /* else it has been taken away */
        return;
    if (value.n == 0 && memchr(name.p, '.', name.n) && l->draft.n >= EMPTY_KEPT_MAX)
        return;
    name = keep(l, name);
    value = keep(l, value);
    l->full = l->full || !label_draft_set(&l->draft, name, value);
}

/* DataRow: kind, name, value; a value that is NULL is that of a setting which is not there. */
static bool take_row(const struct session *s, struct look *l, struct slice body)
{
    struct slice value[3];
    if (!row_read(body, value, 3) || value[0].n != 1)
        return false;
    if (*value[0].p == 's' && value[1].n == 0)
        return false;
    if (*value[0].p == 's' && value[2].p)
        take_setting(s, l, value[1], value[2]);
    for (size_t i = 0; i < sizeof questions / sizeof *questions; i++)
        if (*value[0].p == (uint8_t)questions[i].kind)
            l->found |= questions[i].left;
    return true;
}

enum look_rc state_look_message(struct session *s, uint8_t type, struct slice body)
{
    struct look *l = s->state_of.look;
    switch (type) {
    case 'D':
        l->full = l->full || !body.p; /* longer than anything that we keep */
        return !body.p || take_row(s, l, body) ? LOOK_MORE : LOOK_STOP;
    case 'E':
        l->failed = true;
        return LOOK_MORE;
    case 'S':
        return server_note_status(s->server, body) ? LOOK_MORE : LOOK_STOP;
    case 'C':
    case 'N':
    case 'T':
        return LOOK_MORE;
    case 'A':
        return LOOK_NOTIFICATION;
    case 'Z':
        return body.n == 1 && *body.p == 'I' ? LOOK_ENDED : LOOK_STOP;
    default:
        return LOOK_STOP;
    }
}

static void settle_settings(struct session *s, struct look *l)
{
    struct state_of *st = &s->state_of;
    struct label *actual = l->full ? NULL : label_find(&s->set->labels, &l->draft);
    if (!actual) {
        pin(s, LEFT_SETTINGS, st->fingerprint);
        return;
    }
    st->left &= (uint16_t)~LEFT_SETTINGS;
    custom_settings_free(&st->custom);
    if (st->sole)
        label_steps_add(&s->set->label_steps, s->server->label, actual,
                        (struct slice){st->text, st->text_n});
    take_label(s, actual);
    label_unref(actual);
}

void state_looked(struct session *s)
{
    struct state_of *st = &s->state_of;
    struct look *l = st->look;
    st->look = NULL;
    server_chore_end(s->server);
    st->doubt = l->failed;
    st->failures = l->failed && st->failures < LOOK_FAILURES_MAX ? st->failures + 1 : l->failed;
    if (l->failed) { /* asked again after the next transaction */
        LOG(LOG_WARN, "session.look_failed", LF_U("client", s->serial));
    } else {
        if (l->asked & LEFT_SETTINGS)
            settle_settings(s, l);
        uint16_t gone = l->asked & (uint16_t)~l->found & (uint16_t)~LEFT_SETTINGS;
        st->left &= (uint16_t)~gone;
        pin(s, l->found, st->fingerprint);
        st->touched = 0;
        if (!(st->left & LEFT_PREPARED))
            st->prepared = 0;
    }
    st->sole = false;
    free(l);
}

bool state_asks(struct session *s)
{
    struct state_of *st = &s->state_of;
    if (st->touched && step(s)) {
        st->touched = 0;
        st->sole = false;
        custom_settings_free(&st->custom);
    }
    if (!st->touched || st->doubt ||
        s->unnamed_kept) /* whose text only the server has: a query would end it */
        return false;
    look(s);
    return true;
}

/* A replica is not kept for what is in doubt: what comes next may belong on the primary. */
bool state_asks_again(struct session *s)
{
    struct state_of *st = &s->state_of;
    bool rests = s->tx_status == 'I' && s->replies.n == 0 && !s->segment_open && !s->copy_in &&
                 s->collected_bytes == 0;
    if (!st->doubt || !s->on_replica || !rests || s->unnamed_kept)
        return false;
    if (st->failures < LOOK_FAILURES_MAX)
        look(s);
    else
        session_fatal(s, "08006", "the settings of this session are not known",
                      "PGWEIR-STATE-UNKNOWN: PostgreSQL did not say what the last statements have "
                      "left on their replica.",
                      "Is statement_timeout shorter than a question to the catalog takes?");
    return true;
}

bool state_keeps_server(const struct session *s)
{
    return s->state_of.left != 0 || s->state_of.touched != 0;
}

bool state_is_soiled(const struct session *s)
{
    return (s->state_of.left & SOILS) != 0;
}

/* ---- the way SQL is read meanwhile ---- */

/* What was set in a transaction that has not ended changes how its statements are read: nobody else shares them. */
struct slice state_parse_env(struct session *s)
{
    struct state_of *st = &s->state_of;
    if (!(st->touched & LEFT_SETTINGS) && !st->rereads)
        return (struct slice){s->label->parse_env, s->label->parse_env_bytes};
    st->env[0] = s->serial;
    return (struct slice){(const uint8_t *)st->env, sizeof st->env};
}

void state_lost(struct session *s)
{
    struct state_of *st = &s->state_of;
    free(st->look);
    st->look = NULL;
    st->touched = st->left = st->prepared = 0;
    st->ahead = 0;
    st->sole = st->restored = st->discarded = st->rereads = st->doubt = false;
    custom_settings_free(&st->custom);
}

void state_free(struct session *s)
{
    state_lost(s);
    free(s->state_of.text);
    label_unref(s->state_of.startup);
}
