/* The io_uring port on this machine's kernel: tiny rings, slow peers, no descriptors, no
 * permission. */
#include "base/check.h"
#include "proxy/io/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define DEADLINE_MS 20000
#define PEERS 16

static struct port_config usual_config(void)
{
    struct port_config config = {.sq_entries = 512, .cq_entries = 16384};
    config.buffers[PORT_SMALL] = (struct port_buffers){.bytes = 16384, .count = 512};
    config.buffers[PORT_BULK] = (struct port_buffers){.bytes = 65536, .count = 64};
    return config;
}

static struct port_config tiny_config(void)
{
    struct port_config config = {.sq_entries = 4, .cq_entries = 8};
    config.buffers[PORT_SMALL] = (struct port_buffers){.bytes = 64, .count = 8};
    config.buffers[PORT_BULK] = (struct port_buffers){.bytes = 256, .count = 2};
    return config;
}

static struct loop *new_loop(struct port_config config, void *context)
{
    struct port_failure failure;
    char text[512];
    struct port *port = port_uring_create(&config, &failure);
    if (port)
        return loop_new(port, 0, context);
    port_uring_explain(&failure, text, sizeof text);
    print_message("skipped: %s\n", text);
    return NULL;
}

static void end_loop(struct loop *loop)
{
    loop_drain(loop, loop->now_ms + DEADLINE_MS);
    assert_int_equal(loop->conn_n, 0);
    assert_int_equal(loop->bufs.heap_n, 0);
    assert_int_equal(loop->bufs.lent[PORT_SMALL] + loop->bufs.lent[PORT_BULK], 0);
    loop_free(loop);
}

static bool in_time(const struct loop *loop, uint64_t started_ms)
{
    return loop->now_ms < started_ms + DEADLINE_MS;
}

/* ---- an echo, and peers that write and read without blocking ---- */

struct peer {
    int fd;
    uint32_t sent, got, total;
    bool shut, done, slow;
};

static void echo_input(struct conn *conn)
{
    conn_out_queue(conn, &conn->in);
    if (conn_out_full(conn))
        conn_pause(conn);
    if (conn->ended)
        conn_close_flushed(conn, "ended");
}

static void echo_drained(struct conn *conn)
{
    conn_resume(conn);
}

static const struct conn_ops echo_ops = {.on_input = echo_input, .on_drained = echo_drained};

static uint8_t pattern(uint32_t i)
{
    return (uint8_t)(i * 131 + (i >> 8) * 7);
}

static void peer_write(struct peer *p)
{
    uint8_t bytes[4096];
    uint32_t n = p->total - p->sent < sizeof bytes ? p->total - p->sent : (uint32_t)sizeof bytes;
    for (uint32_t i = 0; i < n; i++)
        bytes[i] = pattern(p->sent + i);
    ssize_t wrote = n > 0 ? send(p->fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
    if (wrote > 0)
        p->sent += (uint32_t)wrote;
    /* A slow one hangs up when it has everything: a closing conn waits CONN_CLOSE_MS at most. */
    if (p->sent == p->total && !p->shut && (!p->slow || p->got == p->total)) {
        p->shut = true;
        shutdown(p->fd, SHUT_WR);
    }
}

static void peer_read(struct peer *p)
{
    uint8_t bytes[16384];
    ssize_t n = recv(p->fd, bytes, p->slow ? 1000 : sizeof bytes, MSG_DONTWAIT);
    CHECK(n >= 0 || errno == EAGAIN);
    for (ssize_t i = 0; i < n; i++)
        CHECK(bytes[i] == pattern(p->got + (uint32_t)i));
    if (n > 0)
        p->got += (uint32_t)n;
    p->done = n == 0;
}

static void make_pair(bool tcp, int fd[2])
{
    if (!tcp) {
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) == 0);
        return;
    }
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t at_bytes = sizeof at;
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(l, (struct sockaddr *)(void *)&at, sizeof at) == 0 && listen(l, 1) == 0);
    CHECK(getsockname(l, (struct sockaddr *)(void *)&at, &at_bytes) == 0);
    fd[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(fd[1], (struct sockaddr *)(void *)&at, sizeof at) == 0);
    fd[0] = accept4(l, NULL, NULL, SOCK_CLOEXEC);
    CHECK(fd[0] >= 0);
    close(l);
}

