#include "proxy/wire/saslprep.h"

#include <stringprep.h>

static bool is_ascii(struct slice text)
{
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] >= 0x80)
            return false;
    }
    return true;
}

static bool put_all(struct put *out, struct slice text)
{
    put_bytes(out, text);
    return !out->full;
}

bool saslprep(struct slice text, struct put *out)
{
    if (is_ascii(text)) /* nothing to normalise; PostgreSQL keeps even control characters here */
        return put_all(out, text);
    char work[SASLPREP_TEXT_MAX + 1];
    bool ok = false;
    if (text.n > SASLPREP_TEXT_MAX || memchr(text.p, 0, text.n) != NULL)
        return false;
    memcpy(work, text.p, text.n);
    work[text.n] = 0;
    if (stringprep(work, sizeof work, STRINGPREP_NO_UNASSIGNED, stringprep_saslprep) ==
            STRINGPREP_OK &&
        work[0] != 0)
        ok = put_all(out, slice_of(work));
    explicit_bzero(work, sizeof work); /* a password */
    return ok;
}
