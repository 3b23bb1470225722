/* Sessions and pools over the sim: clients that check every answer, nodes that misbehave (fake_pg.h).
 * A failure prints the seed: PGWEIR_SEED=n build/unit/test_session_sim replays it. */
#include "base/check.h"
#include "proxy/io/log.h"
#include "proxy/pool/inside.h"
#include "proxy/session/session.h"
#include "tests/unit/fake_pg.h"
#include "tests/unit/test_conf.h"

#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>

#define CLIENTS 8
#define NODES 2
#define WORKERS 2
#define USERS 2
#define NAMES 4
#define EXPECTS_MAX 256
#define STUCK_MS 120000
#define TURNS_MAX 400000
#define STATEMENTS_MEMORY (3 * stmt_names_cost(2, sizeof "SELECT $1, 'p0'" - 1, 0, 0))
#define SPILLS_MAX 1     /* see budgets[] */
#define WASTE_MS_MAX 200 /* of the sim's time, in which a completion may take long */

enum allow { FAILS = 1, UNKNOWN_NAME = 2, DUPLICATE = 4, IN_COPY = 8, NOT_IN_TX = 16 };

/* One reply that must come, in this order. */
struct expect {
    char type;
    uint8_t allow;   /* errors that may come in its place */
    bool loose;      /* the row is of this client, but which statement is not known */
    bool many;       /* rows, up to the CommandComplete */
    bool autocommit; /* of an INSERT outside a transaction: if it ran, its loss must say 08007 */
    int name;        /* of a statement: '1' makes it, '3' removes it; -1: none */
    unsigned insert; /* its number + 1 */
    char text[300];  /* the row; for 'C' of a SET: the new value */
};

struct client {
    struct world *world;
    unsigned id, serial, inserts;
    int fd;
    bool shed_in_tx; /* its transaction was refused a server: it has failed */
    bool ends_early; /* it sends no more, and must be told all that it has asked for, or a FATAL */
    bool greeted, leaving, cancelled, has[NAMES], copy_waits, copy_extended;
    char tx;
    uint32_t pid, key, left; /* left: batches still to send */
    struct bytes in, out;
    struct expect expects[EXPECTS_MAX];
    unsigned expect_n;
    uint64_t progress_ms;
    char work_mem[64], application_name[8];
    bool listens;
};

struct waste {
    uint64_t waiter_ms, begun_ms; /* which waiter; since when a server could be its own */
};

struct world {
    struct sim *sim;
    struct fleet fleet;
    struct worker workers[WORKERS]; /* all in one thread, one turn after the other */
    struct hub *hubs[WORKERS];
    struct snapshot *snapshot;
    struct fake_pg *pg;
    struct client clients[CLIENTS];
    int cancels[16];
    unsigned cancel_n;
    bool calm;
    struct waste waste[WORKERS][USERS][NODES];
    uint64_t longest_waste_ms;
    uint64_t seed, rows, errors, full;
    unsigned reloads, spills, odd_spills; /* the last two: looks at which there were some */
};

static const char config[] = "[databases]\n"
                             "app = host=127.0.0.1,127.0.0.2 port=5432 dbname=app\n"
                             "[pgweir]\n"
                             "listen_port = 6432\n"
                             "auth_type = trust\n"
                             "client_tls_sslmode = disable\n"
                             "server_tls_sslmode = disable\n"
                             "default_pool_size = 2\n"
                             "max_prepared_statements = 3\n"
                             "queue_timeout = 2s\n"
                             "consistency = eventual\n";
static const char config_optimistic[] = "tx_reads = optimistic\n";

/* ---- what is expected ---- */

static struct expect *expect(struct client *c, char type)
{
    CHECK(c->expect_n < EXPECTS_MAX);
    struct expect *e = &c->expects[c->expect_n++];
    *e = (struct expect){.type = type, .name = -1};
    return e;
}

static void expect_types(struct client *c, const char *types)
{
    for (; *types; types++)
        expect(c, *types);
}

static void pop(struct client *c)
{
    CHECK(c->expect_n > 0);
    memmove(c->expects, c->expects + 1, --c->expect_n * sizeof *c->expects);
}

static void expect_row(struct client *c, const char *sql, const char *param)
{
    struct expect *e = expect(c, 'D');
    snprintf(e->text, sizeof e->text, "%s|%s|%s|%s|%d", sql, param, c->work_mem,
             c->application_name, c->listens);
}

static bool has_own_mark(const struct client *c, const char *text)
{
    char mark[32];
    snprintf(mark, sizeof mark, "'u%u_", c->id);
    return strstr(text, mark) != NULL;
}

/* ---- what clients send ---- */

static bool coin(struct client *c, unsigned one_in)
{
    return sim_random(c->world->sim, one_in) == 0;
}

static void query(struct client *c, const char *sql)
{
    bytes_format(&c->out, 'Q', "s", sql);
}

static void send_select(struct client *c)
{
    char sql[100];
    bool fails = coin(c, 8);
    snprintf(sql, sizeof sql, fails ? "SELECT fail('u%u_%u')" : "SELECT 'u%u_%u'", c->id,
             c->serial++);
    query(c, sql);
    expect(c, 'T')->allow = fails ? FAILS : 0;
    expect_row(c, sql, "");
    expect_types(c, "CZ");
}

/* More than fits between the two sockets: back-pressure. */
static void send_big(struct client *c)
{
    char sql[100];
    snprintf(sql, sizeof sql, "SELECT repeat('u%u_%u')", c->id, c->serial++);
    query(c, sql);
    expect(c, 'T');
    expect_row(c, sql, "");
    c->expects[c->expect_n - 1].many = true;
    expect_types(c, "CZ");
}

static void send_insert(struct client *c)
{
    char sql[100];
    snprintf(sql, sizeof sql, "INSERT INTO %s VALUES ('i%u_%u') RETURNING *",
             c->tx == 'I' ? "t" : "tx", c->id, c->inserts);
    query(c, sql);
    struct expect *e = expect(c, 'T');
    e->insert = c->inserts + 1;
    e->autocommit = c->tx == 'I' && c->expect_n == 1;
    c->inserts++;
    expect_row(c, sql, "");
    expect_types(c, "CZ");
}

