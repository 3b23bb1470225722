/* router/classify.h: what SQL text does, as far as its words prove it.
 *
 * Pure      no I/O, no allocation, no clock, no globals. Linear in the text, no recursion.
 * Promise   SQL_F_READ is set only when every statement is proven to write nothing, lock nothing,
 *           take no session state and call only built-in functions known as harmless. Anything not
 *           understood is SQL_UNKNOWN.
 * Catalog   what no word can show (views, row security, unlogged and foreign tables, a user's
 *           functions, types and operators) is asked of env->catalog, if there is one.
 */
#ifndef ROUTER_CLASSIFY_H
#define ROUTER_CLASSIFY_H

#include "base/slice.h"
#include "router/catalog.h"
#include "router/reasons.h"

struct sql_env {
    bool standard_conforming_strings;
    bool ascii_trail_bytes; /* SJIS BIG5 GBK UHC GB18030 JOHAB: only a text of ASCII can be read */
    const struct catalog *catalog; /* NULL: a relation is a permanent table, a function that is not
                                      built in writes */
};

enum sql_class {
#define CLASS(name, text, replica, example) SQL_##name,
#include "router/classes.def"
#undef CLASS
    SQL_CLASS_N
};

/* What a text holds. Read a segment through sql_facts_join(): READ, EMPTY, BEGIN, TX_END and
 * DISCARD_ALL are not joined by a plain OR. */
enum sql_flag {
    SQL_F_READ = 1 << 0,     /* every statement may run on a replica; an empty text too */
    SQL_F_EMPTY = 1 << 1,    /* no statement at all */
    SQL_F_MULTI = 1 << 2,    /* more than one statement */
    SQL_F_NOT_READ = 1 << 3, /* holds something that is neither a proven read nor transaction
                                control that a READ ONLY transaction on a replica may hold */
    SQL_F_BEGIN = 1 << 4,    /* leaves a transaction open if it succeeds (also ... AND CHAIN) */
    SQL_F_BEGIN_READ_ONLY =
        1 << 5,               /* its first statement is BEGIN ... READ ONLY, not SERIALIZABLE */
    SQL_F_TX_END = 1 << 6,    /* ends with COMMIT, END, ROLLBACK, ABORT or PREPARE TRANSACTION */
    SQL_F_COMMIT = 1 << 7,    /* holds a COMMIT, END, PREPARE TRANSACTION or COMMIT PREPARED */
    SQL_F_SAVEPOINT = 1 << 8, /* SAVEPOINT, RELEASE or ROLLBACK TO */
    SQL_F_TX_STATE = 1 << 9,  /* SET LOCAL, SET TRANSACTION, SET CONSTRAINTS */

    SQL_F_SESSION = 1 << 10, /* changes or takes state of the session: any of the next group */
    SQL_F_SET = 1 << 11,     /* ... SET or RESET of a setting, role included: can be replayed */
    SQL_F_SET_FUNCTION =
        1 << 12,           /* ... set_config(), not with the literal true: can be read back */
    SQL_F_PIN = 1 << 13,   /* ... anything else: only keeping the server helps */
    SQL_F_TAINT = 1 << 14, /* ... setseed(), LOAD: nothing undoes it, the server must be closed */

    SQL_F_ADVISORY = 1 << 15,       /* an advisory lock function of any kind: never on a replica */
    SQL_F_TEMP = 1 << 16,           /* creates or names a temporary object (PIN too) */
    SQL_F_LISTEN = 1 << 17,         /* LISTEN (PIN too), UNLISTEN */
    SQL_F_CURSOR = 1 << 18,         /* DECLARE, FETCH, MOVE, CLOSE; WITH HOLD has PIN too */
    SQL_F_PREPARE = 1 << 19,        /* SQL-level PREPARE (PIN too) */
    SQL_F_EXECUTE = 1 << 20,        /* SQL-level EXECUTE */
    SQL_F_DEALLOCATE = 1 << 21,     /* DEALLOCATE name */
    SQL_F_DEALLOCATE_ALL = 1 << 22, /* DEALLOCATE ALL */
    SQL_F_DISCARD = 1 << 23,        /* DISCARD of any kind */
    SQL_F_DISCARD_ALL = 1 << 24,    /* exactly DISCARD ALL, nothing else */
    SQL_F_COPY_IN = 1 << 25,        /* COPY ... FROM STDIN: the client will send CopyData */
    SQL_F_BODY = 1 << 26,           /* DO, CALL: a body that we cannot see */
    SQL_F_DDL = 1 << 27,            /* the catalog may change */
    SQL_F_TX_CLOSED = 1 << 29,      /* its last transaction control closed the transaction */
    SQL_F_ALONE = 1 << 28,          /* PostgreSQL refuses it in a transaction block (VACUUM ...) */
    SQL_F_SEQUENCE = 1 << 30,       /* currval(), lastval() (PIN too) */
    SQL_F_HIDING =
        1U << 31 /* may leave state in the session: by a user's function, or as it was not read */
};

struct sql_facts {
    uint8_t class;        /* enum sql_class: the strictest over all statements */
    uint8_t reason;       /* enum route_reason that explains the class */
    uint16_t statements;  /* empty ones not counted; stops at UINT16_MAX */
    uint32_t flags;       /* enum sql_flag */
    uint64_t fingerprint; /* of the tokens; literals and comments left out, lists of them folded */
};

void sql_classify(struct slice sql, const struct sql_env *env, struct sql_facts *out);

/* The same without the lane for everyday statements (quick.h): for tests, which hold one against the other. */
void sql_classify_in_full(struct slice sql, const struct sql_env *env, struct sql_facts *out);

/* The types that a Parse declares for parameters, 4 bytes each as on the wire: one may run a user's function. */
void sql_facts_declare(struct sql_facts *facts, struct slice oids, const struct catalog *catalog);

/* The facts of no text at all: where a join over a segment starts. */
void sql_facts_init(struct sql_facts *facts);

/* Make *into the facts of "into; more", as for the statements of one segment in order. */
void sql_facts_join(struct sql_facts *into, const struct sql_facts *more);

const char *sql_class_text(enum sql_class class);
const char *sql_class_example(enum sql_class class);
bool sql_class_on_replica(enum sql_class class);

#endif
