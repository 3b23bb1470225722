/* conf/url.c: DATABASE_URL and REPLICA_URLS, the whole configuration of a container.
 *
 *   postgres://user:password@host:port,host:port/dbname?sslmode=require
 *
 * The database takes the URL's name; the primary's and the replicas' hosts become its nodes, whose
 * roles are found by asking them. Nothing of a URL but its host names is ever shown: it holds a
 * password.
 */
#include "base/check.h"
#include "conf/loader.h"

#include <ctype.h>
#include <stdlib.h>
#include <strings.h>

struct url {
    const char *user, *password, *dbname; /* "" when missing */
    const char *hosts, *ports;            /* comma lists of equal length */
    const char *weights, *zones;          /* one, or a list like these; "" when missing */
};

struct url_reader {
    struct loader *l;
    const struct origin *at;
    bool first; /* DATABASE_URL: its parameters count */
};

static bool url_refuse(struct url_reader *r, const char *why)
{
    loader_say(r->l, CONF_ERROR, r->at, "", "%s", why);
    return false;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* %XX undone, into the arena; NULL after an error. */
static const char *decode(struct url_reader *r, const char *p, const char *end)
{
    char *text = arena_alloc(r->l->arena, (size_t)(end - p) + 1), *out = text;
    for (; p < end; p++, out++) {
        *out = *p;
        if (*p != '%')
            continue;
        int high = end - p > 2 ? hex(p[1]) : -1, low = end - p > 2 ? hex(p[2]) : -1;
        if (high < 0 || low < 0 || high + low == 0) {
            url_refuse(r,
                       "a % in the URL is not followed by two hex digits (or gives a zero byte); "
                       "write % itself as %25");
            return NULL;
        }
        *out = (char)(high * 16 + low);
        p += 2;
    }
    return text;
}

static const char *scheme_end(const char *p)
{
    static const char *const schemes[] = {"postgres://", "postgresql://"};
    for (size_t i = 0; i < 2; i++)
        if (strncasecmp(p, schemes[i], strlen(schemes[i])) == 0)
            return p + strlen(schemes[i]);
    return NULL;
}

static const char *find_end(const char *p, const char *end, char c)
{
    const char *q = memchr(p, c, (size_t)(end - p));
    return q ? q : end;
}

static bool read_login(struct url_reader *r, const char *p, const char *end, struct url *u)
{
    const char *colon = find_end(p, end, ':');
    u->user = decode(r, p, colon);
    u->password = colon < end ? decode(r, colon + 1, end) : "";
    if (!u->user || !u->password)
        return false;
    if (strlen(u->user) > CONF_USER_MAX)
        return url_refuse(r, "the user name is too long");
    if (strlen(u->password) > CONF_SECRET_MAX)
        return url_refuse(r, "the password is too long");
    return true;
}

static const char *join(struct loader *l, const char *a, const char *b)
{
    size_t a_n = strlen(a), b_n = strlen(b);
    char *joined = arena_alloc(l->arena, a_n + 1 + b_n + 1);
    memcpy(joined, a, a_n);
    joined[a_n] = ',';
    memcpy(joined + a_n + 1, b, b_n);
    return joined;
}

/* Append item to a comma list in the arena. */
static const char *append(struct loader *l, const char *list, const char *item)
{
    return *list ? join(l, list, item) : item;
}

/* One of host, host:port, [v6], [v6]:port. */
static bool read_host(struct url_reader *r, const char *p, const char *end, struct url *u)
{
    const char *host_end = *p == '[' ? find_end(p, end, ']') : find_end(p, end, ':');
    if (*p == '[' && host_end++ == end)
        return url_refuse(r, "a [ in the host has no ]");
    if (host_end == p)
        return url_refuse(r, "a host name is missing");
    if (host_end < end && *host_end != ':')
        return url_refuse(r, "expected :port behind the ]");
    const char *host = decode(r, p, host_end);
    if (!host)
        return false;
    if (strchr(host, ','))
        return url_refuse(r, "a host name contains a comma");
    const char *port = host_end + 1 < end
                           ? arena_text(r->l->arena, host_end + 1, (size_t)(end - host_end) - 1)
                           : "5432";
    u->hosts = append(r->l, u->hosts, host);
    u->ports = append(r->l, u->ports, port);
    return true;
}

/* Parameters with a meaning here; all others belong to the client's driver. */
static const struct {
    const char *name;
    enum option_id option;
} parameters[] = {
    {"sslmode", OPTION_server_tls_sslmode},
    {"sslrootcert", OPTION_server_tls_ca_file},
    {"sslcert", OPTION_server_tls_cert_file},
    {"sslkey", OPTION_server_tls_key_file},
    {"connect_timeout", OPTION_server_connect_timeout},
};

/* host=, port=, user=, password= and dbname= behind the ?, as libpq knows them; weight= and zone= of the
 * hosts are ours. */
static bool parameter_is_place(struct url *u, const char *name, const char *value)
{
    const struct {
        const char *name;
        const char **place;
    } places[] = {{"host", &u->hosts},        {"port", &u->ports},    {"user", &u->user},
                  {"password", &u->password}, {"dbname", &u->dbname}, {"weight", &u->weights},
                  {"zone", &u->zones}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (strcmp(places[i].name, name) != 0)
            continue;
        *places[i].place = value;
        return true;
    }
    return false;
}

static void use_parameter(struct url_reader *r, struct url *u, const char *name, const char *value)
{
    if (parameter_is_place(u, name, value))
        return;
    for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++) {
        if (strcmp(parameters[i].name, name) != 0)
            continue;
        if (r->first)
            loader_set(r->l, options[parameters[i].option].field.name, value, r->at);
        return;
    }
    if (r->first)
        loader_say(r->l, CONF_WARNING, r->at, "", "parameter %.40s is ignored", name);
}

