/* CTLS: the client's side of TLS over a non-blocking socket of the caller's, on OpenSSL 3.
 *
 * TLS 1.2 or later. The server's certificate must lead to a CA that is trusted and must name the
 * host that was asked for. Nothing blocks but reading the files of a context, nothing raises
 * SIGPIPE, nothing logs.
 *
 * Results are as in CSystem: negative errno is failure, outputs (ret_...) are set on success only.
 * -EPROTO means that TLS failed: the text beside it says what, why and what to do. A context may be
 * used by several threads, a stream by one at a time. */
#ifndef CTLS_H
#define CTLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#pragma clang assume_nonnull begin

typedef struct ctls_context ctls_context;
typedef struct ctls_stream ctls_stream;

/* Room for any text that is set here, its end included. */
#define CTLS_TEXT_MAX 512u

/* Paths of PEM files. */
typedef struct ctls_files {
    const char *_Nullable ca;          /* the CAs to trust; NULL: those of the system */
    const char *_Nullable certificate; /* our own and what leads from it to its CA; NULL: none */
    const char *_Nullable key;         /* its private key, not encrypted; NULL: in `certificate` */
} ctls_files;

/* What streams have in common. BLOCKS while it reads the files. `text`, of CTLS_TEXT_MAX bytes, is
 * set on -EPROTO, and is empty otherwise. */
int ctls_context_new(const ctls_files *files, ctls_context *_Nullable *_Nonnull ret, char *text);
/* Its streams may outlive it. NULL is fine. Returns NULL. */
ctls_context *_Nullable ctls_context_free(ctls_context *_Nullable context);

/* A connection over `fd`, which stays the caller's and must outlive it. `host` is the name or the
 * numeric address that the server's certificate must hold; a name is sent as SNI, too. */
int ctls_stream_new(ctls_context *context, int fd, const char *host,
                    ctls_stream *_Nullable *_Nonnull ret);
/* Says goodbye if the socket takes it at once. NULL is fine. Returns NULL. */
ctls_stream *_Nullable ctls_stream_free(ctls_stream *_Nullable stream);

/* Goes on with the handshake: 0 when it is done, -EAGAIN when the socket has to become what
 * ctls_stream_interest() says. */
int ctls_stream_handshake(ctls_stream *stream);
/* Sends up to n > 0 bytes: how many, all of which have left; or -EAGAIN, after which the next call
 * has to begin with the same bytes, wherever they lie by then, and may have more. */
ssize_t ctls_stream_send(ctls_stream *stream, const void *bytes, size_t n);
/* Reads up to n > 0 bytes: how many, 0 at the end of the stream, or -EAGAIN. Call it until it says
 * -EAGAIN or look at ctls_stream_has_input(): what is read ahead, the socket does not tell of. */
ssize_t ctls_stream_receive(ctls_stream *stream, void *ret_bytes, size_t n);
/* Whether something that was received already waits to be read. */
bool ctls_stream_has_input(const ctls_stream *stream);

#define CTLS_READABLE 0x0001u /* EPOLLIN */
#define CTLS_WRITABLE 0x0004u /* EPOLLOUT */

/* What to wait for on the socket; `has_output`: the caller has bytes that were not taken. Try
 * reading as well as writing after either: TLS may need one for the other. */
uint32_t ctls_stream_interest(const ctls_stream *stream, bool has_output);

/* Why the last call said -EPROTO: for people, one line. Valid until the next call. */
const char *ctls_stream_text(const ctls_stream *stream);
/* The protocol in use: "TLSv1.3". Static. */
const char *ctls_stream_version(const ctls_stream *stream);

#pragma clang assume_nonnull end

#endif
