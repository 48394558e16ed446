/* What recovery decides by which evidence: the table that is written in the design. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log_lab.h"

enum { NO, YES, ANY };
#define SEEN(kind) (1U << LOG_SEEN_##kind)

struct row {
	int number;
	unsigned int seen;
	int newer, acknowledges, unreadable, good;
	enum log_verdict verdict;
};

static bool fits(int want, bool is)
{
	return want == ANY || want == (is ? YES : NO);
}

static int word(const char *text, const char *const *words, int count)
{
	for (int i = 0; i < count; i++)
		if (strcmp(text, words[i]) == 0)
			return i;
	fail_msg("\"%s\" is not known", text);
	return -1;
}

/* What is between two bars of a line, without blanks around it. */
static char *cell(char **line)
{
	char *begin = *line + strspn(*line, " |");
	char *end = strchr(begin, '|');

	assert_non_null(end);
	*line = end + 1;
	while (end > begin && end[-1] == ' ')
		end--;
	*end = '\0';
	return begin;
}

static int answer(char **line)
{
	static const char *const words[] = { "no", "yes", "-" };

	return word(cell(line), words, 3);
}

static void row_parse(char *line, struct row *row)
{
	static const char *const kinds[] = { "nothing", "stale",    "foreign",   "broken",
					     "good",    "unlinked", "unreadable" };
	const char *texts[LOG_VERDICTS];
	char *kind, *rest = NULL;

	_Static_assert(sizeof kinds / sizeof kinds[0] == LOG_SEEN_KINDS, "all kinds");
	for (int i = 0; i < LOG_VERDICTS; i++)
		texts[i] = log_verdict_text((enum log_verdict)i);
	*row = (struct row){ .number = (int)strtol(cell(&line), NULL, 10) };
	for (kind = strtok_r(cell(&line), ",", &rest); kind != NULL;
	     kind = strtok_r(NULL, ",", &rest))
		row->seen |= 1U << word(kind + strspn(kind, " "), kinds, LOG_SEEN_KINDS);
	row->newer = answer(&line);
	row->acknowledges = answer(&line);
	row->unreadable = answer(&line);
	row->good = answer(&line);
	row->verdict = (enum log_verdict)word(cell(&line), texts, LOG_VERDICTS);
}

/* The table as it is written in the design. */
static int rows_load(struct row *rows, int max)
{
	FILE *file = fopen(HAUL_SOURCE "/docs/design/0016-the-log.md", "r");
	char line[512];
	bool inside = false;
	int count = 0;

	assert_non_null(file);
	while (fgets(line, sizeof line, file) != NULL) {
		if (strncmp(line, "| row |", 7) == 0)
			inside = true;
		else if (inside && strncmp(line, "| ", 2) == 0 && count < max)
			row_parse(line, &rows[count++]);
		else if (line[0] != '|')
			inside = false;
	}
	fclose(file);
	return count;
}

/* Every evidence there can be fits one row of the written table, and is decided as that says. */
static void test_log_decide__is_the_written_table(void **state)
{
	struct row rows[32];
	bool used[32] = { false };
	int count = rows_load(rows, 32);

	(void)state;
	assert_int_equal(count, 14);
	for (unsigned int input = 0; input < LOG_SEEN_KINDS * 16; input++) {
		const struct log_evidence evidence = {
			.seen = (enum log_seen)(input / 16),
			.newer_version = input & 1,
			.later_acknowledges = input & 2,
			.later_unreadable = input & 4,
			.later_good = input & 8,
		};
		int fitting = 0;

		for (int i = 0; i < count; i++) {
			const struct row *row = &rows[i];

			if ((row->seen >> evidence.seen & 1) == 0 ||
			    !fits(row->newer, evidence.newer_version) ||
			    !fits(row->acknowledges, evidence.later_acknowledges) ||
			    !fits(row->unreadable, evidence.later_unreadable) ||
			    !fits(row->good, evidence.later_good))
				continue;
			fitting++;
			used[i] = true;
			assert_int_equal(row->number, i + 1);
			assert_int_equal(log_decide(&evidence), row->verdict);
		}
		assert_int_equal(fitting, 1);
	}
	for (int i = 0; i < count; i++)
		assert_true(used[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_log_decide__is_the_written_table),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
