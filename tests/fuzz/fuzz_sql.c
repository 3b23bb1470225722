/* tests/fuzz/fuzz_sql.c: promises of the scanner and the classifier for any bytes.
 *
 * The first byte chooses the environment, the rest is SQL.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "proxy/wire/frame.h"
#include "proxy/wire/put.h"
#include "router/classify.h"
#include "router/decide.h"
#include "router/hint.h"
#include "router/scan.h"
#include "router/setting.h"

#define TEXT_MAX 8192

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Tokens lie in the text, in order, and never overlap. True: the text is complete. */
static bool check_tokens(struct slice sql, bool standard_strings)
{
    struct scan s;
    struct scan_token t;
    const uint8_t *last = sql.p;
    scan_init(&s, sql, standard_strings);
    for (;;) {
        scan_next(&s, &t);
        CHECK(t.text.p >= last && t.text.p + t.text.n <= sql.p + sql.n);
        CHECK(s.at >= t.text.p + t.text.n && s.at <= sql.p + sql.n);
        if (t.kind == SCAN_END || t.kind == SCAN_BAD)
            return t.kind == SCAN_END;
        CHECK(s.at > last);
        last = t.text.p + t.text.n;
    }
}

static void check_facts(const struct sql_facts *f)
{
    CHECK(f->class < SQL_CLASS_N && f->reason < ROUTE_WHY_N);
    const bool read = (f->flags & SQL_F_READ) != 0;
    CHECK(read == sql_class_on_replica((enum sql_class)f->class));
    CHECK(!read || !(f->flags & (SQL_F_NOT_READ | SQL_F_SESSION | SQL_F_ADVISORY | SQL_F_BEGIN |
                                 SQL_F_TX_END | SQL_F_COMMIT | SQL_F_COPY_IN)));
    CHECK(((f->flags & SQL_F_EMPTY) != 0) == (f->statements == 0));
    CHECK(((f->flags & SQL_F_MULTI) != 0) == (f->statements > 1));
    CHECK((f->flags & SQL_F_SESSION) ||
          !(f->flags & (SQL_F_PIN | SQL_F_SET | SQL_F_SET_FUNCTION | SQL_F_TAINT)));
}

/* A hint lies in the text, and there is none without a comment. */
static void check_hint(struct slice sql, bool standard_strings)
{
    struct hint hint;
    hint_read(sql, standard_strings, &hint);
    CHECK(hint.route < HINT_ROUTE_N);
    CHECK(hint.min_lsn.n == 0 ||
          (hint.min_lsn.p >= sql.p && hint.min_lsn.p + hint.min_lsn.n <= sql.p + sql.n));
    const bool possible = memmem(sql.p, sql.n, "/*", 2) && memmem(sql.p, sql.n, "*/", 2);
    CHECK(possible || (hint.route == HINT_NONE && hint.min_lsn.n == 0));
}

static void check_setting(struct slice sql, bool standard_strings)
{
    struct setting_statement st;
    setting_read(sql, standard_strings, &st);
    CHECK(st.name_n <= SETTING_NAME_MAX && st.name[st.name_n] == '\0');
    CHECK(st.value.n == 0 || (st.value.p >= sql.p && st.value.p + st.value.n <= sql.p + sql.n));
    const bool ours = st.kind != SETTING_NONE && st.kind != SETTING_RESET_ALL;
    CHECK(!ours || setting_is_ours((struct slice){(const uint8_t *)st.name, st.name_n}));
    if (st.kind == SETTING_SET || st.kind == SETTING_RESET)
        CHECK(setting_within(sql, standard_strings));
}

/* The facts of "before sql after". */
static struct sql_facts facts_around(const char *before, struct slice sql, const char *after,
                                     const struct sql_env *env)
{
    static uint8_t text[TEXT_MAX + 64];
    const size_t head = strlen(before), tail = strlen(after);
    struct sql_facts f;
    CHECK(head + tail < 64 && sql.n <= TEXT_MAX);
    memcpy(text, before, head);
    memcpy(text + head, sql.p, sql.n);
    memcpy(text + head + sql.n, after, tail);
    sql_classify((struct slice){text, head + sql.n + tail}, env, &f);
    check_facts(&f);
    return f;
}

