/* Checking a frame is one pass over its sections and one over its events. What is proven of all of
 * them together: events stand where their section says, one behind the other, up to the heap;
 * every place for a status is used once (a bit each); the lengths of the records sum up to the
 * heap, so that a short frame cannot make the executor write the same record many times. */
#include "store/frame.h"

#include <string.h>

#include "base/assert.h"
#include "base/checksum.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "frames are in the order of the machine");

enum record { RECORD_NONE, RECORD_NODE, RECORD_EDGE, RECORD_EMBEDDING };

struct rule {
	uint8_t flags;    /* those it may have */
	uint8_t versions; /* flags with which it may expect a version; 0xff: always */
	uint8_t record;
	bool edge; /* two ends, type, disc */
};
enum { NEVER = 0, ALWAYS = 0xff };

static const struct rule rules[HAUL_CHANGES] = {
	[HAUL_DELETE_EMBEDDING] = { 0, NEVER, RECORD_NONE, false },
	[HAUL_DELETE_EDGE] = { 0, ALWAYS, RECORD_NONE, true },
	[HAUL_DELETE_NODE] = { HAUL_DETACH, ALWAYS, RECORD_NONE, false },
	[HAUL_CREATE_NODE] = { HAUL_UPSERT, HAUL_UPSERT, RECORD_NODE, false },
	[HAUL_UPDATE_NODE] = { HAUL_PATCH, ALWAYS, RECORD_NODE, false },
	[HAUL_CREATE_EDGE] = { HAUL_UPSERT | HAUL_LOOSE, HAUL_UPSERT, RECORD_EDGE, true },
	[HAUL_UPDATE_EDGE] = { HAUL_PATCH, ALWAYS, RECORD_EDGE, true },
	[HAUL_SET_EMBEDDING] = { 0, NEVER, RECORD_EMBEDDING, false },
};

static bool is_id(uint64_t id)
{
	return id - HAUL_NODE_ID_MIN < UINT64_MAX - HAUL_NODE_ID_MIN;
}

bool frame_event_valid(enum haul_change change, const struct frame_event *event)
{
	const struct rule *rule = &rules[change];
	const bool embedding = change == HAUL_SET_EMBEDDING || change == HAUL_DELETE_EMBEDDING;
	const bool version = rule->versions == ALWAYS || (event->flags & rule->versions) != 0;
	bool good = is_id(event->a) && (event->flags & ~(uint32_t)rule->flags) == 0;

	good &= version || event->expected_version == 0;
	if (rule->edge)
		return good && is_id(event->b);
	good &= event->type == 0 && event->disc == 0;
	return good && (embedding ? event->b < HAUL_EMBEDDING_INDEXES : event->b == 0);
}

static XXH128_hash_t hash_head(const uint8_t *data)
{
	const size_t from = sizeof(((struct frame_head *)0)->check_head);
	return XXH3_128bits(data + from, FRAME_HEAD - from);
}

static bool same(const uint64_t check[2], XXH128_hash_t hash)
{
	return check[0] == hash.low64 && check[1] == hash.high64;
}

int frame_check_head(const uint8_t *data, struct frame_head *ret_head)
{
	struct frame_head head;

	memcpy(&head, data, sizeof head);
	if (head.magic != FRAME_MAGIC || !same(head.check_head, hash_head(data)))
		return HAUL_ECORRUPT;
	if (head.version != FRAME_VERSION)
		return HAUL_EVERSION;
	if (head.bytes < FRAME_HEAD)
		return HAUL_ECORRUPT;
	if (head.kind < FRAME_WIRE && head.bytes > FRAME_BYTES_MAX)
		return HAUL_ELIMIT;
	*ret_head = head;
	return 0;
}

/* What holds for all frames that get into a log. */
static int check_session(const struct frame_head *head)
{
	const bool session = (head->session[0] | head->session[1]) != 0;
	uint64_t reserved = head->flags;

	for (uint32_t i = 0; i < sizeof head->reserved / sizeof *head->reserved; i++)
		reserved |= head->reserved[i];
	if (reserved != 0)
		return HAUL_ECORRUPT;
	if (session != (head->seq != 0) || (head->ack_upto != 0 && head->ack_upto >= head->seq))
		return HAUL_ECORRUPT;
	if (head->kind == FRAME_FENCE &&
	    (!session || head->sections != 0 || head->bytes != FRAME_HEAD))
		return HAUL_ECORRUPT;
	return 0;
}

