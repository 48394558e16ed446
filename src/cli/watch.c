#include "cli/watch.h"

#include <poll.h>
#include <stdio.h>

#include "cli/cli.h"
#include "cli/stop.h"

enum { WATCH_MS = 1000 };

int watch_show(const struct watch *watch, int (*show)(const void *arg), const void *arg)
{
	int code = show(arg);
	/* poll ends by a signal, too */
	while (watch->again && code == CLI_OK && cli_flush() == 0 && poll(NULL, 0, WATCH_MS) == 0 &&
	       !stop_asked()) {
		printf(watch->json ? "" : "\n");
		code = show(arg);
	}
	return code;
}

void watch_put(const struct watch *watch, const json_t *root)
{
	(void)json_dumpf(root, stdout,
			 (watch->again ? JSON_COMPACT : (size_t)JSON_INDENT(1)) |
				 JSON_REAL_PRECISION(6));
	printf("\n");
}
