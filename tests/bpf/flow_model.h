/* bpf/flow_model.h — what the connection table must hold after a sequence of packets.
 *
 * Written from the contract (haul/flow_record.h), not from the program: it is told what a packet
 * is, not its bytes, and follows TCP by a table of states. Time is not modelled: only whether an
 * entry has an RTT. */
#pragma once

#include <haul/flow_record.h>
#include "bpf/packet.h"

enum { FLOW_MODEL_ENTRIES = 4096 };

/* What comes with the packet but not in its bytes. Zero: nothing. */
struct flow_gso {
	uint32_t segs;
	uint32_t size;
	uint32_t wire_len;
};

struct flow_model_entry {
	struct haul_flow_key key;
	uint64_t packets[2], bytes[2], payload[2];
	bool tracked[2]; /* next is known */
	uint32_t next[2];
	uint32_t retransmits;
	uint8_t state, initiator;
	uint8_t flags[2];
	bool timing; /* the SYN was sent once, and not yet answered */
	bool rtt;
};

struct flow_model {
	uint32_t entries_max; /* beyond: overflow */
	uint32_t count;
	struct flow_model_entry entries[FLOW_MODEL_ENTRIES];
	uint64_t totals[HAUL_FLOW_TOTALS];
};

void flow_model_init(struct flow_model *model, uint32_t entries_max);
/* One packet, and the frame that was made of it. */
void flow_model_count(struct flow_model *model, const struct packet *packet,
		      const struct packet_frame *frame, const struct flow_gso *gso);
/* One frame that is no packet of a connection. */
void flow_model_not_ip(struct flow_model *model, uint32_t bytes);
void flow_model_malformed(struct flow_model *model, uint32_t bytes);
/* The key of a packet, and its direction. */
void flow_model_key(const struct packet *packet, struct haul_flow_key *ret_key, int *ret_dir);
/* Fails the test, and says what differs. */
void flow_model_compare(const struct flow_model_entry *entry, const struct haul_flow_value *value);
struct flow_model_entry *flow_model_find(struct flow_model *model, const struct haul_flow_key *key);
