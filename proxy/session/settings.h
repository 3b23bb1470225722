/* proxy/session/settings.h: settings of ours, pgweir.*, as a client sees them.
 *
 * What    SET, RESET and SHOW of them are answered here, with PostgreSQL's words and its rules about transactions:
 *         SET LOCAL ends with the transaction, SET is undone when it is rolled back. No server is taken; one that
 *         is held sees nothing of it, except an error, which is raised there so that its transaction fails.
 * Order   an answer of ours waits until all that was asked before has been answered.
 * Owns    a session's struct settings, made by the first statement that needs it; NULL means that nothing was set.
 * Not     set_config() and current_setting(): they are functions, and PostgreSQL's.
 * New     a row in the table of settings.c.
 */
#ifndef SESSION_SETTINGS_H
#define SESSION_SETTINGS_H

#include "base/slice.h"
#include "router/classify.h"

struct session;
struct message;

enum setting_id {
    SETTING_ROUTE,
    SETTING_CONSISTENCY,
    SETTING_MIN_LSN,   /* raises the floor; a ROLLBACK does not lower it */
    SETTING_LSN_TOKEN, /* SHOW only */
    SETTING_QUEUE_TIMEOUT,
    SETTING_READ_QUEUE_TIMEOUT,
    SETTING_WRITE_QUEUE_TIMEOUT,
    SETTING_N
};

void settings_free(struct session *s);

/* The value that the client has set: the number of its word in the table. False: it has set none. */
bool settings_get(const struct session *s, enum setting_id id, uint8_t *word);
/* How long it may wait for a server: read_queue_timeout or write_queue_timeout, whoever has set it. */
uint64_t settings_queue_timeout_ms(const struct session *s, enum setting_id id);

/* A startup parameter of ours. False: the client was told, and the session closes. */
bool settings_startup(struct session *s, struct slice name, struct slice value);

/* A statement of this class may be of ours: look at its text. */
static inline bool settings_may_be(const struct sql_facts *facts)
{
    return facts->class == SQL_SHOW || facts->class == SQL_SESSION_STATE ||
           facts->class == SQL_TX_STATE ||
           (facts->flags & SQL_F_MULTI && facts->flags & (SQL_F_SET | SQL_F_TX_STATE));
}

/* ---- without a server: a segment is collected ---- */

/* The message makes use of a statement of ours; facts are the statement's. */
bool settings_is_ours(struct session *s, const struct message *m, const struct sql_facts *facts);
/* An Execute or Describe of a portal that stands for one. */
bool settings_uses_portal(struct session *s, const struct message *m);
/* Nothing else is in the first `bytes` bytes of the input: answer them. */
void settings_answer(struct session *s, size_t bytes);

/* ---- with a server ---- */

enum settings_rc {
    SETTINGS_PASS, /* not ours: send it */
    SETTINGS_WAIT, /* ours, and its turn has not come: look again when more has been answered */
    SETTINGS_DONE  /* answered and dropped */
};
enum settings_rc settings_query(struct session *s, const struct message *m,
                                const struct sql_facts *facts);
/* Parse, Bind, Describe or Execute, all of it at m->p. */
enum settings_rc settings_message(struct session *s, const struct message *m);
/* The error that stands for the poison's, which has come. */
void settings_say_error(struct session *s);

/* ---- transactions ---- */

/* The tag of a CommandComplete matters: something that the open transaction may undo was set. */
bool settings_watch(const struct session *s);
void settings_tag(struct session *s, struct slice tag);
void settings_failed(struct session *s);    /* an error came */
void settings_savepoint(struct session *s); /* a statement that handles savepoints runs */
void settings_ready(struct session *s);     /* ReadyForQuery: s->tx_status */
void settings_discard(struct session *s);   /* DISCARD ALL */

#endif