static bool read_parameters(struct url_reader *r, const char *p, const char *end, struct url *u)
{
    while (p < end) {
        const char *stop = find_end(p, end, '&'), *equals = find_end(p, stop, '=');
        const char *name = decode(r, p, equals);
        const char *value = equals < stop ? decode(r, equals + 1, stop) : "";
        if (!name || !value)
            return false;
        if (*name)
            use_parameter(r, u, name, value);
        p = stop + (stop < end);
    }
    return true;
}

static bool read_hosts(struct url_reader *r, const char *p, const char *end, struct url *u)
{
    for (const char *stop; p < end; p = stop + 1) {
        stop = find_end(p, end, ',');
        if (!read_host(r, p, stop, u))
            return false;
        if (stop == end)
            break;
    }
    return true;
}

static bool read_url(struct url_reader *r, const char *p, const char *end, struct url *u)
{
    *u = (struct url){"", "", "", "", "", "", ""};
    p = scheme_end(p);
    if (!p || p > end)
        return url_refuse(r, "expected postgres://user:password@host:port/dbname");
    const char *query = find_end(p, end, '?');
    const char *path = find_end(p, query, '/');
    const char *at = memrchr(p, '@', (size_t)(path - p));
    if (at && !read_login(r, p, at, u))
        return false;
    if (!read_hosts(r, at ? at + 1 : p, path, u))
        return false;
    u->dbname = path < query ? decode(r, path + 1, query) : "";
    if (!u->dbname)
        return false;
    if (query < end && !read_parameters(r, query + 1, end, u))
        return false;
    if (!*u->hosts)
        return url_refuse(r, "a host name is missing");
    return true;
}

/* Replicas are nodes of the same database: what they say beyond their host must agree. */
static bool agrees(struct url_reader *r, const struct url *u, const struct database_draft *d)
{
    const char *dbname = *u->dbname ? u->dbname : d->db.dbname;
    if (strcmp(dbname, d->db.dbname) != 0)
        return url_refuse(r, "names another database than DATABASE_URL");
    if ((*u->user && strcmp(u->user, d->db.user) != 0) ||
        (*u->password && strcmp(u->password, d->db.password) != 0))
        return url_refuse(r, "has another user or password than DATABASE_URL; one login serves all "
                             "nodes");
    return true;
}

