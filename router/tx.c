/* router/tx.c: transactions that are begun before a server is known. */
#include "router/tx.h"

#include "base/check.h"
#include "router/reader.h"

#include <strings.h>

/* ---- modes ---- */

struct tx_modes tx_modes_over(struct tx_modes over, struct tx_modes under)
{
    return (struct tx_modes){
        .isolation = over.isolation ? over.isolation : under.isolation,
        .access = over.access ? over.access : under.access,
        .deferrable = over.deferrable ? over.deferrable : under.deferrable,
    };
}

static bool same(struct slice a, const char *text)
{
    return a.n == strlen(text) && strncasecmp((const char *)a.p, text, a.n) == 0;
}

static const char *const isolation_texts[TX_ISOLATION_N] = {
    [TX_READ_UNCOMMITTED] = "read uncommitted",
    [TX_READ_COMMITTED] = "read committed",
    [TX_REPEATABLE_READ] = "repeatable read",
    [TX_SERIALIZABLE] = "serializable",
};

static uint8_t isolation_of(struct slice value)
{
    for (int i = 1; i < TX_ISOLATION_N; i++)
        if (same(value, isolation_texts[i]))
            return (uint8_t)i;
    return TX_ISOLATION_NONE;
}

/* PostgreSQL takes every unambiguous beginning of these words. 1: true, 0: false, -1: neither. */
static int bool_of(struct slice value)
{
    static const struct {
        const char *word;
        size_t least;
        int means;
    } words[] = {{"true", 1, 1}, {"false", 1, 0}, {"yes", 1, 1}, {"no", 1, 0},
                 {"on", 2, 1},   {"off", 2, 0},   {"1", 1, 1},   {"0", 1, 0}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (value.n >= words[i].least && value.n <= strlen(words[i].word) &&
            strncasecmp((const char *)value.p, words[i].word, value.n) == 0)
            return words[i].means;
    return -1;
}

enum { ISOLATION, READ_ONLY, DEFERRABLE, SETTINGS_N };
static const char setting_prefix[] = "default_"; /* without it: of the transaction that runs */
static const char *const setting_names[SETTINGS_N] = {
    [ISOLATION] = "default_transaction_isolation",
    [READ_ONLY] = "default_transaction_read_only",
    [DEFERRABLE] = "default_transaction_deferrable",
};

static bool set_one(struct tx_modes *modes, unsigned setting, struct slice value)
{
    int truth = bool_of(value);
    uint8_t isolation = isolation_of(value);
    if (setting == ISOLATION ? isolation == TX_ISOLATION_NONE : truth < 0)
        return false;
    if (setting == ISOLATION)
        modes->isolation = isolation;
    else if (setting == READ_ONLY)
        modes->access = truth ? TX_READ_ONLY : TX_READ_WRITE;
    else
        modes->deferrable = truth ? TX_DEFERRABLE : TX_NOT_DEFERRABLE;
    return true;
}

bool tx_modes_set(struct tx_modes *modes, struct slice name, struct slice value)
{
    for (unsigned i = 0; i < SETTINGS_N; i++)
        if (same(name, setting_names[i]))
            return set_one(modes, i, value);
    return false;
}

/* ---- statements ---- */

/* Nothing but semicolons up to the end. */
static bool ends(struct reader *r)
{
    reader_skip_semicolons(r);
    return r->token.kind == SCAN_END;
}

static bool accept_isolation(struct reader *r, struct tx_modes *modes)
{
    static const struct {
        const char *first, *second;
        enum tx_isolation is;
    } levels[] = {{"serializable", NULL, TX_SERIALIZABLE},
                  {"repeatable", "read", TX_REPEATABLE_READ},
                  {"read", "committed", TX_READ_COMMITTED},
                  {"read", "uncommitted", TX_READ_UNCOMMITTED}};
    struct reader level = *r;
    bool known = reader_accept(&level, "level");
    for (size_t i = 0; known && i < sizeof levels / sizeof *levels; i++) {
        *r = level;
        if (reader_accept(r, levels[i].first) &&
            (!levels[i].second || reader_accept(r, levels[i].second))) {
            modes->isolation = (uint8_t)levels[i].is;
            return true;
        }
    }
    return false;
}

static bool accept_mode(struct reader *r, struct tx_modes *modes)
{
    if (reader_accept(r, "isolation"))
        return accept_isolation(r, modes);
    if (reader_accept(r, "read")) {
        modes->access = reader_is_word(r, "only") ? TX_READ_ONLY : TX_READ_WRITE;
        return reader_accept(r, "only") || reader_accept(r, "write");
    }
    modes->deferrable = reader_accept(r, "not") ? TX_NOT_DEFERRABLE : TX_DEFERRABLE;
    return reader_accept(r, "deferrable");
}

/* mode [[,] mode]...; at least one if needed. */
static bool read_modes(struct reader *r, struct tx_modes *modes, bool needed)
{
    if (!needed && ends(r))
        return true;
    do {
        if (!accept_mode(r, modes))
            return false;
        if (reader_is_mark(r, ',')) {
            reader_next(r);
            if (ends(r))
                return false;
        }
    } while (!ends(r));
    return true;
}

static void read_begin(struct reader *r, struct tx_statement *st)
{
    if (!reader_accept(r, "work"))
        reader_accept(r, "transaction");
    if (read_modes(r, &st->modes, false))
        st->kind = TX_BEGIN;
}

static void read_start(struct reader *r, struct tx_statement *st)
{
    st->start = true;
    if (reader_accept(r, "transaction") && read_modes(r, &st->modes, false))
        st->kind = TX_BEGIN;
}

static void read_end(struct reader *r, struct tx_statement *st, enum tx_statement_kind kind)
{
    if (!reader_accept(r, "work"))
        reader_accept(r, "transaction");
    if (reader_accept(r, "and")) {
        st->chain = !reader_accept(r, "no");
        if (!reader_accept(r, "chain"))
            return;
    }
    if (ends(r))
        st->kind = (uint8_t)kind;
}

static void read_commit(struct reader *r, struct tx_statement *st)
{
    read_end(r, st, TX_COMMIT);
}

static void read_rollback(struct reader *r, struct tx_statement *st)
{
    read_end(r, st, TX_ROLLBACK);
}

/* The setting whose name is the token; with or without default_. SETTINGS_N: none of them. */
static unsigned read_setting(struct reader *r, bool *of_session)
{
    bool is_name = r->token.kind == SCAN_WORD;
    for (unsigned i = 0; is_name && i < SETTINGS_N; i++) {
        *of_session = same(r->token.text, setting_names[i]);
        if (*of_session || same(r->token.text, setting_names[i] + sizeof setting_prefix - 1)) {
            reader_next(r);
            return i;
        }
    }
    return SETTINGS_N;
}

/* A word, a number, or a plain '...'. */
static bool read_value(struct reader *r, struct slice *value)
{
    *value = r->token.text;
    if (r->token.kind == SCAN_STRING) {
        if (value->n < 2 || value->p[0] != '\'' || memchr(value->p, '\\', value->n) != NULL)
            return false;
        *value = (struct slice){value->p + 1, value->n - 2};
    } else if (r->token.kind != SCAN_WORD && r->token.kind != SCAN_NUMBER) {
        return false;
    }
    reader_next(r);
    return ends(r);
}

static void read_set_one(struct reader *r, struct tx_statement *st, bool local)
{
    bool of_session;
    struct slice value;
    unsigned setting = read_setting(r, &of_session);
    if (setting == SETTINGS_N || (local && of_session))
        return;
    if (!reader_is_mark(r, '=') && !reader_is_word(r, "to"))
        return;
    reader_next(r);
    bool resets = reader_is_word(r, "default");
    if (!read_value(r, &value))
        return;
    if (resets && !of_session)
        return;
    if (resets)
        st->reset = (uint8_t)(1 << setting);
    else if (!set_one(&st->modes, setting, value))
        return;
    st->kind = of_session ? TX_SET_SESSION : TX_SET;
}

static void read_set(struct reader *r, struct tx_statement *st)
{
    bool local = reader_accept(r, "local"), session = !local && reader_accept(r, "session");
    if (reader_accept(r, "transaction")) {
        if (read_modes(r, &st->modes, true))
            st->kind = TX_SET;
        return;
    }
    if (session && reader_accept(r, "characteristics")) {
        if (reader_accept(r, "as") && reader_accept(r, "transaction") &&
            read_modes(r, &st->modes, true))
            st->kind = TX_SET_SESSION;
        return;
    }
    read_set_one(r, st, local);
}

static void read_reset(struct reader *r, struct tx_statement *st)
{
    bool of_session = false;
    unsigned setting = read_setting(r, &of_session);
    if (setting == SETTINGS_N || !of_session || !ends(r))
        return;
    st->reset = (uint8_t)(1 << setting);
    st->kind = TX_SET_SESSION;
}

static const struct head {
    const char *word;
    void (*read)(struct reader *r, struct tx_statement *st);
} heads[] = {
    {"begin", read_begin}, {"start", read_start},       {"commit", read_commit},
    {"end", read_commit},  {"rollback", read_rollback}, {"abort", read_rollback},
    {"set", read_set},     {"reset", read_reset},
};

void tx_parse(struct slice sql, bool standard_conforming_strings, struct tx_statement *out)
{
    struct reader r;
    struct tx_statement st = {.kind = TX_OTHER};
    *out = st;
    if (sql.n > 0 && memchr(sql.p, 0, sql.n) != NULL)
        return; /* in a comment, say: PostgreSQL refuses the message */
    reader_begin(&r, sql, standard_conforming_strings);
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        if (reader_accept(&r, heads[i].word)) {
            heads[i].read(&r, &st);
            break;
        }
    if (st.kind == TX_OTHER) /* nothing of a statement that was read in part */
        st = (struct tx_statement){.kind = TX_OTHER};
    *out = st;
}

size_t tx_begin_text(struct tx_modes modes, char text[TX_BEGIN_MAX])
{
    static const char *const isolation[TX_ISOLATION_N] = {
        "", " ISOLATION LEVEL READ UNCOMMITTED", " ISOLATION LEVEL READ COMMITTED",
        " ISOLATION LEVEL REPEATABLE READ", " ISOLATION LEVEL SERIALIZABLE"};
    static const char *const access[TX_ACCESS_N] = {"", " READ ONLY", " READ WRITE"};
    static const char *const deferrable[TX_DEFERRABLE_N] = {"", " DEFERRABLE", " NOT DEFERRABLE"};
    const char *const parts[] = {"BEGIN", isolation[modes.isolation], access[modes.access],
                                 deferrable[modes.deferrable]};
    size_t n = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t part = strlen(parts[i]);
        CHECK(n + part < TX_BEGIN_MAX);
        memcpy(text + n, parts[i], part);
        n += part;
    }
    text[n] = '\0';
    return n;
}

