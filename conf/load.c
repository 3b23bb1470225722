/* conf/load.c: from the sources to one snapshot. */
#include "base/check.h"
#include "conf/loader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_STEP = 64 * 1024 };

/* Read all of fd; the size of a pipe is not known before its end. */
static char *read_all(int fd, size_t *n)
{
    size_t size = READ_STEP, used = 0;
    char *bytes = conf_malloc(size + 1);
    for (;;) {
        ssize_t got = read(fd, bytes + used, size - used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            bytes[used] = 0;
            *n = used;
            if (got == 0)
                return bytes;
            break;
        }
        used += (size_t)got;
        if (used < size)
            continue;
        if (size > CONF_FILE_MAX) {
            errno = EFBIG;
            break;
        }
        char *more = conf_malloc(2 * size + 1);
        memcpy(more, bytes, used);
        loader_drop(bytes, used);
        bytes = more;
        size *= 2;
    }
    int why = errno;
    loader_drop(bytes, used);
    errno = why;
    return NULL;
}

char *loader_read(const struct loader *l, const char *path, size_t *n)
{
    if (l->src->read_file)
        return l->src->read_file(path, n);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return NULL;
    char *bytes = read_all(fd, n);
    int why = errno;
    close(fd);
    errno = why;
    return bytes;
}

void loader_drop(char *bytes, size_t n)
{
    if (!bytes)
        return;
    explicit_bzero(bytes, n);
    free(bytes);
}

static void set_foreign(struct loader *l, enum foreign_id id, const char *value,
                        const struct origin *at)
{
    const struct foreign *f = &foreign_keys[id];
    bool warned = l->foreign_at[id].file != NULL;
    l->foreign[id] = value;
    if (f->state == NO_EFFECT || (f->state == LATER && strcmp(value, f->default_value) == 0))
        return;
    l->foreign_at[id] = *at;
    if (warned)
        return;
    loader_say(l, CONF_WARNING, at, f->name, "%s: %s",
               f->state == LATER ? "not supported yet" : "retired", f->note);
}

void loader_set(struct loader *l, const char *key, const char *value, const struct origin *at)
{
    enum option_id id = option_find(key);
    const char *kept = arena_text(l->arena, value, strlen(value));
    struct why why;
    if (id < OPTION_N) {
        if (field_set(l->conf, &options[id].field, kept, &why))
            l->set_at[id] = *at;
        else /* it keeps its default: nothing that looks at it later may find it empty */
            loader_say(l, CONF_ERROR, at, key, "%s", why.text);
        return;
    }
    enum foreign_id foreign = foreign_find(key);
    if (foreign < FOREIGN_N) {
        set_foreign(l, foreign, kept, at);
        return;
    }
    struct nearest near = {.word = key};
    option_suggest(&near);
    loader_say(l, CONF_ERROR, at, key, "unknown key%s", nearest_hint(&near, &why));
}

static void fill_defaults(struct loader *l)
{
    enum conf_flavour flavour = l->conf->flavour;
    struct why why;
    for (size_t i = 0; i < OPTION_N; i++) {
        if (l->set_at[i].file)
            continue;
        const char *const *d = options[i].defaults;
        bool ok = field_set(l->conf, &options[i].field, d[flavour] ? d[flavour] : d[0], &why);
        CHECK(ok); /* the table's own words */
    }
    for (size_t i = 0; i < FOREIGN_N; i++)
        if (!l->foreign[i])
            l->foreign[i] = foreign_keys[i].default_value;
}

static void read_auth_file(struct loader *l)
{
    const char *path = l->conf->auth_file;
    if (!*path)
        return;
    size_t n = 0;
    char *bytes = loader_read(l, path, &n);
    if (!bytes) {
        loader_say(l, CONF_ERROR, &l->set_at[OPTION_auth_file], "auth_file",
                   "cannot read %.300s: %s", path, strerrordesc_np(errno));
        return;
    }
    loader_userlist(l, path, bytes, n);
    loader_drop(bytes, n);
}

/* The login of a DATABASE_URL lets the client of that name in; it beats auth_file as env beats
 * files. */
