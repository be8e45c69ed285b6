#include "pool.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void cscp_pool_init(cscp_pool *pool, uint32_t largest) {
    assert(largest >= CSCP_POOL_LARGE && largest <= UINT16_MAX);
    *pool = (cscp_pool){.largest = largest};
}

void cscp_pool_done(cscp_pool *pool) {
    for (size_t i = 0; i < CSCP_POOL_SIZES; i++)
        while (pool->free[i]) {
            cscp_buffer *buffer = pool->free[i];

            pool->free[i] = buffer->next;
            free(buffer);
        }
    *pool = (cscp_pool){0};
}

static size_t place_of(size_t n) {
    return (size_t)(n > CSCP_POOL_SMALL) + (size_t)(n > CSCP_POOL_LARGE);
}

cscp_buffer *cscp_pool_keep(cscp_pool *pool, const uint8_t *data, size_t n) {
    size_t i = place_of(n);
    cscp_buffer *buffer = pool->free[i];

    assert(n <= CSCP_POOL_LARGE || n <= pool->largest);
    if (buffer) {
        pool->free[i] = buffer->next;
        pool->n_free[i]--;
    } else {
        size_t size = i == 0 ? CSCP_POOL_SMALL : i == 1 ? CSCP_POOL_LARGE : pool->largest;

        buffer = malloc(sizeof(*buffer) + size);
        if (!buffer)
            return NULL;
        buffer->size = (uint16_t)size;
    }
    buffer->next = NULL;
    buffer->begin = 0;
    buffer->end = (uint16_t)n;
    memcpy(buffer->bytes, data, n);
    return buffer;
}

cscp_buffer *cscp_pool_give_back(cscp_pool *pool, cscp_buffer *buffer) {
    size_t i;

    if (!buffer)
        return NULL;
    i = place_of(buffer->size);
    if (pool->n_free[i] >= CSCP_POOL_KEPT) {
        free(buffer);
        return NULL;
    }
    buffer->next = pool->free[i];
    pool->free[i] = buffer;
    pool->n_free[i]++;
    return NULL;
}
