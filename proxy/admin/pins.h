/* proxy/admin/pins.h: SHOW PINS: why clients keep their servers between transactions. */
#ifndef ADMIN_PINS_H
#define ADMIN_PINS_H

#include "proxy/session/session.h"

void show_pins(struct session *s);

#endif