static void send_bind(struct client *c, const char *name, const char *sql, uint8_t allow,
                      bool loose)
{
    char param[32];
    snprintf(param, sizeof param, "v%u_%u", c->id, c->serial++);
    bytes_format(&c->out, 'B', "sshhwzh", "", name, 0, 1, (uint32_t)strlen(param), param, 0);
    expect(c, '2')->allow = allow;
    if (coin(c, 2)) {
        bytes_format(&c->out, 'D', "bs", 'P', "");
        expect(c, 'T');
    } else if (coin(c, 3)) {
        bytes_format(&c->out, 'H', "");
    }
    bytes_format(&c->out, 'E', "sw", "", 0);
    expect_row(c, sql, param);
    c->expects[c->expect_n - 1].loose = loose;
    expect(c, 'C');
}

static void send_sync(struct client *c)
{
    bytes_format(&c->out, 'S', "");
    expect(c, 'Z');
}

static void send_unnamed(struct client *c)
{
    char sql[100];
    snprintf(sql, sizeof sql, coin(c, 10) ? "SELECT syntax $1, 'u%u_%u'" : "SELECT $1, 'u%u_%u'",
             c->id, c->serial++);
    if (coin(c, 5)) { /* an error before it: all of it is skipped */
        bytes_format(&c->out, 'D', "bs", 'S', "nosuch");
        expect(c, 't')->allow = UNKNOWN_NAME;
        expect(c, 'T');
    }
    bytes_format(&c->out, 'P', "ssh", "", sql, 0);
    expect(c, '1')->allow = FAILS;
    if (coin(c, 2)) {
        send_sync(c); /* and Bind comes in a segment of its own */
        if (coin(c, 4))
            send_select(c);
    }
    send_bind(c, "", sql, UNKNOWN_NAME, true);
    send_sync(c);
}

static void named(unsigned k, char name[16], char sql[64])
{
    snprintf(name, 16, "p%u", k);
    snprintf(sql, 64, k == 3 ? "SELECT fresh(), $1, 'p%u'" : "SELECT $1, 'p%u'", k);
}

static void send_named(struct client *c)
{
    char name[16], sql[64];
    unsigned k = sim_random(c->world->sim, NAMES);
    bool parses = !c->has[k] || coin(c, 10);
    bool alone = c->expect_n == 0; /* else what came before may have changed it */
    uint8_t unknown = !alone || !c->has[k] ? UNKNOWN_NAME : 0;
    uint8_t duplicate = !alone || c->has[k] ? DUPLICATE : 0;
    named(k, name, sql);
    if (parses) {
        bytes_format(&c->out, 'P', "ssh", name, sql, 0);
        struct expect *e = expect(c, '1');
        e->allow = duplicate;
        e->name = (int)k;
        unknown = alone ? 0 : unknown;
    }
    for (uint32_t n = sim_random(c->world->sim, 3); n > 0; n--)
        send_bind(c, name, sql, unknown, false);
    if (coin(c, 6)) {
        bytes_format(&c->out, 'C', "bs", 'S', name);
        expect(c, '3')->name = (int)k;
    }
    send_sync(c);
}

static void send_copy(struct client *c)
{
    char sql[100];
    snprintf(sql, sizeof sql, "COPY (SELECT 'u%u_%u') TO STDOUT", c->id, c->serial++);
    if (coin(c, 2)) {
        query(c, sql);
        expect_types(c, "HdcCZ");
        return;
    }
    c->copy_extended = coin(c, 2);
    c->copy_waits = true;
    if (!c->copy_extended) {
        query(c, "COPY t FROM STDIN");
    } else {
        bytes_format(&c->out, 'P', "ssh", "copy", "COPY t FROM STDIN", 0);
        bytes_format(&c->out, 'B', "sshhh", "", "copy", 0, 0, 0);
        bytes_format(&c->out, 'C', "bs", 'S', "copy");
        bytes_format(&c->out, 'E', "sw", "", 0);
        bytes_format(&c->out, 'S', "");
        expect(c, '1')->allow = DUPLICATE; /* an error came between Parse and Close, some time */
        expect_types(c, "23");
    }
    expect(c, 'G');
    expect(c, 'C')->allow = IN_COPY;
    expect(c, 'Z');
}

/* The server asked for the data. */
static void send_copy_data(struct client *c)
{
    static const char rest[40000] = "rows";
    c->copy_waits = false;
    for (uint32_t n = sim_random(c->world->sim, 6); n > 0; n--) {
        bool bad = coin(c, 5);
        bytes_message(&c->out, 'd', bad ? "bad" : rest,
                      bad ? 3 : sim_random(c->world->sim, coin(c, 3) ? sizeof rest : 500));
    }
    if (coin(c, 5))
        bytes_format(&c->out, 'f', "s", "changed my mind");
    else
        bytes_format(&c->out, 'c', "");
    if (c->copy_extended)
        bytes_format(&c->out, 'S', "");
}

/* Alone: its effect must be known before the next one. */
static void send_state(struct client *c)
{
    char sql[100], value[32];
    switch (sim_random(c->world->sim, 5)) {
    case 0:
        snprintf(value, sizeof value, "w%u_%u", c->id, c->serial++);
        snprintf(sql, sizeof sql, "SET work_mem = '%s'", value);
        query(c, sql);
        expect(c, 'C')->name = -2;
        snprintf(c->expects[c->expect_n - 1].text, sizeof value, "%s", value);
        break;
    case 1:
        query(c, "DISCARD ALL");
        expect(c, 'C')->name = -3;
        c->expects[c->expect_n - 1].allow = NOT_IN_TX;
        break;
    case 2:
        query(c, "LISTEN news");
        expect(c, 'C')->name = -5;
        break;
    case 3:
        query(c, "UNLISTEN news");
        expect(c, 'C')->name = -6;
        break;
    default:
        query(c, "DEALLOCATE ALL");
        expect(c, 'C')->name = -4;
    }
    expect(c, 'Z');
}

static void send_control(struct client *c, const char *sql)
{
    query(c, sql);
    expect_types(c, "CZ");
}

static void send_one(struct client *c)
{
    switch (sim_random(c->world->sim, 8)) {
    case 0:
    case 1:
        send_insert(c);
        break;
    case 2:
    case 3:
        send_named(c);
        break;
    case 4:
    case 5:
        send_unnamed(c);
        break;
    case 6:
        if (coin(c, 10))
            send_big(c);
        else
            send_select(c);
        break;
    default:
        send_select(c);
    }
}

