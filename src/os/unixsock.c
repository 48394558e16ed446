#include "os/unixsock.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/assert.h"

enum { BACKLOG = 16 };

static int name_of(const char *path, struct sockaddr_un *ret_name, struct haul_err *err)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	size_t bytes = strlen(path);
	if (bytes == 0 || bytes >= sizeof name.sun_path)
		return haul_err_set(err, -ENAMETOOLONG, "%s: want 1 to %zu characters", path,
				    sizeof name.sun_path - 1);
	memcpy(name.sun_path, path, bytes);
	*ret_name = name;
	return 0;
}

static int connect_to(const struct sockaddr_un *name)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)name, sizeof *name) < 0) {
		int rc = -errno;
		(void)close(fd);
		return rc;
	}
	return fd;
}

int unixsock_connect(const char *path, struct haul_err *err)
{
	struct sockaddr_un name;
	int rc = name_of(path, &name, err);
	if (rc < 0)
		return rc;
	rc = connect_to(&name);
	if (rc < 0)
		return haul_err_set(err, rc, "%s: %s", path,
				    rc == -ECONNREFUSED ? "nobody listens there (any more)"
							: haul_strerror(rc));
	return rc;
}

/* Only a socket that refuses connections has nobody behind it. */
static int remove_stale(const struct sockaddr_un *name)
{
	struct stat at;
	if (lstat(name->sun_path, &at) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(at.st_mode))
		return -EADDRINUSE;
	int fd = connect_to(name);
	if (fd >= 0) {
		(void)close(fd);
		return -EADDRINUSE;
	}
	if (fd != -ECONNREFUSED)
		return fd;
	return unlink(name->sun_path) < 0 ? -errno : 0;
}

/* Linux gives the name the mode the socket has: nobody else can slip in between. */
static int bind_private(int fd, const struct sockaddr_un *name)
{
	if (fchmod(fd, S_IRUSR | S_IWUSR) < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *)name, sizeof *name) < 0)
		return -errno;
	if (listen(fd, BACKLOG) < 0) {
		int rc = -errno;
		(void)unlink(name->sun_path);
		return rc;
	}
	return 0;
}

int unixsock_listen(const char *path, struct haul_err *err)
{
	struct sockaddr_un name;
	int rc = name_of(path, &name, err);
	if (rc < 0)
		return rc;
	rc = remove_stale(&name);
	if (rc < 0)
		return haul_err_set(err, rc, "%s: %s", path,
				    rc == -EADDRINUSE
					    ? "is in use: somebody listens there, or it is "
					      "no socket"
					    : haul_strerror(rc));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return haul_err_set(err, -errno, "%s: %s", path, haul_strerror(-errno));
	rc = bind_private(fd, &name);
	if (rc < 0) {
		(void)close(fd);
		return haul_err_set(err, rc, "%s: %s", path, haul_strerror(rc));
	}
	HAUL_ASSERT(fd >= 0);
	return fd;
}
