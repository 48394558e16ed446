/* node/bench_control.h — one control on the bench: what it sent last, its routes, its time. */
#pragma once

#include <stdint.h>

#include "node/control.h"
#include "node/said.h"
#include "node/snapshot.h"

enum { BENCH_TAKE_MAX = 256 };

struct bench {
	struct control *control;
	struct snapshot *snapshot;
	struct control_tx tx[BENCH_TAKE_MAX];
	uint32_t tx_count;
	struct haul_heartbeat sent; /* RSU: its last heartbeat */
	int64_t now_ns;
};

/* cmocka fixtures: *state is a struct bench. */
int bench_open_rsu(void **state);
int bench_open_obu(void **state);
int bench_close(void **state);

uint64_t bench_counter(const struct bench *bench, enum control_counter index);
/* Publish if there is news; the newest snapshot. */
const struct snapshot *bench_routes(struct bench *bench);
/* Take what was sent. */
void bench_take(struct bench *bench);
/* Hand over one event, take what it sends. */
void bench_tell(struct bench *bench, const struct control_event *event);
/* Move time on, take what is sent; remember the heartbeat an RSU sends meanwhile. */
void bench_wait_ms(struct bench *bench, int64_t ms);
/* A reply to the RSU's last heartbeat, a millisecond later. */
struct control_event bench_reply(struct bench *bench, uint64_t sequence);
