/* router/tx.h: transactions that are begun before a server is known: what their statements say, where
 * they may run, and what becomes of them.
 *
 * Pure      no I/O, no allocation, no clock, no globals. Linear in the text, no recursion.
 * Parser    tx_parse() knows exactly PostgreSQL's grammar of one statement. What it does not know is
 *           TX_OTHER, and left to PostgreSQL.
 * Modes     struct tx_modes holds what was said; 0 is "not said". The last word counts, then what the
 *           session says, then what the role or the database says, then PostgreSQL's own default.
 * States    enum tx_state is written by tx_step() only.
 */
#ifndef ROUTER_TX_H
#define ROUTER_TX_H

#include "router/classify.h"

/* ---- modes ---- */

enum tx_isolation {
    TX_ISOLATION_NONE,
    TX_READ_UNCOMMITTED, /* PostgreSQL treats it as READ COMMITTED */
    TX_READ_COMMITTED,
    TX_REPEATABLE_READ,
    TX_SERIALIZABLE,
    TX_ISOLATION_N
};
enum tx_access { TX_ACCESS_NONE, TX_READ_ONLY, TX_READ_WRITE, TX_ACCESS_N };
enum tx_deferrable { TX_DEFERRABLE_NONE, TX_DEFERRABLE, TX_NOT_DEFERRABLE, TX_DEFERRABLE_N };

struct tx_modes {
    uint8_t isolation, access, deferrable;
};

/* What is said in `over` counts, the rest is from `under`. */
struct tx_modes tx_modes_over(struct tx_modes over, struct tx_modes under);
/* One of default_transaction_isolation, default_transaction_read_only, default_transaction_deferrable.
 * False: another name, or a value that it does not take. */
bool tx_modes_set(struct tx_modes *modes, struct slice name, struct slice value);

/* ---- statements ---- */

enum tx_statement_kind {
    TX_OTHER,
    TX_BEGIN,       /* BEGIN, START TRANSACTION: modes */
    TX_COMMIT,      /* COMMIT, END */
    TX_ROLLBACK,    /* ROLLBACK, ABORT */
    TX_SET,         /* SET TRANSACTION, SET [LOCAL] transaction_...: modes */
    TX_SET_SESSION, /* SET SESSION CHARACTERISTICS, SET default_transaction_...: modes, and reset */
};

enum { TX_RESET_ISOLATION = 1, TX_RESET_ACCESS = 2, TX_RESET_DEFERRABLE = 4 };

struct tx_statement {
    uint8_t kind;  /* enum tx_statement_kind */
    bool chain;    /* COMMIT or ROLLBACK: AND CHAIN */
    bool start;    /* BEGIN: it said START TRANSACTION, and so does its tag */
    uint8_t reset; /* TX_SET_SESSION: modes that go back to their default, TX_RESET_* */
    struct tx_modes modes;
};

void tx_parse(struct slice sql, bool standard_conforming_strings, struct tx_statement *out);

#define TX_BEGIN_MAX 80
/* BEGIN with these modes. Returns its length, without the NUL. */
size_t tx_begin_text(struct tx_modes modes, char text[TX_BEGIN_MAX]);

/* ---- where ---- */

enum tx_place {
    TX_ON_PRIMARY,
    TX_SERIALIZABLE_ON_PRIMARY,
    TX_ON_REPLICA, /* READ ONLY: all of it on one node */
    TX_ON_ANY, /* READ COMMITTED for sure, READ WRITE only because nothing was said: on a replica up
                      to the first statement that is not a read */
};
/* said: by the transaction itself. session: what holds when it says nothing. */
enum tx_place tx_place(struct tx_modes said, struct tx_modes session, bool optimistic);

/* What a READ ONLY transaction on a replica does with a statement. */
enum tx_fate {
    TX_STAYS,       /* PostgreSQL answers the same there, its own error included */
    TX_MOVES,       /* the primary might do it: there, if the transaction can move; else it stays */
    TX_PRIMARY_ONLY /* a replica cannot, or does it wrongly: there, if it can move; else refused */
};
enum tx_fate tx_fate(const struct sql_facts *facts);
/* It leaves state in the transaction that would be lost by moving. */
bool tx_leaves_state(const struct sql_facts *facts);

/* ---- states ---- */

enum tx_state {
    TX_NONE,     /* no transaction that is known here */
    TX_DEFERRED, /* the client was told that it began; no server knows */
    TX_OPEN,     /* a server runs it */
    TX_FAILED,   /* it was refused before a server knew it; the client has to end it */
    TX_STATE_N
};

enum tx_event {
    TX_EV_BEGIN,    /* a lone BEGIN, no server held */
    TX_EV_COMMIT,   /* a lone COMMIT or END */
    TX_EV_ROLLBACK, /* a lone ROLLBACK or ABORT */
    TX_EV_OTHER,    /* any other statement */
    TX_EV_SENT,     /* our BEGIN went to a server, ahead of a statement */
    TX_EV_BEGUN,    /* a server's ReadyForQuery says that it is in a transaction */
    TX_EV_ENDED,    /* ... that it is not */
    TX_EV_AWAY,     /* it leaves its server, for another one */
    TX_EV_REFUSED,  /* no server for it, or the server did not begin it */
    TX_EVENT_N
};

enum tx_answer {
    TX_NOT_POSSIBLE, /* our own mistake */
    TX_QUIET,
    TX_TO_SERVER, /* not ours to answer */
    TX_SAYS_BEGIN,
    TX_SAYS_COMMIT,
    TX_SAYS_ROLLBACK,
    TX_SAYS_ABORTED /* ERROR 25P02 */
};

/* The only writer of enum tx_state. TX_NOT_POSSIBLE leaves the state as it was. */
enum tx_answer tx_step(uint8_t *state, enum tx_event event);
/* The status of ReadyForQuery while no server is held. */
char tx_status(enum tx_state state);

#endif
