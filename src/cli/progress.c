#include "cli/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/quantity.h"

enum { BAR = 30, LEFT_MAX = 9999999 };
static const int64_t quiet_ns = NS_PER_S, redraw_ns = 100 * NS_PER_MS, line_ns = 5 * NS_PER_S;

void progress_begin(struct progress *progress, const char *what, const char *unit, bool quiet)
{
	struct os *os = os_linux();
	*progress = (struct progress){ .what = what,
				       .unit = unit,
				       .os = os,
				       .start_ns = os->now_ns(os),
				       .terminal = isatty(STDERR_FILENO),
				       .quiet = quiet };
}

static void draw_bar(char ret_bar[BAR + 1], double part)
{
	uint32_t full = (uint32_t)(part * BAR);
	for (uint32_t i = 0; i < BAR; i++)
		ret_bar[i] = i < full ? '=' : i == full ? '>' : ' ';
	ret_bar[BAR] = '\0';
}

void progress_line(const struct progress *progress, uint64_t done, uint64_t total, bool bar,
		   char ret_line[PROGRESS_LINE])
{
	int64_t spent_ns = progress->os->now_ns(progress->os) - progress->start_ns;
	double spent_s = spent_ns > 0 ? (double)spent_ns / 1e9 : 1e-9;
	double rate = (double)done / spent_s;
	char drawn[BAR + 1], rate_text[QUANTITY_TEXT];
	quantity_size_text(rate, rate_text);
	if (total == 0) {
		snprintf(ret_line, PROGRESS_LINE, "%s  %" PRIu64 " %s  %s/s", progress->what, done,
			 progress->unit, rate_text);
		return;
	}
	/* maps grow while they are walked */
	double part = done < total ? (double)done / (double)total : 1;
	draw_bar(drawn, part);
	int used = snprintf(ret_line, PROGRESS_LINE, "%s  %s%s%s%3.0f %%  %" PRIu64 " %s  %s/s",
			    progress->what, bar ? "[" : "", bar ? drawn : "", bar ? "] " : "",
			    100 * part, done, progress->unit, rate_text);
	if (done == 0 || used < 0 || used >= PROGRESS_LINE)
		return;
	double left_s = (double)(total - (done < total ? done : total)) / rate;
	unsigned long left = left_s < LEFT_MAX ? (unsigned long)(left_s + 0.5) : LEFT_MAX;
	snprintf(ret_line + used, PROGRESS_LINE - (size_t)used, "  %lu:%02lu left", left / 60,
		 left % 60);
}

void progress_show(struct progress *progress, uint64_t done, uint64_t total)
{
	char line[PROGRESS_LINE];
	int64_t now_ns = progress->os->now_ns(progress->os);
	int64_t since_ns = now_ns - (progress->drawn_ns ? progress->drawn_ns : progress->start_ns);
	progress->last_done = done;
	if (progress->quiet || now_ns - progress->start_ns < quiet_ns)
		return;
	if (progress->drawn_ns != 0 && since_ns < (progress->terminal ? redraw_ns : line_ns))
		return;
	if (progress->drawn_ns == 0 && !progress->terminal && since_ns < line_ns)
		return;
	progress->drawn_ns = now_ns;
	progress_line(progress, done, total, progress->terminal, line);
	if (progress->terminal)
		fprintf(stderr, "\r\033[K%s", line);
	else
		fprintf(stderr, "%s\n", line);
	progress->on_screen = progress->terminal;
	(void)fflush(stderr);
}

void progress_wipe(struct progress *progress)
{
	if (progress->on_screen)
		fprintf(stderr, "\r\033[K");
	progress->on_screen = false;
}

void progress_end(struct progress *progress)
{
	progress_wipe(progress);
	progress->quiet = true;
}
