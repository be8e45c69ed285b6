/* What the process owns: an immutable, shared snapshot, replaced as a whole. */
#ifndef CSCP_RANGES_H
#define CSCP_RANGES_H

#include <stdatomic.h>

#include "include/cscp.h"

typedef struct cscp_ranges {
    _Atomic uint32_t n_refs;
    uint64_t version; /* from 1 */
    size_t n;
    cscp_range items[];
} cscp_ranges;

/* Copies. -EINVAL: not sorted, overlapping, first > last, or an epoch of 0. -ENOMEM. */
int cscp_ranges_new(const cscp_range *items, size_t n, uint64_t version, cscp_ranges **ret);
cscp_ranges *cscp_ranges_ref(cscp_ranges *ranges);
/* NULL is fine. Returns NULL. */
cscp_ranges *cscp_ranges_unref(cscp_ranges *ranges);
/* The range that holds the serial, or NULL. `ranges` may be NULL (none). */
const cscp_range *cscp_ranges_find(const cscp_ranges *ranges, uint64_t serial);

#endif
