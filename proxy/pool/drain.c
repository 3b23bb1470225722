#include "proxy/pool/drain.h"

#include "base/check.h"
#include "proxy/io/log.h"
#include "proxy/pool/cancel.h"
#include "proxy/pool/inside.h"
#include "proxy/pool/random.h"
#include "proxy/wire/error_fields.h"
#include "proxy/wire/frame.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME_MAX_BYTES 40
#define LOOK_MAX \
    (64U << 10) /* of a message that is looked into; a longer one is not what we wait for */

struct drain {
    struct server *server;
    struct timer deadline, again;
    uint64_t bytes; /* thrown away */
    uint32_t again_ms;
    uint32_t body_left; /* of a message that goes nowhere */
    unsigned clean;
    bool runs, asked, answered, ddl;
    char name[NAME_MAX_BYTES];
};

/* ---- the end ---- */

/* DDL may have committed after its client was counted as gone. */
static void note_ddl(struct server *s)
{
    struct pool_set *set = s->pool->set;
    atomic_fetch_add(&set->cluster->altered, 1);
    if (!set->catalog.slot)
        return;
    catalog_slot_changed(set->catalog.slot, true);
    hub_want_catalog(set->hub, set, true);
}

static void end(struct server *s, enum leave how)
{
    struct drain *d = s->drain;
    s->drain = NULL;
    s->pool->set->hub->leaves[how]++;
    timer_stop(&s->pool->set->hub->loop->timers, &d->deadline);
    timer_stop(&s->pool->set->hub->loop->timers, &d->again);
    if (d->ddl)
        note_ddl(s);
    free(d);
}

void drain_stop(struct server *s)
{
    if (s->drain)
        end(s, LEAVE_CLOSED);
}

static void give_up(struct server *s, const char *why)
{
    LOG(LOG_INFO, "server.not_drained",
        LF_S("node", s->pool->set->cluster->nodes[s->pool->node].label), LF_S("reason", why),
        LF_U("pid", s->backend_pid), LF_U("bytes", s->drain->bytes));
    server_close(s, why);
}

static void on_deadline(struct timer *timer)
{
    give_up(LIST_ENTRY(timer, struct drain, deadline)->server, "abandon_timeout");
}

static void finish(struct server *s, char tx_status)
{
    unsigned clean = s->drain->clean;
    end(s, LEAVE_DRAINED);
    s->clean = (uint8_t)(clean | (tx_status == 'I' ? 0 : CLEAN_ROLLBACK));
    pool_clean(s);
}

/* ---- what is sent ---- */

/* No portal is made: this Bind fails whatever state the session is in, unless the server skips it. */
static void put_bind(struct put *o, const char *name)
{
    put_u8(o, 'B');
    put_u32(o, (uint32_t)(4 + 1 + strlen(name) + 1 + 6));
    put_u8(o, '\0');
    put_cstr(o, slice_of(name));
    for (int i = 0; i < 3; i++)
        put_u16(o, 0); /* formats, values, formats of the result */
}

/* The rest of a CopyData, of which no line is made: CopyFail follows. */
static void send_fill(struct server *s, uint32_t n)
{
    static const uint8_t zeros[4096];
    for (uint32_t part; n > 0; n -= part) {
        part = n < sizeof zeros ? n : (uint32_t)sizeof zeros;
        conn_out_copy(s->conn, zeros, part);
    }
}

static void send_end(struct server *s, const struct drain_plan *plan)
{
    static const uint8_t copy_fail[] = "f\0\0\0\x10"
                                       "client left";
    uint8_t bytes[128];
    struct put o = put_into(bytes, sizeof bytes);
    send_fill(s, plan->fill);
    put_bytes(&o, (struct slice){copy_fail, sizeof copy_fail});
    if (plan->open)
        put_bind(&o, "_pgweir_client_left");
    put_sync(&o);
    CHECK(!o.full);
    conn_out_copy(s->conn, o.p, o.n);
}

void drain_ask(struct server *s)
{
    struct drain *d = s->drain;
    uint8_t bytes[128];
    uint64_t secret;
    struct put o = put_into(bytes, sizeof bytes);
    if (d->asked)
        return;
    d->asked = true;
    if (d->runs)
        timer_start(&s->conn->loop->timers, &d->again, s->conn->loop->now_ms + d->again_ms);
    random_bytes(&secret, sizeof secret);
    snprintf(d->name, sizeof d->name, "_pgweir_left_%016" PRIx64, secret);
    put_bind(&o, d->name);
    put_sync(&o);
    CHECK(!o.full);
    conn_out_copy(s->conn, o.p, o.n);
}

