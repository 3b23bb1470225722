/* router/guard.c: the table of what a standby says when it cannot serve a read that the primary can. */
#include "router/guard.h"

#define FILES_MAX 3

struct row {
    const char *sqlstate; /* five characters, or the two of a class */
    enum guard_action action;
    const char *files[FILES_MAX]; /* raised in one of them (none: anywhere) ... */
    const char *words;            /* ... or with these words in message or detail */
};

static const struct row rows[] = {
    /* A write, or an id for one: PreventCommandIfReadOnly(), PreventCommandDuringRecovery(). */
    {"25006", GUARD_LEARN, {NULL}, NULL},
    /* Temporary or unlogged relations; SERIALIZABLE. */
    {"0A000", GUARD_LEARN, {"plancat.c", "predicate.c"}, "during recovery"},
    {"0A000", GUARD_LEARN, {"predicate.c"}, "hot standby"},
    /* WAL positions that a standby does not have. */
    {"55000", GUARD_LEARN, {"xlogfuncs.c"}, "recovery is in progress"},
    /* DDL and GRANT that have not been replayed, or a name that does not exist: the primary knows. */
    {"42P01", GUARD_PRIMARY, {NULL}, NULL},
    {"42703", GUARD_PRIMARY, {NULL}, NULL},
    {"42883", GUARD_PRIMARY, {NULL}, NULL},
    {"42704", GUARD_PRIMARY, {NULL}, NULL},
    {"3F000", GUARD_PRIMARY, {NULL}, NULL},
    {"42501", GUARD_PRIMARY, {NULL}, NULL},
    /* Conflicts with recovery, the deadlock of a buffer pin among them. */
    {"40001", GUARD_ELSEWHERE, {"postgres.c", "standby.c", "procsignal.c"}, "recovery"},
    {"40P01", GUARD_ELSEWHERE, {"postgres.c", "standby.c", "procsignal.c"}, "recovery"},
    /* It goes away, is full, or lost somebody. */
    {"57P01", GUARD_ELSEWHERE, {NULL}, NULL},
    {"57P02", GUARD_ELSEWHERE, {NULL}, NULL},
    {"57P03", GUARD_ELSEWHERE, {NULL}, NULL},
    {"57P04", GUARD_ELSEWHERE, {NULL}, NULL},
    {"57P05", GUARD_ELSEWHERE, {NULL}, NULL}, /* it sat idle for too long just before */
    {"53300", GUARD_ELSEWHERE, {NULL}, NULL},
    {"08", GUARD_ELSEWHERE, {NULL}, NULL},
};

static bool has_code(const struct row *row, struct slice sqlstate)
{
    return sqlstate.n == 5 && memcmp(sqlstate.p, row->sqlstate, strlen(row->sqlstate)) == 0;
}

static bool holds(struct slice text, const char *words)
{
    return text.n > 0 && memmem(text.p, text.n, words, strlen(words)) != NULL;
}

static bool has_context(const struct row *row, const struct guard_error *e)
{
    if (!row->words)
        return true;
    for (int i = 0; i < FILES_MAX && row->files[i]; i++)
        if (slice_is(e->file, row->files[i]))
            return true;
    return holds(e->message, row->words) || holds(e->detail, row->words);
}

enum guard_action guard_judge(const struct guard_error *e)
{
    if (e->read_only && slice_is(e->sqlstate, "25006"))
        return GUARD_PASS; /* the primary would say the same */
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (has_code(&rows[i], e->sqlstate) && has_context(&rows[i], e))
            return rows[i].action;
    return GUARD_PASS;
}

bool guard_role_changed(const struct guard_error *e)
{
    return !e->read_only && slice_is(e->sqlstate, "25006");
}
