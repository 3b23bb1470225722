/* Mail and log lines between threads, on real rings. `make test-tsan` runs it under
 * ThreadSanitizer. */
#include "base/check.h"
#include "proxy/io/log.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define SENDERS 3
#define LETTERS 2000
#define LINES 1000
#define DEADLINE_MS 20000

struct letter {
    struct mail mail;
    unsigned from, number;
};

struct box { /* the context of a loop */
    pthread_t thread;
    pthread_barrier_t *ready;
    struct loop *loop;
    unsigned got, next[SENDERS];
    unsigned wanted;
};

static struct loop *new_loop(void *context)
{
    struct port_config config = {.sq_entries = 64, .cq_entries = 1024};
    struct port_failure failure;
    config.buffers[PORT_SMALL] = (struct port_buffers){.bytes = 1024, .count = 32};
    config.buffers[PORT_BULK] = (struct port_buffers){.bytes = 4096, .count = 32};
    struct port *port = port_uring_create(&config, &failure);
    return port ? loop_new(port, 0, context) : NULL;
}

static void deliver(struct loop *loop, struct mail *mail)
{
    struct letter *letter = (struct letter *)(void *)mail;
    struct box *box = loop->context;
    CHECK(loop == loop_self && loop == box->loop);
    CHECK(letter->number == box->next[letter->from]); /* each sender's mail comes in order */
    box->next[letter->from]++;
    box->got++;
    free(letter);
}

static void send_letter(struct loop *to, unsigned from, unsigned number)
{
    struct letter *letter = malloc(sizeof *letter);
    CHECK(letter != NULL);
    *letter = (struct letter){.mail.deliver = deliver, .from = from, .number = number};
    loop_post(to, &letter->mail);
}

static void turn_until_all_came(struct box *box)
{
    uint64_t deadline_ms = box->loop->now_ms + DEADLINE_MS;
    while (box->got < box->wanted) {
        CHECK(box->loop->now_ms < deadline_ms); /* a lost wake-up */
        loop_turn(box->loop, deadline_ms);
    }
}

struct sender {
    pthread_t thread;
    struct loop *to;
    unsigned id;
};

/* A thread without a loop: the eventfd is its bell. */
static void *send_all(void *arg)
{
    struct sender *s = arg;
    for (unsigned i = 0; i < LETTERS; i++) {
        send_letter(s->to, s->id, i);
        if (i % 64 == 0)
            sched_yield(); /* let the receiver fall asleep now and then */
    }
    return NULL;
}

static void threads_post_and_no_mail_is_lost(void **state)
{
    (void)state;
    struct box box = {.wanted = SENDERS * LETTERS};
    struct sender senders[SENDERS];
    box.loop = new_loop(&box);
    if (!box.loop)
        skip();
    for (unsigned i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.to = box.loop, .id = i};
        pthread_create(&senders[i].thread, NULL, send_all, &senders[i]);
    }
    turn_until_all_came(&box);
    for (unsigned i = 0; i < SENDERS; i++)
        pthread_join(senders[i].thread, NULL);
    assert_int_equal(box.got, box.wanted);
    loop_free(box.loop);
}

/* Two loops play ping-pong: each letter is a bell from ring to ring. */
static struct box players[2];

static void return_the_ball(struct loop *loop, struct mail *mail)
{
    struct letter *letter = (struct letter *)(void *)mail;
    struct box *box = loop->context;
    CHECK(loop == loop_self && loop == box->loop);
    CHECK(letter->number == 2 * box->got + (box == &players[1]));
    box->got++;
    letter->number++;
    if (letter->number < 2 * LETTERS)
        loop_post(players[box == &players[0]].loop, &letter->mail);
    else
        free(letter);
}

static void *play(void *arg)
{
    struct box *box = arg;
    box->loop = new_loop(box);
    CHECK(box->loop != NULL);
    pthread_barrier_wait(box->ready);
    if (box == &players[0]) {
        struct letter *ball = malloc(sizeof *ball);
        CHECK(ball != NULL);
        *ball = (struct letter){.mail.deliver = return_the_ball};
        loop_post(box->loop, &ball->mail); /* to itself first */
    }
    turn_until_all_came(box);
    loop_turn(box->loop, 0);          /* a bell goes out with the next wait */
    pthread_barrier_wait(box->ready); /* nobody rings a loop that is gone */
    loop_free(box->loop);
    return NULL;
}

