/* proxy/control/pressure.h: how near this process is to its limit of memory.
 *
 * What    twice a second the resident memory is compared with memory_limit, or with the cgroup's. From 85 % on new logins
 *         are refused (53200); from 95 % on who waits for a server is refused too, and caches are emptied. What runs goes on.
 * Source  spec/reliability.md 1.4.
 */
#ifndef CONTROL_PRESSURE_H
#define CONTROL_PRESSURE_H

#include <stdint.h>

enum pressure { PRESSURE_NONE, PRESSURE_HIGH, PRESSURE_CRITICAL };

/* Pure. It falls only 5 % below where it rose, so that it does not flutter. limit_bytes 0: there is none. */
enum pressure pressure_judge(enum pressure was, uint64_t used_bytes, uint64_t limit_bytes);

#endif
