/* bench/levels.c: the users of an application, many of them, on a PostgreSQL endpoint of this machine, and what each
 * of their operations met.
 *
 * What    -u users log in, each on a connection of its own; when all have, they run operations. A pattern (-o) says
 *         which, a letter of kinds[] each; a user without a session of its own begins one first.
 *         Closed loop, -n N: each user does its share of N operations, the next as soon as one ends.
 *         Open loop, -r RATE:SECONDS,...: operations arrive at that rate whatever becomes of them (-e: at random
 *         times with that mean); each takes the user that has been idle longest (-l: shortest, so that who was
 *         refused is soon back), or waits until there is one.
 * Prints  a line for each login and operation: KIND USER ARRIVED SENT ENDED OUTCOME TEXT. Times in us since the first
 *         operation. OUTCOME is ok; an SQLSTATE with its text; closed: by the other side without a word; unknown:
 *         closed while it could not be known whether a write was done; wrong: a read that shows something else than
 *         what was acknowledged to this user; late: nothing within -t seconds.
 *         The last line is "gap - - - US": the longest time for which this program did not look at its sockets.
 *         A line of KIND idle tells that a connection ended while nothing ran on it.
 * Retries nothing. Who lost its connection logs in again for its next operation.
 * Login   by trust, -U user, -d database, -a application_name.
 */
#include "base/check.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define STEPS_MAX 6
#define IN_MAX 8192 /* the longest message that a user can take */
#define OUT_MAX 4096
#define EVENTS_MAX 512
#define LOGINS_MAX 256 /* under way at once, before the operations begin */
#define LOOK_US 100000 /* between two looks for operations that are late */
#define ROOMS_HOT 32
#define DIE(...) (fprintf(stderr, "levels: " __VA_ARGS__), fputc('\n', stderr), exit(1))

/* In SQL, :u is the user's number, :r a random room, :v the first column of the last row of this operation, and :s the
 * user's session. */
struct kind {
    char letter;
    bool makes_session; /* its value is the user's session */
    bool counts;        /* acknowledged, it is a message of that session */
    bool compares;      /* its value is the number of those messages */
    bool writes;        /* its last statement makes it durable */
    const char *name, *sql[STEPS_MAX];
};

static struct kind kinds[] = {
    {.letter = 's',
     .name = "session",
     .makes_session = true,
     .writes = true,
     .sql = {"INSERT INTO session (owner) VALUES (:u) RETURNING id"}},
    {.letter = 'm',
     .name = "message",
     .counts = true,
     .writes = true,
     .sql = {"BEGIN",
             "SELECT id FROM room WHERE id >= :r ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED",
             "UPDATE room SET n = n + 1 WHERE id = :v",
             "INSERT INTO message (session, room, body) VALUES (:s, :v, 'what user :u has to say')",
             "COMMIT"}},
    {.letter = 'r',
     .name = "read",
     .compares = true,
     .sql = {"SELECT id, room, body FROM message WHERE session = :s ORDER BY id DESC LIMIT 10",
             "SELECT count(*) FROM message WHERE session = :s"}},
    {.letter = 'a',
     .name = "append",
     .writes = true,
     .sql = {"INSERT INTO event (stream, body) VALUES (:r, 'an event of user :u')"}},
    {.letter = 't',
     .name = "tail",
     .sql = {"SELECT id, stream, body FROM event ORDER BY id DESC LIMIT 20"}},
    {.letter = 'q', .name = "query", .sql = {"SELECT 1"}}, /* -q */
};
#define KINDS (sizeof kinds / sizeof *kinds)

enum state { OFF, CONNECTING, LOGIN, IDLE, BUSY };

struct user {
    enum state state;
    int fd;
    unsigned number, done;      /* operations */
    int64_t arrived, sent;      /* of the operation, or of a login before them */
    const struct kind *running; /* NULL: none; kept over a login that it has to wait for */
    unsigned step;
    bool undoing, wrong, ready; /* a ROLLBACK is out; a read was; once logged in, or refused */
    unsigned messages;          /* acknowledged ones of this session */
    char value[24], session[24];
    char outcome[8], text[200]; /* of the operation, empty while all is well */
    struct user *next_idle;
    size_t have;
    unsigned char in[IN_MAX];
};

