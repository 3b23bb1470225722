/* proxy/wire/frame.h: cut a stream of bytes into PostgreSQL v3 messages.
 *
 * Source  PostgreSQL documentation, chapter "Frontend/Backend Protocol", "Message Formats".
 * Pure    no I/O, no allocation, no clock, no globals.
 * Units   lengths are bytes. body_bytes leaves out the type byte and the 4 length bytes.
 * Owns    nothing: slices are borrowed from the caller and never kept.
 * Errors  FRAME_MORE is not an error. FRAME_BAD is final: the connection must close.
 * Limits  a body over body_max is refused from its 5-byte head, before any of it is buffered.
 */
#ifndef WIRE_FRAME_H
#define WIRE_FRAME_H

#include "base/slice.h"

#define FRAME_HEAD_BYTES 5
/* PostgreSQL's own ceiling for Query, Parse, Bind, FunctionCall, CopyData: 1 GiB - 1. */
#define FRAME_BODY_MAX 0x3fffffffU

enum frame_rc { FRAME_OK, FRAME_MORE, FRAME_BAD };

struct frame_head {
    uint8_t type;
    uint32_t body_bytes;
};

/* Read the head at the front of in. On MORE and BAD *head is untouched. */
static inline enum frame_rc frame_read_head(struct slice in, uint32_t body_max,
                                            struct frame_head *head)
{
    if (in.n < FRAME_HEAD_BYTES)
        return FRAME_MORE;
    uint32_t wire_bytes = slice_u32(in.p + 1);
    if (wire_bytes < 4 || wire_bytes - 4 > body_max)
        return FRAME_BAD;
    *head = (struct frame_head){in.p[0], wire_bytes - 4};
    return FRAME_OK;
}

/* A position in a stream that is cut at any byte. Zeroed = at the start of a message. */
struct frame_scan {
    struct frame_head head;
    uint32_t body_left;
    uint8_t split_n;
    uint8_t split[FRAME_HEAD_BYTES];
};

/* One run of bytes of one message. */
struct frame_piece {
    struct frame_head head;
    struct slice bytes; /* from the input. When head_split, the body only */
    struct slice
        head_bytes; /* head_split: the 5 head bytes, inside the scan, valid until its next use */
    uint32_t body_offset; /* of the first body byte in this piece */
    struct slice body;    /* the body bytes in this piece */
    bool first, last;     /* the piece holds the head; the piece ends the message */
    bool head_split;      /* the head came in more than one slice */
};

/* Take the next piece off *in. FRAME_MORE: *in is used up (up to 4 head bytes are kept in the
 * scan). */
enum frame_rc frame_next(struct frame_scan *scan, struct slice *in, uint32_t body_max,
                         struct frame_piece *piece);

/* The scan is at a message border: nothing of a message was seen yet. */
static inline bool frame_at_border(const struct frame_scan *scan)
{
    return scan->body_left == 0 && scan->split_n == 0;
}

#endif
