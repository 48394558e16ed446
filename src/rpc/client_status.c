/* The figures of a server (wire_status.h), asked for as a reader asks. All of the answer is read
 * before anybody is told any of it. */
#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "rpc/client_ask.h"
#include "rpc/wire_status.h"

struct told {
	void (*visit)(const struct haul_stats *snapshot, void *arg);
	void *arg;
};

static int each_block(struct wire_reading page, int count, struct wire_status_block *block,
		      const struct told *told)
{
	int rc = 0;

	for (int i = 0; rc == 0 && i < count; i++) {
		rc = wire_status_get_block(&page, block);
		if (rc == 0 && told->visit != NULL)
			told->visit(&block->stats, told->arg);
	}
	return rc;
}

static int ask(struct client_reader *reader, struct wire_status_block *block,
	       struct haul_store_status *ret_status, const struct told *told)
{
	static const struct told nobody;
	const struct wire_query query = { .ask = WIRE_STATUS };
	struct haul_store_status status;

	ask_begin(reader, &query);
	const int count = ask_at_once(reader);
	if (count < 0)
		return count;
	struct wire_reading page = ask_result(reader);
	int rc = wire_status_get(&page, &status);
	if (rc == 0)
		rc = each_block(page, count, block, &nobody);
	if (rc < 0)
		return rc;
	*ret_status = status;
	return each_block(page, count, block, told);
}

static struct wire_status_block *block_new(void)
{
	return malloc(sizeof(struct wire_status_block));
}

int haul_client_status(struct haul_client *client, struct haul_store_status *ret_status,
		       void (*visit)(const struct haul_stats *snapshot, void *arg), void *arg)
{
	const struct told told = { visit, arg };
	struct haul_reader *reader;

	HAUL_ASSERT(client != NULL && ret_status != NULL);
	int rc = haul_client_reader(client, 0, &reader);
	if (rc < 0)
		return rc;
	struct wire_status_block *block = block_new();
	rc = block != NULL ? ask((struct client_reader *)(void *)reader, block, ret_status, &told)
			   : -ENOMEM;
	free(block);
	haul_reader_close(reader);
	return rc;
}
