/* haul/batch.h — when a batch closes, and how large it may grow.
 *
 * Model      Operations are queued; the gate decides when the queue is closed and carried across an
 *            expensive boundary (a syscall, a sync, a round trip) in one go. The gate is a pure
 *            function of what is queued, what is in flight and the time. A sizer learns from each
 *            closed batch how large the next may grow; its target bounds the work of one turn and
 *            by itself never makes anything wait. An operation alone never waits: with nothing in
 *            flight the gate closes at once.
 * Units      ops are operations, _bytes bytes, _ns nanoseconds of any one monotonic clock.
 * Ownership  plain structs of the caller's; no pointers inside.
 * Memory     none.
 * Threads    the gate is pure; one thread at a time a sizer.
 * Errors     haul_limits_check and haul_sizer_init: -EINVAL.
 * Limits     HAUL_BATCH_OPS_MAX operations a batch.
 * Source     presets: the numbers of the systems haul grew from (docs/design/0002). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <haul/api.h>
#include <haul/err.h>
#include <haul/stats.h>

enum { HAUL_BATCH_OPS_MAX = 65536 };

struct haul_limits {
	uint32_t ops_max;    /* >= 1: closes when so many are queued */
	uint32_t bytes_max;  /* >= 1: a byte limit always stands beside the op limit */
	int64_t wait_max_ns; /* >= 0: longest the first operation may wait; 0 = never waits */
	uint32_t ops_start;  /* >= 1, <= ops_max: the sizer's first target ("flush threshold") */
};

/* X(id, name, ops_max, bytes_max, wait_max_ns, ops_start) */
#define HAUL_PRESET_LIST(X)                                                                        \
	X(HAUL_PRESET_LOW_LATENCY, "low-latency", 8, 65507, 0, 8)                                  \
	X(HAUL_PRESET_BALANCED, "balanced", 16, 65507, 1000000, 16)                                \
	X(HAUL_PRESET_THROUGHPUT, "throughput", 32, 65507, 5000000, 32)                            \
	X(HAUL_PRESET_DISK, "disk", 32, 4194304, 1000000, 32)                                      \
	X(HAUL_PRESET_STORE, "store", 8192, 1048576, 10000000, 100)

enum haul_preset {
#define X(id, name, ops, bytes, wait, start) id,
	HAUL_PRESET_LIST(X)
#undef X
		HAUL_PRESETS
};

HAUL_API struct haul_limits haul_limits_preset(enum haul_preset preset);
HAUL_API const char *haul_preset_name(enum haul_preset preset);
/* -EINVAL if there is no preset of that name. */
HAUL_API int haul_preset_by_name(const char *name, enum haul_preset *ret_preset);
HAUL_API int haul_limits_check(const struct haul_limits *limits, struct haul_err *err);

/* Whether one more operation may join what is queued; if not, the batch is carried across first
 * (HAUL_CLOSE_OPS or HAUL_CLOSE_BYTES). An operation over bytes_max by itself travels alone. */
static inline bool haul_limits_fit(const struct haul_limits *limits, uint32_t ops_queued,
				   uint64_t bytes_queued, uint64_t op_bytes)
{
	return ops_queued == 0 ||
	       (ops_queued < limits->ops_max && bytes_queued + op_bytes <= limits->bytes_max);
}

struct haul_gate_input {
	uint32_t ops_queued;
	uint32_t ops_target; /* sizer's target; 0 = limits.ops_max */
	uint64_t bytes_queued;
	uint32_t in_flight; /* batches on their way downstream, or arrivals predicted to pay */
	int64_t first_ns;   /* when the oldest queued operation was queued */
	int64_t now_ns;
	bool barrier; /* something must see the batch done before it can go on */
	bool manual;  /* flush() was called */
};

/* Pure. Returns HAUL_CLOSE_NONE while the batch stays open, and only then sets *ret_deadline_ns:
 * the one moment to ask again at the latest (INT64_MAX when nothing is queued). An empty batch
 * never closes. When several reasons hold, the first in this order is told: ops, bytes, manual,
 * barrier, idle, deadline. So "deadline" is told only of a batch that something made wait. */
HAUL_API enum haul_close haul_gate(const struct haul_limits *limits,
				   const struct haul_gate_input *input, int64_t *ret_deadline_ns);

/* X(id, name) */
#define HAUL_SIZER_LIST(X)                                                                         \
	X(HAUL_SIZER_FIXED, "fixed") /* stays at ops_start */                                      \
	X(HAUL_SIZER_FILL, "fill")   /* moving average of fill: >= 80 % doubles, <= 30 % halves */ \
	X(HAUL_SIZER_SERVICE, "service") /* service time: > 2x target halves, < 1/2 doubles */     \
	X(HAUL_SIZER_MODEL, "model")     /* learns fixed cost, cost per operation, arrival rate */

enum haul_sizer_policy {
#define X(id, name) id,
	HAUL_SIZER_LIST(X)
#undef X
		HAUL_SIZER_POLICIES
};

struct haul_sizer_options {
	enum haul_sizer_policy policy;
	uint32_t ops_min;          /* >= 1 */
	uint32_t ops_max;          /* >= ops_min */
	uint32_t ops_start;        /* within the two */
	int64_t service_target_ns; /* SERVICE: wanted time a batch; 0 = 1 ms */
	double fixed_share_max;    /* MODEL: fixed cost may take this share of a batch; 0 = 0.1 */
};

/* What one closed batch taught. */
struct haul_sizer_sample {
	uint32_t ops;       /* operations in it */
	int64_t service_ns; /* time to carry it across; < 0 = not measured */
	int64_t now_ns;     /* when it closed */
};

struct haul_sizer {
	struct haul_sizer_options options;
	uint32_t target;                            /* current target, ops_min … ops_max */
	double fill_ema;                            /* FILL: average ops / target */
	double service_ema_ns;                      /* SERVICE */
	double fixed_ns;                            /* MODEL: learnt fixed cost of a batch */
	double per_op_ns;                           /* MODEL: learnt cost of an operation */
	double ops_per_ns;                          /* MODEL: learnt arrival rate */
	double sum_w, sum_n, sum_t, sum_nn, sum_nt; /* MODEL: decayed least squares */
	uint32_t off_count;                         /* MODEL: batches in a row that were far off */
	double sum_ops, sum_ns; /* MODEL: decayed arrivals, and the time they took */
	uint32_t settled;       /* MODEL: target, except while one batch of another size is tried */
	int64_t last_ns;        /* when the last batch closed, INT64_MIN before */
	uint64_t adjustments;   /* how often target changed */
};

HAUL_API const char *haul_sizer_policy_name(enum haul_sizer_policy policy);
HAUL_API int haul_sizer_policy_by_name(const char *name, enum haul_sizer_policy *ret_policy);
HAUL_API int haul_sizer_init(struct haul_sizer *sizer, const struct haul_sizer_options *options,
			     struct haul_err *err);
/* Learn from one closed batch; returns the new target. */
HAUL_API uint32_t haul_sizer_update(struct haul_sizer *sizer,
				    const struct haul_sizer_sample *sample);
/* How many operations the model expects to arrive within wait_ns of now; the caller passes it to
 * the gate as in_flight only when >= 2, so a lone operation is not held. 0 while waiting buys
 * nothing: the boundary would be free more than half of the time even if each operation crossed
 * alone. 0 for other policies. */
HAUL_API uint32_t haul_sizer_predict(const struct haul_sizer *sizer, int64_t wait_ns);
