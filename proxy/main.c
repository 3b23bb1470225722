/* proxy/main.c: arguments, listening sockets, start and end. */
#include "base/check.h"
#include "proxy/admin/console.h"
#include "proxy/admin/gates.h"
#include "proxy/admin/route_cli.h"
#include "proxy/control/control.h"
#include "proxy/control/takeover.h"
#include "proxy/io/log.h"
#include "proxy/pool/kdf.h"
#include "proxy/session/worker.h"
#include "proxy/wire/startup.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define EXIT_USAGE 64
#define EXIT_CONFIG 78
#define LISTEN_MAX TAKEOVER_FDS_MAX
#define HEALTH_WAIT_MS 2000
#define DEFAULT_FILE "/etc/pgweir/pgweir.ini"

extern char **environ;

static struct fleet fleet;
static struct control *control;
static bool taken_over;

static int usage(FILE *out, int code)
{
    fputs("usage: pgweir [run] [FILE.ini]     run in the foreground, log to stderr\n"
          "       pgweir check [FILE.ini]     read and check the configuration\n"
          "       pgweir health [FILE.ini]    exit 0 when a pgweir answers on the configured port\n"
          "       pgweir route [SQL ...]      where statements would go, and why (route --help)\n"
          "       pgweir --print-sample       print a commented configuration\n"
          "       pgweir --version\n"
          "Without FILE.ini: " DEFAULT_FILE " if it is there, else PGWEIR_* and DATABASE_URL.\n",
          out);
    return code;
}

/* ---- listening ---- */

struct listening {
    int fds[LISTEN_MAX];
    unsigned n;
    char unix_path[108];
    struct takeover_given given; /* by the process before; those that are used are in fds too */
};

/* The socket that we were given for this address, or -1. */
static int given_for(struct listening *l, const struct sockaddr *addr, socklen_t bytes)
{
    for (unsigned i = 0; i < l->given.n; i++) {
        struct sockaddr_storage is = {0};
        socklen_t is_bytes = sizeof is;
        if (getsockname(l->given.fds[i], (struct sockaddr *)&is, &is_bytes) == 0 &&
            is.ss_family == addr->sa_family &&
            (addr->sa_family == AF_UNIX ? strcmp(((struct sockaddr_un *)&is)->sun_path,
                                                 ((const struct sockaddr_un *)addr)->sun_path) == 0
                                        : is_bytes == bytes && memcmp(&is, addr, bytes) == 0)) {
            int fd = l->given.fds[i];
            l->given.fds[i] = l->given.fds[--l->given.n];
            return fd;
        }
    }
    return -1;
}

static bool cannot_listen(const char *where, const char *why, const char *options)
{
    fprintf(stderr, "pgweir: cannot listen on %s: %s (%s)\n", where, why, options);
    return false;
}

static bool add_listener(struct listening *l, const struct addrinfo *ai, const struct conf *conf)
{
    char host[NI_MAXHOST], where[NI_MAXHOST + 16];
    int on = 1;
    getnameinfo(ai->ai_addr, ai->ai_addrlen, host, sizeof host, NULL, 0, NI_NUMERICHOST);
    snprintf(where, sizeof where, ai->ai_family == AF_INET6 ? "[%s]:%u" : "%s:%u", host,
             conf->listen_port);
    if (l->n == LISTEN_MAX)
        return cannot_listen(where, "too many addresses", "listen_addr");
    int fd = given_for(l, ai->ai_addr, ai->ai_addrlen);
    if (fd >= 0) {
        l->fds[l->n++] = fd;
        return true;
    }
    fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 && errno == EAFNOSUPPORT && ai->ai_family == AF_INET6)
        return true; /* a machine without IPv6: "*" still means all that there is */
    if (fd < 0)
        return cannot_listen(where, strerror(errno), "listen_addr");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (ai->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) != 0 || listen(fd, (int)conf->listen_backlog) != 0) {
        const char *why = strerror(errno);
        close(fd);
        return cannot_listen(where, why, "listen_addr, listen_port");
    }
    l->fds[l->n++] = fd;
    return true;
}

