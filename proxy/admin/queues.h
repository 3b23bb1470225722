/* proxy/admin/queues.h: SHOW QUEUES: of each database, user and role who waits for a server, and what became of those
 * who did, since the pool was made; over all workers. */
#ifndef ADMIN_QUEUES_H
#define ADMIN_QUEUES_H

struct session;

void show_queues(struct session *session);

#endif
