#include "bench.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "report.h"

extern const struct bench bench_disk;
extern const struct bench bench_map;
extern const struct bench bench_message;
extern const struct bench bench_pool;
extern const struct bench bench_sizer;
extern const struct bench bench_store;
extern const struct bench bench_tap;
extern const struct bench bench_wire;

const struct bench *const bench_list[] = {
	&bench_disk,  &bench_map, &bench_message, &bench_pool, &bench_sizer,
	&bench_store, &bench_tap, &bench_wire,    NULL,
};

/* All runs of one case: two samples a pair. */
struct runs {
	struct bench_sample *arm[2];
	double *ratio;
	double *sorted; /* work space */
	uint32_t pairs;
};

static void runs_done(struct runs *runs)
{
	free(runs->arm[0]);
	free(runs->arm[1]);
	free(runs->ratio);
	free(runs->sorted);
}

static int runs_init(struct runs *runs, uint32_t pairs)
{
	runs->pairs = pairs;
	runs->arm[0] = calloc(pairs, sizeof *runs->arm[0]);
	runs->arm[1] = calloc(pairs, sizeof *runs->arm[1]);
	runs->ratio = calloc(pairs, sizeof *runs->ratio);
	runs->sorted = calloc(pairs, sizeof *runs->sorted);
	if (runs->arm[0] && runs->arm[1] && runs->ratio && runs->sorted)
		return 0;
	runs_done(runs);
	return -ENOMEM;
}

