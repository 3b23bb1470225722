/* tests/fuzz/fuzz_lsn.c: LSNs, tokens and WAIT FOR LSN. Input: the text.
 *
 * What must hold: what is read is written as a text that reads the same; what is refused leaves the
 * result alone; WAIT FOR LSN is found only where its words stand, and blanks and comments do not matter.
 */
#include "base/check.h"
#include "router/floor.h"
#include "router/wait_lsn.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_lsn(struct slice text)
{
    uint64_t lsn = 0, again = 1;
    if (!lsn_parse(text, &lsn))
        return;
    char written[LSN_TEXT_BYTES];
    const size_t n = lsn_format(lsn, written);
    CHECK(n < sizeof written && strlen(written) == n);
    CHECK(lsn_parse(slice_of(written), &again) && again == lsn);
    CHECK(text.n <= 17 && memchr(text.p, '/', text.n) != NULL); /* XXXXXXXX/XXXXXXXX */
    CHECK(floor_normalise(lsn) <= lsn &&
          floor_normalise(floor_normalise(lsn)) == floor_normalise(lsn));
}

static void check_token(struct slice text)
{
    uint32_t timeline = 7, again_timeline;
    uint64_t lsn = 7, again;
    if (!floor_token_read(text, &timeline, &lsn))
        return;
    char written[FLOOR_TOKEN_BYTES];
    const size_t n = floor_token_write(timeline, lsn, written);
    CHECK(n < sizeof written && strlen(written) == n);
    CHECK(floor_token_read(slice_of(written), &again_timeline, &again));
    CHECK(again_timeline == timeline && again == lsn);
    CHECK(timeline == 0 || memchr(text.p, '-', text.n) != NULL);
}

static bool waits_in(const char *before, struct slice text, const char *behind, uint64_t *lsn)
{
    char sql[4096];
    const int n =
        snprintf(sql, sizeof sql, "%s%.*s%s", before, (int)text.n, (const char *)text.p, behind);
    return n > 0 && (size_t)n < sizeof sql &&
           wait_lsn_read((struct slice){(uint8_t *)sql, (size_t)n}, lsn);
}

static void check_wait(struct slice text)
{
    uint64_t lsn = 42, again = 42;
    if (text.n > 1000 || (text.n && memchr(text.p, 0, text.n)))
        return;
    const bool waits = wait_lsn_read(text, &lsn);
    CHECK(waits || lsn == 42);
    if (!waits)
        CHECK(!waits_in("", text, "", &again) && !waits_in("/* x */ ", text, "", &again));
    else
        CHECK(waits_in("/* x */ ", text, "\n-- y", &again) && again == lsn);
    CHECK(!waits || !waits_in("", text, "\n SELECT 1", &again));
    /* As its literal: only what is an LSN. */
    uint64_t inside;
    if (text.n && !memchr(text.p, '\'', text.n)) {
        const bool is = lsn_parse(text, &inside);
        CHECK(waits_in("wait FOR lsn '", text, "' with (timeout 1, no_throw);", &again) == is);
        CHECK(!is || inside == again);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *block = malloc(size ? size : 1);
    CHECK(block != NULL);
    if (size)
        memcpy(block, data, size);
    const struct slice text = {block, size};
    check_lsn(text);
    check_token(text);
    check_wait(text);
    free(block);
    return 0;
}
