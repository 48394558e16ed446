/* cli/watch.h — what --watch and --json do: a state is shown once, or again every second.
 *
 * Model      The command shows the state once, as text or as a JSON document; this repeats it until
 *            a signal that cli/stop.h has caught, or until showing it failed.
 * Threads    main thread only. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

/* As asked for on the command line. */
struct watch {
	bool again; /* every second, not once */
	bool json;
};

/* show: returns an exit status, and is given arg. Returns what it returned last. */
int watch_show(const struct watch *watch, int (*show)(const void *arg), const void *arg);
/* The document on stdout: on one line, when more follow. */
void watch_put(const struct watch *watch, const json_t *root);
