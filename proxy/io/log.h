/* proxy/io/log.h: events with a stable name and fields.
 *
 * What    LOG(LOG_INFO, "client.login", LF_S("user", user), LF_U("wait_ms", ms));
 * Form    text, logfmt or json; one line each; UTC with milliseconds; values are escaped and cut
 *         at LOG_VALUE_MAX. Never SQL text, never a secret.
 * Threads any. A line is formatted by its caller and written by the loop that called log_start(),
 *         through its ring: a blocked stderr stops nothing. Before that, and after log_stop(),
 *         lines are written directly.
 * Limits  LOG_QUEUED_MAX bytes wait to be written; what comes on top is dropped and counted, and
 *         the count is logged.
 */
#ifndef IO_LOG_H
#define IO_LOG_H

#include "proxy/io/loop.h"

#define LOG_VALUE_MAX 256
#define LOG_LINE_MAX 4096
#define LOG_QUEUED_MAX (1U << 20)

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_TEXT, LOG_LOGFMT, LOG_JSON };
enum log_type { LOG_STR, LOG_U64, LOG_I64 };

struct log_field {
    const char *key;
    enum log_type type;
    union {
        const char *s;
        uint64_t u;
        int64_t i;
    };
};

#define LF_S(k, v)                            \
    {                                         \
        .key = (k), .type = LOG_STR, .s = (v) \
    }
#define LF_U(k, v)                            \
    {                                         \
        .key = (k), .type = LOG_U64, .u = (v) \
    }
#define LF_I(k, v)                            \
    {                                         \
        .key = (k), .type = LOG_I64, .i = (v) \
    }

#define LOG(level, event, ...)                                                                 \
    do {                                                                                       \
        const struct log_field log_fields_[] = {{.key = NULL}, ##__VA_ARGS__};                 \
        log_emit(level, event, log_fields_ + 1, sizeof log_fields_ / sizeof *log_fields_ - 1); \
    } while (0)

/* level: lines below it are dropped. Call again at reload. */
void log_configure(enum log_level level, enum log_format format);
bool log_enabled(enum log_level level);
void log_emit(enum log_level level, const char *event, const struct log_field *fields, size_t n);

/* From now on loop writes the lines to fd. */
void log_start(struct loop *loop, int fd);
/* Write another file from now on (reopen); the old fd is closed unless it is stderr. */
void log_switch(int fd);
/* Write what is queued (at most for some seconds), then lines go to stderr directly. */
void log_stop(void);
uint64_t log_dropped(void);

#endif
