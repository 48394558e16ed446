#include "store/hnsw.h"

#include <string.h>

#include "base/hash.h"

/* What stands at a slot. */
struct links {
	uint32_t upper; /* first of its records of the levels above */
	uint32_t level;
	uint32_t count;
	uint32_t slot[HNSW_LINKS_BOTTOM];
};
struct links_upper {
	uint32_t count;
	uint32_t slot[HNSW_LINKS];
};
enum {
	LINKS_CHUNK = VECTOR_CHUNK / sizeof(struct links),
	UPPER_CHUNK = VECTOR_CHUNK / sizeof(struct links_upper),
	CANDIDATES = HNSW_VISITS_MAX,
};

struct near {
	float distance;
	uint32_t slot;
};

/* A search of one level. */
struct scratch {
	uint32_t *visited; /* slots + 1, open addressing */
	uint32_t visited_slots, visits;
	struct near *open; /* heap, nearest on top */
	uint32_t open_count;
	struct near *best; /* heap, farthest on top; then sorted */
	uint32_t best_count;
	struct near *few; /* of HNSW_LINKS_BOTTOM + 1 and more */
};
static_assert(HNSW_VISITS_MAX * 2 * sizeof(uint32_t) + CANDIDATES * sizeof(struct near) +
			      (HNSW_WIDTH_MAX + HNSW_WIDTH_MAX + 1) * sizeof(struct near) <=
		      HNSW_SCRATCH,
	      "the scratch holds a search");

/* What distances are measured from: a row of the set, or a query. */
struct origin {
	const struct hnsw *hnsw;
	struct knn_rows row; /* of the set; count 0: a query */
	const struct knn *knn;
	uint32_t query;
};

void hnsw_init(struct hnsw *hnsw, struct vector_set *set, const struct knn_kernels *kernels,
	       enum haul_metric metric)
{
	*hnsw = (struct hnsw){ .set = set, .kernels = kernels, .metric = metric, .graph = metric };
	HAUL_ASSERT(hnsw->graph < VECTOR_GRAPHS);
}

/* ---- links ---- */

static struct links *links_of(const struct hnsw *hnsw, uint32_t slot)
{
	uint8_t *chunk = hnsw->set->chunks->links[hnsw->graph][slot / LINKS_CHUNK];

	return (struct links *)(void *)chunk + slot % LINKS_CHUNK;
}

static struct links_upper *upper_of(const struct hnsw *hnsw, uint32_t record)
{
	uint8_t *chunk = hnsw->set->chunks->upper[hnsw->graph][record / UPPER_CHUNK];

	return (struct links_upper *)(void *)chunk + record % UPPER_CHUNK;
}

/* Links of a slot on a level, and how many there may be. */
static uint32_t *links_at(const struct hnsw *hnsw, uint32_t slot, uint32_t level,
			  uint32_t **ret_count)
{
	struct links *links = links_of(hnsw, slot);

	HAUL_ASSERT(level <= links->level);
	if (level == 0) {
		*ret_count = &links->count;
		return links->slot;
	}
	struct links_upper *upper = upper_of(hnsw, links->upper + level - 1);
	*ret_count = &upper->count;
	return upper->slot;
}

static uint32_t links_max(uint32_t level)
{
	return level == 0 ? HNSW_LINKS_BOTTOM : HNSW_LINKS;
}

static int chunk_more(struct hnsw *hnsw, uint8_t **chunks, uint32_t *count, uint32_t max)
{
	if (*count == max || vector_pool_left(hnsw->set->pool) <= VECTOR_RESERVE)
		return HAUL_EFULL;
	chunks[*count] = vector_set_chunk(hnsw->set);
	if (chunks[*count] == NULL)
		return HAUL_EFULL;
	++*count;
	return 0;
}

/* Chunks for a slot and its records of `level` levels. */
static int links_room(struct hnsw *hnsw, uint32_t slot, uint32_t level)
{
	struct vector_chunks *chunks = hnsw->set->chunks;
	int error = 0;

	while (error == 0 && hnsw->link_chunks <= slot / LINKS_CHUNK)
		error = chunk_more(hnsw, chunks->links[hnsw->graph], &hnsw->link_chunks,
				   VECTOR_CHUNKS_LINKS);
	while (error == 0 &&
	       (uint64_t)hnsw->upper_chunks * UPPER_CHUNK < (uint64_t)hnsw->upper_used + level)
		error = chunk_more(hnsw, chunks->upper[hnsw->graph], &hnsw->upper_chunks,
				   VECTOR_CHUNKS_UPPER);
	return error;
}

