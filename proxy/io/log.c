#include "proxy/io/log.h"

#include "base/check.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define STOP_WAIT_MS 2000

struct line {
    struct mail mail; /* first: a delivered mail is its line */
    size_t n;
    char text[];
};

struct text {
    char *p;
    size_t n, cap;
};

static struct {
    _Atomic(struct loop *) loop;
    atomic_int level, format;
    atomic_size_t queued_bytes;
    atomic_uint_fast64_t dropped;
    /* The rest belongs to the writing loop. */
    uint64_t dropped_told;
    int fd;
    int writing_fd; /* the one that the write in flight names */
    struct watch watch;
    struct line *head, *last;
    size_t written;
} log_state = {.level = LOG_INFO, .fd = STDERR_FILENO};

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static const char *const level_texts[] = {"DEBUG", "INFO", "WARN", "ERROR"};

void log_configure(enum log_level level, enum log_format format)
{
    atomic_store(&log_state.level, (int)level);
    atomic_store(&log_state.format, (int)format);
}

bool log_enabled(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&log_state.level, memory_order_relaxed);
}

uint64_t log_dropped(void)
{
    return atomic_load(&log_state.dropped);
}

/* ---- formatting ---- */

static void put(struct text *t, const char *s, size_t n)
{
    if (n > t->cap - t->n)
        n = t->cap - t->n;
    memcpy(t->p + t->n, s, n);
    t->n += n;
}

static void put_str(struct text *t, const char *s)
{
    put(t, s, strlen(s));
}

static void put_escaped(struct text *t, const char *s)
{
    char hex[8];
    size_t n = strlen(s);
    bool cut = n > LOG_VALUE_MAX;
    for (size_t i = 0; i < (cut ? LOG_VALUE_MAX : n); i++) {
        unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\') {
            put(t, "\\", 1);
            put(t, &s[i], 1);
        } else if (c < 0x20 || c == 0x7f) {
            snprintf(hex, sizeof hex, "\\u%04x", c);
            put_str(t, hex);
        } else {
            put(t, &s[i], 1);
        }
    }
    if (cut)
        put_str(t, "...");
}

static bool is_bare(const char *s)
{
    size_t n = strcspn(s, " \"\\=");
    if (*s == '\0' || s[n] != '\0' || n > LOG_VALUE_MAX)
        return false;
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            return false;
    return true;
}

static void put_value(struct text *t, const struct log_field *f, bool json)
{
    char number[32];
    switch (f->type) {
    case LOG_U64:
        snprintf(number, sizeof number, "%" PRIu64, f->u);
        put_str(t, number);
        return;
    case LOG_I64:
        snprintf(number, sizeof number, "%" PRId64, f->i);
        put_str(t, number);
        return;
    case LOG_STR:
        break;
    }
    const char *s = f->s ? f->s : "";
    if (!json && is_bare(s)) {
        put_str(t, s);
        return;
    }
    put(t, "\"", 1);
    put_escaped(t, s);
    put(t, "\"", 1);
}

static void put_time(struct text *t)
{
    struct timespec ts;
    struct tm tm;
    char at[48];
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    size_t n = strftime(at, sizeof at, "%Y-%m-%dT%H:%M:%S", &tm);
    put(t, at, n);
    snprintf(at, sizeof at, ".%03ldZ", ts.tv_nsec / 1000000);
    put_str(t, at);
}

static void format_json(struct text *t, enum log_level level, const char *event,
                        const struct log_field *f, size_t n)
{
    put_str(t, "{\"ts\":\"");
    put_time(t);
    put_str(t, "\",\"level\":\"");
    put_str(t, level_names[level]);
    put_str(t, "\",\"event\":\"");
    put_str(t, event);
    put_str(t, "\"");
    for (size_t i = 0; i < n; i++) {
        put_str(t, ",\"");
        put_str(t, f[i].key);
        put_str(t, "\":");
        put_value(t, &f[i], true);
    }
    put_str(t, "}");
}

static void format_fields(struct text *t, const struct log_field *f, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        put_str(t, " ");
        put_str(t, f[i].key);
        put_str(t, "=");
        put_value(t, &f[i], false);
    }
}

static size_t format_line(char *line, size_t cap, enum log_level level, const char *event,
                          const struct log_field *f, size_t n)
{
    struct text t = {.p = line, .cap = cap - 1};
    switch ((enum log_format)atomic_load(&log_state.format)) {
    case LOG_JSON:
        format_json(&t, level, event, f, n);
        break;
    case LOG_LOGFMT:
        put_str(&t, "ts=");
        put_time(&t);
        put_str(&t, " level=");
        put_str(&t, level_names[level]);
        put_str(&t, " event=");
        put_str(&t, event);
        format_fields(&t, f, n);
        break;
    case LOG_TEXT:
        put_time(&t);
        put_str(&t, " ");
        put_str(&t, level_texts[level]);
        put_str(&t, " ");
        put_str(&t, event);
        format_fields(&t, f, n);
        break;
    }
    line[t.n++] = '\n';
    return t.n;
}

