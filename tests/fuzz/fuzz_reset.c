/* tests/fuzz/fuzz_reset.c: statements about one setting or one prepared statement (router/reset.h, router/deallocate.h).
 * Input: a byte for the strings, then SQL.
 *
 * What must hold: what is said of a text is also what the classifier says of it; a text is one such statement or none;
 * blanks and comments change nothing; a name that was read, written again in quotes, is the same name.
 */
#include "base/check.h"
#include "router/classify.h"
#include "router/deallocate.h"
#include "router/reset.h"

#include <stdio.h>
#include <stdlib.h>

#define TEXT_MAX 2048

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t wrapped[TEXT_MAX + 64];

static struct slice around(const char *before, struct slice sql, const char *behind)
{
    const size_t head = strlen(before), tail = strlen(behind);
    memcpy(wrapped, before, head);
    if (sql.n)
        memcpy(wrapped + head, sql.p, sql.n);
    memcpy(wrapped + head + sql.n, behind, tail);
    return (struct slice){wrapped, head + sql.n + tail};
}

static struct sql_facts facts_of(struct slice sql, bool standard)
{
    const struct sql_env env = {.standard_conforming_strings = standard};
    struct sql_facts f;
    sql_classify(sql, &env, &f);
    return f;
}

/* "name", with quotes doubled. */
static struct slice quoted(const char *head, const uint8_t *name, size_t n)
{
    static uint8_t text[2 * RESET_NAME_MAX + 32];
    size_t at = strlen(head);
    memcpy(text, head, at);
    text[at++] = '"';
    for (size_t i = 0; i < n; i++) {
        if (name[i] == '"')
            text[at++] = '"';
        text[at++] = name[i];
    }
    text[at++] = '"';
    return (struct slice){text, at};
}

/* ---- RESET ---- */

static struct reset reset_of(struct slice sql, bool standard)
{
    struct reset r;
    memset(&r, 0xA5, sizeof r);
    reset_read(sql, standard, &r);
    CHECK(r.kind <= RESET_ALL);
    if (r.kind != RESET_ONE)
        return (struct reset){.kind = r.kind};
    CHECK(memchr(r.name, 0, sizeof r.name) != NULL && r.name[0] != '\0');
    for (const char *c = r.name; *c; c++)
        CHECK(*c < 'A' || *c > 'Z');
    return r;
}

static bool same_reset(struct reset a, struct reset b)
{
    return a.kind == b.kind && (a.kind != RESET_ONE || strcmp(a.name, b.name) == 0);
}

static void check_reset(struct slice sql, bool standard)
{
    const struct reset r = reset_of(sql, standard);
    if (r.kind == RESET_OTHER)
        return;
    const struct sql_facts f = facts_of(sql, standard);
    CHECK(f.statements == 1 && !(f.flags & SQL_F_READ));
    CHECK(same_reset(r, reset_of(around("/* x */;", sql, "\n; /* y */ -- z"), standard)));
    CHECK(reset_of(around("", sql, "\n; SELECT 1"), standard).kind == RESET_OTHER);
    CHECK(reset_of(around("SELECT 1;", sql, ""), standard).kind == RESET_OTHER);
    if (r.kind == RESET_ONE && !strchr(r.name, '"'))
        CHECK(same_reset(
            r, reset_of(quoted("RESET ", (const uint8_t *)r.name, strlen(r.name)), standard)));
}

/* ---- DEALLOCATE ---- */

static struct deallocate deallocate_of(struct slice sql, bool standard)
{
    struct deallocate d;
    memset(&d, 0xA5, sizeof d);
    deallocate_read(sql, standard, &d);
    CHECK(d.kind <= DEALLOCATE_ALL && d.name_n <= DEALLOCATE_NAME_MAX);
    CHECK(d.kind != DEALLOCATE_ONE || d.name_n > 0);
    return d;
}

static bool same_deallocate(struct deallocate a, struct deallocate b)
{
    return a.kind == b.kind && (a.kind != DEALLOCATE_ONE ||
                                (a.name_n == b.name_n && memcmp(a.name, b.name, a.name_n) == 0));
}

static void check_deallocate(struct slice sql, bool standard)
{
    const struct deallocate d = deallocate_of(sql, standard);
    if (d.kind == DEALLOCATE_OTHER)
        return;
    const struct sql_facts f = facts_of(sql, standard);
    CHECK(f.statements == 1 && f.class == SQL_DEALLOCATE);
    CHECK(((f.flags & SQL_F_DEALLOCATE_ALL) != 0) == (d.kind == DEALLOCATE_ALL));
    CHECK(same_deallocate(d, deallocate_of(around("/* x */;", sql, "\n; -- z"), standard)));
    CHECK(deallocate_of(around("", sql, "\n; SELECT 1"), standard).kind == DEALLOCATE_OTHER);
    if (d.kind == DEALLOCATE_ONE)
        CHECK(same_deallocate(d, deallocate_of(quoted("DEALLOCATE ", d.name, d.name_n), standard)));
}

/* ---- EXECUTE, PREPARE ---- */

static void check_named(struct slice sql, bool standard)
{
    struct named n, again;
    memset(&n, 0xA5, sizeof n);
    named_read(sql, standard, &n);
    CHECK(n.kind <= NAMED_PREPARE && n.name_n <= DEALLOCATE_NAME_MAX);
    if (n.kind == NAMED_OTHER)
        return;
    CHECK(n.name_n > 0 && n.written.n >= n.name_n);
    CHECK(n.written.p >= sql.p && n.written.p + n.written.n <= sql.p + sql.n);
    const struct sql_facts f = facts_of(sql, standard);
    CHECK(f.flags & (n.kind == NAMED_EXECUTE ? SQL_F_EXECUTE : SQL_F_PREPARE));
    CHECK((*n.written.p == '"') == (n.written.p[n.written.n - 1] == '"'));
    named_read(quoted(n.kind == NAMED_EXECUTE ? "EXECUTE " : "PREPARE ", n.name, n.name_n),
               standard, &again);
    CHECK(again.kind == n.kind && again.name_n == n.name_n);
    CHECK(memcmp(again.name, n.name, n.name_n) == 0);
    named_read(around("/* x */;", sql, ""), standard, &again);
    CHECK(again.kind == n.kind && slice_equals(again.written, n.written));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > TEXT_MAX)
        return 0;
    const bool standard = !(data[0] & 1);
    if (memchr(data + 1, 0, size - 1) != NULL) /* no SQL text has one */
        return 0;
    uint8_t *block = malloc(size);
    CHECK(block != NULL);
    memcpy(block, data + 1, size - 1);
    const struct slice sql = {block, size - 1};
    check_reset(sql, standard);
    check_deallocate(sql, standard);
    check_named(sql, standard);
    free(block);
    return 0;
}
