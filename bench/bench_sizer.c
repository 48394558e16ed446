/* bench/bench_sizer.c — the four sizer policies under five loads, in simulated time.
 *
 * One sender with one queue: packets arrive at random (a Poisson process, or bursts), the gate says
 * when the queue is carried across and the sizer how much of it at most; one call costs a fixed
 * price and a price a packet. The prices are those measured for 1400-byte datagrams from
 * UDP_SEGMENT to UDP_GRO over veth: 2.2 us for a call with one packet, 4.1 million packets a second
 * with 46 of them. A call's time scatters by 10 % either way. Time, arrivals and scatter come from
 * one seed, so each run gives the same figures on any machine. The individual arm is the same
 * sender with batches of one. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <haul/batch.h>
#include "base/assert.h"
#include "base/prng.h"
#include "bench.h"
#include "os/os.h"

enum {
	PACKET_BYTES = 1400,
	OPS_MIN = 1,
	OPS_MAX = 64,
	QUEUE_PACKETS = 4096, /* a packet that finds it full is lost */
	LOADS = 5
};
#define CALL_NS   2000.0
#define PACKET_NS 200.0
#define SCATTER   0.1

/* Packets a second, in bursts of so many: idle, low, medium, high, burst. The first four are the
 * original's load levels (idle: "do not batch below 100"; low: below 1000; medium: below 10 000;
 * high: above, and here more than one at a time can carry). */
static const struct load {
	double per_s;
	uint32_t burst;
	uint32_t packets; /* simulated in all */
} loads[LOADS] = {
	{ 50.0, 1, 20000 },       { 500.0, 1, 20000 },    { 5000.0, 1, 20000 },
	{ 4000000.0, 1, 400000 }, { 64000.0, 64, 40000 },
};

struct sender {
	struct prng arrivals; /* apart, so that both arms see the same */
	struct prng scatter;
	struct haul_limits limits;
	struct haul_sizer sizer;
	const struct load *load;
	int64_t now_ns;
	double arrival_ns; /* of the next burst */
	uint32_t to_come;  /* packets still to arrive */
	uint32_t queued;
	uint32_t first; /* index of the oldest */
	uint64_t lost;
	struct haul_stats stats;
	struct haul_hist latency_ns;
	int64_t queue[QUEUE_PACKETS]; /* when each arrived */
};

/* The gap to the next burst: exponential, so that nothing is in step with anything. */
static double gap_ns(struct sender *s)
{
	double mean_ns = (double)NS_PER_S * s->load->burst / s->load->per_s;
	return -mean_ns * log(1.0 - prng_unit(&s->arrivals));
}

static void arrive(struct sender *s, int64_t when_ns)
{
	s->to_come--;
	if (s->queued == QUEUE_PACKETS)
		s->lost++;
	else
		s->queue[(s->first + s->queued++) % QUEUE_PACKETS] = when_ns;
}

static void admit(struct sender *s)
{
	while (s->to_come > 0 && (int64_t)s->arrival_ns <= s->now_ns) {
		for (uint32_t i = 0; i < s->load->burst && s->to_come > 0; i++)
			arrive(s, (int64_t)s->arrival_ns);
		s->arrival_ns += gap_ns(s);
	}
}

/* The packets at the front that one batch may hold. */
static uint32_t batch_ops(const struct sender *s)
{
	uint32_t ops = 0;
	while (ops < s->queued && ops < s->sizer.target &&
	       haul_limits_fit(&s->limits, ops, (uint64_t)ops * PACKET_BYTES, PACKET_BYTES))
		ops++;
	return ops;
}

static void carry(struct sender *s, uint32_t ops, enum haul_close reason)
{
	HAUL_ASSERT(ops >= 1 && ops <= s->queued);
	double scatter = 1.0 + SCATTER * (2.0 * prng_unit(&s->scatter) - 1.0);
	int64_t service_ns = (int64_t)((CALL_NS + PACKET_NS * ops) * scatter);
	int64_t wait_ns = s->now_ns - s->queue[s->first];
	s->now_ns += service_ns;
	for (uint32_t i = 0; i < ops; i++) {
		int64_t arrived_ns = s->queue[(s->first + i) % QUEUE_PACKETS];
		haul_hist_add(&s->latency_ns, (uint64_t)(s->now_ns - arrived_ns), 1);
	}
	s->first = (s->first + ops) % QUEUE_PACKETS;
	s->queued -= ops;
	haul_stats_batch(&s->stats,
			 &(struct haul_stats_batch){ .ops = ops,
						     .syscalls = 1,
						     .bytes = (uint64_t)ops * PACKET_BYTES,
						     .reason = reason,
						     .wait_ns = wait_ns,
						     .service_ns = service_ns });
	struct haul_sizer_sample sample = { ops, service_ns, s->now_ns };
	haul_sizer_update(&s->sizer, &sample);
}

