/* proxy/control/ejection.h: replicas that the workers' reads fail at are taken out of the verdict for a while.
 *
 * Threads the control thread's. It reads what the workers count (struct node_load); workers learn of it as of
 *         any other reason: by the cluster's view and the node's status.
 * Writes  node_load.returned_ms, from which slow_start counts.
 */
#ifndef CONTROL_EJECTION_H
#define CONTROL_EJECTION_H

#include "proxy/control/judge.h"
#include "router/eject.h"

struct ejection {
    struct eject eject;
    uint32_t out;
    uint32_t readable, ever; /* as published last; at any time */
};

/* Take outliers out of the verdict, log who goes and comes, and note since when replicas are back. */
void ejection_apply(struct ejection *ejection, const char *database, struct cluster *cluster,
                    uint32_t max_percent, uint64_t now_ns, struct judge_verdict *verdict);

#endif
