/* proxy/pool/label_sql.c: the SQL that gives a server the settings of a label. */
#include "proxy/pool/label.h"

#include <ctype.h>
#include <string.h>

/* E'...' reads the same whatever standard_conforming_strings says. */
void label_put_literal(struct put *out, const char *text)
{
    put_bytes(out, slice_of("E'"));
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            put_u8(out, (uint8_t)*text);
        put_u8(out, (uint8_t)*text);
    }
    put_bytes(out, slice_of("'"));
}

static void put_set_config(struct put *out, const char *name, const char *value,
                           void (*put)(struct put *, const char *text))
{
    put_bytes(out, slice_of("pg_catalog.set_config("));
    put(out, name);
    put_bytes(out, slice_of(","));
    put(out, value);
    put_bytes(out, slice_of(",false)"));
}

void label_put_setting(struct put *out, const char *name, const char *value)
{
    put_set_config(out, name, value, label_put_literal);
}

static bool is_ascii(const char *text)
{
    while (*text && (uint8_t)*text < 0x80)
        text++;
    return !*text;
}

/* The server that gets this may have had any encoding when it arrives, but has the label's when it is run. */
static void put_in_its_encoding(struct put *out, const char *text)
{
    static const char digits[] = "0123456789abcdef";
    if (is_ascii(text)) {
        label_put_literal(out, text);
        return;
    }
    put_bytes(out, slice_of("pg_catalog.convert_from(pg_catalog.decode('"));
    for (; *text; text++) {
        put_u8(out, (uint8_t)digits[(uint8_t)*text >> 4]);
        put_u8(out, (uint8_t)digits[(uint8_t)*text & 15]);
    }
    put_bytes(out, slice_of("','hex'),pg_catalog.current_setting('client_encoding'))"));
}

/* These two take rights away that the others may need; and the other comes before the texts that are in it. */
static bool is_rights(const char *name)
{
    return strcmp(name, "session_authorization") == 0 || strcmp(name, "role") == 0;
}

static void put_select(struct put *out, const char *name, const char *value)
{
    put_bytes(out, slice_of(";SELECT "));
    put_set_config(out, name, value, put_in_its_encoding);
}

static void put_if_set(struct put *out, const struct label *label, const char *name)
{
    const char *value = label_value(label, name);
    if (value)
        put_select(out, name, value);
}

static void put_from_nothing(const struct label *label, struct put *out)
{
    put_bytes(out, slice_of(LABEL_SQL_FIRST "RESET SESSION AUTHORIZATION;RESET ALL"));
    put_if_set(out, label, "client_encoding");
    for (struct entry e = {0}; entry_next(label_text(label), &e);)
        if (!is_rights(e.name) && strcmp(e.name, "client_encoding") != 0)
            put_select(out, e.name, e.value);
    put_if_set(out, label, "session_authorization");
    put_if_set(out, label, "role");
}

/* ---- from a label that is known ---- */

/* A SET says the same as set_config() does, for a third of its price. Not for names with a dot, which may be none before
 * PostgreSQL 16 has heard of them; not where SET reads a list, quotes its elements, or takes the rest from the value before. */
static bool is_plain(struct entry e)
{
    static const char *const others[] = {"client_encoding",           "datestyle",
                                         "local_preload_libraries",   "search_path",
                                         "session_preload_libraries", "temp_tablespaces"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(e.name, others[i]) == 0)
            return false;
    for (const char *c = e.name; *c; c++)
        if (!islower((unsigned char)*c) && !isdigit((unsigned char)*c) && *c != '_')
            return false;
    return !is_rights(e.name) && is_ascii(e.value);
}

static bool has(const struct label *label, struct entry e)
{
    const char *value = label_value(label, e.name);
    return value && strcmp(value, e.value) == 0;
}

static bool put_change(struct put *out, struct entry e, bool set)
{
    if (!is_plain(e))
        return false;
    put_bytes(out, slice_of(set ? ";SET \"" : ";RESET \""));
    put_bytes(out, slice_of(e.name));
    put_bytes(out, slice_of("\""));
    if (set) {
        put_bytes(out, slice_of("="));
        label_put_literal(out, e.value);
    }
    return true;
}

/* False: there is more to it than plain settings. */
static bool put_difference(const struct label *from, const struct label *to, struct put *out)
{
    for (struct entry e = {0}; entry_next(label_text(from), &e);) {
        if (is_rights(e.name))
            return false;
        if (!label_value(to, e.name) && !put_change(out, e, false))
            return false;
    }
    for (struct entry e = {0}; entry_next(label_text(to), &e);) {
        if (is_rights(e.name))
            return false;
        if (!has(from, e) && !put_change(out, e, true))
            return false;
    }
    return true;
}

bool label_sql(const struct label *from, const struct label *label, struct put *out)
{
    size_t start = out->n;
    if (!from || !put_difference(from, label, out)) {
        out->n = start;
        put_from_nothing(label, out);
    }
    return !out->full;
}
