#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#pragma clang assume_nonnull begin

// The bytes below an HTTP/2 session. A connection knows its peer only through these four calls, so
// that what lies between session and socket (encryption, a recorded peer in a test) is one more
// implementation and nothing above changes.
typedef struct CH2Link CH2Link;

typedef struct CH2LinkOperations {
    // Up to n plaintext bytes: their number, 0 at the peer's orderly end, -EAGAIN when there is
    // nothing now, -errno when it failed.
    ssize_t (*receive)(CH2Link *link, void *into, size_t n);
    // The number of plaintext bytes taken (at least 1), -EAGAIN when it takes none now, or -errno.
    ssize_t (*send)(CH2Link *link, const void *from, size_t n);
    // What the link needs its socket to become (CH2_READABLE, CH2_WRITABLE) before it can go on,
    // beyond what the session waits for: a handshake, for example.
    uint32_t (*interest)(const CH2Link *link);
    // Closes the socket.
    void (*free)(CH2Link *link);
} CH2LinkOperations;

// First member of every implementation.
struct CH2Link {
    const CH2LinkOperations *operations;
    int fd;
};

// Bytes as they are. Takes `fd`, also when it fails.
int ch2_link_new_plain(CH2Link *_Nullable *_Nonnull ret, int fd);
CH2Link *_Nullable ch2_link_free(CH2Link *_Nullable link);

#pragma clang assume_nonnull end
