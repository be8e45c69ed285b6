#include "ranges.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_sound(const cscp_range *items, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (items[i].first > items[i].last || items[i].epoch == 0)
            return false;
        if (i > 0 && items[i].first <= items[i - 1].last)
            return false;
    }
    return true;
}

int cscp_ranges_new(const cscp_range *items, size_t n, uint64_t version, cscp_ranges **ret) {
    cscp_ranges *ranges;

    if (!is_sound(items, n))
        return -EINVAL;
    if (n > (SIZE_MAX - sizeof(*ranges)) / sizeof(*items))
        return -ENOMEM;
    ranges = malloc(sizeof(*ranges) + n * sizeof(*items));
    if (!ranges)
        return -ENOMEM;
    atomic_init(&ranges->n_refs, 1);
    ranges->version = version;
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
    if (ranges && atomic_fetch_sub_explicit(&ranges->n_refs, 1, memory_order_acq_rel) == 1)
        free(ranges);
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
