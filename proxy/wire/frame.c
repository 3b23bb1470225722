#include "proxy/wire/frame.h"

#include "base/check.h"

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Body bytes of the message whose head is in scan->head; *in may be short of them. */
static void take_body(struct frame_scan *scan, struct slice *in, struct frame_piece *piece)
{
    size_t n = min_size(scan->body_left, in->n);
    piece->head = scan->head;
    piece->body_offset = scan->head.body_bytes - scan->body_left;
    piece->body = (struct slice){in->p, n};
    scan->body_left -= (uint32_t)n;
    piece->last = scan->body_left == 0;
    *in = slice_skip(*in, n);
}

static enum frame_rc complete_split_head(struct frame_scan *scan, struct slice *in,
                                         uint32_t body_max)
{
    size_t n = min_size((size_t)(FRAME_HEAD_BYTES - scan->split_n), in->n);
    if (n)
        memcpy(scan->split + scan->split_n, in->p, n);
    scan->split_n = (uint8_t)(scan->split_n + n);
    *in = slice_skip(*in, n);
    return frame_read_head((struct slice){scan->split, scan->split_n}, body_max, &scan->head);
}

enum frame_rc frame_next(struct frame_scan *scan, struct slice *in, uint32_t body_max,
                         struct frame_piece *piece)
{
    if (scan->split_n == FRAME_HEAD_BYTES) /* a bad head was seen: the borders are lost for good */
        return FRAME_BAD;
    if (in->n == 0)
        return FRAME_MORE;
    *piece = (struct frame_piece){0};
    if (scan->body_left > 0) {
        const uint8_t *start = in->p;
        take_body(scan, in, piece);
        piece->bytes = (struct slice){start, piece->body.n};
        return FRAME_OK;
    }
    if (scan->split_n == 0 && in->n >= FRAME_HEAD_BYTES) {
        const uint8_t *start = in->p;
        enum frame_rc rc = frame_read_head(*in, body_max, &scan->head);
        if (rc != FRAME_OK) {
            scan->split_n = FRAME_HEAD_BYTES;
            return rc;
        }
        *in = slice_skip(*in, FRAME_HEAD_BYTES);
        scan->body_left = scan->head.body_bytes;
        take_body(scan, in, piece);
        piece->first = true;
        piece->bytes = (struct slice){start, FRAME_HEAD_BYTES + piece->body.n};
        return FRAME_OK;
    }
    enum frame_rc rc = complete_split_head(scan, in, body_max);
    if (rc != FRAME_OK)
        return rc;
    scan->split_n = 0;
    scan->body_left = scan->head.body_bytes;
    const uint8_t *start = in->p;
    take_body(scan, in, piece);
    piece->first = true;
    piece->head_split = true;
    piece->head_bytes = (struct slice){scan->split, FRAME_HEAD_BYTES};
    piece->bytes = (struct slice){start, piece->body.n};
    return FRAME_OK;
}