/* Something to do for a client that has all its answers. */
static void send_batch(struct client *c)
{
    c->left--;
    c->progress_ms = sim_now_ms(c->world->sim);
    if (c->tx != 'I' && (c->tx == 'E' || coin(c, 3))) {
        send_control(c, coin(c, 2) ? "COMMIT" : "ROLLBACK");
    } else if (c->tx == 'I' && coin(c, 8)) {
        send_control(c, "BEGIN");
    } else if (c->tx == 'I' && coin(c, 16)) {
        send_control(c, "BEGIN READ ONLY");
        send_select(c); /* goes to the same node */
        send_control(c, "COMMIT");
    } else if (coin(c, 10)) {
        if (c->tx == 'I' || coin(c, 3))
            send_state(c);
    } else if (coin(c, 10)) {
        send_copy(c);
    } else {
        for (uint32_t n = 1 + (coin(c, 3) ? sim_random(c->world->sim, 6) : 0); n > 0; n--)
            send_one(c);
    }
}

/* ---- what clients get ---- */

static struct slice field(struct slice body, char code)
{
    while (body.n > 1 && body.p[0]) {
        const uint8_t *nul = memchr(body.p + 1, 0, body.n - 1);
        CHECK(nul != NULL);
        if (body.p[0] == (uint8_t)code)
            return (struct slice){body.p + 1, (size_t)(nul - body.p) - 1};
        body = slice_skip(body, (size_t)(nul - body.p) + 1);
    }
    return SLICE_NONE;
}

static bool is_allowed(struct client *c, struct slice code, struct slice message)
{
    uint8_t allow = 0;
    bool parses = false;
    for (unsigned i = 0; i < c->expect_n && c->expects[i].type != 'Z'; i++) {
        allow |= c->expects[i].allow;
        parses = parses || c->expects[i].type == '1';
    }
    char text[300];
    snprintf(text, sizeof text, "%.*s", (int)message.n, (const char *)message.p);
    if (slice_is(code, "53300") || slice_is(code, "57P03"))
        return true;
    c->world->full += slice_is(code, "53400");
    if (slice_is(code, "53400"))
        return parses && c->world->snapshot->conf->client_statements_memory == STATEMENTS_MEMORY;
    if (slice_is(code, "22012") || slice_is(code, "42601"))
        return allow & FAILS && has_own_mark(c, text);
    if (slice_is(code, "26000"))
        return allow & UNKNOWN_NAME;
    if (slice_is(code, "42P05"))
        return allow & DUPLICATE;
    if (slice_is(code, "22P04"))
        return allow & IN_COPY;
    if (slice_is(code, "57014"))
        return c->cancelled || allow & IN_COPY;
    if (slice_is(code, "25001"))
        return allow & NOT_IN_TX;
    return slice_is(code, "25P02") && c->tx != 'I';
}

static void on_fatal(struct client *c, struct slice code)
{
    bool known = slice_is(code, "08006") || slice_is(code, "08007") || slice_is(code, "57P01") ||
                 slice_is(code, "53300") || slice_is(code, "57P03");
    bool timeout = slice_is(code, "57014") || slice_is(code, "25P04") || slice_is(code, "57P05");
    CHECK(known || (timeout && c->world->snapshot->conf->query_timeout_ms > 0));
    for (unsigned i = 0; (timeout || slice_is(code, "08006")) && i < c->expect_n; i++) {
        const struct expect *e = &c->expects[i];
        CHECK(!e->autocommit || !fake_pg_inserted(c->world->pg, c->id, e->insert - 1));
    }
    c->leaving = true;
    c->expect_n = 0;
}

static void on_error(struct client *c, struct slice body)
{
    struct slice code = field(body, 'C'), message = field(body, 'M');
    c->world->errors++;
    if (slice_is(field(body, 'S'), "FATAL")) {
        on_fatal(c, code);
        return;
    }
    if (!is_allowed(c, code, message)) {
        fprintf(stderr, "client %u: unexpected error %.*s %.*s, waiting for '%c' %s, status %c\n",
                c->id, (int)code.n, (const char *)code.p, (int)message.n, (const char *)message.p,
                c->expect_n ? c->expects[0].type : '-', c->expect_n ? c->expects[0].text : "",
                c->tx);
        CHECK(false);
    }
    c->shed_in_tx = c->tx != 'I' && (slice_is(code, "53300") || slice_is(code, "57P03"));
    while (c->expect_n > 0 && c->expects[0].type != 'Z')
        pop(c);
    CHECK(c->expect_n > 0);
    c->copy_waits = false;
}

static void on_row(struct client *c, const struct expect *e, struct slice body)
{
    char text[1024], param[64] = "";
    snprintf(text, sizeof text, "%.*s", (int)slice_u32(body.p + 2), (const char *)body.p + 6);
    c->world->rows++;
    if (!e->loose && strcmp(text, e->text) != 0)
        fprintf(stderr, "client %u got  %s\n   instead of %s\n", c->id, text, e->text);
    if (!e->loose) {
        CHECK(strcmp(text, e->text) == 0);
        return;
    }
    snprintf(param, sizeof param, "%s", strchr(e->text, '|'));
    CHECK(has_own_mark(c, text) && strstr(text, param)); /* the parameter and the settings */
}

static void on_copy_data(struct client *c, struct slice body)
{
    char text[200];
    snprintf(text, sizeof text, "%.*s", (int)body.n, (const char *)body.p);
    CHECK(has_own_mark(c, text));
}

static void forget_names(struct client *c)
{
    memset(c->has, 0, sizeof c->has);
}

static void apply(struct client *c, const struct expect *e)
{
    CHECK(e->name != -3 || c->tx == 'I'); /* DISCARD ALL fails in a transaction */
    if (e->type == '1' && e->name >= 0)
        c->has[e->name] = true;
    else if (e->type == '3' && e->name >= 0)
        c->has[e->name] = false;
    else if (e->name == -2)
        snprintf(c->work_mem, sizeof c->work_mem, "%.60s", e->text);
    else if (e->name == -3)
        c->work_mem[0] = '\0';
    if (e->name == -3 || e->name == -4)
        forget_names(c);
    if (e->name == -3 || e->name == -6)
        c->listens = false;
    else if (e->name == -5)
        c->listens = true;
}

static void on_ready(struct client *c, char tx)
{
    CHECK(!c->shed_in_tx || tx == 'E');
    c->shed_in_tx = false;
    c->tx = tx;
}

static void on_reply(struct client *c, char type, struct slice body)
{
    if (type == 'S' || type == 'N')
        return;
    if (type == 'E') {
        on_error(c, body);
        return;
    }
    if (type == 'C' && c->expect_n > 0 && c->expects[0].many)
        pop(c);
    if (c->expect_n == 0 || c->expects[0].type != type) {
        fprintf(stderr, "client %u: got '%c', waits for '%c'\n", c->id, type,
                c->expect_n ? c->expects[0].type : '-');
        CHECK(false);
    }
    struct expect e = c->expects[0];
    if (!e.many)
        pop(c);
    if (type == 'D')
        on_row(c, &e, body);
    else if (type == 'd')
        on_copy_data(c, body);
    else if (type == 'G')
        send_copy_data(c);
    else if (type == 'Z')
        on_ready(c, (char)body.p[0]);
    else
        apply(c, &e);
}