static bool listen_on_name(struct listening *l, const char *name, const struct conf *conf)
{
    char port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found;
    snprintf(port, sizeof port, "%u", conf->listen_port);
    int rc = getaddrinfo(strcmp(name, "*") == 0 ? NULL : name, port, &hints, &found);
    if (rc != 0)
        return cannot_listen(name, gai_strerror(rc), "listen_addr");
    bool ok = true;
    for (const struct addrinfo *ai = found; ok && ai; ai = ai->ai_next)
        ok = add_listener(l, ai, conf);
    freeaddrinfo(found);
    return ok;
}

static bool listen_tcp(struct listening *l, const struct conf *conf)
{
    char names[4097];
    snprintf(names, sizeof names, "%s", conf->listen_addr);
    for (char *rest = names, *name; (name = strsep(&rest, ", ")) != NULL;)
        if (name[0] && !listen_on_name(l, name, conf))
            return false;
    return true;
}

static bool listen_unix(struct listening *l, const struct conf *conf)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (!conf->unix_socket_dir[0])
        return true;
    int n = snprintf(addr.sun_path, sizeof addr.sun_path, "%s/.s.PGSQL.%u", conf->unix_socket_dir,
                     conf->listen_port);
    if (n < 0 || (size_t)n >= sizeof addr.sun_path)
        return cannot_listen(conf->unix_socket_dir, "the path is too long", "unix_socket_dir");
    int fd = given_for(l, (struct sockaddr *)&addr, sizeof addr);
    if (fd >= 0) {
        snprintf(l->unix_path, sizeof l->unix_path, "%s", addr.sun_path);
        l->fds[l->n++] = fd;
        return true;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0) {
        close(fd);
        return cannot_listen(addr.sun_path, "in use by another process",
                             "unix_socket_dir, listen_port");
    }
    close(fd);
    unlink(addr.sun_path); /* nobody answered: what is there is left over */
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    if (bind(fd, (struct sockaddr *)&addr, sizeof addr) != 0 ||
        chmod(addr.sun_path, conf->unix_socket_mode) != 0 ||
        listen(fd, (int)conf->listen_backlog) != 0) {
        const char *why = strerror(errno);
        close(fd);
        return cannot_listen(addr.sun_path, why, "unix_socket_dir");
    }
    snprintf(l->unix_path, sizeof l->unix_path, "%s", addr.sun_path);
    l->fds[l->n++] = fd;
    return true;
}

/* systemd decides where it listens for us; an older process hands over what the configuration still names. */
static bool open_listeners(struct listening *l, const struct conf *conf)
{
    const char *why;
    takeover_inherited(&l->given);
    if (l->given.n > 0) {
        memcpy(l->fds, l->given.fds, sizeof l->fds);
        l->n = l->given.n;
        return true;
    }
    if (!takeover_ask(conf->takeover_socket, &l->given, &why)) {
        fprintf(stderr, "pgweir: cannot take the sockets at %s: %s (takeover_socket)\n",
                conf->takeover_socket, why);
        return false;
    }
    if (!listen_tcp(l, conf) || !listen_unix(l, conf))
        return false;
    for (; l->given.n > 0; l->given.n--)
        close(l->given.fds[l->given.n - 1]);
    if (l->n > 0)
        return true;
    fputs("pgweir: nothing to listen on: set listen_addr or unix_socket_dir\n", stderr);
    return false;
}

/* ---- hooks ---- */

static void on_cluster_changed(void *context, struct cluster *cluster)
{
    fleet_cluster_changed(context, cluster);
}

static void on_sampled(void *context, struct cluster *cluster)
{
    fleet_sampled(context, cluster);
}

static void on_snapshot(void *context, struct snapshot *snapshot)
{
    fleet_snapshot(context, snapshot);
}

static void on_shutdown(void *context, unsigned stage)
{
    struct fleet *f = context;
    if (stage == CONTROL_DRAIN)
        fleet_drain(f, f->first->conf->drain_grace_ms, f->first->conf->drain_timeout_ms);
    else
        fleet_abort(f);
}

static struct listening listening;

