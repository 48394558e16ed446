/* bench/disk_client.h — a memcached client for the disk bench: the same for every server.
 *
 * Model      Keys are numbers ("k%012u"), values DISK_LOOKUP bytes that begin with their key. Gets
 *            go over several connections, one request under way on each; every answer is walked
 *            through, and each value's key compared.
 * Ownership  none beyond a call: each makes its connections and closes them.
 * Threads    the caller's only.
 * Errors     with text: -ECONNREFUSED …, -EPROTO when an answer is none, -ETIMEDOUT. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <haul/err.h>

/* Until the server on the loopback port answers; -ETIMEDOUT after seconds. */
int disk_client_wait(uint16_t port, double seconds, struct haul_err *err);

struct disk_sets {
	uint16_t port;
	const uint8_t *value; /* DISK_LOOKUP bytes */
	uint32_t count;       /* keys 0 … count - 1 */
	uint32_t pipelined;   /* sets that are sent before answers are read */
	int64_t pause_ns;     /* after each so many */
};
/* *ret_stored: how many were answered STORED. */
int disk_client_sets(const struct disk_sets *sets, uint32_t *ret_stored, struct haul_err *err);

struct disk_gets {
	uint16_t port;
	const uint32_t *numbers; /* asked for in this order, round and round */
	uint32_t number_count;
	uint32_t place;       /* where to begin; goes on with each call */
	uint32_t per_request; /* keys, at most DISK_GETS_MAX */
	uint32_t connections;
	double seconds; /* 0 = each number once */
	bool *there;    /* by number: was answered; may be NULL */
	uint64_t asked; /* results */
	uint64_t answered;
	double took;
};
enum { DISK_GETS_MAX = 128, DISK_CONNECTIONS_MAX = 64 };
int disk_client_gets(struct disk_gets *gets, struct haul_err *err);
