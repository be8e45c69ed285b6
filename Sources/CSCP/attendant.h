/* Who talks to the keeper of the parking lot, in a thread of its own: the keeper may take its time,
 * and no I/O thread waits for it. Has an empty row ready for each of them, and does away with rows
 * that are out of use. */
#ifndef CSCP_ATTENDANT_H
#define CSCP_ATTENDANT_H

#include "include/cscp.h"
#include "lot.h"

typedef struct cscp_attendant cscp_attendant;

/* Copies the keeper. Rows are named by generation and a number. -errno, also the keeper's. */
int cscp_attendant_new(const cscp_keeper *keeper, uint32_t n_threads, uint64_t generation,
                       cscp_attendant **ret);
/* Stops it; what it was to do away with stays until the next process. NULL is fine. Returns NULL. */
cscp_attendant *cscp_attendant_free(cscp_attendant *self);
/* A row for that thread that the keeper has. NULL: not yet. Another one is made. */
cscp_row *cscp_attendant_take(cscp_attendant *self, uint32_t thread);
/* Takes a row that nobody needs. */
void cscp_attendant_retire(cscp_attendant *self, cscp_row *row);

#endif
