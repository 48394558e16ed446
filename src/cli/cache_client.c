#include "cli/cache_client.h"

#include <errno.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "os/unixsock.h"

enum { HOST_BYTES = 256 };

static int connect_tcp(const char *target, struct haul_err *err)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV };
	struct addrinfo *list = NULL;
	char host[HOST_BYTES];
	const char *colon = strrchr(target, ':');
	size_t bytes = (size_t)(colon - target);
	const char *start = target;
	if (bytes >= 2 && target[0] == '[' && colon[-1] == ']') { /* [::1]:11211 */
		start++;
		bytes -= 2;
	}
	if (bytes >= sizeof host)
		return haul_err_set(err, -ENAMETOOLONG, "%s: the host's name is too long", target);
	memcpy(host, start, bytes);
	host[bytes] = '\0';
	int rc = getaddrinfo(bytes > 0 ? host : "localhost", colon + 1, &hints, &list);
	if (rc != 0)
		return haul_err_set(err, -EADDRNOTAVAIL, "%s: wanted is HOST:PORT: %s", target,
				    gai_strerror(rc));
	int fd = -1;
	rc = -EADDRNOTAVAIL;
	for (const struct addrinfo *at = list; at != NULL && fd < 0; at = at->ai_next) {
		fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, at->ai_addr, at->ai_addrlen) == 0)
			break;
		rc = -errno;
		if (fd >= 0)
			(void)close(fd);
		fd = -1;
	}
	freeaddrinfo(list);
	if (fd < 0)
		return haul_err_set(err, rc, "%s: %s: is 'haul cache serve' running there?", target,
				    haul_strerror(rc));
	return fd;
}

int client_open(struct client *client, const char *target, struct haul_err *err)
{
	const struct timeval patience = { .tv_sec = CLIENT_SECONDS };
	struct stat st;
	const bool is_unix = stat(target, &st) == 0 && S_ISSOCK(st.st_mode);
	int fd = is_unix ? unixsock_connect(target, err) : connect_tcp(target, err);
	if (fd < 0)
		return fd;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	client->fd = fd;
	client->target = target;
	client->err = err;
	client->used = client->filled = 0;
	return 0;
}

void client_close(struct client *client)
{
	(void)close(client->fd);
	client->fd = -1;
}

static int client_failed(struct client *client, int code)
{
	if (code == -EAGAIN)
		return haul_err_set(client->err, -ETIMEDOUT, "%s: no answer within %d seconds",
				    client->target, CLIENT_SECONDS);
	return haul_err_set(client->err, code, "%s: %s", client->target,
			    code == -ECONNRESET ? "the server hung up" : haul_strerror(code));
}

int client_send(struct client *client, const void *data, size_t bytes)
{
	const uint8_t *at = data;
	while (bytes > 0) {
		ssize_t n = send(client->fd, at, bytes, MSG_NOSIGNAL);
		if (n < 0)
			return client_failed(client, errno == EPIPE ? -ECONNRESET : -errno);
		at += n;
		bytes -= (size_t)n;
	}
	return 0;
}

int client_printf(struct client *client, const char *format, ...)
{
	char text[CLIENT_LINE];
	va_list arguments;
	va_start(arguments, format);
	int bytes = vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	if (bytes < 0 || (size_t)bytes >= sizeof text)
		return haul_err_set(client->err, HAUL_ELIMIT, "%s: the request is too long",
				    client->target);
	return client_send(client, text, (size_t)bytes);
}

static int client_fill(struct client *client)
{
	ssize_t n = recv(client->fd, client->buffer, sizeof client->buffer, 0);
	if (n <= 0)
		return client_failed(client, n == 0 ? -ECONNRESET : -errno);
	client->used = 0;
	client->filled = (size_t)n;
	return 0;
}

const char *client_line(struct client *client)
{
	size_t bytes = 0;
	for (;;) {
		if (client->used == client->filled && client_fill(client) < 0)
			return NULL;
		char byte = (char)client->buffer[client->used++];
		if (byte == '\n')
			break;
		if (bytes + 1 == sizeof client->line) {
			(void)haul_err_set(client->err, -EPROTO, "%s: no cache answers there",
					   client->target);
			return NULL;
		}
		client->line[bytes++] = byte;
	}
	if (bytes > 0 && client->line[bytes - 1] == '\r')
		bytes--;
	client->line[bytes] = '\0';
	return client->line;
}

int64_t client_data(struct client *client, void *data, size_t bytes)
{
	if (client->used == client->filled) {
		int rc = client_fill(client);
		if (rc < 0)
			return rc;
	}
	size_t there = client->filled - client->used;
	if (there > bytes)
		there = bytes;
	memcpy(data, client->buffer + client->used, there);
	client->used += there;
	return (int64_t)there;
}

bool client_key_fits(const char *key)
{
	size_t bytes = 0;
	for (; key[bytes] != '\0'; bytes++)
		if ((unsigned char)key[bytes] <= ' ' || key[bytes] == '\x7f')
			return false;
	return bytes > 0 && bytes <= CLIENT_KEY_MAX;
}

int client_refused(struct client *client, const char *line)
{
	if (line == NULL)
		return client->err->code;
	return haul_err_set(client->err, -EPROTO, "%s: the server says '%s'", client->target,
			    line[0] != '\0' ? line : "nothing");
}
