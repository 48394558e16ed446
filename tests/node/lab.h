/* node/lab.h — a datapath between three links whose other side is the test.
 *
 * Model      A lab link is a link back end: the test puts frames in that rx then hands out, from
 *            memory that stays where it is, and reads what tx was given, as rows with the pointers
 *            that were sent. Peers are whoever the test says; a full kernel queue can be played.
 * Memory     LAB_BYTES a link and direction; lab_link_clear starts anew. */
#pragma once

#include <stdint.h>

#include <haul/link.h>
#include <haul/message.h>
#include "link/link.h"
#include "node/datapath.h"

enum { LAB_FRAMES = 8192, LAB_BYTES = 8 << 20 };

struct lab_frame {
	uint8_t *data; /* rx: where the frame lies; tx: a copy in one piece */
	uint32_t len;
	uint32_t peer;
	uint16_t flags;
	uint16_t csum_start;
	uint16_t csum_offset;
	struct haul_addr from;    /* rx only */
	const uint8_t *sent_data; /* tx only: the pieces as they were given */
	const uint8_t *sent_tail;
};

struct lab_link {
	struct haul_link link; /* first */
	struct lab_frame in[LAB_FRAMES];
	uint32_t in_count, in_taken;
	struct lab_frame out[LAB_FRAMES];
	uint32_t out_count;
	uint32_t tx_calls;
	uint32_t refuse;     /* so many rows from now on ... */
	int32_t refuse_code; /* ... end with this status */
	int rx_code;         /* negative: rx fails */
	uint8_t *in_bytes, *out_bytes;
	uint32_t in_used, out_used;
};

struct lab {
	struct lab_link *link[NODE_PORTS];
	struct mailbox mailbox;
	struct os_sim os;
	struct datapath *datapath;
	struct snapshot *snapshot;
	uint64_t generation;
	uint64_t self;
	enum node_role role;
	struct haul_frames sent;
	struct haul_messages decoded;
};

#define LAB_SELF UINT64_C(0x02000000aa00)

/* The options that lab_open uses; change and pass on. mtu_bytes of every link is 1472 by
 * default. */
struct lab_options {
	enum node_role role;
	enum haul_preset preset;
	bool individual;
	uint32_t mtu_bytes;
	enum haul_sizer_policy policy;
	uint64_t self; /* 0 = LAB_SELF */
};
void lab_open(struct lab *lab, const struct lab_options *options);
void lab_close(struct lab *lab);
void lab_clear(struct lab *lab);

/* Publish routes and clients; see snapshot_input. */
void lab_publish(struct lab *lab, struct snapshot_input *input);
/* Turns until nothing more comes in. Returns frames received. */
uint32_t lab_run(struct lab *lab);

/* A frame arrives: a copy of it, with headroom. from: HAUL_PEER_NONE = an address not seen
 * before. */
struct lab_frame *lab_receive(struct lab *lab, uint32_t port, const uint8_t *bytes, uint32_t len,
			      uint32_t peer);
/* A message arrives: header and body. */
struct lab_frame *lab_message(struct lab *lab, uint32_t port, uint32_t peer,
			      const struct haul_message_header *header, const uint8_t *body,
			      uint32_t body_len);
uint64_t lab_counter(const struct lab *lab, enum datapath_counter counter);
uint64_t lab_reject(const struct lab *lab, enum haul_reject reject);

/* Take one event out of the mailbox; false when there is none. */
bool lab_event(struct lab *lab, struct control_event *ret_event);
/* Decode what was sent by a port as messages; every one is good. Valid until the next call. */
const struct haul_messages *lab_sent(struct lab *lab, uint32_t port);

/* Write an Ethernet frame of len bytes to out: addresses, EtherType, then bytes from a seed. */
void lab_ethernet(uint8_t *out, uint32_t len, uint64_t dst, uint64_t src, uint32_t seed);
