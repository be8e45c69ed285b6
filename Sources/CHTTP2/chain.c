#include "chttp2/chain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// Buffers double from small (a unary call needs little) to large (a stream fills many DATA frames).
#define BUFFER_MIN ((size_t) 496)
#define BUFFER_MAX ((size_t) 64 * 1024)
#define MESSAGE_HEADER ((size_t) 5)

struct CH2Buffer {
    CH2Buffer *next;
    size_t capacity;
    size_t begin;
    size_t end;
    uint8_t bytes[];
};

static CH2Buffer *append_buffer(CH2Chain *chain, size_t n) {
    size_t capacity = chain->tail ? chain->tail->capacity * 2 : BUFFER_MIN;
    if (capacity > BUFFER_MAX)
        capacity = BUFFER_MAX;
    if (capacity < n)
        capacity = n;
    CH2Buffer *buffer = malloc(sizeof *buffer + capacity);
    if (!buffer)
        return NULL;
    buffer->next = NULL;
    buffer->capacity = capacity;
    buffer->begin = buffer->end = 0;
    if (chain->tail)
        chain->tail->next = buffer;
    else
        chain->head = buffer;
    chain->tail = buffer;
    return buffer;
}

int ch2_chain_append_message(CH2Chain *chain, const void *bytes, size_t n) {
    if (n > UINT32_MAX)
        return -EMSGSIZE;
    CH2Buffer *buffer = chain->tail;
    if (!buffer || buffer->capacity - buffer->end < MESSAGE_HEADER + n) {
        buffer = append_buffer(chain, MESSAGE_HEADER + n);
        if (!buffer)
            return -ENOMEM;
    }
    uint8_t *p = buffer->bytes + buffer->end;
    p[0] = 0;
    p[1] = (uint8_t) (n >> 24);
    p[2] = (uint8_t) (n >> 16);
    p[3] = (uint8_t) (n >> 8);
    p[4] = (uint8_t) n;
    if (n > 0)
        memcpy(p + MESSAGE_HEADER, bytes, n);
    buffer->end += MESSAGE_HEADER + n;
    chain->n_bytes += MESSAGE_HEADER + n;
    return 0;
}

void ch2_chain_splice(CH2Chain *to, CH2Chain *from) {
    if (!from->head)
        return;
    if (to->tail)
        to->tail->next = from->head;
    else
        to->head = from->head;
    to->tail = from->tail;
    to->n_bytes += from->n_bytes;
    *from = (CH2Chain){0};
}

void ch2_chain_take(CH2Chain *chain, void *into, size_t n) {
    uint8_t *p = into;
    while (n > 0 && chain->head) {
        CH2Buffer *buffer = chain->head;
        size_t step = buffer->end - buffer->begin;
        if (step > n)
            step = n;
        memcpy(p, buffer->bytes + buffer->begin, step);
        p += step;
        n -= step;
        buffer->begin += step;
        chain->n_bytes -= step;
        if (buffer->begin == buffer->end) {
            chain->head = buffer->next;
            if (!chain->head)
                chain->tail = NULL;
            free(buffer);
        }
    }
}

void ch2_chain_clear(CH2Chain *chain) {
    for (CH2Buffer *buffer = chain->head; buffer;) {
        CH2Buffer *next = buffer->next;
        free(buffer);
        buffer = next;
    }
    *chain = (CH2Chain){0};
}