static void on_login_message(struct client *c, char type, struct slice body)
{
    if (type == 'K') {
        c->pid = slice_u32(body.p);
        c->key = slice_u32(body.p + 4);
    } else if (type == 'Z') {
        c->greeted = true;
        c->tx = 'I';
    } else if (type == 'E') {
        on_fatal(c, field(body, 'C'));
    } else {
        CHECK(type == 'R' || type == 'S');
    }
}

/* ---- clients come and go ---- */

static void hang_up(struct client *c, bool reset)
{
    if (reset)
        sim_reset(c->world->sim, c->fd);
    else
        sim_close(c->world->sim, c->fd);
    free(c->in.p);
    free(c->out.p);
    c->fd = -1;
    c->in = c->out = (struct bytes){0};
}

static int knock(struct world *w)
{
    int fd[2];
    struct worker *worker = &w->workers[sim_random(w->sim, WORKERS)];
    sim_pair(w->sim, fd);
    atomic_fetch_add(&w->fleet.per_worker[worker->id], 1);
    places_force_unproved(&w->fleet);
    session_accept(worker, fd[0]);
    return fd[1];
}

static void arrive(struct world *w, struct client *c, unsigned id)
{
    unsigned serial = c->serial, inserts = c->inserts;
    *c = (struct client){.world = w, .id = id, .serial = serial, .inserts = inserts};
    c->fd = knock(w);
    c->progress_ms = sim_now_ms(w->sim);
    c->left = 1 + sim_random(w->sim, 40);
    const char *user = id % 2 ? "v" : "u";
    if (sim_random(w->sim, 2)) {
        snprintf(c->application_name, sizeof c->application_name, "a%u", sim_random(w->sim, 3));
        bytes_format(&c->out, 0, "wssssssb", 196608, "user", user, "database", "app",
                     "application_name", c->application_name, 0);
    } else {
        bytes_format(&c->out, 0, "wssssb", 196608, "user", user, "database", "app", 0);
    }
}

static void cancel(struct client *c)
{
    struct world *w = c->world;
    struct bytes b = {0};
    if (w->cancel_n == sizeof w->cancels / sizeof *w->cancels)
        return;
    c->cancelled = true;
    bytes_format(&b, 0, "www", 80877102, c->pid, c->key);
    int fd = knock(w);
    sim_write(w->sim, fd, b.p, b.n);
    free(b.p);
    w->cancels[w->cancel_n++] = fd;
}

static void end_cancels(struct world *w)
{
    for (unsigned i = 0; i < w->cancel_n;) {
        if (sim_ended(w->sim, w->cancels[i]) || sim_random(w->sim, 200) == 0) {
            sim_close(w->sim, w->cancels[i]);
            w->cancels[i] = w->cancels[--w->cancel_n];
        } else {
            i++;
        }
    }
}

static void receive(struct client *c)
{
    uint8_t chunk[8192];
    size_t n = sim_read(c->world->sim, c->fd, chunk, sim_chunk(c->world->sim, sizeof chunk));
    if (n > 0)
        c->progress_ms = sim_now_ms(c->world->sim);
    bytes_add(&c->in, chunk, n);
    size_t used = 0;
    for (struct bytes rest = c->in; (n = bytes_whole(&rest, false)) > 0; used += n) {
        struct slice body = {rest.p + 5, n - 5};
        if (!c->greeted)
            on_login_message(c, (char)*rest.p, body);
        else
            on_reply(c, (char)*rest.p, body);
        rest = (struct bytes){rest.p + n, rest.n - n, 0};
    }
    bytes_drop(&c->in, used);
}

static void transmit(struct client *c)
{
    if (c->out.n > 0)
        bytes_drop(&c->out, sim_write(c->world->sim, c->fd, c->out.p,
                                      sim_chunk(c->world->sim, (uint32_t)c->out.n)));
}

/* Nothing more has to be sent for what is expected. */
static bool waits_for_all(const struct client *c)
{
    for (unsigned i = 0; i < c->expect_n; i++)
        if (c->expects[i].type == 'G')
            return false;
    return c->expect_n > 0 && c->expects[c->expect_n - 1].type == 'Z' && !c->copy_waits;
}

/* Terminate, or the end of what it sends: PostgreSQL answers what came before. */
static void end_early(struct client *c)
{
    c->ends_early = c->leaving = true;
    if (sim_random(c->world->sim, 2))
        bytes_format(&c->out, 'X', "");
    else
        sim_shut(c->world->sim, c->fd);
}

static void client_step(struct client *c)
{
    struct world *w = c->world;
    if (sim_random(w->sim, 3) == 0)
        return;
    receive(c);
    transmit(c);
    if (sim_ended(w->sim, c->fd)) { /* closed by pgweir: it said why, or a reset ate it */
        bool cut =
            c->in.n > 0 || sim_is_reset(w->sim, c->fd); /* the server was lost within a message */
        CHECK(!c->ends_early || c->expect_n == 0 || cut);
        hang_up(c, false);
        return;
    }
    if (!c->greeted || c->leaving || c->out.n > 0)
        return;
    if (c->expect_n > 0 && !w->calm && sim_random(w->sim, 300) == 0)
        cancel(c);
    if (!w->calm && sim_random(w->sim, 1500) == 0) {
        hang_up(c, sim_random(w->sim, 2)); /* in the middle of anything */
    } else if (waits_for_all(c) && !w->calm && sim_random(w->sim, 300) == 0) {
        end_early(c);
    } else if (c->expect_n == 0 && c->left > 0) {
        send_batch(c);
    } else if (c->expect_n == 0) {
        bytes_format(&c->out, 'X', "");
        c->leaving = true;
    }
}

/* ---- the world ---- */

static bool is_dialled_by(struct world *w, struct pool *pool, int fd)
{
    for (struct list *m = pool->busy.next; m != &pool->busy; m = m->next) {
        const struct server *s = LIST_ENTRY(m, struct server, node);
        if (s->conn && sim_peer(w->sim, s->conn->fd) == fd)
            return true;
    }
    return false;
}