static void two_loops_wake_each_other(void **state)
{
    (void)state;
    pthread_barrier_t ready;
    struct loop *probe = new_loop(NULL);
    if (!probe)
        skip();
    loop_free(probe);
    pthread_barrier_init(&ready, NULL, 2);
    for (int i = 0; i < 2; i++) {
        players[i] = (struct box){.ready = &ready, .wanted = LETTERS};
        pthread_create(&players[i].thread, NULL, play, &players[i]);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(players[i].thread, NULL);
    assert_int_equal(players[0].got + players[1].got, 2 * LETTERS);
    pthread_barrier_destroy(&ready);
}

/* ---- log ---- */

static void *log_lines(void *arg)
{
    for (uint64_t i = 0; i < LINES; i++)
        LOG(LOG_INFO, "test.line", LF_S("who", arg), LF_U("n", i));
    return NULL;
}

static FILE *open_scratch(char *path, size_t path_bytes)
{
    snprintf(path, path_bytes, "/tmp/pgweir-test.XXXXXX");
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    return fdopen(fd, "r+");
}

/* Each thread's lines in order and whole; returns how many. */
static unsigned count_lines(FILE *f, uint64_t next[SENDERS])
{
    char line[LOG_LINE_MAX], level[16], event[32];
    unsigned lines = 0, who;
    unsigned long n;
    rewind(f);
    while (fgets(line, sizeof line, f)) {
        CHECK(sscanf(line, "ts=%*s level=%15s event=%31s who=%u n=%lu", level, event, &who, &n) ==
              4);
        CHECK(who < SENDERS && n == next[who]);
        next[who]++;
        lines++;
    }
    return lines;
}

static void threads_log_and_a_reopen_loses_no_line(void **state)
{
    (void)state;
    static char names[SENDERS][2] = {"0", "1", "2"};
    char path[2][64];
    pthread_t threads[SENDERS];
    uint64_t next[SENDERS] = {0};
    struct loop *loop = new_loop(NULL);
    if (!loop)
        skip();
    FILE *f[2] = {open_scratch(path[0], sizeof path[0]), open_scratch(path[1], sizeof path[1])};
    log_configure(LOG_INFO, LOG_LOGFMT);
    log_start(loop, open(path[0], O_WRONLY | O_APPEND | O_CLOEXEC));
    for (int i = 0; i < SENDERS; i++)
        pthread_create(&threads[i], NULL, log_lines, names[i]);
    for (int i = 0; i < 20; i++)
        loop_turn(loop, loop->now_ms + 2);
    log_switch(open(path[1], O_WRONLY | O_APPEND | O_CLOEXEC));
    for (int i = 0; i < SENDERS; i++)
        pthread_join(threads[i], NULL);
    log_stop();
    assert_int_equal(log_dropped(), 0);
    unsigned lines = count_lines(f[0], next);
    lines += count_lines(f[1], next);
    assert_int_equal(lines, SENDERS * LINES);
    loop_free(loop);
    for (int i = 0; i < 2; i++) {
        fclose(f[i]);
        unlink(path[i]);
    }
}

/* A reader that stalls: lines are dropped and counted, nobody waits, and memory is bounded. */
static void a_blocked_log_stops_nothing(void **state)
{
    (void)state;
    int fd[2];
    struct loop *loop = new_loop(NULL);
    if (!loop)
        skip();
    assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
    uint64_t before = log_dropped();
    log_start(loop, fd[1]);
    for (uint64_t i = 0; i < 40000; i++) {
        LOG(LOG_INFO, "test.line", LF_S("who", "0"), LF_U("n", i));
        if (i % 100 == 0)
            loop_turn(loop, loop->now_ms);
    }
    assert_true(log_dropped() > before);
    log_stop();
    log_switch(STDERR_FILENO);
    close(fd[0]);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_post_and_no_mail_is_lost),
        cmocka_unit_test(two_loops_wake_each_other),
        cmocka_unit_test(threads_log_and_a_reopen_loses_no_line),
        cmocka_unit_test(a_blocked_log_stops_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
