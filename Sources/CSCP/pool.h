/* Buffers that connections hold only while they have half a frame in hand, in or out: two sizes, a
 * few of each kept for the next one. For one thread. */
#ifndef CSCP_POOL_H
#define CSCP_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "include/cscp_frame.h"

enum {
    CSCP_POOL_SMALL = 256,
    CSCP_POOL_LARGE = CSCP_FRAME_MAX,
    CSCP_POOL_KEPT = 64,
};

typedef struct cscp_buffer {
    struct cscp_buffer *next; /* while in the pool */
    uint16_t size;            /* of bytes */
    uint16_t begin, end;      /* what it holds */
    uint8_t bytes[];
} cscp_buffer;

typedef struct cscp_pool {
    cscp_buffer *free[2];
    uint32_t n_free[2];
} cscp_pool;

void cscp_pool_done(cscp_pool *pool);
/* A buffer holding a copy of data[0..n), n <= CSCP_POOL_LARGE; NULL when memory is out. */
cscp_buffer *cscp_pool_keep(cscp_pool *pool, const uint8_t *data, size_t n);
/* NULL is fine. Returns NULL. */
cscp_buffer *cscp_pool_give_back(cscp_pool *pool, cscp_buffer *buffer);

#endif
