/* The planner of haul/disk.h.
 *
 * Promise    Transfers come sorted, disjoint, none longer than bytes_max; together they hold every
 *            byte asked for, and of others only gaps of reads and what rounding to align adds.
 *            Time O(n log n), no memory but the caller's.
 * How        Indices are sorted by (offset, index): introsort, so that no order of requests makes
 *            it quadratic. One walk over the sorted spans then grows a transfer and closes it
 *            where the next span is too far, or does not fit. Such a cut is clean if no span
 *            crosses it; the last clean cut within the transfer is remembered, so that spans are
 *            split only where they overlap or are too long.
 *            Writes first become pieces that do not overlap: a sweep along the offsets with a heap
 *            of the requests that are open there, the latest request on top. A request enters the
 *            heap when the sweep has consumed its place in `order`, so the heap lives there.
 * Why        Each step of the sweep passes the start or the end of a request, and neighbours with
 *            one owner are joined: 2 n - 1 pieces at most. */
#include <errno.h>

#include <haul/disk.h>
#include "base/assert.h"

static const uint64_t OFFSET_LIMIT = UINT64_C(1) << 63;

enum { SORT_SMALL = 16 };

/* ---- sorting ---- */

static bool before(const struct haul_extent *requests, uint32_t a, uint32_t b)
{
	if (requests[a].offset != requests[b].offset)
		return requests[a].offset < requests[b].offset;
	return a < b;
}

static void swap(uint32_t *order, size_t a, size_t b)
{
	uint32_t kept = order[a];
	order[a] = order[b];
	order[b] = kept;
}

static void sort_insert(const struct haul_extent *requests, uint32_t *order, size_t count)
{
	for (size_t i = 1; i < count; i++) {
		uint32_t index = order[i];
		size_t at = i;
		for (; at > 0 && before(requests, index, order[at - 1]); at--)
			order[at] = order[at - 1];
		order[at] = index;
	}
}

static void sort_sift(const struct haul_extent *requests, uint32_t *order, size_t at, size_t count)
{
	for (size_t child = 2 * at + 1; child < count; child = 2 * at + 1) {
		if (child + 1 < count && before(requests, order[child], order[child + 1]))
			child++;
		if (!before(requests, order[at], order[child]))
			return;
		swap(order, at, child);
		at = child;
	}
}

static void sort_heap(const struct haul_extent *requests, uint32_t *order, size_t count)
{
	for (size_t i = count / 2; i > 0; i--)
		sort_sift(requests, order, i - 1, count);
	for (size_t left = count; left > 1; left--) {
		swap(order, 0, left - 1);
		sort_sift(requests, order, 0, left - 1);
	}
}

/* Around the median of three; both sides are never empty. Returns how many are in the first. */
static size_t sort_split(const struct haul_extent *requests, uint32_t *order, size_t count)
{
	size_t middle = count / 2, last = count - 1;
	if (before(requests, order[middle], order[0]))
		swap(order, middle, 0);
	if (before(requests, order[last], order[middle])) {
		swap(order, last, middle);
		if (before(requests, order[middle], order[0]))
			swap(order, middle, 0);
	}
	uint32_t pivot = order[middle];
	size_t low = 0, high = last;
	for (;;) {
		while (before(requests, order[low], pivot))
			low++;
		while (before(requests, pivot, order[high]))
			high--;
		if (low >= high)
			return high + 1;
		swap(order, low++, high--);
	}
}

static void sort(const struct haul_extent *requests, uint32_t *order, size_t count)
{
	struct {
		uint32_t *order;
		size_t count;
		uint32_t depth;
	} later[64], now;
	uint32_t waiting = 0;
	now.order = order;
	now.count = count;
	now.depth = 2 * (64 - (uint32_t)__builtin_clzll((uint64_t)count | 1));
	for (;;) {
		while (now.count > SORT_SMALL && now.depth > 0) {
			size_t first = sort_split(requests, now.order, now.count);
			HAUL_ASSERT(first >= 1 && first < now.count);
			/* The larger side waits: at most log2(count) of them do. */
			now.depth--;
			HAUL_ASSERT(waiting < 64);
			later[waiting] = now;
			if (first > now.count - first) {
				later[waiting].count = first;
				now.order += first;
				now.count -= first;
			} else {
				later[waiting].order += first;
				later[waiting].count -= first;
				now.count = first;
			}
			waiting++;
		}
		if (now.count > SORT_SMALL)
			sort_heap(requests, now.order, now.count);
		else
			sort_insert(requests, now.order, now.count);
		if (waiting == 0)
			return;
		now = later[--waiting];
	}
}

/* order = all requests by offset, the empty ones behind. Returns how many are not empty, or
 * -EINVAL. */
