/* A relayed controller's connection to the node that owns its serial, as its I/O thread keeps it:
 * the sockets around relay.h. It is there from the moment the controller is to be relayed until it
 * is served here or its connection ends, whether there is an owner to talk to or not.
 *
 * Whole frames only. What is read from either side is passed on up to the last whole frame; the
 * beginning of the next one waits on the side it came from. So a side that goes away never leaves
 * the other with half a frame that nobody completes.
 *
 * Back-pressure. A side is read only while nothing waits for the other one: then at most
 * config.relay_buffer bytes come into being here, and TCP holds the sender back. Buffers are taken
 * from the pool while they hold something. */
#ifndef CSCP_LINK_H
#define CSCP_LINK_H

#include "conn.h"
#include "relay.h"

typedef struct cscp_thread cscp_thread;

enum {
    /* The owner's host has acknowledged nothing for so long, though it was sent again and again: it is not
     * there, or not to be reached. One that is only slow acknowledges all the same. */
    CSCP_LINK_DEAD_MS = 1000,
    CSCP_LINK_RESENT = 2,
    CSCP_LINK_RECHECK_MS = 100,
    /* A controller that is sent elsewhere comes within this; it may well come here again. */
    CSCP_LINK_AWAY_SPREAD_MS = 500,
    /* ... by a node that is apart: its balancer is about to send nobody there any more. */
    CSCP_LINK_APART_SPREAD_MS = 250,
    /* So long an owner that was out of reach is not tried for others, but for one now and then: a balancer that
     * prefers nodes with few connections sends them all here. */
    CSCP_LINK_AWAY_MS = 5000,
    CSCP_LINK_TRY_MS = 250,
};

typedef struct cscp_link {
    cscp_list ready; /* in the thread's list of those that may have something to pass on */
    cscp_conn *conn;
    cscp_relay relay;
    int fd; /* to the owner; -1: none */
    bool readable : 1;    /* the owner may have sent something */
    bool hup : 1;         /* the end of its stream is in sight: read up to it */
    bool blocked : 1;     /* its socket takes nothing at present */
    bool heard : 1;       /* RELAYED: the controller may have sent something */
    bool half_closed : 1; /* the controller sent its FIN */
    bool ending : 1;      /* the session ends once what was to be passed is gone */
    uint8_t end_reason;
    uint32_t end_spread_ms;
    uint32_t attaches;
    cscp_buffer *in;   /* the beginning of an owner's frame */
    cscp_buffer *rest; /* whole frames for the owner, or the end of one and more */
    uint64_t check_at_ms; /* when to see whether what was sent arrives; 0: nothing was */
    uint64_t close_at_ms; /* half-closed: how long that may last */
    uint64_t since_utc_ms; /* attached, or not */
    uint64_t listed; /* the handle in the directory of relays */
} cscp_link;

/* --- link.c */
/* Sees to it that the controller finds the owner the way leads to. It has said HELLO and is not
 * relayed at present. May end the connection. */
void cscp_link_seek(cscp_thread *t, cscp_conn *c, const cscp_way *way);
/* The owner is lost. A relayed session is suspended; it, or the whole connection, may end. */
void cscp_link_lose(cscp_thread *t, cscp_conn *c, cscp_lost why);
/* Closes it, if there is one. A relayed session is suspended. */
void cscp_link_drop(cscp_thread *t, cscp_conn *c);
/* The same, when the connection ends. What waits for the owner is given one more chance. */
void cscp_link_end(cscp_thread *t, cscp_conn *c);
/* The connection to the owner is there, perhaps. */
void cscp_link_greet(cscp_thread *t, cscp_conn *c);
/* Something was sent to the owner: whether it arrives is looked at in a while. */
void cscp_link_sent(cscp_thread *t, cscp_conn *c);
/* When there is something to do; boot_ms, UINT64_MAX = never. */
uint64_t cscp_link_deadline(const cscp_thread *t, const cscp_link *link);
/* Lets time pass. False when the connection has ended. */
bool cscp_link_tick(cscp_thread *t, cscp_conn *c);
void cscp_link_describe(const cscp_conn *c, cscp_relay_info *ret);

/* --- pass.c */
/* epoll reports the owner's socket, or that of a relayed controller. */
void cscp_link_owner_event(cscp_thread *t, cscp_conn *c, uint32_t events);
void cscp_link_heard(cscp_thread *t, cscp_conn *c);
/* What waited for the controller is gone. May end the connection. */
void cscp_link_drained(cscp_thread *t, cscp_conn *c);
/* Passes on what there is. */
void cscp_link_pass(cscp_thread *t, cscp_conn *c);

#endif