static void simulate(struct sender *s)
{
	s->arrival_ns = gap_ns(s);
	while (s->to_come > 0 || s->queued > 0) {
		if (s->queued == 0 && s->now_ns < (int64_t)s->arrival_ns)
			s->now_ns = (int64_t)s->arrival_ns;
		admit(s);
		/* The call is over when the gate is asked: only a prediction can hold a batch. */
		uint32_t expected = haul_sizer_predict(&s->sizer, s->limits.wait_max_ns);
		uint32_t ops = batch_ops(s);
		struct haul_gate_input input = {
			.ops_queued = ops,
			.ops_target = s->sizer.target,
			.bytes_queued = (uint64_t)ops * PACKET_BYTES,
			.in_flight = expected >= 2 ? expected : 0,
			.first_ns = s->queue[s->first],
			.now_ns = s->now_ns,
			.manual = ops < s->queued || s->to_come == 0, /* no more would fit */
		};
		int64_t wake_ns;
		enum haul_close reason = haul_gate(&s->limits, &input, &wake_ns);
		if (reason != HAUL_CLOSE_NONE)
			carry(s, ops, reason);
		else
			s->now_ns =
				(int64_t)s->arrival_ns < wake_ns ? (int64_t)s->arrival_ns : wake_ns;
	}
}

static int sender_init(struct sender *s, const struct bench_case *self, enum bench_arm arm,
		       struct haul_err *err)
{
	enum haul_sizer_policy policy = (enum haul_sizer_policy)(self->parameter / LOADS);
	s->load = &loads[self->parameter % LOADS];
	s->to_come = s->load->packets;
	prng_init(&s->arrivals, self->parameter % LOADS + 1);
	prng_init(&s->scatter, self->parameter % LOADS + 1);
	s->limits = haul_limits_preset(HAUL_PRESET_BALANCED);
	s->limits.ops_max = arm == BENCH_BATCHED ? OPS_MAX : 1;
	haul_stats_init(&s->stats, self->name, NULL, 0);
	struct haul_sizer_options options = {
		.policy = arm == BENCH_BATCHED ? policy : HAUL_SIZER_FIXED,
		.ops_min = OPS_MIN,
		.ops_max = s->limits.ops_max,
		.ops_start = arm == BENCH_BATCHED ? s->limits.ops_start : 1,
		/* What a full batch of the balanced preset takes. */
		.service_target_ns = (int64_t)(CALL_NS + PACKET_NS * s->limits.ops_start),
	};
	return haul_sizer_init(&s->sizer, &options, err);
}

static int sizer_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		     struct bench_sample *ret_sample, struct haul_err *err)
{
	(void)ctx;
	(void)seconds; /* simulated: as many packets as the load states */
	struct sender *s = calloc(1, sizeof *s);
	if (!s)
		return haul_err_set(err, -ENOMEM, "no memory");
	int rc = sender_init(s, self, arm, err);
	if (rc >= 0) {
		simulate(s);
		ret_sample->value = (double)s->stats.ops / (double)s->now_ns * 1e6;
		ret_sample->syscalls_per_op = (double)s->stats.syscalls / (double)s->stats.ops;
		ret_sample->fill_mean = haul_hist_mean(&s->stats.fill);
		snprintf(ret_sample->note, sizeof ret_sample->note,
			 "p50 %.1f us, p99 %.1f us, lost %.1f %%, target %u",
			 (double)haul_hist_quantile(&s->latency_ns, 0.5) / 1e3,
			 (double)haul_hist_quantile(&s->latency_ns, 0.99) / 1e3,
			 100.0 * (double)s->lost / s->load->packets, s->sizer.target);
	}
	free(s);
	return rc;
}

#define ARMS "one packet a call | the policy's batches (simulated)"
#define CASE(policy_name, policy, load_name, load_index)                                           \
	{                                                                                          \
		.name = policy_name "_" load_name, .unit = "kpps", .arms = ARMS, .run = sizer_run, \
		.parameter = (uint64_t)(policy)*LOADS +                                            \
			     (load_index) /* as sender_init takes it apart */                      \
	}
#define POLICY(policy, policy_name)                                                                \
	CASE(policy_name, policy, "idle", 0), CASE(policy_name, policy, "low", 1),                 \
		CASE(policy_name, policy, "medium", 2), CASE(policy_name, policy, "high", 3),      \
		CASE(policy_name, policy, "burst", 4),

static const struct bench_case sizer_cases[] = { HAUL_SIZER_LIST(POLICY) };

const struct bench bench_sizer = {
	.name = "sizer",
	.help = "The four sizer policies under five loads, in simulated time",
	.cases = sizer_cases,
	.case_count = sizeof sizer_cases / sizeof *sizer_cases,
};
