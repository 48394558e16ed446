/* rpc/server_listen.c — addresses as text, and sockets that listen on them. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/assert.h"
#include "rpc/mc.h"
#include "rpc/server.h"

enum { BACKLOG = 1024 };

/* Files beside the connections: of each worker its ring, epoll and what wakes it; the cache. */
enum { FDS_BESIDE = 4 * SERVER_WORKERS_MAX + 64 };

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_un local;
};

/* "192.0.2.1:11211", "[2001:db8::1]:11211", "*:11211"; 0 = not one. */
static socklen_t parse(const char *text, union address *address)
{
	bool v6 = text[0] == '[';
	const char *host = v6 ? text + 1 : text;
	const char *end = strchr(host, v6 ? ']' : ':');
	const char *colon = end && v6 ? end + 1 : end;
	char copy[INET6_ADDRSTRLEN];
	uint64_t port;
	if (!end || *colon != ':' || (size_t)(end - host) >= sizeof copy)
		return 0;
	struct mc_text digits = { colon + 1, (uint32_t)strlen(colon + 1) };
	if (!mc_number(digits, &port) || port > UINT16_MAX)
		return 0;
	memcpy(copy, host, (size_t)(end - host));
	copy[end - host] = '\0';
	memset(address, 0, sizeof *address);
	if (v6) {
		address->v6.sin6_family = AF_INET6;
		address->v6.sin6_port = htons((uint16_t)port);
		return inet_pton(AF_INET6, copy, &address->v6.sin6_addr) == 1
			       ? (socklen_t)sizeof address->v6
			       : 0;
	}
	address->v4.sin_family = AF_INET;
	address->v4.sin_port = htons((uint16_t)port);
	if (!strcmp(copy, "*"))
		return sizeof address->v4;
	return inet_pton(AF_INET, copy, &address->v4.sin_addr) == 1 ? (socklen_t)sizeof address->v4
								    : 0;
}

static void name_it(struct server *server, int fd)
{
	char *out = server->addresses[server->listener_count];
	char host[INET6_ADDRSTRLEN];
	union address address = { 0 };
	socklen_t bytes = sizeof address;
	if (getsockname(fd, &address.any, &bytes) < 0)
		return;
	if (address.any.sa_family == AF_INET6) {
		(void)inet_ntop(AF_INET6, &address.v6.sin6_addr, host, sizeof host);
		(void)snprintf(out, SERVER_ADDRESS, "[%s]:%u", host, ntohs(address.v6.sin6_port));
	} else if (address.any.sa_family == AF_INET) {
		(void)inet_ntop(AF_INET, &address.v4.sin_addr, host, sizeof host);
		(void)snprintf(out, SERVER_ADDRESS, "%s:%u", host, ntohs(address.v4.sin_port));
	} else {
		(void)snprintf(out, SERVER_ADDRESS, "unix:%.108s", address.local.sun_path);
	}
}

static int listen_on(struct server *server, const union address *address, socklen_t bytes)
{
	int one = 1;
	int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, &address->any, bytes) < 0 || listen(fd, BACKLOG) < 0) {
		int rc = -errno;
		(void)close(fd);
		return rc;
	}
	name_it(server, fd);
	server->listeners[server->listener_count++] = fd;
	return 0;
}

static int cannot(const char *text, int rc, struct haul_err *err)
{
	const char *fix = "";
	if (rc == -EADDRNOTAVAIL)
		fix = ": no interface here has it; *:PORT stands for all there are";
	else if (rc == -ENOENT || rc == -ENOTDIR)
		fix = ": there is no such folder";
	else if (rc == -EACCES)
		fix = ": needs the right to use that port (from 1024 on all may), or to write to "
		      "that folder";
	return haul_err_set(err, rc, "cannot listen on %s: %s%s", text, haul_strerror(rc), fix);
}

static int listen_tcp(struct server *server, const char *text, struct haul_err *err)
{
	union address address;
	socklen_t bytes = parse(text, &address);
	if (bytes == 0)
		return haul_err_set(err, -EINVAL,
				    "\"%s\" is not an address; write 127.0.0.1:11211, "
				    "[::1]:11211 or *:11211",
				    text);
	int rc = listen_on(server, &address, bytes);
	if (rc == -EADDRINUSE)
		return haul_err_set(err, rc,
				    "%s is in use, by another memcached perhaps; choose another "
				    "with --listen",
				    text);
	return rc < 0 ? cannot(text, rc, err) : 0;
}

/* A socket that nobody listens on any more is removed; anything else is not. */
static void remove_stale(const union address *address, socklen_t bytes)
{
	struct stat status;
	if (lstat(address->local.sun_path, &status) < 0 || !S_ISSOCK(status.st_mode))
		return;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (connect(fd, &address->any, bytes) < 0 && errno == ECONNREFUSED)
		(void)unlink(address->local.sun_path);
	(void)close(fd);
}

static int listen_unix(struct server *server, const char *path, struct haul_err *err)
{
	union address address;
	memset(&address, 0, sizeof address);
	address.local.sun_family = AF_UNIX;
	if (strlen(path) >= sizeof address.local.sun_path)
		return haul_err_set(err, HAUL_ELIMIT, "%s: a socket's path has at most %zu bytes",
				    path, sizeof address.local.sun_path - 1);
	memcpy(address.local.sun_path, path, strlen(path));
	remove_stale(&address, sizeof address.local);
	int rc = listen_on(server, &address, sizeof address.local);
	if (rc == -EADDRINUSE)
		return haul_err_set(err, rc,
				    "%s is there already: a server uses it, or it is no "
				    "socket",
				    path);
	return rc < 0 ? cannot(path, rc, err) : 0;
}

/* A descriptor a connection. */
static int raise_files(const struct server *server, struct haul_err *err)
{
	struct rlimit limit;
	rlim_t need = server->options.connections + FDS_BESIDE;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= need)
		return 0;
	if (limit.rlim_max < need)
		return haul_err_set(err, -EMFILE,
				    "%u connections need %llu open files, and %llu are allowed; "
				    "lower --connections or raise ulimit -n",
				    server->options.connections, (unsigned long long)need,
				    (unsigned long long)limit.rlim_max);
	limit.rlim_cur = need;
	return setrlimit(RLIMIT_NOFILE, &limit) < 0 ? -errno : 0;
}

int server_listen(struct server *server, struct haul_err *err)
{
	int rc = raise_files(server, err);
	for (uint32_t i = 0; rc == 0 && i < server->options.listen_count; i++)
		rc = listen_tcp(server, server->options.listen[i], err);
	if (rc == 0 && server->options.unix_path)
		rc = listen_unix(server, server->options.unix_path, err);
	if (rc < 0)
		server_unlisten(server, -1);
	return rc;
}

void server_unlisten(struct server *server, int epoll_fd)
{
	for (uint32_t i = 0; i < server->listener_count; i++) {
		if (server->listeners[i] < 0)
			continue;
		if (epoll_fd >= 0)
			(void)epoll_ctl(epoll_fd, EPOLL_CTL_DEL, server->listeners[i], NULL);
		(void)close(server->listeners[i]);
		server->listeners[i] = -1;
		if (!strncmp(server->addresses[i], "unix:", 5))
			(void)unlink(server->addresses[i] + 5);
	}
}
