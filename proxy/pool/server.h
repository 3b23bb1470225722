/* proxy/pool/server.h: a connection that we opened to PostgreSQL.
 *
 *   DIALING --connected--> LOGIN --ready--> IDLE <--------------- CLEANING
 *                                            | lease        ready ^   |
 *                                            v                    |   |
 *                                          LEASED --release-------'   |
 *   IDLE --quiesce--> MOVING --(another worker)--> IDLE               |
 *   any --lost, failed, too old, in doubt--> CLOSING --last completion--> freed
 *
 * CLEANING ends what a client left behind (drain), runs ROLLBACK or the reset query, or waits for cancels that are on
 * their way to this server.
 *
 * Owns    its conn, its status, its label and statements. Its pool owns it; a lease lends it.
 * Rule    any doubt about what it will say next closes it: server_close().
 * Source  PostgreSQL documentation, "Message Flow", "Start-up".
 * Limits  SERVER_STATUS_MAX reported settings; messages of a login are bounded by auth.h.
 */
#ifndef POOL_SERVER_H
#define POOL_SERVER_H

#include "proxy/io/conn.h"
#include "proxy/pool/budget.h"
#include "proxy/pool/cluster.h"
#include "proxy/pool/drain.h"
#include "proxy/pool/gate.h"
#include "proxy/pool/kdf.h"
#include "proxy/pool/label.h"
#include "proxy/pool/stmt.h"
#include "proxy/pool/told.h"
#include "proxy/wire/auth.h"
#include "proxy/wire/scram.h"

#define SERVER_STATUS_MAX 48
#define SERVER_GREETING_MAX 32768 /* what a client can have in its settings, twice over */

#define SERVER_LEAVE_MS 1000
#define SERVER_CHORE_MS 10000 /* for the answer to what pgweir asks on its own account */
#define SERVER_RESTED_MS 1000 /* unused for so long: its link may have died without a word to us */
#define SERVER_FIRST_MS \
    1000 /* for the first answer after that: what waits for it can as well go elsewhere */

enum server_state {
    SERVER_DIALING,
    SERVER_LOGIN,
    SERVER_IDLE,
    SERVER_LEASED,
    SERVER_CLEANING,
    SERVER_MOVING,
    SERVER_CLOSING,
    SERVER_STATE_N
};

#define SEQUENCES_OF_MANY UINT64_MAX

#define CLEAN_ROLLBACK 1
#define CLEAN_RESET 2 /* the reset query */

struct server;
/* What a lessee hears. Called in step 4 of a turn. */
struct lessee_ops {
    void (*on_input)(void *lessee, struct server *server);   /* bytes in server->conn->in */
    void (*on_drained)(void *lessee, struct server *server); /* more may be sent */
    void (*on_lost)(void *lessee, struct server *server);    /* it ended; the lease is over */
};

struct server_status {
    char *name, *value;
};

struct server_login; /* while DIALING and LOGIN */

/* What a server counts in: see limits.c. */
struct units {
    struct budget *of[BUDGET_LIMITS]; /* references; NULL: not held */
    struct budget *evicted_for;       /* it is being closed to make room there */
    bool leaving;                     /* counted as on its way out */
};

struct server {
    struct list node; /* in its pool's list of its state */
    struct pool *pool;
    struct gate *gate; /* of its set */
    struct conn *conn;
    const struct lessee_ops *lessee_ops;
    void *lessee;
    struct server_login *login;
    struct drain *drain; /* CLEANING: its client left in the middle of something */
    struct units units;
    struct budget *spill;  /* of which it holds a unit, see spill.c; NULL: none */
    struct label *label;   /* in force; NULL: not known */
    struct stmt_set stmts; /* prepared on it under our names */
    struct told *told;     /* what it reports; NULL: pool_told() looks */
    uint64_t born_ms, idle_ms;
    uint64_t asked_ns; /* when the read was sent whose first byte is awaited; 0: none is */
    int64_t instance;  /* its postmaster's start, us; 0: not asked */
    struct tx_modes
        tx; /* of its role in its database, as its login told; nothing said: not asked */
    uint32_t backend_pid;
    uint32_t epoch; /* of its gate, when it was opened */
    uint16_t key_n;
    uint16_t cancels; /* cancel requests on their way to it */
    uint16_t status_n;
    uint8_t state;    /* enum server_state */
    uint8_t clean;    /* CLEANING: what is to be done, CLEAN_ROLLBACK and the like */
    bool tls;         /* the connection is encrypted */
    bool leaving;     /* CLEANING: it was told to end, see server_leave() */
    bool stale_stmts; /* it has some that we do not know of: DEALLOCATE ALL before the next lease */
    bool resetting;   /* CLEANING, and a query of ours runs */
    bool checking;    /* ... because of server_check_query */
    bool doubted;     /* it had rested, and has to answer before SERVER_FIRST_MS are over */
    bool checked;     /* it has answered that since it was used last */
    bool stale;       /* counted in gate->stale_n */
    bool in_recovery;
    struct timer chore;    /* runs while such an answer is awaited */
    uint64_t chore_ms;     /* ... for so long */
    uint32_t age_random;   /* its share of the spread of server_lifetime */
    uint32_t lease_serial; /* grows with each lease */
    uint32_t work;         /* ... each time that all which was asked has been answered */
    uint64_t
        sequences_of; /* the one client that may have used nextval() here; 0: none, SEQUENCES_OF_MANY */
    uint64_t
        kept_ms; /* up to then others take another server, if they can: it may ask for currval() */
    struct server_status status[SERVER_STATUS_MAX];
    uint8_t key[AUTH_KEY_MAX];
    struct node_address address; /* of its postmaster; its host's name may mean another by now */
    unsigned address_edition;    /* ... and then it is not lent again */
};

/* Open one for this pool; it gets these units. */
void server_dial(struct pool *pool, struct units *units);
void server_close(struct server *server, const char *why);
/* The same for one that nobody uses: it is told, and its units are free when PostgreSQL has ended its session, so that
 * PostgreSQL never sees more of them than the limits allow. At most SERVER_LEAVE_MS. */
void server_leave(struct server *server, const char *why);
/* This client may use nextval() now. */
void server_note_sequences(struct server *server, uint64_t client);
/* We ask something on our own account (reset query, settings): an answer that does not come within
 * SERVER_CHORE_MS ends the server. */
void server_chore_begin(struct server *server);
void server_chore_end(struct server *server);
/* That is the first thing after its rest, and nothing was asked of it before: it has SERVER_FIRST_MS for the answer. If
 * none comes, others that have rested in its pool are asked for a word, too. */
void server_chore_first(struct server *server);

/* Handle ParameterStatus: remember it. False: malformed or too many. */
bool server_note_status(struct server *server, struct slice body);
/* All ParameterStatus messages, for a client's greeting. */
void server_greeting(const struct server *server, struct put *out);
const char *server_status_value(const struct server *server, const char *name);

/* Socket options of [pgweir] for a TCP socket, client's or server's. */
struct conf;
void server_tune_socket(int fd, const struct conf *conf);

/* Its conn's ops; a moved server gets a new conn with them. */
extern const struct conn_ops server_conn_ops;
/* ---- inside pool/ ---- */
bool server_has_rested(const struct server *server);
void server_free(struct server *server);
void server_login_start(struct server *server);
void server_login_connected(struct server *server);
void server_login_input(struct server *server);
void server_login_tls(struct server *server, bool ok);
void server_login_free(struct server_login *login);
void server_login_failed(struct server *server, const char *sqlstate, const char *message);

#endif
