/* Changes are kept as they will stand in the frame: events in the order of their execution, a run
 * of one kind of change and one group a section, records in a heap. So sealing is three copies.
 * An unordered list is kept the same way, in the order given; only sealing goes over its runs once
 * for each kind, and the events carry the place of their status with them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "store/changes_state.h"

struct run { /* a section in the making */
	uint8_t change;
	bool each;
	uint32_t count;
	uint32_t group;
	uint32_t first;
};

struct mark {
	uint32_t events, runs, last_count;
	uint32_t heap;
};

struct haul_changes {
	struct frame_event *events; /* heap: offset in the heap below */
	struct run *runs;
	uint8_t *heap;
	uint32_t ops_max, bytes_max;
	uint32_t event_count, run_count, heap_used;
	uint32_t groups;      /* numbers given away */
	uint32_t kinds;       /* a bit a kind that occurs: unordered */
	bool unordered, open; /* open: within a group */
	struct mark group_mark;
	uint32_t kinds_mark;
};

const char *haul_change_name(enum haul_change change)
{
	static const char *const names[HAUL_CHANGES] = {
#define X(id, name) [id] = name,
		HAUL_CHANGE_LIST(X)
#undef X
	};
	return (unsigned)change < HAUL_CHANGES ? names[change] : "unknown";
}

int haul_changes_new(struct haul_changes **ret_changes, uint32_t ops, uint32_t bytes,
		     uint32_t flags)
{
	if (ops == 0)
		ops = HAUL_CHANGES_OPS;
	if (bytes == 0)
		bytes = HAUL_CHANGES_BYTES;
	if (ops > HAUL_CHANGES_OPS || bytes > HAUL_CHANGES_BYTES)
		return HAUL_ELIMIT;
	if ((flags & ~(uint32_t)HAUL_CHANGES_UNORDERED) != 0)
		return -EINVAL;
	struct haul_changes *changes = calloc(1, sizeof *changes);
	if (changes == NULL)
		return -ENOMEM;
	changes->ops_max = ops;
	changes->bytes_max = bytes;
	changes->unordered = (flags & HAUL_CHANGES_UNORDERED) != 0;
	changes->events = malloc((size_t)ops * sizeof *changes->events);
	changes->runs = malloc((size_t)ops * sizeof *changes->runs);
	changes->heap = malloc(bytes);
	if (changes->events == NULL || changes->runs == NULL || changes->heap == NULL) {
		haul_changes_free(changes);
		return -ENOMEM;
	}
	*ret_changes = changes;
	return 0;
}

void haul_changes_free(struct haul_changes *changes)
{
	if (changes == NULL)
		return;
	free(changes->events);
	free(changes->runs);
	free(changes->heap);
	free(changes);
}

void haul_changes_clear(struct haul_changes *changes)
{
	changes->event_count = 0;
	changes->run_count = 0;
	changes->heap_used = 0;
	changes->groups = 0;
	changes->kinds = 0;
	changes->open = false;
}

uint32_t haul_changes_count(const struct haul_changes *changes)
{
	return changes->event_count;
}

static uint32_t section_count(const struct haul_changes *changes)
{
	if (changes->unordered)
		return (uint32_t)__builtin_popcount(changes->kinds);
	return changes->run_count;
}

static uint64_t bytes_of(uint32_t sections, uint32_t events, uint64_t heap)
{
	return (uint64_t)sections * FRAME_SECTION + (uint64_t)events * FRAME_EVENT + heap;
}

uint64_t haul_changes_bytes(const struct haul_changes *changes)
{
	return bytes_of(section_count(changes), changes->event_count, changes->heap_used);
}

uint32_t changes_frame_bytes(const struct haul_changes *changes)
{
	return FRAME_HEAD + (uint32_t)haul_changes_bytes(changes);
}

bool changes_open(const struct haul_changes *changes)
{
	return changes->open;
}

/* ---- groups ---- */

int haul_changes_begin(struct haul_changes *changes)
{
	if (changes->open)
		return -EINVAL;
	const uint32_t runs = changes->run_count;
	changes->group_mark = (struct mark){
		.events = changes->event_count,
		.runs = runs,
		.last_count = runs == 0 ? 0 : changes->runs[runs - 1].count,
		.heap = changes->heap_used,
	};
	changes->kinds_mark = changes->kinds;
	changes->open = true;
	return 0;
}

