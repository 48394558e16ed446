/* sim/child.h — a program that runs in a namespace, with all it says in a file.
 *
 * Model      A child leads a process group of its own; what is sent to it reaches all it started.
 * Ownership  the file belongs to whoever made its folder.
 * Threads    one; the child is killed when the thread that started it ends.
 * Errors     -errno with text.
 * Blocking   child_start until the program is loaded; child_end until it has ended. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <haul/err.h>

enum { CHILD_PATH_BYTES = 160, CHILD_LINE_BYTES = 120 };

struct child {   /* all zero = never started */
	int pid; /* > 0 while it runs */
	bool started;
	int status;                      /* of waitpid, once it has ended */
	char log_path[CHILD_PATH_BYTES]; /* its stdout and stderr */
};

/* argv ends with NULL; argv[0] is looked for in PATH. log_path is overwritten. */
int child_start(struct child *child, int netns_fd, const char *const argv[], const char *log_path,
		struct haul_err *err);
/* True while it runs; notices that it has ended. */
bool child_runs(struct child *child);
/* To it and to all it started itself; nothing if it has ended. */
void child_signal(struct child *child, int signal);
/* SIGKILL and wait. */
void child_end(struct child *child);
/* It has ended with exit status 0. */
bool child_succeeded(const struct child *child);
/* How it ended and the last line it said: "exit status 1: cannot bind". */
void child_epitaph(const struct child *child, char *text, uint32_t text_bytes);
/* All it has said so far; the caller frees it. NULL if it cannot be read. */
char *child_output(const struct child *child);
