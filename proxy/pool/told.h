/* proxy/pool/told.h: the values of reported settings (ParameterStatus) that a server has, and a client was told.
 *
 * What    equal sets are one object per pool set: whether a client has to be told anything is one pointer compare.
 * Not     in_hot_standby: it changes whenever a read goes to a replica, and says nothing about a client of ours.
 * Owns    counted references. Belongs to one worker.
 */
#ifndef POOL_TOLD_H
#define POOL_TOLD_H

#include "base/list.h"
#include "base/slice.h"
#include "proxy/pool/entries.h"
#include "proxy/wire/put.h"

struct told {
    struct list node;
    uint32_t refs, bytes;
    uint8_t text[]; /* "name\0value\0", in the order of the messages */
};

/* The one object for what these ParameterStatus messages, well-formed ones, say; with a reference. */
struct told *told_find(struct list *all, struct slice messages);
struct told *told_ref(struct told *told);
void told_unref(struct told *told); /* NULL is fine */
/* The messages for a client that was told `was`. */
void told_difference(const struct told *was, const struct told *is, struct put *out);

#endif
