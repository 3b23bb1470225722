/* proxy/control/takeover.h: a new process takes the listening sockets of the one before it, so that no client is refused.
 *
 * What    with takeover_socket set, a process offers its sockets at that path. A new one with the same option asks there
 *         first, listens on what it is given, starts, and says so; then the older one stops accepting and drains. Until the
 *         older one has gone, cancel requests that the new one does not know are passed on to it.
 *         A process that was started with LISTEN_FDS (systemd) listens on those sockets.
 * Source  messages on a SOCK_SEQPACKET unix socket, one byte and what follows: 'F' 1 with the sockets (SCM_RIGHTS), to the
 *         new one; 'G' (it has started), 'C' pid (4 bytes, big endian) key, to the older one.
 * Trust   the path is mode 0600, and both sides want the other to run as the same user, or as root.
 * Threads takeover_ask() blocks, TAKEOVER_WAIT_MS at most, before others are started; takeover_cancel() is for any; the
 *         rest is the control thread's.
 */
#ifndef CONTROL_TAKEOVER_H
#define CONTROL_TAKEOVER_H

#include "base/slice.h"

#define TAKEOVER_FDS_MAX 16
#define TAKEOVER_WAIT_MS 3000

struct control;

/* Sockets that another process opened. */
struct takeover_given {
    int fds[TAKEOVER_FDS_MAX];
    unsigned n;
    int older; /* the channel to the process that gave them, -1: systemd did, or nobody */
};

/* False: somebody answers at the path, but not as it should; *why tells. Nobody there: n is 0. */
bool takeover_ask(const char *path, struct takeover_given *given, const char **why);
/* What LISTEN_FDS says, which is then taken out of the environment. */
void takeover_inherited(struct takeover_given *given);

/* Before the workers start: these are the sockets (borrowed: they are duplicated), this is the channel to the older
 * process or -1. */
void takeover_prepare(struct control *control, const int *fds, unsigned n, int older);
/* They have started: tell the older process, and offer the sockets at takeover_socket. False: it cannot; the reason has
 * been logged. */
bool takeover_start(struct control *control);
/* A cancel request that is not for one of our clients. From any thread. */
void takeover_cancel(struct control *control, uint32_t pid, struct slice key);

#endif
