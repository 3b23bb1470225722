/* proxy/session/session.h: a client's protocol state.
 *
 *   STARTUP --SSLRequest--> (TLS) --> STARTUP --StartupMessage--> AUTH --proved--> GREETING --> READY
 *   READY: collect a segment -> route -> lease -> forward -> replies -> release
 *   any --Terminate, lost, refused, shutdown--> CLOSING --last completion--> freed
 *
 * Files   startup.c first packets, auth.c proof, client.c the client's messages, statement*.c
 *         prepared statements, lease.c getting and giving back servers, reply.c the server's messages,
 *         session.c life and errors.
 * Owns    its conn, its names and pending changes; borrows a server for a lease.
 * Rule    replies are counted: a server is released only with nothing expected from it.
 * Limits  SEGMENT_MAX bytes collected before a route is chosen; MESSAGE_WHOLE_MAX bytes of a message
 *         that must be seen whole; REPLIES_MAX expected replies; GUARD_HELD_MAX bytes held back.
 */
#ifndef SESSION_SESSION_H
#define SESSION_SESSION_H

#include "proxy/session/worker.h"
#include "proxy/wire/error_fields.h"
#include "proxy/wire/frame.h"
#include "proxy/wire/startup.h"
#include "router/decide.h"
#include "router/floor.h"

#define SEGMENT_MAX (64U << 10)
#define MESSAGE_WHOLE_MAX (1U << 20)
#define BIND_PREFIX_MAX (64U << 10)
#define CLIENT_BODY_MAX \
    (FRAME_BODY_MAX - 5) /* PostgreSQL's PQ_LARGE_MESSAGE_LIMIT, without the length */
#define TRIES_MAX \
    3 /* servers that a segment may lose before it has been sent to one that answers */
#define REPLIES_MAX 1024
#define GUARD_HELD_MAX 8192
#define TAKEN_NAME_MAX 63 /* PostgreSQL cuts longer ones */
#define HELD_FOR_LONG_MAX \
    (BUF_HELD_MAX / 2) /* heap bytes of a worker over which no long message is waited for */
#define HALF_CLOSE_LOOK_MS \
    100 /* when a client that stopped sending is looked for again; then after twice as long, and so on */
#define HALF_CLOSE_LOOK_MAX_MS 60000

enum session_state {
    SESSION_STARTUP,
    SESSION_AUTH,
    SESSION_GREETING,
    SESSION_READY,
    SESSION_CLOSING
};

/* What we expect next from the server, or have to say ourselves at that place. */
enum reply {
    REPLY_PARSE,        /* '1', forwarded; the statement change behind it becomes true */
    REPLY_PARSE_INJECT, /* '1', ours: swallowed */
    REPLY_BIND,
    REPLY_BIND_INJECT, /* '2', ours: swallowed, as what it runs says */
    REPLY_DESCRIBE,
    REPLY_DESCRIBE_TOLD, /* the same, whose answer tells the client what the statement's rows are */
    REPLY_DESCRIBE_TYPES,  /* ... of which the client gets the parameters only */
    REPLY_DESCRIBE_LEARN,  /* ... ours: swallowed; what the rows were when the client parsed it */
    REPLY_DESCRIBE_INJECT, /* ... ours: swallowed; a Bind waits for it */
    REPLY_EXECUTE,
    REPLY_EXECUTE_INJECT,
    REPLY_CLOSE,
    REPLY_CLOSE_INJECT, /* '3', ours: swallowed */
    REPLY_CLOSE_FAKE,   /* nothing comes; say CloseComplete */
    REPLY_DUPLICATE,    /* an error: the name is taken, if nothing else is wrong */
    REPLY_REFUSED,      /* an error, ours: the poison for what must not run on a replica */
    REPLY_FULL,         /* an error, ours: the poison for a Parse beyond client_statements_memory */
    REPLY_STALE,        /* an error, ours: the poison for rows that the client would read wrongly */
    REPLY_SETTING,      /* an error, ours: the poison for a setting of ours that fails */
    /* From here on ReadyForQuery comes. */
    REPLY_SYNC,        /* 'Z' */
    REPLY_SYNC_INJECT, /* 'Z', ours: swallowed */
    REPLY_QUERY,       /* ... 'Z' */
    REPLY_RESTORE,     /* the same, of which the last statement is ours */
    REPLY_FUNCTION     /* 'V' 'Z' */
};

/* Statements are put on the server for a query that waits. */
enum bringing { BRING_NONE, BRING_WAITS };

struct reply_ring {
    uint8_t *p; /* enum reply */
    uint16_t head, n, cap;
};