static void set_buffer(int fd, int which, int bytes)
{
    setsockopt(fd, SOL_SOCKET, which, &bytes, sizeof bytes);
}

static struct port_stats echo_all(struct port_config config, bool tcp, bool slow, uint32_t total)
{
    struct peer peers[PEERS];
    struct loop *loop = new_loop(config, NULL);
    if (!loop)
        skip();
    for (int i = 0; i < PEERS; i++) {
        int fd[2];
        make_pair(tcp, fd);
        if (slow) {
            set_buffer(fd[0], SO_SNDBUF, 4608);
            set_buffer(fd[1], SO_RCVBUF, 4608);
        }
        peers[i] = (struct peer){.fd = fd[1], .total = total, .slow = slow};
        conn_new(loop, fd[0], !tcp, &echo_ops, NULL);
    }
    uint64_t started_ms = loop->now_ms;
    for (int done = 0; done < PEERS;) {
        assert_true(in_time(loop, started_ms));
        loop_turn(loop, loop->now_ms + 1);
        done = 0;
        for (int i = 0; i < PEERS; i++) {
            if (!peers[i].done) {
                peer_write(&peers[i]);
                peer_read(&peers[i]);
            }
            done += peers[i].done;
        }
    }
    for (int i = 0; i < PEERS; i++) {
        assert_int_equal(peers[i].got, total);
        close(peers[i].fd);
    }
    struct port_stats stats = loop->port->stats;
    end_loop(loop);
    return stats;
}

static void tiny_rings_and_buffers_lose_nothing(void **state)
{
    (void)state;
    for (int tcp = 0; tcp < 2; tcp++) {
        struct port_stats stats = echo_all(tiny_config(), tcp, false, 60000);
        assert_true(stats.cq_overflow > 0); /* else this test does not test what it says */
        assert_true(stats.sqe_full > 0);
    }
}

static void slow_peers_get_everything(void **state)
{
    (void)state;
    for (int tcp = 0; tcp < 2; tcp++)
        echo_all(usual_config(), tcp, true, 60000);
}

/* ---- bytes and end in one go on AF_UNIX (liburing issue 1549) ---- */

struct once {
    uint32_t bytes;
    bool ended, gone;
};

static void once_input(struct conn *conn)
{
    struct once *once = conn->owner;
    once->bytes += conn->in.bytes;
    conn_in_drop(conn, conn->in.bytes);
    once->ended = conn->ended;
    if (conn->ended)
        conn_close(conn, "ended");
}

static void once_gone(struct conn *conn)
{
    ((struct once *)conn->owner)->gone = true;
}

static const struct conn_ops once_ops = {.on_input = once_input, .on_gone = once_gone};

static void an_end_right_behind_the_bytes_is_seen(void **state)
{
    (void)state;
    struct loop *loop = new_loop(usual_config(), NULL);
    if (!loop)
        skip();
    for (int i = 0; i < 10000; i++) {
        int fd[2];
        struct once once = {0};
        make_pair(false, fd);
        if (i % 2) { /* half of them find the recv armed already */
            conn_new(loop, fd[0], true, &once_ops, &once);
            loop_turn(loop, 0);
        }
        CHECK(send(fd[1], "0123456789", 10, 0) == 10 && shutdown(fd[1], SHUT_WR) == 0);
        if (i % 2 == 0)
            conn_new(loop, fd[0], true, &once_ops, &once);
        uint64_t started_ms = loop->now_ms;
        while (!once.gone) {
            assert_true(in_time(loop, started_ms));
            loop_turn(loop, started_ms + DEADLINE_MS);
        }
        assert_true(once.ended);
        assert_int_equal(once.bytes, 10);
        close(fd[1]);
    }
    end_loop(loop);
}

