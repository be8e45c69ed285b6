/* libmicrohttpd's own timeout counts from a connection's last byte: who drips a byte now and then
 * holds a connection for ever, and with enough of them everybody else out. So the loop is ours
 * (MHD_run() on its epoll descriptor), and every connection has a deadline from its accept, when
 * it is shut down whatever it is doing. Connections come and go on the loop's thread only, which
 * is why their list needs no lock and no descriptor is shut down after it was closed. */
#include "include/metrics_http.h"

#include "listen.h"

#include <errno.h>
#include <microhttpd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct connection {
    struct connection *prev, *next;
    int fd;
    uint64_t deadline_ms;
} connection;

struct metrics_http {
    struct MHD_Daemon *daemon;
    metrics_http_answer answer;
    void *context;
    pthread_t thread;
    int epoll_fd;
    int stop_fd;
    uint32_t deadline_ms;
    uint16_t port;
    bool has_closed;
    /* In the order of their deadlines. */
    connection *first, *last;
};

struct metrics_http_reply {
    struct MHD_Response *response;
    unsigned int status;
};

static uint64_t now_ms(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void metrics_http_config_init(metrics_http_config *config) {
    memset(config, 0, sizeof(*config));
    config->connections_max = 32;
    config->request_bytes_max = 16384;
    config->deadline_ms = 10000;
}

uint16_t metrics_http_port(const metrics_http *self) {
    return self->port;
}

/* --- Answers -------------------------------------------------------------------------------- */

int metrics_http_reply_set(metrics_http_reply *reply, unsigned int status, const char *content_type,
                           const void *body, size_t n_body) {
    struct MHD_Response *response;

    response = MHD_create_response_from_buffer(n_body, (void *)(uintptr_t)body,
                                               MHD_RESPMEM_MUST_COPY);
    if (!response)
        return -ENOMEM;
    if (MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type) != MHD_YES ||
        MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store") != MHD_YES ||
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close") != MHD_YES) {
        MHD_destroy_response(response);
        return -ENOMEM;
    }
    if (reply->response)
        MHD_destroy_response(reply->response);
    reply->response = response;
    reply->status = status;
    return 0;
}

static void reply_text(metrics_http_reply *reply, unsigned int status, const char *text) {
    metrics_http_reply_set(reply, status, "text/plain; charset=utf-8", text, strlen(text));
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *n_data, void **request) {
    metrics_http *self = context;
    metrics_http_reply reply = {.response = NULL};
    enum MHD_Result queued;

    (void)version, (void)data, (void)n_data, (void)request;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
        reply_text(&reply, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD are served here\n");
        if (reply.response)
            MHD_add_response_header(reply.response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    } else {
        self->answer(self->context, url, &reply);
        if (!reply.response)
            reply_text(&reply, MHD_HTTP_NOT_FOUND, "try /metrics, /healthz or /readyz\n");
    }
    if (!reply.response)
        return MHD_NO;
    queued = MHD_queue_response(mhd, reply.status, reply.response);
    MHD_destroy_response(reply.response);
    return queued;
}

/* --- Connections and their deadlines -------------------------------------------------------- */

static void connection_started(metrics_http *self, int fd, void **socket_context) {
    connection *new = malloc(sizeof(*new));

    *socket_context = new;
    if (!new) {
        shutdown(fd, SHUT_RDWR);
        return;
    }
    *new = (connection){
        .prev = self->last,
        .fd = fd,
        .deadline_ms = now_ms() + 1 + self->deadline_ms, /* now_ms() rounds down */
    };
    if (self->last)
        self->last->next = new;
    else
        self->first = new;
    self->last = new;
}

static void connection_closed(metrics_http *self, connection *old) {
    self->has_closed = true;
    if (!old)
        return;
    if (old->prev)
        old->prev->next = old->next;
    else
        self->first = old->next;
    if (old->next)
        old->next->prev = old->prev;
    else
        self->last = old->prev;
    free(old);
}

static void on_connection(void *context, struct MHD_Connection *mhd, void **socket_context,
                          enum MHD_ConnectionNotificationCode code) {
    metrics_http *self = context;
    const union MHD_ConnectionInfo *info;

    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        connection_closed(self, *socket_context);
        return;
    }
    info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (info)
        connection_started(self, info->connect_fd, socket_context);
}

