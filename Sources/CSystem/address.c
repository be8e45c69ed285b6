/* Addresses: numbers, names and paths. */
#include "CSystem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

static int lookup(const char *host, uint16_t port, int flags, struct addrinfo **ret) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
    char service[8];
    int r;

    (void)snprintf(service, sizeof service, "%u", port);
    r = getaddrinfo(host, service, &hints, ret);
    switch (r) {
    case 0:
        return 0;
    case EAI_NONAME:
    case EAI_NODATA:
        return -ENOENT;
    case EAI_AGAIN:
        return -EAGAIN;
    case EAI_MEMORY:
        return -ENOMEM;
    case EAI_SYSTEM:
        return errno > 0 ? -errno : -EIO;
    default:
        return -EIO;
    }
}

static size_t copy_addresses(const struct addrinfo *from, csys_address *ret, size_t n) {
    size_t count = 0;

    for (; from && count < n; from = from->ai_next) {
        if (from->ai_addrlen > sizeof ret->storage)
            continue;
        ret[count] = (csys_address){.length = from->ai_addrlen};
        memcpy(&ret[count].storage, from->ai_addr, from->ai_addrlen);
        count++;
    }
    return count;
}

int csys_address_parse(const char *host, uint16_t port, csys_address *ret) {
    struct addrinfo *list;
    char inner[INET6_ADDRSTRLEN + 32];
    size_t n = strlen(host);
    size_t count;

    if (n > 2 && host[0] == '[' && host[n - 1] == ']') {
        if (n - 2 >= sizeof inner)
            return -EINVAL;
        memcpy(inner, host + 1, n - 2);
        inner[n - 2] = '\0';
        host = inner;
    }
    if (host[0] == '\0')
        return -EINVAL;
    if (lookup(host, port, AI_NUMERICHOST, &list) < 0)
        return -EINVAL;
    count = copy_addresses(list, ret, 1);
    freeaddrinfo(list);
    return count == 1 ? 0 : -EINVAL;
}

int csys_address_unix(const char *path, csys_address *ret) {
    struct sockaddr_un *un = (struct sockaddr_un *)&ret->storage;
    size_t n = strlen(path);

    if (n == 0)
        return -EINVAL;
    if (n >= sizeof un->sun_path)
        return -ENAMETOOLONG;
    *ret = (csys_address){0};
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, n);
    if (path[0] == '@') {
        un->sun_path[0] = '\0';
        ret->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    } else {
        ret->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
    }
    return 0;
}

int csys_address_resolve(const char *host, uint16_t port, csys_address *ret_addresses, size_t n) {
    struct addrinfo *list;
    size_t count;
    int r;

    if (host[0] == '\0')
        return -ENOENT;
    r = lookup(host, port, AI_ADDRCONFIG, &list);
    if (r < 0)
        return r;
    count = copy_addresses(list, ret_addresses, n);
    freeaddrinfo(list);
    return count > 0 ? (int)count : -ENOENT;
}

size_t csys_address_print(const csys_address *address, char *ret_text, size_t n) {
    const struct sockaddr_in *in = (const struct sockaddr_in *)&address->storage;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address->storage;
    const struct sockaddr_un *un = (const struct sockaddr_un *)&address->storage;
    char host[INET6_ADDRSTRLEN] = "?";
    size_t n_path;
    int r;

    if (n == 0)
        return 0;
    switch (address->storage.ss_family) {
    case AF_INET:
        (void)inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        r = snprintf(ret_text, n, "%s:%u", host, ntohs(in->sin_port));
        break;
    case AF_INET6:
        (void)inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        r = snprintf(ret_text, n, "[%s]:%u", host, ntohs(in6->sin6_port));
        break;
    case AF_UNIX:
        n_path = address->length - offsetof(struct sockaddr_un, sun_path);
        if (address->length <= offsetof(struct sockaddr_un, sun_path))
            r = snprintf(ret_text, n, "unix:");
        else if (un->sun_path[0] == '\0')
            r = snprintf(ret_text, n, "@%.*s", (int)(n_path - 1), un->sun_path + 1);
        else
            r = snprintf(ret_text, n, "%.*s", (int)n_path, un->sun_path);
        break;
    default:
        r = snprintf(ret_text, n, "?");
    }
    if (r < 0)
        return 0;
    return (size_t)r < n ? (size_t)r : n - 1;
}
