#include "rpc/store_address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "os/unixsock.h"

enum { BACKLOG = 1024, HOST_MAX = 128 };

/* ---- text ---- */

static int parse_local(struct address *address, const char *path, struct haul_err *err)
{
	struct sockaddr_un *name = &address->name.local;
	const size_t bytes = strlen(path);

	if (bytes == 0 || bytes >= sizeof name->sun_path)
		return haul_err_set(err, -ENAMETOOLONG,
				    "unix:%s: the path of a socket has 1 to %zu characters", path,
				    sizeof name->sun_path - 1);
	name->sun_family = AF_UNIX;
	memcpy(name->sun_path, path, bytes + 1);
	address->bytes = sizeof *name;
	return 0;
}

/* "HOST:PORT", "[V6]:PORT", "HOST", "[V6]"; false: neither. */
static bool split(const char *text, char host[HOST_MAX], uint16_t *port)
{
	const bool v6 = text[0] == '[';
	const char *from = v6 ? text + 1 : text;
	const char *end = v6 ? strchr(from, ']') : strchr(from, ':');
	const char *colon = v6 && end != NULL ? end + 1 : end;
	uint32_t number = 0;

	if (v6 && end == NULL)
		return false;
	const size_t bytes = end != NULL ? (size_t)(end - from) : strlen(from);
	if (bytes >= HOST_MAX)
		return false;
	memcpy(host, from, bytes);
	host[bytes] = '\0';
	if (colon == NULL || *colon == '\0')
		return bytes > 0;
	if (*colon != ':' || colon[1] == '\0')
		return false;
	for (const char *at = colon + 1; *at != '\0'; at++) {
		if (*at < '0' || *at > '9')
			return false;
		number = number * 10 + (uint32_t)(*at - '0');
		if (number > UINT16_MAX)
			return false;
	}
	*port = (uint16_t)number;
	return true;
}

static int look_up(struct address *address, const char *host, bool listen)
{
	const struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM,
		.ai_flags = listen ? AI_PASSIVE : 0,
	};
	struct addrinfo *found = NULL;

	if (getaddrinfo(host, NULL, &hints, &found) != 0 || found == NULL)
		return -EADDRNOTAVAIL;
	/* "localhost" is both; a server listens on 127.0.0.1 unless told otherwise. */
	const struct addrinfo *best = found;
	while (best != NULL && best->ai_family != AF_INET)
		best = best->ai_next;
	best = best != NULL ? best : found;
	HAUL_ASSERT(best->ai_addrlen <= sizeof address->name);
	memcpy(&address->name, best->ai_addr, best->ai_addrlen);
	address->bytes = best->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

static void describe(struct address *address)
{
	const union address_name *name = &address->name;
	char host[INET6_ADDRSTRLEN] = "?";

	if (name->any.sa_family == AF_UNIX) {
		(void)snprintf(address->text, sizeof address->text, "unix:%s",
			       name->local.sun_path);
	} else if (name->any.sa_family == AF_INET6) {
		(void)inet_ntop(AF_INET6, &name->v6.sin6_addr, host, sizeof host);
		(void)snprintf(address->text, sizeof address->text, "[%s]:%u", host,
			       ntohs(name->v6.sin6_port));
	} else {
		(void)inet_ntop(AF_INET, &name->v4.sin_addr, host, sizeof host);
		(void)snprintf(address->text, sizeof address->text, "%s:%u", host,
			       ntohs(name->v4.sin_port));
	}
}

int address_parse(struct address *ret_address, const char *text, uint16_t port, bool listen,
		  struct haul_err *err)
{
	struct address address = { .bytes = 0 };
	char host[HOST_MAX];
	int rc;

