/* Certificates that are used until they end take every client with them at one moment: say so days ahead. */
#include "proxy/control/inside.h"
#include "proxy/io/log.h"
#include "proxy/io/tls.h"

#include <time.h>

#define WARN_DAYS 14
#define DAY_S 86400

/* Once a day per certificate, and again when its file was exchanged for one that ends no later than that. */
static void look(struct certificate *was, void *context, const char *file, const char *option)
{
    int64_t end_s = context ? tls_context_end_s(context) : TLS_NO_END;
    int64_t left_s = end_s - (int64_t)time(NULL);
    if (end_s == TLS_NO_END || left_s >= (int64_t)WARN_DAYS * DAY_S)
        return;
    int64_t days = left_s < 0 ? -1 : left_s / DAY_S;
    if (was->end_s == end_s && was->days == days)
        return;
    *was = (struct certificate){.end_s = end_s, .days = days};
    char text[sizeof "2026-11-22T00:00:00Z" + 8] = "?";
    time_t at = (time_t)end_s;
    struct tm tm;
    if (gmtime_r(&at, &tm))
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (days < 0)
        LOG(LOG_ERROR, "certificate.expired", LF_S("file", file), LF_S("option", option),
            LF_S("not_after", text));
    else
        LOG(LOG_WARN, "certificate.expires", LF_S("file", file), LF_S("option", option),
            LF_S("not_after", text), LF_I("days", days));
}

void certificate_look(struct control *c)
{
    const struct snapshot *s = c->snapshot;
    look(&c->client_certificate, s->client_tls, s->conf->client_tls_cert_file,
         "client_tls_cert_file");
    look(&c->server_certificate, s->server_tls, s->conf->server_tls_cert_file,
         "server_tls_cert_file");
}