/* ---- distances ---- */

static float distance_to(const struct origin *origin, uint32_t slot)
{
	const struct hnsw *hnsw = origin->hnsw;
	const struct knn_rows row = vector_set_rows(hnsw->set, slot);
	float distance = 0;

	if (origin->row.count == 0) {
		knn_distances(origin->knn, origin->query, &row, &distance);
		return distance;
	}
	if (hnsw->metric == HAUL_EUCLIDEAN) {
		hnsw->kernels->squares(origin->row.data, row.data, hnsw->set->floats, 1, &distance);
		return distance;
	}
	hnsw->kernels->products(origin->row.data, row.data, hnsw->set->floats, 1, &distance);
	return knn_cosine(distance, origin->row.norms, row.norms);
}

static struct origin origin_slot(const struct hnsw *hnsw, uint32_t slot)
{
	return (struct origin){ .hnsw = hnsw, .row = vector_set_rows(hnsw->set, slot) };
}

/* Rows that will be measured: the first lines of each; the rest follows by itself. gcc leaves out
 * calls of what only fetches ahead, so it has to be inlined before. */
static inline __attribute__((always_inline)) void row_prefetch(const struct hnsw *hnsw,
							       uint32_t slot)
{
	const char *row = (const char *)vector_set_row(hnsw->set, slot);

	for (uint32_t line = 0; line < 4 && line * 16 < hnsw->set->floats; line++)
		__builtin_prefetch(row + (size_t)line * 64);
}

/* ---- heaps ---- */

static inline bool nearer(const struct near *a, const struct near *b)
{
	return a->distance < b->distance || (a->distance == b->distance && a->slot < b->slot);
}

/* sign: whether the nearest is on top, or the farthest. */
static inline bool above(const struct near *a, const struct near *b, bool nearest)
{
	return nearest ? nearer(a, b) : nearer(b, a);
}

static inline void heap_push(struct near *heap, uint32_t *count, struct near item, bool nearest)
{
	uint32_t at = (*count)++;

	for (; at > 0 && above(&item, &heap[(at - 1) / 2], nearest); at = (at - 1) / 2)
		heap[at] = heap[(at - 1) / 2];
	heap[at] = item;
}

static inline struct near heap_pop(struct near *heap, uint32_t *count, bool nearest)
{
	const struct near top = heap[0], item = heap[--*count];
	uint32_t at = 0;

	for (uint32_t child; (child = at * 2 + 1) < *count; at = child) {
		if (child + 1 < *count && above(&heap[child + 1], &heap[child], nearest))
			child++;
		if (!above(&heap[child], &item, nearest))
			break;
		heap[at] = heap[child];
	}
	heap[at] = item;
	return top;
}

/* Nearest first. */
static void best_sort(struct scratch *scratch)
{
	uint32_t count = scratch->best_count;

	while (count > 0) {
		const uint32_t last = count - 1;
		scratch->best[last] = heap_pop(scratch->best, &count, false);
	}
}

/* ---- searching a level ---- */

static struct scratch scratch_in(uint8_t *memory)
{
	struct scratch scratch = { .visited = (uint32_t *)(void *)memory };

	scratch.open = (struct near *)(void *)(scratch.visited + (size_t)HNSW_VISITS_MAX * 2);
	scratch.best = scratch.open + CANDIDATES;
	scratch.few = scratch.best + HNSW_WIDTH_MAX;
	return scratch;
}

static void scratch_clear(struct scratch *scratch, uint32_t width)
{
	uint32_t slots = 1024;

	while (slots < width * 128U && slots < HNSW_VISITS_MAX * 2)
		slots *= 2;
	memset(scratch->visited, 0, slots * sizeof *scratch->visited);
	scratch->visited_slots = slots;
	scratch->visits = scratch->open_count = scratch->best_count = 0;
}

/* Whether it is the first time; false too if no more can be noted. */
static inline bool visit(struct scratch *scratch, uint32_t slot)
{
	uint32_t at = (uint32_t)hash_u64(slot + 1) & (scratch->visited_slots - 1);

	while (scratch->visited[at] != 0) {
		if (scratch->visited[at] == slot + 1)
			return false;
		at = (at + 1) & (scratch->visited_slots - 1);
	}
	if (scratch->visits >= scratch->visited_slots / 2)
		return false;
	scratch->visited[at] = slot + 1;
	scratch->visits++;
	return true;
}

