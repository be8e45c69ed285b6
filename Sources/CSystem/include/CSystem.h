/* CSystem: what Swift's Glibc module lacks or makes awkward, as plain functions.
 *
 * Errors are negative errno values and are returned, never left in errno; a result of 0 or more
 * is success. Outputs (ret_...) are set on success only. Every descriptor made here is close-on-
 * exec. Nothing logs, nothing retries but EINTR, and nothing blocks unless its comment says so.
 * Functions may be called from any thread; what is not safe beside itself says so. */
#ifndef CSYSTEM_H
#define CSYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#pragma clang assume_nonnull begin

/* --- Clocks: nanoseconds ---------------------------------------------------------------------- */

/* CLOCK_BOOTTIME: counts suspend, never steps. The only clock for leases, deadlines and
 * timeouts. */
uint64_t csys_clock_boottime(void);
/* CLOCK_REALTIME, since 1970 UTC. For records that people or other hosts read; never for a
 * decision. */
uint64_t csys_clock_realtime(void);
/* CPU time used by the process, and by the calling thread. */
uint64_t csys_clock_process_cpu(void);
uint64_t csys_clock_thread_cpu(void);

/* --- Polling ---------------------------------------------------------------------------------- */

#define CSYS_READABLE 0x0001u      /* EPOLLIN */
#define CSYS_WRITABLE 0x0004u      /* EPOLLOUT */
#define CSYS_FAILED 0x0008u        /* EPOLLERR; reported always */
#define CSYS_HUNG_UP 0x0010u       /* EPOLLHUP; reported always */
#define CSYS_PEER_FINISHED 0x2000u /* EPOLLRDHUP */
#define CSYS_EDGE 0x80000000u      /* EPOLLET; asked for, never reported */

typedef struct csys_event {
    uint64_t tag;  /* as given to csys_epoll_set() */
    uint32_t what; /* CSYS_... */
} csys_event;

/* A new epoll descriptor. */
int csys_epoll_new(void);
/* Watches `fd` for `what`, or changes what it is watched for. */
int csys_epoll_set(int epoll, int fd, uint32_t what, uint64_t tag);
/* Stops watching. -ENOENT if it was not watched. Not needed before closing the only copy of fd. */
int csys_epoll_remove(int epoll, int fd);
/* Blocks until something happens or timeout_ns has passed (< 0: without limit). Sets up to n
 * events, n <= 256 being used, and returns how many; 0 on timeout and after a signal. */
int csys_epoll_wait(int epoll, csys_event *ret_events, size_t n, int64_t timeout_ns);

/* An eventfd: a bell one thread rings and another sleeps on (readable while rung). */
int csys_bell_new(void);
/* Rings; ringing twice is ringing once. Async-signal-safe. */
int csys_bell_ring(int bell);
/* Silences the bell. Returns 1 if it had been rung, 0 if not. */
int csys_bell_clear(int bell);

/* --- Sockets: all non-blocking ---------------------------------------------------------------- */

typedef struct csys_address {
    struct sockaddr_storage storage;
    socklen_t length;
} csys_address;

/* A numeric IPv4 or IPv6 address (with or without brackets, IPv6 with an optional %scope).
 * -EINVAL if it is a name: csys_address_resolve() is for those. Never blocks. */
int csys_address_parse(const char *host, uint16_t port, csys_address *ret);
/* A path, or "@name" in the abstract name space. -ENAMETOOLONG beyond 107 bytes, -EINVAL if
 * empty. */
int csys_address_unix(const char *path, csys_address *ret);
/* BLOCKS, for as long as the resolver takes. Sets up to n addresses, in the order to try them,
 * and returns how many. -ENOENT: no such name; -EAGAIN: the name service did not answer; -EIO:
 * it failed. */
int csys_address_resolve(const char *host, uint16_t port, csys_address *ret_addresses, size_t n);
/* Writes "1.2.3.4:5", "[::1]:5" or the path, always terminated, cut to n bytes. Returns its
 * length. */
size_t csys_address_print(const csys_address *address, char *ret_text, size_t n);

/* Begins a stream connection and returns its descriptor: connected or still connecting, which
 * the first CSYS_WRITABLE tells; then ask csys_socket_error(). TCP_NODELAY is set. -EAGAIN from
 * a unix socket whose listener is full. */
int csys_socket_connect(const csys_address *address);
/* A listening stream socket. TCP: SO_REUSEADDR. Unix: the file gets `mode`, and a file left
 * behind by a process that no longer listens is replaced; -EADDRINUSE if one still does, or if
 * it is no socket. */
int csys_socket_listen(const csys_address *address, int backlog, mode_t mode);
/* The next connection, or -EAGAIN. *ret_peer (NULL: not wanted) is set to where it came from. */
int csys_socket_accept(int listener, csys_address *_Nullable ret_peer);
/* The pending error of a connection: 0 or -errno. Reading it clears it. */
int csys_socket_error(int fd);
/* The local TCP port, 1 ... 65535, or -errno. */
int csys_socket_port(int fd);
/* The next close() resets the connection: what the peer has not acknowledged is not sent again. 0 or -errno. */
int csys_socket_discard(int fd);
/* TCP keepalive: the first probe after idle_s, then every interval_s, dead after n_probes
 * unanswered. */
