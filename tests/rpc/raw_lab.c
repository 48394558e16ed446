#include "raw_lab.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "store/changes_state.h"

int raw_connect(struct serve_lab *lab)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(name.sun_path, lab->local + 5, strlen(lab->local) - 5);
	assert_int_equal(connect(fd, (const struct sockaddr *)&name, sizeof name), 0);
	return fd;
}

void raw_send(int fd, const void *data, size_t bytes)
{
	assert_int_equal(send(fd, data, bytes, MSG_NOSIGNAL), (ssize_t)bytes);
}

uint32_t raw_read(int fd, uint8_t *data, uint32_t room)
{
	struct frame_head head;
	uint32_t at = 0, bytes = FRAME_HEAD;

	while (at < bytes) {
		const ssize_t got = recv(fd, data + at, bytes - at, 0);
		if (got <= 0) {
			assert_int_equal(at, 0);
			return 0;
		}
		at += (uint32_t)got;
		if (at == FRAME_HEAD) {
			assert_int_equal(frame_check_head(data, &head), 0);
			bytes = head.bytes;
			assert_true(bytes <= room);
		}
	}
	assert_int_equal(wire_check(data, bytes, &head), 0);
	return bytes;
}

void raw_hello(int fd, const char *token)
{
	_Alignas(8) uint8_t data[WIRE_HELLO_BYTES];

	raw_send(fd, data, wire_put_hello(data, (const uint8_t *)token, (uint32_t)strlen(token)));
}

void raw_greet(int fd)
{
	_Alignas(8) uint8_t data[WIRE_ERROR_BYTES];
	struct wire_welcome welcome;

	raw_hello(fd, "");
	assert_int_equal(raw_read(fd, data, sizeof data), WIRE_WELCOME_BYTES);
	assert_int_equal(wire_get_welcome(data, &welcome), 0);
	assert_int_equal(welcome.credits, WIRE_CREDITS);
}

int raw_error(int fd)
{
	_Alignas(8) uint8_t data[WIRE_ERROR_BYTES];
	struct haul_err err = { 0 };

	assert_int_equal(raw_read(fd, data, sizeof data), WIRE_ERROR_BYTES);
	assert_int_equal(wire_get_error(data, &err), 0);
	assert_true(strlen(err.text) > 10);
	assert_int_equal(raw_read(fd, data, sizeof data), 0);
	(void)close(fd);
	return err.code;
}

uint32_t raw_frame(uint8_t *data, uint64_t from, uint32_t count, uint64_t seq)
{
	const struct changes_sender sender = { .session = { seq > 0 ? 77 : 0, 0 },
					       .seq = seq,
					       .kind = FRAME_CHANGES };
	struct haul_changes *changes;

	assert_int_equal(haul_changes_new(&changes, 0, 0, 0), 0);
	serve_lab_nodes(changes, from, count);
	const uint32_t bytes = changes_frame_bytes(changes);
	assert_int_equal(changes_seal(changes, &sender, data, RAW_ROOM), 0);
	haul_changes_free(changes);
	return bytes;
}

int raw_answer(int fd, struct raw *raw, int32_t *statuses, uint32_t max)
{
	struct wire_answer answer;

	assert_true(raw_read(fd, raw->in, sizeof raw->in) > 0);
	assert_int_equal(wire_get_answer(raw->in, &answer, statuses, max), 0);
	return answer.error;
}

uint8_t *raw_room(void)
{
	uint8_t *data = aligned_alloc(64, RAW_ROOM);

	assert_non_null(data);
	return data;
}

void raw_still_serves(struct serve_lab *lab, uint64_t id)
{
	struct haul_client *client;
	struct haul_changes *changes;
	int32_t status = 9;

	assert_int_equal(haul_client_open(&client, lab->tcp, NULL, &lab->err), 0);
	assert_int_equal(haul_changes_new(&changes, 16, 4096, 0), 0);
	serve_lab_nodes(changes, id, 1);
	assert_int_equal(haul_client_commit(client, changes, &status, NULL), 0);
	assert_int_equal(status, 0);
	haul_changes_free(changes);
	haul_client_close(client);
}
