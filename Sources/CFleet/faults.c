#include "faults.h"
#include "fleet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    double rate;
} faults[FLEET_FAULT_COUNT] = {
    [FLEET_FAULT_DISCONNECT] = {"disconnect", 0.01},
    [FLEET_FAULT_HALF_OPEN] = {"half-open", 0.001},
    [FLEET_FAULT_REBOOT] = {"reboot", 0.001},
    [FLEET_FAULT_REBOOT_LOST] = {"reboot-lost", 0.0005},
    [FLEET_FAULT_LOG_CLEAR] = {"log-clear", 0.0005},
    [FLEET_FAULT_SLOW_READER] = {"slow-reader", 0.005},
    [FLEET_FAULT_MALFORMED] = {"malformed", 0.001},
    [FLEET_FAULT_CLOCK_SKEW] = {"clock-skew", 0.01},
    [FLEET_FAULT_SYNC_RECONNECT] = {"sync-reconnect", 1},
};

const char *fleet_fault_help(void) {
    return "disconnect (0.01): closes the connection, every second time with a reset\n"
           "half-open (0.001): stops reading and answering, connects anew, and leaves the old "
           "socket open for 5 to 30 s\n"
           "reboot (0.001): starts anew with its log\n"
           "reboot-lost (0.0005): starts anew with its log lost: LOG_RESET, next log_epoch\n"
           "log-clear (0.0005): loses its log within the session\n"
           "slow-reader (0.005): reads nothing for 1 to 5 s\n"
           "malformed (0.001): sends a frame with a wrong CRC, garbage, a frame too large, of "
           "another version, of an unknown type, or cut short\n"
           "clock-skew (0.01): its wall clock jumps to an hour before, an hour after, or to the "
           "right time\n"
           "sync-reconnect (no rate): retries every 5, 10 or 20 times --backoff-min, all "
           "controllers at the same instants, as real fleets do";
}

static int parse_one(const char *p, size_t n, fleet_faults *ret) {
    size_t n_name = 0;

    while (n_name < n && p[n_name] != ':')
        n_name++;
    for (int i = 0; i < FLEET_FAULT_COUNT; i++) {
        char number[32], *end;
        double rate;

        if (strlen(faults[i].name) != n_name || memcmp(p, faults[i].name, n_name) != 0)
            continue;
        ret->rates[i] = faults[i].rate;
        if (n_name == n)
            return 0;
        if (i == FLEET_FAULT_SYNC_RECONNECT || n - n_name - 1 >= sizeof(number) || n == n_name + 1)
            return -EINVAL;
        memcpy(number, p + n_name + 1, n - n_name - 1);
        number[n - n_name - 1] = 0;
        rate = strtod(number, &end);
        if (*end != 0 || !(rate >= 0 && rate <= 1000))
            return -EINVAL;
        ret->rates[i] = rate;
        return 0;
    }
    return -EINVAL;
}

int fleet_faults_parse(const char *text, fleet_faults *ret, const char **ret_at) {
    fleet_faults parsed = {0};

    for (const char *p = text; *p;) {
        size_t n = strcspn(p, ",");
        if (parse_one(p, n, &parsed) < 0) {
            *ret_at = p;
            return -EINVAL;
        }
        p += n;
        if (*p == ',')
            p++;
    }
    *ret = parsed;
    return 0;
}
