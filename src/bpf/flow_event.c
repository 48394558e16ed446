/* Connections as they open and close: one listener a table, by pid in the control map, so that one
 * that died is recognised and replaced. Events are copied out of the ring into batches. */
#include <bpf/libbpf.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "bpf/flow_state.h"

enum { EVENT_BATCH = 256 };

struct flow_ring {
	struct ring_buffer *buffer;
	void (*visit)(const struct haul_flow_event *events, uint32_t count, void *arg);
	void *arg;
	uint32_t count; /* in events */
	uint32_t seen;  /* by this poll */
	uint32_t pid;   /* that we are in the control map */
	struct haul_flow_event events[EVENT_BATCH];
};

static void ring_flush(struct flow_ring *ring)
{
	uint32_t count = ring->count;

	ring->count = 0;
	ring->seen += count;
	if (count > 0)
		ring->visit(ring->events, count, ring->arg);
}

static int ring_event(void *arg, void *data, size_t bytes)
{
	struct flow_ring *ring = arg;

	if (bytes < sizeof ring->events[0] || !ring->visit)
		return 0;
	memcpy(&ring->events[ring->count], data, sizeof ring->events[0]);
	if (++ring->count == EVENT_BATCH)
		ring_flush(ring);
	return 0;
}

/* Become the listener; 0, or -EBUSY with the pid of the one who is. */
static int listener_take(struct flow_control *control, uint32_t pid, uint32_t *ret_other)
{
	for (;;) {
		uint32_t other = __atomic_load_n(&control->listener, __ATOMIC_ACQUIRE);
		if (other == pid ||
		    (other != 0 && (kill((pid_t)other, 0) == 0 || errno != ESRCH))) {
			*ret_other = other;
			return -EBUSY;
		}
		if (__atomic_compare_exchange_n(&control->listener, &other, pid, false,
						__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			return 0;
	}
}

static struct flow_ring *ring_open(int events_fd)
{
	struct flow_ring *ring = calloc(1, sizeof *ring);

	if (!ring)
		return NULL;
	ring->buffer = ring_buffer__new(events_fd, ring_event, ring, NULL);
	if (!ring->buffer) {
		free(ring);
		return NULL;
	}
	return ring;
}

int haul_flows_listen(struct haul_flows *flows, struct haul_err *err)
{
	uint32_t pid = (uint32_t)getpid(), other = 0;
	struct flow_ring *ring;
	int rc;

	if (flows->ring)
		return haul_err_set(err, -EBUSY, "we listen already");
	ring = ring_open(flows->fd[FLOW_EVENTS]);
	if (!ring)
		return haul_err_set(err, -ENOMEM, "the event ring cannot be mapped");
	rc = listener_take(flows->control, pid, &other);
	if (rc < 0) {
		ring_buffer__free(ring->buffer);
		free(ring);
		return haul_err_set(err, rc,
				    "process %u listens to \"%s\" already: there can be "
				    "one only",
				    other, flows->info.name);
	}
	ring->pid = pid;
	flows->ring = ring;
	/* What was reported to a listener before us is not ours. */
	(void)ring_buffer__consume(ring->buffer);
	return 0;
}

void haul_flows_unlisten(struct haul_flows *flows)
{
	struct flow_ring *ring = flows->ring;
	uint32_t pid;

	if (!ring)
		return;
	flows->ring = NULL;
	pid = ring->pid;
	(void)__atomic_compare_exchange_n(&flows->control->listener, &pid, 0, false,
					  __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
	ring_buffer__free(ring->buffer);
	free(ring);
}

int haul_flows_poll(struct haul_flows *flows, int timeout_ms,
		    void (*visit)(const struct haul_flow_event *events, uint32_t count, void *arg),
		    void *arg)
{
	struct flow_ring *ring = flows->ring;
	int rc;

	HAUL_ASSERT(visit != NULL);
	if (!ring)
		return -EINVAL;
	ring->visit = visit;
	ring->arg = arg;
	ring->seen = 0;
	/* What is there already needs no wake-up. */
	rc = ring_buffer__consume(ring->buffer);
	if (rc == 0 && timeout_ms != 0)
		rc = ring_buffer__poll(ring->buffer, timeout_ms);
	ring_flush(ring);
	ring->visit = NULL;
	return rc < 0 ? rc : (int)ring->seen;
}
