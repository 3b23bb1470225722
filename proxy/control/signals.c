/* proxy/control/signals.c: what the operator sends. As PID 1 the kernel would drop signals without
 * a handler; a signalfd gets them all the same. */
#include "base/check.h"
#include "proxy/control/inside.h"
#include "proxy/io/log.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum action { DO_DRAIN, DO_STOP_NOW, DO_RELOAD, DO_REOPEN };

static const struct {
    int number;
    const char *name;
    enum action action;
} signals[] = {
    {SIGTERM, "SIGTERM", DO_DRAIN},    {SIGINT, "SIGINT", DO_DRAIN},
    {SIGQUIT, "SIGQUIT", DO_STOP_NOW}, {SIGHUP, "SIGHUP", DO_RELOAD},
    {SIGUSR1, "SIGUSR1", DO_REOPEN},
};
#define SIGNALS_N (sizeof signals / sizeof *signals)

static sigset_t signal_set(void)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < SIGNALS_N; i++)
        sigaddset(&set, signals[i].number);
    return set;
}

void control_block_signals(void)
{
    const sigset_t set = signal_set();
    CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    signal(SIGPIPE, SIG_IGN);
}

static void raise_stage(struct control *c, unsigned stage)
{
    if (stage > CONTROL_AT_ONCE)
        stage = CONTROL_AT_ONCE;
    if (stage <= c->stage)
        return;
    c->stage = stage;
    c->hooks.shutdown(c->hooks.context, stage);
}

void control_taken_over(struct control *c)
{
    if (c->taken_over)
        return;
    c->taken_over = true;
    if (c->stage < CONTROL_DRAIN) {
        c->stage = CONTROL_DRAIN;
        c->hooks.taken_over(c->hooks.context);
    }
}

static void act(struct control *c, enum action action)
{
    switch (action) {
    case DO_DRAIN:
        raise_stage(c, c->stage + 1);
        break;
    case DO_STOP_NOW:
        raise_stage(c, CONTROL_AT_ONCE);
        break;
    case DO_RELOAD:
        reload_request(c);
        break;
    case DO_REOPEN:
        reload_request_reopen(c);
        break;
    }
}

static void on_signals(struct watch *watch, int32_t res)
{
    struct control *c = LIST_ENTRY(watch, struct control, signal_watch);
    struct signalfd_siginfo info;
    (void)res;
    if (c->signal_fd < 0)
        return; /* stopped meanwhile */
    while (read(c->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
        for (size_t i = 0; i < SIGNALS_N; i++)
            if (signals[i].number == (int)info.ssi_signo) {
                LOG(LOG_INFO, "signal.received", LF_S("signal", signals[i].name),
                    LF_U("from_pid", info.ssi_pid));
                act(c, signals[i].action);
            }
    watch_poll(watch, c->signal_fd, POLLIN);
}

void signals_start(struct control *c)
{
    const sigset_t set = signal_set();
    c->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    CHECK(c->signal_fd >= 0);
    watch_init(&c->signal_watch, c->loop, on_signals);
    watch_poll(&c->signal_watch, c->signal_fd, POLLIN);
}

void signals_stop(struct control *c)
{
    if (c->signal_fd < 0)
        return;
    watch_cancel(&c->signal_watch);
    close(c->signal_fd);
    c->signal_fd = -1;
}