static unsigned node_of_far_end(struct world *w, int fd)
{
    for (unsigned k = 0; k < WORKERS; k++) {
        struct list *sets = &w->workers[k].hub.sets;
        for (struct list *n = sets->next; n != sets; n = n->next)
            for (unsigned i = 0; i < NODES; i++)
                if (is_dialled_by(w, &LIST_ENTRY(n, struct pool_set, node)->pools[i], fd))
                    return i;
    }
    return 0; /* a cancel request's */
}

static void tell_cluster(struct worker *worker, struct cluster *cluster)
{
    struct list *next;
    loop_self = worker->loop;
    hub_cluster_changed(&worker->hub, cluster);
    for (struct list *n = worker->sessions.next; n != &worker->sessions; n = next) {
        next = n->next;
        session_cluster_changed(LIST_ENTRY(n, struct session, node), cluster);
    }
}

static void publish(struct world *w)
{
    struct cluster *cluster = w->snapshot->clusters[0];
    uint32_t readable = sim_random(w->sim, 4) ? 2 : 0;
    uint8_t primary = w->calm || sim_random(w->sim, 10) ? 0 : NODE_NONE;
    struct node_status st = {.role = NODE_REPLICA,
                             .why = sim_random(w->sim, 8) ? NODE_FINE : NODE_UNREACHABLE};
    node_publish_status(&cluster->nodes[1], &st);
    cluster_publish(cluster, readable, primary);
    for (unsigned k = 0; k < WORKERS; k++)
        tell_cluster(&w->workers[k], cluster);
}

/* A server belongs to one session at most, and both know it. */
static void check_leases(struct worker *worker)
{
    unsigned held = 0, leased = 0;
    for (struct list *n = worker->sessions.next; n != &worker->sessions; n = n->next) {
        struct session *s = LIST_ENTRY(n, struct session, node);
        if (!s->server) { /* nothing is known of it any more */
            CHECK(s->state != SESSION_READY || !(s->state_of.touched | s->state_of.left));
            continue;
        }
        held++;
        CHECK(s->server->state == SERVER_LEASED && s->server->lessee == s);
        CHECK(!waiter_waits(&s->waiter));
    }
    for (struct list *n = worker->hub.sets.next; n != &worker->hub.sets; n = n->next)
        for (unsigned i = 0; i < NODES; i++)
            leased += LIST_ENTRY(n, struct pool_set, node)->pools[i].leased_n;
    CHECK(held == leased);
}

/* Who has neither clients nor servers goes: a template's users would pile up. */
static void check_no_set_is_left(struct worker *worker)
{
    for (struct list *n = worker->hub.sets.next; n != &worker->hub.sets; n = n->next) {
        const struct pool_set *set = LIST_ENTRY(n, const struct pool_set, node);
        bool used = set->refs > 0 || worker->hub.stopping || gate_is_paused(set->gate);
        for (unsigned i = 0; i < NODES; i++)
            used = used || !list_empty(&set->pools[i].idle) || !list_empty(&set->pools[i].busy);
        CHECK(used);
    }
}

static unsigned servers(const struct world *w)
{
    unsigned n = 0;
    for (unsigned k = 0; k < WORKERS; k++)
        n += w->workers[k].hub.server_n;
    return n;
}

static uint64_t cost_of(struct slice name, const struct stmt *stmt)
{
    return name.n && stmt ? stmt_names_cost(name.n, stmt->text_n, stmt->oids_n, stmt->env_n) : 0;
}

static uint64_t cost_of_all(const struct pending *p)
{
    uint64_t bytes = 0;
    for (; p; p = p->next)
        bytes += p->for_client ? cost_of((struct slice){p->name, p->name_n}, p->stmt) : 0;
    return bytes;
}

static uint64_t freed_by_all(const struct pending *p)
{
    uint64_t bytes = 0;
    for (; p; p = p->next)
        bytes += p->frees;
    return bytes;
}

/* What a client's names cost is known to the byte, whether they are true or under way. */
static void check_names(const struct worker *worker)
{
    const uint64_t limit = worker->hub.snapshot->conf->client_statements_memory;
    const struct list *all = &worker->sessions;
    for (struct list *n = all->next; n != all; n = n->next) {
        const struct session *s = LIST_ENTRY(n, struct session, node);
        uint64_t bytes = 0, pending = cost_of_all(s->pending) + cost_of_all(s->guarded);
        struct slice name;
        for (uint32_t i = 0; stmt_names_each(&s->names, &i, &name);)
            bytes += cost_of(name, stmt_names_get(&s->names, name));
        CHECK(s->names.bytes == bytes && s->pending_bytes == pending);
        CHECK(limit == 0 ||
              bytes + pending <= limit + freed_by_all(s->pending) + freed_by_all(s->guarded));
    }
}

/* Who waits is in one queue, and counted once, in all workers together; and no more wait than may. */
static void check_queues(const struct world *w)
{
    uint32_t waiting[USERS][2] = {0}, counted[USERS][2] = {0};
    uint32_t max = w->snapshot->conf->queue_max;
    for (unsigned k = 0; k < WORKERS; k++) {
        const struct list *sets = &w->workers[k].hub.sets;
        for (struct list *n = sets->next; n != sets; n = n->next) {
            const struct pool_set *set = LIST_ENTRY(n, struct pool_set, node);
            unsigned user = (unsigned)(set->user[0] - 'u');
            waiting[user][WANT_PRIMARY] += set->writer_n;
            waiting[user][WANT_READ] += set->reader_n;
            counted[user][WANT_PRIMARY] = pool_waiting(set, WANT_PRIMARY);
            counted[user][WANT_READ] = pool_waiting(set, WANT_READ);
        }
    }
    for (unsigned user = 0; user < USERS; user++)
        for (unsigned i = 0; i < 2; i++) {
            CHECK(waiting[user][i] == counted[user][i]);
            CHECK(!max || waiting[user][i] <= max + NODES * 2); /* for whom servers come */
        }
}

/* Servers that hold a unit of this one, of `odd` ones their set has another budget by now. */
static unsigned spilling(const struct world *w, const struct budget *b, unsigned *odd)
{
    unsigned n = 0;
    for (unsigned k = 0; k < WORKERS; k++) {
        const struct list *sets = &w->workers[k].hub.sets;
        for (struct list *m = sets->next; m != sets; m = m->next)
            for (unsigned i = 0; i < NODES; i++) {
                const struct pool_set *set = LIST_ENTRY(m, struct pool_set, node);
                const struct list *busy = &set->pools[i].busy;
                for (struct list *at = busy->next; at != busy; at = at->next) {
                    bool holds = LIST_ENTRY(at, struct server, node)->spill == b;
                    n += holds;
                    *odd += holds && set->spill != b;
                }
            }
    }
    return n;
}