	if (strncmp(text, "unix:", 5) == 0) {
		rc = parse_local(&address, text + 5, err);
		if (rc < 0)
			return rc;
		describe(&address);
		*ret_address = address;
		return 0;
	}
	if (!split(text, host, &port))
		return haul_err_set(err, -EINVAL,
				    "\"%s\" is not an address: write unix:PATH, HOST:PORT, "
				    "[V6]:PORT or HOST",
				    text);
	const bool any = listen && (host[0] == '\0' || strcmp(host, "*") == 0);
	rc = look_up(&address, any ? "0.0.0.0" : host, listen);
	if (rc < 0)
		return haul_err_set(err, rc, "%s: no host of this name is known", host);
	if (address.name.any.sa_family == AF_INET6)
		address.name.v6.sin6_port = htons(port);
	else
		address.name.v4.sin_port = htons(port);
	describe(&address);
	*ret_address = address;
	return 0;
}

bool address_is_local(const struct address *address)
{
	const union address_name *name = &address->name;

	if (name->any.sa_family == AF_UNIX)
		return true;
	if (name->any.sa_family == AF_INET)
		return ntohl(name->v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	return IN6_IS_ADDR_LOOPBACK(&name->v6.sin6_addr);
}

/* ---- sockets ---- */

static int listen_tcp(struct address *address)
{
	const int one = 1;
	socklen_t bytes = sizeof address->name;
	int fd = socket(address->name.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, &address->name.any, address->bytes) < 0 || listen(fd, BACKLOG) < 0 ||
	    getsockname(fd, &address->name.any, &bytes) < 0) {
		const int rc = -errno;
		(void)close(fd);
		return rc;
	}
	describe(address);
	return fd;
}

int address_listen(struct address *address, struct haul_err *err)
{
	if (address->name.any.sa_family == AF_UNIX) {
		const int local = unixsock_listen(address->name.local.sun_path, err);
		if (local >= 0)
			(void)listen(local, BACKLOG); /* longer than the usual queue */
		return local;
	}
	const int fd = listen_tcp(address);
	if (fd == -EADDRINUSE)
		return haul_err_set(err, fd,
				    "%s is in use, by another server perhaps; choose another "
				    "address",
				    address->text);
	if (fd < 0)
		return haul_err_set(err, fd, "cannot listen on %s: %s", address->text,
				    haul_strerror(fd));
	return fd;
}

void address_unlisten(const struct address *address, int fd)
{
	(void)close(fd);
	if (address->name.any.sa_family == AF_UNIX)
		(void)unlink(address->name.local.sun_path);
}

int address_connect(const struct address *address, int *ret_fd)
{
	const int one = 1, patience_ms = 10000;
	const bool tcp = address->name.any.sa_family != AF_UNIX;
	int fd = socket(address->name.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc = 0;

	if (fd < 0)
		return -errno;
	if (tcp) {
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
		(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience_ms,
				 sizeof patience_ms);
	}
	if (connect(fd, &address->name.any, address->bytes) < 0)
		rc = -errno;
	if (rc < 0 && rc != -EINPROGRESS) {
		(void)close(fd);
		return rc;
	}
	*ret_fd = fd;
	return rc;
}

/* ---- token ---- */

int address_token(const char *path, uint8_t *token, uint32_t *ret_bytes, struct haul_err *err)
{
	uint8_t data[ADDRESS_TOKEN_MAX + 2];
	const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int rc = 0;

	if (fd < 0)
		return haul_err_set(err, -errno, "token file %s: %s", path, haul_strerror(-errno));
	const ssize_t got = read(fd, data, sizeof data);
	if (got < 0)
		rc = -errno;
	(void)close(fd);
	if (rc < 0)
		return haul_err_set(err, rc, "token file %s: %s", path, haul_strerror(rc));
	uint32_t bytes = 0;
	while (bytes < (size_t)got && data[bytes] != '\n' && data[bytes] != '\r')
		bytes++;
	if (bytes == 0 || bytes > ADDRESS_TOKEN_MAX)
		return haul_err_set(err, -EINVAL,
				    "token file %s: its first line has to have 1 to %d characters",
				    path, ADDRESS_TOKEN_MAX);
	memcpy(token, data, bytes);
	*ret_bytes = bytes;
	return 0;
}