/* Shuts down what is overdue; MHD sees the end of the stream and closes it. It stays in the list
 * until then, without a deadline. */
static void connections_expire(metrics_http *self, uint64_t now) {
    for (connection *c = self->first; c && c->deadline_ms <= now; c = c->next) {
        if (c->fd < 0)
            continue;
        shutdown(c->fd, SHUT_RDWR);
        c->fd = -1;
    }
}

static int next_timeout_ms(metrics_http *self, uint64_t now) {
    unsigned long long mhd_ms;
    uint64_t timeout_ms = 60000;

    if (MHD_get_timeout(self->daemon, &mhd_ms) == MHD_YES && mhd_ms < timeout_ms)
        timeout_ms = mhd_ms;
    for (const connection *c = self->first; c; c = c->next) {
        if (c->fd < 0)
            continue;
        if (c->deadline_ms <= now)
            return 0;
        if (c->deadline_ms - now < timeout_ms)
            timeout_ms = c->deadline_ms - now;
        break;
    }
    return (int)timeout_ms;
}

static void *serve(void *context) {
    metrics_http *self = context;
    struct pollfd fds[2] = {
        {.fd = self->epoll_fd, .events = POLLIN},
        {.fd = self->stop_fd, .events = POLLIN},
    };

    for (;;) {
        poll(fds, 2, next_timeout_ms(self, now_ms()));
        if (fds[1].revents)
            return NULL;
        connections_expire(self, now_ms());
        /* At its limit of connections MHD stops listening, and begins again only in the run after
         * the one that closed some. */
        do {
            self->has_closed = false;
            MHD_run(self->daemon);
        } while (self->has_closed);
    }
}

/* --- Life ----------------------------------------------------------------------------------- */

static void discard_log(void *context, const char *format, va_list arguments) {
    (void)context, (void)format, (void)arguments;
}

static int daemon_start(metrics_http *self, const metrics_http_config *config) {
    const union MHD_DaemonInfo *info;
    int fd;

    fd = metrics_http_listen(config->address, config->port, &self->port);
    if (fd < 0)
        return fd;
    /* The logger comes first: it holds for the options after it. */
    self->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request, self,
        MHD_OPTION_EXTERNAL_LOGGER, discard_log, NULL, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned int)config->connections_max,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)config->request_bytes_max,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, self, MHD_OPTION_END);
    if (!self->daemon) {
        close(fd);
        return -ENOMEM;
    }
    info = MHD_get_daemon_info(self->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info)
        return -EIO;
    self->epoll_fd = info->epoll_fd;
    return 0;
}

static int thread_start(metrics_http *self) {
    sigset_t all, before;
    int r;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&self->thread, NULL, serve, self);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r == 0)
        pthread_setname_np(self->thread, "metrics");
    return -r;
}

static void release(metrics_http *self) {
    if (self->daemon)
        MHD_stop_daemon(self->daemon);
    if (self->stop_fd >= 0)
        close(self->stop_fd);
    free(self);
}

int metrics_http_new(const metrics_http_config *config, metrics_http_answer answer, void *context,
                     metrics_http **ret) {
    metrics_http *self;
    int r;

    if (!config->address || config->connections_max < 1 || config->connections_max > 1024 ||
        config->request_bytes_max < 2048 || config->deadline_ms < 10)
        return -EINVAL;
    self = calloc(1, sizeof(*self));
    if (!self)
        return -ENOMEM;
    self->answer = answer;
    self->context = context;
    self->deadline_ms = config->deadline_ms;
    self->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r = self->stop_fd < 0 ? -errno : daemon_start(self, config);
    if (r >= 0)
        r = thread_start(self);
    if (r < 0) {
        release(self);
        return r;
    }
    *ret = self;
    return 0;
}

metrics_http *metrics_http_free(metrics_http *self) {
    uint64_t one = 1;

    if (!self)
        return NULL;
    /* An eventfd that was never written to takes 8 bytes. */
    while (write(self->stop_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
    pthread_join(self->thread, NULL);
    release(self);
    return NULL;
}