static int64_t order_make(const struct haul_extent *requests, uint32_t count, uint32_t *order)
{
	uint32_t full = 0, empty = count;
	bool sorted = true;
	for (uint32_t i = 0; i < count; i++) {
		const struct haul_extent *request = &requests[i];
		if (request->offset > OFFSET_LIMIT ||
		    request->bytes > OFFSET_LIMIT - request->offset)
			return -EINVAL;
		if (request->bytes == 0) {
			order[--empty] = i;
			continue;
		}
		sorted = sorted && (full == 0 || before(requests, order[full - 1], i));
		order[full++] = i;
	}
	HAUL_ASSERT(full == empty);
	if (!sorted)
		sort(requests, order, full);
	return full;
}

/* ---- from sorted spans to transfers ---- */

struct walk {
	const struct haul_extent *requests; /* by order; or */
	const struct haul_piece *pieces;
	struct haul_plan *plan;
	uint32_t span_count;
	uint64_t span_mask; /* spans are rounded out to it: align - 1 */
	uint64_t cut_mask;  /* splits are at multiples of it: align - 1 */
	uint64_t bytes_max;
	uint64_t gap_max;

	uint32_t made;
	uint32_t first; /* no span before it ends behind `begin` */
	uint32_t next;  /* no span before it starts behind what is closed */

	uint64_t begin, end; /* the transfer that grows */
	uint64_t gap_bytes;
	uint64_t clean_end, clean_begin; /* the last clean cut in it, and where it goes on; 0, 0 */
	uint64_t clean_gap_bytes;        /* up to clean_end */
};

static inline void span_of(const struct walk *walk, uint32_t i, uint64_t *ret_begin,
			   uint64_t *ret_end)
{
	uint64_t offset, bytes;
	if (walk->pieces != NULL) {
		offset = walk->pieces[i].offset;
		bytes = walk->pieces[i].bytes;
	} else {
		HAUL_ASSERT(walk->requests != NULL);
		offset = walk->requests[walk->plan->order[i]].offset;
		bytes = walk->requests[walk->plan->order[i]].bytes;
	}
	*ret_begin = offset & ~walk->span_mask;
	*ret_end = (offset + bytes + walk->span_mask) & ~walk->span_mask;
}

/* The transfer begin … end is finished; what grows begins at `begin` from now on. */
static int walk_close(struct walk *walk, uint64_t end, uint64_t gap_bytes, uint64_t begin)
{
	HAUL_ASSERT(end > walk->begin && end - walk->begin <= walk->bytes_max);
	HAUL_ASSERT(begin >= end && gap_bytes < end - walk->begin);
	if (walk->made == walk->plan->transfers_max)
		return HAUL_EFULL;
	uint64_t span_begin, span_end;
	for (; walk->first < walk->span_count; walk->first++) {
		span_of(walk, walk->first, &span_begin, &span_end);
		if (span_end > walk->begin)
			break;
	}
	for (; walk->next < walk->span_count; walk->next++) {
		span_of(walk, walk->next, &span_begin, &span_end);
		if (span_begin >= end)
			break;
	}
	HAUL_ASSERT(walk->next > walk->first);
	walk->plan->transfers[walk->made++] = (struct haul_transfer){
		.offset = walk->begin,
		.bytes = end - walk->begin,
		.first = walk->first,
		.count = walk->next - walk->first,
		.gap_bytes = gap_bytes,
	};
	walk->begin = begin;
	walk->gap_bytes -= gap_bytes;
	walk->clean_end = walk->clean_begin = 0;
	return 0;
}

/* Bring what grows down to bytes_max. */
static int walk_trim(struct walk *walk)
{
	while (walk->end - walk->begin > walk->bytes_max) {
		int error;
		if (walk->clean_end > walk->begin) {
			/* The gap between is not bridged after all. */
			walk->gap_bytes -= walk->clean_begin - walk->clean_end;
			error = walk_close(walk, walk->clean_end, walk->clean_gap_bytes,
					   walk->clean_begin);
		} else {
			uint64_t cut = (walk->begin + walk->bytes_max) & ~walk->cut_mask;
			error = walk_close(walk, cut, walk->gap_bytes, cut);
		}
		if (error < 0)
			return error;
	}
	return 0;
}

static int walk_all(struct walk *walk)
{
	for (uint32_t i = 0; i < walk->span_count; i++) {
		uint64_t begin, end;
		int error = 0;
		span_of(walk, i, &begin, &end);
		if (i == 0) {
			walk->begin = begin;
			walk->end = end;
		} else if (begin > walk->end && begin - walk->end > walk->gap_max) {
			error = walk_close(walk, walk->end, walk->gap_bytes, begin);
			walk->end = end;
		} else {
			if (begin >= walk->end && (walk->end & walk->cut_mask) == 0) {
				walk->clean_end = walk->end;
				walk->clean_begin = begin;
				walk->clean_gap_bytes = walk->gap_bytes;
			}
			if (begin > walk->end)
				walk->gap_bytes += begin - walk->end;
			if (end > walk->end)
				walk->end = end;
		}
		if (error == 0)
			error = walk_trim(walk);
		if (error < 0)
			return error;
	}
	int error =
		walk->span_count > 0 ? walk_close(walk, walk->end, walk->gap_bytes, walk->end) : 0;
	if (error == 0)
		walk->plan->transfer_count = walk->made;
	return error;
}

