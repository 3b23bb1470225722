/* proxy/admin/routes.h: why statements went where they went: SHOW ROUTES, SHOW PRIMARY_READS, SHOW LAG. */
#ifndef ADMIN_ROUTES_H
#define ADMIN_ROUTES_H

#include "proxy/session/session.h"

#define PRIMARY_READS_SHOWN 100 /* rows of SHOW PRIMARY_READS */

void show_routes(struct session *s);
void show_primary_reads(struct session *s);
void show_lag(struct session *s);

#endif