/* Each limit holds at any time, whoever takes units of it in whichever worker. */
static void check_limit(const struct budget *b, void *context)
{
    struct world *w = context;
    const struct conf *conf = w->snapshot->conf;
    const uint32_t most[BUDGET_KIND_N] = {
        [BUDGET_POOL] = conf->default_pool_size + conf->reserve_pool_size,
        [BUDGET_DATABASE] = conf->max_db_connections,
        [BUDGET_USER] = conf->max_user_connections,
        [BUDGET_NODE] = conf->max_node_connections,
        [BUDGET_CONNECT] = conf->server_connect_concurrency,
        [BUDGET_SPILL] = SPILLS_MAX,
    };
    CHECK(most[b->kind] == 0 || atomic_load(&b->used) <= most[b->kind]);
    if (b->kind == BUDGET_SPILL) {
        unsigned n = spilling(w, b, &w->odd_spills);
        CHECK(n <= atomic_load(&b->used));
        w->spills += n;
    }
}

static bool has_idle(const struct world *w, const struct budget *b)
{
    for (unsigned k = 0; k < WORKERS; k++) {
        const struct list *sets = &w->workers[k].hub.sets;
        for (struct list *n = sets->next; n != sets; n = n->next)
            for (unsigned i = 0; i < NODES; i++) {
                const struct pool *pool = &LIST_ENTRY(n, struct pool_set, node)->pools[i];
                if (pool->idle_n > 0 && pool->limits[b->kind] == b)
                    return true;
            }
    }
    return false;
}

static uint32_t waiters_for(const struct pool *pool, const struct list *queue)
{
    uint32_t n = 0;
    for (struct list *m = queue->next; m != queue; m = m->next)
        n += pool_nodes_for(pool->set, LIST_ENTRY(m, struct waiter, node)) >> pool->node & 1;
    return n;
}

/* Somebody waits for a server of this pool, none under way will serve him, and there could be one. */
static bool is_wasted(const struct world *w, struct pool *pool)
{
    const struct pool_set *set = pool->set;
    uint32_t coming = 0;
    for (unsigned i = 0; i < NODES; i++)
        coming += set->pools[i].dialing_n + set->pools[i].cleaning_n;
    if (waiters_for(pool, &set->writers) + waiters_for(pool, &set->readers) <= coming ||
        set->hub->loop->now_ms < pool->retry_ms || set->hub->stopping ||
        (pool->backoff_ms > 0 && pool->dialing_n > 0)) /* one tries whether it is back */
        return false;
    if (has_idle(w, pool->budget))
        return true;
    for (unsigned k = 0; k < BUDGET_LIMITS; k++) {
        const struct budget *b = pool->limits[k];
        bool can_evict = k != BUDGET_POOL && k != BUDGET_CONNECT && has_idle(w, b);
        bool will_be = atomic_load(&b->leaving) > 0; /* SERVER_LEAVE_MS bounds it */
        if (budget_is_full(b) && (!can_evict || will_be))
            return false;
    }
    return true;
}

static void tell_waste(struct world *w)
{
    for (unsigned k = 0; k < WORKERS; k++) {
        struct list *sets = &w->workers[k].hub.sets;
        for (struct list *n = sets->next; n != sets; n = n->next) {
            struct pool_set *set = LIST_ENTRY(n, struct pool_set, node);
            fprintf(stderr, "worker %u user %s: %u writers, %u readers\n", k, set->user,
                    set->writer_n, set->reader_n);
            for (unsigned i = 0; i < NODES; i++) {
                struct pool *p = &set->pools[i];
                fprintf(stderr,
                        "  node %u%s: since %" PRIu64 " of %" PRIu64
                        " idle %u leased %u dialing %u "
                        "cleaning %u retry %" PRIu64 " refused by %u, starving %d;",
                        i, is_wasted(w, p) ? " WASTED" : "", pool_waiting_since(set, i),
                        set->hub->loop->now_ms, p->idle_n, p->leased_n, p->dialing_n, p->cleaning_n,
                        p->retry_ms, p->refused_by, p->starving ? (int)p->starving->kind : -1);
                for (unsigned b = 0; b < BUDGET_LIMITS; b++)
                    fprintf(stderr, " %u/%u", atomic_load(&p->limits[b]->used),
                            atomic_load(&p->limits[b]->limit));
                fprintf(stderr, "\n");
            }
        }
    }
}

/* The longest that a waiter has been beside an idle server, or a unit, that it could have: as long as word takes to
 * go round. */
static void check_no_waste(struct world *w)
{
    for (unsigned k = 0; k < WORKERS; k++) {
        struct list *sets = &w->workers[k].hub.sets;
        for (struct list *n = sets->next; n != sets; n = n->next)
            for (unsigned i = 0; i < NODES; i++) {
                struct pool *pool = &LIST_ENTRY(n, struct pool_set, node)->pools[i];
                struct waste *waste = &w->waste[k][pool->set->user[0] - 'u'][i];
                uint64_t since_ms = is_wasted(w, pool) ? pool_waiting_since(pool->set, i) : 0;
                if (!since_ms || since_ms != waste->waiter_ms)
                    *waste = (struct waste){since_ms, sim_now_ms(w->sim)};
                uint64_t for_ms = sim_now_ms(w->sim) - waste->begun_ms;
                w->longest_waste_ms = for_ms > w->longest_waste_ms ? for_ms : w->longest_waste_ms;
                if (for_ms >= WASTE_MS_MAX)
                    tell_waste(w);
                CHECK(for_ms < WASTE_MS_MAX);
            }
    }
}

static void turn_workers(struct world *w)
{
    for (unsigned k = 0; k < WORKERS; k++) {
        struct loop *loop = w->workers[k].loop;
        loop_self = loop;
        loop_turn(loop, loop->now_ms + 1 + sim_random(w->sim, w->calm ? 20 : 4));
        check_leases(&w->workers[k]);
        check_no_set_is_left(&w->workers[k]);
        check_names(&w->workers[k]);
        check_queues(w);
    }
    CHECK(budget_kind_used(BUDGET_POOL) >= servers(w)); /* more: on its way between workers */
    budget_each(check_limit, w);
    check_no_waste(w);
}

