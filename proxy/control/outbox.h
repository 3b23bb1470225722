/* proxy/control/outbox.h: the way home of a helper thread that may outlive the loop it serves.
 *
 * Why     a helper may hang (a dead DNS server, a file on a dead mount) and must not hold up the
 *         end of the process. So nobody waits for it: its mail is refused once the loop is going.
 * Owns    counted references: the control holds one, each helper thread one. Threads any.
 */
#ifndef CONTROL_OUTBOX_H
#define CONTROL_OUTBOX_H

#include "proxy/io/loop.h"

struct outbox;
struct outbox *outbox_new(struct loop *loop);
struct outbox *outbox_ref(struct outbox *outbox);
void outbox_unref(struct outbox *outbox);
/* False: the outbox is closed, and the mail is still the caller's. */
bool outbox_post(struct outbox *outbox, struct mail *mail);
/* From now on nothing more is posted; what was posted before lies in the loop's inbox. */
void outbox_close(struct outbox *outbox);

/* Start a detached thread of that name (at most 15 bytes). False: there is none (errno). */
bool helper_start(const char *name, void *(*run)(void *), void *argument);

#endif
