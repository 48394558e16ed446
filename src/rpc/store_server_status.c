/* What a client asks of the store and of its server: their figures, as they are now.
 *
 * A worker takes them, so that who has the sockets does not wait for the locks of those who look
 * at the table of statistics. The locks of the store that it takes are held for a few copies:
 * commits go on. */
#include "base/assert.h"
#include "rpc/store_server_state.h"
#include "rpc/wire_status.h"

struct figures {
	struct wire_page *page;
	int blocks;
};

static void add_block(const struct haul_stats *stats, void *arg)
{
	struct figures *figures = arg;

	wire_status_put_block(figures->page, stats);
	figures->blocks++;
}

int server_status(struct store_server *server, struct wire_page *page)
{
	struct figures figures = { .page = page };
	struct haul_store_status status;

	HAUL_ASSERT(page->bytes == WIRE_RESULT_MAX);
	haul_store_status(server->store, &status);
	wire_status_put(page, &status);
	if (server->options.stats != NULL)
		(void)haul_stats_visit(server->options.stats, add_block, &figures);
	return figures.blocks;
}
