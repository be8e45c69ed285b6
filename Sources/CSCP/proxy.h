/* The PROXY protocol, version 2: what load balancers, and our own nodes when they relay, say about
 * the peer ahead of its bytes. A pure parser and writer; whom it is accepted from, the caller
 * decides. */
#ifndef CSCP_PROXY_H
#define CSCP_PROXY_H

#include <netinet/in.h>

#include "include/cscp.h"

enum {
    CSCP_PROXY_SIGNATURE = 12,    /* bytes */
    CSCP_PROXY_MAX = 1024,        /* of a header we read, all included */
    CSCP_PROXY_WRITTEN_MAX = 160, /* of one we write */
    CSCP_PROXY_RELAY = 0xE0,      /* our own TLV: version 1, flags */
    CSCP_PROXY_RELAY_VERSION = 1,
    CSCP_PROXY_RELAY_AGAIN = 1 << 0,
};

/* IPv4 addresses are mapped. */
typedef struct cscp_proxy {
    bool has_source; /* else the connection is the sender's own: the fields up to the ports are 0 */
    bool relayed;    /* another node relays it */
    bool again;      /* ... and the controller was welcomed on this connection before */
    struct in6_addr source, target;
    uint16_t source_port, target_port;
    uint8_t n_tls_name; /* 0 = none, or not to be trusted or shown */
    char tls_name[CSCP_TLS_NAME_MAX];
} cscp_proxy;

/* Does it begin with the signature, as far as it goes? */
bool cscp_proxy_may_begin(const uint8_t *buf, size_t n);

/* Looks for a header at the start of buf[0..n). Returns
 *   1        *ret is what it says, *ret_consumed its size
 *   0        what is there may be the beginning of one
 *   -ENOMSG  it is none
 *   -EBADMSG it is malformed, of another version, or longer than CSCP_PROXY_MAX
 * Families other than TCP over IPv4 or IPv6 name no source. */
int cscp_proxy_read(const uint8_t *buf, size_t n, cscp_proxy *ret, size_t *ret_consumed);

/* Writes a header for a source and target that are there; returns its size. */
size_t cscp_proxy_write(uint8_t out[CSCP_PROXY_WRITTEN_MAX], const cscp_proxy *in);

/* Is the address in one of the networks? */
bool cscp_networks_hold(const cscp_network *networks, uint32_t n, const struct in6_addr *address);

#endif