static void limits_assert(const struct haul_plan_limits *limits)
{
	HAUL_ASSERT(limits->align >= 1 && (limits->align & (limits->align - 1)) == 0);
	HAUL_ASSERT(limits->bytes_max >= limits->align);
}

int haul_plan_reads(const struct haul_extent *requests, uint32_t count,
		    const struct haul_plan_limits *limits, struct haul_plan *plan)
{
	limits_assert(limits);
	int64_t full = order_make(requests, count, plan->order);
	if (full < 0)
		return (int)full;
	uint64_t mask = limits->align - 1;
	struct walk walk = {
		.requests = requests,
		.plan = plan,
		.span_count = (uint32_t)full,
		.span_mask = mask,
		.cut_mask = mask,
		.bytes_max = limits->bytes_max & ~mask,
		.gap_max =
			limits->gap_max < HAUL_DISK_GAP_MAX ? limits->gap_max : HAUL_DISK_GAP_MAX,
	};
	return walk_all(&walk);
}

/* ---- overlaps of writes ---- */

struct sweep {
	const struct haul_extent *requests;
	uint32_t *heap; /* the latest request on top */
	uint32_t heap_count;
	struct haul_piece *pieces;
	uint32_t pieces_max;
	uint32_t made;
};

static uint64_t end_of(const struct haul_extent *request)
{
	return request->offset + request->bytes;
}

static void heap_push(struct sweep *sweep, uint32_t index)
{
	uint32_t at = sweep->heap_count++;
	for (; at > 0 && sweep->heap[(at - 1) / 2] < index; at = (at - 1) / 2)
		sweep->heap[at] = sweep->heap[(at - 1) / 2];
	sweep->heap[at] = index;
}

static void heap_pop(struct sweep *sweep)
{
	HAUL_ASSERT(sweep->heap_count > 0);
	uint32_t index = sweep->heap[--sweep->heap_count];
	uint32_t count = sweep->heap_count, at = 0;
	for (uint32_t child = 1; child < count; child = 2 * at + 1) {
		if (child + 1 < count && sweep->heap[child] < sweep->heap[child + 1])
			child++;
		if (sweep->heap[child] <= index)
			break;
		sweep->heap[at] = sweep->heap[child];
		at = child;
	}
	sweep->heap[at] = index;
}

static int sweep_emit(struct sweep *sweep, uint32_t index, uint64_t begin, uint64_t end)
{
	HAUL_ASSERT(begin < end && begin >= sweep->requests[index].offset);
	struct haul_piece *last = sweep->made > 0 ? &sweep->pieces[sweep->made - 1] : NULL;
	if (last != NULL && last->request == index && last->offset + last->bytes == begin) {
		last->bytes += end - begin;
		return 0;
	}
	if (sweep->made == sweep->pieces_max)
		return HAUL_EFULL;
	sweep->pieces[sweep->made++] = (struct haul_piece){
		.offset = begin,
		.bytes = end - begin,
		.request = index,
		.request_skip = begin - sweep->requests[index].offset,
	};
	return 0;
}

/* order[0 … full - 1] is sorted by offset, and used up. */
static int sweep_all(struct sweep *sweep, const uint32_t *order, uint32_t full)
{
	const struct haul_extent *requests = sweep->requests;
	uint64_t at = 0;
	for (uint32_t i = 0; i < full || sweep->heap_count > 0;) {
		if (sweep->heap_count == 0)
			at = requests[order[i]].offset;
		while (i < full && requests[order[i]].offset <= at)
			heap_push(sweep, order[i++]);
		while (sweep->heap_count > 0 && end_of(&requests[sweep->heap[0]]) <= at)
			heap_pop(sweep);
		if (sweep->heap_count == 0)
			continue;
		HAUL_ASSERT(sweep->heap_count <= i);
		uint64_t until = end_of(&requests[sweep->heap[0]]);
		if (i < full && requests[order[i]].offset < until)
			until = requests[order[i]].offset;
		int error = sweep_emit(sweep, sweep->heap[0], at, until);
		if (error < 0)
			return error;
		at = until;
	}
	return 0;
}

int haul_plan_writes(const struct haul_extent *requests, uint32_t count,
		     const struct haul_plan_limits *limits, struct haul_plan *plan)
{
	limits_assert(limits);
	int64_t full = order_make(requests, count, plan->order);
	if (full < 0)
		return (int)full;
	struct sweep sweep = {
		.requests = requests,
		.heap = plan->order,
		.pieces = plan->pieces,
		.pieces_max = plan->pieces_max,
	};
	int error = sweep_all(&sweep, plan->order, (uint32_t)full);
	if (error < 0)
		return error;
	struct walk walk = {
		.pieces = plan->pieces,
		.plan = plan,
		.span_count = sweep.made,
		.cut_mask = (uint64_t)limits->align - 1,
		.bytes_max = limits->bytes_max,
	};
	error = walk_all(&walk);
	if (error == 0)
		plan->piece_count = sweep.made;
	return error;
}
