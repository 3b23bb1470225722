/* proxy/wire/frame: cutting a stream at any byte gives the same messages. */
#include "proxy/wire/frame.h"

#include "tests/unit/test_wire_help.h"

#define BODY_MAX 40
#define SEEN_MAX 256

static const char stream[] = "Q\0\0\0\x0dSELECT 1\0"
                             "S\0\0\0\x04"
                             "d\0\0\0\x05x"
                             "H\0\0\0\x04"
                             "X\0\0\0\x04"
                             "P\0\0\0\x0a\0\0\0\0\0\0";

/* What a reader makes of the pieces: heads and bodies, whole, and all bytes as forwarded. */
struct seen {
    uint8_t messages[SEEN_MAX], forwarded[SEEN_MAX];
    size_t messages_n, forwarded_n;
    unsigned heads, ends;
    uint32_t next_offset;
};

static void append(uint8_t *to, size_t *n, struct slice bytes)
{
    assert_true(bytes.n <= SEEN_MAX - *n);
    if (bytes.n > 0)
        memcpy(to + *n, bytes.p, bytes.n);
    *n += bytes.n;
}

static void see_piece(struct seen *seen, const struct frame_piece *piece)
{
    if (piece->first) {
        assert_int_equal(seen->heads, seen->ends);
        seen->heads++;
        seen->next_offset = 0;
        append(seen->messages, &seen->messages_n, (struct slice){&piece->head.type, 1});
    }
    assert_int_equal(piece->body_offset, seen->next_offset);
    assert_true(piece->body.n <= piece->head.body_bytes - piece->body_offset);
    seen->next_offset += (uint32_t)piece->body.n;
    assert_int_equal(piece->last, seen->next_offset == piece->head.body_bytes);
    if (piece->last)
        seen->ends++;
    append(seen->messages, &seen->messages_n, piece->body);
    if (piece->head_split) {
        assert_int_equal(piece->head_bytes.n, FRAME_HEAD_BYTES);
        append(seen->forwarded, &seen->forwarded_n, piece->head_bytes);
    }
    append(seen->forwarded, &seen->forwarded_n, piece->bytes);
}

static enum frame_rc feed(struct frame_scan *scan, struct slice part, struct seen *seen)
{
    uint8_t *copy = exact_copy(part);
    struct slice in = {copy, part.n};
    struct frame_piece piece;
    enum frame_rc rc;
    while ((rc = frame_next(scan, &in, BODY_MAX, &piece)) == FRAME_OK)
        see_piece(seen, &piece);
    if (rc == FRAME_MORE)
        assert_int_equal(in.n, 0);
    free(copy);
    return rc;
}

static struct slice cut(struct slice all, size_t from, size_t to)
{
    return (struct slice){all.p + from, to - from};
}

static void see_whole(struct seen *seen)
{
    struct frame_scan scan = {0};
    *seen = (struct seen){0};
    assert_int_equal(feed(&scan, BYTES(stream), seen), FRAME_MORE);
    assert_int_equal(seen->heads, 6);
    assert_int_equal(seen->ends, 6);
    assert_true(frame_at_border(&scan));
    assert_slice((struct slice){seen->messages, seen->messages_n},
                 BYTES("QSELECT 1\0SdxHXP\0\0\0\0\0\0"));
}

static void assert_same_seen(const struct seen *a, const struct seen *b)
{
    assert_slice((struct slice){a->messages, a->messages_n},
                 (struct slice){b->messages, b->messages_n});
    assert_slice((struct slice){a->forwarded, a->forwarded_n}, BYTES(stream));
    assert_int_equal(a->heads, b->heads);
    assert_int_equal(a->ends, b->ends);
}

static void every_cut_into_three_gives_the_same_messages(void **state)
{
    (void)state;
    struct seen whole;
    struct slice all = BYTES(stream);
    see_whole(&whole);
    for (size_t i = 0; i <= all.n; i++) {
        for (size_t j = i; j <= all.n; j++) { /* j == i or j == n: into two */
            struct frame_scan scan = {0};
            struct seen seen = {0};
            assert_int_equal(feed(&scan, cut(all, 0, i), &seen), FRAME_MORE);
            assert_int_equal(feed(&scan, cut(all, i, j), &seen), FRAME_MORE);
            assert_int_equal(feed(&scan, cut(all, j, all.n), &seen), FRAME_MORE);
            assert_true(frame_at_border(&scan));
            assert_same_seen(&seen, &whole);
        }
    }
}

static void one_byte_at_a_time_gives_the_same_messages(void **state)
{
    (void)state;
    struct seen whole, seen = {0};
    struct frame_scan scan = {0};
    struct slice all = BYTES(stream);
    see_whole(&whole);
    for (size_t i = 0; i < all.n; i++)
        assert_int_equal(feed(&scan, cut(all, i, i + 1), &seen), FRAME_MORE);
    assert_same_seen(&seen, &whole);
}

