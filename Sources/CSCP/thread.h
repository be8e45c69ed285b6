/* One I/O thread and what it owns. Everything in it is the thread's alone but where it says
 * otherwise.
 *
 * A turn of its loop: take what epoll reports and what is in the mailbox; let time pass; read from
 * the connections that have something to say, as far as the ring has room; then write, once for
 * each connection, what the turn brought about; publish the ring and wake the taker if it
 * sleeps. */
#ifndef CSCP_THREAD_H
#define CSCP_THREAD_H

#include <pthread.h>

#include "book.h"
#include "conn.h"
#include "counters.h"
#include "directory.h"
#include "link.h"
#include "mailbox.h"
#include "park.h"
#include "ranges.h"
#include "record.h"
#include "ring.h"
#include "takeover.h"

enum {
    CSCP_READ_MAX = 65536, /* bytes a connection is read at once */
    CSCP_READ_MIN = 1024,
    CSCP_WRITE_MAX = 16384, /* bytes a connection is written at once, about */
    CSCP_FRAMES_MAX = 64,   /* frames in it */
    CSCP_FDS_A_TURN = 512,
    CSCP_AWAY_MAX = 8,
    CSCP_ACCEPTS_A_TURN = 256,
    CSCP_SWEEP_A_TURN = 2048, /* slots looked at after a change of ranges */
    CSCP_WELCOMES_A_TURN = 64, /* of them that may have something to be sent then: about 1/2 ms */
    CSCP_LINGER_MS = 1000,    /* for a last frame to arrive */
    CSCP_LINGERING_MAX = 1024,
    CSCP_FDS_SPARE = 128,  /* for the rest of the process, where the limit allows it */
    CSCP_FDS_BUSY = 1024,  /* and before it comes to those: connections that are told BUSY */
    CSCP_ACCEPT_PAUSE_MS = 100,
    CSCP_BEHIND_MS = 500, /* of turns that do not get to the end of what epoll has to report */
    CSCP_LATE_US = 50000, /* waking so late means having been stopped */
    CSCP_RETRY_MS = 10,   /* what is stalled is tried again */
    CSCP_GOAWAY_STEP_MS = 5, /* until some more controllers are told to go */
    CSCP_NOTICES_A_SECOND = 20,
    CSCP_NOTICE_BURST = 40,
    CSCP_NOTSENT_MAX = 16384, /* in the socket; more waits here, and can expire or be overtaken */
    CSCP_EVENT_OF_OWNER = 1, /* in a connection's epoll data: of its link's socket, not its own */
};

struct cscp_thread {
    struct cscp *cscp;
    const cscp_config *config;
    uint32_t index;
    int epoll_fd;
    int listen_fd; /* -1: closed */
    pthread_t pthread;
    bool started, quit;

    cscp_now now; /* of this turn */
    cscp_table table;
    cscp_pool pool;
    cscp_list ready, out, stalled, early, owed, departed, links;
    cscp_ranges *ranges;
    uint64_t ranges_version;
    uint32_t sweep;        /* slots below it were compared with the ranges */
    uint32_t goaway_sweep; /* ... were told to go: so many, of so many there were */
    uint32_t n_goaways, n_guests;
    uint32_t goaway_spread_ms;
    uint64_t goaway_began_ms;
    bool stopping, goaway;
    bool ring_is_full; /* nothing is read until the taker has made room */
    bool fence_was_open; /* when the stalled were looked after last */
    uint32_t n_lingering;
    uint64_t session_ids;
    uint64_t random;
    uint64_t accept_resume_ms; /* 0: accepting */
    bool accept_trouble;       /* since the last connection that was accepted */
    uint64_t notice_tokens;    /* in 1/1000 */
    uint64_t notice_at_ms;
    uint64_t busy_noticed_ms;
    struct {
        cscp_target target; /* port 0: none */
        uint64_t until_ms;
        uint64_t try_at_ms; /* when one controller is to find out whether it still is */
    } away[CSCP_AWAY_MAX]; /* owners that are out of reach */
    struct {
        cscp_target target;
        uint64_t at_ms;
    } reached[CSCP_AWAY_MAX]; /* when a connection to an owner came about, last */
    uint32_t suppressed;
    cscp_mail mail;
    cscp_park park;
    cscp_ticket *tickets; /* of the slots */
    char *names;          /* ... CSCP_TLS_NAME_MAX each */
    uint8_t *read_buffer;  /* CSCP_FRAME_MAX + CSCP_READ_MAX */
    uint8_t *write_buffer; /* CSCP_FRAME_MAX + CSCP_WRITE_MAX + config->relay_buffer */
    cscp_wheel wheel;

    /* Shared */
    cscp_count count;
    cscp_ring ring; /* the taker reads */
    cscp_mailbox box;
};

