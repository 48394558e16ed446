/* rpc/client_link.h — a connection to the server of a store, up to the welcome.
 *
 * Model      link_start begins, link_step goes on when its descriptor is ready or time has passed,
 *            until it returns 1 or an error. link_dial does both and waits.
 * Ownership  link_close, or who takes link->fd and sets it to -1.
 * Errors     with text: -ECONNREFUSED …, -EPROTO (something else listens there), -ETIMEDOUT (it
 *            says nothing), -EACCES (token), HAUL_EVERSION, -EBUSY (no connection is left).
 * Threads    one at a time.
 * Blocking   link_dial. */
#pragma once

#include "os/os.h"
#include "rpc/store_address.h"
#include "rpc/store_wire.h"

#define LINK_PATIENCE_NS (5 * NS_PER_S)

enum link_state { LINK_DOWN, LINK_CONNECTING, LINK_GREETING, LINK_UP };

struct link_target {
	struct address address;
	uint8_t token[ADDRESS_TOKEN_MAX];
	uint32_t token_bytes;
};
struct link {
	const struct link_target *target;
	struct os *os;
	enum link_state state;
	int fd;
	short events; /* of poll: what it waits for */
	int64_t until_ns;
	struct wire_welcome welcome;
	uint32_t got;
	_Alignas(8) uint8_t frame[WIRE_ERROR_BYTES];
};
static_assert((int)WIRE_WELCOME_BYTES <= (int)WIRE_ERROR_BYTES, "the longest first frame");

int link_target_read(struct link_target *target, const char *address, const char *token_file,
		     struct haul_err *err);
void link_begin(struct link *link, const struct link_target *target, struct os *os);
/* 0 or negative. */
int link_start(struct link *link, int64_t patience_ns, struct haul_err *err);
/* 1: it is there; 0: not yet. */
int link_step(struct link *link, struct haul_err *err);
int link_dial(struct link *link, int64_t patience_ns, struct haul_err *err);
void link_close(struct link *link);
