#include "ranges.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int cscp_target_from(const struct sockaddr_storage *address, cscp_target *ret) {
    cscp_target target = {0};

    if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;

        target.address = in6->sin6_addr;
        target.scope = in6->sin6_scope_id;
        target.port = ntohs(in6->sin6_port);
    } else if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;

        target.address = (struct in6_addr){.s6_addr = {[10] = 0xff, [11] = 0xff}};
        memcpy(&target.address.s6_addr[12], &in->sin_addr, sizeof(in->sin_addr));
        target.port = ntohs(in->sin_port);
    }
    if (target.port == 0)
        return -EINVAL;
    *ret = target;
    return 0;
}

static bool follows(uint64_t first, uint64_t last, uint64_t epoch, bool is_first,
                    uint64_t last_before) {
    return first <= last && epoch != 0 && (is_first || first > last_before);
}

int cscp_ways_new(const cscp_route *routes, size_t n, cscp_ways **ret) {
    cscp_ways *ways;
    int r = 0;

    if (n > (SIZE_MAX - sizeof(*ways)) / sizeof(*ways->items))
        return -ENOMEM;
    ways = malloc(sizeof(*ways) + n * sizeof(*ways->items));
    if (!ways)
        return -ENOMEM;
    ways->n = n;
    for (size_t i = 0; i < n && r == 0; i++) {
        cscp_way *way = &ways->items[i];

        *way = (cscp_way){
            .first = routes[i].first, .last = routes[i].last, .epoch = routes[i].epoch,
            .alive = routes[i].alive, .apart = routes[i].apart};
        r = cscp_target_from(&routes[i].address, &way->target);
        if (!follows(way->first, way->last, way->epoch, i == 0, i > 0 ? way[-1].last : 0))
            r = -EINVAL;
    }
    if (r < 0) {
        free(ways);
        return r;
    }
    *ret = ways;
    return 0;
}

int cscp_ranges_new(const cscp_range *items, size_t n, cscp_ways *ways, bool known,
                    uint64_t version, cscp_ranges **ret) {
    cscp_ranges *ranges;

    for (size_t i = 0; i < n; i++)
        if (!follows(items[i].first, items[i].last, items[i].epoch, i == 0,
                     i > 0 ? items[i - 1].last : 0))
            return -EINVAL;
    if (n > (SIZE_MAX - sizeof(*ranges)) / sizeof(*items))
        return -ENOMEM;
    ranges = malloc(sizeof(*ranges) + n * sizeof(*items));
    if (!ranges)
        return -ENOMEM;
    atomic_init(&ranges->n_refs, 1);
    ranges->version = version;
    ranges->known = known;
    ranges->ways = ways;
    ranges->n = n;
    if (n > 0)
        memcpy(ranges->items, items, n * sizeof(*items));
    *ret = ranges;
    return 0;
}

cscp_ranges *cscp_ranges_ref(cscp_ranges *ranges) {
    if (ranges)
        atomic_fetch_add_explicit(&ranges->n_refs, 1, memory_order_relaxed);
    return ranges;
}

cscp_ranges *cscp_ranges_unref(cscp_ranges *ranges) {
    if (ranges && atomic_fetch_sub_explicit(&ranges->n_refs, 1, memory_order_acq_rel) == 1) {
        free(ranges->ways);
        free(ranges);
    }
    return NULL;
}

const cscp_range *cscp_ranges_find(const cscp_ranges *ranges, uint64_t serial) {
    size_t low = 0, high = ranges ? ranges->n : 0;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const cscp_range *range = &ranges->items[middle];

        if (serial < range->first)
            high = middle;
        else if (serial > range->last)
            low = middle + 1;
        else
            return range;
    }
    return NULL;
}

const cscp_way *cscp_ranges_find_way(const cscp_ranges *ranges, uint64_t serial) {
    size_t low = 0, high = ranges && ranges->ways ? ranges->ways->n : 0;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const cscp_way *way = &ranges->ways->items[middle];

        if (serial < way->first)
            high = middle;
        else if (serial > way->last)
            low = middle + 1;
        else
            return way;
    }
    return NULL;
}
