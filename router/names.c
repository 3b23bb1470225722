/* router/names.c: hash tables over names, with their slots worked out by scripts/gen-functions. */
#include "router/names.h"

#include "base/check.h"

#define FOLD 0x2020202020202020u
#define MIX_HEAD 0x9E3779B97F4A7C15u
#define MIX_TAIL 0xC2B2AE3D27D4EB4Fu
#define HASH_SHIFT 40

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the generated slots assume it");

struct row {
    uint32_t at; /* in the table's text */
    uint8_t n;
    uint8_t value;
};

struct table {
    const char *text;
    const struct row *rows;
    const uint16_t *slots; /* row number + 1, 0 is empty; linear probing */
    uint32_t mask;
};

/* One text per table: a struct with an array per name, so that offsets are known to the compiler.
 */
struct keyword_text {
#define KW(name, role) char w_##name[sizeof #name];
#include "router/keywords.def"
#undef KW
    char behind[8];
};
static const struct keyword_text keyword_text = {
#define KW(name, role) .w_##name = #name,
#include "router/keywords.def"
#undef KW
};
static const struct row keyword_rows[] = {
#define KW(name, role) {offsetof(struct keyword_text, w_##name), sizeof #name - 1, 0},
#include "router/keywords.def"
#undef KW
};
const uint8_t keyword_roles[KW_N] = {
    KW_ROLE_NONE,
#define KW(name, role) KW_ROLE_##role,
#include "router/keywords.def"
#undef KW
};
static const uint16_t keyword_slots[] = {
#include "router/keywords_index.def"
};

struct function_text {
#define FN(name, class) char w_##name[sizeof #name];
#include "router/functions.def"
#undef FN
    char behind[8];
};
static const struct function_text function_text = {
#define FN(name, class) .w_##name = #name,
#include "router/functions.def"
#undef FN
};
static const struct row function_rows[] = {
#define FN(name, class) {offsetof(struct function_text, w_##name), sizeof #name - 1, FN_##class},
#include "router/functions.def"
#undef FN
};
static const uint16_t function_slots[] = {
#include "router/functions_index.def"
};

struct type_text {
#define TYPE(name, class) char w_##name[sizeof #name];
#include "router/types.def"
#undef TYPE
    char behind[8];
};
static const struct type_text type_text = {
#define TYPE(name, class) .w_##name = #name,
#include "router/types.def"
#undef TYPE
};
static const struct row type_rows[] = {
#define TYPE(name, class) {offsetof(struct type_text, w_##name), sizeof #name - 1, TYPE_##class},
#include "router/types.def"
#undef TYPE
};
static const uint16_t type_slots[] = {
#include "router/types_index.def"
};

#define SLOTS_OK(slots) ((sizeof(slots) / 2 & (sizeof(slots) / 2 - 1)) == 0)
_Static_assert(SLOTS_OK(keyword_slots) && SLOTS_OK(function_slots) && SLOTS_OK(type_slots),
               "a power of two, so that a mask works");

#define TABLE(name)                                                                        \
    {                                                                                      \
        (const char *)&name##_text, name##_rows, name##_slots, sizeof name##_slots / 2 - 1 \
    }
static const struct table keywords = TABLE(keyword);
static const struct table functions = TABLE(function);
static const struct table types = TABLE(type);

static const char operators[][4] = {
#define OP(text) text,
#include "router/operators.def"
#undef OP
};

/* n <= 8 bytes, folded; reads 8 when the memory behind is ours to read. */
static inline uint64_t load(const uint8_t *p, size_t n, const uint8_t *end)
{
    uint64_t v = 0;
    if ((size_t)(end - p) >= 8) {
        memcpy(&v, p, 8);
        v = n == 8 ? v : v & ((UINT64_C(1) << n * 8) - 1);
    } else {
        for (size_t i = n; i-- > 0;)
            v = v << 8 | p[i];
    }
    return v | (n == 8 ? FOLD : FOLD & ((UINT64_C(1) << n * 8) - 1));
}

