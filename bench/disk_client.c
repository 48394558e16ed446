#include "disk_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "disk_work.h"

enum {
	KEY_BYTES = 13,
	HEAD_MAX = 64,
	ANSWER_MAX = DISK_GETS_MAX * (DISK_LOOKUP + HEAD_MAX) + HEAD_MAX,
	REQUEST_MAX = DISK_GETS_MAX * (KEY_BYTES + 1) + 16,
	STALL_MS = 10000,
	SETS_MAX = 256,
};

static int64_t clock_ns(void)
{
	return os_linux()->now_ns(os_linux());
}

static int connect_to(uint16_t port, int *ret_fd)
{
	const struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
		int error = -errno;
		close(fd);
		return error;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	*ret_fd = fd;
	return 0;
}

int disk_client_wait(uint16_t port, double seconds, struct haul_err *err)
{
	const struct timespec pause = { .tv_nsec = 10 * NS_PER_MS };
	int64_t until_ns = clock_ns() + (int64_t)(seconds * 1e9);
	while (clock_ns() < until_ns) {
		char answer[64];
		int fd = -1;
		if (connect_to(port, &fd) == 0) {
			ssize_t got = send(fd, "version\r\n", 9, MSG_NOSIGNAL);
			if (got == 9)
				got = recv(fd, answer, sizeof answer, 0);
			close(fd);
			if (got > 0)
				return 0;
		}
		nanosleep(&pause, NULL);
	}
	return haul_err_set(err, -ETIMEDOUT, "the server on port %u does not answer", port);
}

static int send_all(int fd, const void *data, size_t bytes)
{
	for (size_t sent = 0; sent < bytes;) {
		ssize_t done = send(fd, (const uint8_t *)data + sent, bytes - sent, MSG_NOSIGNAL);
		if (done < 0 && errno != EINTR)
			return -errno;
		sent += done > 0 ? (size_t)done : 0;
	}
	return 0;
}

/* ---- sets ---- */

static size_t set_make(uint8_t *at, const struct disk_sets *sets, uint32_t number)
{
	char key[DISK_KEY];
	disk_key(key, number);
	int head = snprintf((char *)at, HEAD_MAX, "set %s 0 0 %d\r\n", key, DISK_LOOKUP);
	memcpy(at + head, sets->value, DISK_LOOKUP);
	memcpy(at + head, key, KEY_BYTES);
	memcpy(at + head + DISK_LOOKUP, "\r\n", 2);
	return (size_t)head + DISK_LOOKUP + 2;
}

/* `count` lines. */
static int lines_read(int fd, uint32_t count, uint32_t *stored)
{
	static const char good[] = "STORED\r\n";
	char line[128];
	uint32_t length = 0;
	while (count > 0) {
		char chunk[4096];
		ssize_t got = recv(fd, chunk, sizeof chunk, 0);
		if (got <= 0)
			return got < 0 ? -errno : -ECONNRESET;
		for (ssize_t i = 0; i < got; i++) {
			if (length < sizeof line)
				line[length++] = chunk[i];
			if (chunk[i] != '\n')
				continue;
			*stored += length == sizeof good - 1 && memcmp(line, good, length) == 0;
			length = 0;
			count -= count > 0;
		}
	}
	return 0;
}

int disk_client_sets(const struct disk_sets *sets, uint32_t *ret_stored, struct haul_err *err)
{
	HAUL_ASSERT(sets->pipelined >= 1 && sets->pipelined <= SETS_MAX);
	const struct timespec pause = { .tv_nsec = sets->pause_ns };
	uint8_t *room = malloc((size_t)sets->pipelined * (DISK_LOOKUP + HEAD_MAX));
	int fd = -1, error = room != NULL ? connect_to(sets->port, &fd) : -ENOMEM;
	uint32_t stored = 0;
	if (error < 0) {
		free(room);
		return haul_err_set(err, error, "connect: %s", haul_strerror(error));
	}
	for (uint32_t first = 0; first < sets->count && error == 0;) {
		size_t bytes = 0;
		uint32_t made = 0;
		for (; made < sets->pipelined && first + made < sets->count; made++)
			bytes += set_make(room + bytes, sets, first + made);
		error = send_all(fd, room, bytes);
		if (error == 0)
			error = lines_read(fd, made, &stored);
		if (sets->pause_ns > 0)
			nanosleep(&pause, NULL);
		first += made;
	}
	close(fd);
	free(room);
	if (error < 0)
		return haul_err_set(err, error, "set: %s", haul_strerror(error));
	*ret_stored = stored;
	return 0;
}

/* ---- gets ---- */

struct connection {
	int fd;
	uint32_t keys;     /* of the request under way; 0 = none */
	uint32_t answered; /* of them */
	uint32_t bytes;    /* received */
	uint32_t at;       /* walked so far */
	uint8_t *answer;
};

static int request_send(struct disk_gets *gets, struct connection *connection, uint64_t left)
{
	char request[REQUEST_MAX];
	uint32_t count = left < gets->per_request ? (uint32_t)left : gets->per_request;
	int bytes = 3;
	memcpy(request, "get", 3);
	for (uint32_t i = 0; i < count; i++) {
		char key[DISK_KEY];
		disk_key(key, gets->numbers[gets->place++ % gets->number_count]);
		request[bytes] = ' ';
		memcpy(request + bytes + 1, key, KEY_BYTES);
		bytes += 1 + KEY_BYTES;
	}
	memcpy(request + bytes, "\r\n", 2);
	connection->keys = count;
	connection->answered = connection->bytes = connection->at = 0;
	gets->asked += count;
	return send_all(connection->fd, request, (size_t)bytes + 2);
}