static void the_border_is_where_a_message_ends(void **state)
{
    (void)state;
    static const size_t borders[] = {0, 14, 19, 25, 30, 35, 46};
    struct slice all = BYTES(stream);
    for (size_t i = 0, next = 0; i <= all.n; i++) {
        struct frame_scan scan = {0};
        struct seen seen = {0};
        feed(&scan, cut(all, 0, i), &seen);
        bool is_border = next < COUNT(borders) && borders[next] == i;
        assert_int_equal(frame_at_border(&scan), is_border);
        next += is_border;
    }
}

static void every_short_head_asks_for_more(void **state)
{
    (void)state;
    for (size_t n = 0; n < FRAME_HEAD_BYTES; n++) {
        uint8_t *copy = exact_copy(cut(BYTES(stream), 0, n));
        struct frame_head head = {.type = '?', .body_bytes = 77};
        assert_int_equal(frame_read_head((struct slice){copy, n}, BODY_MAX, &head), FRAME_MORE);
        assert_int_equal(head.type, '?');
        assert_int_equal(head.body_bytes, 77);
        free(copy);
    }
}

static enum frame_rc read_length(uint32_t wire_bytes, uint32_t body_max, struct frame_head *head)
{
    uint8_t bytes[FRAME_HEAD_BYTES] = {'Q', (uint8_t)(wire_bytes >> 24),
                                       (uint8_t)(wire_bytes >> 16), (uint8_t)(wire_bytes >> 8),
                                       (uint8_t)wire_bytes};
    return frame_read_head((struct slice){bytes, sizeof bytes}, body_max, head);
}

static void a_length_that_lies_is_refused_from_the_head(void **state)
{
    (void)state;
    static const uint32_t bad[] = {0,           1,           2,           3,           BODY_MAX + 5,
                                   0x40000004U, 0x7fffffffU, 0x80000000U, 0xfffffffeU, 0xffffffffU};
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct frame_head head = {.type = '?', .body_bytes = 77};
        assert_int_equal(read_length(bad[i], BODY_MAX, &head), FRAME_BAD);
        assert_int_equal(head.type, '?');
    }
    struct frame_head head;
    assert_int_equal(read_length(BODY_MAX + 4, BODY_MAX, &head), FRAME_OK);
    assert_int_equal(head.body_bytes, BODY_MAX);
    assert_int_equal(read_length(4, 0, &head), FRAME_OK);
    assert_int_equal(read_length(5, 0, &head), FRAME_BAD);
    assert_int_equal(read_length(0x40000003U, FRAME_BODY_MAX, &head), FRAME_OK);
    assert_int_equal(read_length(0x40000004U, FRAME_BODY_MAX, &head), FRAME_BAD);
}

static void a_bad_head_is_bad_for_good_at_every_cut(void **state)
{
    (void)state;
    struct slice all = BYTES("S\0\0\0\x04Q\xff\xff\xff\xff");
    for (size_t i = 0; i <= all.n; i++) {
        struct frame_scan scan = {0};
        struct seen seen = {0};
        enum frame_rc rc = feed(&scan, cut(all, 0, i), &seen);
        assert_int_equal(rc, i < all.n ? FRAME_MORE : FRAME_BAD);
        assert_int_equal(feed(&scan, cut(all, i, all.n), &seen), FRAME_BAD);
        assert_int_equal(feed(&scan, BYTES(stream), &seen), FRAME_BAD);
        assert_int_equal(feed(&scan, SLICE_NONE, &seen), FRAME_BAD);
        assert_false(frame_at_border(&scan));
        assert_int_equal(seen.heads, 1);
    }
}

static void no_input_asks_for_more(void **state)
{
    (void)state;
    struct frame_scan scan = {0};
    struct seen seen = {0};
    assert_int_equal(feed(&scan, SLICE_NONE, &seen), FRAME_MORE);
    struct slice none = SLICE_NONE;
    struct frame_piece piece;
    assert_int_equal(frame_next(&scan, &none, BODY_MAX, &piece), FRAME_MORE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut_into_three_gives_the_same_messages),
        cmocka_unit_test(one_byte_at_a_time_gives_the_same_messages),
        cmocka_unit_test(the_border_is_where_a_message_ends),
        cmocka_unit_test(every_short_head_asks_for_more),
        cmocka_unit_test(a_length_that_lies_is_refused_from_the_head),
        cmocka_unit_test(a_bad_head_is_bad_for_good_at_every_cut),
        cmocka_unit_test(no_input_asks_for_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