/* A change of names that becomes true when its reply comes. */
struct pending {
    struct pending *next;
    struct stmt *stmt; /* NULL: the name is removed */
    uint32_t name_n;
    uint32_t segment;  /* number of the segment that it came in */
    bool on_server;    /* its Parse is on the way to the server */
    bool for_client;   /* the client's names change */
    bool unnamed_slot; /* the server's unnamed statement changes */
    bool closes;       /* ... the one that is named: stmt goes from the server */
    bool was_there;    /* ... and was in the server's set */
    bool tells;        /* REPLY_DESCRIBE_TOLD, _LEARN: the client reads rows by shape */
    struct stmt_shape shape;
    uint64_t frees; /* of the client's names, by stmt_names_cost(), when one is removed */
    uint8_t name[];
};

/* What the rows of a statement are is looked at before a Bind or Describe, see statement_shape(). */
enum shape_look {
    SHAPE_IDLE,
    SHAPE_ASKED,   /* the server is being asked: the Bind waits */
    SHAPE_ANSWERED /* by shape, for the Bind that comes next */
};

/* A segment that is being collected; it goes on where it stopped when more bytes come. The input may
 * move in memory while it grows, so a Parse's name is kept as a place in it. */
struct collecting {
    uint32_t bytes; /* of conn->in that have been looked at */
    uint32_t name_at, name_n;
    bool hinted;    /* a statement was looked at for a hint */
    bool parses;    /* there is a Parse, and the newest one's name is at name_at */
    bool not_local; /* there is more than Sync and Close */
    bool ours;      /* there is a statement about a setting of ours */
    bool not_ours;  /* ... and one that is not */
    bool not_parse; /* there is more than Parse and Sync */
};

/* A transaction that may begin before a server is known (tx.c, router/tx.h). What is said of the segment is
 * set while it is collected. */
struct tx {
    struct timer idle_timer;
    struct tx_modes modes; /* as the client wrote them */
    struct tx_modes said;  /* by the BEGIN or SET TRANSACTION of the segment */
    uint8_t state;         /* enum tx_state; tx_step() writes it */
    uint8_t fate;          /* enum tx_fate, the worst of the segment */
    uint8_t begin_left;    /* answers to our BEGIN that are to come */
    uint8_t bound;         /* TX_FAILED: enum tx_statement_kind in the unnamed portal */
    bool begins : 1;       /* the segment: a BEGIN alone in its message comes first */
    bool reads : 1;        /* ... only proven reads and an end of the transaction, BEGIN apart */
    bool leaves_state : 1; /* ... something that moving would lose */
    bool begin_due : 1;    /* our BEGIN goes ahead of the next message */
    bool portal : 1; /* ... and leaves one, as the client's own, by the extended protocol, did */
    bool begin_keeps : 1;  /* that BEGIN is under way */
    bool begin_failed : 1; /* up to ReadyForQuery */
    bool optimistic : 1;   /* on a replica for its reads only */
    bool stuck : 1;        /* it has left state behind: it cannot move */
    bool shown : 1;        /* something of it has been answered */
    bool moved : 1;        /* ... from a replica */
    bool checked : 1;      /* a segment that was cut may run where the transaction is */
    bool queried : 1;      /* a query of it has been seen: from then on its modes stand */
    bool too_late : 1;     /* the segment: a SET TRANSACTION that PostgreSQL refuses for that */
};

/* What may live in a server's session beyond a transaction. */
enum left {
    LEFT_SETTINGS = 1 << 0,
    LEFT_PREPARED = 1 << 1, /* by SQL */
    LEFT_CURSORS = 1 << 2,  /* WITH HOLD */
    LEFT_CHANNELS = 1 << 3, /* LISTEN */
    LEFT_LOCKS = 1 << 4,    /* advisory ones */
    LEFT_TEMP = 1 << 5,     /* temporary objects */
    LEFT_ASKABLE = (1 << 6) - 1,
    /* What PostgreSQL cannot be asked about. */
    LEFT_SEED = 1 << 6,            /* setseed(), LOAD: nothing undoes it */
    LEFT_SEQUENCES = 1 << 7,       /* currval() and lastval() are used */
    LEFT_STATEMENT = 1 << 8,       /* a prepared statement that is not kept here */
    LEFT_OTHER = 1 << (LEFT_N - 1) /* replication origins, slots, dblink */
};

/* What the client's SQL has left behind (state.c). */
struct look;
struct state_of {
    struct label *startup; /* what RESET goes back to; NULL before the login */
    struct look *look;     /* the server is being asked */
    uint64_t fingerprint;  /* of the statement that marked something last */
    uint8_t *text;         /* of a SET that runs alone, text_n bytes */
    uint16_t text_n;
    uint16_t touched;  /* enum left: to be asked about when the transaction has ended */
    uint16_t left;     /* ... what is on the server: it stays with this client */
    uint16_t prepared; /* ... what SQL's EXECUTE may touch */
    uint16_t
        ahead; /* REPLY_RESTORE: answers to the client's statements, less one, that are to come */
    bool restored : 1;     /* ... the last of them has come */
    bool discarded : 1;    /* DISCARD ALL has been answered, up to ReadyForQuery */
    bool sees_no_data : 1; /* what runs only sets: the client is shown nothing by it */
    bool sole : 1;         /* nothing but the SET of text runs */
    bool ran : 1, failed : 1;
    bool rereads : 1;              /* a statement that is unanswered may change how SQL is read */
    bool doubt : 1;                /* the question has failed, and nothing has run since */
    uint8_t failures : 2;          /* ... so often in a row, LOOK_FAILURES_MAX at most */
    struct custom_settings custom; /* names in what was sent since it was asked last */
    uint64_t env[2];               /* the session, and how often that may have changed */
};

