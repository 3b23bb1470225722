/* router/catalog_inline.h: what a catalog surely lacks, told in a few instructions.
 *
 * Pure      private to router/.
 * Rule      a bit for each kind and part of a name's hash, set when such a name was put and never cleared: a clear
 *           one means that no name of this kind is in the catalog, whatever its case; a set one means nothing.
 */
#ifndef ROUTER_CATALOG_INLINE_H
#define ROUTER_CATALOG_INLINE_H

#include "router/catalog.h"

#define CATALOG_FILTER_SHIFT 50 /* 16384 bits: few are set where there are hundreds of names */

struct catalog_filter {
    uint64_t bits[CATALOG_KIND_N][(UINT64_C(1) << (64 - CATALOG_FILTER_SHIFT)) / 64];
};

const struct catalog_filter *catalog_filter(const struct catalog *catalog);

/* hash: of struct name_key */
static inline bool catalog_may_have(const struct catalog_filter *filter, enum catalog_kind kind,
                                    uint64_t hash)
{
    const uint64_t bit = hash >> CATALOG_FILTER_SHIFT;
    return (filter->bits[kind][bit / 64] >> bit % 64 & 1) != 0;
}

#endif
