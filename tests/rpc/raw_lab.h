/* rpc/raw_lab.h — a client of bare bytes, for tests of the server of a store.
 *
 * Model      A socket on the server's local address, frames as they are. It says what it likes.
 * Threads    one. Errors: asserts. */
#pragma once

#include "rpc/store_wire.h"
#include "serve_lab.h"

enum { RAW_ROOM = 1 << 20 };

struct raw {
	int fd;
	_Alignas(8) uint8_t in[WIRE_ANSWER_MAX];
};

int raw_connect(struct serve_lab *lab);
void raw_send(int fd, const void *data, size_t bytes);
/* A whole frame, or 0: the connection has ended. */
uint32_t raw_read(int fd, uint8_t *data, uint32_t room);
void raw_hello(int fd, const char *token);
/* Hello without a token, and the welcome. */
void raw_greet(int fd);
/* The error that comes next, and then the end. */
int raw_error(int fd);
/* A frame of nodes [from, from + count), without a session unless seq is given. */
uint32_t raw_frame(uint8_t *data, uint64_t from, uint32_t count, uint64_t seq);
/* The answer that comes next: its error. */
int raw_answer(int fd, struct raw *raw, int32_t *statuses, uint32_t max);
/* RAW_ROOM bytes for a frame; free. */
uint8_t *raw_room(void);
/* An honest client is served: it makes the node. */
void raw_still_serves(struct serve_lab *lab, uint64_t id);