static inline void found(struct scratch *scratch, struct near item, uint32_t width, bool counts)
{
	heap_push(scratch->open, &scratch->open_count, item, true);
	if (!counts)
		return;
	if (scratch->best_count == width)
		(void)heap_pop(scratch->best, &scratch->best_count, false);
	heap_push(scratch->best, &scratch->best_count, item, false);
}

struct level_search {
	const struct origin *origin;
	uint32_t level, width;
	bool live; /* rows that were dropped lead on, but do not count */
};

static void level_expand(const struct level_search *search, struct scratch *scratch, uint32_t slot)
{
	const struct hnsw *hnsw = search->origin->hnsw;
	uint32_t *count, fresh[HNSW_LINKS_BOTTOM], fresh_count = 0;
	const uint32_t *links = links_at(hnsw, slot, search->level, &count);

	for (uint32_t i = 0; i < *count; i++) {
		if (!visit(scratch, links[i]))
			continue;
		row_prefetch(hnsw, links[i]);
		fresh[fresh_count++] = links[i];
	}
	for (uint32_t i = 0; i < fresh_count; i++) {
		const struct near item = { distance_to(search->origin, fresh[i]), fresh[i] };
		const bool full = scratch->best_count == search->width;
		if (full && !nearer(&item, &scratch->best[0]))
			continue;
		found(scratch, item, search->width,
		      !search->live || vector_set_id(hnsw->set, fresh[i]) != 0);
	}
}

/* The nearest of a level, from one slot on; best is sorted then. */
static void level_search(const struct level_search *search, struct scratch *scratch, uint32_t from)
{
	const struct hnsw *hnsw = search->origin->hnsw;
	const struct near first = { distance_to(search->origin, from), from };

	scratch_clear(scratch, search->width);
	(void)visit(scratch, from);
	found(scratch, first, search->width, !search->live || vector_set_id(hnsw->set, from) != 0);
	while (scratch->open_count > 0) {
		const struct near item = heap_pop(scratch->open, &scratch->open_count, true);
		if (scratch->best_count == search->width && nearer(&scratch->best[0], &item))
			break;
		level_expand(search, scratch, item.slot);
	}
	best_sort(scratch);
}

/* Down to a level, each time to the nearest link as long as one is nearer. */
static uint32_t descend(const struct origin *origin, uint32_t level)
{
	const struct hnsw *hnsw = origin->hnsw;
	struct near at = { distance_to(origin, hnsw->entry), hnsw->entry };

	for (uint32_t l = hnsw->top; l > level; l--) {
		for (bool moved = true; moved;) {
			uint32_t *count;
			const uint32_t *links = links_at(hnsw, at.slot, l, &count);
			moved = false;
			for (uint32_t i = 0; i < *count; i++) {
				const struct near to = { distance_to(origin, links[i]), links[i] };
				moved = moved || nearer(&to, &at);
				at = nearer(&to, &at) ? to : at;
			}
		}
	}
	return at.slot;
}

/* ---- taking a row in ---- */

/* Of items, nearest first, those that no item chosen before is nearer to than the origin is: links
 * in all directions instead of many into the same heap. An item that is the same as the origin does
 * not take the place of all others. Returns how many, in front. */
static uint32_t choose(const struct hnsw *hnsw, struct near *items, uint32_t count, uint32_t max)
{
	uint32_t chosen = 0;

	for (uint32_t i = 0; i < count && chosen < max; i++) {
		const struct origin origin = origin_slot(hnsw, items[i].slot);
		const struct near item = items[i];
		bool apart = true;
		for (uint32_t c = 0; c < chosen && apart; c++)
			apart = distance_to(&origin, items[c].slot) >= item.distance;
		if (apart)
			items[chosen++] = item;
	}
	return chosen;
}

/* A link back; when there are too many the best are chosen anew. */
static void link_back(const struct hnsw *hnsw, struct scratch *scratch, uint32_t level,
		      struct near from, uint32_t to)
{
	uint32_t *count, *links = links_at(hnsw, from.slot, level, &count);
	const uint32_t max = links_max(level);

