/* conf/hosts.c: the lists of a [databases] entry that describe its nodes: host, port, weight and zone. */
#include "base/check.h"
#include "conf/loader.h"

#include <inttypes.h>
#include <stdarg.h>

/* The next element of a comma list, trimmed; false behind the last one. */
static bool next_element(struct loader *l, const char **list, const char **element)
{
    if (!*list)
        return false;
    const char *start = *list + strspn(*list, " \t");
    size_t n = strcspn(start, ",");
    *list = start[n] ? start + n + 1 : NULL;
    while (n > 0 && (start[n - 1] == ' ' || start[n - 1] == '\t'))
        n--;
    *element = arena_text(l->arena, start, n);
    return true;
}

static size_t count_elements(const char *list)
{
    size_t n = 1;
    for (; *list; list++)
        n += *list == ',';
    return n;
}

/* A host as we use it: brackets off. NULL: not a host. */
static const char *clean_host(struct loader *l, const char *host)
{
    size_t n = strlen(host);
    if (n > 2 && host[0] == '[' && host[n - 1] == ']') {
        n -= 2;
        host = arena_text(l->arena, host + 1, n);
    }
    bool path = host[0] == '/' || host[0] == '@';
    if (n == 0 || n > (path ? 92 : 253)) /* sun_path with "/.s.PGSQL.65535"; DNS */
        return NULL;
    for (const char *p = host; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f || (!path && strchr(" []/\"'=", *p)))
            return NULL;
    return host;
}

static bool has_host(const struct conf_host *hosts, size_t n, const struct conf_host *h)
{
    for (size_t i = 0; i < n; i++)
        if (hosts[i].port == h->port && strcmp(hosts[i].host, h->host) == 0)
            return true;
    return false;
}

/* The entry whose lists are read. */
struct hosts_reader {
    struct loader *l;
    const struct database_draft *draft;
};

__attribute__((format(printf, 2, 3))) static bool refuse(const struct hosts_reader *r,
                                                         const char *fmt, ...)
{
    struct why why;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why.text, sizeof why.text, fmt, ap);
    va_end(ap);
    loader_say(r->l, CONF_ERROR, &r->draft->at, r->draft->db.name, "%s", why.text);
    return false;
}

/* A number of a list, within its bounds. */
static bool read_number(const struct hosts_reader *r, const char *text, const char *key,
                        const char *what, uint64_t min, uint64_t max, uint16_t *out)
{
    struct why why;
    uint64_t v = 0;
    if (!value_u64(text, &v, &why))
        return refuse(r, "%s: %s", key, why.text);
    if (v < min || v > max)
        return refuse(r, "%s: %" PRIu64 " is not a %s (%" PRIu64 " to %" PRIu64 ")", key, v, what,
                      min, max);
    *out = (uint16_t)v;
    return true;
}

static bool read_zone(const struct hosts_reader *r, const char *text, const char **zone)
{
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] <= ' ' || text[i] == 0x7f)
            return refuse(r, "zone: \"%.80s\" is not a name of a zone", text);
    if (n > CONF_ZONE_MAX)
        return refuse(r, "zone: a name has at most %d bytes, this one %zu", CONF_ZONE_MAX, n);
    *zone = text;
    return true;
}

/* One value serves all hosts; else there is one for each. */
static bool fits(const struct hosts_reader *r, const char *key, const char *list, size_t host_n)
{
    size_t n = count_elements(list);
    if (n == 1 || n == host_n)
        return true;
    return refuse(r, "%s: %zu %ss for %zu hosts; give one, or one for each", key, n, key, host_n);
}

void loader_resolve_hosts(struct loader *l, struct database_draft *draft, const char *fallback)
{
    const struct hosts_reader r = {l, draft};
    const char *host_list = *draft->host_list ? draft->host_list : fallback;
    const char *port_list = *draft->port_list ? draft->port_list : "5432";
    const char *weight_list = *draft->weight_list ? draft->weight_list : "1";
    const char *zone_list = draft->zone_list;
    size_t host_n = count_elements(host_list), n = 0;
    if (host_n > CONF_HOSTS_MAX) {
        refuse(&r, "host: %zu hosts are too many (at most %d)", host_n, CONF_HOSTS_MAX);
        return;
    }
    if (!fits(&r, "port", port_list, host_n) || !fits(&r, "weight", weight_list, host_n) ||
        !fits(&r, "zone", zone_list, host_n))
        return;
    struct conf_host *hosts = arena_alloc(l->arena, host_n * sizeof *hosts);
    struct conf_host h = {.zone = ""};
    const char *host, *text;
    while (next_element(l, &host_list, &host)) {
        if (next_element(l, &port_list, &text) &&
            !read_number(&r, text, "port", "port", 1, UINT16_MAX, &h.port))
            return;
        if (next_element(l, &weight_list, &text) &&
            !read_number(&r, text, "weight", "weight", 0, CONF_WEIGHT_MAX, &h.weight))
            return;
        if (next_element(l, &zone_list, &text) && !read_zone(&r, text, &h.zone))
            return;
        h.host = clean_host(l, host);
        if (!h.host)
            refuse(&r, "host: \"%.80s\" is not a host name, address or socket folder", host);
        else if (has_host(hosts, n, &h))
            loader_say(l, CONF_WARNING, &draft->at, draft->db.name,
                       "host: %s port %u is listed twice", h.host, h.port);
        else
            hosts[n++] = h;
    }
    draft->db.hosts = hosts;
    draft->db.host_n = n;
}
