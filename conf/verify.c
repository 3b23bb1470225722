/* conf/verify.c: the checks that need more than one value, or a look at the disk. */
#include "conf/loader.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where an option was set; the main file when it was not. */
static struct origin place(const struct loader *l, enum option_id id)
{
    struct origin at = l->set_at[id];
    if (!at.file)
        at.file = *l->conf->path ? l->conf->path : "configuration";
    return at;
}

#define blame(l, severity, id, ...)                                 \
    do {                                                            \
        const struct origin blame_at = place(l, OPTION_##id);       \
        conf_say((l)->errs, severity, &blame_at, #id, __VA_ARGS__); \
    } while (0)

/* 0, or why this file cannot be read. */
static int unreadable(const struct loader *l, const char *path)
{
    size_t n = 0;
    if (l->src->read_file) {
        char *bytes = loader_read(l, path, &n);
        loader_drop(bytes, n);
        return bytes ? 0 : errno;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return errno;
    struct stat st;
    int why = fstat(fd, &st) != 0 ? errno : S_ISDIR(st.st_mode) ? EISDIR : 0;
    close(fd);
    return why;
}

static void verify_readable(struct loader *l, enum option_id id)
{
    const char *path;
    memcpy(&path, (const char *)l->conf + options[id].field.offset, sizeof path);
    int why = *path ? unreadable(l, path) : 0;
    if (!why)
        return;
    const struct origin at = place(l, id);
    loader_say(l, CONF_ERROR, &at, options[id].field.name, "cannot read %.300s: %s", path,
               strerrordesc_np(why));
}

static void verify_tls(struct loader *l)
{
    static const enum option_id files[] = {
        OPTION_client_tls_key_file, OPTION_client_tls_cert_file, OPTION_server_tls_ca_file,
        OPTION_server_tls_key_file, OPTION_server_tls_cert_file,
    };
    const struct conf *c = l->conf;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        verify_readable(l, files[i]);
    if (c->client_tls_sslmode != CONF_CLIENT_TLS_DISABLE &&
        (!*c->client_tls_key_file || !*c->client_tls_cert_file))
        blame(l, CONF_ERROR, client_tls_sslmode,
              "needs client_tls_key_file and client_tls_cert_file");
    if (!*c->server_tls_key_file != !*c->server_tls_cert_file)
        blame(l, CONF_ERROR, server_tls_cert_file,
              "server_tls_key_file and server_tls_cert_file belong together");
    if (c->server_tls_sslmode >= CONF_SERVER_TLS_VERIFY_CA && !*c->server_tls_ca_file)
        blame(l, CONF_ERROR, server_tls_sslmode, "needs server_tls_ca_file");
}

static bool is_md5(const char *secret)
{
    return strncmp(secret, "md5", 3) == 0 && strlen(secret) == 35 &&
           strspn(secret + 3, "0123456789abcdef") == 32;
}

static void verify_secrets(struct loader *l)
{
    const struct conf *c = l->conf;
    size_t md5_n = 0;
    for (size_t i = 0; i < c->secret_n; i++)
        md5_n += is_md5(c->secrets[i].secret);
    if (c->auth_type == CONF_AUTH_SCRAM && md5_n)
        blame(l, CONF_WARNING, auth_type,
              "%zu users have md5 secrets, which cannot log in by scram-sha-256", md5_n);
    if (c->auth_type != CONF_AUTH_TRUST && c->secret_n == 0 && !*c->auth_file)
        blame(l, CONF_ERROR, auth_type,
              "has no secrets to check clients against; set auth_file, or DATABASE_URL with user "
              "and password");
    else if (c->secret_n == 0 && *c->auth_file && l->errs->error_n == 0)
        blame(l, CONF_WARNING, auth_file, "%.300s names no user", c->auth_file);
    if (*c->probe_password && !*c->probe_user)
        blame(l, CONF_ERROR, probe_password, "needs probe_user");
}

void loader_verify(struct loader *l)
{
    const struct conf *c = l->conf;
    const struct origin whole = {*c->path ? c->path : NULL, 0, NULL};
    if (c->database_n == 0)
        loader_say(l, CONF_ERROR, &whole, "[databases]",
                   "no database; name one, as in app = host=pg1,pg2, or set DATABASE_URL");
    if (!*c->listen_addr && !*c->unix_socket_dir)
        blame(l, CONF_ERROR, listen_addr, "is empty like unix_socket_dir: nothing to listen on");
    if (c->recv_buffers & (c->recv_buffers - 1))
        blame(l, CONF_ERROR, recv_buffers, "%u is not a power of two", c->recv_buffers);
    verify_tls(l);
    verify_secrets(l);
}
