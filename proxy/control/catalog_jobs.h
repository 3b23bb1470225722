/* proxy/control/catalog_jobs.h: who keeps the catalog of each (cluster, database) right.
 *
 * What     one job per database that clients use or an entry names, of clusters with replicas: a libpq
 *          connection to the primary that loads, looks at the fingerprint every catalog_poll_interval,
 *          and loads again when that changed or somebody saw DDL.
 *
 *   PAUSED --timer, wish--> CONNECTING --login done--> READING --all rows--> PROVING --> IDLE
 *     ^                         |                        | ^                             |
 *     |                      fails                     fails                 timer, wish |
 *     +---- last completion of the poll ---- CLOSING <---+ +-----------------------------+
 *
 * Threads  the control thread's. Workers reach it by control_catalog().
 * Keeps    what was loaded while the primary cannot be reached: nobody changes it then. A server that
 *          refuses (login, database, rights) takes it away: reads of relations go to the primary.
 * Limits   those of catalog_rows.h; CATALOG_STEPS texts are looked at between two turns of the loop.
 */
#ifndef CONTROL_CATALOG_JOBS_H
#define CONTROL_CATALOG_JOBS_H

#include "proxy/pool/catalog_slot.h"

struct control;

/* A new snapshot: entries that name their database have a job from the start. */
void catalog_jobs_follow(struct control *control);
/* A wish of a worker for this slot. */
void catalog_jobs_wish(struct control *control, struct catalog_slot *slot);
/* The view of a cluster changed: another primary may have another catalog. */
void catalog_jobs_primary(struct control *control, struct cluster *cluster);
/* The list control->catalogs empties over the next turns. */
void catalog_jobs_stop(struct control *control);

#endif
