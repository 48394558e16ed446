/* rpc/store_address.h — where a store is served: "unix:PATH", "HOST:PORT", "[V6]:PORT", "HOST".
 *
 * Model      Text becomes a struct address; from there on it does not matter which kind it is.
 * Errors     negative, with text that says what an address looks like, or what to do about it.
 * Blocking   names of hosts are looked up (by the resolver of the system); nothing else waits.
 * Threads    any. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <haul/err.h>

enum { ADDRESS_TEXT = 160, ADDRESS_TOKEN_MAX = 256 };

union address_name {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_un local;
};
struct address {
	union address_name name;
	socklen_t bytes;
	char text[ADDRESS_TEXT]; /* for people */
};

/* port: unless the text has one. listen: "*" is any, and an empty HOST too. */
int address_parse(struct address *ret_address, const char *text, uint16_t port, bool listen,
		  struct haul_err *err);
/* Only who is on this machine can get there. */
bool address_is_local(const struct address *address);
/* A socket that does not block. A Unix socket that nobody listens on any more is replaced. */
int address_listen(struct address *address, struct haul_err *err);
/* Remove the file of a Unix socket. */
void address_unlisten(const struct address *address, int fd);
/* A connection on its way: 0 or -EINPROGRESS (it is writable when it is there, SO_ERROR tells). */
int address_connect(const struct address *address, int *ret_fd);
/* The first line of a file, without its end. */
int address_token(const char *path, uint8_t *token, uint32_t *ret_bytes, struct haul_err *err);