void haul_changes_cancel(struct haul_changes *changes)
{
	if (!changes->open)
		return;
	const struct mark *mark = &changes->group_mark;
	HAUL_ASSERT(mark->events <= changes->event_count && mark->runs <= changes->run_count);
	changes->event_count = mark->events;
	changes->run_count = mark->runs;
	if (mark->runs != 0)
		changes->runs[mark->runs - 1].count = mark->last_count;
	changes->heap_used = mark->heap;
	changes->kinds = changes->kinds_mark;
	changes->open = false;
}

/* Add `count` events of a run behind the last: to it if both are of the same kind, each its own
 * group. */
static void run_add(struct haul_changes *changes, const struct run *run)
{
	struct run *next = changes->runs + changes->run_count;

	if (changes->run_count != 0 && next[-1].change == run->change &&
	    next[-1].each == run->each && next[-1].group == run->group) {
		next[-1].count += run->count;
		return;
	}
	HAUL_ASSERT(changes->run_count < changes->ops_max);
	*next = *run;
	changes->run_count++;
}

int haul_changes_end(struct haul_changes *changes)
{
	if (!changes->open)
		return -EINVAL;
	const struct mark *mark = &changes->group_mark;
	const uint32_t count = changes->event_count - mark->events;
	changes->open = false;
	if (count == 1 && !changes->unordered) {
		struct run run = changes->runs[--changes->run_count];
		HAUL_ASSERT(run.count == 1 && changes->run_count == mark->runs);
		run.each = true;
		run.group = 0;
		run_add(changes, &run);
	} else if (count > 1) {
		changes->groups++;
	}
	return 0;
}

/* ---- one change ---- */

/* See to the room for one more event of so many bytes; *ret_heap: where its record goes. */
static int room(struct haul_changes *changes, enum haul_change change, uint32_t bytes)
{
	const struct run *last =
		changes->run_count == 0 ? NULL : &changes->runs[changes->run_count - 1];
	const uint32_t group = changes->open ? changes->groups + 1 : 0;
	uint32_t sections = section_count(changes);

	if (changes->unordered && changes->open &&
	    changes->event_count != changes->group_mark.events)
		return -EINVAL;
	if (changes->unordered)
		sections += (changes->kinds >> change & 1) == 0;
	else
		sections += last == NULL || last->change != change || last->group != group;
	if (changes->event_count == changes->ops_max ||
	    bytes_of(sections, changes->event_count + 1, (uint64_t)changes->heap_used + bytes) >
		    changes->bytes_max)
		return HAUL_EFULL;
	return 0;
}

static int add(struct haul_changes *changes, enum haul_change change, struct frame_event *event,
	       uint32_t bytes)
{
	const bool each = !changes->open || changes->unordered;
	const struct run run = {
		.change = (uint8_t)change,
		.each = each,
		.count = 1,
		.group = each ? 0 : changes->groups + 1,
		.first = changes->event_count,
	};

	event->heap = changes->heap_used;
	event->bytes = bytes;
	event->status_at = changes->event_count;
	run_add(changes, &run);
	changes->kinds |= 1U << change;
	changes->heap_used += bytes;
	changes->events[changes->event_count] = *event;
	return (int)changes->event_count++;
}

static void set_options(struct frame_event *event, const struct haul_change_options *options)
{
	if (options == NULL)
		return;
	event->flags = options->flags;
	event->expected_version = options->expected_version;
}

static int check_properties(const struct haul_properties *properties, uint32_t flags)
{
	if (properties->bytes != 0 && properties->data == NULL)
		return -EINVAL;
	const int error = record_check_properties(properties, (flags & HAUL_PATCH) != 0);
	return error == HAUL_ECORRUPT ? -EINVAL : error;
}

static int put_node(struct haul_changes *changes, enum haul_change change,
		    const struct haul_node *node, const struct haul_change_options *options)
{
	struct frame_event event = { .a = node->id };

	set_options(&event, options);
	if (!frame_event_valid(change, &event) || (node->key_bytes != 0 && node->key == NULL))
		return -EINVAL;
	if (node->key_bytes > HAUL_KEY_MAX)
		return HAUL_ELIMIT;
	int error = check_properties(&node->properties, event.flags);
	if (error != 0)
		return error;
	const uint32_t bytes = RECORD_NODE_HEAD + node->key_bytes + node->properties.bytes;
	error = room(changes, change, bytes);
	if (error != 0)
		return error;
	const uint32_t put = record_put_node(changes->heap + changes->heap_used, node);
	HAUL_ASSERT(put == bytes);
	return add(changes, change, &event, put);
}

