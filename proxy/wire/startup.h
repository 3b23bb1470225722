/* proxy/wire/startup.h: read the first packet of a client, which has no type byte.
 *
 * Source  PostgreSQL documentation, "Message Formats" (StartupMessage, SSLRequest, GSSENCRequest,
 *         CancelRequest); options: pg_split_opts() and process_postgres_switches().
 * Pure    no I/O, no allocation, no clock, no globals.
 * Units   lengths are bytes.
 * Owns    nothing: the slices of a struct startup point into the input.
 * Errors  STARTUP_MORE is not an error. Every other value but STARTUP_OK is final. An answer never
 *         changes when more bytes come: each prefix gives STARTUP_MORE or the same error.
 * Limits  the size is judged from the first 4 bytes and the protocol from the first 8, before
 *         anything else is waited for. The named limits are below.
 */
#ifndef WIRE_STARTUP_H
#define WIRE_STARTUP_H

#include "base/slice.h"
#include "proxy/wire/put.h"

#define STARTUP_BYTES_MAX 10000 /* PostgreSQL's MAX_STARTUP_PACKET_LENGTH */
#define STARTUP_NAME_MAX 63     /* user and database: NAMEDATALEN - 1 */
#define STARTUP_PARAMS_MAX 64
#define STARTUP_MINOR_MAX 2 /* the newest 3.x that we speak; 3.1 was never released */
#define STARTUP_KEY_MIN 4
#define STARTUP_KEY_MAX 256

enum startup_kind {
    STARTUP_V3,
    STARTUP_SSL,
    STARTUP_GSSENC,
    STARTUP_CANCEL,
    STARTUP_HEALTH,     /* a request of our own, formed like SSLRequest */
    STARTUP_DIRECT_TLS, /* the first byte of a TLS handshake record, 0x16 */
    STARTUP_KIND_N
};

enum startup_rc {
    STARTUP_OK,
    STARTUP_MORE,
    STARTUP_TOO_LONG,         /* over STARTUP_BYTES_MAX */
    STARTUP_TOO_SHORT,        /* under 8 bytes */
    STARTUP_NOT_POSTGRES,     /* text where the length should be, such as "GET " or "SSH-" */
    STARTUP_OLD_PROTOCOL,     /* protocol 2 */
    STARTUP_UNKNOWN_PROTOCOL, /* neither 3.x nor a request code */
    STARTUP_NO_TERMINATOR,    /* a 3.x packet that does not end in NUL */
    STARTUP_BAD_LAYOUT,       /* bad parameter layout, or a request of the wrong size */
    STARTUP_NO_USER,
    STARTUP_USER_TOO_LONG,     /* over STARTUP_NAME_MAX */
    STARTUP_DATABASE_TOO_LONG, /* over STARTUP_NAME_MAX */
    STARTUP_TOO_MANY_PARAMS,   /* over STARTUP_PARAMS_MAX */
    STARTUP_DUPLICATE_PARAM,   /* letters compare without case, as setting names do */
    STARTUP_RC_N
};

/* The bytes of STARTUP_HEALTH, and the byte that answers: new clients are welcome, or should go elsewhere. */
#define STARTUP_HEALTH_REQUEST             \
    {                                      \
        0, 0, 0, 8, 0x04, 0xd2, 0x19, 0x20 \
    }
#define STARTUP_HEALTHY 'H'
#define STARTUP_DRAINING 'D'

struct startup {
    enum startup_kind kind;
    uint16_t minor;           /* V3: the one to speak, 0 or 2 */
    uint16_t requested_minor; /* V3: the one that was asked for */
    bool needs_negotiation;   /* V3: minor != requested_minor, or there is a _pq_.* parameter */
    uint32_t total_bytes;     /* of this packet; 0 for DIRECT_TLS. More may follow in the input */
    struct slice params;      /* V3: the name-value pairs, all of them; for startup_next_param */
    struct slice user;        /* V3: 1 .. STARTUP_NAME_MAX bytes */
    struct slice database;    /* V3: as user when absent or empty */
    struct slice replication; /* V3: SLICE_NONE when absent */
    struct slice options;     /* V3: SLICE_NONE when absent */
    uint32_t cancel_pid;      /* CANCEL */
    struct slice cancel_key;  /* CANCEL: STARTUP_KEY_MIN .. STARTUP_KEY_MAX bytes */
};

/* Read the packet at the front of in. *out is written on STARTUP_OK only. */
enum startup_rc startup_read(struct slice in, struct startup *out);

/* Take the next pair off *rest (at first: startup.params). False at the end, or where the rest is
 * no pair; *rest is then as it was. A name is never empty. */
bool startup_next_param(struct slice *rest, struct slice *name, struct slice *value);

/* Static texts for the client; rc is an error. */
const char *startup_error_text(enum startup_rc rc);
const char *startup_error_sqlstate(enum startup_rc rc);

enum startup_option_rc {
    STARTUP_OPTION_OK,
    STARTUP_OPTION_END,
    STARTUP_OPTION_BAD,     /* not "-c name=value", "-cname=value" or "--name=value"; empty name */
    STARTUP_OPTION_TOO_LONG /* text is full */
};

/* Take the next setting off *rest (at first: startup.options). name and value point into text,
 * where they were written without their backslashes; a text of as many bytes as the options never
 * runs full. Each OK makes *rest shorter. BAD and TOO_LONG are final. A '-' in a name is written as
 * '_', as PostgreSQL reads it. A value may be empty. */
enum startup_option_rc startup_next_option(struct slice *rest, struct put *text, struct slice *name,
                                           struct slice *value);

#endif