void word_of(struct slice text, const uint8_t *end, struct word *word)
{
    CHECK(text.n > 0);
    uint64_t middle = 0;
    word->text = text;
    word->plain = true;
    word->quoted = false;
    word->keyword = KW_NONE;
    if (text.n <= 8) {
        word->head = load(text.p, text.n, end);
        word->tail = 0;
    } else {
        word->head = load(text.p, 8, end);
        word->tail = load(text.p + text.n - 8, 8, end);
        for (size_t i = 8; i + 8 < text.n; i += 8)
            middle = (middle ^ load(text.p + i, 8, end)) * MIX_TAIL;
    }
    uint64_t h = (word->head ^ middle) * MIX_HEAD;
    h = (h ^ h >> 32 ^ word->tail) * MIX_TAIL;
    word->hash = h ^ text.n * MIX_HEAD;
}

void word_of_quoted(struct slice text, const uint8_t *end, struct word *word)
{
    static const bool lower[256] = {['a' ... 'z'] = true, ['0' ... '9'] = true, ['_'] = true};
    for (size_t i = 0; i < text.n; i++) {
        if (!lower[text.p[i]]) {
            word->text = text;
            word->plain = false;
            word->quoted = true;
            word->keyword = KW_NONE;
            return;
        }
    }
    word_of(text, end, word);
    word->quoted = true;
}

/* Head, tail and length first; only names over 16 bytes have a middle that is left to compare. */
static bool same_name(const struct word *word, const char *name, size_t n)
{
    const uint8_t *p = (const uint8_t *)name;
    if (n != word->text.n || load(p, n < 8 ? n : 8, p + 8) != word->head)
        return false;
    if (n <= 8)
        return true;
    if (load(p + n - 8, 8, p + n) != word->tail)
        return false;
    for (size_t i = 8; i + 8 < n; i++)
        if ((word->text.p[i] | 0x20) != (p[i] | 0x20))
            return false;
    return true;
}

/* Row number + 1, or 0. */
static inline uint16_t table_find(const struct table *table, const struct word *word)
{
    for (uint32_t i = (uint32_t)(word->hash >> HASH_SHIFT);; i++) {
        const uint16_t slot = table->slots[i & table->mask];
        if (slot == 0)
            return 0;
        const struct row *row = &table->rows[slot - 1];
        if (same_name(word, table->text + row->at, row->n))
            return slot;
    }
}

enum keyword keyword_find(const struct word *word)
{
    return (enum keyword)table_find(&keywords, word);
}

enum function_class function_find(const struct word *word)
{
    const uint16_t slot = table_find(&functions, word);
    return slot == 0 ? FN_UNKNOWN : (enum function_class)function_rows[slot - 1].value;
}

enum type_class type_find(const struct word *word)
{
    const uint16_t slot = table_find(&types, word);
    return slot == 0 ? TYPE_UNKNOWN : (enum type_class)type_rows[slot - 1].value;
}

/* Of the one-byte operators two exist only as parts of others; the rest is a handful of vectors. */
bool operator_known(struct slice text)
{
    uint32_t key = 0, found = 0;
    if (text.n == 1)
        return text.p[0] != '!' && text.p[0] != '`';
    if (text.n > sizeof key)
        return false;
    memcpy(&key, text.p, text.n);
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++) {
        uint32_t row;
        memcpy(&row, operators[i], sizeof row);
        found |= row == key;
    }
    return found != 0;
}

bool name_starts_pg(struct slice name)
{
    return name.n > 3 && (name.p[0] | 0x20) == 'p' && (name.p[1] | 0x20) == 'g' && name.p[2] == '_';
}

bool name_starts_pg_temp(struct slice name)
{
    static const char temp[] = "pg_temp";
    if (name.n < sizeof temp - 1)
        return false;
    for (size_t i = 3; i < sizeof temp - 1; i++)
        if ((name.p[i] | 0x20) != temp[i])
            return false;
    return name_starts_pg(name);
}