int haul_changes_create_node(struct haul_changes *changes, const struct haul_node *node,
			     const struct haul_change_options *options)
{
	return put_node(changes, HAUL_CREATE_NODE, node, options);
}

int haul_changes_update_node(struct haul_changes *changes, const struct haul_node *node,
			     const struct haul_change_options *options)
{
	return put_node(changes, HAUL_UPDATE_NODE, node, options);
}

/* One without a record. */
static int put_bare(struct haul_changes *changes, enum haul_change change,
		    struct frame_event *event, const struct haul_change_options *options)
{
	set_options(event, options);
	if (!frame_event_valid(change, event))
		return -EINVAL;
	const int error = room(changes, change, 0);
	if (error != 0)
		return error;
	const int number = add(changes, change, event, 0);
	changes->events[number].heap = 0;
	return number;
}

int haul_changes_delete_node(struct haul_changes *changes, uint64_t id,
			     const struct haul_change_options *options)
{
	struct frame_event event = { .a = id };
	return put_bare(changes, HAUL_DELETE_NODE, &event, options);
}

static struct frame_event edge_event(const struct haul_edge_id *id)
{
	return (struct frame_event){
		.a = id->src, .b = id->dst, .type = id->type, .disc = id->disc
	};
}

static int put_edge(struct haul_changes *changes, enum haul_change change,
		    const struct haul_edge *edge, const struct haul_change_options *options)
{
	struct frame_event event = edge_event(&edge->id);

	set_options(&event, options);
	if (!frame_event_valid(change, &event))
		return -EINVAL;
	int error = check_properties(&edge->properties, event.flags);
	if (error != 0)
		return error;
	const uint32_t bytes = RECORD_EDGE_HEAD + edge->properties.bytes;
	error = room(changes, change, bytes);
	if (error != 0)
		return error;
	const uint32_t put = record_put_edge(changes->heap + changes->heap_used, edge);
	HAUL_ASSERT(put == bytes);
	return add(changes, change, &event, put);
}

int haul_changes_create_edge(struct haul_changes *changes, const struct haul_edge *edge,
			     const struct haul_change_options *options)
{
	return put_edge(changes, HAUL_CREATE_EDGE, edge, options);
}

int haul_changes_update_edge(struct haul_changes *changes, const struct haul_edge *edge,
			     const struct haul_change_options *options)
{
	return put_edge(changes, HAUL_UPDATE_EDGE, edge, options);
}

int haul_changes_delete_edge(struct haul_changes *changes, const struct haul_edge_id *id,
			     const struct haul_change_options *options)
{
	struct frame_event event = edge_event(id);
	return put_bare(changes, HAUL_DELETE_EDGE, &event, options);
}

int haul_changes_set_embedding(struct haul_changes *changes, const struct haul_embedding *embedding)
{
	struct frame_event event = { .a = embedding->node, .b = embedding->index };
	const uint32_t dimensions = embedding->dimensions;

	if (!frame_event_valid(HAUL_SET_EMBEDDING, &event) || dimensions == 0 ||
	    embedding->vector == NULL)
		return -EINVAL;
	if (dimensions > HAUL_DIMENSIONS_MAX)
		return HAUL_ELIMIT;
	const uint32_t bytes = RECORD_EMBEDDING_HEAD + dimensions * 4;
	const int error = room(changes, HAUL_SET_EMBEDDING, bytes);
	if (error != 0)
		return error;
	uint8_t *data = changes->heap + changes->heap_used;
	const uint32_t put = record_put_embedding(data, embedding);
	HAUL_ASSERT(put == bytes);
	if (record_check_embedding(data, put) != 0)
		return -EINVAL;
	return add(changes, HAUL_SET_EMBEDDING, &event, put);
}

int haul_changes_delete_embedding(struct haul_changes *changes, uint64_t node, uint32_t index)
{
	struct frame_event event = { .a = node, .b = index };
	return put_bare(changes, HAUL_DELETE_EMBEDDING, &event, NULL);
}

/* ---- whole lists ---- */

