#include "proxy/control/takeover.h"

#include "base/check.h"
#include "proxy/control/inside.h"
#include "proxy/io/log.h"
#include "proxy/wire/put.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define VERSION 1
#define MESSAGE_MAX (5 + PUT_CLIENT_KEY_MAX)
#define FIRST_INHERITED_FD 3
#define BACKLOG 4

/* ---- the new process ---- */

static bool path_address(const char *path, struct sockaddr_un *addr)
{
    *addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof addr->sun_path)
        return false;
    memcpy(addr->sun_path, path, strlen(path) + 1);
    return true;
}

static bool is_trusted(int fd)
{
    struct ucred peer;
    socklen_t bytes = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0 &&
           (peer.uid == geteuid() || peer.uid == 0);
}

static bool take_sockets(int fd, struct takeover_given *given)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof given->fds)];
    } control;
    char text[2] = {0};
    struct iovec part = {text, sizeof text};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    if (poll(&ready, 1, TAKEOVER_WAIT_MS) != 1 ||
        recvmsg(fd, &message, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof text)
        return false;
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS) {
        given->n = (unsigned)((head->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(given->fds, CMSG_DATA(head), given->n * sizeof(int));
    }
    return text[0] == 'F' && text[1] == VERSION && given->n > 0;
}

bool takeover_ask(const char *path, struct takeover_given *given, const char **why)
{
    struct sockaddr_un addr;
    *given = (struct takeover_given){.older = -1};
    if (!path[0])
        return true;
    *why = "the path is too long";
    if (!path_address(path, &addr))
        return false;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) != 0) {
        *why = strerror(errno);
        bool nobody = errno == ENOENT || errno == ECONNREFUSED;
        close(fd);
        return nobody;
    }
    *why = "another user's process answers there";
    bool ok = is_trusted(fd);
    if (ok) {
        *why = "what answers there does not hand over its sockets";
        ok = take_sockets(fd, given);
    }
    if (!ok) {
        for (unsigned i = 0; i < given->n; i++)
            close(given->fds[i]);
        *given = (struct takeover_given){.older = -1};
        close(fd);
        return false;
    }
    given->older = fd;
    return true;
}

void takeover_inherited(struct takeover_given *given)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    *given = (struct takeover_given){.older = -1};
    if (pid && count && strtol(pid, NULL, 10) == getpid()) {
        long n = strtol(count, NULL, 10);
        for (long i = 0; i < n && i < TAKEOVER_FDS_MAX; i++)
            given->fds[given->n++] = FIRST_INHERITED_FD + (int)i;
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
}

/* ---- channels ---- */

static void channel_close(struct channel *ch)
{
    if (ch->fd < 0)
        return;
    watch_cancel(&ch->watch);
    close(ch->fd);
    ch->fd = -1;
}

static void channel_open(struct control *c, struct channel *ch, int fd, watch_fn *fn)
{
    if (!ch->watch.loop)
        watch_init(&ch->watch, c->loop, fn);
    ch->fd = fd;
    if (!ch->watch.armed)
        watch_poll(&ch->watch, fd, POLLIN);
}

/* ---- the older process, of the new one's ---- */

/* It says nothing; that it ends is all there is to hear. */
static void on_older(struct watch *watch, int32_t res)
{
    struct takeover *t = LIST_ENTRY(watch, struct takeover, older.watch);
    char byte;
    (void)res;
    if (t->older.fd < 0)
        return;
    if (recv(t->older.fd, &byte, 1, MSG_DONTWAIT) > 0) {
        watch_poll(watch, t->older.fd, POLLIN);
        return;
    }
    LOG(LOG_INFO, "takeover.ended", LF_S("reason", "the older process has gone"));
    channel_close(&t->older);
}

struct cancel_news {
    struct mail mail; /* first */
    size_t n;
    uint8_t bytes[MESSAGE_MAX];
};

/* One that does not fit into the socket's buffer is lost, as a datagram would be. */
static void deliver_cancel(struct loop *loop, struct mail *mail)
{
    struct control *c = loop->context;
    struct cancel_news *news = (struct cancel_news *)(void *)mail;
    if (c->takeover.older.fd >= 0)
        (void)send(c->takeover.older.fd, news->bytes, news->n, MSG_DONTWAIT | MSG_NOSIGNAL);
    free(news);
}

void takeover_cancel(struct control *c, uint32_t pid, struct slice key)
{
    if (!c->takeover.has_older || key.n > PUT_CLIENT_KEY_MAX)
        return;
    struct cancel_news *news = calloc(1, sizeof *news);
    CHECK(news != NULL);
    struct put o = put_into(news->bytes, sizeof news->bytes);
    put_u8(&o, 'C');
    put_u32(&o, pid);
    put_bytes(&o, key);
    CHECK(!o.full);
    news->n = o.n;
    news->mail.deliver = deliver_cancel;
    loop_post(c->loop, &news->mail);
}

/* ---- the new process, of the older one's ---- */