static void lend_secrets(struct loader *l)
{
    for (size_t i = 0; i < l->database_n; i++) {
        const struct database_draft *d = &l->databases[i];
        if (d->lends_secret && *d->db.user && *d->db.password)
            loader_secret(l, d->db.user, d->db.password, &d->at);
    }
}

/* Drafts sort by name, and equal names by age: their address in the array. */
#define BY_NAME_THEN_AGE(type, member)                         \
    static int type##_order(const void *a, const void *b)      \
    {                                                          \
        const struct type *x = *(const struct type *const *)a; \
        const struct type *y = *(const struct type *const *)b; \
        int c = strcmp(x->member.name, y->member.name);        \
        return c ? c : (x > y) - (x < y);                      \
    }
BY_NAME_THEN_AGE(database_draft, db)
BY_NAME_THEN_AGE(user_draft, user)
BY_NAME_THEN_AGE(secret_draft, secret)

/* Sort the drafts and keep the last of each name, as an array of their finished parts. */
#define FREEZE(type, drafts, draft_n, member, part, out, out_n)                       \
    do {                                                                              \
        const struct type **order = arena_alloc(l->arena, (draft_n) * sizeof *order); \
        struct part *list = arena_alloc(l->arena, (draft_n) * sizeof *list);          \
        size_t n = 0;                                                                 \
        for (size_t i = 0; i < (draft_n); i++)                                        \
            order[i] = &(drafts)[i];                                                  \
        if (draft_n)                                                                  \
            qsort(order, draft_n, sizeof *order, type##_order);                       \
        for (size_t i = 0; i < (draft_n); i++)                                        \
            if (i + 1 == (draft_n) ||                                                 \
                strcmp(order[i]->member.name, order[i + 1]->member.name) != 0)        \
                list[n++] = order[i]->member;                                         \
        (out) = list;                                                                 \
        (out_n) = n;                                                                  \
    } while (0)

static void freeze_databases(struct loader *l)
{
    struct conf *c = l->conf;
    const char *sockets = *c->unix_socket_dir ? c->unix_socket_dir : "/var/run/postgresql";
    for (size_t i = 0; i < l->database_n; i++)
        loader_resolve_hosts(l, &l->databases[i], sockets);
    FREEZE(database_draft, l->databases, l->database_n, db, conf_database, c->databases,
           c->database_n);
}

static void freeze_users(struct loader *l)
{
    FREEZE(user_draft, l->users, l->user_n, user, conf_user, l->conf->users, l->conf->user_n);
}

static void freeze_secrets(struct loader *l)
{
    FREEZE(secret_draft, l->secrets, l->secret_n, secret, conf_secret, l->conf->secrets,
           l->conf->secret_n);
}

static void freeze(struct loader *l)
{
    freeze_databases(l);
    freeze_users(l);
    freeze_secrets(l);
    const char **foreign = arena_alloc(l->arena, sizeof l->foreign);
    memcpy(foreign, l->foreign, sizeof l->foreign);
    l->conf->foreign = foreign;
}

struct conf *conf_load(const struct conf_sources *src, struct conf_errors *errs)
{
    size_t errors_before = errs->error_n;
    struct arena *arena = arena_new();
    struct loader *l = arena_alloc(arena, sizeof *l);
    l->src = src;
    l->errs = errs;
    l->arena = arena;
    l->conf = arena_alloc(arena, sizeof *l->conf);
    l->conf->arena = arena;
    l->conf->path = src->path ? arena_text(arena, src->path, strlen(src->path)) : "";
    loader_read_ini(l);
    if (!l->unreadable) { /* else all that the file would have said would be missed, too */
        loader_read_env(l);
        fill_defaults(l);
        read_auth_file(l);
        lend_secrets(l);
        freeze(l);
        loader_verify(l);
    }
    if (errs->error_n == errors_before)
        return l->conf;
    arena_free(arena);
    return NULL;
}

void conf_free(struct conf *conf)
{
    if (conf)
        arena_free(conf->arena);
}
