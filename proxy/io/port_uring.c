/* proxy/io/port_uring.c: the port on io_uring. The only file that includes liburing. */
#include "proxy/io/port.h"

#include "base/check.h"

#include <errno.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define CQ_FLOOR 1024
#define BUFFERS_FLOOR 32
#define ADDR_BLOCKS 64 /* connect() calls between two submissions */
#define IOV_BLOCKS 64  /* sendv() calls between two submissions; one more submits early */

struct port_uring {
    struct port port;
    struct io_uring ring;
    struct io_uring_buf_ring *buf_ring[PORT_GROUPS];
    uint32_t returned[PORT_GROUPS]; /* added to the ring, not yet published */
    struct iovec iov[IOV_BLOCKS][PORT_IOV_MAX];
    struct msghdr msg[IOV_BLOCKS];
    unsigned iov_used;
    struct sockaddr_storage addr[ADDR_BLOCKS];
    unsigned addr_used;
};

static struct port_uring *uring_of(struct port *port)
{
    return (struct port_uring *)(void *)port;
}

static uint64_t uring_now_ns(struct port *port)
{
    (void)port;
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

static void publish_returned(struct port_uring *u)
{
    for (int g = 0; g < PORT_GROUPS; g++) {
        if (u->returned[g])
            io_uring_buf_ring_advance(u->buf_ring[g], (int)u->returned[g]);
        u->returned[g] = 0;
    }
}

static void submit_early(struct port_uring *u)
{
    u->port.stats.sqe_full++;
    u->port.stats.enters++;
    io_uring_submit(&u->ring);
    u->iov_used = u->addr_used = 0;
}

/* A free submission entry. A full queue is submitted first, so this does not fail: with SUBMIT_ALL
 * the kernel takes every entry, and -EBUSY or -EAGAIN pass once completions have been reaped. */
static struct io_uring_sqe *get_sqe(struct port_uring *u, uint64_t token)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    for (int tries = 0; !sqe && tries < 1000; tries++) {
        submit_early(u);
        sqe = io_uring_get_sqe(&u->ring);
    }
    CHECK(sqe != NULL);
    io_uring_sqe_set_data64(sqe, token);
    return sqe;
}

static int uring_wait(struct port *port, uint64_t deadline_ns)
{
    struct port_uring *u = uring_of(port);
    struct __kernel_timespec ts, *tsp = NULL;
    publish_returned(u);
    if (deadline_ns != PORT_NEVER) {
        uint64_t now = uring_now_ns(port);
        uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
        ts.tv_sec = (int64_t)(left / 1000000000U);
        ts.tv_nsec = (long long)(left % 1000000000U);
        tsp = &ts;
    }
    struct io_uring_cqe *cqe;
    port->stats.enters++;
    int rc = io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, tsp, NULL);
    u->iov_used = u->addr_used = 0;
    port->stats.cq_overflow += io_uring_cq_has_overflow(&u->ring);
    bool usual = rc >= 0 || rc == -ETIME || rc == -EINTR || rc == -EBUSY || rc == -EAGAIN;
    return usual ? 0 : rc;
}

static unsigned uring_reap(struct port *port, struct port_event *events, unsigned max)
{
    struct port_uring *u = uring_of(port);
    struct io_uring_cqe *cqe;
    unsigned head, n = 0;
    io_uring_for_each_cqe(&u->ring, head, cqe)
    {
        if (n == max)
            break;
        events[n++] = (struct port_event){
            .token = cqe->user_data,
            .res = cqe->res,
            .buf_id = cqe->flags & IORING_CQE_F_BUFFER
                          ? (int32_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT)
                          : PORT_NO_BUF,
            .more = (cqe->flags & IORING_CQE_F_MORE) != 0,
        };
    }
    io_uring_cq_advance(&u->ring, n);
    return n;
}

