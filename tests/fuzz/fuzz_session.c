/* tests/fuzz/fuzz_session.c: two clients and their servers, all of them hostile, around one pgweir that runs in a sim.
 * Input: a byte of modes (bit 0: replication, 1: session pooling, 2-3: max_prepared_statements, 4: the servers' logins are left
 * to the input, 5: connect_query), then steps: a byte for what (its low half) and for whom (its high half), and what that takes.
 *
 * What must hold: pgweir lives, and at the end nothing of it is left; a server belongs to one session, and both know; a client gets
 * whole messages of a server's kinds and nothing else; the bytes of a replication connection pass unchanged, both ways.
 */
#include "base/check.h"
#include "proxy/io/log.h"
#include "proxy/pool/budget.h"
#include "proxy/session/session.h"
#include "tests/unit/port_sim.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#define INPUT_MAX 4096
#define CLIENTS 2
#define SERVERS 8
#define CANCEL 80877102
#define KEPT_MAX (64U << 10) /* of what a peer sent or got */

unsigned budget_total_used(void);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct bytes {
    size_t n;
    uint8_t p[KEPT_MAX];
};

struct peer {
    int fd;            /* -1: none */
    bool started;      /* a server: it has read its startup packet */
    unsigned adopted;  /* how many of its kind it was */
    size_t read;       /* of got: by who answers; a client of a WAL sender: its greeting */
    struct bytes sent; /* since the greeting */
    struct bytes got;
};

struct world {
    struct sim *sim;
    struct fleet fleet;
    struct worker worker;
    struct hub *hubs[1];
    struct peer clients[CLIENTS], servers[SERVERS];
    uint8_t modes;
};

static struct world w;

/* ---- pgweir ---- */

static struct conf *config_of(uint8_t modes)
{
    static const char *const prepared[] = {"200", "0", "1", "2"};
    struct conf_errors errors = {0};
    char text[512];
    snprintf(text, sizeof text,
             "[databases]\napp = host=127.0.0.1 port=5432 dbname=app%s\n"
             "[pgweir]\nlisten_port = 6432\nauth_type = trust\nclient_tls_sslmode = disable\n"
             "server_tls_sslmode = disable\ndefault_pool_size = 2\npool_mode = %s\n"
             "max_prepared_statements = %s\nqueue_timeout = 2s\nserver_login_retry = 100ms\n",
             modes & 32 ? " connect_query='SET a.b = 1'" : "",
             modes & 2 ? "session" : "transaction", prepared[modes >> 2 & 3]);
    const struct conf_sources from = {.path = "t.ini", .text = text, .text_n = strlen(text)};
    struct conf *conf = conf_load(&from, &errors);
    CHECK(conf != NULL);
    conf_errors_free(&errors);
    return conf;
}

static void begin(uint8_t modes)
{
    char error[256];
    struct node_address address = {.bytes = sizeof(struct sockaddr_in)};
    memset(&w, 0, offsetof(struct world, clients));
    for (unsigned i = 0; i < CLIENTS + SERVERS; i++) {
        struct peer *p = i < CLIENTS ? &w.clients[i] : &w.servers[i - CLIENTS];
        p->fd = -1;
        p->read = p->sent.n = p->got.n = p->adopted = 0;
    }
    w.modes = modes;
    w.sim = sim_new(&(struct sim_config){.seed = 1,
                                         .calm = true,
                                         .small_bytes = 2048,
                                         .small_count = 32,
                                         .bulk_bytes = 16384,
                                         .bulk_count = 16});
    struct snapshot *snapshot = snapshot_new(config_of(modes), NULL, error, sizeof error);
    CHECK(snapshot != NULL);
    address.addr.ss_family = AF_INET;
    node_publish_address(&snapshot->clusters[0]->nodes[0], &address);
    cluster_publish(snapshot->clusters[0], 0, 0);
    w.fleet =
        (struct fleet){.worker_n = 1, .workers = &w.worker, .hubs = w.hubs, .first = snapshot};
    w.hubs[0] = &w.worker.hub;
    w.worker.fleet = &w.fleet;
    w.worker.loop = loop_new(sim_port(w.sim), 0, &w.worker.hub);
    list_init(&w.worker.sessions);
    lobby_init(&w.worker);
    list_init(&w.worker.floor_waiters);
    hub_init(&w.worker.hub, w.worker.loop, 0, snapshot);
    w.worker.hub.random = 1;
    w.worker.hub.peers = w.hubs;
    w.worker.hub.peer_n = 1;
    loop_self = w.worker.loop;
}

