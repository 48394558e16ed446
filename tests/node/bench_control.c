#include "node/bench_control.h"

#include <string.h>

#include <haul/err.h>
#include "lib/testlib.h"

/* One at a time: a test program runs its tests one after another. */
static struct bench bench_memory;

static void open_control(struct bench *bench, const struct control_options *options)
{
	struct haul_err err = { 0 };
	memset(bench, 0, sizeof *bench);
	bench->now_ns = 7 * NS_PER_S;
	if (control_open(options, bench->now_ns, &bench->control, &err) < 0)
		fail_msg("%s", err.text);
}

int bench_open_rsu(void **state)
{
	struct control_options options = said_options(NODE_RSU);
	options.backhaul_peers = 2;
	open_control(&bench_memory, &options);
	*state = &bench_memory;
	return 0;
}

int bench_open_obu(void **state)
{
	const struct control_options options = said_options(NODE_OBU);
	open_control(&bench_memory, &options);
	*state = &bench_memory;
	return 0;
}

int bench_close(void **state)
{
	struct bench *bench = *state;
	control_close(bench->control);
	control_close(NULL);
	snapshot_free(bench->snapshot);
	return 0;
}

uint64_t bench_counter(const struct bench *bench, enum control_counter index)
{
	return control_stats(bench->control)->extra[index];
}

const struct snapshot *bench_routes(struct bench *bench)
{
	struct snapshot *snapshot = NULL;
	assert_int_equal(control_snapshot(bench->control, bench->now_ns, &snapshot), 0);
	if (snapshot != NULL) {
		snapshot_free(bench->snapshot);
		bench->snapshot = snapshot;
	}
	return bench->snapshot;
}

void bench_take(struct bench *bench)
{
	bench->tx_count = control_take(bench->control, bench->tx, BENCH_TAKE_MAX);
}

void bench_tell(struct bench *bench, const struct control_event *event)
{
	control_events(bench->control, event, 1);
	bench_take(bench);
}

void bench_wait_ms(struct bench *bench, int64_t ms)
{
	bench->now_ns += ms * NS_PER_MS;
	(void)control_tick(bench->control, bench->now_ns);
	bench_take(bench);
	if (bench->tx_count > 0 && bench->tx[0].bytes[1] == HAUL_MESSAGE_HEARTBEAT)
		haul_heartbeat_get(bench->tx[0].bytes + HAUL_MESSAGE_HEADER_BYTES, &bench->sent);
}

struct control_event bench_reply(struct bench *bench, uint64_t sequence)
{
	bench->now_ns += NS_PER_MS;
	return said_reply(&bench->sent, SAID_SELF, sequence, 1, bench->now_ns);
}
