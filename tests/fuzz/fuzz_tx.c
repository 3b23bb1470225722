/* tests/fuzz/fuzz_tx.c: transaction statements. Input: a byte for the strings, then SQL.
 *
 * What must hold: the parser and the classifier tell the same story of one text; what is answered without a
 * server is exactly one statement; the modes, written as BEGIN again, are the same; blanks and comments
 * change nothing; no order of events brings the states to what no enum knows.
 */
#include "base/check.h"
#include "router/tx.h"

#include <stdlib.h>

#define TEXT_MAX 2048

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tx_statement parse(struct slice sql, bool standard_strings)
{
    struct tx_statement st;
    memset(&st, 0xA5, sizeof st);
    tx_parse(sql, standard_strings, &st);
    CHECK(st.kind <= TX_SET_SESSION);
    CHECK(st.modes.isolation < TX_ISOLATION_N && st.modes.access < TX_ACCESS_N);
    CHECK(st.modes.deferrable < TX_DEFERRABLE_N);
    CHECK(st.reset == 0 || st.kind == TX_SET_SESSION);
    CHECK(!st.chain || st.kind == TX_COMMIT || st.kind == TX_ROLLBACK);
    CHECK(!st.start || st.kind == TX_BEGIN);
    return st;
}

static bool same_modes(struct tx_modes a, struct tx_modes b)
{
    return a.isolation == b.isolation && a.access == b.access && a.deferrable == b.deferrable;
}

static void check_begin_text(struct tx_modes modes)
{
    char text[TX_BEGIN_MAX];
    const size_t n = tx_begin_text(modes, text);
    CHECK(n < sizeof text && strlen(text) == n);
    const struct tx_statement again = parse(slice_of(text), true);
    CHECK(again.kind == TX_BEGIN && same_modes(again.modes, modes));
}

/* The facts are what the session sees first: tx_parse() may only say more of the same. */
static void check_facts(struct slice sql, bool standard_strings, const struct tx_statement *st)
{
    const struct sql_env env = {.standard_conforming_strings = standard_strings};
    struct sql_facts f;
    sql_classify(sql, &env, &f);
    if (st->kind == TX_OTHER)
        return;
    CHECK(f.statements == 1 && !(f.flags & SQL_F_READ));
    CHECK(
        f.class == (st->kind == TX_SET           ? SQL_TX_STATE
                    : st->kind == TX_SET_SESSION ? SQL_SESSION_STATE
                                                 : SQL_TX_CONTROL) ||
        (st->kind == TX_SET && f.class == SQL_SESSION_STATE)); /* SET transaction_read_only = on */
    CHECK((st->kind == TX_BEGIN || st->chain) == ((f.flags & SQL_F_BEGIN) != 0));
    CHECK((st->kind == TX_COMMIT) == ((f.flags & SQL_F_COMMIT) != 0));
    const bool ends = (st->kind == TX_COMMIT || st->kind == TX_ROLLBACK) && !st->chain;
    CHECK(ends == ((f.flags & SQL_F_TX_END) != 0));
    if (f.flags & SQL_F_BEGIN_READ_ONLY) /* the last word counts: READ ONLY READ WRITE is not */
        CHECK(st->modes.access == TX_READ_ONLY && st->modes.isolation != TX_SERIALIZABLE);
    if (st->modes.isolation == TX_SERIALIZABLE || st->modes.access == TX_READ_WRITE)
        CHECK(!(f.flags & SQL_F_BEGIN_READ_ONLY));
}

static struct slice around(const char *before, struct slice sql, const char *behind)
{
    static uint8_t text[TEXT_MAX + 64];
    const size_t head = strlen(before), tail = strlen(behind);
    memcpy(text, before, head);
    if (sql.n)
        memcpy(text + head, sql.p, sql.n);
    memcpy(text + head + sql.n, behind, tail);
    return (struct slice){text, head + sql.n + tail};
}

static void check_events(struct slice events)
{
    uint8_t state = TX_NONE;
    for (size_t i = 0; i < events.n; i++) {
        const uint8_t before = state;
        const enum tx_answer answer = tx_step(&state, (enum tx_event)(events.p[i] % TX_EVENT_N));
        CHECK(state < TX_STATE_N && answer <= TX_SAYS_ABORTED);
        CHECK(answer != TX_NOT_POSSIBLE || state == before);
        const char status = tx_status((enum tx_state)state);
        CHECK(status == (state == TX_NONE ? 'I' : state == TX_FAILED ? 'E' : 'T'));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > TEXT_MAX)
        return 0;
    const bool standard_strings = !(data[0] & 1);
    uint8_t *block = malloc(size);
    CHECK(block != NULL);
    memcpy(block, data + 1, size - 1);
    const struct slice sql = {block, size - 1};
    const struct tx_statement st = parse(sql, standard_strings);
    check_begin_text(st.modes);
    check_facts(sql, standard_strings, &st);
    check_events(sql);
    if (st.kind != TX_OTHER) {
        struct tx_statement again =
            parse(around("/* x */;", sql, "\n; /* y */ -- z"), standard_strings);
        CHECK(memcmp(&again, &st, sizeof st) == 0);
        again = parse(around("", sql, "\n; SELECT 1"), standard_strings);
        CHECK(again.kind == TX_OTHER);
    }
    free(block);
    return 0;
}