static struct {
    unsigned port, users, operations, seed;
    const char *user, *database, *name, *pattern, *rates;
    bool extended, random_times, last_first;
    int64_t late_us;
} o = {.users = 1,
       .user = "app",
       .database = "app",
       .pattern = "smrmrmrmrm",
       .seed = 1,
       .late_us = 120000000};

static int ep;
static struct user *users;
static struct user *idle_first, **idle_last = &idle_first;
static int64_t zero_us, now_us, gap_us;
static unsigned ready_n, dialled_n, busy_n;
static int64_t *arrivals; /* of the open loop */
static size_t arrivals_n, arrivals_at;
static bool begun;

static int64_t clock_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000 - zero_us;
}

static double random_unit(void) /* in (0, 1] */
{
    static uint64_t state;
    if (!state)
        state = o.seed * 0x9e3779b97f4a7c15u + 1;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (double)((state >> 11) + 1) / 9007199254740992.0;
}

static double log_of(double x) /* natural, of (0, 1]: no libm for one function */
{
    double halves = 0;
    for (; x < 0.75; x *= 2)
        halves++;
    double y = (x - 1) / (x + 1), power = y, sum = 0;
    for (int n = 1; n < 20; n += 2, power *= y * y)
        sum += power / n;
    return 2 * sum - halves * 0.69314718055994531;
}

/* ---- messages ---- */

struct out {
    size_t n;
    unsigned char bytes[OUT_MAX];
};

static void put(struct out *out, const void *bytes, size_t n)
{
    CHECK(out->n + n <= OUT_MAX);
    memcpy(out->bytes + out->n, bytes, n);
    out->n += n;
}

static void put_text(struct out *out, const char *text)
{
    put(out, text, strlen(text) + 1);
}

static uint32_t big_endian(uint32_t n)
{
    return __builtin_bswap32(n);
}

static size_t begin_message(struct out *out, char type)
{
    if (type)
        put(out, &type, 1);
    put(out, "\0\0\0\0", 4);
    return out->n - 4;
}

static void end_message(struct out *out, size_t at)
{
    uint32_t n = big_endian((uint32_t)(out->n - at));
    memcpy(out->bytes + at, &n, 4);
}

static void send_out(struct user *u, const struct out *out)
{
    u->sent = clock_us();
    ssize_t n = send(u->fd, out->bytes, out->n, MSG_NOSIGNAL);
    /* What fails is told by the next recv. A full buffer would be our mistake: one statement is out at a time. */
    CHECK(n == (ssize_t)out->n || (n < 0 && errno != EAGAIN));
}

static void send_startup(struct user *u)
{
    struct out out = {0};
    size_t at = begin_message(&out, 0);
    put(&out, "\0\3\0\0user", 9);
    put_text(&out, o.user);
    put(&out, "database", 9);
    put_text(&out, o.database);
    if (o.name) {
        put(&out, "application_name", 17);
        put_text(&out, o.name);
    }
    put(&out, "", 1);
    end_message(&out, at);
    send_out(u, &out);
}

static void send_extended(struct user *u, const char *sql)
{
    struct out out = {0};
    size_t at = begin_message(&out, 'P');
    put(&out, "", 1);
    put_text(&out, sql);
    put(&out, "\0\0", 2);
    end_message(&out, at);
    at = begin_message(&out, 'B');
    put(&out, "\0\0\0\0\0\0\0\0", 8);
    end_message(&out, at);
    at = begin_message(&out, 'D');
    put(&out, "P", 2);
    end_message(&out, at);
    at = begin_message(&out, 'E');
    put(&out, "\0\0\0\0\0", 5);
    end_message(&out, at);
    end_message(&out, begin_message(&out, 'S'));
    send_out(u, &out);
}

static void send_sql(struct user *u, const char *sql)
{
    if (o.extended) {
        send_extended(u, sql);
        return;
    }
    struct out out = {0};
    size_t at = begin_message(&out, 'Q');
    put_text(&out, sql);
    end_message(&out, at);
    send_out(u, &out);
}

/* The template with what its letters stand for. */
static void expand(const struct user *u, const char *from, char *to, size_t room)
{
    char number[16];
    size_t n = 0;
    for (; *from; from++) {
        const char *word = NULL;
        if (from[0] == ':' && from[1] == 'v')
            word = u->value;
        else if (from[0] == ':' && from[1] == 's')
            word = u->session;
        else if (from[0] == ':' && (from[1] == 'u' || from[1] == 'r')) {
            unsigned random = 1 + (unsigned)(random_unit() * (ROOMS_HOT - 1));
            snprintf(number, sizeof number, "%u", from[1] == 'u' ? u->number : random);
            word = number;
        }
        size_t size = word ? strlen(word) : 1;
        CHECK(n + size < room);
        memcpy(to + n, word ? word : from, size);
        n += size;
        from += word != NULL;
    }
    to[n] = 0;
}

