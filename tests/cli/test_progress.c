/* cli/test_progress.c — the line that tells how far a long piece of work is, by a clock that is
 * moved by hand. What is drawn goes to standard error, which is a file here. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/progress.h"
#include "lib/testlib.h"

struct lab {
	struct os_sim sim;
	struct progress progress;
	FILE *file;
	int saved;
};

static void lab_open(struct lab *lab, bool terminal, bool quiet)
{
	os_sim_init(&lab->sim, 1);
	lab->file = tmpfile();
	assert_non_null(lab->file);
	(void)fflush(stderr);
	lab->saved = dup(STDERR_FILENO);
	assert_true(lab->saved >= 0 && dup2(fileno(lab->file), STDERR_FILENO) >= 0);
	progress_begin(&lab->progress, "work", "entries", quiet);
	lab->progress.os = &lab->sim.os;
	lab->progress.start_ns = lab->sim.now_ns;
	lab->progress.terminal = terminal;
}

/* What was drawn since lab_open. */
static void lab_close(struct lab *lab, char text[1024])
{
	progress_end(&lab->progress);
	(void)fflush(stderr);
	assert_true(dup2(lab->saved, STDERR_FILENO) >= 0);
	(void)close(lab->saved);
	rewind(lab->file);
	text[fread(text, 1, 1023, lab->file)] = '\0';
	(void)fclose(lab->file);
}

static void show_after(struct lab *lab, int64_t ms, uint64_t done, uint64_t total)
{
	os_sim_advance(&lab->sim, ms * NS_PER_MS);
	progress_show(&lab->progress, done, total);
}

/* Work of less than a second is not talked about. */
static void test_progress__says_nothing_in_the_first_second(void **state)
{
	struct lab lab;
	char text[1024];
	(void)state;
	lab_open(&lab, true, false);
	for (uint32_t i = 0; i < 9; i++)
		show_after(&lab, 100, i, 100);
	lab_close(&lab, text);
	assert_string_equal(text, "");
}

/* A bar is drawn over itself, ten times a second at most, and wiped at the end. */
static void test_progress__bar_on_a_terminal(void **state)
{
	struct lab lab;
	char text[1024];
	(void)state;
	lab_open(&lab, true, false);
	show_after(&lab, 1000, 250, 1000);
	show_after(&lab, 50, 260, 1000);
	show_after(&lab, 950, 500, 1000);
	lab_close(&lab, text);
	assert_string_equal(
		text, "\r\033[Kwork  [=======>                      ]  25 %  250 entries  250/s  "
		      "0:03 left"
		      "\r\033[Kwork  [===============>              ]  50 %  500 entries  250/s  "
		      "0:02 left"
		      "\r\033[K");
}

/* In a log: whole lines, one in five seconds. */
static void test_progress__lines_elsewhere(void **state)
{
	struct lab lab;
	char text[1024];
	(void)state;
	lab_open(&lab, false, false);
	for (uint32_t i = 1; i <= 20; i++)
		show_after(&lab, 600, i * 600, 60000);
	lab_close(&lab, text);
	assert_string_equal(text, "work    9 %  5400 entries  1.0k/s  0:55 left\n"
				  "work   18 %  10800 entries  1.0k/s  0:49 left\n");
}

/* Without a total there is no percentage, and more than the total is not over 100. */
static void test_progress__unknown_total_and_too_much(void **state)
{
	struct lab lab;
	char text[1024], line[PROGRESS_LINE];
	(void)state;
	lab_open(&lab, true, false);
	os_sim_advance(&lab.sim, 2 * NS_PER_S);
	progress_line(&lab.progress, 500, 0, true, line);
	assert_string_equal(line, "work  500 entries  250/s");
	progress_line(&lab.progress, 2000, 1000, false, line);
	assert_string_equal(line, "work  100 %  2000 entries  1.0k/s  0:00 left");
	progress_line(&lab.progress, 0, 1000, false, line);
	assert_string_equal(line, "work    0 %  0 entries  0/s");
	lab_close(&lab, text);
}

/* --quiet is quiet. */
static void test_progress__quiet(void **state)
{
	struct lab lab;
	char text[1024];
	(void)state;
	lab_open(&lab, true, true);
	show_after(&lab, 5000, 1, 2);
	lab_close(&lab, text);
	assert_string_equal(text, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_progress__says_nothing_in_the_first_second),
		cmocka_unit_test(test_progress__bar_on_a_terminal),
		cmocka_unit_test(test_progress__lines_elsewhere),
		cmocka_unit_test(test_progress__unknown_total_and_too_much),
		cmocka_unit_test(test_progress__quiet),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