	if (*count < max) {
		links[(*count)++] = to;
		return;
	}
	const struct origin origin = origin_slot(hnsw, from.slot);
	struct near *few = scratch->few;
	uint32_t few_count = 0;
	heap_push(few, &few_count, (struct near){ from.distance, to }, false);
	for (uint32_t i = 0; i < max; i++)
		heap_push(few, &few_count,
			  (struct near){ distance_to(&origin, links[i]), links[i] }, false);
	for (uint32_t left = few_count; left > 0;) {
		const uint32_t last = left - 1;
		few[last] = heap_pop(few, &left, false);
	}
	*count = choose(hnsw, few, few_count, max);
	for (uint32_t i = 0; i < *count; i++)
		links[i] = few[i].slot;
}

static uint32_t level_of(uint64_t id)
{
	const uint64_t hash = hash_u64(id);
	const uint32_t level = hash == 0 ? 0 : (uint32_t)__builtin_ctzll(hash) / 4;

	return level < HNSW_LEVELS ? level : HNSW_LEVELS - 1;
}

static void level_add(struct hnsw *hnsw, struct scratch *scratch, const struct origin *origin,
		      uint32_t level, uint32_t *from)
{
	const uint32_t slot = hnsw->taken;
	const struct level_search search = { .origin = origin,
					     .level = level,
					     .width = HNSW_ADD_WIDTH };

	level_search(&search, scratch, *from);
	*from = scratch->best[0].slot;
	const uint32_t chosen = choose(hnsw, scratch->best, scratch->best_count, HNSW_LINKS);
	uint32_t *count, *links = links_at(hnsw, slot, level, &count);
	*count = chosen;
	for (uint32_t i = 0; i < chosen; i++)
		links[i] = scratch->best[i].slot;
	for (uint32_t i = 0; i < chosen; i++)
		link_back(hnsw, scratch, level, scratch->best[i], slot);
}

int hnsw_add(struct hnsw *hnsw, uint8_t *scratch)
{
	struct scratch work = scratch_in(scratch);
	const uint32_t slot = hnsw->taken, level = level_of(vector_set_id(hnsw->set, slot));
	const struct origin origin = origin_slot(hnsw, slot);
	const int error = links_room(hnsw, slot, level);

	HAUL_ASSERT(slot < hnsw->set->slots);
	if (error < 0)
		return error;
	struct links *links = links_of(hnsw, slot);
	*links = (struct links){ .upper = hnsw->upper_used, .level = level };
	for (uint32_t l = 0; l < level; l++)
		upper_of(hnsw, links->upper + l)->count = 0;
	/* What was dropped before has no place in the graph. */
	if (vector_set_id(hnsw->set, slot) != 0) {
		hnsw->upper_used += level;
		uint32_t from = hnsw->entry;
		if (hnsw->any && level < hnsw->top)
			from = descend(&origin, level);
		for (uint32_t l = level < hnsw->top ? level : hnsw->top; hnsw->any; l--) {
			level_add(hnsw, &work, &origin, l, &from);
			if (l == 0)
				break;
		}
		if (!hnsw->any || level > hnsw->top) {
			hnsw->top = level;
			hnsw->entry = slot;
		}
		hnsw->any = true;
	}
	if (hnsw->set->named < slot + 1)
		hnsw->set->named = slot + 1;
	__atomic_store_n(&hnsw->taken, slot + 1, __ATOMIC_RELEASE);
	return 0;
}

/* ---- searching ---- */

int hnsw_search(const struct hnsw *hnsw, const struct hnsw_query *query, uint8_t *scratch)
{
	struct scratch work = scratch_in(scratch);
	const struct origin origin = { .hnsw = hnsw, .knn = query->knn, .query = query->query };
	const struct level_search search = {
		.origin = &origin, .level = 0, .width = query->width, .live = true
	};

	HAUL_ASSERT(query->width >= 1 && query->width <= HNSW_WIDTH_MAX);
	if (!hnsw->any)
		return 0;
	level_search(&search, &work, descend(&origin, 0));
	if (work.visits >= work.visited_slots / 2)
		return HAUL_EFULL;
	for (uint32_t i = 0; i < work.best_count; i++) {
		const struct near *near = &work.best[i];
		if (near->slot < query->known)
			knn_offer(query->knn, query->query, vector_set_id(hnsw->set, near->slot),
				  near->distance);
	}
	return 0;
}
