/* A connection as its I/O thread keeps it, and the thread's table of them. What would be known of it
 * to another process, and what HELLO said beyond the session's part of it, is in its ticket: see
 * book.h.
 *
 * Slots come in chunks that are allocated as they are needed and freed with the table, so that a
 * pointer to a slot stays good; its generation tells whose it is. A handle is thread (8 bits), slot
 * (24 bits) and generation (32 bits), and names one session from its welcome to its end: a session
 * that is suspended and welcomed again goes on under a new one. */
#ifndef CSCP_CONN_H
#define CSCP_CONN_H

#include <netinet/in.h>
#include <stdatomic.h>

#include "lanes.h"
#include "pool.h"
#include "session.h"
#include "wheel.h"

enum {
    CSCP_CHUNK = 128, /* slots */
    CSCP_SLOTS_MAX = 1 << 24,
};

/* "See that your session ended, then tell me": from a newer session of a serial to the thread of
 * the older one and back, with the place in a ring that the taker must have passed before the newer
 * one's CONNECTED: behind the older one's last message. */
typedef struct cscp_summons {
    struct cscp_summons *next; /* in a mailbox */
    uint64_t older, newer;     /* handles */
    uint64_t position;
    uint32_t thread;
    bool answered;
} cscp_summons;

/* In the order of use: an event, its acknowledgement and what goes with them touch the first lines
 * only. */
typedef struct cscp_conn {
    cscp_list ready; /* in the thread's list of those that may have bytes to read */
    cscp_list out;   /* ... that may have something to send, are stalled, or early */
    int fd;          /* -1: closed */
    uint32_t slot;
    uint32_t generation;
    bool hup : 1;         /* the end of the stream is in sight: read up to it */
    bool blocked : 1;     /* the socket takes nothing at present */
    bool watches_out : 1; /* epoll tells when it does again */
    bool lingering : 1;   /* a last frame was sent: waiting for the peer to close */
    bool claimed : 1;     /* in the directory */
    bool connected : 1;   /* CONNECTED was said, DISCONNECTED not */
    bool greeted : 1;     /* CONNECTED was said once */
    bool departed : 1;    /* all was said; the claim is kept until the taker has heard it */
    bool summoned : 1;    /* its summons is out */
    bool rest_fenced : 1; /* the frame that was begun needs ownership */
    bool counted : 1;     /* a fenced send was counted */
    bool outside : 1;     /* said HELLO for a serial that nobody owns here, and waits */
    bool fresh : 1;       /* a PROXY header may still come */
    bool relayed : 1;     /* it came by another node: not to be relayed on */
    bool parking : 1;     /* the slot is in the thread's list of those to be parked */
    bool rest_passed : 1; /* `rest` are another host's frames: passed on, not sent */
    cscp_buffer *in;      /* the beginning of a frame that did not come whole */
    cscp_lanes *lanes;    /* while there are commands */

    cscp_session session;

    cscp_timer timer;
    uint64_t ranges_version; /* the session was last compared with */
    cscp_buffer *rest;       /* the end of a frame that did not go out whole */
    uint64_t progress_ms;    /* while blocked: when the socket last took something */
    _Atomic uint64_t handle; /* of the session while connected, else 0; any thread may look */
    _Atomic uint64_t farewell; /* the last one that was asked to be disconnected; any thread */
    cscp_owed owed; /* of those whose DISCONNECTED waits for room; then, of the departed */
    uint64_t owed_handle;
    cscp_summons *heir;
    cscp_summons summons;
    uint64_t behind_told; /* range epoch + 1 that EPOCH_BEHIND was last said of */
    uint64_t connected_at_ms;
    struct in6_addr peer;
    uint16_t peer_port;
    uint8_t owed_reason;
    uint16_t n_preface;      /* bytes before HELLO that are understood and still in the socket */
    struct cscp_row *row;    /* of the lot, where a copy of the socket is; NULL: nowhere */
    struct cscp_link *link; /* while it is to be relayed */
    char *tls_name; /* as the PROXY header says, terminated; NULL = none */
} cscp_conn;

typedef struct cscp_table {
    cscp_conn *_Atomic *chunks; /* any thread may look a slot up */
    uint32_t n_chunks, n_chunks_max;
    uint32_t *free; /* stack of free slots */
    uint32_t n_free, n_free_max;
} cscp_table;

int cscp_table_init(cscp_table *table, uint32_t slots_max);
void cscp_table_done(cscp_table *table);
/* A free slot, everything zero or unlinked but slot and generation. NULL: full, or memory is
 * out. */
cscp_conn *cscp_table_take(cscp_table *table);
/* Frees the slot and moves it to its next generation. */
void cscp_table_give_back(cscp_table *table, cscp_conn *conn);
/* Any thread. NULL: there was never such a slot. */
cscp_conn *cscp_table_slot(const cscp_table *table, uint32_t slot);
static inline uint32_t cscp_table_n_slots(const cscp_table *table) {
    return table->n_chunks * CSCP_CHUNK;
}

void cscp_conn_next_generation(cscp_conn *conn);
uint64_t cscp_conn_handle(const cscp_conn *conn, uint32_t thread);
static inline uint32_t cscp_handle_thread(uint64_t handle) {
    return (uint32_t)(handle >> 56);
}
static inline uint32_t cscp_handle_slot(uint64_t handle) {
    return (uint32_t)(handle >> 32) & (CSCP_SLOTS_MAX - 1);
}
static inline uint32_t cscp_handle_generation(uint64_t handle) {
    return (uint32_t)handle;
}

void cscp_conn_set_peer(cscp_conn *conn, const struct sockaddr_storage *address);
enum { CSCP_PEER_TEXT = 56 };
/* "192.0.2.7:40112", "[2001:db8::7]:40112"; returns its length. */
size_t cscp_conn_peer_text(const cscp_conn *conn, char text[CSCP_PEER_TEXT]);

#endif
