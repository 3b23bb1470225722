#include "proxy/pool/random.h"

#include "base/check.h"

#include <openssl/rand.h>

void random_bytes(void *out, size_t n)
{
    CHECK(RAND_bytes(out, (int)n) == 1);
}
