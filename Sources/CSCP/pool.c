#include "pool.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void cscp_pool_done(cscp_pool *pool) {
    for (size_t i = 0; i < 2; i++)
        while (pool->free[i]) {
            cscp_buffer *buffer = pool->free[i];

            pool->free[i] = buffer->next;
            free(buffer);
        }
    *pool = (cscp_pool){0};
}

cscp_buffer *cscp_pool_keep(cscp_pool *pool, const uint8_t *data, size_t n) {
    size_t i = n > CSCP_POOL_SMALL;
    size_t size = i ? CSCP_POOL_LARGE : CSCP_POOL_SMALL;
    cscp_buffer *buffer = pool->free[i];

    assert(n <= CSCP_POOL_LARGE);
    if (buffer) {
        pool->free[i] = buffer->next;
        pool->n_free[i]--;
    } else {
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
    i = buffer->size > CSCP_POOL_SMALL;
    if (pool->n_free[i] >= CSCP_POOL_KEPT) {
        free(buffer);
        return NULL;
    }
    buffer->next = pool->free[i];
    pool->free[i] = buffer;
    pool->n_free[i]++;
    return NULL;
}
