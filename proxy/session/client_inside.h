/* proxy/session/client_inside.h: what the files of a client's messages share. Not for others.
 *
 * Files   client.c what is there, where its bytes go, whose turn it is; client_collect.c messages without a server;
 *         client_send.c one message with a server.
 */
#ifndef SESSION_CLIENT_INSIDE_H
#define SESSION_CLIENT_INSIDE_H

#include "proxy/session/session.h"

/* ---- client.c ---- */
bool client_is_type(uint8_t type);
/* The message `offset` bytes into the input is none: as PostgreSQL says it. */
void client_bad_message(struct session *s, size_t offset);
/* A message that has to be seen whole may be larger than what a client may usually leave unread. */
void client_wait_for(struct session *s, size_t bytes);
/* One text, and nothing behind it; of a Query of MESSAGE_WHOLE_MAX bytes at most. */
bool client_query_is_whole(const struct message *m);
/* Terminate comes in its turn: what was asked before it is answered first. */
void client_leave(struct session *s);

/* ---- client_collect.c ---- */
/* Read on from the start of the input until a segment is complete, or must go as it is. */
enum step client_collect(struct session *s);

/* ---- client_send.c ---- */
enum step client_send_message(struct session *s);

#endif