static void on_taken_over(void *context)
{
    struct fleet *f = context;
    listening.unix_path[0] = '\0'; /* not ours to remove any more; nor is the pidfile */
    taken_over = true;
    fleet_drain(f, 0, f->first->conf->drain_timeout_ms);
}

static uint32_t on_beat(void *context, uint32_t worker)
{
    return fleet_beat(context, worker);
}

static void on_pressure(void *context, unsigned level)
{
    fleet_pressure(context, level);
}

static void on_cancel(void *context, uint32_t pid, struct slice key)
{
    fleet_cancel(context, pid, key);
}

static void on_strange_cancel(void *context, uint32_t pid, struct slice key)
{
    (void)context;
    takeover_cancel(control, pid, key);
}

static void on_evidence(void *context, struct cluster *cluster)
{
    (void)context;
    control_nudge(control, cluster);
}

static void on_role_seen(void *context, struct cluster *cluster, uint32_t node, bool in_recovery)
{
    (void)context;
    control_role_seen(control, cluster, node, in_recovery);
}

static void on_catalog(void *context, struct catalog_slot *slot)
{
    (void)context;
    control_catalog(control, slot);
}

static void on_all_stopped(void *context)
{
    (void)context;
    control_stop(control);
}

/* ---- running ---- */

/* The CPUs that this process may use: its affinity, and a cgroup's quota. */
static uint32_t cpus(void)
{
    cpu_set_t set;
    unsigned n = 1;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        n = (unsigned)CPU_COUNT(&set);
    unsigned long long quota, period;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (f && fscanf(f, "%llu %llu", &quota, &period) == 2 && period > 0) {
        unsigned whole = (unsigned)((quota + period - 1) / period);
        n = whole > 0 && whole < n ? whole : n;
    }
    if (f)
        fclose(f);
    return n < 1 ? 1 : n > WORKER_PIDS_MAX ? WORKER_PIDS_MAX : n;
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static bool write_pidfile(const struct conf *conf)
{
    if (!conf->pidfile[0])
        return true;
    FILE *f = fopen(conf->pidfile, "w");
    if (f && fprintf(f, "%d\n", (int)getpid()) > 0 && fclose(f) == 0)
        return true;
    fprintf(stderr, "pgweir: cannot write pidfile \"%s\": %s (pidfile)\n", conf->pidfile,
            strerror(errno));
    return false;
}

static int run_fleet(struct snapshot *snapshot, const struct conf_sources *sources,
                     struct listening *l)
{
    const struct conf *conf = snapshot->conf;
    uint32_t worker_n = conf->workers ? conf->workers : cpus();
    if (worker_n > WORKER_PIDS_MAX)
        worker_n = WORKER_PIDS_MAX;
    const struct control_hooks hooks = {
        .cluster_changed = on_cluster_changed,
        .sampled = on_sampled,
        .snapshot_ready = on_snapshot,
        .beat = on_beat,
        .worker_n = worker_n,
        .pressure = on_pressure,
        .taken_over = on_taken_over,
        .cancel = on_cancel,
        .shutdown = on_shutdown,
        .context = &fleet,
    };
    control = control_new(snapshot, sources, &hooks);
    if (!control)
        return EXIT_CONFIG;
    takeover_prepare(control, l->fds, l->n, l->given.older);
    console_init(control);
    fleet.console = console_query;
    fleet.console_look = gates_look;
    fleet.reports = (struct hub_reports){on_evidence, on_role_seen, on_catalog, &fleet};
    fleet.all_stopped = on_all_stopped;
    fleet.strange_cancel = on_strange_cancel;
    fleet.context = &fleet;
    kdf_start();
    if (fleet_start(&fleet, worker_n, snapshot, l->fds, l->n) != 0) {
        char text[1024];
        port_uring_explain(&fleet.failure, text, sizeof text);
        fprintf(stderr, "pgweir: %s\n", text);
        return EXIT_CONFIG; /* the process ends: nothing has been served */
    }
    LOG(LOG_INFO, "process.started", LF_S("version", PGWEIR_VERSION),
        LF_U("pid", (uint64_t)getpid()), LF_U("workers", worker_n), LF_U("port", conf->listen_port),
        LF_S("io", "io_uring"));
    takeover_start(control);
    control_run(control);
    kdf_stop();
    fleet_join(&fleet);
    control_free(control);
    return 0;
}

static int run(const struct conf_sources *sources, struct conf *conf)
{
    char error[512];
    struct listening *l = &listening;
    struct snapshot *snapshot = snapshot_new(conf, NULL, error, sizeof error);
    if (!snapshot) {
        fprintf(stderr, "pgweir: %s\n", error);
        conf_free(conf);
        return EXIT_CONFIG;
    }
    control_block_signals();
    raise_descriptor_limit();
    int code = 1;
    if (open_listeners(l, conf) && write_pidfile(conf))
        code = run_fleet(snapshot, sources, l);
    if (l->unix_path[0])
        unlink(l->unix_path);
    if (conf->pidfile[0] && !taken_over)
        unlink(conf->pidfile);
    snapshot_unref(snapshot);
    return code;
}

/* ---- health: does a pgweir answer here? ---- */

static int health_connect(const struct conf *conf)
{
    char port[8], name[256];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    snprintf(port, sizeof port, "%u", conf->listen_port);
    snprintf(name, sizeof name, "%.*s", (int)strcspn(conf->listen_addr, ", "), conf->listen_addr);
    bool any = name[0] == '\0' || strcmp(name, "*") == 0 || strcmp(name, "0.0.0.0") == 0;
    if (getaddrinfo(any ? "127.0.0.1" : name, port, &hints, &found) != 0)
        return -1;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) != 0) {
        close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    return fd;
}

