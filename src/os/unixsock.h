/* os/unixsock.h — stream sockets with a name in the file system.
 *
 * Errors     -errno with text.
 * Threads    any.
 * Blocking   unixsock_connect and what is done with its descriptor; unixsock_listen not. */
#pragma once

#include <haul/err.h>

/* Listen at path, for this user only (mode 0600). A file left behind by somebody who is gone is
 * replaced; -EADDRINUSE when somebody listens there, or when it is not a socket. Returns a
 * non-blocking descriptor; the caller unlinks path when done. */
int unixsock_listen(const char *path, struct haul_err *err);
/* Returns a descriptor. */
int unixsock_connect(const char *path, struct haul_err *err);
