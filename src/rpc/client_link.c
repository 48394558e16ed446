#include "rpc/client_link.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "rpc/store_server.h"

int link_target_read(struct link_target *target, const char *address, const char *token_file,
		     struct haul_err *err)
{
	*target = (struct link_target){ .token_bytes = 0 };
	const int rc = address_parse(&target->address, address, STORE_SERVER_PORT, false, err);
	if (rc < 0 || token_file == NULL)
		return rc;
	return address_token(token_file, target->token, &target->token_bytes, err);
}

void link_begin(struct link *link, const struct link_target *target, struct os *os)
{
	*link = (struct link){ .target = target, .os = os, .fd = -1 };
}

void link_close(struct link *link)
{
	if (link->fd >= 0)
		(void)close(link->fd);
	link->fd = -1;
	link->state = LINK_DOWN;
}

static int fail(struct link *link, int rc, struct haul_err *err)
{
	const char *where = link->target->address.text;

	link_close(link);
	if (rc == -EPROTO)
		return haul_err_set(err, rc, "%s: who answers there is not a server of a store",
				    where);
	if (rc == -ETIMEDOUT)
		return haul_err_set(err, rc, "%s: nothing came in time; is it a server of a store?",
				    where);
	if (rc == -ECONNREFUSED || rc == -ENOENT)
		return haul_err_set(err, -ECONNREFUSED,
				    "%s: nobody listens there; haul store serve starts a server",
				    where);
	if (rc == HAUL_EVERSION)
		return haul_err_set(err, rc, "%s: speaks another version of the protocol", where);
	return haul_err_set(err, rc, "%s: %s", where, haul_strerror(rc));
}

/* It is connected: say who one is. So short a frame fits into any empty socket. */
static int greet(struct link *link, struct haul_err *err)
{
	_Alignas(8) uint8_t hello[WIRE_HELLO_BYTES];
	int error = 0;
	socklen_t bytes = sizeof error;

	if (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &bytes) < 0)
		error = errno;
	if (error != 0)
		return fail(link, -error, err);
	const uint32_t length =
		wire_put_hello(hello, link->target->token, link->target->token_bytes);
	const ssize_t put = send(link->fd, hello, length, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (put < 0 && errno == EAGAIN) /* connecting still */
		return 0;
	if (put < 0)
		return fail(link, errno == EPIPE ? -ECONNRESET : -errno, err);
	if ((uint32_t)put != length)
		return fail(link, -EPROTO, err);
	link->state = LINK_GREETING;
	link->events = POLLIN;
	link->got = 0;
	return 0;
}

int link_start(struct link *link, int64_t patience_ns, struct haul_err *err)
{
	HAUL_ASSERT(link->state == LINK_DOWN && link->fd < 0);
	link->until_ns = link->os->now_ns(link->os) + patience_ns;
	const int rc = address_connect(&link->target->address, &link->fd);
	if (rc < 0 && rc != -EINPROGRESS)
		return fail(link, rc, err);
	link->state = LINK_CONNECTING;
	link->events = POLLOUT;
	return rc == 0 ? greet(link, err) : 0;
}

/* What a server said instead of a welcome. */
static int refused(struct link *link, struct haul_err *err)
{
	struct haul_err told = { 0 };
	struct frame_head head;
	int rc = wire_check(link->frame, link->got, &head);

	if (rc == 0 && head.kind != WIRE_ERROR)
		rc = -EPROTO;
	if (rc == 0)
		rc = wire_get_error(link->frame, &told);
	if (rc < 0)
		return fail(link, rc == HAUL_EVERSION ? rc : -EPROTO, err);
	rc = told.code;
	const char *where = link->target->address.text;
	link_close(link);
	return haul_err_set(err, rc, "%s: %s", where, told.text);
}

/* Whether a whole first frame is there: its bytes, 0, or negative. */
static int first_frame(const struct link *link)
{
	struct frame_head head;

	if (link->got < FRAME_HEAD)
		return 0;
	const int rc = frame_check_head(link->frame, &head);
	if (rc < 0)
		return rc == HAUL_EVERSION ? rc : -EPROTO;
	if (head.kind != WIRE_WELCOME && head.kind != WIRE_ERROR)
		return -EPROTO;
	if (head.bytes != WIRE_WELCOME_BYTES && head.bytes != WIRE_ERROR_BYTES)
		return -EPROTO;
	return link->got >= head.bytes ? (int)head.bytes : 0;
}

/* 1: the first frame is there; 0: not yet. No more is read than belongs to it: a welcome is the
 * shorter of the two. */
static int read_first(struct link *link)
{
	for (;;) {
		const int bytes = first_frame(link);
		if (bytes != 0)
			return bytes < 0 ? bytes : 1;
		const bool begun = link->got >= WIRE_WELCOME_BYTES;
		const uint32_t want = begun ? WIRE_ERROR_BYTES : WIRE_WELCOME_BYTES;
		HAUL_ASSERT(link->got < want);
		const ssize_t got =
			recv(link->fd, link->frame + link->got, want - link->got, MSG_DONTWAIT);
		if (got < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		if (got == 0) /* others hang up at what they cannot read */
			return link->got > 0 ? -EPROTO : -ECONNRESET;
		link->got += (uint32_t)got;
	}
}

static int welcome(struct link *link, struct haul_err *err)
{
	struct frame_head head;

	int rc = read_first(link);
	if (rc == 0)
		return 0;
	if (rc > 0)
		rc = wire_check(link->frame, link->got, &head);
	if (rc == 0 && head.kind == WIRE_ERROR)
		return refused(link, err);
	if (rc == 0)
		rc = wire_get_welcome(link->frame, &link->welcome);
	if (rc < 0 && rc > HAUL_EBASE)
		return fail(link, rc, err);
	if (rc < 0)
		return fail(link, rc == HAUL_EVERSION ? rc : -EPROTO, err);
	link->state = LINK_UP;
	return 1;
}

int link_step(struct link *link, struct haul_err *err)
{
	struct pollfd poll_fd = { .fd = link->fd, .events = link->events };
	int rc = 0;

	HAUL_ASSERT(link->state == LINK_CONNECTING || link->state == LINK_GREETING);
	if (poll(&poll_fd, 1, 0) > 0) {
		if (link->state == LINK_CONNECTING)
			rc = greet(link, err);
		else
			rc = welcome(link, err);
	}
	if (rc == 0 && link->os->now_ns(link->os) >= link->until_ns)
		return fail(link, -ETIMEDOUT, err);
	return rc;
}

int link_dial(struct link *link, int64_t patience_ns, struct haul_err *err)
{
	int rc = link_start(link, patience_ns, err);

	while (rc == 0) {
		struct pollfd poll_fd = { .fd = link->fd, .events = link->events };
		const int64_t left_ns = link->until_ns - link->os->now_ns(link->os);
		(void)poll(&poll_fd, 1, left_ns > 0 ? (int)(left_ns / NS_PER_MS) + 1 : 0);
		rc = link_step(link, err);
	}
	return rc < 0 ? rc : 0;
}
