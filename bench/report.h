/* bench/report.h — what the harness hands to whoever shows it: one row a case.
 * Ownership: names and units belong to the bench; a row holds its notes by value. */
#pragma once

#include <stdio.h>

#include "bench.h"

struct bench_row {
	const struct bench_case *of;
	struct bench_sample individual; /* of the median pair */
	struct bench_sample batched;
	double ratio; /* median of the pairs' ratios, > 1 is better */
	double ratio_min;
	double ratio_max;
	char left_out[256]; /* why the case could not run here; then all figures are 0 */
};

struct bench_report {
	const struct bench *bench;
	const struct bench_options *options;
	const struct bench_row *rows;
	uint32_t row_count;
	struct json_t *tables; /* of struct bench; NULL = none */
	double load;           /* of the machine when the bench began: its average of a minute */
};

/* A table for people. */
void report_table(const struct bench_report *report, FILE *out);
/* One JSON object, see docs/BENCH.md. -EIO, -ENOMEM. */
int report_json(const struct bench_report *report, FILE *out);