/* Runs of `from` in the order in which they are executed: all, or those of one kind. */
static void append_runs(struct haul_changes *to, const struct haul_changes *from, uint32_t kinds)
{
	const uint32_t base = to->event_count, heap = to->heap_used;
	uint32_t at = base;

	for (uint32_t kind = 0; kind < HAUL_CHANGES; kind++) {
		for (uint32_t i = 0; i < from->run_count; i++) {
			struct run run = from->runs[i];
			if (kinds != 0 ? run.change != kind : kind != 0)
				continue;
			for (uint32_t j = 0; j < run.count; j++) {
				struct frame_event *event = &to->events[at + j];
				*event = from->events[run.first + j];
				event->heap += event->bytes == 0 ? 0 : heap;
				event->status_at += base;
			}
			run.first = at;
			run.group += run.each ? 0 : to->groups;
			at += run.count;
			run_add(to, &run);
		}
	}
	HAUL_ASSERT(at == base + from->event_count);
	to->event_count = at;
}

int changes_append(struct haul_changes *to, const struct haul_changes *from, uint32_t *ret_first)
{
	const uint32_t sections = to->unordered
					  ? (uint32_t)__builtin_popcount(to->kinds | from->kinds)
					  : section_count(to) + section_count(from);

	if (to->open || from->open || (to->unordered && from->groups != 0))
		return -EINVAL;
	if (from->event_count > to->ops_max - to->event_count ||
	    bytes_of(sections, to->event_count + from->event_count,
		     (uint64_t)to->heap_used + from->heap_used) > to->bytes_max)
		return HAUL_EFULL;
	*ret_first = to->event_count;
	append_runs(to, from, from->unordered ? from->kinds : 0);
	if (from->heap_used != 0)
		memcpy(to->heap + to->heap_used, from->heap, from->heap_used);
	to->heap_used += from->heap_used;
	to->kinds |= from->kinds;
	to->groups += from->groups;
	return 0;
}

struct layout {
	struct frame_section *section;
	uint8_t *data;
	uint32_t events_at, heap_at;
	uint32_t placed; /* events */
};

/* The run as a section, or as more of the one before. */
static void lay_run(struct layout *layout, const struct haul_changes *changes,
		    const struct run *run, bool more)
{
	const uint32_t at = layout->events_at + layout->placed * FRAME_EVENT;
	struct frame_event *events = (struct frame_event *)(void *)(layout->data + at);

	if (more) {
		layout->section[-1].count += run->count;
	} else {
		*layout->section++ = (struct frame_section){
			.change = run->change,
			.flags = run->each ? SECTION_EACH : 0,
			.count = run->count,
			.group = run->group,
			.first = layout->placed,
			.events = at,
		};
	}
	for (uint32_t i = 0; i < run->count; i++) {
		events[i] = changes->events[run->first + i];
		events[i].heap += events[i].bytes == 0 ? 0 : layout->heap_at;
	}
	layout->placed += run->count;
}

int changes_seal(const struct haul_changes *changes, const struct changes_sender *sender,
		 uint8_t *data, uint32_t bytes)
{
	const uint32_t sections = section_count(changes);
	const uint32_t frame_bytes = changes_frame_bytes(changes);
	struct frame_head *head = (struct frame_head *)(void *)data;
	struct layout layout = {
		.section = (struct frame_section *)(void *)(data + FRAME_HEAD),
		.data = data,
		.events_at = FRAME_HEAD + sections * FRAME_SECTION,
	};

	if (changes->open || (sender->kind == FRAME_FENCE && changes->event_count != 0))
		return -EINVAL;
	if (bytes < frame_bytes)
		return HAUL_EFULL;
	layout.heap_at = layout.events_at + changes->event_count * FRAME_EVENT;
	*head = (struct frame_head){
		.magic = FRAME_MAGIC,
		.version = FRAME_VERSION,
		.kind = sender->kind,
		.bytes = frame_bytes,
		.sections = sections,
		.events = changes->event_count,
		.session = { sender->session[0], sender->session[1] },
		.seq = sender->seq,
		.ack_upto = sender->ack_upto,
	};
	for (uint32_t kind = 0; kind < (changes->unordered ? HAUL_CHANGES : 1U); kind++) {
		bool more = false;
		for (uint32_t i = 0; i < changes->run_count; i++) {
			if (changes->unordered && changes->runs[i].change != kind)
				continue;
			lay_run(&layout, changes, &changes->runs[i], more);
			more = changes->unordered;
		}
	}
	HAUL_ASSERT(layout.placed == changes->event_count);
	HAUL_ASSERT((uint8_t *)layout.section == data + layout.events_at);
	if (changes->heap_used != 0)
		memcpy(data + layout.heap_at, changes->heap, changes->heap_used);
	frame_seal(data);
	return 0;
}