static void uring_accept(struct port *port, uint64_t token, int fd)
{
    struct io_uring_sqe *sqe = get_sqe(uring_of(port), token);
    io_uring_prep_multishot_accept(sqe, fd, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data64(sqe, token);
}

static void uring_connect(struct port *port, uint64_t token, int fd, const struct sockaddr *addr,
                          socklen_t addr_bytes)
{
    struct port_uring *u = uring_of(port);
    CHECK(addr_bytes <= sizeof u->addr[0]);
    if (u->addr_used == ADDR_BLOCKS)
        submit_early(u);
    struct io_uring_sqe *sqe = get_sqe(u, token); /* before a block is taken, as for sendv */
    struct sockaddr_storage *kept = &u->addr[u->addr_used++];
    memcpy(kept, addr, addr_bytes);
    io_uring_prep_connect(sqe, fd, (struct sockaddr *)kept, addr_bytes);
    io_uring_sqe_set_data64(sqe, token);
}

static void uring_recv(struct port *port, uint64_t token, int fd, enum port_group group,
                       unsigned flags)
{
    struct io_uring_sqe *sqe = get_sqe(uring_of(port), token);
    if (flags & PORT_ONE_SHOT)
        io_uring_prep_recv(sqe, fd, NULL, 0, 0);
    else
        io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    if (flags & PORT_POLL_FIRST)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = (uint16_t)group;
    io_uring_sqe_set_data64(sqe, token);
}

static void uring_send(struct port *port, uint64_t token, int fd, const void *bytes, size_t n,
                       unsigned flags)
{
    struct io_uring_sqe *sqe = get_sqe(uring_of(port), token);
    io_uring_prep_send(sqe, fd, bytes, n, MSG_WAITALL | MSG_NOSIGNAL);
    if (flags & PORT_POLL_FIRST)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    io_uring_sqe_set_data64(sqe, token);
}

static void uring_sendv(struct port *port, uint64_t token, int fd, const struct iovec *iov,
                        unsigned iov_n, unsigned flags)
{
    struct port_uring *u = uring_of(port);
    CHECK(iov_n > 0 && iov_n <= PORT_IOV_MAX);
    if (u->iov_used == IOV_BLOCKS)
        submit_early(u);
    /* get_sqe() may submit early and start the blocks anew, so it comes before a block is taken. */
    struct io_uring_sqe *sqe = get_sqe(u, token);
    unsigned block = u->iov_used++;
    memcpy(u->iov[block], iov, iov_n * sizeof *iov);
    u->msg[block] = (struct msghdr){.msg_iov = u->iov[block], .msg_iovlen = iov_n};
    io_uring_prep_sendmsg(sqe, fd, &u->msg[block], MSG_WAITALL | MSG_NOSIGNAL);
    if (flags & PORT_POLL_FIRST)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    io_uring_sqe_set_data64(sqe, token);
}

static void uring_poll(struct port *port, uint64_t token, int fd, uint32_t poll_bits)
{
    struct io_uring_sqe *sqe = get_sqe(uring_of(port), token);
    io_uring_prep_poll_add(sqe, fd, poll_bits);
    io_uring_sqe_set_data64(sqe, token);
}

static void uring_read(struct port *port, uint64_t token, int fd, void *bytes, size_t n)
{
    struct io_uring_sqe *sqe = get_sqe(uring_of(port), token);
    io_uring_prep_read(sqe, fd, bytes, (unsigned)n, (uint64_t)-1);
    io_uring_sqe_set_data64(sqe, token);
}

static void uring_write(struct port *port, uint64_t token, int fd, const void *bytes, size_t n)
{
    struct io_uring_sqe *sqe = get_sqe(uring_of(port), token);
    io_uring_prep_write(sqe, fd, bytes, (unsigned)n, (uint64_t)-1);
    io_uring_sqe_set_data64(sqe, token);
}

static void uring_cancel(struct port *port, uint64_t token, uint64_t victim)
{
    struct io_uring_sqe *sqe = get_sqe(uring_of(port), token);
    io_uring_prep_cancel64(sqe, victim, 0);
    io_uring_sqe_set_data64(sqe, token);
}

static void uring_bell(struct port *port, uint64_t token, struct port *other, uint64_t bell_token)
{
    struct io_uring_sqe *sqe = get_sqe(uring_of(port), token);
    io_uring_prep_msg_ring(sqe, uring_of(other)->ring.ring_fd, 0, bell_token, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, token);
}

static int uring_socket(struct port *port, int family)
{
    (void)port;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

static void uring_shutdown(struct port *port, int fd, int how)
{
    (void)port;
    shutdown(fd, how);
}

static void uring_close(struct port *port, int fd)
{
    (void)port;
    close(fd);
}

static void uring_buf_return(struct port *port, enum port_group group, uint32_t buf_id)
{
    struct port_uring *u = uring_of(port);
    const struct port_buffers *b = &port->buffers[group];
    CHECK(buf_id < b->count);
    io_uring_buf_ring_add(u->buf_ring[group], b->base + (size_t)buf_id * b->bytes, b->bytes,
                          (uint16_t)buf_id, io_uring_buf_ring_mask(b->count),
                          (int)u->returned[group]);
    u->returned[group]++;
}

static size_t ring_bytes(const struct port_buffers *b)
{
    return b->count * sizeof(struct io_uring_buf);
}

static void free_group(struct port_uring *u, enum port_group group)
{
    struct port_buffers *b = &u->port.buffers[group];
    if (u->buf_ring[group])
        munmap(u->buf_ring[group], ring_bytes(b));
    if (b->base)
        munmap(b->base, (size_t)b->bytes * b->count);
    u->buf_ring[group] = NULL;
    b->base = NULL;
}

static void uring_destroy(struct port *port)
{
    struct port_uring *u = uring_of(port);
    io_uring_queue_exit(&u->ring);
    for (int g = 0; g < PORT_GROUPS; g++)
        free_group(u, (enum port_group)g);
    free(u);
}

static const struct port_ops uring_ops = {
    .name = "io_uring",
    .destroy = uring_destroy,
    .now_ns = uring_now_ns,
    .wait = uring_wait,
    .reap = uring_reap,
    .accept = uring_accept,
    .connect = uring_connect,
    .recv = uring_recv,
    .send = uring_send,
    .sendv = uring_sendv,
    .poll = uring_poll,
    .read = uring_read,
    .write = uring_write,
    .cancel = uring_cancel,
    .bell = uring_bell,
    .socket = uring_socket,
    .shutdown = uring_shutdown,
    .close = uring_close,
    .buf_return = uring_buf_return,
};

static void *map_anonymous(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* Register one group; its buffer count is halved on ENOMEM down to the floor. 0 or errno. */
static int add_group(struct port_uring *u, enum port_group group, struct port_buffers *wanted)
{
    for (;;) {
        struct port_buffers *b = &u->port.buffers[group];
        *b = *wanted;
        b->base = map_anonymous((size_t)b->bytes * b->count);
        u->buf_ring[group] = map_anonymous(ring_bytes(b));
        int rc = ENOMEM;
        if (b->base && u->buf_ring[group]) {
            struct io_uring_buf_reg reg = {.ring_addr = (uint64_t)(uintptr_t)u->buf_ring[group],
                                           .ring_entries = b->count,
                                           .bgid = (uint16_t)group};
            rc = -io_uring_register_buf_ring(&u->ring, &reg, 0);
        }
        if (rc == 0)
            break;
        free_group(u, group);
        if (rc != ENOMEM || wanted->count / 2 < BUFFERS_FLOOR)
            return rc;
        wanted->count /= 2;
    }
    io_uring_buf_ring_init(u->buf_ring[group]);
    for (uint32_t id = 0; id < wanted->count; id++)
        uring_buf_return(&u->port, group, id);
    return 0;
}

static int init_ring(struct port_uring *u, struct port_config *config)
{
    for (;;) {
        struct io_uring_params params = {
            .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                     IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
            .cq_entries = config->cq_entries,
        };
        int rc = io_uring_queue_init_params(config->sq_entries, &u->ring, &params);
        if (rc != -ENOMEM || config->cq_entries / 2 < CQ_FLOOR)
            return -rc;
        config->cq_entries /= 2;
    }
}

#define SELF_TEST_MS 2000

/* Wait for one event of the self test: 0, or the errno that says what this kernel cannot do. */
static int self_test_event(struct port_uring *u, int wanted, bool *more)
{
    struct port_event ev;
    struct port *port = &u->port;
    uint64_t deadline_ns = uring_now_ns(port) + SELF_TEST_MS * 1000000ULL;
    while (uring_reap(port, &ev, 1) == 0) {
        if (uring_now_ns(port) >= deadline_ns)
            return ETIME;
        uring_wait(port, deadline_ns);
    }
    if (ev.buf_id != PORT_NO_BUF)
        uring_buf_return(port, PORT_SMALL, (uint32_t)ev.buf_id);
    *more = ev.more;
    return ev.res < 0 ? -ev.res : ev.res == wanted ? 0 : EINVAL;
}

/* A byte and the end of a stream by multishot recv into a provided buffer: set-up flags alone do not
 * tell whether the kernel has that. */
static int self_test(struct port_uring *u)
{
    int pair[2];
    bool more = false;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return errno;
    uring_recv(&u->port, 0, pair[0], PORT_SMALL, 0);
    int err = write(pair[1], "x", 1) == 1 ? self_test_event(u, 1, &more) : errno;
    close(pair[1]);
    if (!err && !more)
        uring_recv(&u->port, 0, pair[0], PORT_SMALL, 0);
    if (!err)
        err = self_test_event(u, 0, &more);
    close(pair[0]);
    return err;
}

struct port *port_uring_create(struct port_config *config, struct port_failure *failure)
{
    struct port_uring *u = calloc(1, sizeof *u);
    if (!u) {
        *failure = (struct port_failure){"allocate", ENOMEM};
        return NULL;
    }
    u->port.ops = &uring_ops;
    int err = init_ring(u, config);
    if (err) {
        *failure = (struct port_failure){"io_uring_setup", err};
        free(u);
        return NULL;
    }
    for (int g = 0; g < PORT_GROUPS; g++) {
        err = add_group(u, (enum port_group)g, &config->buffers[g]);
        if (err) {
            *failure = (struct port_failure){"io_uring_register (buffer ring)", err};
            uring_destroy(&u->port);
            return NULL;
        }
    }
    publish_returned(u);
    err = self_test(u);
    if (err) {
        *failure = (struct port_failure){"self test (multishot recv into provided buffers)", err};
        uring_destroy(&u->port);
        return NULL;
    }
    u->port.stats = (struct port_stats){0};
    io_uring_register_ring_fd(&u->ring); /* only faster: older kernels refuse */
    return &u->port;
}

static long read_number(const char *path, const char *prefix)
{
    char line[256];
    long value = -1;
    size_t prefix_n = strlen(prefix);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, prefix, prefix_n) == 0)
            value = strtol(line + prefix_n, NULL, 10);
    if (f)
        fclose(f);
    return value;
}

static void explain_eperm(char *text, size_t text_bytes)
{
    long disabled = read_number("/proc/sys/kernel/io_uring_disabled", "");
    long seccomp = read_number("/proc/self/status", "Seccomp:");
    snprintf(
        text, text_bytes,
        "io_uring is forbidden here (EPERM): kernel.io_uring_disabled=%ld, seccomp mode=%ld. %s",
        disabled, seccomp,
        disabled > 0
            ? "Fix: sysctl kernel.io_uring_disabled=0, or 1 with this user in io_uring_group."
            : "A container's seccomp profile denies io_uring_setup. Fix: docker run "
              "--security-opt seccomp=conf/seccomp.json (compose: security_opt; Kubernetes: "
              "seccompProfile type Localhost).");
}

void port_uring_explain(const struct port_failure *failure, char *text, size_t text_bytes)
{
    struct utsname uts;
    struct rlimit memlock = {0};
    uname(&uts);
    getrlimit(RLIMIT_MEMLOCK, &memlock);
    switch (failure->err) {
    case EPERM:
    case EACCES:
        explain_eperm(text, text_bytes);
        return;
    case ENOSYS:
        snprintf(
            text, text_bytes,
            "this kernel or sandbox (%s %s) has no io_uring (ENOSYS). Fix: run on Linux 6.1 or "
            "newer, not under gVisor or a kernel built without CONFIG_IO_URING.",
            uts.sysname, uts.release);
        return;
    case ENOMEM:
        snprintf(text, text_bytes,
                 "%s: not enough lockable memory (ENOMEM), even with the smallest rings: "
                 "RLIMIT_MEMLOCK soft=%llu kB hard=%llu kB. Fix: ulimit -l unlimited, docker run "
                 "--ulimit memlock=-1, or LimitMEMLOCK=infinity in the unit file.",
                 failure->step, (unsigned long long)(memlock.rlim_cur / 1024),
                 (unsigned long long)(memlock.rlim_max / 1024));
        return;
    case EINVAL:
        snprintf(
            text, text_bytes,
            "%s: this kernel (%s) does not know the io_uring features that pgweir needs (EINVAL): "
            "SINGLE_ISSUER, DEFER_TASKRUN, buffer rings. Fix: run on Linux 6.1 or newer.",
            failure->step, uts.release);
        return;
    default:
        snprintf(text, text_bytes, "%s failed: %s", failure->step, strerror(failure->err));
        return;
    }
}
