#pragma once

#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

typedef struct CH2Buffer CH2Buffer;

// Bytes on their way out: filled by a writer on its own thread, then handed over whole, so that
// nothing is copied between threads. Zeroed = empty. Belongs to whoever holds it.
typedef struct CH2Chain {
    CH2Buffer *_Nullable head;
    CH2Buffer *_Nullable tail;
    size_t n_bytes;
} CH2Chain;

// Appends one gRPC message: flag 0 (not compressed), length, bytes. -ENOMEM leaves the chain as it
// was; -EMSGSIZE when n does not fit the 32-bit length.
int ch2_chain_append_message(CH2Chain *chain, const void *_Nullable bytes, size_t n);

// Moves everything in `from` to the end of `to`.
void ch2_chain_splice(CH2Chain *to, CH2Chain *from);

// Copies the first n bytes (at most n_bytes) out and drops them.
void ch2_chain_take(CH2Chain *chain, void *into, size_t n);

void ch2_chain_clear(CH2Chain *chain);

#pragma clang assume_nonnull end
