/* Buffers that connections hold only while they have half a frame in hand, in or out: two sizes, a
 * few of each kept for the next one. And a third size, for what a relayed connection has waiting. For
 * one thread. */
#ifndef CSCP_POOL_H
#define CSCP_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "include/cscp_frame.h"

enum {
    CSCP_POOL_SMALL = 256,
    CSCP_POOL_LARGE = CSCP_FRAME_MAX,
    CSCP_POOL_KEPT = 64,
    CSCP_POOL_SIZES = 3,
};

typedef struct cscp_buffer {
    struct cscp_buffer *next; /* while in the pool */
    uint16_t size;            /* of bytes */
    uint16_t begin, end;      /* what it holds */
    uint8_t bytes[];
} cscp_buffer;

typedef struct cscp_pool {
    uint32_t largest;
    cscp_buffer *free[CSCP_POOL_SIZES];
    uint32_t n_free[CSCP_POOL_SIZES];
} cscp_pool;

/* `largest`: CSCP_POOL_LARGE ... 65,535 bytes. */
void cscp_pool_init(cscp_pool *pool, uint32_t largest);

void cscp_pool_done(cscp_pool *pool);
/* A buffer holding a copy of data[0..n), n <= largest; NULL when memory is out. */
cscp_buffer *cscp_pool_keep(cscp_pool *pool, const uint8_t *data, size_t n);
/* NULL is fine. Returns NULL. */
cscp_buffer *cscp_pool_give_back(cscp_pool *pool, cscp_buffer *buffer);

#endif