static void take_message(struct control *c, const uint8_t *p, size_t n)
{
    if (n == 1 && p[0] == 'G') {
        LOG(LOG_INFO, "takeover.given", LF_S("to", "a new process, which has started"));
        control_taken_over(c);
    } else if (n > 5 && p[0] == 'C') {
        c->hooks.cancel(c->hooks.context, slice_u32(p + 1), (struct slice){p + 5, n - 5});
    }
}

static void on_newer(struct watch *watch, int32_t res)
{
    struct takeover *t = LIST_ENTRY(watch, struct takeover, newer.watch);
    uint8_t bytes[MESSAGE_MAX];
    ssize_t n = 1;
    (void)res;
    while (t->newer.fd >= 0 && n > 0) {
        n = recv(t->newer.fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n > 0)
            take_message(t->control, bytes, (size_t)n);
    }
    if (t->newer.fd >= 0 && n < 0 && errno == EAGAIN)
        watch_poll(watch, t->newer.fd, POLLIN);
    else
        channel_close(&t->newer);
}

static bool give_sockets(const struct takeover *t, int fd)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof t->fds)];
    } control = {0};
    char text[2] = {'F', VERSION};
    struct iovec part = {text, sizeof text};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = CMSG_SPACE(t->n * sizeof(int))};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(t->n * sizeof(int));
    memcpy(CMSG_DATA(head), t->fds, t->n * sizeof(int));
    return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof text;
}

/* One at a time: whoever asks while another is starting has to come again. */
static void on_offer(struct watch *watch, int32_t res)
{
    struct takeover *t = LIST_ENTRY(watch, struct takeover, offer.watch);
    (void)res;
    if (t->offer.fd < 0)
        return;
    int fd = accept4(t->offer.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    bool busy = t->newer.fd >= 0 || t->newer.watch.armed;
    if (fd >= 0 && !busy && is_trusted(fd) && give_sockets(t, fd)) {
        LOG(LOG_INFO, "takeover.asked", LF_U("sockets", t->n));
        channel_open(t->control, &t->newer, fd, on_newer);
    } else if (fd >= 0) {
        close(fd);
    }
    watch_poll(watch, t->offer.fd, POLLIN);
}

/* ---- start and end ---- */

static bool offer(struct takeover *t, const char *path)
{
    struct sockaddr_un addr;
    if (!path_address(path, &addr))
        return false;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CHECK(fd >= 0);
    unlink(path); /* of the process before; it goes on listening where nobody finds it */
    mode_t mask = umask(0177);
    bool ok = bind(fd, (struct sockaddr *)&addr, sizeof addr) == 0;
    umask(mask);
    if (!ok || listen(fd, BACKLOG) != 0) {
        close(fd);
        return false;
    }
    channel_open(t->control, &t->offer, fd, on_offer);
    return true;
}

void takeover_prepare(struct control *c, const int *fds, unsigned n, int older)
{
    struct takeover *t = &c->takeover;
    CHECK(n <= TAKEOVER_FDS_MAX);
    t->older.fd = older;
    t->has_older = older >= 0;
    for (; t->n < n && c->snapshot->conf->takeover_socket[0]; t->n++) {
        t->fds[t->n] = dup(fds[t->n]);
        CHECK(t->fds[t->n] >= 0);
    }
}

bool takeover_start(struct control *c)
{
    struct takeover *t = &c->takeover;
    const char *path = c->snapshot->conf->takeover_socket;
    if (t->older.fd >= 0) {
        channel_open(c, &t->older, t->older.fd, on_older);
        (void)send(t->older.fd, "G", 1, MSG_NOSIGNAL);
        LOG(LOG_INFO, "takeover.taken", LF_U("sockets", t->n));
    }
    if (!path[0] || offer(t, path))
        return true;
    LOG(LOG_ERROR, "takeover.failed", LF_S("path", path), LF_S("error", strerror(errno)),
        LF_S("option", "takeover_socket"));
    return false;
}

void takeover_init(struct control *c)
{
    c->takeover = (struct takeover){.control = c, .offer.fd = -1, .newer.fd = -1, .older.fd = -1};
}

void takeover_stop(struct control *c)
{
    struct takeover *t = &c->takeover;
    if (t->offer.fd >= 0 && !c->taken_over)
        unlink(c->snapshot->conf->takeover_socket);
    channel_close(&t->offer);
    channel_close(&t->newer);
    channel_close(&t->older);
    for (; t->n > 0; t->n--)
        close(t->fds[t->n - 1]);
}

bool takeover_waits(const struct control *c)
{
    const struct takeover *t = &c->takeover;
    return t->offer.watch.armed || t->newer.watch.armed || t->older.watch.armed;
}

void takeover_close(struct control *c)
{
    struct channel *all[] = {&c->takeover.offer, &c->takeover.newer, &c->takeover.older};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]->watch.loop && !all[i]->watch.armed)
            watch_close(&all[i]->watch);
}