struct cscp {
    cscp_config config;
    char *bind_address;
    cscp_network trusted[CSCP_NETWORKS_MAX];
    uint16_t port;
    uint32_t n_threads;
    cscp_thread **threads;
    cscp_directory *directory;
    cscp_directory *relays; /* not sessions: for lists only */
    cscp_keeper keeper;
    bool has_keeper;
    cscp_book book;
    struct cscp_attendant *attendant; /* with a keeper only */
    cscp_resumption resumption;
    cscp_takeover takeover;
    int fds_busy, fds_end; /* see cscp_files_share() */

    _Alignas(64) _Atomic uint64_t valid_until;
    _Atomic uint64_t ranges_version; /* newer than a thread's: look at `ranges` */
    pthread_mutex_t ranges_lock;
    cscp_ranges *ranges;

    _Alignas(64) _Atomic uint64_t n_connections;
    _Atomic uint64_t n_relays;
    _Atomic uint64_t orders; /* HELLOs taken, by all processes so far */
    _Atomic uint64_t handshake_at_ns; /* token bucket: when the next is due at the full rate */

    /* The taker */
    _Alignas(64) _Atomic uint32_t taker_sleeps;
    _Atomic uint32_t taker_called; /* by cscp_wake() */
    int taker_fd;
    uint32_t taker_turn;
};

/* --- thread.c */
/* Connections a thread has room for. */
uint32_t cscp_slots_max(const cscp_config *config);
int cscp_thread_new(struct cscp *cscp, uint32_t index, int listen_fd, cscp_thread **ret);
cscp_thread *cscp_thread_free(cscp_thread *t);
int cscp_thread_start(cscp_thread *t);
/* Asks it to end and waits until it did. */
void cscp_thread_stop(cscp_thread *t);

/* Closes its sockets. The thread ends: thousands of them take each thread as many µs. */
void cscp_thread_close(cscp_thread *t);

/* --- loop.c */
void *cscp_thread_run(void *t);
void cscp_look_at_the_clocks(cscp_thread *t);
/* The ring has no room: nothing is read until it has `cscp_room_enough()`. */
void cscp_ring_filled(cscp_thread *t);
static inline uint64_t cscp_room_enough(const cscp_ring *ring) {
    return ring->capacity / 4;
}
/* The connection may have something to send, or something to be decided, at the end of the turn. */
void cscp_want_output(cscp_thread *t, cscp_conn *c);
/* It cannot go on for want of ownership or room: tried again soon. */
void cscp_stall(cscp_thread *t, cscp_conn *c);
/* It has something to say, and is welcomed as soon as it is known whose it is, ahead of the silent. */
void cscp_await_ranges(cscp_thread *t, cscp_conn *c);
/* Sees that the timer is early enough. */
void cscp_rearm(cscp_thread *t, cscp_conn *c);
/* Was it said what this process owns? */
static inline bool cscp_knows_ranges(const cscp_thread *t) {
    return t->ranges && t->ranges->known;
}
/* May a fenced frame be sent at this very moment? */
bool cscp_fence_is_open(const cscp_thread *t);

/* --- listen.c */
/* -errno */
int cscp_listen(const cscp_config *config, uint16_t port, int *ret_fd, uint16_t *ret_port);
/* Does that socket listen where the configuration says? */
bool cscp_listens_there(const cscp_config *config, int fd, uint16_t *ret_port);
/* -EADDRINUSE when somebody listens there, though SO_REUSEPORT would let us join. */
int cscp_probe_port(const cscp_config *config);
void cscp_accept(cscp_thread *t);
void cscp_accept_again(cscp_thread *t);
/* Shares the process' descriptors out, by their numbers, of which a new one gets the lowest that is free. What a process
 * does beside this library ends in ways of its own when it gets none: libdispatch, for one, with a crash. */
void cscp_files_share(struct cscp *cscp);

/* --- input.c */
void cscp_input(cscp_thread *t, cscp_conn *c);

/* --- output.c */
/* The socket takes nothing: epoll will tell when it does again. */
void cscp_block(cscp_thread *t, cscp_conn *c);
void cscp_output(cscp_thread *t, cscp_conn *c);

/* --- admit.c */
/* A HELLO that is in order. */
void cscp_hello_received(cscp_thread *t, cscp_conn *c, const cscp_hello *hello);
/* Welcomes a session that waits for it, when everything is as it must be. */
void cscp_admit(cscp_thread *t, cscp_conn *c);
/* The session loses its ownership, and may get it back. */
void cscp_suspend(cscp_thread *t, cscp_conn *c, cscp_reason reason);
/* How long one that is outside may wait. */
static inline uint32_t cscp_outside_hold_ms(const cscp_thread *t, const cscp_conn *c) {
    return c->relayed ? t->config->hold_ms : t->config->outside_hold_ms;
}
/* Compares the session with the newest ranges and routes. */
void cscp_reconsider(cscp_thread *t, cscp_conn *c);