/* What pgweir thinks of a client that gets no answer. */
static void tell_session(const struct session *s)
{
    fprintf(stderr,
            "worker %u state %u in %u out %u replies %u first %d collected %u stream %u body %u "
            "server %d "
            "waits %d on_replica %d guard %d failed %d syncing %d skip_to_sync %d skipping %d "
            "copy_in %d "
            "segment_open %d pinned %d paused %d\n",
            s->worker->id, s->state, s->conn->in.bytes, conn_out_bytes(s->conn), s->replies.n,
            s->replies.n ? s->replies.p[s->replies.head] : -1, s->collected_bytes, s->stream_left,
            s->server_body_left, s->server != NULL, waiter_waits(&s->waiter), s->on_replica,
            s->guard, s->guard_failed, s->syncing, s->skip_to_sync, s->skipping, s->copy_in,
            s->segment_open, s->state_of.left != 0, s->conn->paused);
}

static void tell_stuck(struct world *w, const struct client *c)
{
    fprintf(stderr, "client %u waits for ever, for '%c' of %u; to send: %zu; status %c\n", c->id,
            c->expect_n ? c->expects[0].type : '?', c->expect_n, c->out.n, c->tx);
    for (unsigned k = 0; k < WORKERS; k++) {
        struct list *all = &w->workers[k].sessions;
        for (struct list *n = all->next; n != all; n = n->next) {
            const struct session *s = LIST_ENTRY(n, struct session, node);
            if (sim_peer(w->sim, s->conn->fd) == c->fd)
                tell_session(s);
        }
    }
}

/* Each seed with one way to balance, so that every promise is kept under all of them. */
static const char *const balances[] = {
    "",
    "balance = round_robin\n",
    "primary_reads = never\nbalance = least_connections\n",
    "primary_reads = weighted\nslow_start = 50ms\n",
};

/* ... and one of these after the other, by reloads: of each pool (a quarter by default), or of the cluster. Each that
 * is a limit is SPILLS_MAX, of default_pool_size = 2. */
static const char *const budgets[] = {
    "",
    "primary_read_budget = 1\n",
    "primary_read_budget = 50%\n",
    "primary_read_budget = 0\n",
};

static const char *const queues[] = {
    "",
    "queue_max = 1\nquery_wait_notify = 20ms\n",
    "queue_discipline = codel\ncodel_interval = 50ms\ncodel_target = 5ms\n",
    "query_timeout = 400ms\ntransaction_timeout = 900ms\nclient_idle_timeout = 3s\n"
    "shed_severity = fatal\n",
};

/* ... and with one limit that two users share, over both workers. */
static const char *const limits[] = {
    "",
    "max_db_connections = 3\n",
    "max_node_connections = 2\nreserve_pool_size = 1\nreserve_pool_timeout = 200ms\n",
    "max_user_connections = 2\nserver_connect_concurrency = 1\n",
    "max_db_connections = 2\nmax_node_connections = 1\n",
};

static struct conf *config_of(uint64_t seed, unsigned reloads)
{
    char text[1024];
    char memory[64] = "";
    if (seed % 7 == 3)
        snprintf(memory, sizeof memory, "client_statements_memory = %" PRIu64 "\n",
                 STATEMENTS_MEMORY);
    const char *budget = budgets[(seed / 3 + reloads) % (sizeof budgets / sizeof *budgets)];
    const size_t n = sizeof balances / sizeof *balances, m = sizeof queues / sizeof *queues;
    snprintf(text, sizeof text, "%s%s%s%s%s%s%s", config, memory, seed % 2 ? config_optimistic : "",
             budget, balances[seed / 2 % n], queues[seed / 2 / n % m],
             limits[seed % (sizeof limits / sizeof *limits)]);
    return load_with(text, NULL);
}

/* Half of the seeds: another budget for reads on the primary, while units of the one before are in use. */
static void reload(struct world *w)
{
    char error[256];
    struct snapshot *was = w->snapshot;
    w->snapshot = snapshot_new(config_of(w->seed, ++w->reloads), was, error, sizeof error);
    CHECK(w->snapshot != NULL && w->snapshot->clusters[0] == was->clusters[0]);
    w->fleet.first = w->snapshot;
    snapshot_unref(was);
}

/* A worker hears of it after a while. */
static void hear_of_reload(struct world *w, unsigned k)
{
    struct hub *hub = &w->workers[k].hub;
    if (hub->snapshot == w->snapshot || sim_random(w->sim, 4) > 0)
        return;
    loop_self = hub->loop;
    hub_set_snapshot(hub, snapshot_ref(w->snapshot));
}

static void turn(struct world *w)
{
    int fd;
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client *c = &w->clients[i];
        if (c->fd >= 0)
            client_step(c);
        else if (!w->calm && sim_random(w->sim, 40) == 0)
            arrive(w, c, i);
        if (c->fd >= 0 && (c->expect_n > 0 || !c->greeted) &&
            sim_now_ms(w->sim) - c->progress_ms > STUCK_MS) {
            tell_stuck(w, c);
            CHECK(false);
        }
    }
    end_cancels(w);
    while ((fd = sim_dialled(w->sim)) >= 0)
        fake_pg_adopt(w->pg, fd, node_of_far_end(w, fd));
    fake_pg_step(w->pg);
    if (sim_random(w->sim, 400) == 0)
        publish(w);
    if (w->seed / 2 % 2 == 0 && sim_random(w->sim, 200) == 0)
        reload(w);
    for (unsigned k = 0; k < WORKERS; k++)
        hear_of_reload(w, k);
    turn_workers(w);
}

static void make_worker(struct world *w, unsigned k)
{
    struct worker *worker = &w->workers[k];
    worker->fleet = &w->fleet;
    worker->id = k;
    worker->loop = loop_new(sim_port(w->sim), k, &worker->hub);
    list_init(&worker->sessions);
    lobby_init(worker);
    list_init(&worker->floor_waiters);
    w->hubs[k] = &worker->hub;
    hub_init(&worker->hub, worker->loop, k, w->snapshot);
    worker->hub.random = w->seed * 4 + k + 1;
    worker->hub.peers = w->hubs;
    worker->hub.peer_n = WORKERS;
}

