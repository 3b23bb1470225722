/* tests/fuzz/fuzz_setting.c: SET, RESET and SHOW of pgweir.* in a text. Input: a byte for the strings, then SQL.
 *
 * What must hold: what is read lies in the text, is written again as the same, and a text of one
 * statement that changes a setting of ours never passes for PostgreSQL's.
 */
#include "base/check.h"
#include "proxy/session/settings.h"
#include "router/classify.h"
#include "router/setting.h"

#include <stdio.h>
#include <stdlib.h>

#define TEXT_MAX 2048

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct setting_statement read_text(struct slice sql, bool standard_strings)
{
    struct setting_statement st;
    setting_read(sql, standard_strings, &st);
    CHECK(st.name_n <= SETTING_NAME_MAX && strlen(st.name) <= st.name_n);
    CHECK(st.value.n == 0 || (st.value.p >= sql.p && st.value.p + st.value.n <= sql.p + sql.n));
    const bool ours = st.kind != SETTING_NONE && st.kind != SETTING_RESET_ALL;
    CHECK(!ours || setting_is_ours((struct slice){(const uint8_t *)st.name, st.name_n}));
    return st;
}

static bool is_plain(struct slice value)
{
    for (size_t i = 0; i < value.n; i++)
        if (value.p[i] == '\'' || value.p[i] == '\\' || value.p[i] == '\0')
            return false;
    return true;
}

/* How the same is said in another way; the name stands between, the value in quotes behind. */
static const struct form {
    const char *before, *behind;
    bool valued;
} forms[] = {
    [SETTING_SET] = {"SET \"", "\" = '", true},
    [SETTING_SET_LOCAL] = {"set local \"", "\" to '", true},
    [SETTING_DEFAULT] = {"SET SESSION \"", "\" TO DEFAULT", false},
    [SETTING_LOCAL_DEFAULT] = {"SET LOCAL \"", "\" = default", false},
    [SETTING_RESET] = {"RESET \"", "\"", false},
    [SETTING_SHOW] = {";; SHOW \"", "\" ;", false},
};

static void check_again(const struct setting_statement *st)
{
    char text[TEXT_MAX + 256];
    if (st->kind >= sizeof forms / sizeof *forms || !forms[st->kind].before ||
        strchr(st->name, '"') || strlen(st->name) != st->name_n || !is_plain(st->value))
        return;
    const struct form *form = &forms[st->kind];
    const int n = snprintf(text, sizeof text, "%s%s%s%.*s%s", form->before, st->name, form->behind,
                           form->valued ? (int)st->value.n : 0, (const char *)st->value.p,
                           form->valued ? "';" : "");
    CHECK(n > 0 && (size_t)n < sizeof text);
    const struct setting_statement again =
        read_text((struct slice){(uint8_t *)text, (size_t)n}, true);
    CHECK(again.kind == st->kind && strcmp(again.name, st->name) == 0);
    CHECK(!form->valued || slice_equals(again.value, st->value));
}

/* The session looks for settings of ours only where the facts say that a setting changes. */
static void check_facts(struct slice sql, bool standard_strings, const struct setting_statement *st)
{
    const struct sql_env env = {.standard_conforming_strings = standard_strings};
    struct sql_facts facts;
    sql_classify(sql, &env, &facts);
    if (facts.reason == ROUTE_WHY_BAD_TOKEN || facts.reason == ROUTE_WHY_TOO_DEEP)
        return; /* PostgreSQL refuses it */
    CHECK(st->kind == SETTING_NONE || !(facts.flags & SQL_F_READ));
    if (st->kind == SETTING_SET || st->kind == SETTING_SET_LOCAL || st->kind == SETTING_DEFAULT ||
        st->kind == SETTING_LOCAL_DEFAULT || st->kind == SETTING_RESET || st->kind == SETTING_LIST)
        CHECK(settings_may_be(&facts));
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
    const struct setting_statement st = read_text(sql, standard_strings);
    check_again(&st);
    check_facts(sql, standard_strings, &st);
    const bool within = setting_within(sql, standard_strings);
    if (st.kind != SETTING_NONE && st.kind != SETTING_SHOW && st.kind != SETTING_RESET_ALL &&
        st.kind != SETTING_MIXED)
        CHECK(within);
    free(block);
    return 0;
}