static void check_leases(void)
{
    unsigned held = 0, leased = 0;
    struct worker *worker = &w.worker;
    for (struct list *n = worker->sessions.next; n != &worker->sessions; n = n->next) {
        const struct session *s = LIST_ENTRY(n, struct session, node);
        if (!s->server) {
            CHECK(s->state != SESSION_READY ||
                  (!s->syncing && !s->state_of.look && s->replies.n == 0 && !s->pending));
            continue;
        }
        held++;
        CHECK(s->server->state == SERVER_LEASED && s->server->lessee == s);
    }
    for (struct list *n = worker->hub.sets.next; n != &worker->hub.sets; n = n->next)
        leased += LIST_ENTRY(n, struct pool_set, node)->pools[0].leased_n;
    CHECK(held == leased);
}

/* ---- peers ---- */

static void keep(struct bytes *to, const uint8_t *p, size_t n)
{
    const size_t room = sizeof to->p - to->n;
    memcpy(to->p + to->n, p, n < room ? n : room);
    to->n += n < room ? n : room;
}

static void hang_up(struct peer *p, bool reset)
{
    if (p->fd < 0)
        return;
    if (reset)
        sim_reset(w.sim, p->fd);
    else
        sim_close(w.sim, p->fd);
    p->fd = -1;
}

static void receive(struct peer *p)
{
    uint8_t chunk[4096];
    size_t n;
    while (p->fd >= 0 && (n = sim_read(w.sim, p->fd, chunk, sizeof chunk)) > 0)
        keep(&p->got, chunk, n);
    if (p->fd >= 0 && sim_ended(w.sim, p->fd))
        hang_up(p, false);
}

static void adopt(void)
{
    int fd;
    while ((fd = sim_dialled(w.sim)) >= 0) {
        struct peer *free_one = NULL;
        for (unsigned i = 0; i < SERVERS && !free_one; i++)
            free_one = w.servers[i].fd < 0 ? &w.servers[i] : NULL;
        if (!free_one) {
            sim_close(w.sim, fd);
            continue;
        }
        free_one->fd = fd;
        free_one->adopted++;
        free_one->started = false;
        free_one->read = free_one->sent.n = free_one->got.n = 0;
    }
}

static void put_in(struct peer *p, const uint8_t *bytes, size_t n)
{
    if (p->fd >= 0)
        keep(&p->sent, bytes, sim_write(w.sim, p->fd, bytes, n));
}

static void send_message(struct peer *p, uint8_t type, struct slice body)
{
    uint8_t bytes[INPUT_MAX + 1024];
    struct put o = put_into(bytes, sizeof bytes);
    put_u8(&o, type);
    put_u32(&o, (uint32_t)body.n + 4);
    put_bytes(&o, body);
    put_in(p, o.p, o.n);
}

static void turn(void)
{
    for (int i = 0; i < 3; i++) {
        adopt();
        loop_turn(w.worker.loop, w.worker.loop->now_ms + 1);
        check_leases();
    }
    for (unsigned i = 0; i < CLIENTS; i++)
        receive(&w.clients[i]);
    for (unsigned i = 0; i < SERVERS; i++)
        receive(&w.servers[i]);
}

/* ---- a client ---- */

