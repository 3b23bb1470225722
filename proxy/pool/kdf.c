#include "proxy/pool/kdf.h"

#include "base/check.h"
#include "proxy/wire/crypto.h"

#include <pthread.h>
#include <stdlib.h>

struct kdf_request {
    struct mail mail; /* first */
    struct kdf_request *next;
    struct loop *loop;
    kdf_fn *fn;
    void *context; /* of the asking loop alone */
    uint8_t id[CRYPTO_SHA256_BYTES];
    uint8_t salt[SCRAM_SALT_MAX];
    uint32_t salt_n, iterations;
    bool ok;
    uint8_t salted[SCRAM_KEY_BYTES];
    size_t password_n;
    uint8_t password[];
};

struct answer {
    bool used;
    uint8_t id[CRYPTO_SHA256_BYTES];
    uint8_t salted[SCRAM_KEY_BYTES];
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t work;
    pthread_t thread;
    bool running, stop;
    struct kdf_request *head, *tail;
    unsigned queued;
    struct answer cache[KDF_CACHE_MAX];
} kdf = {.lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER};

/* The cache is keyed by a digest, so that it holds no password. */
static void make_id(uint8_t id[CRYPTO_SHA256_BYTES], struct slice password, struct slice salt,
                    uint32_t iterations)
{
    uint8_t inner[2 * CRYPTO_SHA256_BYTES + sizeof iterations];
    CHECK(crypto_sha256(password, inner));
    CHECK(crypto_sha256(salt, inner + CRYPTO_SHA256_BYTES));
    memcpy(inner + 2 * CRYPTO_SHA256_BYTES, &iterations, sizeof iterations);
    CHECK(crypto_sha256((struct slice){inner, sizeof inner}, id));
}

static struct answer *slot_of(const uint8_t *id)
{
    uint32_t h;
    memcpy(&h, id, sizeof h);
    return &kdf.cache[h & (KDF_CACHE_MAX - 1)];
}

static void deliver(struct loop *loop, struct mail *mail)
{
    (void)loop;
    struct kdf_request *r = (struct kdf_request *)(void *)mail;
    if (r->context)
        r->fn(r->context, r->ok ? r->salted : NULL);
    crypto_wipe(r->password, r->password_n);
    crypto_wipe(r->salted, sizeof r->salted);
    free(r);
}

static void remember(const struct kdf_request *r)
{
    struct answer *a = slot_of(r->id);
    a->used = true;
    memcpy(a->id, r->id, sizeof a->id);
    memcpy(a->salted, r->salted, sizeof a->salted);
}

static bool recall(const uint8_t *id, uint8_t out[SCRAM_KEY_BYTES])
{
    const struct answer *a = slot_of(id);
    bool known = a->used && crypto_same(a->id, id, sizeof a->id);
    if (known)
        memcpy(out, a->salted, SCRAM_KEY_BYTES);
    return known;
}

static void *helper(void *unused)
{
    (void)unused;
    pthread_setname_np(pthread_self(), "pgweir-kdf");
    pthread_mutex_lock(&kdf.lock);
    while (!kdf.stop) {
        struct kdf_request *r = kdf.head;
        if (!r) {
            pthread_cond_wait(&kdf.work, &kdf.lock);
            continue;
        }
        kdf.head = r->next;
        kdf.queued--;
        /* A crowd that logs in at once asks the same: the first answer is everybody's. */
        if (recall(r->id, r->salted)) {
            r->ok = true;
            loop_post(r->loop, &r->mail);
            continue;
        }
        pthread_mutex_unlock(&kdf.lock);
        r->ok = scram_salted_password((struct slice){r->password, r->password_n},
                                      (struct slice){r->salt, r->salt_n}, r->iterations, r->salted);
        pthread_mutex_lock(&kdf.lock);
        if (r->ok)
            remember(r);
        loop_post(r->loop, &r->mail);
    }
    pthread_mutex_unlock(&kdf.lock);
    return NULL;
}

void kdf_start(void)
{
    kdf.stop = false;
    kdf.running = pthread_create(&kdf.thread, NULL, helper, NULL) == 0;
    CHECK(kdf.running);
}

void kdf_stop(void)
{
    if (!kdf.running)
        return;
    pthread_mutex_lock(&kdf.lock);
    kdf.stop = true;
    pthread_cond_signal(&kdf.work);
    pthread_mutex_unlock(&kdf.lock);
    pthread_join(kdf.thread, NULL);
    kdf.running = false;
    while (kdf.head) {
        struct kdf_request *r = kdf.head;
        kdf.head = r->next;
        free(r);
    }
    crypto_wipe(kdf.cache, sizeof kdf.cache);
}

bool kdf_salt(struct slice password, struct slice salt, uint32_t iterations,
              uint8_t out[SCRAM_KEY_BYTES], struct kdf_request **request, kdf_fn *fn, void *context)
{
    uint8_t id[CRYPTO_SHA256_BYTES];
    *request = NULL;
    make_id(id, password, salt, iterations);
    pthread_mutex_lock(&kdf.lock); /* held for copies only: the derivation runs outside */
    bool cached = recall(id, out);
    bool room = kdf.queued < KDF_QUEUE_MAX;
    pthread_mutex_unlock(&kdf.lock);
    if (cached || !room || salt.n > SCRAM_SALT_MAX)
        return cached;
    struct kdf_request *r = calloc(1, sizeof *r + password.n);
    if (!r)
        return false;
    r->mail.deliver = deliver;
    r->loop = loop_self;
    r->fn = fn;
    r->context = context;
    r->iterations = iterations;
    r->salt_n = (uint32_t)salt.n;
    r->password_n = password.n;
    memcpy(r->id, id, sizeof id);
    if (salt.n)
        memcpy(r->salt, salt.p, salt.n);
    if (password.n)
        memcpy(r->password, password.p, password.n);
    *request = r;
    pthread_mutex_lock(&kdf.lock);
    if (kdf.head)
        kdf.tail->next = r;
    else
        kdf.head = r;
    kdf.tail = r;
    kdf.queued++;
    pthread_cond_signal(&kdf.work);
    pthread_mutex_unlock(&kdf.lock);
    return false;
}

void kdf_forget(struct kdf_request *request)
{
    if (request)
        request->context = NULL;
}
