/* router/names_inline.h: word_of() where it must be fast; everybody else calls the function of names.h.
 *
 * Pure      private to router/.
 */
#ifndef ROUTER_NAMES_INLINE_H
#define ROUTER_NAMES_INLINE_H

#include "router/names.h"

#define NAME_FOLD 0x2020202020202020u
#define NAME_NOT_ASCII 0x8080808080808080u /* of the bits that bytes have */
#define NAME_MIX_HEAD 0x9E3779B97F4A7C15u
#define NAME_MIX_TAIL 0xC2B2AE3D27D4EB4Fu
#define NAME_SLOTS 8192
#define NAME_HASH_SHIFT 51 /* the slot is in the upper 13 bits of the hash */

struct name_row {
    uint64_t head, tail; /* the first and, over 8 bytes, the last 8, folded, zero padded */
    struct known known;
    uint32_t at; /* in the text of all names */
};

extern const struct name_row name_rows[];     /* the first is of no name: all zeros */
extern const uint16_t name_slots[NAME_SLOTS]; /* rows by hash, linear probing; 0 is free */
bool name_same_middle(const struct name_row *row, struct slice text);

static inline uint64_t name_load8(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v | NAME_FOLD;
}

/* 1 to 8 bytes, folded, zero padded; reads 8 when the memory behind is ours to read. */
static inline uint64_t name_load(const uint8_t *p, size_t n, const uint8_t *end)
{
    if (__builtin_expect((size_t)(end - p) >= 8, true))
        return name_load8(p) << (64 - 8 * n) >> (64 - 8 * n);
    uint64_t v = 0;
    for (size_t i = n; i-- > 0;)
        v = v << 8 | p[i] | 0x20;
    return v;
}

static inline bool name_is(const struct name_row *row, struct slice text, uint64_t head,
                           uint64_t tail)
{
    return row->head == head && row->tail == tail && row->known.n == text.n &&
           (text.n <= 16 || name_same_middle(row, text));
}

/* A name, folded and hashed. */
struct name_key {
    uint64_t head, tail; /* as in struct name_row */
    uint64_t hash;       /* of all its folded bytes */
    uint64_t all;        /* bits that any of its bytes has, eight bytes side by side */
};

/* text is not empty; end as in word_of(). */
static inline struct name_key name_key_of(struct slice text, const uint8_t *end)
{
    if (text.n <= 8) {
        const uint64_t head = name_load(text.p, text.n, end);
        return (struct name_key){head, 0, text.n + head * NAME_MIX_HEAD, head};
    }
    const uint64_t head = name_load8(text.p), tail = name_load8(text.p + text.n - 8);
    uint64_t h = text.n, all = head | tail;
    for (size_t i = 8; i + 8 < text.n; i += 8) {
        const uint64_t middle = name_load8(text.p + i);
        h = (h ^ middle) * NAME_MIX_TAIL;
        all |= middle;
    }
    return (struct name_key){head, tail, h + tail * NAME_MIX_TAIL + head * NAME_MIX_HEAD, all};
}

static inline const struct name_row *name_row_of(struct slice text, const struct name_key *key)
{
    size_t i = key->hash >> NAME_HASH_SHIFT;
    for (; name_slots[i] != 0; i = (i + 1) & (NAME_SLOTS - 1)) {
        const struct name_row *row = &name_rows[name_slots[i]];
        if (name_is(row, text, key->head, key->tail))
            return row;
    }
    return &name_rows[0];
}

/* What struct word keeps of a name of the lists, all at once. */
static inline uint64_t name_what(struct known known, bool quoted)
{
    uint32_t all;
    memcpy(&all, &known, sizeof all);
    return all | (uint64_t)(quoted ? KW_NONE : known.keyword) << 32 | UINT64_C(1) << 40 |
           (uint64_t)quoted << 48;
}

static inline void name_look_up(struct slice text, const uint8_t *end, struct word *word)
{
    const struct name_key key = name_key_of(text, end);
    const struct name_row *row = name_row_of(text, &key);
    word->text = text;
    word->hash = key.hash;
    word->what = name_what(row->known, false);
}

/* Every pg_..., cmin, cmax and system_user, which body.c knows, and a few others. */
static inline bool name_may_be_special(struct slice name)
{
    const uint8_t first = name.p[0] | 0x20;
    return (first == 'p' && name.n > 3 && (name.p[1] | 0x20) == 'g' && name.p[2] == '_') ||
           (first == 'c' && name.n == 4 && (name.p[1] | 0x20) == 'm') ||
           (first == 's' && name.n == 11 && name.p[6] == '_');
}

#endif