static void send_step(struct user *u)
{
    char sql[OUT_MAX / 2];
    expand(u, u->running->sql[u->step], sql, sizeof sql);
    send_sql(u, sql);
}

/* ---- users ---- */

static void note(const char *kind, const struct user *u, const char *outcome)
{
    printf("%s %u %ld %ld %ld %s %s\n", kind, u->number, (long)u->arrived, (long)u->sent,
           (long)now_us, outcome, u->text);
}

static void hang_up(struct user *u)
{
    if (u->fd >= 0)
        close(u->fd);
    u->fd = -1;
    u->have = 0;
    u->state = OFF;
}

static void dial(struct user *u)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)o.port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    u->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (u->fd < 0)
        DIE("socket: %s", strerror(errno));
    int on = 1;
    setsockopt(u->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(u->fd, (const struct sockaddr *)(const void *)&at, sizeof at) &&
        errno != EINPROGRESS)
        DIE("connect: %s", strerror(errno));
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = u};
    if (epoll_ctl(ep, EPOLL_CTL_ADD, u->fd, &event))
        DIE("epoll_ctl: %s", strerror(errno));
    u->state = CONNECTING;
}

static void on_connected(struct user *u)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = u};
    epoll_ctl(ep, EPOLL_CTL_MOD, u->fd, &event);
    u->state = LOGIN;
    send_startup(u);
}

static const struct kind *kind_of(char letter)
{
    for (size_t i = 0; i < KINDS; i++)
        if (kinds[i].letter == letter)
            return &kinds[i];
    DIE("no operation '%c'", letter);
}

static void start(struct user *u, int64_t arrived)
{
    const struct kind *kind = kind_of(o.pattern[u->done % strlen(o.pattern)]);
    if ((kind->counts || kind->compares) && !u->session[0])
        kind = kind_of('s');
    u->running = kind;
    u->arrived = u->sent = arrived;
    u->step = 0;
    u->undoing = u->wrong = false;
    u->outcome[0] = u->text[0] = u->value[0] = 0;
    busy_n++;
    if (u->state == OFF) {
        dial(u);
        return;
    }
    u->state = BUSY;
    send_step(u);
}

static unsigned share_of(const struct user *u) /* of the closed loop's operations */
{
    return o.operations / o.users + (u->number < o.operations % o.users);
}

/* Idle, or without a connection: what is next? */
static void next(struct user *u)
{
    if (!begun)
        return;
    if (!o.rates) {
        if (u->done < share_of(u))
            start(u, clock_us());
        return;
    }
    if (o.last_first) {
        u->next_idle = idle_first;
        idle_first = u;
        return;
    }
    u->next_idle = NULL;
    *idle_last = u;
    idle_last = &u->next_idle;
}

static void finish(struct user *u, const char *outcome)
{
    const struct kind *kind = u->running;
    bool ok = !strcmp(outcome, "ok");
    if (ok && kind->makes_session) {
        memcpy(u->session, u->value, sizeof u->session);
        u->messages = 0;
    }
    if (!strcmp(outcome, "unknown"))
        u->session[0] = 0; /* what it holds can't be known */
    u->messages += ok && kind->counts;
    note(kind->name, u, outcome);
    u->running = NULL;
    u->done++;
    busy_n--;
    next(u);
}

static void logged_in(struct user *u, const char *outcome)
{
    note("login", u, outcome);
    ready_n += !u->ready;
    u->ready = true;
}

static void lost(struct user *u, const char *why)
{
    bool at_login = u->state < IDLE;
    bool last = u->running && u->running->writes &&
                (u->step + 1 == STEPS_MAX || !u->running->sql[u->step + 1]);
    const char *outcome = u->outcome[0] ? u->outcome : why;
    if (!at_login && last && !u->undoing && (!u->outcome[0] || !strcmp(u->outcome, "08007")))
        outcome = "unknown";
    hang_up(u);
    if (at_login)
        logged_in(u, outcome);
    if (u->running)
        finish(u, outcome);
    else if (!at_login)
        note("idle", u, outcome);
}