/* --- summons.c */
/* Sees to it that the older session of c's serial ends before c is welcomed. */
void cscp_summon(cscp_thread *t, cscp_conn *c, uint64_t older);
/* A summons came, or came back. */
void cscp_summons_received(cscp_thread *t, cscp_summons *summons);
/* c has ended and said so. Its claim is kept, and whoever waits for it is told. */
void cscp_depart(cscp_thread *t, cscp_conn *c);
/* Lets those go whose last message was taken. */
void cscp_bury(cscp_thread *t);

/* --- ending.c */
cscp_conn *cscp_conn_open(cscp_thread *t, int fd, const struct sockaddr_storage *address);
/* Ends the session for `reason`; the socket is closed now or soon. The slot may be gone
 * afterwards. */
void cscp_conn_end(cscp_thread *t, cscp_conn *c, cscp_reason reason, uint32_t spread_ms);
/* Closes the socket of a connection that has ended. */
void cscp_conn_shut(cscp_thread *t, cscp_conn *c);
/* Gives the slot back if nothing needs it any more. */
void cscp_conn_release(cscp_thread *t, cscp_conn *c);
/* Lets go of the session's commands: what waits is unsent, what is awaited is forgotten. */
void cscp_drop_commands(cscp_thread *t, cscp_conn *c);

/* --- ticket.c */
/* The slot has a new connection. */
void cscp_ticket_draw(cscp_thread *t, const cscp_conn *c);
/* No other process is to go on with it. */
void cscp_ticket_tear(cscp_thread *t, const cscp_conn *c);
/* Its HELLO is accepted. Before it is taken off the socket. */
void cscp_ticket_hello(cscp_thread *t, const cscp_conn *c, const cscp_hello *hello);
/* Before n bytes are sent, which may end within a frame. */
void cscp_ticket_sending(cscp_thread *t, const cscp_conn *c, size_t n);
/* After that: all is sent but c->rest. */
void cscp_ticket_sent(cscp_thread *t, const cscp_conn *c);
static inline cscp_ticket *cscp_ticket_of(const cscp_thread *t, const cscp_conn *c) {
    return &t->tickets[c->slot];
}

/* --- estate.c */
/* What was inherited, sorted out. */
typedef struct cscp_estate {
    int listeners[64];
    char listener_names[64][CSCP_ROW_NAME];
    uint32_t n_listeners;
    cscp_row *rows;
    cscp_book book; /* .bytes: NULL = none that can be read */
    char book_names[64][CSCP_ROW_NAME];
    uint32_t n_books;
    uint64_t generation; /* the highest there is */
} cscp_estate;

/* Takes the descriptors. */
void cscp_estate_open(struct cscp *cscp, const cscp_config *config, cscp_estate *ret);
/* Closes what is left. */
void cscp_estate_done(cscp_estate *estate);
/* Makes room for n descriptors, by a copy of this one, which is closed again. */
void cscp_files_reserve(int fd, uint64_t n);

/* --- inherit.c: of the thread that leads the takeover. 0, -errno. */
/* Finds out what there is to take over. Before the threads are started. */
int cscp_inherit_read(struct cscp *cscp, const cscp_estate *estate);
/* Has the threads make it theirs, which goes on when this returns. */
int cscp_inherit_settle(struct cscp *cscp, cscp_estate *estate);
int cscp_inherit_wait(struct cscp *cscp);
/* The keeper has the new book. */
int cscp_inherit_serve(struct cscp *cscp);

/* --- upward.c */
/* Room for one more record of any kind, with nothing owed before it? */
bool cscp_up_has_room(cscp_thread *t);
void cscp_up_event(cscp_thread *t, const cscp_conn *c, const cscp_event *event);
void cscp_up_gap(cscp_thread *t, const cscp_conn *c, const cscp_log_gap *gap);
void cscp_up_reset(cscp_thread *t, const cscp_conn *c, const cscp_log_reset *reset);
void cscp_up_result(cscp_thread *t, const cscp_conn *c, const cscp_result *result);
void cscp_up_session(cscp_thread *t, const cscp_conn *c, cscp_message_kind kind,
                     uint64_t owner_epoch);
/* Never lost: without room they wait, and nothing else is taken up meanwhile. */
void cscp_up_command(cscp_thread *t, cscp_pending *command, cscp_command_outcome outcome);
void cscp_up_disconnected(cscp_thread *t, cscp_conn *c, uint64_t handle, cscp_reason reason);
/* May be left out, and is counted then. */
void cscp_up_notice(cscp_thread *t, const cscp_conn *c, cscp_reason reason);
/* Hands up what is owed, as far as there is room; true when nothing is left. */
bool cscp_up_settle(cscp_thread *t);
/* Shows the taker what was written, and wakes it if it sleeps. */
void cscp_up_publish(cscp_thread *t);

/* --- mail.c */
void cscp_handle_mail(cscp_thread *t);

#endif
