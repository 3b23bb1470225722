/* tests/unit/fake_pg.h: PostgreSQL nodes that live in a sim and obey its seed.
 *
 * What    far ends of the connections that pgweir dials: startup (trust), simple and extended queries,
 *         COPY, prepared statements, a settings variable, transactions, cancel requests, sudden ends.
 * Rows    a SELECT, and an INSERT ... RETURNING, answer one row: "sql|parameter|work_mem|application_name".
 *         So a client sees whose statement ran, and under whose settings.
 * Checks  an INSERT runs once at most; a write never runs on a replica; INSERT INTO tx runs in a transaction, and
 *         any other outside.
 * Like PostgreSQL, replies of the extended protocol stay in the buffer up to Sync, Flush or an error.
 */
#ifndef TEST_FAKE_PG_H
#define TEST_FAKE_PG_H

#include "tests/unit/port_sim.h"

#define FAKE_INSERTS_MAX 4096
#define FAKE_CLIENTS_MAX 16

struct fake_pg;

struct fake_pg *fake_pg_new(struct sim *sim, uint32_t fault_per_mille);
/* The far end of a connect to this node (of a cancel request: any number). */
void fake_pg_adopt(struct fake_pg *pg, int fd, unsigned node);
/* Every backend reads, works and writes a little. */
void fake_pg_step(struct fake_pg *pg);
void fake_pg_calm(struct fake_pg *pg); /* no more faults */
void fake_pg_free(struct fake_pg *pg);
/* INSERT of 'i<client>_<n>' has run. */
bool fake_pg_inserted(const struct fake_pg *pg, unsigned client, unsigned n);

/* ---- bytes and messages, for both sides ---- */
struct bytes {
    uint8_t *p;
    size_t n, cap;
};
void bytes_add(struct bytes *b, const void *p, size_t n);
void bytes_drop(struct bytes *b, size_t n);
/* One message of type (0: none, a startup packet) whose body is n bytes. */
void bytes_message(struct bytes *b, char type, const void *body, size_t n);
/* The same from a format: s string with NUL, h u16, w u32, b one byte, z bytes without NUL. */
void bytes_format(struct bytes *b, char type, const char *format, ...);
/* The whole message at the front: its length with head, or 0. */
size_t bytes_whole(const struct bytes *b, bool startup);

#endif
