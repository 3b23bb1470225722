/* proxy/control/dns.h: addresses of nodes.
 *
 * What     numbers and unix sockets are turned into addresses at once. Names go to one helper
 *          thread, pgweir-dns, in order; a name server that hangs delays other names, nothing else.
 * Threads  the control thread calls; answers come as mail to its loop.
 */
#ifndef CONTROL_DNS_H
#define CONTROL_DNS_H

#include "proxy/control/outbox.h"
#include "proxy/pool/cluster.h"

#define DNS_ADDRESSES_MAX 8

struct dns_answer {
    struct mail mail; /* first */
    void (*take)(void *context, struct dns_answer *answer);
    void *context;
    struct cluster *cluster; /* a reference */
    uint32_t node;
    uint32_t address_n; /* 0: there is none, and error says why */
    struct node_address addresses[DNS_ADDRESSES_MAX];
    char error[128];
};

/* A unix socket or a number. False: it must be looked up. */
bool dns_at_once(const struct node *node, struct node_address *address);

struct dns;
/* take() runs on the loop and owns the answer: dns_answer_free(). NULL: no thread (errno). */
struct dns *dns_start(struct loop *loop, void (*take)(void *context, struct dns_answer *answer),
                      void *context);
/* One question per node at a time, please. */
void dns_ask(struct dns *dns, struct cluster *cluster, uint32_t node);
void dns_answer_free(struct dns_answer *answer);
/* The thread ends by itself, now or when the resolver lets it go. */
void dns_stop(struct dns *dns);

#endif
