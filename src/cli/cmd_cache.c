#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cache.h"
#include "cli/group.h"

bool cache_is_server(const char *target)
{
	struct stat st;
	if (stat(target, &st) == 0)
		return S_ISSOCK(st.st_mode);
	return strchr(target, ':') != NULL && strchr(target, '/') == NULL;
}

int cache_open_file(struct haul_cache **ret_cache, const char *path, bool read_only)
{
	const struct haul_cache_options options = { .read_only = read_only };
	struct haul_err err = { 0 };
	int rc = haul_cache_open(ret_cache, path, &options, &err);
	if (rc == 0)
		return CLI_OK;
	if (rc == -EBUSY)
		(void)haul_err_set(&err, rc,
				   "%s is in use: if a server has it, give the server's address "
				   "(HOST:PORT, or its socket) instead",
				   path);
	return cli_fail("cache", &err);
}

void cache_check_key(const char *key, struct argp_state *state)
{
	if (key[0] == '\0' || strlen(key) > HAUL_CACHE_KEY_MAX)
		argp_error(state, "KEY '%.32s': a key has 1 to %d bytes", key, HAUL_CACHE_KEY_MAX);
}

void cache_json_set(json_t *object, struct cache_json_name name, const void *data, size_t bytes)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *from = data;
	json_t *text = json_stringn(bytes > 0 ? data : "", bytes);
	if (text != NULL) {
		(void)json_object_set_new(object, name.text, text);
		return;
	}
	char *hex = malloc(2 * bytes + 1);
	for (size_t i = 0; hex != NULL && i < bytes; i++) {
		hex[2 * i] = digits[from[i] >> 4];
		hex[2 * i + 1] = digits[from[i] & 15];
	}
	(void)json_object_set_new(object, name.hex,
				  hex != NULL ? json_stringn_nocheck(hex, 2 * bytes) : NULL);
	free(hex);
}

int cmd_cache(int argc, char **argv)
{
	static const struct command subcommands[] = {
#define X(name, help) { #name, help, cache_##name },
		CACHE_COMMAND_LIST(X)
#undef X
	};
	static const struct command_group group = {
		.prefix = "haul cache",
		.noun = "subcommand",
		.commands = subcommands,
		.count = sizeof subcommands / sizeof subcommands[0],
		.args_doc = "SUBCOMMAND [ARGUMENT...]",
		.doc = "A cache on a raw disk: a log on a file or block device that is written and "
		       "read in batches, for memcached clients and for programs.\v"
		       "Examples:\n"
		       "  haul cache format cache.bin --size 1G\n"
		       "  haul cache serve cache.bin\n"
		       "  haul cache stat 127.0.0.1:11211\n",
	};

	return cli_end_output("cache", group_run(&group, argc, argv));
}