struct query_names;
struct auth; /* while logging in */
struct settings;

struct session {
    struct list node;
    struct list silent; /* in worker->silent until it says something */
    struct worker *worker;
    struct conn *conn;
    struct pool_set *set;
    struct label *label;
    struct told *told;         /* the reported settings that the client knows */
    struct settings *settings; /* of ours, pgweir.*; NULL: nothing is set */
    struct server *server;     /* the lease */
    struct auth *auth;
    struct cancel_mail *cancel; /* this is a cancel request, under way */
    struct waiter waiter;
    struct timer
        timer; /* login deadline, then those of deadline.h, the half-close grace, the next look at console_wait, or its
                  turn to leave */
    void *console_wait; /* malloc()ed: a command of the console that is not over */
    struct stmt_names names;
    struct stmt *unnamed;
    struct stmt_shape unnamed_told;
    struct stmt_shape shape; /* SHAPE_ANSWERED */
    struct stmt *bound_sql;  /* a DEALLOCATE, PREPARE or RESET, in the portal of this name */
    uint8_t bound_portal[TAKEN_NAME_MAX];
    uint8_t taken[TAKEN_NAME_MAX]; /* a name that is closed behind the next Sync */
    uint8_t bound_portal_n, taken_n;
    struct query_names *query_names; /* in the Query that runs; NULL: none */
    struct pending *pending, *pending_last;
    struct pending *guarded,
        *guarded_last;      /* guard: answered, and dropped again if it runs elsewhere */
    uint64_t pending_bytes; /* of names that both will add, by stmt_names_cost() */
    struct reply_ring replies;
    struct seg_queue held;    /* guard: replies kept back until the answer is known to be good */
    struct seg_queue replay;  /* guard: the segment, to run it once more elsewhere */
    struct floor floor;       /* what the client has seen */
    struct list floor_node;   /* in worker->floor_waiters while it waits for a sample */
    struct timer floor_timer; /* the end of that wait */
    uint64_t floor_held_ms;   /* since when its floor keeps reads on the primary; 0: it does not */
    uint64_t floor_until_ms;  /* the end of the wait that runs; 0: none does */
    uint64_t floor_joined;    /* of the database's shared floor: what this floor has taken over */
    uint64_t floor_moved_ms;  /* when it last had the choice between replicas, or tried to */
    uint64_t asked_lsn;       /* of tokens: holds with every consistency; 0: none */
    uint32_t asked_timeline;
    uint32_t floor_moved_epoch; /* the cluster's view of that time */
    uint64_t primary_until; /* its newest sample when it was used last, but for reads; 0: never */
    uint64_t since_ms, began_ms;    /* see struct client_doing */
    struct cancel_wish *cancel_due; /* to be done when what it is to end has been sent */
    uint32_t half_closed_ms; /* the client stopped sending: when it is looked for again; else 0 */
    uint64_t serial;
    uint64_t asked_ns; /* when the segment was routed */
    struct tx tx;
    struct state_of state_of;
    struct sql_facts segment; /* of what was collected */
    uint64_t catalog_seen;    /* the edition that the floor knows of */
    uint64_t segment_catalog; /* catalog_use_moment() before its first statement was classified */
    struct collecting collecting;
    const struct refused_text *refused_text; /* while shed_along for SHED_LOGIN_REFUSED */
    uint32_t here_bytes; /* of conn->in when the segment began to wait; the rest is younger */
    uint32_t
        late_bytes; /* shed_along: of conn->in, at its end, that are younger than who was shed */
    uint32_t collected_bytes;  /* of conn->in that segment covers and that are not sent yet */
    uint32_t stream_left;      /* bytes of a client message that pass through */
    uint32_t segment_serial;   /* grows with each Query and Sync that is sent */
    uint32_t server_body_left; /* bytes of a server message that pass through */
    uint32_t avoid;            /* nodes where this segment has failed; all bits: no replica */
    uint32_t pid;
    struct budget *places[2]; /* its units of the limits of clients of its database, its user */
    uint8_t key[PUT_CLIENT_KEY_MAX];
    uint8_t key_n;
    uint8_t state;            /* enum session_state */
    uint8_t tx_status;        /* of the last ReadyForQuery */
    uint8_t tries;            /* servers that were lost before a segment of ours was answered */
    uint8_t reason;           /* enum route_reason of the lease */
    uint8_t consistency;      /* pgweir.consistency: 1 + enum conf_consistency; 0: as configured */
    uint8_t floor_wait;       /* enum floor_wait */
    uint8_t hint;             /* enum hint_route of the segment */
    uint8_t policy;           /* enum route_policy of the database and the user */
    uint8_t shape_look;       /* enum shape_look */
    uint8_t sequences_unread; /* leases for what may call nextval(), since it asked for currval() */
    bool unnamed_new : 1;     /* parsed in this segment, and nothing asked or executed since */
    bool counted : 1;         /* in fleet->client_n, see places.c */
    bool console : 1;
    bool admin : 1;
    bool session_pooling : 1;
    bool statement_pooling : 1;
    uint8_t bringing : 1;  /* enum bringing */
    bool over_connect : 1; /* its settings are put over those of connect_query, if there is one */
    bool replication : 1;  /* its bytes pass unread, see replication.c */
    bool sender_rests : 1; /* ... the last of them was ReadyForQuery */
    bool stream_drop : 1;  /* the streamed message goes nowhere */
    bool server_drop : 1;  /* the streamed server message goes nowhere */
    bool guard : 1;        /* nothing of the answer has left us */
    bool
        guard_failed : 1; /* the replica refused: swallow up to ReadyForQuery, then run elsewhere */
    bool second_try : 1;  /* this segment has been run before: it is not guarded again */
    bool syncing : 1;     /* the label's SQL runs */
    bool sync_failed : 1;
    bool skip_to_sync : 1; /* unattached, after an error of ours: drop up to Sync */
    bool skipping : 1;     /* the server skips up to Sync, and so do we */
    bool copy_in : 1;
    bool segment_cut : 1;  /* what was collected does not end in Query or Sync */
    bool segment_open : 1; /* bytes of a segment went out, its Sync or Query has not */
    bool flushed : 1;      /* a Flush of ours went out when REPLIES_MAX was reached */
    bool forget_names : 1; /* DISCARD ALL or DEALLOCATE ALL runs */
    bool flush_sent : 1;   /* ... and what it answers was asked for */
    bool
        sync_ignored : 1; /* a Sync went to a server that reads COPY data: nothing answers it ... */
    bool copy_flushed : 1; /* a Flush of ours went out: what follows depends on the answers */
    bool ddl_ran : 1;      /* the catalog may have changed; stale when the answer comes */
    bool ddl_seen : 1;     /* ... by DDL */
    bool alters : 1;       /* ... and tables: servers get their statements anew */
    bool copy_asked : 1;   /* ... unless the COPY had failed before: the server is being asked */
    bool copy_due : 1;     /* ... not yet: in the middle of a message */
    bool copy_told : 1;    /* ... and has answered the Sync of that question, or an earlier one */
    bool
        end_seen : 1; /* of the Query whose ReadyForQuery is next: its CommandComplete, or its error */
    bool fatal_seen : 1; /* the server's own FATAL was passed on */
    bool writes : 1;     /* something whose outcome matters is unanswered: 08007 */
    bool on_replica : 1;
    bool ssl_answered : 1;
    bool gss_answered : 1;
    bool console_busy : 1; /* the console's answer is still being put together */
    bool unnamed_kept : 1; /* the unnamed statement was too long to share: only the server has it */
    bool odd_strings : 1;  /* standard_conforming_strings is off */
    bool odd_encoding : 1; /* trail bytes of the client's encoding can be ASCII */
    bool own_read : 1;     /* a read that no budget holds back, see lease.c */
    bool token_cancelled : 1; /* the client cancelled while a token was waited for */
    bool floor_ignored : 1;   /* the segment's read may be older than what the client has seen */
    bool leaving : 1;         /* the process drains, and its turn has come */
    bool
        shed_along : 1; /* what was here when the segment began to wait that is shed now goes with it */
    uint8_t shed_why : 3; /* ... for this reason: enum shed_reason */
    bool illegal : 1;     /* a byte went out that ends the server's session, and with it this one */
    bool running : 1;     /* inside session_run(): it is not entered twice */
};

