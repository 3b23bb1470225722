#include "proxy/control/outbox.h"

#include "base/check.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct outbox {
    atomic_uint refs;
    pthread_mutex_t lock; /* held for a post only, never while something blocks */
    struct loop *loop;    /* NULL: closed */
};

struct outbox *outbox_new(struct loop *loop)
{
    struct outbox *outbox = calloc(1, sizeof *outbox);
    CHECK(outbox != NULL);
    atomic_init(&outbox->refs, 1);
    pthread_mutex_init(&outbox->lock, NULL);
    outbox->loop = loop;
    return outbox;
}

struct outbox *outbox_ref(struct outbox *outbox)
{
    atomic_fetch_add(&outbox->refs, 1);
    return outbox;
}

void outbox_unref(struct outbox *outbox)
{
    if (atomic_fetch_sub(&outbox->refs, 1) > 1)
        return;
    pthread_mutex_destroy(&outbox->lock);
    free(outbox);
}

bool outbox_post(struct outbox *outbox, struct mail *mail)
{
    pthread_mutex_lock(&outbox->lock);
    bool open = outbox->loop != NULL;
    if (open)
        loop_post(outbox->loop, mail);
    pthread_mutex_unlock(&outbox->lock);
    return open;
}

void outbox_close(struct outbox *outbox)
{
    pthread_mutex_lock(&outbox->lock);
    outbox->loop = NULL;
    pthread_mutex_unlock(&outbox->lock);
}

bool helper_start(const char *name, void *(*run)(void *), void *argument)
{
    pthread_t thread;
    int err = pthread_create(&thread, NULL, run, argument);
    if (err) {
        errno = err;
        return false;
    }
    pthread_setname_np(thread, name);
    pthread_detach(thread);
    return true;
}