/* Sections one by one; *ret_events: how many events they have. */
static int check_sections(const struct frame *frame, uint32_t events_at)
{
	const struct frame_head *head = frame->head;
	uint32_t events = 0, group = 0;
	bool open = false; /* the section before belongs to `group` */

	for (uint32_t i = 0; i < head->sections; i++) {
		const struct frame_section *section = &frame->sections[i];
		if (section->change >= HAUL_CHANGES)
			return HAUL_ETYPE;
		if (section->count == 0 || section->count > head->events - events ||
		    section->first != events || section->events != events_at + events * FRAME_EVENT)
			return HAUL_ECORRUPT;
		if ((section->flags & ~SECTION_EACH) != 0 || section->reserved != 0 ||
		    section->reserved_too != 0)
			return HAUL_ECORRUPT;
		events += section->count;
		if (section->flags & SECTION_EACH) {
			open = false;
			if (section->group != 0)
				return HAUL_ECORRUPT;
			continue;
		}
		if (section->group != group || !open)
			group++;
		open = true;
		if (section->group != group)
			return HAUL_ECORRUPT;
	}
	return events == head->events ? 0 : HAUL_ECORRUPT;
}

struct pass {
	const struct frame *frame;
	uint32_t heap_at;
	uint64_t heap_used;
	uint64_t seen[HAUL_CHANGES_OPS / 64]; /* places of statuses */
};

static int check_record(const struct pass *pass, enum record record,
			const struct frame_event *event)
{
	const uint8_t *data = pass->frame->data + event->heap;
	const bool patch = (event->flags & HAUL_PATCH) != 0;

	if (record == RECORD_NONE)
		return event->heap == 0 && event->bytes == 0 ? 0 : HAUL_ECORRUPT;
	if (event->heap < pass->heap_at ||
	    (uint64_t)event->heap + event->bytes > pass->frame->head->bytes)
		return HAUL_ECORRUPT;
	if (record == RECORD_NODE)
		return record_check_node(data, event->bytes, patch);
	if (record == RECORD_EDGE)
		return record_check_edge(data, event->bytes, patch);
	return record_check_embedding(data, event->bytes);
}

static int check_events(struct pass *pass, const struct frame_section *section)
{
	const struct frame_event *events = frame_events(pass->frame, section);
	const enum haul_change change = section->change;
	const enum record record = rules[change].record;

	for (uint32_t i = 0; i < section->count; i++) {
		const struct frame_event *event = &events[i];
		const uint32_t at = event->status_at;
		if (at >= pass->frame->head->events || (pass->seen[at / 64] >> at % 64 & 1) != 0 ||
		    !frame_event_valid(change, event))
			return HAUL_ECORRUPT;
		pass->seen[at / 64] |= UINT64_C(1) << at % 64;
		const int error = check_record(pass, record, event);
		if (error != 0)
			return error;
		pass->heap_used += event->bytes;
	}
	return 0;
}

void frame_trust(const uint8_t *data, struct frame *ret_frame)
{
	HAUL_ASSERT(((uintptr_t)data & 7) == 0);
	ret_frame->head = (const struct frame_head *)(const void *)data;
	ret_frame->sections = (const struct frame_section *)(const void *)(data + FRAME_HEAD);
	ret_frame->data = data;
}

int frame_check(const uint8_t *data, uint64_t bytes, struct frame *ret_frame)
{
	struct frame frame;
	struct frame_head head;
	struct pass pass = { 0 };

	if (bytes < FRAME_HEAD)
		return HAUL_ESHORT;
	int error = frame_check_head(data, &head);
	if (error != 0)
		return error;
	if (bytes != head.bytes)
		return bytes < head.bytes ? HAUL_ESHORT : HAUL_ELONG;
	if (head.kind != FRAME_CHANGES && head.kind != FRAME_FENCE)
		return HAUL_ETYPE;
	if (!same(head.check_body, XXH3_128bits(data + FRAME_HEAD, head.bytes - FRAME_HEAD)))
		return HAUL_ECORRUPT;
	if (head.events > HAUL_CHANGES_OPS || head.sections > head.events)
		return head.events > HAUL_CHANGES_OPS ? HAUL_ELIMIT : HAUL_ECORRUPT;
	const uint32_t events_at = FRAME_HEAD + head.sections * FRAME_SECTION;
	pass.heap_at = events_at + head.events * FRAME_EVENT;
	if (pass.heap_at > head.bytes)
		return HAUL_ECORRUPT;
	frame_trust(data, &frame);
	pass.frame = &frame;
	error = check_session(&head);
	if (error == 0)
		error = check_sections(&frame, events_at);
	for (uint32_t i = 0; error == 0 && i < head.sections; i++)
		error = check_events(&pass, &frame.sections[i]);
	if (error == 0 && pass.heap_used != head.bytes - pass.heap_at)
		error = HAUL_ECORRUPT;
	if (error == 0)
		*ret_frame = frame;
	return error;
}

void frame_seal(uint8_t *data)
{
	struct frame_head *head = (struct frame_head *)(void *)data;

	HAUL_ASSERT(((uintptr_t)data & 7) == 0 && head->bytes >= FRAME_HEAD);
	const XXH128_hash_t body = XXH3_128bits(data + FRAME_HEAD, head->bytes - FRAME_HEAD);
	head->check_body[0] = body.low64;
	head->check_body[1] = body.high64;
	const XXH128_hash_t own = hash_head(data);
	head->check_head[0] = own.low64;
	head->check_head[1] = own.high64;
}