int csys_socket_keepalive(int fd, int idle_s, int interval_s, int n_probes);
/* TCP_USER_TIMEOUT: how long sent data may stay unacknowledged before the connection fails. */
int csys_socket_user_timeout(int fd, unsigned int timeout_ms);
/* Sends what fits now: the number of bytes, or -EAGAIN. Never raises SIGPIPE. */
ssize_t csys_socket_send(int fd, const void *bytes, size_t n);
/* Reads what is there: the number of bytes, 0 at the end of the stream, or -EAGAIN. */
ssize_t csys_socket_receive(int fd, void *ret_bytes, size_t n);
/* Closes; a negative fd is fine. Returns -1, so that `fd = csys_fd_close(fd)` forgets it. */
int csys_fd_close(int fd);

/* --- Threads and signals ---------------------------------------------------------------------- */

typedef struct csys_thread {
    unsigned long handle;
} csys_thread;

/* Starts a thread with every signal blocked, 1 MiB of stack and a name (cut to 15 bytes). With
 * `ret` it must be joined, without it is detached. `context` is the body's to release. */
int csys_thread_start(const char *name, void (*body)(void *_Nullable context),
                      void *_Nullable context, csys_thread *_Nullable ret);
/* BLOCKS until it has ended. -EDEADLK when called from that very thread. */
int csys_thread_join(csys_thread thread);
/* Whether the caller is that thread. */
bool csys_thread_is_current(csys_thread thread);

/* Blocks the signals in the calling thread and in all it starts later: call it first in main(). */
int csys_signals_block(const int *signals, size_t n);
/* Blocks them likewise and returns a descriptor that is readable when one is pending. */
int csys_signals_open(const int *signals, size_t n);
/* The number of the next pending signal, or -EAGAIN. */
int csys_signals_read(int fd);
/* A write to a closed connection is then -EPIPE instead of the end of the process. */
int csys_sigpipe_ignore(void);

/* --- The process ------------------------------------------------------------------------------ */

/* Prepares for titles: moves the environment, and the strings argv points to if they lie in the
 * process's argument area (argc 0 and argv NULL are fine), to the heap, which frees their area
 * for titles. Call it once, in main(), before any other thread exists and after Swift's
 * CommandLine.arguments was read once (it reads /proc/self/cmdline when first asked). Returns
 * the bytes there are for titles; -ENODATA if the areas are not where they should be, and titles
 * do nothing. */
ssize_t csys_title_init(int argc, char *_Nullable *_Nullable argv);
/* What ps shows. The first word, without its path, becomes the process's name (15 bytes). Cut to
 * the room there is. Returns the number of bytes shown, or -ENODATA before csys_title_init(). */
ssize_t csys_title_set(const char *title);

/* The path that the process's program was started by, as it was given to exec(): links in it are not
 * followed. Static; NULL when the kernel does not say. */
const char *_Nullable csys_program_path(void);

/* What an errno value, of either sign, means: "Connection refused". Static. */
const char *csys_error_text(int error);
/* Resident memory in bytes. */
int64_t csys_memory_rss(void);
/* Raises the soft limit of open descriptors to the hard one. Returns the limit. */
int64_t csys_files_raise(void);
/* The operating system's random bytes, n <= 256. Blocks only before the host's pool is first
 * seeded. */
int csys_random_fill(void *ret_bytes, size_t n);

/* --- The service manager ---------------------------------------------------------------------- */

/* Sends lines such as "READY=1\nSTATUS=..." to $NOTIFY_SOCKET, with n_fds <= 253 descriptors
 * (FDSTORE=1, BARRIER=1). Returns 1, or 0 when there is no service manager; -EAGAIN when it does
 * not keep up. Ration the calls: a flood of them starves PID 1. */
int csys_notify_send(const char *state, const int *_Nullable fds, size_t n_fds);
/* Within which time WATCHDOG=1 must come, in ns; 0 = no watchdog, or not for this process. */
uint64_t csys_notify_watchdog(void);

typedef struct csys_field {
    const char *name; /* A-Z, 0-9 and _, not first a digit or _; up to 64 bytes */
    const void *value;
    size_t n_value;
} csys_field;

/* A descriptor for csys_journal_send(). It outlives restarts of the journal. */
int csys_journal_open(void);
/* Writes one entry of n <= 64 fields, MESSAGE and PRIORITY ("0" ... "7") among them as a rule.
 * Values may hold any byte. -EINVAL: a name the journal would refuse; -ENOENT, -ECONNREFUSED: no
 * journal; -EAGAIN: it does not keep up. */
int csys_journal_send(int journal, const csys_field *fields, size_t n);
/* Whether `fd` (as a rule 2) already leads to the journal, as it does for a service. */
bool csys_journal_is(int fd);

#pragma clang assume_nonnull end

#endif