/* Where the text lies changes nothing: at another alignment, in a block that ends with it. */
static void check_copies(struct slice sql, const struct sql_env *env, const struct sql_facts *facts)
{
    for (size_t shift = 0; shift < 8; shift += 3) {
        uint8_t *block = malloc(sql.n + shift + 1);
        struct sql_facts f;
        CHECK(block != NULL);
        memset(block, '\'', sql.n + shift + 1);
        memcpy(block + shift + (shift == 0), sql.p, sql.n); /* 0: the block ends with the text */
        sql_classify((struct slice){block + shift + (shift == 0), sql.n}, env, &f);
        CHECK(memcmp(&f, facts, sizeof f) == 0);
        free(block);
    }
}

/* ---- random splits ---- */

static uint64_t seed_of(struct slice sql)
{
    uint64_t seed = UINT64_C(0xCBF29CE484222325);
    for (size_t i = 0; i < sql.n; i++)
        seed = (seed ^ sql.p[i]) * UINT64_C(0x100000001B3);
    return seed;
}

static uint32_t below(uint64_t *seed, uint32_t n)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((*seed >> 33) % n);
}

static void take_pieces(struct frame_scan *scan, struct slice in, uint8_t *body, size_t *n)
{
    struct frame_piece piece;
    while (frame_next(scan, &in, FRAME_BODY_MAX, &piece) == FRAME_OK) {
        CHECK(piece.body_offset == *n);
        memcpy(body + *n, piece.body.p, piece.body.n);
        *n += piece.body.n;
    }
}

/* The Query message, however its bytes arrive, has one text and one classification. */
static void check_pieces(struct slice sql, const struct sql_env *env, const struct sql_facts *facts)
{
    static uint8_t message[TEXT_MAX + 8], body[TEXT_MAX + 8];
    struct put o = put_into(message, sizeof message);
    struct frame_scan scan = {0};
    struct sql_facts f;
    uint64_t seed = seed_of(sql);
    size_t n = 0;
    if (sql.n == 0 || memchr(sql.p, 0, sql.n) != NULL)
        return;
    put_query(&o, sql);
    CHECK(!o.full);
    for (size_t at = 0, bytes; at < o.n; at += bytes) {
        const size_t left = o.n - at;
        bytes = below(&seed, 8) == 0 ? left : 1 + below(&seed, (uint32_t)(left < 40 ? left : 40));
        take_pieces(&scan, (struct slice){message + at, bytes}, body, &n);
    }
    CHECK(n == sql.n + 1 && body[sql.n] == '\0');
    sql_classify((struct slice){body, sql.n}, env, &f);
    CHECK(memcmp(&f, facts, sizeof f) == 0);
}

/* The text cut at each (or at some) of the semicolons that part its statements, as when it comes in several
 * messages: its parts, joined, are the whole. */
static void check_joined(struct slice sql, const struct sql_env *env, const struct sql_facts *facts,
                         bool at_every)
{
    struct scan s;
    struct scan_token t = {SCAN_PUNCT, {sql.p, 0}};
    struct sql_facts joined, one;
    const uint8_t *from = sql.p;
    uint64_t seed = seed_of(sql);
    int depth = 0;
    sql_facts_init(&joined);
    scan_init(&s, sql, env->standard_conforming_strings);
    while (t.kind != SCAN_END) {
        scan_next(&s, &t);
        const uint8_t mark = t.kind == SCAN_PUNCT ? t.text.p[0] : 0;
        depth += (mark == '(') - (mark == ')');
        if (depth < 0 || (mark == ';' && depth != 0))
            return; /* in a rule's list, or unbalanced */
        if (t.kind != SCAN_END && (mark != ';' || (!at_every && below(&seed, 2) == 0)))
            continue;
        sql_classify((struct slice){from, (size_t)(t.text.p - from)}, env, &one);
        if (one.flags & SQL_F_DDL)
            return; /* BEGIN ATOMIC holds semicolons of its own */
        sql_facts_join(&joined, &one);
        from = s.at;
    }
    CHECK(joined.class == facts->class && joined.reason == facts->reason);
    CHECK(joined.flags == facts->flags && joined.statements == facts->statements);
}

