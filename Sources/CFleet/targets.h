/* Addresses to connect to. */
#ifndef FLEET_TARGETS_H
#define FLEET_TARGETS_H

#include <stdbool.h>
#include <sys/socket.h>

typedef struct fleet_target {
    struct sockaddr_storage address;
    socklen_t n_address;
} fleet_target;

enum { FLEET_TARGETS_MAX = 64 };

/* "HOST:PORT" or "[IPV6]:PORT"; with `numeric` no names, so that it does not block. -EINVAL (not of
 * this form), -EHOSTUNREACH (does not resolve). */
int fleet_target_parse(const char *text, bool numeric, fleet_target *ret);

/* A list with commas, 1 ... FLEET_TARGETS_MAX of them. `ret_at` is the entry at fault on errors. */
int fleet_targets_parse(const char *text, fleet_target *ret, unsigned *ret_n, const char **ret_at);

#endif
