/* proxy/admin/limits_show.h: SHOW LIMITS. */
#ifndef ADMIN_LIMITS_SHOW_H
#define ADMIN_LIMITS_SHOW_H

#include "proxy/session/session.h"

void show_limits(struct session *s);

#endif
