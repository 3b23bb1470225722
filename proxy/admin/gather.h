/* proxy/admin/gather.h: ask all workers, one after the other, then answer.
 *
 * What    a message visits each worker, which adds what is its own, and comes home to the one that asked.
 * Owns    the gathering: gather_start() takes it over, it is freed when the answer is sent, or the session that
 *         asked is found missing by its pid.
 */
#ifndef ADMIN_GATHER_H
#define ADMIN_GATHER_H

#include "proxy/session/session.h"

struct gathering;

struct gather_ops {
    void (*collect)(struct gathering *g, struct worker *worker); /* on the worker's thread */
    void (*answer)(struct gathering *g, struct session *s);
    void (*free)(struct gathering *g);
};

struct gathering {
    struct mail mail; /* first; in the mail of one worker after the other */
    const struct gather_ops *ops;
    struct fleet *fleet;
    uint32_t at, asker; /* worker that has it, worker that asked */
    uint32_t pid;       /* of the session that asked */
};

void gather_start(struct session *s, struct gathering *g, const struct gather_ops *ops);

#endif
