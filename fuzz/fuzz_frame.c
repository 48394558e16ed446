/* fuzz/fuzz_frame.c — any bytes as a frame: its head, sections, events, records; then executed.
 *
 * Promise: a frame that is taken can be gone through without a look behind its end, each record and
 * property of it, too; executing it ends with one status a change, and a second executor comes to
 * the same ones.
 * The first byte is not of the frame: when odd, length and checksums are put right first. The frame
 * lies in memory of exactly its size. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "store/exec_lab.h"

enum { REPAIR = 1 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk_properties(const struct haul_properties *properties)
{
	struct haul_property property;
	uint32_t offset = 0, count = 0, sum = 0;
	int rc;

	while ((rc = haul_property_next(properties, &offset, &property)) == 1) {
		for (uint32_t i = 0; i < property.name_bytes; i++)
			sum += (uint8_t)property.name[i];
		for (uint32_t i = 0; i < property.data_bytes; i++)
			sum += ((const uint8_t *)property.data)[i];
		count++;
	}
	HAUL_ASSERT(rc == 0 && count == properties->count && sum < UINT32_MAX);
}

static void walk_record(const struct frame *frame, enum haul_change change,
			const struct frame_event *event)
{
	const uint8_t *data = frame->data + event->heap;
	struct haul_node node = { 0 };
	struct haul_edge edge = { 0 };
	struct haul_embedding embedding = { 0 };

	if (change == HAUL_CREATE_NODE || change == HAUL_UPDATE_NODE) {
		record_get_node(data, event->bytes, &node);
		HAUL_ASSERT(node.key_bytes == 0 ||
			    record_name(node.key, node.key_bytes).word[2] == 0);
		walk_properties(&node.properties);
	} else if (change == HAUL_CREATE_EDGE || change == HAUL_UPDATE_EDGE) {
		record_get_edge(data, event->bytes, &edge);
		walk_properties(&edge.properties);
	} else if (change == HAUL_SET_EMBEDDING) {
		float last;
		record_get_embedding(data, event->bytes, &embedding);
		memcpy(&last, (const uint8_t *)embedding.vector + (embedding.dimensions - 1) * 4,
		       4);
		HAUL_ASSERT(last - last == 0);
	} else {
		HAUL_ASSERT(event->bytes == 0);
	}
}

static void walk_frame(const struct frame *frame)
{
	uint32_t events = 0;

	for (uint32_t i = 0; i < frame->head->sections; i++) {
		const struct frame_section *section = &frame->sections[i];
		const struct frame_event *of = frame_events(frame, section);
		for (uint32_t j = 0; j < section->count; j++)
			walk_record(frame, (enum haul_change)section->change, &of[j]);
		events += section->count;
	}
	HAUL_ASSERT(events == frame->head->events);
}

static void execute(const struct frame *frame)
{
	static int32_t first[HAUL_CHANGES_OPS], second[HAUL_CHANGES_OPS];
	struct exec_result result;
	static struct lab lab;
	uint64_t hash = 0;

	for (int round = 0; round < 2; round++) {
		int32_t *statuses = round == 0 ? first : second;
		lab_open(&lab);
		lab_told(&lab);
		memset(statuses, 1, frame->head->events * sizeof *statuses);
		const int rc = exec_frame(lab.exec, frame, 1, statuses, &result);
		HAUL_ASSERT(rc == 0 || (rc == HAUL_ESTALE && frame->head->seq != 1));
		for (uint32_t i = 0; rc == 0 && i < frame->head->events; i++)
			HAUL_ASSERT(statuses[i] <= 0);
		HAUL_ASSERT(round == 0 || hash == lab_hash(&lab, true));
		hash = lab_hash(&lab, true);
		lab_close(&lab);
	}
	HAUL_ASSERT(memcmp(first, second, frame->head->events * sizeof *first) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct frame frame;
	struct frame_head head;

	if (size < 1 || size - 1 > FRAME_BYTES_MAX)
		return 0;
	const size_t bytes = size - 1;
	uint8_t *copy = malloc(bytes + 1);
	HAUL_ASSERT(copy != NULL);
	memcpy(copy, data + 1, bytes);
	if ((data[0] & REPAIR) != 0 && bytes >= FRAME_HEAD) {
		struct frame_head *of = (struct frame_head *)(void *)copy;
		of->magic = FRAME_MAGIC;
		of->version = FRAME_VERSION;
		of->bytes = (uint32_t)bytes;
		frame_seal(copy);
	}
	if (bytes >= FRAME_HEAD && frame_check_head(copy, &head) == 0)
		HAUL_ASSERT(head.bytes >= FRAME_HEAD);
	if (frame_check(copy, bytes, &frame) == 0) {
		walk_frame(&frame);
		execute(&frame);
	}
	free(copy);
	return 0;
}