enum step { STEP_DONE, STEP_WAIT };

/* ---- session.c ---- */
/* A new client. It has a place among those who have not proved who they are (places.c). */
struct session *session_accept(struct worker *worker, int fd);
void session_state(struct session *session, enum session_state state);
/* Tell the client and close: FATAL. Any of detail and hint may be NULL. */
void session_fatal(struct session *s, const char *sqlstate, const char *message, const char *detail,
                   const char *hint);
/* The same for what does not depend on what was asked: while a commit is under way that may be done all the same, and it is told
 * 08007 (DESIGN.md section 5, promise 5). */
void session_end(struct session *s, const char *sqlstate, const char *message, const char *detail);
/* ERROR; the caller sees to ReadyForQuery. */
void session_error(struct session *s, const char *sqlstate, const char *message, const char *detail,
                   const char *hint);
void session_notice_ready(struct session *s); /* ReadyForQuery with tx_status, of ours */
void session_close(struct session *s, const char *why);
void session_cluster_changed(struct session *s, struct cluster *cluster);
struct cancel_wish;
/* False: there is nothing to wait for, wish->ended() will not be called. */
bool session_cancel(struct session *s, struct cancel_wish *wish);
/* What was in the way of a cancel is over. */
void session_cancel_due(struct session *s);
/* Something that the client has asked is going to be answered without another byte of it. */
bool session_owes(struct session *s);
/* The client sends no more: it stays for what it is owed. */
void session_ended(struct session *s);