static const struct catalog *catalog_of_some_names(void)
{
    static struct catalog *catalog;
    if (catalog != NULL)
        return catalog;
    catalog = catalog_new(1);
    static const char *const names[] = {"t", "u", "a", "b", "f", "x"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        for (int kind = 0; kind < CATALOG_KIND_N; kind++)
            catalog_put(catalog, (enum catalog_kind)kind, slice_of("public"), slice_of(names[i]),
                        i % 3 == 2 ? SQL_WRITER_FUNCTION : SQL_READ,
                        i % 3 == 2 ? ROUTE_WHY_USER_FUNCTION : ROUTE_WHY_READ);
    return catalog;
}

/* Never better than without: only names that are not built in may become reads. */
static void check_catalog(struct slice sql, struct sql_env env, const struct sql_facts *without)
{
    struct sql_facts with;
    env.catalog = catalog_of_some_names();
    struct sql_facts in_full;
    sql_classify(sql, &env, &with);
    sql_classify_in_full(sql, &env, &in_full);
    CHECK(memcmp(&with, &in_full, sizeof with) == 0);
    check_facts(&with);
    check_copies(sql, &env, &with);
    CHECK(with.fingerprint == without->fingerprint && with.statements == without->statements);
    if (with.flags & SQL_F_READ)
        CHECK((without->flags & SQL_F_READ) || without->class == SQL_UNKNOWN);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > TEXT_MAX)
        return 0;
    const struct sql_env env = {.standard_conforming_strings = !(data[0] & 1),
                                .ascii_trail_bytes = (data[0] & 0xFE) == 0xFE};
    const struct slice sql = {data + 1, size - 1};
    const bool complete = check_tokens(sql, env.standard_conforming_strings);
    struct sql_facts f, again;
    sql_classify(sql, &env, &f);
    sql_classify_in_full(sql, &env, &again);
    check_facts(&f);
    check_hint(sql, env.standard_conforming_strings);
    check_setting(sql, env.standard_conforming_strings);
    CHECK(memcmp(&f, &again, sizeof f) == 0);
    CHECK(complete || !(f.flags & SQL_F_READ));
    check_copies(sql, &env, &f);
    check_catalog(sql, env, &f);
    if (complete && !env.ascii_trail_bytes && memchr(sql.p, 0, sql.n) == NULL) {
        check_joined(sql, &env, &f, true);
        check_joined(sql, &env, &f, false);
    }
    check_pieces(sql, &env, &f);

    /* A write in front or behind is never a read; the newline ends a comment. */
    CHECK(!(facts_around("", sql, "\n; DELETE FROM t", &env).flags & SQL_F_READ));
    CHECK(!(facts_around("DELETE FROM t;", sql, "", &env).flags & SQL_F_READ));
    if (!complete || env.ascii_trail_bytes)
        return 0;
    /* Nor is a locking clause (x: behind AS any word is a label), an INTO, or a call of what we do not know. */
    if (f.class == SQL_READ)
        CHECK(!(facts_around("", sql, "\n x FOR UPDATE", &env).flags & SQL_F_READ));
    /* 1 +: behind an open WITH list a name with a parenthesis would be the next query's, with its columns. */
    again = facts_around("SELECT (", sql, "\n), 1 + unknown_function(1)", &env);
    CHECK(!(again.flags & SQL_F_READ) ||
          again.class == SQL_COPY_OUT); /* behind TO STDOUT: no call */
    CHECK(!(facts_around("SELECT nextval('s'), (", sql, "\n)", &env).flags & SQL_F_READ));
    /* Blanks and comments around change nothing. */
    again = facts_around(" /* x */ \n", sql, "\n/* y */ -- z", &env);
    CHECK(memcmp(&f, &again, sizeof f) == 0);
    return 0;
}
