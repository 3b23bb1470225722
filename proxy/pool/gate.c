#include "proxy/pool/gate.h"

#include "base/check.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct gate *gates;

struct gate *gate_find(const char *name)
{
    pthread_mutex_lock(&lock);
    struct gate *gate = gates;
    while (gate && strcmp(gate->name, name) != 0)
        gate = gate->next;
    if (!gate) {
        gate = calloc(1, sizeof *gate + strlen(name) + 1);
        CHECK(gate != NULL);
        memcpy(gate->name, name, strlen(name) + 1);
        gate->next = gates;
        gates = gate;
    }
    pthread_mutex_unlock(&lock);
    return gate;
}
