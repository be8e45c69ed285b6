/* The faults a fleet inflicts on itself and on its host: their names, and when the next one is
 * due. */
#ifndef FLEET_FAULTS_H
#define FLEET_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

typedef enum fleet_fault {
    FLEET_FAULT_DISCONNECT,
    FLEET_FAULT_HALF_OPEN,
    FLEET_FAULT_REBOOT,
    FLEET_FAULT_REBOOT_LOST,
    FLEET_FAULT_LOG_CLEAR,
    FLEET_FAULT_SLOW_READER,
    FLEET_FAULT_MALFORMED,
    FLEET_FAULT_CLOCK_SKEW,
    FLEET_FAULT_SYNC_RECONNECT, /* not an occurrence but a way of reconnecting */
    FLEET_FAULT_COUNT,
} fleet_fault;

/* Times per controller and second; 0 = never. SYNC_RECONNECT: not 0 = yes. */
typedef struct fleet_faults {
    double rates[FLEET_FAULT_COUNT];
} fleet_faults;

/* "NAME[:RATE],..." or "". -EINVAL, with the entry at fault. */
int fleet_faults_parse(const char *text, fleet_faults *ret, const char **ret_at);

#endif
