/* tests/fuzz/fuzz_catalog_rows.c: rows of a hostile server. Input: rows, each a byte for the query (mod their
 * number; it never goes back, as the answers come in order), then its fields, each a byte for its length and
 * so many bytes. 0xFF is a null, 0xFE a long field (the next byte, 1000 times).
 *
 * What must hold: what does not fit ends with a printable error and no catalog; else the proof ends, and in the
 * catalog that it gives nothing is a read that a row called bad, nor a relation that depends on one.
 */
#include "base/check.h"
#include "proxy/control/catalog_rows.h"
#include "router/classify.h"

#include <stdlib.h>

#define ROWS_MAX 256
#define LONG_BYTES 1000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Own blocks, so that no field is read beyond its end. */
static struct slice take_field(struct slice *in)
{
    if (in->n == 0)
        return SLICE_NONE;
    const uint8_t head = in->p[0];
    *in = slice_skip(*in, 1);
    if (head == 0xFF)
        return SLICE_NONE;
    const bool is_long = head == 0xFE && in->n > 0;
    size_t n = is_long ? LONG_BYTES : head;
    if (!is_long && n > in->n)
        n = in->n;
    uint8_t *block = malloc(n ? n : 1);
    CHECK(block != NULL);
    if (is_long)
        memset(block, in->p[0], n);
    else if (n)
        memcpy(block, in->p, n);
    *in = slice_skip(*in, is_long ? 1 : n);
    return (struct slice){block, n};
}

struct row {
    enum catalog_query query;
    struct slice fields[CATALOG_FIELDS_MAX];
};

static bool is_true(struct slice field)
{
    return slice_is(field, "t");
}

static struct catalog_answer find(const struct catalog *catalog, enum catalog_kind kind,
                                  const struct slice *schema, const struct slice *name)
{
    const struct catalog_name in = {*schema, true, 0}, of = {*name, true, 0};
    return catalog_find(catalog, kind, &in, &of);
}

/* What its row calls bad is no read, whatever else was said of its name. */
static void check_bad(const struct catalog *catalog, enum catalog_kind kind,
                      const struct slice *schema, const struct slice *name)
{
    const struct catalog_answer a = find(catalog, kind, schema, name);
    CHECK(!a.known || a.class > SQL_COPY_OUT);
}

/* kind, persistence: no table, view or materialized view that is permanent is a read. */
static bool may_be_read(struct slice kind, struct slice persistence)
{
    return slice_is(persistence, "p") && kind.n == 1 && memchr("rpmvc", kind.p[0], 5) != NULL;
}

static void check_row(const struct catalog *catalog, const struct row *row)
{
    const struct slice *f = row->fields;
    switch ((unsigned)row->query) {
    case CATALOG_Q_FUNCTIONS:
    case CATALOG_Q_AGGREGATES:
        if (is_true(f[2]))
            check_bad(catalog, CATALOG_FUNCTION, &f[0], &f[1]);
        break;
    case CATALOG_Q_OPERATORS:
        if (is_true(f[2]))
            check_bad(catalog, CATALOG_OPERATOR, &f[0], &f[1]);
        break;
    case CATALOG_Q_TYPES:
        if (is_true(f[3]) && f[2].n > 0)
            check_bad(catalog, CATALOG_TYPE, &f[1], &f[2]);
        break;
    case CATALOG_Q_RELATIONS:
        if (!may_be_read(f[3], f[4]) && !slice_is(f[3], "c") && !slice_is(f[3], "v") && f[2].n > 0)
            check_bad(catalog, CATALOG_RELATION, &f[1], &f[2]);
        break;
    case CATALOG_Q_OPCLASSES:
        if (is_true(f[0]))
            CHECK(catalog_rule(catalog, CATALOG_EVERYWHERE).class > SQL_COPY_OUT);
        break;
    default:
        break;
    }
}

static void check_error(const struct catalog_rows *rows)
{
    const char *text = catalog_rows_error(rows);
    CHECK(*text != '\0' && strlen(text) < 160);
    for (; *text; text++)
        CHECK((unsigned char)*text >= 0x20 && *text != 0x7f);
}

/* NULL: refused, with an error. */
static struct catalog *load(const struct row *list, size_t n, unsigned steps)
{
    struct catalog_rows *rows = catalog_rows_new(1);
    struct catalog_counts counts;
    struct catalog *catalog = NULL;
    bool ok = true;
    for (size_t i = 0; ok && i < n; i++)
        ok = catalog_rows_take(rows, list[i].query, list[i].fields);
    CHECK(ok == (catalog_rows_error(rows)[0] == '\0'));
    enum catalog_progress progress = CATALOG_MORE;
    for (unsigned turns = 0; progress == CATALOG_MORE; turns++) {
        progress = catalog_rows_prove(rows, steps);
        CHECK(turns <= CATALOG_PASSES_MAX * (n + 2));
    }
    CHECK(ok || progress == CATALOG_FAILED);
    if (progress == CATALOG_DONE)
        catalog = catalog_rows_finish(rows, &counts);
    else
        check_error(rows);
    catalog_rows_free(rows);
    return catalog;
}

/* In steps of one text the proof gives the same catalog for every name. */
static void check_same(const struct catalog *a, const struct catalog *b, const struct row *row)
{
    const bool has_oid = row->query == CATALOG_Q_TYPES || row->query == CATALOG_Q_RELATIONS;
    const struct slice *f = row->fields + has_oid;
    if (catalog_rows_fields(row->query) < 3)
        return;
    for (int kind = 0; kind < CATALOG_KIND_N; kind++) {
        const struct catalog_answer x = find(a, (enum catalog_kind)kind, &f[0], &f[1]);
        const struct catalog_answer y = find(b, (enum catalog_kind)kind, &f[0], &f[1]);
        CHECK(x.known == y.known && (!x.known || x.class == y.class));
    }
}

static size_t read_rows(struct slice in, struct row *list)
{
    size_t n = 0;
    unsigned query = 0;
    for (; in.n > 0 && n < ROWS_MAX; n++) {
        query += in.p[0] % CATALOG_Q_N; /* forward only */
        query = query < CATALOG_Q_N ? query : CATALOG_Q_N - 1;
        in = slice_skip(in, 1);
        list[n] = (struct row){.query = (enum catalog_query)query};
        for (unsigned i = 0; i < catalog_rows_fields(list[n].query); i++)
            list[n].fields[i] = take_field(&in);
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct row list[ROWS_MAX];
    const size_t n = read_rows((struct slice){data, size}, list);
    struct catalog *catalog = load(list, n, UINT32_MAX), *again = load(list, n, 1);
    CHECK((catalog == NULL) == (again == NULL));
    for (size_t i = 0; catalog && i < n; i++) {
        check_row(catalog, &list[i]);
        check_same(catalog, again, &list[i]);
    }
    catalog_free(catalog);
    catalog_free(again);
    for (size_t i = 0; i < n; i++)
        for (unsigned f = 0; f < CATALOG_FIELDS_MAX; f++)
            free((void *)(uintptr_t)list[i].fields[f].p);
    return 0;
}
