/* The listening socket, apart from the server. Private to CMetricsHTTP. */
#ifndef METRICS_HTTP_LISTEN_H
#define METRICS_HTTP_LISTEN_H

#include <stdint.h>

/* A non-blocking listener on a numeric address. Sets the port that was bound. Returns the
 * descriptor, or -errno. */
int metrics_http_listen(const char *address, uint16_t port, uint16_t *ret_port);

#endif
