/* node/said.h — what neighbours say, as events for a control under test. */
#pragma once

#include <stdint.h>

#include "node/control.h"
#include "os/os.h"

#define SAID_RSU    UINT64_C(0x020000000001)
#define SAID_OBU    UINT64_C(0x0200000000a1)
#define SAID_SELF   UINT64_C(0x0200000000ff)
#define SAID_CLIENT UINT64_C(0x0600000000a1)
#define SAID_EPOCH  (UINT64_C(1000) << 32)

enum { SAID_PERIOD_MS = 100 };

static inline struct hop said_radio(uint32_t peer)
{
	return (struct hop){ .port = NODE_RADIO, .peer = peer };
}

static inline struct hop said_backhaul(uint32_t peer)
{
	return (struct hop){ .port = NODE_BACKHAUL, .peer = peer };
}

/* Heartbeat id of SAID_RSU, sent at its time, as handed on by a neighbour hops away from it. */
static inline struct control_event said_heartbeat(uint32_t id, uint32_t peer, uint8_t hops,
						  int64_t now_ns)
{
	return (struct control_event){
		.kind = CONTROL_HEARTBEAT,
		.from = said_radio(peer),
		.now_ns = now_ns,
		.broadcast = true,
		.header = { .type = HAUL_MESSAGE_HEARTBEAT,
			    .ttl = (uint8_t)(8 - hops),
			    .sequence = SAID_EPOCH | id,
			    .origin = SAID_RSU,
			    .destination = HAUL_NODE_BROADCAST },
		.reply = { .heartbeat = { .id = id,
					  .hops = hops,
					  .period_ms = SAID_PERIOD_MS,
					  .time_ns = id * UINT64_C(100000000) } },
	};
}

/* SAID_OBU's reply to a heartbeat, handed over by a neighbour hops away from it. */
static inline struct control_event said_reply(const struct haul_heartbeat *answered, uint64_t rsu,
					      uint64_t sequence, uint8_t hops, int64_t now_ns)
{
	struct control_event event = {
		.kind = CONTROL_REPLY,
		.from = said_radio(7),
		.now_ns = now_ns,
		.header = { .type = HAUL_MESSAGE_REPLY,
			    .flags = HAUL_MESSAGE_ATTACHED,
			    .ttl = (uint8_t)(8 - hops),
			    .sequence = SAID_EPOCH | sequence,
			    .origin = SAID_OBU,
			    .destination = rsu },
		.reply = { .heartbeat = *answered, .client = SAID_CLIENT },
	};
	event.reply.heartbeat.hops = hops;
	return event;
}

static inline struct control_options said_options(enum node_role role)
{
	return (struct control_options){
		.role = role,
		.self = SAID_SELF,
		.client = UINT64_C(0x0600000000ff),
		.sequence = SAID_EPOCH,
		.period_ms = SAID_PERIOD_MS,
		.jitter_percent = 10,
		.history = 10,
		.candidates = 3,
		.missed_max = 3,
		.ttl = 8,
		.seed = 1,
	};
}