/* ---- where ---- */

enum tx_place tx_place(struct tx_modes said, struct tx_modes session, bool optimistic)
{
    const struct tx_modes is = tx_modes_over(said, session);
    if (is.isolation == TX_SERIALIZABLE)
        return TX_SERIALIZABLE_ON_PRIMARY;
    if (is.access == TX_READ_ONLY)
        return TX_ON_REPLICA;
    /* default_transaction_read_only = off is everybody's default: it is not a wish. And while no server
     * has told the role's default isolation, it may be REPEATABLE READ. */
    const bool read_committed =
        is.isolation == TX_READ_COMMITTED || is.isolation == TX_READ_UNCOMMITTED;
    if (optimistic && said.access == TX_ACCESS_NONE && read_committed)
        return TX_ON_ANY;
    return TX_ON_PRIMARY;
}

/* By class; what the flags tell of a statement counts first. */
static const uint8_t fates[SQL_CLASS_N] = {
    [SQL_EMPTY] = TX_STAYS,
    [SQL_READ] = TX_STAYS,
    [SQL_COPY_OUT] = TX_STAYS,
    [SQL_SHOW] = TX_STAYS,
    [SQL_CATALOG_READ] = TX_STAYS,
    [SQL_NODE_IDENTITY] = TX_STAYS,
    [SQL_PRIMARY_RELATION] = TX_PRIMARY_ONLY, /* a sequence, an unlogged or a temporary table */
    [SQL_EXPLAIN] = TX_STAYS,
    [SQL_TX_CONTROL] = TX_STAYS,
    [SQL_SAVEPOINT] = TX_STAYS,
    [SQL_TX_STATE] = TX_STAYS,
    [SQL_XID] = TX_PRIMARY_ONLY,
    [SQL_CURSOR] = TX_STAYS,
    [SQL_PREPARE] = TX_PRIMARY_ONLY, /* it would keep the client there */
    [SQL_EXECUTE] = TX_STAYS,
    [SQL_DEALLOCATE] = TX_STAYS,
    [SQL_DISCARD] = TX_STAYS,
    [SQL_SESSION_STATE] = TX_PRIMARY_ONLY,
    [SQL_SESSION_FUNCTION] = TX_STAYS, /* set_config(..., true); locks and the like have flags */
    [SQL_LISTEN] = TX_PRIMARY_ONLY,
    [SQL_NOTIFY] = TX_PRIMARY_ONLY,
    [SQL_LOCKING_READ] = TX_STAYS,    /* 25006 */
    [SQL_WRITER_FUNCTION] = TX_MOVES, /* 25006 as a rule, but pg_notify() and its like may */
    [SQL_RUNS_SQL] = TX_MOVES,        /* what it runs may take an advisory lock */
    [SQL_HIDDEN_WRITE] = TX_STAYS,    /* 25006 */
    [SQL_LOCK] = TX_MOVES,
    [SQL_WAIT] = TX_STAYS,
    [SQL_COPY] = TX_MOVES,    /* a file is the primary's */
    [SQL_WRITE] = TX_STAYS,   /* 25006 */
    [SQL_DDL] = TX_STAYS,     /* 25006; temporary objects have a flag */
    [SQL_UTILITY] = TX_MOVES, /* ANALYZE is legal in it */
    [SQL_CALL] = TX_MOVES,
    [SQL_TWO_PHASE] = TX_MOVES,
    [SQL_UNKNOWN] = TX_MOVES, /* a function of the user's: likewise */
};

