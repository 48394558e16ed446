/* bpf/progs/flow_sweep.h — remove what has been silent for too long, losing nothing.
 *
 * Model      A visit of a shard goes over all its entries. Expired and LIVE: marked with the number
 *            of the sweep. MARKED in a sweep before: no packet has come since, and no program that
 *            found the entry LIVE still runs, so that it is made DEAD (a packet may still win that
 *            race: then it lives), reported, added to "removed", and deleted.
 *            The timer's sweeps and those by system call draw their numbers from two ranges, and
 *            the timer rests for FLOW_PAUSE_NS after each of the latter: so "another number" means
 *            "before". For the timer at least a tick lies between (a round has one tick more than
 *            there are shards), which must be long against the time a packet takes; who calls
 *            waits for a grace period.
 * Why        the ring's room is taken before the entry is made DEAD: an entry that cannot be
 *            reported stays in the table, where packets still find it. */
#pragma once

#include "bpf/progs/flow_count.h"

#ifdef __bpf__

enum { FLOW_GENERATION_MASK = 0x7fffff, FLOW_GENERATION_CALL = 0x800000, FLOW_LIFE_BITS = 8 };

struct bpf_map;

struct flow_visit {
	__u64 now;
	__u64 cutoff;
	__u32 mark;
	__u32 harvest;
	__u32 generation;
	__u32 listener;
	__u32 timer; /* not by system call */
	__u32 reserved;
	__u64 visited;
	__u64 marked;
	__u64 removed;
	__u64 held;
};

/* A mask instead of a comparison: the verifier follows it. */
static __always_inline __u64 flow_timeout(__u8 state)
{
	_Static_assert((HAUL_FLOW_STATES & (HAUL_FLOW_STATES - 1)) == 0, "a power of two");
	return flow_config.timeout_ns[state & (HAUL_FLOW_STATES - 1)];
}

static __always_inline void flow_removed(const struct haul_flow_value *value, int reported)
{
	struct flow_totals *totals = flow_totals();
	if (!totals)
		return;
	flow_add(totals, HAUL_FLOW_T_REMOVED, value->packets[0] + value->packets[1]);
	flow_add(totals, HAUL_FLOW_T_REMOVED_BYTES, value->bytes[0] + value->bytes[1]);
	flow_add(totals, HAUL_FLOW_T_CLOSED, 1);
	if (reported)
		flow_add(totals, HAUL_FLOW_T_REPORTED, 1);
	else
		flow_add(totals, HAUL_FLOW_T_UNREPORTED, 1);
}

static __always_inline int flow_kill(struct haul_flow_value *value, __u32 life)
{
	__u32 dead = (life & ~(__u32)FLOW_LIFE_MASK) | HAUL_FLOW_DEAD;
	return __sync_val_compare_and_swap(&value->life, life, dead) == life;
}

static __always_inline void flow_harvest(struct bpf_map *map, const struct haul_flow_key *key,
					 struct haul_flow_value *value, struct flow_visit *visit)
{
	__u32 life = *(volatile __u32 *)&value->life;
	struct haul_flow_event *event = 0;
	if (visit->listener) {
		event = bpf_ringbuf_reserve(&events, sizeof *event, 0);
		__u64 expiry = value->last_ns + flow_timeout(value->state);
		if (!event && (__s64)(visit->now - expiry) <= (__s64)flow_config.hold_ns) {
			visit->held++;
			return;
		}
	}
	if ((life & FLOW_LIFE_MASK) != HAUL_FLOW_MARKED || !flow_kill(value, life)) {
		if (event)
			bpf_ringbuf_discard(event, 0);
		return;
	}
	flow_removed(value, !!event);
	if (event) {
		event->kind = HAUL_FLOW_EVENT_CLOSED;
		event->reserved = 0;
		event->key = *key;
		event->value = *value;
		bpf_ringbuf_submit(event, 0);
	}
	bpf_map_delete_elem(map, key);
	visit->removed++;
}

/* A call began while the timer was under way: what it marks is not the timer's. */
static __always_inline int flow_paused(__u64 now)
{
	__u32 zero = 0;
	struct flow_sweeper *own = bpf_map_lookup_elem(&sweeper, &zero);
	return !own || (__s64)(own->pause_until_ns - now) > 0;
}

static long flow_visit_entry(struct bpf_map *map, struct haul_flow_key *key,
			     struct haul_flow_value *value, struct flow_visit *visit)
{
	__u32 life = *(volatile __u32 *)&value->life;
	__u32 generation = life >> FLOW_LIFE_BITS;
	visit->visited++;
	if ((life & FLOW_LIFE_MASK) == HAUL_FLOW_MARKED) {
		if (!visit->harvest || generation == visit->generation)
			return 0;
		if (visit->timer && flow_paused(visit->now))
			return 1;
		flow_harvest(map, key, value, visit);
		return 0;
	}
	if (!visit->mark || (life & FLOW_LIFE_MASK) != HAUL_FLOW_LIVE)
		return 0;
	__u64 last = *(volatile __u64 *)&value->last_ns;
	if ((__s64)(visit->now - last) <= (__s64)flow_timeout(value->state) &&
	    last >= visit->cutoff)
		return 0;
	__u32 marked = visit->generation << FLOW_LIFE_BITS | HAUL_FLOW_MARKED;
	if (__sync_val_compare_and_swap(&value->life, life, marked) == life)
		visit->marked++;
	return 0;
}

static __always_inline void flow_visit_shard(__u32 shard, struct flow_visit *visit)
{
	struct flow_control *control = flow_control();
	struct flow_totals *totals = flow_totals();
	void *table = bpf_map_lookup_elem(&shards, &shard);
	if (!control || !totals || !table)
		return;
	visit->listener = control->listener;
	bpf_for_each_map_elem(table, flow_visit_entry, visit, 0);
	flow_add(totals, HAUL_FLOW_T_SWEEPS, 1);
	flow_add(totals, HAUL_FLOW_T_HELD, visit->held);
}

/* One shard a tick. The last thing it does is to wind itself up again, so it is never behind
 * itself. After a round an empty tick: what was marked at its end is not harvested at once. */
static int flow_tick(void *map, int *key, struct flow_sweeper *own)
{
	__u64 now = bpf_ktime_get_ns();
	if ((__s64)(own->pause_until_ns - now) <= 0) {
		if (own->shard > flow_config.shard_mask) {
			own->shard = 0;
			own->generation = (own->generation + 1) & FLOW_GENERATION_MASK;
		} else {
			struct flow_visit visit = { .now = now,
						    .mark = 1,
						    .harvest = 1,
						    .timer = 1,
						    .generation = own->generation };
			flow_visit_shard(own->shard, &visit);
			own->shard++;
		}
	}
	bpf_timer_start(&own->timer, flow_config.tick_ns, 0);
	return 0;
}
#endif
