/* rpc/store_target.h — a store by its folder (embedded) or by the address of its server.
 *
 * Model      A folder is opened in this process; anything else is an address: "unix:PATH",
 *            "HOST:PORT", "HOST". Readers and commits are the same from there on.
 * Ownership  store_target_close closes what was opened; readers go before.
 * Threads    any, as haul/store.h and haul/client.h.
 * Errors     with text, as the two opens. */
#pragma once

#include <haul/client.h>
#include <haul/store.h>

struct store_target {
	struct haul_store *store; /* one of the two */
	struct haul_client *client;
};
struct store_target_options {
	uint64_t memory; /* of a folder; 0 = as haul_store_open */
	bool read_only;
	const char *token_file; /* of a server */
	struct haul_stats_table *stats;
};
/* What is not there and has no '/' is one, as is what begins with "unix:". */
bool store_target_is_address(const char *where);
/* options may be NULL. */
int store_target_open(struct store_target *target, const char *where,
		      const struct store_target_options *options, struct haul_err *err);
void store_target_close(struct store_target *target);
int store_target_reader(const struct store_target *target, uint64_t bytes,
			struct haul_reader **ret_reader);
/* Durable when it returns 0. */
int store_target_commit(const struct store_target *target, const struct haul_changes *changes,
			int32_t *statuses);
