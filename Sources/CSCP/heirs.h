/* The tickets of the former process' book, to be found by the cookies of their sockets. Made by one
 * thread; then any number may look, and of those that find a ticket one has it. */
#ifndef CSCP_HEIRS_H
#define CSCP_HEIRS_H

#include "book.h"

typedef struct cscp_heir {
    uint64_t cookie;
    cscp_book_cursor at; /* where its ticket is */
    _Atomic bool found;
} cscp_heir;

typedef struct cscp_heirs {
    const cscp_book *book;
    cscp_heir *items;
    size_t n;
    uint32_t *places; /* by cookie: open addressing; 0 = none, else number + 1 */
    size_t n_places;  /* a power of two */
    uint64_t orders;  /* the highest there is */
    uint32_t unsound;
} cscp_heirs;

/* Reads a book, which stays; none is an empty one. 0, -ENOMEM: then done() is called all the same. */
int cscp_heirs_read(const cscp_book *book, cscp_heirs *ret);
void cscp_heirs_done(cscp_heirs *heirs);
/* NULL: there is no ticket for it. */
cscp_heir *cscp_heirs_look(const cscp_heirs *heirs, uint64_t cookie);
/* True for the first who asks. */
bool cscp_heir_take(cscp_heir *heir);
/* Copies its ticket, and the name that goes with it (terminated). */
void cscp_heirs_copy(const cscp_heirs *heirs, const cscp_heir *heir, cscp_ticket *ret,
                     char ret_name[CSCP_TLS_NAME_MAX + 1]);
/* Tickets whose sockets nobody has found. */
uint32_t cscp_heirs_left(const cscp_heirs *heirs);

#endif
