/* Which session a serial has, over all I/O threads: a hash table in shards, each with its own lock,
 * held for tens of nanoseconds. Safe from any thread.
 *
 * A serial is claimed by the newest connection that said HELLO for it, and has a session once that
 * one was welcomed. The claim of the older one is returned to the newer exactly once: it must see
 * it ended. */
#ifndef CSCP_DIRECTORY_H
#define CSCP_DIRECTORY_H

#include <stdint.h>
#include <stddef.h>

typedef struct cscp_directory cscp_directory;

int cscp_directory_new(cscp_directory **ret);
cscp_directory *cscp_directory_free(cscp_directory *self);

/* 0 with *ret_older (0 = none) or -ENOMEM. No session from now on until publish. */
int cscp_directory_claim(cscp_directory *self, uint64_t serial, uint64_t handle,
                         uint64_t *ret_older);
/* Gives the claim up, and the session if it is its own. Without effect when a newer one has it. */
void cscp_directory_release(cscp_directory *self, uint64_t serial, uint64_t handle);
/* The session begins, under `handle`, the claimant's. 0, or -ESTALE when a newer one has the
 * claim. */
int cscp_directory_publish(cscp_directory *self, uint64_t serial, uint64_t handle);
/* The session is over, the claim goes on under a new handle. 0, or -ESTALE. */
int cscp_directory_retract(cscp_directory *self, uint64_t serial, uint64_t handle,
                           uint64_t new_handle);

/* A place for a command of `n` bytes in the serial's session: its handle, or 0 with *ret_error
 * -ENOTCONN or -ENOBUFS. */
uint64_t cscp_directory_reserve(cscp_directory *self, uint64_t serial, uint32_t n,
                                uint32_t commands_max, uint32_t bytes_max, int *ret_error);
/* Gives `n` bytes back, and the place itself with `done`. */
void cscp_directory_unreserve(cscp_directory *self, uint64_t serial, uint64_t handle, uint32_t n,
                              int done);

typedef struct cscp_directory_item {
    uint64_t serial, handle;
} cscp_directory_item;
/* Up to n sessions with serial >= from, the lowest, sorted. Their number. */
int cscp_directory_list(cscp_directory *self, uint64_t from, cscp_directory_item *ret_items,
                        size_t n);

#endif
