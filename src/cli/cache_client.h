/* cli/cache_client.h — one connection to a running cache, by the memcached text protocol.
 *
 * Model      One request, then its reply, as lines and blocks of data.
 * Ownership  client_open makes the connection, client_close ends it. Lines are good until the next
 *            call.
 * Threads    the main thread.
 * Errors     -errno with text that names the address; -ECONNRESET when the server hangs up,
 *            -EPROTO for a reply that is none.
 * Blocking   all, up to CLIENT_SECONDS without a byte.
 * Limits     CLIENT_LINE bytes a line. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <haul/err.h>

enum { CLIENT_LINE = 4096, CLIENT_BUFFER = 65536, CLIENT_SECONDS = 30, CLIENT_KEY_MAX = 250 };

struct client {
	int fd;
	const char *target;
	struct haul_err *err; /* filled by what fails */
	size_t used, filled;  /* of buffer */
	char line[CLIENT_LINE];
	uint8_t buffer[CLIENT_BUFFER];
};

int client_open(struct client *client, const char *target, struct haul_err *err);
void client_close(struct client *client);
/* Send all of it. */
int client_send(struct client *client, const void *data, size_t bytes);
int client_printf(struct client *client, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* The next line, without its end. NULL after an error. */
const char *client_line(struct client *client);
/* Up to `bytes` of a block; how many came, or an error. */
int64_t client_data(struct client *client, void *data, size_t bytes);
/* Whether the protocol can carry the key: no blanks or control characters, CLIENT_KEY_MAX bytes. */
bool client_key_fits(const char *key);
/* What the server said instead of what was wanted, as an error. */
int client_refused(struct client *client, const char *line);