/* ---- shutdown.c ---- */
/* It is told to leave when its turn comes ... */
void session_take_turn(struct session *s);
/* ... now, or at the end of its transaction. */
void session_leave(struct session *s);

/* ---- startup.c, auth.c ---- */
void startup_input(struct session *s);
void auth_start(struct session *s, const struct startup *startup);
void auth_input(struct session *s);
void auth_free(struct auth *auth);
void startup_stop(struct session *s);         /* it leaves: nobody waits for its cancel request */
void startup_finish(struct session *s);       /* proved: find the pools, greet */
void startup_greet(struct session *s);        /* the greeting is known: ready */
void startup_note_reading(struct session *s); /* from the greeting of its label */
/* The client was told this: how its SQL is to be read. */
void startup_note_status(struct session *s, struct slice name, struct slice value);

/* ---- places.c ---- */
/* Room for one more that has not proved who it is; one more even so; it has, or is gone. */
bool places_take_unproved(struct worker *worker);
void places_force_unproved(struct fleet *fleet);
void places_give_unproved(struct fleet *fleet);
/* A client's place: before its proof, and, as this user of s->set, after it. False: it was told. */
bool places_take_client(struct session *s, const struct startup *startup);
bool places_take(struct session *s, struct slice user);
void places_give(struct session *s);

/* ---- replication.c ---- */
/* The value of that startup parameter asks for a WAL sender. */
bool replication_asked(struct slice value);
/* Physical replication knows no database: the entry that stands for all of them, or NULL. */
const struct conf_database *replication_entry(struct session *s, struct slice value,
                                              struct cluster **cluster);
/* A login's own pool set. */
void replication_set(struct session *s, const struct startup *startup,
                     const struct conf_database *db, struct cluster *cluster, struct slice database,
                     struct slice user);
void replication_begin(struct session *s); /* proved: get the server */
void replication_to_server(struct session *s);
void replication_to_client(struct session *s);

/* ---- tx.c ---- */
void tx_init(struct session *s);
void tx_stop(struct session *s);
/* While a segment is collected. */
struct message;
void tx_segment_starts(struct session *s);
void tx_saw(struct session *s, const struct message *m, const struct sql_facts *facts);
/* The client holds a replica's server: its next segment is collected too. */
bool tx_looks_ahead(const struct session *s);
/* is_local: it is about settings of ours. */
enum step tx_held_segment(struct session *s, bool is_local);
enum route_tx tx_route(const struct session *s);
/* A refusal of the replica, or its loss, may be made good elsewhere. */
bool tx_may_rerun(const struct session *s);
/* Its replica may go while nothing is asked of it. */
bool tx_survives(const struct session *s);
/* By its own word, or by the session's. */
bool tx_is_read_only(const struct session *s);
void tx_attached(struct session *s);
void tx_begin_ahead(struct session *s);
bool tx_begin_answered(struct session *s, uint8_t type);
void tx_begin_fails(struct session *s);
void tx_idles(struct session *s);       /* the client may do as it likes: its idle timeouts begin */
void tx_ready(struct session *s);       /* ReadyForQuery came */
void tx_after_ready(struct session *s); /* ... and its server was given back, if it was */
void tx_refused(struct session *s);     /* no server: before the client's ReadyForQuery */
void tx_away(struct session *s);        /* the lease is over */
void tx_read(const struct session *s, struct slice sql, struct tx_statement *st);
void tx_forget(struct tx *tx); /* it has ended */

/* ---- tx_answer.c ---- */
/* The collected segment, of so many bytes, was answered here. */
bool tx_answers(struct session *s, size_t bytes);
/* The client is told that its transaction failed: until it ends it, this answers. */
enum step tx_failed_message(struct session *s);

/* ---- state.c ---- */
/* A statement is sent; values: the Bind that it comes with. */
void state_saw(struct session *s, const struct sql_facts *facts, struct slice text,
               struct slice values);
