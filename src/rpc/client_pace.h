/* rpc/client_pace.h — when the client closes the frame that it gathers: policies in front of the
 * gate and the sizer of haul/batch.h, which decide.
 *
 * Model      A policy chooses what the gate is told: its target, and what counts as in flight.
 *            fixed      the threshold as set, and always as if something were in flight, so that a
 *                       frame closes by threshold or deadline alone.
 *            seed       the threshold doubles when a frame is told in less than half of the wanted
 *                       millisecond, and halves when it takes more than two.
 *            selfclock  with nothing in flight at once; else when as much is gathered as is in
 *                       flight, so that frames in flight and what gathers meanwhile are alike.
 *            model      as selfclock; but with nothing in flight it waits when the arrival rate and
 *                       the cost of a frame, as learnt, say that waiting pays: for the square root
 *                       of 2 F / rate (F: what a frame costs, whatever is in it).
 * Units      _ns nanoseconds.
 * Threads    one at a time. Pure but for its own state: time is told.
 * Source     docs/design/0018. */
#pragma once

#include <haul/batch.h>
#include <haul/client.h>

struct pace {
	enum haul_client_policy policy;
	struct haul_limits limits;
	struct haul_sizer sizer;
	double ops_per_ns; /* arrivals, a moving average */
	int64_t told_ns;   /* when a frame was told last; INT64_MIN = never */
	uint32_t told_ops; /* changes in it */
	int64_t wait_ns;   /* chosen last */
};

int pace_init(struct pace *pace, enum haul_client_policy policy, const struct haul_limits *limits,
	      struct haul_err *err);

struct pace_input {
	uint32_t ops; /* gathered */
	uint64_t bytes;
	uint32_t in_flight;  /* frames; what is being told counts too */
	uint32_t flight_ops; /* changes in the last of them */
	int64_t first_ns, now_ns;
	bool barrier, manual;
};
/* As haul_gate. */
enum haul_close pace_ask(struct pace *pace, const struct pace_input *input,
			 int64_t *ret_deadline_ns);
/* A frame of so many changes has been told. */
void pace_told(struct pace *pace, uint32_t ops, int64_t service_ns, int64_t now_ns);
/* What a frame closes at now. */
uint32_t pace_threshold(const struct pace *pace);