/* It ends the transaction, and does something behind its end that is no read. */
static bool tx_goes_on(const struct sql_facts *facts)
{
    const uint32_t flags = facts->flags;
    return flags & SQL_F_TX_CLOSED && !(flags & SQL_F_TX_END) && flags & SQL_F_NOT_READ;
}

enum tx_fate tx_fate(const struct sql_facts *facts)
{
    const uint32_t never = SQL_F_ADVISORY | SQL_F_TEMP | SQL_F_PIN;
    const uint32_t followed = SQL_F_DISCARD_ALL | SQL_F_SET | SQL_F_SET_FUNCTION;
    CHECK(facts->class < SQL_CLASS_N);
    if (facts->flags & never || tx_goes_on(facts))
        return TX_PRIMARY_ONLY;
    if (facts->flags & SQL_F_SESSION && !(facts->flags & followed))
        return TX_PRIMARY_ONLY;
    if (facts->flags &
        (SQL_F_SET | SQL_F_SET_FUNCTION)) /* it stays if it must: the client's label follows it */
        return TX_MOVES;
    if (facts->flags & SQL_F_BEGIN) /* another transaction may begin in it, and not READ ONLY */
        return TX_MOVES;
    return (enum tx_fate)fates[facts->class];
}

bool tx_leaves_state(const struct sql_facts *facts)
{
    const uint32_t state = SQL_F_SAVEPOINT | SQL_F_TX_STATE | SQL_F_CURSOR | SQL_F_BODY |
                           SQL_F_SET | SQL_F_SET_FUNCTION | SQL_F_HIDING;
    return (facts->flags & state) || facts->class == SQL_SESSION_FUNCTION ||
           facts->class == SQL_UNKNOWN || facts->class == SQL_RUNS_SQL ||
           facts->class == SQL_LOCK || facts->class == SQL_EXPLAIN;
}

