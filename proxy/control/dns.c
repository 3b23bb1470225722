#include "proxy/control/dns.h"

#include "base/check.h"

#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

/* Shared by the control thread and the helper; the last of the two frees it. */
struct dns {
    atomic_uint refs;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct mail *questions; /* oldest first, each a struct dns_answer to be filled */
    bool stopped;
    struct outbox *outbox;
    void (*take)(void *context, struct dns_answer *answer);
    void *context;
};

/* "/dir" is the file .s.PGSQL.PORT there, "@name" the same below an abstract name. */
static bool unix_address(const struct node *node, struct node_address *address)
{
    struct sockaddr_un *un = (struct sockaddr_un *)(void *)&address->addr;
    un->sun_family = AF_UNIX;
    int n = snprintf(un->sun_path, sizeof un->sun_path, "%s/.s.PGSQL.%u", node->host, node->port);
    if (n < 0 || (size_t)n >= sizeof un->sun_path)
        return false;
    size_t bytes = offsetof(struct sockaddr_un, sun_path) + (size_t)n;
    if (node->host[0] == '@')
        un->sun_path[0] = '\0';
    else
        bytes++; /* a path ends with its NUL, an abstract name has none */
    address->bytes = (socklen_t)bytes;
    return true;
}

static uint32_t look_up(const struct node *node, int flags, struct node_address *addresses,
                        uint32_t max, int *error)
{
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char port[8];
    snprintf(port, sizeof port, "%u", node->port);
    *error = getaddrinfo(node->host, port, &hints, &found);
    uint32_t n = 0;
    if (*error != 0)
        return 0;
    for (struct addrinfo *a = found; a && n < max; a = a->ai_next) {
        if (a->ai_addrlen > sizeof addresses[n].addr)
            continue;
        addresses[n] = (struct node_address){.bytes = a->ai_addrlen};
        memcpy(&addresses[n++].addr, a->ai_addr, a->ai_addrlen);
    }
    freeaddrinfo(found);
    return n;
}

bool dns_at_once(const struct node *node, struct node_address *address)
{
    int error;
    *address = (struct node_address){0};
    if (node->host[0] == '/' || node->host[0] == '@')
        return unix_address(node, address);
    return look_up(node, AI_NUMERICHOST, address, 1, &error) == 1;
}

/* ---- the helper thread ---- */

static void answer_question(struct dns *dns, struct dns_answer *answer)
{
    int error = 0;
    answer->address_n = look_up(&answer->cluster->nodes[answer->node], 0, answer->addresses,
                                DNS_ADDRESSES_MAX, &error);
    if (answer->address_n == 0)
        snprintf(answer->error, sizeof answer->error, "%s",
                 error ? gai_strerror(error) : "no usable address");
    if (!outbox_post(dns->outbox, &answer->mail))
        dns_answer_free(answer);
}

static void dns_unref(struct dns *dns)
{
    if (atomic_fetch_sub(&dns->refs, 1) > 1)
        return;
    pthread_cond_destroy(&dns->wake);
    pthread_mutex_destroy(&dns->lock);
    outbox_unref(dns->outbox);
    free(dns);
}

static struct dns_answer *next_question(struct dns *dns)
{
    pthread_mutex_lock(&dns->lock);
    while (!dns->questions && !dns->stopped)
        pthread_cond_wait(&dns->wake, &dns->lock);
    struct mail *mail = dns->questions;
    if (mail)
        dns->questions = mail->next;
    pthread_mutex_unlock(&dns->lock);
    return (struct dns_answer *)(void *)mail;
}

static void *dns_run(void *argument)
{
    struct dns *dns = argument;
    for (struct dns_answer *a; (a = next_question(dns)) != NULL;)
        answer_question(dns, a);
    dns_unref(dns);
    return NULL;
}

/* ---- the control thread ---- */

struct dns *dns_start(struct loop *loop, void (*take)(void *context, struct dns_answer *answer),
                      void *context)
{
    struct dns *dns = calloc(1, sizeof *dns);
    CHECK(dns != NULL);
    atomic_init(&dns->refs, 2);
    pthread_mutex_init(&dns->lock, NULL);
    pthread_cond_init(&dns->wake, NULL);
    dns->outbox = outbox_new(loop);
    dns->take = take;
    dns->context = context;
    if (helper_start("pgweir-dns", dns_run, dns))
        return dns;
    atomic_store(&dns->refs, 1);
    dns_unref(dns);
    return NULL;
}

static void deliver_answer(struct loop *loop, struct mail *mail)
{
    (void)loop;
    struct dns_answer *answer = (struct dns_answer *)(void *)mail;
    answer->take(answer->context, answer);
}

void dns_ask(struct dns *dns, struct cluster *cluster, uint32_t node)
{
    CHECK(node < cluster->node_n);
    struct dns_answer *answer = calloc(1, sizeof *answer);
    CHECK(answer != NULL);
    answer->mail.deliver = deliver_answer;
    answer->take = dns->take;
    answer->context = dns->context;
    answer->cluster = cluster_ref(cluster);
    answer->node = node;
    pthread_mutex_lock(&dns->lock);
    struct mail **end = &dns->questions;
    while (*end)
        end = &(*end)->next;
    *end = &answer->mail;
    pthread_cond_signal(&dns->wake);
    pthread_mutex_unlock(&dns->lock);
}

void dns_answer_free(struct dns_answer *answer)
{
    cluster_unref(answer->cluster);
    free(answer);
}

void dns_stop(struct dns *dns)
{
    outbox_close(dns->outbox);
    pthread_mutex_lock(&dns->lock);
    struct mail *left = dns->questions;
    dns->questions = NULL;
    dns->stopped = true;
    pthread_cond_signal(&dns->wake);
    pthread_mutex_unlock(&dns->lock);
    while (left) {
        struct mail *next = left->next;
        dns_answer_free((struct dns_answer *)(void *)left);
        left = next;
    }
    dns_unref(dns);
}
