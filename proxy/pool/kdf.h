/* proxy/pool/kdf.h: PBKDF2 away from the workers.
 *
 * What    one helper thread computes salted passwords (milliseconds each) and posts the answer
 *         back to the loop that asked. Answers are cached per password, salt and iterations.
 * Threads kdf_salt() from any loop; kdf_start() and kdf_stop() from main.
 * Limits  KDF_QUEUE_MAX requests wait; one more is refused at once. KDF_CACHE_MAX answers are
 *         kept.
 */
#ifndef POOL_KDF_H
#define POOL_KDF_H

#include "proxy/io/loop.h"
#include "proxy/wire/scram.h"

#define KDF_QUEUE_MAX 4096
#define KDF_CACHE_MAX 1024 /* a power of two */

struct kdf_request;
/* On the asking loop. salted is NULL when it failed. context is NULL if the asker has gone. */
typedef void kdf_fn(void *context, const uint8_t *salted);

void kdf_start(void);
void kdf_stop(void);

/* Ask for a salted password. *request is set until fn is called; clear its context by kdf_forget().
 * True: out is filled now (cached), fn will not be called. False with *request == NULL: refused. */
bool kdf_salt(struct slice password, struct slice salt, uint32_t iterations,
              uint8_t out[SCRAM_KEY_BYTES], struct kdf_request **request, kdf_fn *fn,
              void *context);
/* The asker goes away: fn will not be called. */
void kdf_forget(struct kdf_request *request);

#endif
