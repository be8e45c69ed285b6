#include "targets.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

int fleet_target_parse(const char *text, bool numeric, fleet_target *ret) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    const char *colon = strrchr(text, ':');
    char host[256], *end;
    size_t n_host;
    unsigned long port;

    if (!colon || colon == text)
        return -EINVAL;
    port = strtoul(colon + 1, &end, 10);
    if (end == colon + 1 || *end != 0 || port < 1 || port > 65535)
        return -EINVAL;
    n_host = (size_t)(colon - text);
    if (text[0] == '[' && colon[-1] == ']') {
        text++;
        n_host -= 2;
    }
    if (n_host < 1 || n_host >= sizeof(host))
        return -EINVAL;
    memcpy(host, text, n_host);
    host[n_host] = 0;
    hints.ai_flags = AI_NUMERICSERV | (numeric ? AI_NUMERICHOST : 0);
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
        return -EHOSTUNREACH;
    memcpy(&ret->address, found->ai_addr, found->ai_addrlen);
    ret->n_address = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

int fleet_targets_parse(const char *text, fleet_target *ret, unsigned *ret_n, const char **ret_at) {
    unsigned n = 0;

    for (const char *p = text;; p++) {
        size_t n_entry = strcspn(p, ",");
        char entry[300];
        int r = -EINVAL;

        if (n_entry < sizeof(entry) && n < FLEET_TARGETS_MAX) {
            memcpy(entry, p, n_entry);
            entry[n_entry] = 0;
            r = fleet_target_parse(entry, false, &ret[n]);
        }
        if (r < 0) {
            *ret_at = p;
            return r;
        }
        n++;
        p += n_entry;
        if (*p == 0)
            break;
    }
    *ret_n = n;
    return 0;
}
