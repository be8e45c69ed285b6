// The C half of the gRPC transport: what a thread needs to own many HTTP/2 connections, and nothing
// that decides anything. Four parts, each with a header of its own:
//
//   poller.h      epoll and the eventfd other threads wake it by
//   socket.h      addresses, listening, connecting, accepting
//   link.h        the bytes below a session; the place where encryption goes
//   connection.h  one nghttp2 session with its streams; events out, commands in
//
// No function here takes a lock, logs or keeps a global. Except where noted, an object belongs to
// one thread. Results: 0 or a positive, documented condition; -errno when it failed. ret_ outputs
// are written only on success.
#pragma once

#include "chttp2/chain.h"
#include "chttp2/connection.h"
#include "chttp2/link.h"
#include "chttp2/poller.h"
#include "chttp2/socket.h"
