/* A small HTTP/1.1 server for a node's metrics and health pages, on libmicrohttpd.
 *
 * One thread of its own, every signal blocked in it; nothing here touches the threads that serve
 * controllers. What a peer controls is limited: connections at once (further ones wait in the
 * backlog), bytes of a request, time from accept to the end of the answer. Every answer closes its
 * connection, so that no peer can hold one by dripping bytes or by asking for ever.
 *
 * Errors are negative errno values; outputs (ret_...) are set on success only. It logs nothing. */
#ifndef METRICS_HTTP_H
#define METRICS_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

typedef struct metrics_http metrics_http;
typedef struct metrics_http_reply metrics_http_reply;

typedef struct metrics_http_config {
    const char *_Nullable address; /* numeric IPv4 or IPv6, without brackets. Copied. */
    uint16_t port;              /* 0 = any free one, see metrics_http_port() */
    uint32_t connections_max;   /* at once, 1 ... 1,024 */
    uint32_t request_bytes_max; /* of a connection: request, headers and working memory, >= 2,048 */
    uint32_t deadline_ms;       /* from accept to the end of the answer, >= 10 */
} metrics_http_config;

/* 32 connections, 16 KiB, 10 s. Leaves the address NULL and the port 0: the caller's to set. */
void metrics_http_config_init(metrics_http_config *config);

/* Answers GET (and, without the body, HEAD) of `path`, without its query: calls
 * metrics_http_reply_set() once, or not at all for a 404. Called on the server's thread, one call
 * at a time; slowness delays other readers of the pages only. */
typedef void (*metrics_http_answer)(void *_Nullable context, const char *path,
                                    metrics_http_reply *reply);

/* `status` is an HTTP status, `content_type` and the body are copied. 0, or -ENOMEM. */
int metrics_http_reply_set(metrics_http_reply *reply, unsigned int status, const char *content_type,
                           const void *body, size_t n_body);

/* Binds and begins to serve. `context` must outlive the server. -EINVAL: the address or a limit;
 * -EADDRINUSE and the like from bind(). */
int metrics_http_new(const metrics_http_config *config, metrics_http_answer answer,
                     void *_Nullable context, metrics_http *_Nullable *_Nonnull ret);
/* Stops the thread, waits for an answer in the making, closes everything. NULL is fine. Returns
 * NULL. */
metrics_http *_Nullable metrics_http_free(metrics_http *_Nullable self);
/* The port that was bound. */
uint16_t metrics_http_port(const metrics_http *self);

#pragma clang assume_nonnull end

#endif
