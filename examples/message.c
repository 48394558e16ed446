/* message — heartbeats of a node, written and read back a batch at a time.
 *
 *   cc message.c $(pkg-config --cflags --libs haul) && ./a.out
 *
 * All messages of a batch share a header; only the sequence rises. Nothing is allocated after init,
 * and decoding copies nothing: bodies point into the frames. */
#include <inttypes.h>
#include <stdio.h>

#include <haul/haul.h>

enum { COUNT = 4, ROW_BYTES = 64 };

int main(void)
{
	const struct haul_message_header header = {
		.type = HAUL_MESSAGE_HEARTBEAT,
		.ttl = 8,
		.sequence = (uint64_t)1700000000 << 32, /* boot time in s, then a count */
		.origin = UINT64_C(0x020000000001),
		.destination = HAUL_NODE_BROADCAST,
	};
	struct haul_heartbeat heartbeats[COUNT] = { { 0 } };
	uint8_t slab[COUNT * ROW_BYTES];
	struct haul_frames frames;
	struct haul_messages messages;

	for (uint32_t i = 0; i < COUNT; i++)
		heartbeats[i] = (struct haul_heartbeat){ .id = i, .hops = 1, .period_ms = 100 };
	uint32_t bytes = haul_heartbeats_encode(&header, heartbeats, COUNT, slab, ROW_BYTES);

	/* What a link would have received. The third was damaged on its way. */
	if (haul_frames_init(&frames, COUNT) < 0)
		return 1;
	if (haul_messages_init(&messages, COUNT) < 0) {
		haul_frames_done(&frames);
		return 1;
	}
	for (uint32_t i = 0; i < COUNT; i++) {
		const struct haul_frame row = { .data = slab + i * ROW_BYTES, .len = bytes };
		haul_frames_push(&frames, &row); /* room for COUNT: cannot be full */
	}
	frames.len[2]--;

	int good = haul_messages_decode(&frames, &messages);
	printf("%d of %d messages are good\n", good, COUNT);
	for (uint32_t i = 0; i < messages.count; i++) {
		struct haul_heartbeat heartbeat;

		if (messages.status[i] != 0) {
			printf("%" PRIu32 ": %s\n", i, haul_strerror(messages.status[i]));
			continue;
		}
		haul_heartbeat_get(messages.body[i], &heartbeat);
		printf("%" PRIu32 ": heartbeat %" PRIu32 " from %012" PRIx64 ", %u hop away\n", i,
		       heartbeat.id, messages.origin[i], heartbeat.hops);
	}
	haul_messages_done(&messages);
	haul_frames_done(&frames);
	return good == COUNT - 1 ? 0 : 1;
}
