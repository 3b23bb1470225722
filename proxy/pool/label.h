/* proxy/pool/label.h: the session settings that a client asked for, and a server has in force.
 *
 * What    a label is a set of name=value. Equal sets are one object per pool set, so comparing a
 *         client's label with a server's is one pointer compare. NULL stands for "not known".
 * Owns    counted references. Belongs to one worker.
 * Limits  LABEL_ENTRIES_MAX settings, LABEL_BYTES_MAX bytes of names and values.
 */
#ifndef POOL_LABEL_H
#define POOL_LABEL_H

#include "base/list.h"
#include "base/slice.h"
#include "proxy/pool/entries.h"
#include "proxy/wire/put.h"
#include "router/tx.h"

#define LABEL_ENTRIES_MAX 64
#define LABEL_BYTES_MAX 10000 /* a startup packet's */

struct label {
    struct list node;
    uint32_t refs;
    uint32_t bytes;
    uint32_t greeting_bytes;
    uint32_t parse_env_bytes;
    uint8_t *parse_env; /* the entries that change how SQL text is read; NULL: none */
    uint8_t
        *greeting; /* ParameterStatus messages of a server with this label; NULL: not known yet */
    uint64_t idle_in_tx_ms; /* idle_in_transaction_session_timeout; 0: none */
    uint64_t idle_ms;       /* idle_session_timeout: never on a server that nobody uses */
    bool temp_first;    /* search_path: objects are made, and looked for, in the temporary schema */
    struct tx_modes tx; /* default_transaction_...: what a transaction is that says nothing */
    uint8_t text[];     /* "name\0value\0", sorted by name (names in lower case) */
};

static inline struct slice label_text(const struct label *label)
{
    return (struct slice){label->text, label->bytes};
}

/* A set being collected. A later value of a name replaces the earlier one. */
struct label_draft {
    unsigned n;
    struct put_param entries[LABEL_ENTRIES_MAX];
};
/* False: too many entries. The slices must live until label_find(). */
bool label_draft_set(struct label_draft *draft, struct slice name, struct slice value);

/* The one label of this set among `labels`, with a reference. NULL: over LABEL_BYTES_MAX. */
struct label *label_find(struct list *labels, struct label_draft *draft);
/* The value of a setting (its name in lower case), or NULL. */
const char *label_value(const struct label *label, const char *name);
struct label *label_ref(struct label *label);
void label_unref(struct label *label);

/* What is in `label`, and of `under` what it does not name. NULL: too many, or too long. */
struct label *label_over(struct list *labels, struct label *label, const struct label *under);

/* All but that setting, its name in lower case. */
struct label *label_without(struct list *labels, const struct label *label, const char *name);

/* The label with this text: another worker's. */
struct label *label_of_text(struct list *labels, struct slice text);

/* ---- settings that PostgreSQL does not list ---- */

#define CUSTOM_SETTINGS_MAX 256
#define CUSTOM_NAME_MAX 128

/* Names with a dot, in ASCII, that may stand for a setting: pg_settings does not show those, they have to be asked for
 * by name. One that stands for none does no harm. */
struct custom_settings {
    char *text; /* "name\0", in lower case */
    uint32_t bytes, n;
};
/* What looks like such names in this text. False: there are more than CUSTOM_SETTINGS_MAX. */
bool custom_settings_read(struct custom_settings *custom, struct slice text);
/* The names in a label. */
bool custom_settings_of_label(struct custom_settings *custom, const struct label *label);
void custom_settings_free(struct custom_settings *custom);
/* The name behind this one; of NULL the first. NULL: there is none. */
const char *custom_settings_next(const struct custom_settings *custom, const char *name);

/* ---- what a statement makes of a label ---- */

#define LABEL_STEPS_MAX 1024 /* remembered; the oldest goes */
#define LABEL_STEP_TEXT_MAX 512
#define LABEL_STEP_BUCKETS 256

struct label_step;
/* "SET ... with the label `from` gives `to`", as a server has shown. */
struct label_steps {
    struct label_step *buckets[LABEL_STEP_BUCKETS];
    struct list by_age; /* oldest first */
    uint32_t n;
};
void label_steps_init(struct label_steps *steps);
void label_steps_clear(struct label_steps *steps);
/* Borrowed; NULL: not known. */
struct label *label_steps_find(const struct label_steps *steps, const struct label *from,
                               struct slice text);
void label_steps_add(struct label_steps *steps, struct label *from, struct label *to,
                     struct slice text);

/* Remember what a server with this label reported. */
void label_set_greeting(struct label *label, struct slice messages);

/* What pgweir asks of a server on its own account runs on a standby too, whatever default_transaction_isolation is. */
#define LABEL_SQL_FIRST "SET TRANSACTION ISOLATION LEVEL READ COMMITTED;"
/* What the session has set: not the modes of the transaction that asks, nor a seed, which cannot be told. */
#define LABEL_SQL_SETTINGS                                                              \
    "name,setting FROM pg_catalog.pg_settings WHERE source='session' AND name NOT IN (" \
    "'transaction_isolation','transaction_read_only','transaction_deferrable','seed')"
/* A string constant that is read the same way under any setting. */
void label_put_literal(struct put *out, const char *text);
/* A call that sets one of its settings. */
void label_put_setting(struct put *out, const char *name, const char *value);
/* The SQL that gives a server this label: from another one, or from what nobody knows (NULL). False: it does not fit. */
bool label_sql(const struct label *from, const struct label *label, struct put *out);
#define LABEL_SQL_MAX (6 * LABEL_BYTES_MAX)

#endif