static int health(const struct conf *conf)
{
    static const uint8_t request[] = STARTUP_HEALTH_REQUEST;
    char answer = 0;
    int fd = health_connect(conf);
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    bool heard = fd >= 0 && write(fd, request, sizeof request) == (ssize_t)sizeof request &&
                 poll(&ready, 1, HEALTH_WAIT_MS) == 1 && read(fd, &answer, 1) == 1;
    if (fd >= 0)
        close(fd);
    if (heard && answer == STARTUP_HEALTHY)
        puts("healthy");
    else if (heard && answer == STARTUP_DRAINING)
        puts("unhealthy: it is shutting down");
    else
        puts("unhealthy: no pgweir answers on the configured address and port");
    return heard && answer == STARTUP_HEALTHY ? 0 : 1;
}

/* ---- arguments ---- */

static struct conf *load(const struct conf_sources *sources, bool quiet)
{
    struct conf_errors errs = {0};
    struct conf *conf = conf_load(sources, &errs);
    if (!conf || !quiet)
        conf_errors_print(&errs, stderr);
    conf_errors_free(&errs);
    return conf;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "route") == 0)
        return route_main(argc - 1, argv + 1);
    int at = 1;
    const char *command = "run";
    static const char *const commands[] = {"run",       "check", "health", "--print-sample",
                                           "--version", "-V",    "--help", "-h"};
    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++)
        if (strcmp(argv[1], commands[i]) == 0) {
            command = commands[i];
            at = 2;
        }
    if (strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0)
        return usage(stdout, 0);
    if (argc > at + 1 || (argc > at && argv[at][0] == '-'))
        return usage(stderr, EXIT_USAGE);
    if (strcmp(command, "--version") == 0 || strcmp(command, "-V") == 0) {
        puts("pgweir " PGWEIR_VERSION);
        return 0;
    }
    if (strcmp(command, "--print-sample") == 0) {
        conf_print_sample(stdout);
        return 0;
    }
    const char *path = argc > at ? argv[at] : access(DEFAULT_FILE, F_OK) == 0 ? DEFAULT_FILE : NULL;
    const struct conf_sources sources = {.path = path, .env = environ};
    struct conf *conf = load(&sources, strcmp(command, "health") == 0);
    if (!conf)
        return EXIT_CONFIG;
    if (strcmp(command, "run") == 0)
        return run(&sources, conf);
    int code = strcmp(command, "health") == 0 ? health(conf) : 0;
    if (strcmp(command, "check") == 0)
        puts("configuration is valid");
    conf_free(conf);
    return code;
}
