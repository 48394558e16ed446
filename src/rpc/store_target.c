#include "rpc/store_target.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/assert.h"

bool store_target_is_address(const char *where)
{
	struct stat st;
	if (strncmp(where, "unix:", 5) == 0)
		return true;
	/* What is there is a path, and so is what looks like one. */
	return stat(where, &st) < 0 && strchr(where, '/') == NULL;
}

int store_target_open(struct store_target *target, const char *where,
		      const struct store_target_options *options, struct haul_err *err)
{
	static const struct store_target_options none;
	options = options != NULL ? options : &none;
	struct store_target opened = { 0 };
	const struct haul_client_options client = { .policy = HAUL_CLIENT_SELFCLOCK,
						    .token_file = options->token_file,
						    .stats = options->stats };
	const struct haul_store_options store = { .memory = options->memory,
						  .read_only = options->read_only,
						  .stats = options->stats };
	const bool address = store_target_is_address(where);
	int error = address ? haul_client_open(&opened.client, where, &client, err)
			    : haul_store_open(&opened.store, where, &store, err);
	/* A word alone may have been meant as either. */
	if (error < 0 && address && strchr(where, ':') == NULL)
		return haul_err_wrap(err, error, "there is no such folder, nor a server");
	if (error == -EBUSY && !address)
		return haul_err_set(err, error,
				    "%s is open in another process: if that is a server, give its "
				    "address (unix:PATH or HOST:PORT) instead",
				    where);
	if (error < 0)
		return error;
	*target = opened;
	return 0;
}

void store_target_close(struct store_target *target)
{
	if (target->store != NULL)
		(void)haul_store_close(target->store);
	if (target->client != NULL)
		haul_client_close(target->client);
	*target = (struct store_target){ 0 };
}

int store_target_reader(const struct store_target *target, uint64_t bytes,
			struct haul_reader **ret_reader)
{
	HAUL_ASSERT(target->store != NULL || target->client != NULL);
	return target->store != NULL ? haul_store_reader(target->store, bytes, ret_reader)
				     : haul_client_reader(target->client, bytes, ret_reader);
}

int store_target_commit(const struct store_target *target, const struct haul_changes *changes,
			int32_t *statuses)
{
	struct haul_client_result result;
	struct haul_commit commit;
	HAUL_ASSERT(target->store != NULL || target->client != NULL);
	return target->store != NULL
		       ? haul_store_commit(target->store, changes, statuses, &commit)
		       : haul_client_commit(target->client, changes, statuses, &result);
}