static void on_ready(struct user *u, char status)
{
    if (u->state == LOGIN) {
        logged_in(u, "ok");
        u->state = IDLE;
        if (!u->running)
            return;
        u->state = BUSY;
        send_step(u);
        return;
    }
    if (u->outcome[0] && status != 'I' && !u->undoing) {
        u->undoing = true;
        send_sql(u, "ROLLBACK");
        return;
    }
    u->step++;
    if (!u->outcome[0] && u->step < STEPS_MAX && u->running->sql[u->step]) {
        send_step(u);
        return;
    }
    if (!u->outcome[0] && u->running->compares && strtoul(u->value, NULL, 10) != u->messages) {
        u->wrong = true;
        snprintf(u->text, sizeof u->text, "session %s has %u messages, read %s", u->session,
                 u->messages, u->value);
    }
    u->state = IDLE;
    finish(u, u->outcome[0] ? u->outcome : u->wrong ? "wrong" : "ok");
}

/* ---- answers ---- */

static uint32_t read_u32(const unsigned char *at)
{
    uint32_t n;
    memcpy(&n, at, 4);
    return big_endian(n);
}

static void on_error(struct user *u, const unsigned char *body, size_t n)
{
    if (u->outcome[0]) /* the first one tells */
        return;
    for (size_t at = 0; at < n && body[at];) {
        const char *field = (const char *)body + at + 1;
        size_t size = strnlen(field, n - at - 1);
        char *to = body[at] == 'C' ? u->outcome : u->text;
        size_t room = body[at] == 'C' ? sizeof u->outcome : sizeof u->text;
        if (body[at] == 'C' || body[at] == 'M')
            snprintf(to, room, "%.*s", (int)size, field);
        at += size + 2;
    }
    for (char *c = u->text; *c; c++)
        if (*c == '\n')
            *c = ' ';
}

static void on_row(struct user *u, const unsigned char *body, size_t n)
{
    u->value[0] = 0;
    if (n < 6)
        return;
    uint32_t size = read_u32(body + 2);
    if (size <= n - 6 && size < sizeof u->value) {
        memcpy(u->value, body + 6, size);
        u->value[size] = 0;
    }
}

static void on_message(struct user *u, char type, const unsigned char *body, size_t n)
{
    switch (type) {
    case 'E':
        on_error(u, body, n);
        break;
    case 'D':
        on_row(u, body, n);
        break;
    case 'Z':
        on_ready(u, n ? (char)body[0] : '?');
        break;
    case 'R':
        if (n < 4 || read_u32(body) != 0)
            DIE("login by trust only");
        break;
    default:
        break;
    }
}

static void on_input(struct user *u)
{
    ssize_t got = recv(u->fd, u->in + u->have, IN_MAX - u->have, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        lost(u, "closed");
        return;
    }
    u->have += (size_t)got;
    size_t at = 0;
    while (u->fd >= 0 && u->have - at >= 5) {
        size_t size = 1 + (size_t)read_u32(u->in + at + 1);
        if (size > IN_MAX)
            DIE("a message of %zu bytes", size);
        if (u->have - at < size)
            break;
        on_message(u, (char)u->in[at], u->in + at + 5, size - 5);
        at += size;
    }
    if (u->fd < 0)
        return;
    u->have -= at;
    memmove(u->in, u->in + at, u->have);
}

/* ---- time ---- */

static void plan_arrivals(void)
{
    size_t room = 0;
    double at = 0, end = 0;
    for (const char *text = o.rates; text && *text;) {
        char *rest;
        double rate = strtod(text, &rest), seconds = *rest == ':' ? strtod(rest + 1, &rest) : 0;
        if (rate <= 0 || seconds <= 0 || (*rest && *rest != ','))
            DIE("-r wants RATE:SECONDS,...");
        for (end += seconds; at < end;) {
            if (arrivals_n == room) {
                room = room ? 2 * room : 1024;
                arrivals = realloc(arrivals, room * sizeof *arrivals);
                CHECK(arrivals != NULL);
            }
            arrivals[arrivals_n++] = (int64_t)(at * 1e6);
            at += (o.random_times ? -log_of(random_unit()) : 1) / rate;
        }
        text = *rest ? rest + 1 : rest;
    }
}