void state_saw_unread(struct session *s);         /* ... that nobody has read */
void state_pin(struct session *s, uint16_t left); /* enum left */
void state_reported(struct session *s);           /* ParameterStatus came */
/* ReadyForQuery: all that ran was a statement that only sets. */
bool state_saw_no_data(struct session *s);
void state_error(struct session *s);                 /* ErrorResponse */
void state_answered(struct session *s);              /* ReadyForQuery, and nothing is under way */
void state_tag(struct session *s, struct slice tag); /* CommandComplete */
/* The transaction has ended, and all is answered: the server has to be asked what is left. True: it has been. */
bool state_asks(struct session *s);
enum look_rc { LOOK_MORE, LOOK_NOTIFICATION, LOOK_ENDED, LOOK_STOP };
/* Its answer. NOTIFICATION: of another matter; STOP: not an answer to that question. */
enum look_rc state_look_message(struct session *s, uint8_t type, struct slice body);
void state_looked(struct session *s);
/* What the segment that was collected does, or is told, depends on what the server's session has done before: whether
 * there is a temporary schema yet, whether PL/pgSQL has been loaded. */
bool state_wants_new_server(struct session *s);
/* It has to be asked again before the client goes on; or has been asked too often, and the session is over. */
bool state_asks_again(struct session *s);
bool state_keeps_server(const struct session *s);
bool state_is_soiled(const struct session *s); /* no reset query cleans that server */
void state_discard(struct session *s);         /* DISCARD ALL: before its ReadyForQuery */
void state_lost(struct session *s);            /* the server is gone, or was given back */
void state_free(struct session *s);
/* What a statement's text is read with, as a part of its identity. */
struct slice state_parse_env(struct session *s);
const char *state_text(uint16_t left); /* of the first of them */

/* ---- restore.c ---- */
/* A Query that ends with a RESET of what the client's login had set is sent, with what sets that again. False: it is no
 * such Query, and nothing was sent. */
bool restore_query(struct session *s, const struct sql_facts *facts, struct slice text);
/* The same for a portal: something follows its Execute; that is sent. False: there was nothing to set. */
bool restore_follows(const struct session *s, const struct stmt *stmt);
bool restore_behind_execute(struct session *s, const struct stmt *stmt);

/* ---- client.c, client_collect.c, client_send.c ---- */
/* A whole message of the client's input. */
struct message {
    uint8_t type;
    size_t bytes;     /* with its head */
    const uint8_t *p; /* all of it; only the head if it is longer than MESSAGE_WHOLE_MAX */
};
enum found { FOUND_MESSAGE, FOUND_PART, FOUND_NOTHING, FOUND_BAD };
/* The one that begins `offset` bytes into the input. */
enum found client_look(struct session *s, size_t offset, struct message *m);
struct slice client_query_text(const struct message *m);
/* A Close, without a server: the name goes, and it is answered. */
void client_close_locally(struct session *s, const struct message *m);
void session_run(struct session *s);
/* The front of the input, n bytes, goes to the server by reference; or nowhere. */
void client_forward(struct session *s, size_t n);
void client_drop(struct session *s, size_t n);
/* The same for n bytes of which some have not come yet. */
void client_stream(struct session *s, size_t n, bool drop);
/* The next message is a Query or a FunctionCall: it goes nowhere. */
bool client_drop_query(struct session *s);
/* SQL of the segment that was collected: of its first message that has or names any. */
struct slice client_segment_text(struct session *s);
/* What a statement that now runs does to the session. */
void client_note_facts(struct session *s, const struct sql_facts *facts);
/* It must not run on the replica that this session holds. */
bool client_must_refuse(const struct session *s, const struct sql_facts *facts);
extern const char client_refusal_message[], client_refusal_hint[];

/* ---- answers.c ---- */
/* The collected segment needs no server: it has been answered. */
bool answers_segment(struct session *s, const struct collecting *c);
/* It would, but waits for one, and need not. */
bool answers_while_waiting(struct session *s, const struct collecting *c);

/* ---- statement*.c ---- */
void statement_parse(struct session *s, size_t n); /* the input begins with it */
/* One that is too long to be shared, of which `have` bytes are here. */
void statement_parse_long(struct session *s, const uint8_t *p, size_t have, size_t total);
/* It names a statement whose Parse, in an earlier segment, has not been answered yet. */
bool statement_is_unsettled(const struct session *s, uint8_t type, const uint8_t *p, size_t have);
void statement_bind(struct session *s, const uint8_t *p, size_t have, size_t total);
void statement_describe(struct session *s, const uint8_t *p, size_t n);
enum shape_rc { SHAPE_FITS, SHAPE_WAIT, SHAPE_CHANGED };
/* A Bind or Describe, of which `have` bytes are here: the client reads the rows by what it was told of them, maybe by another
 * server and before the table was altered. WAIT: this server has been asked; call again. */
