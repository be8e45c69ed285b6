#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

// Waits for descriptors (level-triggered epoll) and for other threads (eventfd).
typedef struct CH2Poller CH2Poller;

enum {
    CH2_READABLE = 1,
    CH2_WRITABLE = 2,
    // The peer is gone or the socket failed; reading tells which.
    CH2_BROKEN = 4,
};

typedef struct CH2Ready {
    uint64_t token;
    uint32_t events;
} CH2Ready;

int ch2_poller_new(CH2Poller *_Nullable *_Nonnull ret);
CH2Poller *_Nullable ch2_poller_free(CH2Poller *_Nullable poller);

// `events` is a set of CH2_READABLE and CH2_WRITABLE; `token` comes back with every readiness.
int ch2_poller_add(CH2Poller *poller, int fd, uint64_t token, uint32_t events);
int ch2_poller_modify(CH2Poller *poller, int fd, uint64_t token, uint32_t events);
int ch2_poller_remove(CH2Poller *poller, int fd);

// Waits at most timeout_ms (-1: for ever) and returns how many of ready[0..n_ready) were filled: 0
// after a timeout, a signal or a wake. Wakes are absorbed here.
int ch2_poller_wait(CH2Poller *poller, CH2Ready *ready, size_t n_ready, int timeout_ms);

// Ends a wait that is going on or the next one. From any thread.
void ch2_poller_wake(CH2Poller *poller);

// CLOCK_MONOTONIC in nanoseconds.
uint64_t ch2_now_ns(void);

// For a thread that begins: names it (at most 15 bytes) and blocks every signal in it, so that they
// go to threads which expect them.
void ch2_enter_thread(const char *name);

// A system error in words; `code` is an errno.
void ch2_error_text(int code, char *text, size_t n);

#pragma clang assume_nonnull end
