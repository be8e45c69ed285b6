/* What other threads have for an I/O thread. Whoever posts takes the lock for a few instructions
 * and wakes the thread only when it sleeps; the thread takes everything at once by swapping.
 *
 * Bounded: acknowledgements and disconnects to one entry a connection (the former are compacted
 * when they are more), commands by the places in the directory; summons are part of their
 * connections, inquiries wait for their answer. */
#ifndef CSCP_MAILBOX_H
#define CSCP_MAILBOX_H

#include <pthread.h>
#include <stdatomic.h>

#include "conn.h"

typedef struct cscp_farewell {
    uint64_t connection;
    cscp_reason reason;
    uint32_t spread_ms;
} cscp_farewell;

/* A question of cscp_list_sessions() or cscp_list_relays() to one thread. Freed by whoever lets go of it last: the asker
 * may have given up. */
typedef struct cscp_inquiry {
    struct cscp_inquiry *next;
    _Atomic uint32_t n_refs;
    pthread_mutex_t lock;
    pthread_cond_t answered;
    bool done;
    bool of_relays;
    size_t n;
    uint64_t *handles; /* n of them */
    bool *found;
    union {
        cscp_session_info *infos;
        cscp_relay_info *relays;
    };
} cscp_inquiry;

typedef struct cscp_mail {
    cscp_ack *acks;
    size_t n_acks, n_acks_max;
    cscp_farewell *farewells;
    size_t n_farewells, n_farewells_max;
    cscp_list commands;
    cscp_summons *summons, **summons_end;
    cscp_inquiry *inquiries;
    uint32_t spread_ms;
    bool stop_accepting, goaway, quit;
} cscp_mail;

typedef struct cscp_mailbox {
    pthread_mutex_t lock;
    cscp_mail mail;
    int event_fd; /* edge-triggered in the thread's epoll, so never read */
    _Alignas(64) _Atomic uint32_t full;
    _Atomic uint32_t sleeping;
    _Atomic uint64_t wakeups;
} cscp_mailbox;

int cscp_mailbox_init(cscp_mailbox *box);
void cscp_mailbox_done(cscp_mailbox *box);

/* --- Any thread */
int cscp_mailbox_ack(cscp_mailbox *box, uint32_t thread, const cscp_ack *acks, size_t n);
int cscp_mailbox_farewell(cscp_mailbox *box, const cscp_farewell *farewell);
void cscp_mailbox_command(cscp_mailbox *box, cscp_pending *command);
void cscp_mailbox_summons(cscp_mailbox *box, cscp_summons *summons);
void cscp_mailbox_inquiry(cscp_mailbox *box, cscp_inquiry *inquiry);
void cscp_mailbox_stop_accepting(cscp_mailbox *box, bool goaway, uint32_t spread_ms);
void cscp_mailbox_quit(cscp_mailbox *box);
/* Wakes the thread if it sleeps. What it shall see was stored before. */
void cscp_mailbox_wake(cscp_mailbox *box);

/* --- The thread */
void cscp_mail_init(cscp_mail *mail);
void cscp_mail_done(cscp_mail *mail);
/* Moves the mail to `mail`, whose contents were dealt with. False: there was none. */
bool cscp_mailbox_take(cscp_mailbox *box, cscp_mail *mail);
/* Before sleeping; false: there is mail, do not sleep. cscp_mailbox_up() afterwards, in any
 * case. */
bool cscp_mailbox_sleep(cscp_mailbox *box);
void cscp_mailbox_up(cscp_mailbox *box);

int cscp_inquiry_new(size_t n, bool of_relays, cscp_inquiry **ret);
cscp_inquiry *cscp_inquiry_unref(cscp_inquiry *inquiry);

#endif