static void begin_when_all_are_there(void)
{
    while (dialled_n < o.users && dialled_n - ready_n < LOGINS_MAX) {
        struct user *u = &users[dialled_n++];
        u->arrived = clock_us();
        dial(u);
    }
    if (ready_n < o.users)
        return;
    begun = true;
    int64_t shift = clock_us();
    zero_us += shift;
    now_us -= shift;
    gap_us = 0;
    for (unsigned i = 0; i < o.users; i++)
        next(&users[i]);
}

static void start_due(void)
{
    while (arrivals_at < arrivals_n && arrivals[arrivals_at] <= clock_us() && idle_first) {
        struct user *u = idle_first;
        idle_first = u->next_idle;
        if (!idle_first) /* of no use with -l */
            idle_last = &idle_first;
        start(u, arrivals[arrivals_at++]);
    }
}

static void end_the_late(void)
{
    static int64_t looked;
    if (now_us - looked < LOOK_US && now_us >= looked)
        return;
    looked = now_us;
    for (unsigned i = 0; i < dialled_n; i++)
        if ((users[i].running || !users[i].ready) && now_us - users[i].arrived > o.late_us)
            lost(&users[i], "late");
}

static int wait_ms(void)
{
    int64_t until = LOOK_US;
    if (idle_first && arrivals_at < arrivals_n && arrivals[arrivals_at] - clock_us() < until)
        until = arrivals[arrivals_at] - clock_us();
    return until < 0 ? 0 : (int)((until + 999) / 1000);
}

static bool at_the_end(void)
{
    return begun && busy_n == 0 && arrivals_at == arrivals_n;
}

static void run(void)
{
    static struct epoll_event events[EVENTS_MAX];
    do {
        if (!begun)
            begin_when_all_are_there();
        start_due();
        int64_t looked_away = clock_us();
        if (looked_away - now_us > gap_us)
            gap_us = looked_away - now_us;
        int n = epoll_wait(ep, events, EVENTS_MAX, wait_ms());
        now_us =
            clock_us(); /* all that is there now had come by now: handling it costs nobody time */
        for (int i = 0; i < n; i++) {
            struct user *u = events[i].data.ptr;
            if (u->state == CONNECTING)
                on_connected(u);
            else if (u->fd >= 0)
                on_input(u);
        }
        end_the_late();
    } while (!at_the_end());
}

static void options(int argc, char **argv)
{
    for (int c; (c = getopt(argc, argv, "p:u:n:o:r:q:U:d:a:t:s:Mel")) != -1;) {
        unsigned number = optarg ? (unsigned)strtoul(optarg, NULL, 10) : 0;
        switch (c) {
        case 'p':
            o.port = number;
            break;
        case 'u':
            o.users = number;
            break;
        case 'n':
            o.operations = number;
            break;
        case 'o':
            o.pattern = optarg;
            break;
        case 'r':
            o.rates = optarg;
            break;
        case 'q':
            kinds[KINDS - 1].sql[0] = optarg;
            break;
        case 'U':
            o.user = optarg;
            break;
        case 'd':
            o.database = optarg;
            break;
        case 'a':
            o.name = optarg;
            break;
        case 't':
            o.late_us = (int64_t)number * 1000000;
            break;
        case 's':
            o.seed = number;
            break;
        case 'M':
            o.extended = true;
            break;
        case 'l':
            o.last_first = true;
            break;
        case 'e':
            o.random_times = true;
            break;
        default:
            DIE("see the head of bench/levels.c");
        }
    }
    if (!o.port || !o.users || !o.operations == !o.rates || !*o.pattern)
        DIE("-p PORT -u USERS, and -n OPERATIONS or -r RATE:SECONDS,...");
    for (const char *letter = o.pattern; *letter; letter++)
        kind_of(*letter);
}

int main(int argc, char **argv)
{
    options(argc, argv);
    setvbuf(stdout, NULL, _IOFBF, 1 << 20);
    plan_arrivals();
    ep = epoll_create1(EPOLL_CLOEXEC);
    users = calloc(o.users, sizeof *users);
    CHECK(ep >= 0 && users != NULL);
    for (unsigned i = 0; i < o.users; i++) {
        users[i].number = i;
        users[i].fd = -1;
    }
    zero_us = clock_us();
    run();
    printf("gap - - - %ld\n", (long)gap_us);
    return fflush(stdout) ? 1 : 0;
}
