#include "base/assert.h"
#include "rpc/store_server_state.h"

static const struct haul_counter counters[] = {
#define X(id, name, help) { name, help },
	SERVER_COUNTER_LIST(X)
#undef X
};
static_assert((int)SERVER_COUNTERS <= (int)HAUL_STATS_COUNTERS, "a place for each counter");

int server_stats_enter(struct store_server *server)
{
	HAUL_ASSERT(!server->entered);
	haul_stats_init(&server->stats, "store.server", counters, SERVER_COUNTERS);
	if (server->options.stats == NULL)
		return 0;
	const int rc = haul_stats_enter(server->options.stats, &server->stats);
	server->entered = rc == 0;
	return rc;
}

void server_stats_remove(struct store_server *server)
{
	if (server->entered)
		haul_stats_remove(server->options.stats, &server->stats);
	server->entered = false;
}
