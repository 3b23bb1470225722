/* proxy/pool/random.h: random bytes that nobody can guess: keys, salts, nonces.
 *
 * Source  OpenSSL's generator. It fails only when the kernel gives no entropy; the process ends then,
 *         since nothing safe could go on.
 * Threads any; each has a block of its own.
 * Limits  1024 bytes in one call.
 */
#ifndef POOL_RANDOM_H
#define POOL_RANDOM_H

#include <stddef.h>

void random_bytes(void *out, size_t n);

#endif
