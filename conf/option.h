/* conf/option.h: the tables of conf/options.def and conf/pgbouncer_keys.def, and how one value gets
 * in and out.
 *
 * Pure    no I/O, no allocation: texts are kept by reference and must live as long as what holds
 * them.
 */
#ifndef CONF_OPTION_H
#define CONF_OPTION_H

#include "conf/value.h"

enum kind {
    KIND_FLAG,
    KIND_U32,
    KIND_MS,
    KIND_BYTES,
    KIND_SHARE,
    KIND_TEXT,
    KIND_SECRET,
    KIND_ENUM
};

/* One accepted word of an enum. */
struct word {
    const char *text; /* NULL ends the list */
    uint32_t value;
    enum { WORD_OK, WORD_ALIAS, WORD_LATER } state; /* LATER: PgBouncer's, refused here for now */
};

/* A typed place in a struct: an option in struct conf, a key of [databases] in its entry. */
struct field {
    const char *name;
    enum kind kind;
    uint64_t min, max; /* ms, bytes, or bytes of length for a text */
    const char *unit;  /* of a bare time */
    const struct word *words;
    size_t offset;
};

/* Parse text into base + f->offset. Refusals name the bound, the unit or the words to use. */
bool field_set(void *base, const struct field *f, const char *text, struct why *why);
/* The value as SHOW CONFIG prints it; returns buf, a constant or the text itself. Secrets are
 * masked. */
const char *field_show(const void *base, const struct field *f, char buf[VALUE_TEXT_MAX]);
bool field_equal(const void *a, const void *b, const struct field *f);

/* The words that work, as in "a, b or c". */
void words_print(const struct word *words, const char *between, const char *last, char *out,
                 size_t size);

extern const struct word pool_mode_words[], route_words[];
extern const struct word tx_reads_words[], shed_severity_words[];

enum option_id {
#define OPT(name, ...) OPTION_##name,
#define OPT_ENUM(name, ...) OPTION_##name,
#include "conf/options.def"
    OPTION_N
};

struct option {
    struct field field;
    const char *defaults[CONF_FLAVOUR_N];
    const char *unit; /* for the reader */
    bool restart;
    const char *help;
};
extern const struct option options[OPTION_N];

/* By name or alias; OPTION_N when there is none. */
enum option_id option_find(const char *name);

enum foreign_id {
#define KEY(name, ...) FOREIGN_##name,
#include "conf/pgbouncer_keys.def"
    FOREIGN_N
};

struct foreign {
    const char *name, *default_value;
    enum { NO_EFFECT, LATER, RETIRED } state;
    const char *note;
};
extern const struct foreign foreign_keys[FOREIGN_N];

enum foreign_id foreign_find(const char *name); /* FOREIGN_N when there is none */

/* Offer every global key, ours and PgBouncer's. */
void option_suggest(struct nearest *nearest);

#endif