static void arrive(struct peer *p)
{
    static const uint8_t plain[] = "\0\0\0\x27\0\3\0\0user\0u\0database\0app\0a.b\0start\0";
    static const uint8_t walsender[] =
        "\0\0\0\x32\0\3\0\0user\0u\0database\0app\0replication\0database\0";
    int fd[2];
    if (p->fd >= 0)
        return;
    sim_pair(w.sim, fd);
    atomic_fetch_add(&w.fleet.per_worker[0], 1);
    places_force_unproved(&w.fleet);
    session_accept(&w.worker, fd[0]);
    p->fd = fd[1];
    p->adopted++;
    p->read = p->got.n = 0;
    const bool replication = (w.modes & 1) && p == &w.clients[0];
    const size_t n = replication ? sizeof walsender : sizeof plain;
    _Static_assert(sizeof plain == 0x27 && sizeof walsender == 0x32, "their lengths say it");
    put_in(p, replication ? walsender : plain, n);
    p->sent.n = 0;
}

/* Whole messages, of the kinds that servers send; the last may be cut. */
static void check_client(const struct peer *p)
{
    for (size_t at = 0; p->got.n - at >= 5;) {
        const uint8_t *head = p->got.p + at;
        const uint32_t n = slice_u32(head + 1);
        CHECK(n >= 4 && strchr("RSKZTDCEN123nstIAGHWdcVv", *head) != NULL && *head != 0);
        if (p->got.n - at - 1 < n)
            break;
        at += 1 + (size_t)n;
    }
}

/* ---- an honest server ---- */

#define BODY(literal) ((struct slice){(const uint8_t *)(literal), sizeof(literal) - 1})

static void answer_startup(struct peer *p)
{
    p->started = true;
    send_message(p, 'R', BODY("\0\0\0\0"));
    send_message(p, 'S',
                 BODY("server_version\0"
                      "15.0\0"));
    send_message(p, 'S', BODY("standard_conforming_strings\0on\0"));
    send_message(p, 'K', BODY("\0\0\0\1\0\0\0\2"));
    send_message(p, 'Z', BODY("I"));
    p->sent.n = 0;
}

static void answer_query(struct peer *p, struct slice sql)
{
    static const char asks[] = "UNION ALL SELECT 's'";
    send_message(p, 'C', BODY("SET\0"));
    if (memmem(sql.p, sql.n, asks, sizeof asks - 1))
        send_message(p, 'D', BODY("\0\3\0\0\0\1s\0\0\0\3a.b\0\0\0\1x"));
    send_message(p, 'Z', BODY("I"));
}

/* One message that has come. False: there is none. */
static bool answer_one(struct peer *p)
{
    const size_t have = p->got.n - p->read, head = p->started ? 5 : 4;
    const uint8_t *at = p->got.p + p->read;
    if (p->fd < 0 || have < head)
        return false;
    const size_t n = slice_u32(at + head - 4) + head - 4;
    if (n < head || have < n)
        return false;
    p->read += n;
    if (!p->started && n >= 8 && slice_u32(at + 4) == CANCEL) {
        hang_up(p, false);
        return false;
    }
    if (!p->started) {
        answer_startup(p);
        return true;
    }
    const uint8_t type = *at;
    if (type == 'Q')
        answer_query(p, (struct slice){at + 5, n - 5});
    if (type == 'P')
        send_message(p, '1', SLICE_NONE);
    if (type == 'B')
        send_message(p, '2', SLICE_NONE);
    if (type == 'C')
        send_message(p, '3', SLICE_NONE);
    if (type == 'D' && n > 5 && at[5] == 'S')
        send_message(p, 't', BODY("\0\0"));
    if (type == 'D')
        send_message(p, 'n', SLICE_NONE);
    if (type == 'E')
        send_message(p, 'C', BODY("SELECT 0\0"));
    if (type == 'S')
        send_message(p, 'Z', BODY("I"));
    return true;
}

static void answer_all(struct peer *p)
{
    for (int i = 0; i < 16 && answer_one(p); i++)
        ;
}

/* ---- steps ---- */