static struct database_draft *read_primary(struct loader *l, const char *text)
{
    const struct origin at = {"environment", 0, "DATABASE_URL"};
    struct url_reader r = {l, &at, true};
    struct url u;
    if (!read_url(&r, text, text + strlen(text), &u))
        return NULL;
    const char *dbname = *u.dbname ? u.dbname : u.user; /* as libpq */
    if (!*dbname) {
        url_refuse(&r, "names no database");
        return NULL;
    }
    if (loader_find_database(l, dbname, false))
        loader_say(l, CONF_WARNING, &at, "", "replaces the [databases] entry %s of the file",
                   dbname);
    struct database_draft *d = loader_new_database(l, dbname, &at);
    if (!d)
        return NULL;
    d->db.dbname = dbname;
    d->db.user = u.user;
    d->db.password = u.password;
    d->host_list = u.hosts;
    d->port_list = u.ports;
    d->weight_list = u.weights;
    d->zone_list = u.zones;
    d->lends_secret = true;
    return d;
}

/* Where the URL at p ends: before a comma that starts another one, so that its hosts may be a list.
 */
static const char *url_end(const char *p)
{
    for (const char *comma = strchr(p, ','); comma; comma = strchr(comma + 1, ',')) {
        const char *next = comma + 1 + strspn(comma + 1, " \t\r\n,");
        if (!*next || scheme_end(next))
            return comma;
    }
    return p + strlen(p);
}

static size_t commas(const char *list)
{
    size_t n = 0;
    for (; *list; list++)
        n += *list == ',';
    return n;
}

/* A list as long as the host list, so that lists can be joined. */
static const char *spread(struct loader *l, const char *hosts, const char *list,
                          const char *fallback)
{
    const char *one = *list ? list : fallback, *all = one;
    if (commas(one) == 0)
        for (size_t i = commas(hosts); i > 0; i--)
            all = join(l, all, one);
    return all;
}

/* What a URL says of its hosts goes behind what is known of the others. */
static void add_hosts(struct loader *l, struct database_draft *d, const struct url *u)
{
    d->port_list = join(l, spread(l, d->host_list, d->port_list, "5432"),
                        spread(l, u->hosts, u->ports, "5432"));
    d->weight_list =
        join(l, spread(l, d->host_list, d->weight_list, "1"), spread(l, u->hosts, u->weights, "1"));
    d->zone_list =
        join(l, spread(l, d->host_list, d->zone_list, ""), spread(l, u->hosts, u->zones, ""));
    d->host_list = join(l, d->host_list, u->hosts);
}

static void read_replicas(struct loader *l, const char *text, struct database_draft *primary)
{
    const struct origin at = {"environment", 0, "REPLICA_URLS"};
    struct url_reader r = {l, &at, false};
    for (const char *p = text + strspn(text, " \t\r\n,"), *end; *p;
         p = end + strspn(end, " \t\r\n,")) {
        struct url u;
        end = url_end(p);
        const char *stop = end;
        while (stop > p && strchr(" \t\r\n", stop[-1]))
            stop--;
        if (!read_url(&r, p, stop, &u) || !primary || !agrees(&r, &u, primary))
            continue;
        add_hosts(l, primary, &u);
    }
}

void loader_urls(struct loader *l, const char *database_url, const char *replica_urls)
{
    struct database_draft *primary = database_url ? read_primary(l, database_url) : NULL;
    if (!replica_urls)
        return;
    if (!database_url) {
        const struct origin at = {"environment", 0, "REPLICA_URLS"};
        loader_say(l, CONF_ERROR, &at, "", "needs DATABASE_URL, the primary, beside it");
    }
    read_replicas(l, replica_urls, primary);
}
