/* proxy/io/port.h: the one narrow door to the kernel: operations that complete.
 *
 * What    an operation is started with a token; it ends with exactly one event whose more is
 *         false. Multishot operations (accept, recv) may bring events with more = true before
 *         that.
 * Who     port_uring.c is the product. tests/unit/port_sim.c replays a seed. A readiness-based
 *         third one must stay possible, so nothing above this header includes liburing.
 * Owns    the port owns the memory of the provided buffers. A buffer named by an event belongs to
 *         the caller until buf_return().
 * Memory  given to send, write and read must stay until the event. Addresses and iovecs are read
 *         before the next wait() returns.
 * Errors  events carry -errno in res. Starting an operation cannot fail: a full queue is
 *         submitted.
 * Limits  PORT_EVENTS_MAX events per reap(); PORT_IOV_MAX pieces per sendv().
 * Threads a port belongs to the thread that created it; only bell() names another one.
 */
#ifndef IO_PORT_H
#define IO_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define PORT_EVENTS_MAX 1024
#define PORT_IOV_MAX 64
#define PORT_NO_BUF (-1)
#define PORT_NEVER UINT64_MAX

/* Groups of provided buffers: small holds every usual message whole, bulk carries results and COPY.
 */
enum port_group { PORT_SMALL, PORT_BULK, PORT_GROUPS };

struct port_event {
    uint64_t token;
    int32_t res;    /* bytes, a descriptor, poll bits, 0 = end of stream, or -errno */
    int32_t buf_id; /* recv: the buffer with the bytes, or PORT_NO_BUF */
    bool more;      /* false: this was the operation's last event */
};

struct port_buffers {
    uint8_t *base; /* count buffers of bytes each, back to back */
    uint32_t bytes;
    uint32_t count; /* a power of two */
};

struct port_stats {
    uint64_t enters;      /* system calls of the ring */
    uint64_t sqe_full;    /* the submission queue was full and had to be sent early */
    uint64_t cq_overflow; /* waits after which the kernel kept completions outside the queue */
};

struct port_config {
    uint32_t sq_entries, cq_entries;
    struct port_buffers buffers[PORT_GROUPS]; /* bytes and count wanted; base is set by the port */
};

enum port_flags {
    PORT_POLL_FIRST = 1, /* recv, send: nothing is there now, wait before the first try */
    PORT_ONE_SHOT = 2,   /* recv: end after one event */
};

struct port {
    const struct port_ops *ops;
    struct port_buffers buffers[PORT_GROUPS];
    struct port_stats stats;
};

struct port_ops {
    const char *name;
    void (*destroy)(struct port *port);
    uint64_t (*now_ns)(struct port *port); /* monotonic */

    /* Submit what was started and wait for an event, at most until deadline_ns. 0 or -errno of a
     * condition that the caller should log; a timeout and an interruption are 0. */
    int (*wait)(struct port *port, uint64_t deadline_ns);
    /* Take up to max events. Fewer than max: there are no more now. */
    unsigned (*reap)(struct port *port, struct port_event *events, unsigned max);

    void (*accept)(struct port *port, uint64_t token, int fd);
    void (*connect)(struct port *port, uint64_t token, int fd, const struct sockaddr *addr,
                    socklen_t addr_bytes);
    void (*recv)(struct port *port, uint64_t token, int fd, enum port_group group, unsigned flags);
    void (*send)(struct port *port, uint64_t token, int fd, const void *bytes, size_t n,
                 unsigned flags);
    void (*sendv)(struct port *port, uint64_t token, int fd, const struct iovec *iov,
                  unsigned iov_n, unsigned flags);
    void (*poll)(struct port *port, uint64_t token, int fd, uint32_t poll_bits);
    void (*read)(struct port *port, uint64_t token, int fd, void *bytes, size_t n);
    void (*write)(struct port *port, uint64_t token, int fd, const void *bytes, size_t n);
    /* End the operation of victim early. The cancel has an event of its own; the two come in any
     * order. */
    void (*cancel)(struct port *port, uint64_t token, uint64_t victim);
    /* Wake another thread's port: it gets one event {bell_token, res 0}. An event for token comes
     * here only on failure. */
    void (*bell)(struct port *port, uint64_t token, struct port *other, uint64_t bell_token);

    /* Plain calls, here so that tests can stand in for them. */
    int (*socket)(struct port *port, int family);
    void (*shutdown)(struct port *port, int fd, int how);
    void (*close)(struct port *port, int fd);

    /* Give a provided buffer back; it is lent out again after the next wait(). */
    void (*buf_return)(struct port *port, enum port_group group, uint32_t buf_id);
};

/* Why no port could be made: which step, and the kernel's answer. */
struct port_failure {
    const char *step;
    int err; /* errno */
};

/* The io_uring port. Call it in the thread that will use it. On ENOMEM the queues and buffers are
 * halved down to a floor first; *config then tells what was got. NULL: *failure says why. */
struct port *port_uring_create(struct port_config *config, struct port_failure *failure);

/* A text for the operator: what was refused, the likely reason on this machine, and the fix. */
void port_uring_explain(const struct port_failure *failure, char *text, size_t text_bytes);

#endif
