/* proxy/admin/leavers.h: SHOW LEAVERS: what became of servers whose clients left in the middle of something. */
#ifndef ADMIN_LEAVERS_H
#define ADMIN_LEAVERS_H

#include "proxy/session/session.h"

void show_leavers(struct session *s);

#endif