/* ---- connecting ---- */

struct dialler {
    int err;
    bool told, gone;
};

static void dial_connected(struct conn *conn, int err)
{
    struct dialler *d = conn->owner;
    d->err = err;
    d->told = true;
    conn_close(conn, "test");
}

static void dial_gone(struct conn *conn)
{
    ((struct dialler *)conn->owner)->gone = true;
}

static const struct conn_ops dial_ops = {
    .on_connected = dial_connected, .on_input = echo_input, .on_gone = dial_gone};

static void connects_end_in_every_way(void **state)
{
    (void)state;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t at_bytes = sizeof at;
    const struct sockaddr *addr = (const struct sockaddr *)(const void *)&at;
    struct loop *loop = new_loop(usual_config(), NULL);
    if (!loop)
        skip();
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(l, addr, sizeof at), 0);
    assert_int_equal(getsockname(l, (struct sockaddr *)(void *)&at, &at_bytes), 0);
    for (int i = 0; i < 3; i++) { /* refused; closed at once; accepted */
        struct dialler d = {0};
        struct conn *conn = conn_connect(loop, addr, sizeof at, &dial_ops, &d);
        assert_non_null(conn);
        conn_out_copy(conn, "early", 5); /* waits for the connection */
        if (i == 1)
            conn_close(conn, "test");
        uint64_t started_ms = loop->now_ms;
        while (!d.gone) {
            assert_true(in_time(loop, started_ms));
            loop_turn(loop, started_ms + DEADLINE_MS);
        }
        assert_true(d.told == (i != 1));
        assert_int_equal(d.err, i == 0 ? -ECONNREFUSED : 0);
        if (i == 1)
            assert_int_equal(listen(l, 4), 0);
    }
    close(l);
    end_loop(loop);
}

/* ---- accepting without descriptors ---- */

static void count_accepted(struct loop *loop, int fd, void *context)
{
    (void)loop;
    ++*(unsigned *)context;
    close(fd);
}

static void accept_goes_on_after_emfile(void **state)
{
    (void)state;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t at_bytes = sizeof at;
    struct rlimit old, low;
    unsigned accepted = 0;
    int clients[5];
    struct loop *loop = new_loop(usual_config(), NULL);
    if (!loop)
        skip();
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(l, (struct sockaddr *)(void *)&at, sizeof at), 0);
    assert_int_equal(listen(l, 16), 0);
    assert_int_equal(getsockname(l, (struct sockaddr *)(void *)&at, &at_bytes), 0);
    struct listener *listener = listener_start(loop, l, count_accepted, &accepted);
    for (int i = 0; i < 5; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(clients[i], (struct sockaddr *)(void *)&at, sizeof at), 0);
    }
    int lowest_free = dup(l);
    close(lowest_free);
    getrlimit(RLIMIT_NOFILE, &old);
    low = old;
    low.rlim_cur = (rlim_t)lowest_free;
    setrlimit(RLIMIT_NOFILE, &low);
    uint64_t started_ms = loop->now_ms, turns = loop->stats.turns;
    while (loop->stats.accept_errors < 3 && in_time(loop, started_ms))
        loop_turn(loop, started_ms + DEADLINE_MS);
    setrlimit(RLIMIT_NOFILE, &old);
    assert_int_equal(accepted, 0);
    assert_true(loop->stats.accept_errors >= 3);
    assert_true(loop->stats.turns - turns < 100); /* it paused between the tries */
    while (accepted < 5 && in_time(loop, started_ms))
        loop_turn(loop, started_ms + DEADLINE_MS);
    assert_int_equal(accepted, 5);
    listener_stop(listener);
    for (int i = 0; i < 5; i++)
        close(clients[i]);
    end_loop(loop);
}