enum shape_rc statement_shape(struct session *s, uint8_t type, const uint8_t *p, size_t have);
/* CHANGED: what PostgreSQL says in place of the answer. n: bytes of the message. */
void statement_stale(struct session *s, uint8_t type, const uint8_t *p, size_t n);
/* The answer to a Describe that is expected. */
void statement_described_types(struct session *s, struct slice body);
void statement_described(struct session *s, uint8_t type, struct slice body);
void statement_close(struct session *s, const uint8_t *p, size_t n);
/* A Parse that needs no server now: PostgreSQL has accepted this text here before, and Bind will bring it
 * to whatever server needs it. adopt: the name becomes true; else only look. */
bool statement_is_proven(struct session *s, const uint8_t *p, size_t n, bool adopt);
struct slice statement_text(const struct session *s, struct slice name); /* SLICE_NONE: not known */
/* The name becomes true without PostgreSQL's word: the text is one of ours. adopt: else only look. */
enum adopted { ADOPTED, ADOPT_TAKEN /* the name, or the Parse is not plain */, ADOPT_FULL };
enum adopted statement_adopt(struct session *s, const uint8_t *p, size_t n, bool adopt);
/* ERROR 53400: the client has as many names as client_statements_memory allows. */
void statement_say_full(struct session *s);
extern const char statement_full_message[];
/* An error in whose text the server's name of a statement stands: told with the client's. False: it is none. */
bool statement_tell_error(struct session *s, struct slice body, struct slice message);
/* An Execute of a PREPARE whose name SQL has, or the protocol: a Parse of it is under way. */
bool statement_execute_is_unsure(struct session *s, struct slice body);
/* An Execute is about to be sent. True: and then the other. */
bool statement_execute(struct session *s, struct slice body);
void statement_behind_execute(struct session *s);
void statement_before_sync(struct session *s);
void statement_behind_sync(struct session *s); /* a Sync was sent */
/* A Query that EXECUTEs, PREPAREs or DEALLOCATEs names of the protocol, or shows them. WAIT: they are on their way to
 * the server; call again. Then _ahead() and _behind() put around it what it needs. */
enum step statement_query(struct session *s, const struct sql_facts *facts, struct slice sql);
void statement_query_ahead(struct session *s);
void statement_query_behind(struct session *s);
/* The next of the statements that it runs, borrowed; *i: 0 for the first. NULL: no more. */
struct stmt *statement_query_runs(const struct session *s, unsigned *i);
void statement_query_failed(
    struct session *s); /* one of its names could not be brought: an error came */
void statement_query_tag(struct session *s); /* CommandComplete */
void statement_query_error(struct session *s, struct slice sqlstate);
void statement_query_drop(struct session *s);
/* The statement that is known by this name, borrowed; or NULL. */
struct stmt *statement_find(const struct session *s, struct slice name);
/* A Bind that fails at the server: its error is the place of ours. */
void statement_poison(struct session *s, enum reply reply);
/* The facts of a statement that a Bind or Describe names, or NULL. */
const struct sql_facts *statement_facts(struct session *s, struct slice name);
/* "cached plan must not change result type": the tables have changed under the statements. */
void statement_replan(struct session *s);
void statement_complete(struct session *s, enum reply reply); /* its reply came */
void statement_failed(struct session *s, enum reply reply);   /* an error came instead */
void statement_dropped(struct session *s, enum reply reply);  /* its reply will not come */
void statement_drop_pending(struct session *s);
void statement_guard_passed(struct session *s);
void statement_forget_all(struct session *s);
void statement_forget_unnamed(struct session *s); /* the client's; a server may still hold it */
struct sql_env statement_sql_env(const struct session *s);

/* ---- lease.c ---- */
enum step lease_for_segment(struct session *s);
/* What connect_query sets is there for clients that do not set it themselves, as soon as it is known. */
void lease_over_connect(struct session *s);
void lease_for_greeting(struct session *s);
void lease_after_sync(struct session *s);  /* the label's SQL has ended */
void lease_after_look(struct session *s);  /* the server has told what is left */
void lease_end_if_idle(struct session *s); /* when nothing is expected and nothing is half sent */
void lease_abandon(struct session *s);     /* the client leaves */
void lease_guard(struct session *s);       /* what is collected may run once more, elsewhere */
/* From the replica where its transaction is to the primary: what is collected runs there. */
enum step lease_move(struct session *s);
/* The replica refused or vanished: run on another node. was_sent: bytes of the segment had gone out. */
void lease_rerun(struct session *s, bool was_sent);
/* No server for the segment that waits: ERROR, its messages are dropped, ReadyForQuery. */
void lease_refuse(struct session *s, const char *sqlstate, const char *message, const char *detail,
                  const char *hint);
extern const struct waiter_ops lease_waiter_ops;

/* ---- deadline.c ---- */
void deadline_asked(struct session *s); /* of a server that owed nothing */
void deadline_ready(struct session *s); /* ReadyForQuery came, or was said by us */
void deadline_look(struct session *s);  /* set the timer */
void deadline_fires(struct session *s);

