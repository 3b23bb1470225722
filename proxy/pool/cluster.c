#include "proxy/pool/cluster.h"

#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODE_WHY_TEXT(name, text) text,
static const char *const why_texts[] = {NODE_WHY(NODE_WHY_TEXT)};
_Static_assert(sizeof why_texts / sizeof *why_texts == NODE_WHY_N, "a text for each reason");

const char *node_why_text(enum node_why why)
{
    CHECK(why < NODE_WHY_N);
    return why_texts[why];
}

const char *node_role_text(enum node_role role)
{
    static const char *const texts[] = {"unknown", "primary", "replica"};
    CHECK(role <= NODE_REPLICA);
    return texts[role];
}

static char *label_of(const struct conf_host *host)
{
    char label[NODE_LABEL_MAX];
    bool v6 = strchr(host->host, ':') != NULL;
    snprintf(label, sizeof label, v6 ? "[%s]:%u" : "%s:%u", host->host, host->port);
    char *copy = strdup(label);
    CHECK(copy != NULL);
    return copy;
}

struct cluster *cluster_new(const struct conf_host *hosts, size_t host_n)
{
    CHECK(host_n > 0 && host_n <= NODES_MAX);
    size_t bytes = sizeof(struct cluster) + host_n * sizeof(struct node);
    struct cluster *c = aligned_alloc(_Alignof(struct cluster), bytes);
    CHECK(c != NULL);
    memset(c, 0, bytes);
    atomic_init(&c->refs, 1);
    atomic_init(&c->view, (uint64_t)NODE_NONE << 32);
    c->node_n = (uint32_t)host_n;
    c->learned = calloc(1, sizeof *c->learned);
    CHECK(c->learned != NULL);
    for (size_t i = 0; i < host_n; i++) {
        struct node *n = &c->nodes[i];
        n->index = (uint32_t)i;
        n->port = hosts[i].port;
        n->host = strdup(hosts[i].host);
        CHECK(n->host != NULL);
        n->label = label_of(&hosts[i]);
        n->status.why = NODE_NOT_SAMPLED;
    }
    return c;
}

bool cluster_same_hosts(const struct cluster *cluster, const struct conf_host *hosts, size_t host_n)
{
    if (cluster->node_n != host_n)
        return false;
    for (size_t i = 0; i < host_n; i++)
        if (cluster->nodes[i].port != hosts[i].port ||
            strcmp(cluster->nodes[i].host, hosts[i].host) != 0)
            return false;
    return true;
}

struct cluster *cluster_ref(struct cluster *cluster)
{
    atomic_fetch_add(&cluster->refs, 1);
    return cluster;
}

void cluster_unref(struct cluster *cluster)
{
    if (atomic_fetch_sub(&cluster->refs, 1) > 1)
        return;
    for (uint32_t i = 0; i < cluster->node_n; i++) {
        free((char *)(uintptr_t)cluster->nodes[i].host);
        free((char *)(uintptr_t)cluster->nodes[i].label);
    }
    free(cluster->learned);
    free(cluster);
}

void cluster_note_backend(struct cluster *cluster, uint32_t backend, uint32_t client)
{
    atomic_store_explicit(&cluster->backends[backend % CLUSTER_BACKENDS],
                          (uint64_t)backend << 32 | client, memory_order_relaxed);
}

uint32_t cluster_client_of(const struct cluster *cluster, uint32_t backend)
{
    uint64_t w =
        atomic_load_explicit(&cluster->backends[backend % CLUSTER_BACKENDS], memory_order_relaxed);
    return w >> 32 == backend ? (uint32_t)w : 0;
}

bool cluster_is_awaited(const struct cluster *cluster)
{
    for (uint32_t i = 0; i < WORKERS_MAX; i++)
        if (atomic_load_explicit(&cluster->waiting[i], memory_order_relaxed))
            return true;
    return false;
}

bool cluster_publish(struct cluster *cluster, uint32_t readable, uint8_t primary)
{
    struct cluster_view was = cluster_view(cluster);
    if (was.readable == readable && was.primary == primary)
        return false;
    uint64_t epoch = (was.epoch + 1U) & 0xffffffU;
    atomic_store_explicit(&cluster->view, epoch << 40 | (uint64_t)primary << 32 | readable,
                          memory_order_release);
    return true;
}

/* ---- sequence counters: odd while the writer is inside; a reader tries again ----
 * Each word is copied atomically, so that a torn copy is thrown away and is no data race. */

static void copy_words(void *to, const void *from, size_t bytes)
{
    uint64_t *t = to;
    const uint64_t *f = from;
    for (size_t i = 0; i < bytes / sizeof *t; i++)
        __atomic_store_n(&t[i], __atomic_load_n(&f[i], __ATOMIC_RELAXED), __ATOMIC_RELAXED);
}

static void seq_write(atomic_uint *seq, void *to, const void *from, size_t bytes)
{
    unsigned n = atomic_load_explicit(seq, memory_order_relaxed);
    atomic_store_explicit(seq, n + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    copy_words(to, from, bytes);
    atomic_store_explicit(seq, n + 2, memory_order_release);
}

static void seq_read(const atomic_uint *seq, void *to, const void *from, size_t bytes)
{
    for (;;) {
        unsigned before = atomic_load_explicit(seq, memory_order_acquire);
        copy_words(to, from, bytes);
        atomic_thread_fence(memory_order_acquire);
        if (before % 2 == 0 && before == atomic_load_explicit(seq, memory_order_relaxed))
            return;
    }
}

_Static_assert(sizeof(struct node_status) % 8 == 0, "copied in words");
_Static_assert(sizeof(struct node_address) % 8 == 0, "copied in words");
_Static_assert(_Alignof(struct node_address) == 8, "copied in words");

void node_publish_status(struct node *node, const struct node_status *status)
{
    seq_write(&node->status_seq, &node->status, status, sizeof *status);
}

void node_publish_address(struct node *node, const struct node_address *address)
{
    seq_write(&node->address_seq, &node->address, address, sizeof *address);
}

struct node_status node_status(struct node *node)
{
    struct node_status status;
    seq_read(&node->status_seq, &status, &node->status, sizeof status);
    return status;
}

void node_leave_address(struct node *node)
{
    atomic_fetch_add(&node->address_edition, 1);
}

unsigned node_address_edition(const struct node *node)
{
    return atomic_load(&node->address_edition);
}

struct node_address node_address(struct node *node)
{
    struct node_address address;
    seq_read(&node->address_seq, &address, &node->address, sizeof address);
    return address;
}