static void make_world(struct world *w, uint64_t seed)
{
    char error[256];
    struct sim_config sim = {
        .seed = seed, .refused_pct = (uint32_t)(seed % 3) * 2, .calm = seed % 8 == 0};
    w->seed = seed;
    w->sim = sim_new(&sim);
    w->snapshot = snapshot_new(config_of(seed, 0), NULL, error, sizeof error);
    CHECK(w->snapshot != NULL);
    struct node_address address = {.bytes = sizeof(struct sockaddr_in)};
    address.addr.ss_family = AF_INET;
    for (unsigned i = 0; i < NODES; i++)
        node_publish_address(&w->snapshot->clusters[0]->nodes[i], &address);
    cluster_publish(w->snapshot->clusters[0], 2, 0);
    w->fleet.worker_n = WORKERS;
    w->fleet.workers = w->workers;
    w->fleet.hubs = w->hubs;
    w->fleet.first = w->snapshot;
    for (unsigned k = 0; k < WORKERS; k++)
        make_worker(w, k);
    w->pg = fake_pg_new(w->sim, seed % 4 ? 3 : 0);
    for (unsigned i = 0; i < CLIENTS; i++)
        w->clients[i].fd = -1;
}

static unsigned sessions(const struct world *w)
{
    unsigned n = 0;
    for (unsigned k = 0; k < WORKERS; k++)
        n += w->workers[k].session_n;
    return n;
}

static bool all_gone(const struct world *w)
{
    for (unsigned i = 0; i < CLIENTS; i++)
        if (w->clients[i].fd >= 0)
            return false;
    return w->cancel_n == 0 && sessions(w) == 0;
}

/* Nobody asks any more: servers are idle or gone, and nothing is left of what was. */
static void check_quiet(struct world *w, unsigned k)
{
    struct list *sets = &w->workers[k].hub.sets;
    for (struct list *n = sets->next; n != sets; n = n->next) {
        const struct pool_set *set = LIST_ENTRY(n, struct pool_set, node);
        CHECK(set->writer_n == 0 && set->reader_n == 0 && set->refs == 0);
        CHECK(list_empty(&set->writers) && list_empty(&set->readers));
        for (unsigned i = 0; i < NODES; i++)
            CHECK(set->pools[i].leased_n == 0);
    }
    CHECK(atomic_load(&w->fleet.client_n) == 0 && atomic_load(&w->fleet.per_worker[k]) == 0);
    CHECK(atomic_load(&w->fleet.login_n) == 0 && list_empty(&w->workers[k].silent));
}

static unsigned conns(const struct world *w)
{
    unsigned n = 0;
    for (unsigned k = 0; k < WORKERS; k++)
        n += w->workers[k].loop->conn_n;
    return n;
}

static void free_worker(struct worker *worker)
{
    struct loop *loop = worker->loop;
    loop_self = loop;
    CHECK(loop->bufs.heap_n == 0 && loop->bufs.lent[PORT_SMALL] == 0 &&
          loop->bufs.lent[PORT_BULK] == 0);
    hub_free(&worker->hub);
    loop_free(loop);
    free(worker->by_pid);
}

/* All stop, one after the other; a server may be on its way between them. */
static void end_world(struct world *w)
{
    unsigned stopped = 0;
    for (unsigned i = 0; i < 20000 && (stopped < WORKERS || conns(w) + budget_total_used() > 0);
         i++) {
        int fd;
        if (stopped < WORKERS && sim_random(w->sim, 3) == 0) {
            loop_self = w->workers[stopped].loop;
            hub_abort(&w->workers[stopped++].hub);
        }
        while ((fd = sim_dialled(w->sim)) >= 0)
            fake_pg_adopt(w->pg, fd, 0);
        fake_pg_step(w->pg);
        turn_workers(w);
    }
    CHECK(conns(w) == 0 && servers(w) == 0 && budget_total_used() == 0);
    turn_workers(w); /* what mail is left */
    for (unsigned k = 0; k < WORKERS; k++)
        free_worker(&w->workers[k]);
    snapshot_unref(w->snapshot);
    fake_pg_free(w->pg);
    sim_free(w->sim);
}

static void every_client_gets_its_own_answers(void **state)
{
    (void)state;
    uint64_t first = sim_seed(1), rows = 0, errors = 0, reruns = 0, moves = 0, drained = 0;
    uint64_t evictions = 0, sheds[SHED_REASON_N] = {0}, waste_ms = 0, full = 0, spills = 0, odd = 0;
    static struct world w;
    log_configure(LOG_ERROR, LOG_TEXT);
    for (uint64_t seed = first; seed < first + sim_seed_count(); seed++) {
        w = (struct world){0};
        make_world(&w, seed);
        for (unsigned i = 0; i < 2500; i++)
            turn(&w);
        w.calm = true;
        fake_pg_calm(w.pg);
        for (unsigned i = 0; !all_gone(&w); i++) {
            if (i % 400 == 0)
                publish(&w);
            turn(&w);
            CHECK(i < TURNS_MAX);
        }
        for (unsigned k = 0; k < WORKERS; k++) {
            check_quiet(&w, k);
            reruns += w.workers[k].stats.reruns;
            moves += w.workers[k].hub.moves;
            for (unsigned i = 0; i < SHED_REASON_N; i++)
                sheds[i] += w.workers[k].stats.shed_for[i];
            drained += w.workers[k].hub.leaves[LEAVE_DRAINED];
            evictions += w.workers[k].hub.evictions;
        }
        rows += w.rows;
        errors += w.errors;
        full += w.full;
        spills += w.spills;
        odd += w.odd_spills;
        waste_ms = w.longest_waste_ms > waste_ms ? w.longest_waste_ms : waste_ms;
        end_world(&w);
    }
    print_message("%llu rows, %llu errors, %llu reruns, %llu moves, %llu drained, %llu evictions, "
                  "%llu ms of waste\n",
                  (unsigned long long)rows, (unsigned long long)errors, (unsigned long long)reruns,
                  (unsigned long long)moves, (unsigned long long)drained,
                  (unsigned long long)evictions, (unsigned long long)waste_ms);
    print_message("%llu names refused, %llu looks at reads on the primary, %llu after a reload\n",
                  (unsigned long long)full, (unsigned long long)spills, (unsigned long long)odd);
    assert_true(sim_seed_count() <= 50 || (full > 0 && spills > 0 && odd > 0));
    assert_true(rows > 0 && (sim_seed_count() == 1 ||
                             (reruns > 0 && moves > 0 && drained > 0 && evictions > 0)));
    static const char *const reasons[] = {
#define TEXT(constant, text) text,
        SHED_REASONS(TEXT)
#undef TEXT
    };
    for (unsigned i = 0; i < SHED_REASON_N; i++)
        print_message("shed for %s: %llu\n", reasons[i], (unsigned long long)sheds[i]);
    for (unsigned i = 0; sim_seed_count() > 50 && i <= SHED_CODEL; i++)
        assert_true(sheds[i] > 0);
}

RUN(cmocka_unit_test(every_client_gets_its_own_answers))
