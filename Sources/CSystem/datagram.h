/* One datagram to a unix socket: what the service manager and the journal both take. Internal. */
#ifndef CSYSTEM_DATAGRAM_H
#define CSYSTEM_DATAGRAM_H

#include "CSystem.h"

#include <sys/uio.h>

#define DATAGRAM_FDS_MAX 253u /* SCM_MAX_FD */

/* A close-on-exec, non-blocking datagram socket. */
int datagram_socket(void);

/* Sends the pieces as one message with n_fds descriptors; never blocks, never raises SIGPIPE. */
int datagram_send(int fd, const csys_address *to, struct iovec *pieces, size_t n_pieces,
                  const int *fds, size_t n_fds);

#endif