/* ---- no permission, no kernel support, no memory: each in a process of its own ---- */

/* The child answers by its exit code; 77: not permitted to test this. */
static int in_child(int (*run)(unsigned), unsigned arg)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0)
        _exit(run(arg));
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool refuse_io_uring(unsigned err)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, SYS_io_uring_setup, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, SYS_io_uring_register, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | err),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static int explain_refused(unsigned err)
{
    struct port_config config = usual_config();
    struct port_failure failure = {0};
    char text[512];
    if (!refuse_io_uring(err))
        return 77;
    if (port_uring_create(&config, &failure) || failure.err != (int)err)
        return 1;
    port_uring_explain(&failure, text, sizeof text);
    fprintf(stderr, "%s\n", text);
    if (err == EPERM) /* names the filter and the way out */
        return strstr(text, "EPERM") && strstr(text, "seccomp mode=2") &&
                       strstr(text, "--security-opt seccomp=")
                   ? 0
                   : 2;
    return strstr(text, "ENOSYS") && strstr(text, "Linux 6.1") ? 0 : 3;
}

static void a_refusal_is_explained(void **state)
{
    (void)state;
    static const unsigned errors[] = {EPERM, ENOSYS};
    for (int i = 0; i < 2; i++) {
        int rc = in_child(explain_refused, errors[i]);
        if (rc == 77) {
            print_message("skipped: no seccomp filters here\n");
            skip();
        }
        assert_int_equal(rc, 0);
    }
}

static int lower_memlock(unsigned bytes)
{
    struct rlimit limit = {bytes, bytes};
    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0)
        return 77;
    if (getuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
        return 77;
    return 0;
}

/* With little lockable memory: smaller rings that work, or a text that says what to do. */
static int make_port_with_memlock(unsigned bytes)
{
    struct port_config config = usual_config();
    struct port_failure failure = {0};
    char text[512];
    int fd[2];
    if (lower_memlock(bytes) != 0)
        return 77;
    struct port *port = port_uring_create(&config, &failure);
    fprintf(stderr, "memlock=%u: %s cq=%u small=%u bulk=%u\n", bytes, port ? "got" : "refused",
            config.cq_entries, config.buffers[PORT_SMALL].count, config.buffers[PORT_BULK].count);
    if (!port) {
        port_uring_explain(&failure, text, sizeof text);
        fprintf(stderr, "%s\n", text);
        return bytes == 0 && strstr(text, "ENOMEM") && strstr(text, "soft=0 kB") ? 0 : 1;
    }
    struct loop *loop = loop_new(port, 0, NULL);
    struct once once = {0};
    make_pair(false, fd);
    conn_new(loop, fd[0], true, &once_ops, &once);
    CHECK(send(fd[1], "x", 1, 0) == 1);
    close(fd[1]);
    for (uint64_t started_ms = loop->now_ms; !once.gone && in_time(loop, started_ms);)
        loop_turn(loop, started_ms + DEADLINE_MS);
    loop_free(loop);
    return once.bytes == 1 && once.ended ? 0 : 2;
}

static void rings_shrink_to_the_memory_there_is(void **state)
{
    (void)state;
    static const unsigned limits[] = {0, 65536, 200000, 8U << 20};
    for (int i = 0; i < 4; i++) {
        int rc = in_child(make_port_with_memlock, limits[i]);
        if (rc == 77) {
            print_message("skipped: may not set limits here\n");
            skip();
        }
        assert_int_equal(rc, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_rings_and_buffers_lose_nothing),
        cmocka_unit_test(slow_peers_get_everything),
        cmocka_unit_test(an_end_right_behind_the_bytes_is_seen),
        cmocka_unit_test(connects_end_in_every_way),
        cmocka_unit_test(accept_goes_on_after_emfile),
        cmocka_unit_test(a_refusal_is_explained),
        cmocka_unit_test(rings_shrink_to_the_memory_there_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
