#include "proxy/pool/told.h"

#include "base/check.h"
#include "proxy/wire/auth.h"
#include "proxy/wire/frame.h"

#include <stdlib.h>

static size_t write_text(struct slice messages, uint8_t *out)
{
    size_t bytes = 0;
    while (messages.n > 0) {
        struct slice name, value;
        size_t n = 1 + (size_t)slice_u32(messages.p + 1);
        struct slice body = {messages.p + FRAME_HEAD_BYTES, n - FRAME_HEAD_BYTES};
        CHECK(n <= messages.n && auth_read_param_status(body, &name, &value)); /* we wrote it */
        if (!slice_is(name, "in_hot_standby")) {
            memcpy(out + bytes, body.p, body.n);
            bytes += body.n;
        }
        messages = slice_skip(messages, n);
    }
    return bytes;
}

struct told *told_find(struct list *all, struct slice messages)
{
    struct told *told = malloc(sizeof *told + messages.n);
    CHECK(told != NULL);
    told->bytes = (uint32_t)write_text(messages, told->text);
    told->refs = 1;
    for (struct list *n = all->next; n != all; n = n->next) {
        struct told *other = LIST_ENTRY(n, struct told, node);
        if (other->bytes == told->bytes && memcmp(other->text, told->text, told->bytes) == 0) {
            free(told);
            return told_ref(other);
        }
    }
    list_push_front(all, &told->node);
    return told;
}

struct told *told_ref(struct told *told)
{
    told->refs++;
    return told;
}

void told_unref(struct told *told)
{
    if (!told)
        return;
    CHECK(told->refs > 0);
    if (--told->refs > 0)
        return;
    list_remove(&told->node);
    free(told);
}

static struct slice text_of(const struct told *told)
{
    return (struct slice){told->text, told->bytes};
}

void told_difference(const struct told *was, const struct told *is, struct put *out)
{
    for (struct entry e = {0}; entry_next(text_of(is), &e);) {
        const char *known = entry_value(text_of(was), e.name);
        if (!known || strcmp(known, e.value) != 0)
            put_param_status(out, slice_of(e.name), slice_of(e.value));
    }
}