/* The cancel may have come ahead of what it was to end. Another one may hit our question, so that is asked anew too. */
static void on_again(struct timer *timer)
{
    struct drain *d = LIST_ENTRY(timer, struct drain, again);
    struct server *s = d->server;
    d->asked = d->answered = false;
    d->again_ms *= 2;
    cancel_abandoned(s);
    pool_clean(s);
}

void drain_begin(struct server *s, const struct drain_plan *plan)
{
    struct loop *loop = s->pool->set->hub->loop;
    struct drain *d = calloc(1, sizeof *d);
    CHECK(d != NULL);
    *d = (struct drain){
        .server = s,
        .body_left = plan->body_left,
        .clean = plan->clean,
        .ddl = plan->ddl,
        .runs = plan->runs,
        .again_ms = DRAIN_AGAIN_MS,
    };
    timer_init(&d->deadline, on_deadline);
    timer_init(&d->again, on_again);
    timer_start(&loop->timers, &d->deadline,
                loop->now_ms + s->pool->set->snapshot->conf->abandon_timeout_ms);
    s->drain = d;
    server_chore_end(s); /* it may have been busy for us; the deadline counts for that too */
    stmt_set_unnamed(&s->stmts, NULL);
    if (plan->names_change) {
        stmt_set_clear(&s->stmts);
        s->stale_stmts = true;
    }
    send_end(s, plan);
    if (plan->runs)
        cancel_abandoned(s);
    pool_clean(s); /* asks, unless a cancel is on its way */
    conn_in_again(s->conn);
}

/* ---- what comes ---- */

static bool is_marker(const struct drain *d, struct slice body)
{
    struct error_fields f;
    error_fields_read(body, &f);
    return d->asked && slice_is(f.sqlstate, "26000") && f.message.n > 0 &&
           memmem(f.message.p, f.message.n, d->name, strlen(d->name)) != NULL;
}

/* The message at the front of the input, of these bytes. False: it was the last, or the server is closed. */
static bool take_message(struct server *s, struct frame_head head)
{
    struct drain *d = s->drain;
    struct conn *conn = s->conn;
    size_t n = FRAME_HEAD_BYTES + (size_t)head.body_bytes;
    struct slice body = {conn_in_contiguous(conn, n) + FRAME_HEAD_BYTES, head.body_bytes};
    bool fine = head.type != 'S' || server_note_status(s, body);
    bool ends = d->answered && head.type == 'Z' && body.n == 1;
    char tx_status = ends ? (char)*body.p : 'I';
    d->answered = d->answered || (head.type == 'E' && is_marker(d, body));
    conn_in_drop(conn, n);
    if (!fine)
        give_up(s, "bad_message");
    else if (ends)
        finish(s, tx_status);
    return fine && !ends;
}

static void drop(struct server *s, size_t n)
{
    s->drain->bytes += n;
    conn_in_drop(s->conn, n);
}

/* False: more has to come first, or this was the end. */
static bool take(struct server *s)
{
    struct drain *d = s->drain;
    struct conn *conn = s->conn;
    struct frame_head head;
    if (d->body_left > 0) {
        uint32_t n = conn->in.bytes < d->body_left ? conn->in.bytes : d->body_left;
        d->body_left -= n;
        drop(s, n);
        return n > 0;
    }
    if (conn->in.bytes < FRAME_HEAD_BYTES)
        return false;
    const uint8_t *p = conn_in_contiguous(conn, FRAME_HEAD_BYTES);
    if (frame_read_head((struct slice){p, FRAME_HEAD_BYTES}, FRAME_BODY_MAX, &head) != FRAME_OK) {
        give_up(s, "bad_message");
        return false;
    }
    if (!strchr("ESZ", head.type) || head.body_bytes > LOOK_MAX) {
        d->body_left = head.body_bytes;
        drop(s, FRAME_HEAD_BYTES);
        return true;
    }
    if (conn->in.bytes < FRAME_HEAD_BYTES + head.body_bytes)
        return false;
    return take_message(s, head);
}

void drain_input(struct server *s)
{
    while (take(s))
        if (s->drain->bytes > DRAIN_BYTES_MAX) {
            give_up(s, "too_many_bytes");
            return;
        }
}