/* ---- shed.c ---- */
/* How long a segment may wait for a server. */
uint64_t shed_patience_ms(const struct session *s, enum want want);
/* pool_lease() gave none: WAIT, or there is no room, and the client has been told. */
enum step shed_or_wait(struct session *s);
/* The segment came with one that was shed, and has been refused with it. */
bool shed_along(struct session *s);
/* For struct waiter_ops. */
uint64_t shed_more_ms(struct waiter *waiter);
bool shed_waits_long(struct waiter *waiter);
void shed_refused(struct waiter *waiter, enum refusal why, const struct refused_text *text);

/* ---- floors.c ---- */
enum floor_wait {
    FLOOR_WAIT_NONE,
    FLOOR_WAIT_REACH, /* a read waits until a replica has got there */
    FLOOR_WAIT_MOVE,  /* ... until it may leave its replica for another one */
    FLOOR_WAIT_TOKEN  /* SHOW pgweir.lsn_token waits for the sample that settles the floor */
};
void floors_init(struct session *s);
void floors_stop(struct session *s);
void floors_answered(struct session *s); /* ReadyForQuery came from s->server */
/* What holds for this client now. */
enum conf_consistency floors_consistency(const struct session *s);
/* The replicas of the view that have replayed what this client has seen. */
uint32_t floors_readable(struct session *s, struct cluster_view view);
/* A read that its floor sends to the primary, or keeps where it is: true, it waits and will be routed
 * again. */
bool floors_wait(struct session *s, const struct route *route);
void floors_reached(struct session *s); /* a replica serves it */
/* A sample of this cluster has come. */
void floors_sampled(struct worker *worker, struct cluster *cluster);
/* Reads must show what this token (SHOW pgweir.lsn_token, or an LSN alone) stands for: SET
 * pgweir.min_lsn, a startup option, a comment. False: it is none. */
/* Something that this client's reads rely on is in the WAL up to here. */
void floors_raise(struct session *s, uint32_t timeline, uint64_t lsn);
bool floors_raise_token(struct session *s, struct slice token);
/* The client's own WAIT FOR LSN, which the primary gets: its reads show that much too. */
void floors_waits_for(struct session *s, struct slice sql);
/* What the client has seen, as a token. WAIT: not known yet; session_run() is called again when it is, or
 * when probe_timeout has passed: then LATE. */
enum floors_token {
    FLOORS_TOKEN_READY,
    FLOORS_TOKEN_WAIT,
    FLOORS_TOKEN_LATE,
    FLOORS_TOKEN_CANCELLED
};
enum floors_token floors_token(struct session *s, char text[FLOOR_TOKEN_BYTES]);
void floors_cancel_token(struct session *s); /* that wait is over */

/* ---- explain.c ---- */
/* The segment that was collected goes there. */
void explain_routed(struct session *s, const struct route *route);
/* A statement on a server that is held. */
void explain_held(struct session *s, const struct sql_facts *facts, struct slice text);

/* ---- guard.c ---- */
/* No replica can run this segment: one has said so before. */
bool guard_knows(const struct session *s);
/* An error of the replica, of whose answer nothing has left us. True: it runs elsewhere, the error is not told. */
bool guard_refused(struct session *s, const struct error_fields *f);
/* The replica's tables are others than those that the client has seen: the segment runs on the primary. */
void guard_elsewhere(struct session *s);
void guard_avoid_node(struct session *s); /* the replica of the lease failed: not there again */
void guard_error_of_primary(struct session *s, const struct error_fields *f);

/* ---- catalogs.c ---- */
/* sql_facts_init(&s->segment), and by which catalog it is going to be classified. */
void catalogs_begin_segment(struct session *s);
/* Before a route: if the catalog has changed since the segment was begun, it goes to the primary. Names that the
 * catalog does not know let it be looked at. */
void catalogs_check_segment(struct session *s);
/* A statement is sent: if it can change the catalog, its answer makes what is loaded stale. */
void catalogs_note(struct session *s, const struct sql_facts *facts);
/* A command has been answered; ends: its transaction too, or nobody will know. */
void catalogs_answered(struct session *s, bool ends);

/* ---- reply.c ---- */
void reply_push(struct session *s, enum reply reply);
bool reply_will_be_ready(const struct session *s);              /* a ReadyForQuery is expected */
void reply_say(struct session *s, const void *bytes, size_t n); /* now, to the client */
void reply_input(struct session *s);
void reply_say_fakes(struct session *s); /* what we have to say ourselves, when it is its turn */
void reply_guard_passed(struct session *s);
/* The server is to answer what it has: a Flush of ours. */
void reply_ask(struct session *s);
/* A COPY IN has got Syncs, and it is not known which of them it has thrown away. */
void reply_ask_copy(struct session *s);
enum reply reply_drop_segment(struct session *s);

#endif
