#include "proxy/pool/random.h"

#include "base/check.h"
#include "proxy/wire/crypto.h"

#include <openssl/rand.h>
#include <string.h>

#define BLOCK_BYTES 1024 /* one call of OpenSSL's generator costs as much for 4 bytes as for this */

struct block {
    size_t used;
    unsigned char bytes[BLOCK_BYTES];
};

void random_bytes(void *out, size_t n)
{
    static _Thread_local struct block block = {.used = BLOCK_BYTES};
    CHECK(n <= BLOCK_BYTES);
    if (BLOCK_BYTES - block.used < n) {
        CHECK(RAND_bytes(block.bytes, BLOCK_BYTES) == 1);
        block.used = 0;
    }
    memcpy(out, block.bytes + block.used, n);
    crypto_wipe(block.bytes + block.used, n); /* what was given out is nobody else's */
    block.used += n;
}
