/* What the process owns, and where what others own is served: an immutable, shared snapshot,
 * replaced as a whole. */
#ifndef CSCP_RANGES_H
#define CSCP_RANGES_H

#include <netinet/in.h>
#include <stdatomic.h>

#include "include/cscp.h"

/* Where a node listens. IPv4 is mapped. */
typedef struct cscp_target {
    struct in6_addr address;
    uint32_t scope;
    uint16_t port;
} cscp_target;

static inline bool cscp_target_is(const cscp_target *a, const cscp_target *b) {
    return IN6_ARE_ADDR_EQUAL(&a->address, &b->address) && a->scope == b->scope &&
           a->port == b->port;
}
/* 0, or -EINVAL when it is no address of IPv4 or IPv6 with a port. */
int cscp_target_from(const struct sockaddr_storage *address, cscp_target *ret);

/* A route. */
typedef struct cscp_way {
    uint64_t first, last, epoch;
    cscp_target target;
    bool alive, apart;
} cscp_way;

typedef struct cscp_ways {
    size_t n;
    cscp_way items[];
} cscp_ways;

/* Copies. -EINVAL: not sorted, overlapping, first > last, an epoch of 0, or no address. -ENOMEM.
 * To be freed with free(). */
int cscp_ways_new(const cscp_route *routes, size_t n, cscp_ways **ret);

typedef struct cscp_ranges {
    _Atomic uint32_t n_refs;
    uint64_t version; /* from 1 */
    bool known;       /* the ranges were told; else there are only routes so far */
    cscp_ways *ways;
    size_t n;
    cscp_range items[];
} cscp_ranges;

/* Copies the items and takes the ways, on success. -EINVAL: not sorted, overlapping, first > last,
 * or an epoch of 0. -ENOMEM. */
int cscp_ranges_new(const cscp_range *items, size_t n, cscp_ways *ways, bool known,
                    uint64_t version, cscp_ranges **ret);
cscp_ranges *cscp_ranges_ref(cscp_ranges *ranges);
/* NULL is fine. Returns NULL. */
cscp_ranges *cscp_ranges_unref(cscp_ranges *ranges);
/* The range, or the route, that holds the serial, or NULL. `ranges` may be NULL (none). */
const cscp_range *cscp_ranges_find(const cscp_ranges *ranges, uint64_t serial);
const cscp_way *cscp_ranges_find_way(const cscp_ranges *ranges, uint64_t serial);

#endif