static int compare_double(const void *a, const void *b)
{
	const double *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

/* The pair whose ratio is closest to the median: with an odd number of pairs, the median itself. */
static uint32_t median_pair(const struct runs *runs, double median)
{
	uint32_t closest = 0;
	for (uint32_t i = 1; i < runs->pairs; i++) {
		double off = runs->ratio[i] - median, least = runs->ratio[closest] - median;
		if (off * off < least * least)
			closest = i;
	}
	return closest;
}

static void row_fill(struct bench_row *row, struct runs *runs)
{
	uint32_t pairs = runs->pairs;
	for (uint32_t i = 0; i < pairs; i++) {
		double one = runs->arm[BENCH_INDIVIDUAL][i].value;
		double many = runs->arm[BENCH_BATCHED][i].value;
		runs->ratio[i] = row->of->lower_is_better ? one / many : many / one;
		runs->sorted[i] = runs->ratio[i];
	}
	qsort(runs->sorted, pairs, sizeof *runs->sorted, compare_double);
	row->ratio = (runs->sorted[(pairs - 1) / 2] + runs->sorted[pairs / 2]) / 2;
	row->ratio_min = runs->sorted[0];
	row->ratio_max = runs->sorted[pairs - 1];
	row->individual = runs->arm[BENCH_INDIVIDUAL][median_pair(runs, row->ratio)];
	row->batched = runs->arm[BENCH_BATCHED][median_pair(runs, row->ratio)];
}

/* On a terminal only: a bench can take minutes, and a log wants no rubble. */
static void progress(const struct bench *bench, const char *name, uint32_t done, uint32_t all)
{
	enum { WIDTH = 20 };
	if (!isatty(STDERR_FILENO))
		return;
	char bar[WIDTH + 1];
	for (uint32_t i = 0; i < WIDTH; i++)
		bar[i] = i < WIDTH * done / all ? '#' : '.';
	bar[WIDTH] = '\0';
	fprintf(stderr, "\r\033[K[%s] %s %s", bar, bench->name, name);
	if (done == all)
		fprintf(stderr, "\r\033[K");
}

/* What one bench_run carries around. */
struct session {
	const struct bench *bench;
	const struct bench_options *options;
	void *ctx;
	uint32_t arms_done;
	uint32_t arms_all;
};

static int arm_run(struct session *session, const struct bench_case *of, enum bench_arm arm,
		   struct bench_sample *ret_sample, struct haul_err *err)
{
	struct bench_sample sample = { .syscalls_per_op = -1.0, .fill_mean = -1.0 };
	progress(session->bench, of->name, session->arms_done, session->arms_all);
	int rc = of->run(session->ctx, of, arm, session->options->seconds, &sample, err);
	if (rc < 0)
		return haul_err_wrap(err, rc, "%s", of->name);
	if (!(sample.value > 0.0))
		return haul_err_set(err, -ENODATA, "%s: the %s arm measured nothing", of->name,
				    arm == BENCH_BATCHED ? "batched" : "individual");
	session->arms_done++;
	*ret_sample = sample;
	return 0;
}

static int case_run(struct session *session, struct runs *runs, struct bench_row *row,
		    struct haul_err *err)
{
	uint32_t before = session->arms_done;
	int rc = 0;
	for (uint32_t i = 0; i < 2 * runs->pairs && rc >= 0; i++) {
		uint32_t pair = i / 2;
		enum bench_arm arm = (i + pair) % 2 ? BENCH_BATCHED : BENCH_INDIVIDUAL;
		rc = arm_run(session, row->of, arm, &runs->arm[arm][pair], err);
	}
	if (rc == -ENOTSUP && err) {
		snprintf(row->left_out, sizeof row->left_out, "%s", err->text);
		*err = (struct haul_err){ 0 };
		session->arms_done = before + 2 * runs->pairs;
		return 0;
	}
	if (rc >= 0)
		row_fill(row, runs);
	return rc;
}

static bool case_wanted(const struct bench_case *of, const struct bench_options *options)
{
	return !options->only_case || strcmp(options->only_case, of->name) == 0;
}

static int tables_run(struct session *session, struct bench_report *report, struct haul_err *err)
{
	const struct bench *bench = session->bench;
	if (!bench->tables || session->options->only_case)
		return 0;
	report->tables = json_array();
	if (!report->tables)
		return haul_err_set(err, -ENOMEM, "no memory");
	return bench->tables(session->ctx, report->tables, err);
}

static int cases_run(struct session *session, struct runs *runs, struct bench_report *report,
		     struct haul_err *err)
{
	const struct bench *bench = session->bench;
	struct bench_row *rows = calloc(bench->case_count, sizeof *rows);
	if (!rows)
		return haul_err_set(err, -ENOMEM, "no memory");
	for (uint32_t i = 0; i < bench->case_count; i++)
		if (case_wanted(&bench->cases[i], session->options))
			rows[report->row_count++].of = &bench->cases[i];

	int rc = 0;
	session->arms_all = 2 * runs->pairs * report->row_count;
	for (uint32_t i = 0; i < report->row_count && rc >= 0; i++)
		rc = case_run(session, runs, &rows[i], err);
	if (rc >= 0)
		rc = tables_run(session, report, err);
	progress(bench, "", 1, 1);
	report->rows = rows;
	if (rc >= 0 && session->options->json)
		rc = report_json(report, stdout);
	else if (rc >= 0)
		report_table(report, stdout);
	json_decref(report->tables);
	free(rows);
	return rc;
}

int bench_run(const struct bench *bench, const struct bench_options *options, struct haul_err *err)
{
	HAUL_ASSERT(options->pairs >= 1);
	HAUL_ASSERT(bench->case_count >= 1);
	struct session session = { .bench = bench, .options = options };
	struct bench_report report = { .bench = bench, .options = options };
	(void)getloadavg(&report.load, 1);
	struct runs runs;
	int rc = runs_init(&runs, options->pairs);
	if (rc < 0)
		return haul_err_set(err, rc, "no memory for %u pairs", options->pairs);
	if (bench->open)
		rc = bench->open(&session.ctx, err);
	if (rc >= 0) {
		if (bench->slow && options->sync_add_us > 0)
			bench->slow(session.ctx, options->sync_add_us);
		rc = cases_run(&session, &runs, &report, err);
		if (bench->close)
			bench->close(session.ctx);
	}
	runs_done(&runs);
	return rc;
}
