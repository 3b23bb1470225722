/* router/names.c: hash tables over names, with their slots worked out by scripts/gen-functions. */
#include "router/names_inline.h"

#include "base/check.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the generated slots assume it");

_Static_assert(KW_N <= 256, "keywords are kept in a byte");

/* As name_what() puts them. */
_Static_assert(offsetof(struct word, known) == offsetof(struct word, what) &&
                   offsetof(struct word, keyword) == offsetof(struct word, what) + 4 &&
                   offsetof(struct word, plain) == offsetof(struct word, what) + 5 &&
                   offsetof(struct word, quoted) == offsetof(struct word, what) + 6,
               "struct word");

/* An array per name, so that offsets are known to the compiler. */
struct texts {
    char none;
#define WORD(name, keyword, function, type, head, tail) char w_##name[sizeof #name];
#include "router/words.def"
#undef WORD
};
static const struct texts texts = {
    .none = 0,
#define WORD(name, keyword, function, type, head, tail) .w_##name = #name,
#include "router/words.def"
#undef WORD
};

const struct name_row name_rows[] = {
    {0, 0, {KW_NONE, FN_UNKNOWN, TYPE_UNKNOWN, 0}, 0},
#define WORD(name, keyword, function, type, head, tail)            \
    {head,                                                         \
     tail,                                                         \
     {KW_##keyword, FN_##function, TYPE_##type, sizeof #name - 1}, \
     offsetof(struct texts, w_##name)},
#include "router/words.def"
#undef WORD
};

#define SLOTS(...) __VA_ARGS__,
const uint16_t name_slots[] = {
#include "router/words.def"
};
#undef SLOTS
_Static_assert(NAME_SLOTS == UINT64_C(1) << (64 - NAME_HASH_SHIFT),
               "every slot can be hit, and no other");

const uint8_t keyword_roles[KW_N] = {
    KW_ROLE_NONE,
#define KW(name, role) KW_ROLE_##role,
#include "router/keywords.def"
#undef KW
};

static const char operators[][4] = {
#define OP(text) text,
#include "router/operators.def"
#undef OP
};

bool name_same_middle(const struct name_row *row, struct slice text)
{
    const uint8_t *name = (const uint8_t *)&texts + row->at;
    for (size_t i = 8; i + 8 < text.n; i++)
        if ((name[i] | 0x20) != (text.p[i] | 0x20))
            return false;
    return true;
}

void word_of(struct slice text, const uint8_t *end, struct word *word)
{
    CHECK(text.n > 0);
    name_look_up(text, end, word);
}

void word_of_quoted(struct slice text, const uint8_t *end, struct word *word)
{
    static const bool lower[256] = {['a' ... 'z'] = true, ['0' ... '9'] = true, ['_'] = true};
    for (size_t i = 0; i < text.n; i++) {
        if (!lower[text.p[i]]) {
            *word = (struct word){.text = text, .quoted = true};
            return;
        }
    }
    word_of(text, end, word);
    word->what = name_what(word->known, true);
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
