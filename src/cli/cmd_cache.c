#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cache.h"
#include "cli/group.h"
#include "cli/quantity.h"

static volatile sig_atomic_t stop_asked;

static void on_signal(int number)
{
	(void)number;
	stop_asked = 1;
}

void cache_catch_signals(void)
{
	/* no SA_RESTART: a read from a terminal ends, too; a second signal kills */
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };
	(void)sigemptyset(&action.sa_mask);
	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
}

bool cache_stopped(void)
{
	return stop_asked != 0;
}

int cache_fail(const char *what, int code)
{
	fprintf(stderr, "haul: cache: %s: %s\n", what, haul_strerror(code));
	return CLI_FAILED;
}

int cache_end_output(int code)
{
	if (fflush(stdout) != 0 && errno != EPIPE)
		return cache_fail("standard output", -errno);
	return code;
}

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

uint64_t cache_number(const char *option, const char *arg, uint64_t min, uint64_t max,
		      struct argp_state *state)
{
	char *end = NULL;
	errno = 0;
	unsigned long long number = strtoull(arg, &end, 10);
	if (errno != 0 || end == arg || *end != '\0' || strchr(arg, '-') != NULL || number < min ||
	    number > max)
		argp_error(state, "--%s '%s': wanted is a number from %llu to %llu", option, arg,
			   (unsigned long long)min, (unsigned long long)max);
	return number;
}

uint64_t cache_size(const char *option, const char *arg, uint64_t min, uint64_t max,
		    struct argp_state *state)
{
	uint64_t size = 0;
	if (quantity_size(arg, &size) < 0)
		argp_error(state, "--%s '%s': wanted is %s", option, arg, QUANTITY_SIZE);
	if (size < min || size > max)
		argp_error(state, "--%s '%s': %llu to %llu bytes are possible", option, arg,
			   (unsigned long long)min, (unsigned long long)max);
	return size;
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

	return group_run(&group, argc, argv);
}
