/* bench/bench.h — one way to compare: two arms, alternating in one run, median and spread.
 *
 * To add a bench: one file bench_<name>.c with one `const struct bench bench_<name>`, one line in
 * the table of bench.c and in meson.build.
 * Model: a bench is a list of cases; the harness runs the individual and the batched arm of each in
 * turn (A B B A …, the first arm alternating too), pairs of runs give ratios, and the median pair
 * is reported with the smallest and the largest. What else a run has to say goes into its note.
 * Nothing is timed outside the arms. A case that returns -ENOTSUP is shown as left out, with the
 * reason; any other failure, or a value of 0, ends the bench. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <haul/err.h>

struct json_t;

enum bench_arm { BENCH_INDIVIDUAL, BENCH_BATCHED };

struct bench_options {
	uint32_t pairs;        /* interleaved pairs, >= 5 for a figure that is quoted */
	double seconds;        /* length of one arm's run, where the bench is timed by duration */
	const char *only_case; /* NULL = all */
	int64_t sync_add_us;   /* added to each sync where the disk is to be slow; 0 = the bench's
				* own figure */
	bool json;
};

/* What one run of one arm gave: value 0 and the next two -1 before the run. */
struct bench_sample {
	double value;           /* in the case's unit */
	double syscalls_per_op; /* < 0 = not applicable */
	double fill_mean;       /* operations a batch, < 0 = not applicable */
	char note[128];         /* e.g. "p50 96 us p99 210 us", "retransmits 3"; may be empty */
};

struct bench_case {
	const char *name;     /* exactly as the goals name it: "udp_1472" */
	const char *unit;     /* "Gbit/s", "kpps", "ns/op" */
	bool lower_is_better; /* ns/op: ratio = individual / batched; else batched / individual */
	double goal;          /* ratio wanted, 0 = none stated */
	double excess_max;    /* instead, with lower_is_better: batched may be so much more */
	const char *arms;     /* what the two arms are: "sendto+recvfrom | UDP_SEGMENT+UDP_GRO" */
	int (*run)(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		   struct bench_sample *ret_sample, struct haul_err *err);
	uint64_t parameter; /* the bench's own: a size, a batch, a load level */
};

struct bench {
	const char *name; /* `haul bench <name>` */
	const char *help; /* one sentence */
	const struct bench_case *cases;
	uint32_t case_count;
	/* Set up what all cases share; may be NULL. -EPERM, -ENOTSUP with text skip the bench. */
	int (*open)(void **ret_ctx, struct haul_err *err);
	void (*close)(void *ctx);
	/* Of a bench with cases on a slowed disk; NULL = it has none. */
	void (*slow)(void *ctx, int64_t sync_add_us);
	/* More tables, shown behind the cases when all of those ran; may be NULL. Appends objects
	 * to the array tables: "table" a name, "what" a sentence, "columns" their names, "rows"
	 * arrays of texts, numbers and nulls. */
	int (*tables)(void *ctx, struct json_t *tables, struct haul_err *err);
};

/* All of them, NULL at the end. */
extern const struct bench *const bench_list[];

/* Run and print (a table, or the JSON object of docs/BENCH.md). 0, or a negative code. */
int bench_run(const struct bench *bench, const struct bench_options *options, struct haul_err *err);
