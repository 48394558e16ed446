#include <stddef.h>

#include "base/assert.h"
#include "rpc/client_state.h"

static const struct haul_counter counters[] = {
#define X(id, name, help) { name, help },
	CLIENT_COUNTER_LIST(X)
#undef X
};
static_assert((int)CLIENT_COUNTERS <= (int)HAUL_STATS_COUNTERS, "a place for each counter");

static void refresh(struct haul_stats *stats)
{
	struct haul_client *client =
		(struct haul_client *)((char *)stats - offsetof(struct haul_client, stats));
	uint64_t *extra = stats->extra;
	uint64_t queued = 0;

	(void)pthread_mutex_lock(&client->lock);
	const struct pace *pace = &client->pace;
	const uint64_t room = (uint64_t)pace->limits.ops_max * (client->window + 1);
	for (uint32_t i = 0; i < client->flight_count; i++)
		queued += client->flight[i]->ops;
	if (client->gather != NULL)
		queued += haul_changes_count(client->gather->changes);
	const uint64_t flushes = extra[C_FLUSHES] > 0 ? extra[C_FLUSHES] : 1;
	extra[C_ADJUSTMENTS] = pace->sizer.adjustments;
	extra[C_AVERAGE] = extra[C_FLUSHED] / flushes;
	extra[C_AVERAGE_TIME] = extra[C_FLUSH_TIME] / flushes;
	extra[C_UTILISATION] = queued * 100 / room;
	extra[C_THRESHOLD] = pace_threshold(pace);
	extra[C_ARRIVALS] = (uint64_t)(pace->ops_per_ns * 1e9);
	extra[C_WAIT] = (uint64_t)pace->wait_ns;
	extra[C_IN_FLIGHT] = client->flight_count;
	(void)pthread_mutex_unlock(&client->lock);
}

void client_stats_init(struct haul_client *client)
{
	haul_stats_init(&client->stats, "client", counters, CLIENT_COUNTERS);
	client->stats.refresh = refresh;
}

int client_stats_enter(struct haul_client *client)
{
	HAUL_ASSERT(!client->entered);
	if (client->options.stats == NULL)
		return 0;
	const int rc = haul_stats_enter(client->options.stats, &client->stats);
	client->entered = rc == 0;
	return rc;
}

void client_stats_remove(struct haul_client *client)
{
	if (client->entered)
		haul_stats_remove(client->options.stats, &client->stats);
	client->entered = false;
}
