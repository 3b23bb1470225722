/* tests/unit/port_sim.h: sockets, time and a kernel that live in memory and obey a seed.
 *
 * What    a sim is a little world: virtual time, connected sockets, ports. A port of it behaves
 * like the io_uring port in every way that its contract (proxy/io/port.h) allows: short reads and
 *         sends, any order of completions, delays, ENOBUFS, EAGAIN, multishots that end early,
 *         cancels that come first, last or too late, events of a dead generation.
 * Use     give one end of sim_pair() to conn_new() and drive the other by sim_write(), sim_read().
 *         A conn_connect() ends at sim_dialled(); sim_dial() knocks at a sim_listen() socket.
 *         Whatever fails prints the seed; PGWEIR_SEED=n replays it.
 * Threads none: all ports of a sim run in one thread, one after the other.
 * Errors  an illegal use of a port (double return of a buffer, an operation on a closed socket, a
 *         socket closed under an operation) aborts.
 */
#ifndef TEST_PORT_SIM_H
#define TEST_PORT_SIM_H

#include "proxy/io/port.h"

struct sim;

struct sim_config {
    uint64_t seed;
    bool deaf_recv;       /* our own shutdown() ends no recv: see close_now() in conn.c */
    bool calm;            /* no faults, no delays: everything at once and in order */
    uint32_t room_bytes;  /* of a socket's receive queue; 0: 64 KiB */
    uint32_t refused_pct; /* of connects that fail */
    uint32_t small_bytes, small_count, bulk_bytes, bulk_count; /* buffers; 0: usual ones */
};

struct sim *sim_new(const struct sim_config *config);
/* Every port must be destroyed. */
void sim_free(struct sim *sim);
/* PGWEIR_SEED, or fallback. */
uint64_t sim_seed(uint64_t fallback);
/* 200, or PGWEIR_SEEDS; 1 when PGWEIR_SEED is set. */
uint64_t sim_seed_count(void);

struct port *sim_port(struct sim *sim);
/* All operations ended but those on descriptors of the real kernel, and all buffers at home. */
bool sim_port_is_idle(const struct port *port);

uint64_t sim_now_ms(const struct sim *sim);
void sim_pass_ms(struct sim *sim, uint64_t ms);
uint32_t sim_random(struct sim *sim, uint32_t below);
/* n bytes at random, mostly small or mostly whole, 1..max. */
uint32_t sim_chunk(struct sim *sim, uint32_t max);

/* Two connected ends. */
void sim_pair(struct sim *sim, int fd[2]);
/* The other end. */
int sim_peer(const struct sim *sim, int fd);
/* The far end of the oldest connect that nobody asked for yet, or -1. */
int sim_dialled(struct sim *sim);
int sim_listen(struct sim *sim);
/* Connect to a listening socket: our end. */
int sim_dial(struct sim *sim, int listen_fd);

/* What a peer does, at once and without a port. */
size_t sim_write(struct sim *sim, int fd, const void *bytes, size_t n); /* what found room */
size_t sim_room(const struct sim *sim, int fd); /* how much a sim_write() would take now */
size_t sim_read(struct sim *sim, int fd, void *bytes, size_t n);
bool sim_ended(const struct sim *sim, int fd); /* all was read, and no more comes */
bool sim_is_reset(const struct sim *sim,
                  int fd);               /* by the other side: what was sent last may be lost */
void sim_shut(struct sim *sim, int fd);  /* no more bytes from here */
void sim_reset(struct sim *sim, int fd); /* gone with a reset */
void sim_close(struct sim *sim, int fd);
uint32_t sim_sockets(const struct sim *sim); /* open ones */

#endif
