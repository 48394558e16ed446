/* gate — when does a batch close? Prints the answer for a queue under three loads.
 *
 *   cc gate.c $(pkg-config --cflags --libs haul) && ./a.out
 *
 * Time is made up here: the gate is a pure function, so it can be watched without waiting. */
#include <inttypes.h>
#include <stdio.h>

#include <haul/batch.h>

enum { OPERATIONS = 64, BYTES = 100 };

/* Feed operations that arrive every gap_ns to a downstream that takes service_ns a batch. */
static void run(const char *load, int64_t gap_ns, int64_t service_ns)
{
	const struct haul_limits limits = haul_limits_preset(HAUL_PRESET_BALANCED);
	uint32_t closed[HAUL_CLOSE_REASONS] = { 0 };
	uint32_t batches = 0;
	struct haul_gate_input input = { 0 };
	int64_t busy_until_ns = 0;

	for (int64_t i = 0; i < OPERATIONS; i++) {
		int64_t deadline_ns;
		enum haul_close reason;

		input.now_ns = i * gap_ns;
		if (input.ops_queued == 0)
			input.first_ns = input.now_ns;
		input.ops_queued++;
		input.bytes_queued += BYTES;
		input.in_flight = input.now_ns < busy_until_ns;
		reason = haul_gate(&limits, &input, &deadline_ns);
		if (reason == HAUL_CLOSE_NONE)
			continue; /* a program would sleep until deadline_ns or the next arrival */
		closed[reason]++;
		batches++;
		busy_until_ns = input.now_ns + service_ns;
		input.ops_queued = 0;
		input.bytes_queued = 0;
	}
	printf("%-8s %2" PRIu32 " batches:", load, batches);
	for (int reason = 0; reason < HAUL_CLOSE_REASONS; reason++)
		if (closed[reason])
			printf(" %" PRIu32 " by %s", closed[reason],
			       haul_close_name((enum haul_close)reason));
	printf("\n");
}

int main(void)
{
	run("idle", 1000000, 20000);  /* one a millisecond: nobody waits for anybody */
	run("busy", 5000, 20000);     /* faster than the downstream: batches form by themselves */
	run("flooded", 1000, 500000); /* far faster: full batches */
	return 0;
}
