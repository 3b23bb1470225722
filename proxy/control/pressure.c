#include "proxy/control/pressure.h"

#include "proxy/control/inside.h"
#include "proxy/io/log.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

enum pressure pressure_judge(enum pressure was, uint64_t used_bytes, uint64_t limit_bytes)
{
    static const struct {
        unsigned rises, falls; /* percent */
    } at[] = {[PRESSURE_HIGH] = {85, 80}, [PRESSURE_CRITICAL] = {95, 90}};
    if (limit_bytes == 0)
        return PRESSURE_NONE;
    double percent = 100.0 * (double)used_bytes / (double)limit_bytes;
    for (enum pressure p = PRESSURE_CRITICAL; p > PRESSURE_NONE; p--)
        if (percent >= (p <= was ? at[p].falls : at[p].rises))
            return p;
    return PRESSURE_NONE;
}

static uint64_t resident_bytes(void)
{
    uint64_t all = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f) {
        if (fscanf(f, "%" SCNu64 " %" SCNu64, &all, &resident) != 2)
            resident = 0;
        fclose(f);
    }
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* "max", and no file at all, are no limit. */
static uint64_t cgroup_bytes(void)
{
    uint64_t bytes = 0;
    FILE *f = fopen("/sys/fs/cgroup/memory.max", "re");
    if (f) {
        if (fscanf(f, "%" SCNu64, &bytes) != 1)
            bytes = 0;
        fclose(f);
    }
    return bytes;
}

void pressure_look(struct control *c)
{
    static const char *const names[] = {"none", "high", "critical"};
    uint64_t limit = c->snapshot->conf->memory_limit, used = resident_bytes();
    if (limit == 0)
        limit = cgroup_bytes();
    enum pressure was = c->pressure, now = pressure_judge(was, used, limit);
    c->pressure = now;
    if (now > PRESSURE_NONE && now > was)
        malloc_trim(0);
    if (now != was)
        LOG(now > was ? LOG_WARN : LOG_INFO, "memory.pressure", LF_S("level", names[now]),
            LF_U("used", used), LF_U("limit", limit), LF_S("option", "memory_limit"));
    if (now != was ||
        now == PRESSURE_CRITICAL) /* who has come to wait since the last look goes too */
        c->hooks.pressure(c->hooks.context, now);
}