static const char value_head[] = "VALUE ", value_tail[] = " 0 4096\r\n";
enum { VALUE_HEAD = sizeof value_head - 1 + KEY_BYTES + sizeof value_tail - 1 };

/* Walk on. 1: the answer is complete; 0: more is to come; -EPROTO. */
static int answer_walk(struct disk_gets *gets, struct connection *connection)
{
	for (;;) {
		const char *at = (const char *)connection->answer + connection->at;
		uint32_t left = connection->bytes - connection->at;
		const char *end = memchr(at, '\n', left);
		if (end == NULL)
			return left > HEAD_MAX ? -EPROTO : 0;
		if (memcmp(at, "END\r\n", 5) == 0)
			return left == 5 ? 1 : -EPROTO;
		/* All values have the same length, and their flags are 0. */
		const char *key = at + sizeof value_head - 1;
		uint32_t head = (uint32_t)(end - at) + 1;
		if (head != VALUE_HEAD || memcmp(at, value_head, sizeof value_head - 1) != 0 ||
		    memcmp(key + KEY_BYTES, value_tail, sizeof value_tail - 1) != 0)
			return -EPROTO;
		if (left < head + DISK_LOOKUP + 2)
			return 0;
		if (memcmp(at + head, key, KEY_BYTES) != 0)
			return -EPROTO;
		uint64_t number = strtoull(key + 1, NULL, 10);
		if (gets->there != NULL && number >= gets->number_count)
			return -EPROTO;
		if (gets->there != NULL)
			gets->there[number] = true;
		connection->answered++;
		connection->at += head + DISK_LOOKUP + 2;
	}
}

static int answer_read(struct disk_gets *gets, struct connection *connection)
{
	ssize_t got = recv(connection->fd, connection->answer + connection->bytes,
			   ANSWER_MAX - connection->bytes, MSG_DONTWAIT);
	if (got <= 0 && !(got < 0 && (errno == EAGAIN || errno == EINTR)))
		return got < 0 ? -errno : -ECONNRESET;
	connection->bytes += got > 0 ? (uint32_t)got : 0;
	/* The end is the shortest line; before it has come there is nothing to walk to. */
	int rc = answer_walk(gets, connection);
	if (rc == 1) {
		gets->answered += connection->answered;
		connection->keys = 0;
	}
	return rc;
}

static int gets_turn(struct disk_gets *gets, struct connection *connections, bool more)
{
	struct pollfd polled[DISK_CONNECTIONS_MAX];
	for (uint32_t i = 0; i < gets->connections; i++)
		polled[i] = (struct pollfd){ .fd = connections[i].keys > 0 ? connections[i].fd : -1,
					     .events = POLLIN };
	int ready = poll(polled, gets->connections, STALL_MS);
	if (ready <= 0)
		return ready == 0 ? -ETIMEDOUT : -errno;
	for (uint32_t i = 0; i < gets->connections; i++) {
		if (polled[i].revents == 0)
			continue;
		int rc = answer_read(gets, &connections[i]);
		uint64_t left = gets->seconds > 0 ? UINT64_MAX : gets->number_count - gets->asked;
		if (rc == 1 && more && left > 0)
			rc = request_send(gets, &connections[i], left);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int gets_run(struct disk_gets *gets, struct connection *connections)
{
	int64_t start_ns = clock_ns(), until_ns = start_ns + (int64_t)(gets->seconds * 1e9);
	bool more = true, under_way = true;
	int error = 0;
	for (uint32_t i = 0; i < gets->connections && error == 0; i++) {
		uint64_t left = gets->seconds > 0 ? UINT64_MAX : gets->number_count - gets->asked;
		if (left > 0)
			error = request_send(gets, &connections[i], left);
	}
	while (error == 0 && under_way) {
		if (gets->seconds > 0)
			more = clock_ns() < until_ns;
		error = gets_turn(gets, connections, more);
		under_way = false;
		for (uint32_t i = 0; i < gets->connections; i++)
			under_way = under_way || connections[i].keys > 0;
	}
	gets->took = (double)(clock_ns() - start_ns) * 1e-9;
	return error;
}

int disk_client_gets(struct disk_gets *gets, struct haul_err *err)
{
	HAUL_ASSERT(gets->per_request >= 1 && gets->per_request <= DISK_GETS_MAX);
	HAUL_ASSERT(gets->number_count >= 1);
	HAUL_ASSERT(gets->connections >= 1 && gets->connections <= DISK_CONNECTIONS_MAX);
	struct connection connections[DISK_CONNECTIONS_MAX];
	int error = 0;
	uint32_t made = 0;
	gets->asked = gets->answered = 0;
	for (; made < gets->connections && error == 0; made++) {
		connections[made] = (struct connection){ .fd = -1, .answer = malloc(ANSWER_MAX) };
		error = connections[made].answer != NULL
				? connect_to(gets->port, &connections[made].fd)
				: -ENOMEM;
	}
	if (error == 0)
		error = gets_run(gets, connections);
	for (uint32_t i = 0; i < made; i++) {
		if (connections[i].fd >= 0)
			close(connections[i].fd);
		free(connections[i].answer);
	}
	return error < 0 ? haul_err_set(err, error, "get: %s", haul_strerror(error)) : 0;
}