/* ---- states ---- */

struct step {
    uint8_t next;   /* enum tx_state */
    uint8_t answer; /* enum tx_answer; 0: cannot be */
};

static const struct step steps[TX_STATE_N][TX_EVENT_N] = {
    [TX_NONE][TX_EV_BEGIN] = {TX_DEFERRED, TX_SAYS_BEGIN},
    [TX_NONE][TX_EV_COMMIT] = {TX_NONE, TX_TO_SERVER}, /* PostgreSQL warns */
    [TX_NONE][TX_EV_ROLLBACK] = {TX_NONE, TX_TO_SERVER},
    [TX_NONE][TX_EV_OTHER] = {TX_NONE, TX_TO_SERVER},
    [TX_NONE][TX_EV_BEGUN] = {TX_OPEN, TX_QUIET}, /* by a BEGIN among other things */
    [TX_NONE][TX_EV_ENDED] = {TX_NONE, TX_QUIET},
    [TX_NONE][TX_EV_AWAY] = {TX_NONE, TX_QUIET},
    [TX_NONE][TX_EV_REFUSED] = {TX_NONE, TX_QUIET},

    [TX_DEFERRED][TX_EV_BEGIN] = {TX_DEFERRED, TX_TO_SERVER},
    [TX_DEFERRED][TX_EV_COMMIT] = {TX_NONE, TX_SAYS_COMMIT},
    [TX_DEFERRED][TX_EV_ROLLBACK] = {TX_NONE, TX_SAYS_ROLLBACK},
    [TX_DEFERRED][TX_EV_OTHER] = {TX_DEFERRED, TX_TO_SERVER},
    [TX_DEFERRED][TX_EV_SENT] = {TX_OPEN, TX_QUIET},
    [TX_DEFERRED][TX_EV_AWAY] = {TX_DEFERRED, TX_QUIET}, /* lost before our BEGIN was sent */
    [TX_DEFERRED][TX_EV_REFUSED] = {TX_FAILED, TX_QUIET},

    [TX_OPEN][TX_EV_OTHER] = {TX_OPEN, TX_TO_SERVER},
    [TX_OPEN][TX_EV_BEGUN] = {TX_OPEN, TX_QUIET},
    [TX_OPEN][TX_EV_ENDED] = {TX_NONE, TX_QUIET},
    [TX_OPEN][TX_EV_AWAY] = {TX_DEFERRED, TX_QUIET},
    [TX_OPEN][TX_EV_REFUSED] = {TX_FAILED, TX_QUIET}, /* its BEGIN was answered by an error */

    [TX_FAILED][TX_EV_BEGIN] = {TX_FAILED, TX_SAYS_ABORTED},
    [TX_FAILED][TX_EV_COMMIT] = {TX_NONE, TX_SAYS_ROLLBACK},
    [TX_FAILED][TX_EV_ROLLBACK] = {TX_NONE, TX_SAYS_ROLLBACK},
    [TX_FAILED][TX_EV_OTHER] = {TX_FAILED, TX_SAYS_ABORTED},
};

enum tx_answer tx_step(uint8_t *state, enum tx_event event)
{
    CHECK(*state < TX_STATE_N && event < TX_EVENT_N);
    const struct step step = steps[*state][event];
    if (step.answer != TX_NOT_POSSIBLE)
        *state = step.next;
    return (enum tx_answer)step.answer;
}

char tx_status(enum tx_state state)
{
    static const char status[TX_STATE_N] = {'I', 'T', 'T', 'E'};
    CHECK(state < TX_STATE_N);
    return status[state];
}
