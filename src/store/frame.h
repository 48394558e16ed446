/* store/frame.h — a frame: changes of many callers, as they are sent and as they are logged.
 *
 * Model      A head of FRAME_HEAD bytes, the heads of all sections, the events of all sections in
 *            the same order, then a heap of records (record.h) that events point into; no byte of
 *            the heap belongs to two events or to none. A section has one kind of change. A section
 *            with SECTION_EACH: every event is a group of its own, its group is 0. Without: it
 *            belongs to group `group`, which is all sections with that number, next to each other;
 *            groups are numbered from 1. The head carries two checksums (of itself, of the rest),
 *            the session and its sequence number (0 = none), and a kind: what it is on the wire.
 *            frame_check proves everything about bytes from outside: after it nothing can point out
 *            of the frame. Frames of changes, and fences, are what the log keeps.
 *            A session is named by two words: a random one, and the op that the store had when the
 *            session was made (session.h says why).
 * Units      bytes.
 * Threads    pure.
 * Errors     HAUL_ESHORT, HAUL_ELONG, HAUL_EVERSION, HAUL_ETYPE, HAUL_ECORRUPT, HAUL_ELIMIT.
 * Source     docs/design/0015. */
#pragma once

#include <assert.h>

#include "store/record.h"

enum {
	FRAME_HEAD = 128,
	FRAME_SECTION = 24,
	FRAME_EVENT = 48,
	FRAME_BYTES_MAX = HAUL_CHANGES_BYTES + FRAME_HEAD,
	FRAME_VERSION = 1,
};
#define FRAME_MAGIC UINT32_C(0x464c5548) /* "HULF" */

enum frame_kind {
	FRAME_CHANGES = 1,
	FRAME_FENCE, /* takes a sequence number and does nothing: settles an outcome */
	/* the rest never gets into a log: rpc/store_wire.h */
	FRAME_WIRE = 16,
};

struct frame_head {
	uint64_t check_head[2]; /* XXH3 128 of the head behind it */
	uint64_t check_body[2]; /* … of what follows the head */
	uint32_t magic;
	uint16_t version;
	uint16_t kind;
	uint32_t bytes; /* of the frame, head included */
	uint32_t sections;
	uint32_t events;
	uint32_t flags;
	uint64_t session[2];
	uint64_t seq;
	uint64_t ack_upto; /* answers up to here have arrived: the server may forget them */
	uint64_t reserved[5];
};
static_assert(sizeof(struct frame_head) == FRAME_HEAD, "the head has no holes");

enum { SECTION_EACH = 1 };
struct frame_section {
	uint8_t change; /* enum haul_change */
	uint8_t flags;
	uint16_t reserved;
	uint32_t count;
	uint32_t group;
	uint32_t first;  /* number of its first event in the frame */
	uint32_t events; /* offset in the frame */
	uint32_t reserved_too;
};
static_assert(sizeof(struct frame_section) == FRAME_SECTION, "a section has no holes");

struct frame_event {
	uint64_t a; /* id of a node, src of an edge, node of an embedding */
	uint64_t b; /* dst, index */
	uint64_t expected_version;
	uint32_t type;
	uint32_t disc;
	uint32_t flags;     /* enum haul_change_flags */
	uint32_t heap;      /* offset of its record in the frame */
	uint32_t bytes;     /* of its record */
	uint32_t status_at; /* which place of the caller's statuses is its own */
};
static_assert(sizeof(struct frame_event) == FRAME_EVENT, "an event has no holes");

/* A checked frame; points into its bytes. */
struct frame {
	const struct frame_head *head;
	const struct frame_section *sections;
	const uint8_t *data;
};
static inline const struct frame_event *frame_events(const struct frame *frame,
						     const struct frame_section *section)
{
	return (const struct frame_event *)(const void *)(frame->data + section->events);
}

/* data is aligned to 8. Of the kinds FRAME_CHANGES and FRAME_FENCE; others are HAUL_ETYPE. */
int frame_check(const uint8_t *data, uint64_t bytes, struct frame *ret_frame);
/* Bytes that this program sealed itself. */
void frame_trust(const uint8_t *data, struct frame *ret_frame);
/* Only the head, once FRAME_HEAD bytes are there: how long the whole is. Any kind; those from
 * FRAME_WIRE on have limits of their own that the caller knows. */
int frame_check_head(const uint8_t *data, struct frame_head *ret_head);
/* Whether its fields, but for record and place of the status, may be those of such a change. */
bool frame_event_valid(enum haul_change change, const struct frame_event *event);
/* Put checksums of body and head in. */
void frame_seal(uint8_t *data);