/* What clients say as a rule. */
static const struct {
    char type;
    uint8_t n;
    char body[40];
} said[] = {
#define SAYS(type, text)         \
    {                            \
        type, sizeof(text), text \
    }
    SAYS('Q', "SET a.b = 'y'"),
    SAYS('Q', "SET work_mem = 5"),
    SAYS('Q', "SELECT f('c.d')"),
    SAYS('Q', "RESET ALL"),
    SAYS('Q', "DISCARD ALL"),
    SAYS('Q', "LISTEN x"),
    SAYS('Q', "EXECUTE p(1)"),
    SAYS('Q', "DEALLOCATE p"),
    SAYS('Q', "DEALLOCATE ALL"),
    SAYS('Q', "BEGIN"),
    SAYS('Q', "COMMIT"),
    SAYS('Q', "SELECT 1"),
    SAYS('Q', "COPY t FROM STDIN"),
    SAYS('Q', "PREPARE p AS TABLE t"),
    SAYS('P', "p\0SELECT 1\0\0"),
    SAYS('P', "q\0SELECT 1\0\0"),
    SAYS('P', "\0SELECT 2\0\0"),
    SAYS('P', "\0SET a.b = 1\0\0"),
    SAYS('P', "\0EXECUTE p(1)\0\0"),
    SAYS('P', "r\0DEALLOCATE p\0\0"),
    SAYS('B', "\0p\0\0\0\0\0\0"),
    SAYS('B', "\0r\0\0\0\0\0\0"),
    SAYS('B', "\0\0\0\0\0\0\0"),
    SAYS('D', "Sp"),
    SAYS('D', "P"),
    SAYS('E', "\0\0\0\0"),
    SAYS('C', "Sp"),
    SAYS('d', "rows"),
    {'S', 0, ""},
    {'S', 0, ""},
    {'H', 0, ""},
    {'c', 0, ""},
    {'X', 0, ""},
#undef SAYS
};
#define SAID (sizeof said / sizeof *said)

static struct slice take(struct slice *in, size_t n)
{
    struct slice part = {in->p, n < in->n ? n : in->n};
    if (part.n > 0)
        *in = slice_skip(*in, part.n);
    return part;
}

static uint8_t take_one(struct slice *in)
{
    const struct slice one = take(in, 1);
    return one.n ? *one.p : 0;
}

static void drain(void)
{
    struct list *next;
    for (struct list *n = w.worker.sessions.next; n != &w.worker.sessions; n = next) {
        next = n->next;
        struct session *s = LIST_ENTRY(n, struct session, node);
        if (s->state == SESSION_READY)
            session_leave(s);
        else
            session_take_turn(s);
    }
}

static void step(struct slice *in)
{
    const uint8_t what = take_one(in);
    struct peer *client = &w.clients[what >> 4 & 1], *server = &w.servers[what >> 4 & 3];
    switch (what & 15) {
    case 0:
        arrive(client);
        break;
    case 1:
    case 2: {
        const size_t i = take_one(in) % SAID;
        send_message(client, (uint8_t)said[i].type,
                     (struct slice){(const uint8_t *)said[i].body, said[i].n});
        return; /* what comes next may be in the same turn */
    }
    case 3: {
        const uint8_t type = take_one(in);
        send_message(client, type, take(in, take_one(in)));
        return;
    }
    case 4: {
        const struct slice raw = take(in, take_one(in));
        put_in(client, raw.p, raw.n);
        return;
    }
    case 5: {
        const uint8_t type = take_one(in);
        send_message(server, type, take(in, take_one(in)));
        return;
    }
    case 6: {
        const struct slice raw = take(in, take_one(in));
        put_in(server, raw.p, raw.n);
        return;
    }
    case 7:
        answer_one(server);
        return;
    case 8:
        hang_up(client, what & 0x80);
        break;
    case 9:
        hang_up(server, what & 0x80);
        break;
    case 10:
        sim_pass_ms(w.sim, 1000);
        break;
    case 11:
        sim_pass_ms(w.sim, 20000);
        break;
    case 12:
        break;
    case 13:
        drain();
        break;
    default:
        for (unsigned i = 0; i < SERVERS; i++)
            answer_all(&w.servers[i]);
    }
    turn();
}

