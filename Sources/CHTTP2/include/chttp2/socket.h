#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#pragma clang assume_nonnull begin

typedef struct CH2Address {
    struct sockaddr_storage storage;
    socklen_t length;
} CH2Address;

// Longest text ch2_address_text() writes, with its NUL.
enum { CH2_ADDRESS_TEXT_MAX = 160 };

// Finds the addresses of a host: a name, an IPv4 or an IPv6 literal. `passive` asks for addresses to
// listen at; an empty host then means all of this machine's. Blocks as long as the resolver does.
// Returns 0 and an array to free(); a positive resolver code (ch2_resolve_text() explains it);
// or -errno.
int ch2_resolve(const char *host, uint16_t port, bool passive,
                CH2Address *_Nullable *_Nonnull ret, size_t *ret_n);
const char *ch2_resolve_text(int code);

// -ENAMETOOLONG when the path does not fit a socket address (107 bytes).
int ch2_address_unix(const char *path, CH2Address *ret);

// "ipv4:127.0.0.1:5001", "ipv6:[::1]:5001", "unix:/run/x.sock" (or "unix:" for an unnamed one).
void ch2_address_text(const CH2Address *address, char text[_Nonnull CH2_ADDRESS_TEXT_MAX]);
// 0 for anything without a port.
uint16_t ch2_address_port(const CH2Address *address);

// A non-blocking listening socket. A UNIX socket file that nobody listens at any more is replaced;
// `unix_mode` (0 = as the umask has it) sets its permissions before it is connectable.
int ch2_listen(const CH2Address *address, int backlog, uint32_t unix_mode, int *ret_fd);

// A non-blocking accepted socket. -EAGAIN when there is none to take.
int ch2_accept(int fd, int *ret_fd, CH2Address *ret_peer);

// Begins to connect: 0 when connected, 1 when the socket becomes writable later and
// ch2_connect_result() then tells.
int ch2_connect(const CH2Address *address, int *ret_fd);
int ch2_connect_result(int fd);

int ch2_local_address(int fd, CH2Address *ret);

// For TCP: no delay; keepalive probes after `idle_s` seconds without traffic, and the connection
// given up once sent data or probes stay unanswered for `timeout_s`. A no-op for UNIX sockets.
int ch2_socket_tune(int fd, unsigned idle_s, unsigned timeout_s);

// For how many ms the peer's host has acknowledged nothing, though what was sent was sent again, twice or
// more; 0 when that is not so. A peer that reads nothing has a host that acknowledges all the same.
unsigned ch2_socket_unanswered_ms(int fd);

#pragma clang assume_nonnull end
