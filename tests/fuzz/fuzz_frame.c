/* tests/fuzz/fuzz_frame.c: cutting a stream anywhere gives the same messages, and every byte is
 * handed on. Input: two bytes where to cut, one for the largest body, then the stream. */
#include "base/check.h"
#include "proxy/wire/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A digest of the messages that does not depend on the pieces, and one of the bytes handed on. */
struct seen {
    uint64_t messages, bytes;
    size_t bytes_n;
    uint32_t body_n;
    bool inside, bad;
};

static void add(uint64_t *digest, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        *digest = (*digest ^ p[i]) * 0x100000001b3U;
}

static void see_piece(struct seen *seen, const struct frame_piece *piece, uint32_t body_max)
{
    static const uint8_t border = 0x55;
    CHECK(piece->head.body_bytes <= body_max);
    CHECK(piece->first == !seen->inside);
    if (piece->first) {
        add(&seen->messages, &piece->head.type, 1);
        add(&seen->messages, (const uint8_t *)&piece->head.body_bytes, 4);
        seen->body_n = 0;
    }
    CHECK(piece->body_offset == seen->body_n);
    seen->body_n += (uint32_t)piece->body.n;
    CHECK(piece->last == (seen->body_n == piece->head.body_bytes));
    seen->inside = !piece->last;
    add(&seen->messages, piece->body.p, piece->body.n);
    if (piece->last)
        add(&seen->messages, &border, 1);
    CHECK(piece->head_split == (piece->head_bytes.n == FRAME_HEAD_BYTES));
    add(&seen->bytes, piece->head_bytes.p, piece->head_bytes.n);
    add(&seen->bytes, piece->bytes.p, piece->bytes.n);
    seen->bytes_n += piece->head_bytes.n + piece->bytes.n;
}

static void feed(struct frame_scan *scan, struct slice in, uint32_t body_max, struct seen *seen)
{
    struct frame_piece piece;
    enum frame_rc rc;
    while ((rc = frame_next(scan, &in, body_max, &piece)) == FRAME_OK)
        see_piece(seen, &piece, body_max);
    if (rc == FRAME_MORE)
        CHECK(in.n == 0 && !seen->bad);
    else
        seen->bad = true;
    CHECK(!seen->bad || !frame_at_border(scan));
}

static void assert_same(const struct seen *a, const struct seen *b)
{
    CHECK(a->messages == b->messages && a->bytes == b->bytes && a->bytes_n == b->bytes_n);
    CHECK(a->inside == b->inside && a->bad == b->bad);
}

static void feed_cut(struct slice in, size_t i, size_t j, uint32_t body_max, struct seen *seen)
{
    struct frame_scan scan = {0};
    feed(&scan, (struct slice){in.p, i}, body_max, seen);
    feed(&scan, (struct slice){in.p + i, j - i}, body_max, seen);
    feed(&scan, (struct slice){in.p + j, in.n - j}, body_max, seen);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 4)
        return 0;
    uint32_t body_max = data[2];
    struct slice in = {data + 3, size - 3};
    struct frame_scan whole_scan = {0}, byte_scan = {0};
    struct seen whole = {0}, cut = {0}, bytes = {0};
    feed(&whole_scan, in, body_max, &whole);
    uint64_t digest = 0;
    add(&digest, in.p,
        whole.bytes_n); /* what was handed on is the input, up to where it went bad */
    CHECK(digest == whole.bytes);
    CHECK(whole.bad || in.n - whole.bytes_n == whole_scan.split_n);
    size_t i = data[0] % (in.n + 1), j = i + data[1] % (in.n - i + 1);
    feed_cut(in, i, j, body_max, &cut);
    assert_same(&cut, &whole);
    for (size_t n = 0; n < in.n; n++)
        feed(&byte_scan, (struct slice){in.p + n, 1}, body_max, &bytes);
    assert_same(&bytes, &whole);
    return 0;
}
