/* proxy/session/statement_inside.h: what the files of prepared statements share. Not for others.
 *
 * Files   statement.c the client's messages, statement_names.c what its names mean, statement_server.c what the server
 *         gets for that, statement_shape.c what rows are, statement_sql.c the same names in SQL
 *         that the protocol prepares, statement_query.c ... in queries.
 */
#ifndef SESSION_STATEMENT_INSIDE_H
#define SESSION_STATEMENT_INSIDE_H

#include "proxy/session/session.h"
#include "router/deallocate.h"

#define OUR_PREFIX "_pgweir_"
#define POISON "_pgweir_none"
#define TAKEN "_pgweir_taken"
#define ITSELF "_pgweir_itself"
#define NOTHING_PARAMS_MAX 64

/* ---- statement.c ---- */
/* What this name costs its client. */
uint64_t statement_cost(struct slice name, const struct stmt *stmt);
/* For one more of so many bytes of text and types, more or less. */
bool statement_has_room(const struct session *s, struct slice name, size_t body_bytes);

/* ---- statement_names.c ---- */
enum { FOR_CLIENT = 1, ON_SERVER = 2, UNNAMED_SLOT = 4 };
/* reply_push() of one that has a change behind it; what: of these. */
void statement_expect(struct session *s, enum reply reply, struct slice name, struct stmt *stmt,
                      int what);
static inline struct slice pending_name(const struct pending *p)
{
    return (struct slice){p->name, p->name_n};
}
/* What Closes ahead in this segment will free of the client's names. */
uint64_t statement_freed_ahead(const struct session *s);
void statement_set_name(struct session *s, struct slice name, struct stmt *stmt);
/* What the name means hangs on an answer that is under way. */
bool statement_is_pending(const struct session *s, struct slice name);
/* The server may have names by SQL's PREPARE, which the protocol does not know. */
static inline bool statement_sql_prepared(const struct session *s)
{
    return ((s->state_of.left | s->state_of.touched) & LEFT_PREPARED) != 0;
}
/* The server has it once all that was sent has been answered. */
bool statement_on_server(struct session *s, const struct stmt *stmt);
/* What the server's unnamed statement is then, if we know. */
const struct stmt *statement_server_unnamed(const struct session *s);

/* ---- statement_server.c ---- */
void statement_put_head(uint8_t *p, uint8_t type, size_t body_bytes);
void statement_send_close(struct session *s, struct slice name);
/* A Close of ours that may fail is on its way: the next Parse of that name closes it again. */
bool statement_may_be_there(const struct session *s, const struct stmt *stmt);
void statement_send_parse(struct session *s, struct slice name, const struct stmt *stmt);
void statement_close_name(struct session *s, struct slice name); /* and its answer is swallowed */
void statement_send_describe(struct session *s, struct slice name);
void statement_close_on_server(struct session *s, struct stmt *stmt);
void statement_make_room(struct session *s);
void statement_drop_stale(struct session *s, struct stmt *stmt);
void statement_ensure_named(struct session *s, struct stmt *stmt);
void statement_parse_unnamed_here(struct session *s, struct stmt *stmt);
bool statement_name_is_ours(struct slice name);
/* The name at the server for the client's name, of a statement that is there now. */
struct slice statement_server_name(struct session *s, struct slice name, char buf[STMT_NAME_MAX]);
bool statement_tx_failed(const struct session *s);
void statement_send_nothing(struct session *s, unsigned params);
void statement_take_name(struct session *s, struct slice name);
void statement_send_poison(struct session *s, enum reply reply, struct slice name);

/* ---- statement_shape.c ---- */
void statement_note_shape(struct session *s,
                          const struct pending *p); /* the answer to a Describe */

/* The statement, called so at the server, was parsed there just now: what its rows are by then. */
void statement_learn(struct session *s, struct slice name, struct slice ours, struct stmt *stmt);
/* The client has the name without PostgreSQL's word, or has not been told: the server gets the statement anew. */
bool statement_is_first_use(const struct session *s, struct slice name, const struct stmt *stmt);

/* ---- statement_sql.c ---- */
/* What the server gets in place of what the client prepared; with a reference. */
struct stmt *statement_at_server(struct session *s, struct stmt *stmt);
/* It is bound to this portal; NULL: a name that is not known. */
void statement_bind_sql(struct session *s, struct slice portal, struct stmt *stmt);
void statement_drop_bound_sql(struct session *s);
/* What an EXECUTE that is bound will run, borrowed; NULL: it is none. */
struct stmt *statement_runs_another(struct session *s, const struct sql_facts *facts,
                                    struct slice text);

#endif
