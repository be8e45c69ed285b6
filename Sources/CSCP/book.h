/* What must be known of every connection to go on with it in another process, in memory that
 * outlives this one: a memfd, the book, with a ticket for each connection. Without a keeper it is
 * ordinary memory, and nobody reads it.
 *
 * Written by the connection's I/O thread, in an order such that a process killed between any two
 * stores leaves what can be gone on from (ADR 0015):
 *   - a ticket counts once its `cookie` says so, and what does not change with the stage it belongs
 *     to was written before that stage;
 *   - acked, log_epoch and epoch_seen are written before the controller is told: what it was told
 *     is never above them, and they are never above what is stored;
 *   - unsent is at least what the controller misses of a frame it was sent the beginning of.
 * An event costs no store at all; whatever is sent, a few into one cache line.
 *
 * A book is read by whoever knows its version, whatever the size of its tickets: fields are only
 * ever added at the end, and read as 0 where they are not there yet. What is in it is not trusted. */
#ifndef CSCP_BOOK_H
#define CSCP_BOOK_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "include/cscp.h"

enum {
    CSCP_BOOK_VERSION = 1,
    CSCP_BOOK_SHARES_MAX = 64, /* one a thread */
    CSCP_TICKET_MIN = 216,     /* bytes of a ticket in the first book there was */
};

typedef enum cscp_stage {
    CSCP_STAGE_NEW,      /* its first frame has not come whole; nothing was taken off the socket */
    CSCP_STAGE_HELLO,    /* it said HELLO; perhaps that is still to be taken off the socket */
    CSCP_STAGE_WELCOMED, /* by whomever; or that may be so */
    CSCP_STAGES,
} cscp_stage;

enum {
    CSCP_TICKET_RELAYED = 1 << 0, /* another node relays it */
    CSCP_TICKET_AGAIN = 1 << 1,   /* another host had welcomed it before it came here */
    CSCP_TICKET_HAS_CLOCK = 1 << 2,
};

typedef struct cscp_ticket {
    /* What is written when something is sent: within one cache line */
    _Atomic uint64_t cookie; /* SO_COOKIE of the socket in the lot; 0 = none of this ticket's */
    _Atomic uint64_t acked;
    _Atomic uint32_t log_epoch;
    _Atomic uint32_t unsent;
    _Atomic uint32_t stage; /* cscp_stage */
    uint32_t flags;

    _Atomic uint64_t epoch_seen, session_id;
    uint64_t serial;
    uint64_t order; /* of two tickets of one serial the higher is the newer connection's */

    uint64_t connected_at_ms;
    /* HELLO */
    uint64_t boot_id;
    uint64_t clock_ahead_ms; /* of ours; modulo 2^64 */
    uint64_t oldest_seq, last_seq;
    uint32_t capacity, capabilities;
    uint8_t digest[CSCP_DIGEST_SIZE];
    struct in6_addr peer;
    uint16_t peer_port;
    uint8_t n_model, n_firmware;
    uint32_t reserved;
    char model[CSCP_NAME_MAX], firmware[CSCP_NAME_MAX];
    uint8_t free[8];
} cscp_ticket;

_Static_assert(sizeof(cscp_ticket) % 32 == 0, "what is sent touches one line");
_Static_assert(sizeof(cscp_ticket) == 224, "a ticket stays small");

/* How a book begins. The shares are of one size and follow at `tickets_at`, then, at `names_at`, as
 * many names in certificates as there are tickets: apart, since most have none. */
typedef struct cscp_book_head {
    uint8_t magic[8];
    uint32_t version;
    uint32_t ticket_size, name_size;
    uint32_t n_shares, share_size; /* tickets in a share */
    uint32_t sum;                  /* CRC-32C of the head up to `used`, this as 0 */
    uint64_t tickets_at, names_at;
    uint64_t generation; /* of two books the higher is the newer */
    _Atomic uint32_t used[CSCP_BOOK_SHARES_MAX]; /* tickets of the share above it were never used */
} cscp_book_head;

typedef struct cscp_book {
    uint8_t *bytes; /* NULL: none */
    size_t size;
    int fd; /* -1: ordinary memory */
    bool nameless; /* opened, and there is no name in it */
} cscp_book;

/* An empty book. In a memfd with `outlives`. -errno. */
int cscp_book_new(bool outlives, uint32_t n_shares, uint32_t share_size, uint64_t generation,
                  cscp_book *ret);
void cscp_book_done(cscp_book *book);
/* The tickets of a share, and where their names are. */
cscp_ticket *cscp_book_share(const cscp_book *book, uint32_t share);
char *cscp_book_names(const cscp_book *book, uint32_t share);
/* Ticket `i` of the share is going to be used. */
void cscp_book_use(const cscp_book *book, uint32_t share, uint32_t i);

/* --- Reading what another process wrote */

/* Is it a book that can be read? 0, -EBADMSG, or -EPROTONOSUPPORT: of another version. */
int cscp_book_check(const uint8_t *bytes, size_t n);
/* Maps it for reading. As check(), or -errno. */
int cscp_book_open(int fd, cscp_book *ret);
uint64_t cscp_book_generation(const cscp_book *book);

typedef struct cscp_book_cursor {
    uint32_t share, i;
} cscp_book_cursor;
/* Copies the next ticket that is in use and sound, with its name (terminated) unless ret_name is
 * NULL. False at the end. *ret_unsound counts those that are not sound. Begin with a cursor of 0;
 * afterwards it stands behind the ticket. */
bool cscp_book_next(const cscp_book *book, cscp_book_cursor *cursor, cscp_ticket *ret,
                    char *ret_name, uint32_t *ret_unsound);

#endif