/* ---- writing ---- */

static void write_next(void)
{
    if (!log_state.head || log_state.watch.armed || !atomic_load(&log_state.loop))
        return;
    log_state.writing_fd = log_state.fd;
    watch_write(&log_state.watch, log_state.fd, log_state.head->text + log_state.written,
                log_state.head->n - log_state.written);
}

static void drop_head(void)
{
    struct line *line = log_state.head;
    log_state.head = (struct line *)(void *)line->mail.next;
    log_state.written = 0;
    atomic_fetch_sub(&log_state.queued_bytes, line->n);
    free(line);
}

static void tell_dropped(void)
{
    uint64_t dropped = log_dropped();
    if (dropped == log_state.dropped_told || log_state.head)
        return;
    uint64_t n = dropped - log_state.dropped_told;
    log_state.dropped_told = dropped;
    LOG(LOG_WARN, "log.dropped", LF_U("lines", n));
}

static void close_unless_stderr(int fd)
{
    if (fd != STDERR_FILENO)
        close(fd);
}

static void on_written(struct watch *watch, int32_t res)
{
    (void)watch;
    if (log_state.writing_fd != log_state.fd)
        close_unless_stderr(log_state.writing_fd);
    if (res > 0) {
        log_state.written += (size_t)res;
    } else { /* a full disk or a closed pipe: this line is lost, the next may go */
        atomic_fetch_add(&log_state.dropped, 1);
        log_state.written = log_state.head->n;
    }
    if (log_state.written >= log_state.head->n)
        drop_head();
    if (res > 0)
        tell_dropped();
    write_next();
}

static void take_line(struct loop *loop, struct mail *mail)
{
    (void)loop;
    mail->next = NULL;
    struct line *line = (struct line *)(void *)mail;
    if (log_state.head)
        log_state.last->mail.next = mail;
    else
        log_state.head = line;
    log_state.last = line;
    write_next();
}

static void write_directly(const char *text, size_t n)
{
    while (n > 0) {
        ssize_t wrote = write(STDERR_FILENO, text, n);
        if (wrote <= 0)
            return;
        text += wrote;
        n -= (size_t)wrote;
    }
}

void log_emit(enum log_level level, const char *event, const struct log_field *fields, size_t n)
{
    char text[LOG_LINE_MAX];
    if (!log_enabled(level))
        return;
    size_t bytes = format_line(text, sizeof text, level, event, fields, n);
    struct loop *loop = atomic_load(&log_state.loop);
    if (!loop) {
        write_directly(text, bytes);
        return;
    }
    struct line *line = NULL;
    if (atomic_load(&log_state.queued_bytes) + bytes <= LOG_QUEUED_MAX)
        line = malloc(sizeof *line + bytes);
    if (!line) {
        atomic_fetch_add(&log_state.dropped, 1);
        return;
    }
    atomic_fetch_add(&log_state.queued_bytes, bytes);
    line->mail.deliver = take_line;
    line->n = bytes;
    memcpy(line->text, text, bytes);
    loop_post(loop, &line->mail);
}

void log_start(struct loop *loop, int fd)
{
    signal(SIGPIPE, SIG_IGN); /* a reader that went away ends our log, not us */
    log_state.fd = fd;
    watch_init(&log_state.watch, loop, on_written);
    atomic_store(&log_state.loop, loop);
}

void log_switch(int fd)
{
    int old = log_state.fd;
    log_state.fd = fd;
    /* A write that is started but not yet submitted names its fd by number: it closes it at its
     * end. */
    if (!log_state.watch.armed || old != log_state.writing_fd)
        close_unless_stderr(old);
}

void log_stop(void)
{
    struct loop *loop = atomic_load(&log_state.loop);
    if (!loop)
        return;
    uint64_t deadline_ms = loop->now_ms + STOP_WAIT_MS;
    while (atomic_load(&log_state.queued_bytes) > 0 && loop->now_ms < deadline_ms)
        loop_turn(loop, deadline_ms);
    atomic_store(&log_state.loop, NULL);
    if (log_state.watch.armed)
        watch_cancel(&log_state.watch);
    while (log_state.watch.armed && loop->now_ms < deadline_ms + STOP_WAIT_MS)
        loop_turn(loop, deadline_ms + STOP_WAIT_MS);
    if (log_state.watch.armed)
        return; /* the kernel still has a line of ours: it stays */
    while (log_state.head)
        drop_head();
    watch_close(&log_state.watch);
}
