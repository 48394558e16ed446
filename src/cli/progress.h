/* cli/progress.h — how far a long piece of work is.
 *
 * Model      On a terminal one line on stderr that is drawn anew ten times a second, and wiped when
 *            the work ends; elsewhere a plain line every five seconds. Nothing in the first second:
 *            what is that short needs no bar.
 * Units      done and total count whatever unit names; total 0 = unknown.
 * Ownership  the caller's; texts are borrowed until progress_end.
 * Threads    one at a time a progress.
 * Errors     none: that a bar cannot be drawn stops no work. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "os/os.h"

enum { PROGRESS_LINE = 256 };

struct progress {
	const char *what; /* "export flows" */
	const char *unit; /* "entries" */
	struct os *os;
	int64_t start_ns;
	int64_t drawn_ns; /* 0 = not yet */
	uint64_t last_done;
	bool terminal;
	bool quiet;
	bool on_screen; /* a bar stands on the last line of the terminal */
};

void progress_begin(struct progress *progress, const char *what, const char *unit, bool quiet);
void progress_show(struct progress *progress, uint64_t done, uint64_t total);
/* Wipe the bar, so that messages start on a clean line. progress_show draws it again. */
void progress_wipe(struct progress *progress);
void progress_end(struct progress *progress);

/* The line that would be shown: "export flows  [=====>    ]  52 %  1.3M/s  0:04 left". Without a
 * bar when bar is false. */
void progress_line(const struct progress *progress, uint64_t done, uint64_t total, bool bar,
		   char ret_line[PROGRESS_LINE]);