/* It has its greeting: what comes next is the server's. */
static void note_greeting(void)
{
    struct peer *client = &w.clients[0];
    if (!(w.modes & 1) || client->read > 0 || w.worker.session_n == 0)
        return;
    const struct session *s = LIST_ENTRY(w.worker.sessions.next, struct session, node);
    if (s->state == SESSION_READY && s->replication)
        client->read = client->got.n;
}

static void check_walsender(void)
{
    const struct peer *client = &w.clients[0], *server = &w.servers[0];
    const size_t n = client->got.n - client->read;
    if (client->read == 0 || client->adopted > 1 || server->adopted > 1)
        return;
    CHECK(n <= server->sent.n);
    CHECK(n == 0 || memcmp(client->got.p + client->read, server->sent.p, n) == 0);
}

/* What is left of the bytes that passed is the same as what was sent. */
static bool ends_alike(const struct bytes *got, const struct bytes *sent)
{
    const size_t n = got->n < sent->n ? got->n : sent->n;
    return n == 0 || memcmp(got->p + got->n - n, sent->p + sent->n - n, n) == 0;
}

static void check_replication(void)
{
    struct peer *client = &w.clients[0], *server = &w.servers[0];
    static const uint8_t up[] = "up", down[] = "down";
    if (!(w.modes & 1) || client->fd < 0 || server->fd < 0 || !server->started ||
        w.worker.session_n != 1)
        return;
    const struct session *s = LIST_ENTRY(w.worker.sessions.next, struct session, node);
    if (s->state != SESSION_READY || !s->replication || !s->server ||
        sim_peer(w.sim, s->server->conn->fd) != server->fd)
        return;
    put_in(client, up, sizeof up);
    put_in(server, down, sizeof down);
    turn();
    CHECK(client->fd < 0 || ends_alike(&client->got, &server->sent));
    CHECK(server->fd < 0 || ends_alike(&server->got, &client->sent));
}

/* ---- the end ---- */

static void end(void)
{
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (!(w.modes & 1) || i > 0)
            check_client(&w.clients[i]);
        else
            check_walsender();
        hang_up(&w.clients[i], false);
    }
    for (unsigned i = 0; i < 400 && w.worker.session_n > 0; i++) {
        for (unsigned k = 0; k < SERVERS; k++)
            answer_all(&w.servers[k]);
        if (i > 20)
            sim_pass_ms(w.sim, 1000);
        turn();
    }
    CHECK(w.worker.session_n == 0);
    hub_abort(&w.worker.hub);
    for (unsigned i = 0; i < 100 && w.worker.loop->conn_n + budget_total_used() > 0; i++) {
        sim_pass_ms(w.sim, 1000); /* a cancel request may wait for its end */
        turn();
    }
    CHECK(w.worker.loop->conn_n == 0 && budget_total_used() == 0);
    struct loop *loop = w.worker.loop;
    CHECK(loop->bufs.heap_n == 0 && loop->bufs.lent[PORT_SMALL] == 0 &&
          loop->bufs.lent[PORT_BULK] == 0);
    for (unsigned i = 0; i < SERVERS; i++)
        hang_up(&w.servers[i], false);
    struct snapshot *snapshot = w.fleet.first;
    hub_free(&w.worker.hub);
    loop_free(loop);
    free(w.worker.by_pid);
    snapshot_unref(snapshot);
    sim_free(w.sim);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = {data, size};
    if (size < 2 || size > INPUT_MAX)
        return 0;
    log_configure(LOG_ERROR, LOG_TEXT);
    begin(take_one(&in));
    arrive(&w.clients[0]);
    turn();
    if (!(w.modes & 16))
        for (int i = 0; i < 4; i++) {
            answer_all(&w.servers[0]);
            turn();
        }
    note_greeting();
    while (in.n > 0)
        step(&in);
    turn();
    check_replication();
    end();
    return 0;
}
