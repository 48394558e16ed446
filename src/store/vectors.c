/* Nearest embeddings: from a set in memory where there is one, else from the tree. */
#include "store/vectors.h"

#include <errno.h>
#include <stdlib.h>

#include "store/vectors_state.h"

/* ---- open, close ---- */

/* Who adds to a graph goes before searches that come after him, or many of them would keep him out
 * for ever. */
static void locks_init(struct vectors *vectors)
{
	pthread_rwlockattr_t adding;

	(void)pthread_rwlockattr_init(&adding);
	(void)pthread_rwlockattr_setkind_np(&adding, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	for (uint32_t i = 0; i < HAUL_EMBEDDING_INDEXES; i++) {
		(void)pthread_rwlock_init(&vectors->index[i].lock, NULL);
		(void)pthread_rwlock_init(&vectors->index[i].links, &adding);
	}
	(void)pthread_rwlockattr_destroy(&adding);
	(void)pthread_mutex_init(&vectors->ring_lock, NULL);
	(void)pthread_mutex_init(&vectors->step_lock, NULL);
}

int vectors_new(struct vectors **ret_vectors, uint64_t bytes)
{
	struct vectors *vectors = calloc(1, sizeof *vectors);

	if (vectors == NULL)
		return -ENOMEM;
	const int error = vector_pool_new(&vectors->pool, bytes);
	vectors->ring = calloc(VECTORS_STAGED_MAX, sizeof *vectors->ring);
	vectors->step_scratch = aligned_alloc(64, HNSW_SCRATCH);
	if (error < 0 || vectors->ring == NULL || vectors->step_scratch == NULL) {
		vector_pool_free(&vectors->pool);
		free(vectors->ring);
		free(vectors->step_scratch);
		free(vectors);
		return error < 0 ? error : -ENOMEM;
	}
	vectors->kernels = knn_kernels_best();
	locks_init(vectors);
	*ret_vectors = vectors;
	return 0;
}

void vectors_free(struct vectors *vectors)
{
	if (vectors == NULL)
		return;
	vector_pool_free(&vectors->pool);
	free(vectors->ring);
	free(vectors->step_scratch);
	free(vectors);
}

uint64_t vectors_memory(const struct vectors *vectors)
{
	return sizeof *vectors + (uint64_t)vectors->pool.count * VECTOR_CHUNK +
	       VECTORS_STAGED_MAX * sizeof *vectors->ring + HNSW_SCRATCH;
}

void vectors_stage(struct vectors *vectors, uint64_t op, uint32_t index, uint64_t node)
{
	HAUL_ASSERT(index < HAUL_EMBEDDING_INDEXES);
	(void)pthread_mutex_lock(&vectors->ring_lock);
	vectors->ring[vectors->ring_end++ % VECTORS_STAGED_MAX] =
		(struct staged){ .op = op, .node = node, .index = index };
	(void)pthread_mutex_unlock(&vectors->ring_lock);
	__atomic_store_n(&vectors->index[index].staged_op, op, __ATOMIC_RELEASE);
}

/* ---- a set to search ---- */

/* Held to be read or alone: whether it is what the state at op says, or a later one. */
static bool index_current(const struct vectors_index *of, uint64_t op)
{
	return of->filled &&
	       (of->op >= op || __atomic_load_n(&of->staged_op, __ATOMIC_ACQUIRE) <= of->op);
}

/* Whether a set that did not fit may do so now. */
static bool index_retry(struct vectors *vectors, struct vectors_index *of)
{
	return of->refused == 0 || vector_pool_left(&vectors->pool) > of->refused ||
	       ++of->refused_calls % VECTORS_RETRY == 0;
}

/* Held alone. 1: it can be searched; 0: it does not fit; negative. */
static int index_update(struct vectors *vectors, uint32_t index, const struct vectors_sight *sight)
{
	struct vectors_index *of = &vectors->index[index];
	int result = 1;

	__atomic_store_n(&of->filling, true, __ATOMIC_RELAXED);
	snapshot_take_long(sight->seen);
	if (!of->filled)
		result = index_retry(vectors, of) ? vectors_fill(vectors, index, sight) : 0;
	else if (!index_current(of, sight->seen->op))
		result = vectors_apply(vectors, index, sight);
	snapshot_drop(sight->seen);
	__atomic_store_n(&of->filling, false, __ATOMIC_RELAXED);
	return result;
}

/* The set, held to be read; *ret_of NULL: the tree has to be compared. Nobody waits for a set with
 * a view in his hands: it may take as long as somebody else's search. */
static int index_take(struct vectors *vectors, const struct vectors_sight *sight, uint32_t index,
		      struct vectors_index **ret_of)
{
	struct vectors_index *of = &vectors->index[index];

	*ret_of = NULL;
	snapshot_take(sight->seen);
	snapshot_drop(sight->seen);
	const uint64_t op = sight->seen->op;
	__atomic_store_n(&of->used, __atomic_add_fetch(&vectors->searches, 1, __ATOMIC_RELAXED),
			 __ATOMIC_RELAXED);
	/* Somebody else may take its memory in between; then so be it. */
	for (int attempts = 0; attempts < 3; attempts++) {
		if (__atomic_load_n(&of->filling, __ATOMIC_RELAXED))
			return 0;
		(void)pthread_rwlock_rdlock(&of->lock);
		if (index_current(of, op)) {
			*ret_of = of;
			return 0;
		}
		(void)pthread_rwlock_unlock(&of->lock);
		(void)pthread_rwlock_wrlock(&of->lock);
		const int result = index_update(vectors, index, sight);
		(void)pthread_rwlock_unlock(&of->lock);
		if (result <= 0)
			return result;
	}
	return 0;
}

/* Rows that a graph knows, now: it may be growing. */
static uint32_t graph_known(const struct hnsw *graph)
{
	return __atomic_load_n(&graph->taken, __ATOMIC_ACQUIRE);
}

static uint32_t graph_width(uint32_t k)
{
	return k * 2 < HNSW_WIDTH_MIN ? HNSW_WIDTH_MIN : k * 2;
}

/* A batch over few rows is faster, and exact, without. */
static bool graph_use(const struct vectors_index *of, const struct haul_near *query)
{
	if (query->exact || query->k > VECTORS_EXACT_K || of->set.live < VECTORS_INDEX_MIN)
		return false;
	return query->count < KNN_TILE || of->set.slots > graph_width(query->k) * VECTORS_TILE_ROWS;
}

/* There is work for vectors_step: the set is held to be read. */
static bool graph_want(struct vectors *vectors, struct vectors_index *of,
		       const struct haul_near *query)
{
	const uint32_t stuck = __atomic_load_n(&of->stuck[query->metric], __ATOMIC_RELAXED);

	if (!graph_use(of, query) || graph_known(&of->graph[query->metric]) == of->set.slots)
		return false;
	if (stuck > 0 && vector_pool_left(&vectors->pool) < stuck)
		return false;
	__atomic_store_n(&of->wanted[query->metric], true, __ATOMIC_RELAXED);
	return true;
}

/* A set that somebody changes is left for when he is done and asks for steps himself. */
static int index_step(struct vectors *vectors, struct vectors_index *of, uint32_t graph)
{
	int more = 0;

	if (!__atomic_load_n(&of->wanted[graph], __ATOMIC_RELAXED) ||
	    pthread_rwlock_tryrdlock(&of->lock) != 0)
		return 0;
	if (of->filled && of->set.live >= VECTORS_INDEX_MIN)
		more = vectors_grow(vectors, of, graph);
	if (more == 0)
		__atomic_store_n(&of->wanted[graph], false, __ATOMIC_RELAXED);
	(void)pthread_rwlock_unlock(&of->lock);
	return more;
}

int vectors_step(struct vectors *vectors)
{
	int more = 0;

	(void)pthread_mutex_lock(&vectors->step_lock);
	for (uint32_t i = 0; i < HAUL_EMBEDDING_INDEXES && more == 0; i++) {
		for (uint32_t graph = 0; graph < VECTOR_GRAPHS && more == 0; graph++)
			more = index_step(vectors, &vectors->index[i], graph);
	}
	(void)pthread_mutex_unlock(&vectors->step_lock);
	return more;
}

void vectors_on_work(struct vectors *vectors, void (*call)(void *arg), void *arg)
{
	vectors->call = call;
	vectors->call_arg = arg;
}

/* ---- searching ---- */

/* Rows from a slot on, with all queries. */
static int rows_compare(const struct vector_set *set, struct knn *knn, uint32_t slot,
			const struct vectors_sight *sight)
{
	while (slot < set->slots) {
		if (vectors_stopped(sight))
			return -ECANCELED;
		const struct knn_rows rows = vector_set_rows_from(set, slot);
		knn_compare(knn, &rows);
		slot += rows.count;
	}
	return 0;
}

/* Of rows in slots below `known`. */
static int graph_search(struct vectors_index *of, struct knn *knn,
			const struct vectors_sight *sight, uint32_t known, uint8_t *scratch)
{
	struct hnsw_query query = { .knn = knn, .width = graph_width(knn->k), .known = known };
	int error = 0;

	for (; query.query < knn->count && error == 0; query.query++) {
		if (vectors_stopped(sight))
			return -ECANCELED;
		(void)pthread_rwlock_rdlock(&of->links);
		error = hnsw_search(&of->graph[knn->metric], &query, scratch);
		(void)pthread_rwlock_unlock(&of->links);
	}
	return error;
}

/* Rows that are all alike may not lead to each other: too few hits are none. */
static int graph_enough(const struct vectors_index *of, const struct knn *knn)
{
	const uint32_t enough = knn->k < of->set.live ? knn->k : of->set.live;

	for (uint32_t q = 0; q < knn->count; q++) {
		if (knn->held[q] < enough)
			return HAUL_EFULL;
	}
	return 0;
}

/* Through the graph if it knows most of the rows, and what it does not know one by one. */
static int set_search(struct vectors_index *of, const struct haul_near *query, struct knn *knn,
		      const struct vectors_sight *sight, uint8_t *scratch)
{
	const uint32_t known = graph_known(&of->graph[query->metric]);

	if (of->set.live == 0)
		return 0;
	if (of->set.dimensions != query->dimensions)
		return -EINVAL;
	if (!graph_use(of, query) || known < of->set.slots / 2)
		return rows_compare(&of->set, knn, 0, sight);
	int error = graph_search(of, knn, sight, known, scratch);
	if (error == 0)
		error = rows_compare(&of->set, knn, known, sight);
	return error < 0 ? error : graph_enough(of, knn);
}

/* Queries that fit into the caller's memory at once. */
static uint32_t queries_fit(const struct haul_near *query, uint64_t bytes)
{
	uint32_t count = query->count;

	while (count > 1 && knn_bytes(count, query->dimensions) > bytes)
		count = count > KNN_TILE ? (count - 1) / KNN_TILE * KNN_TILE : count / 2;
	HAUL_ASSERT(knn_bytes(count, query->dimensions) <= bytes);
	return count;
}

/* Hits of a search through the graph that had to give up: exactly then. */
static int part_search(struct vectors *vectors, struct vectors_index *of,
		       const struct vectors_sight *sight, const struct knn_part *part,
		       struct haul_near_hit *hits)
{
	struct arena work = sight->work;
	struct knn knn;

	knn_init(&knn, vectors->kernels, part, work.data, hits);
	work.used = knn_bytes(part->count, part->near->dimensions);
	int error = 0;
	if (of == NULL) {
		error = vectors_compare_tree(sight, part->near, &knn, &work);
	} else {
		error = set_search(of, part->near, &knn, sight, work.data + work.used);
		if (error == HAUL_EFULL) {
			knn_init(&knn, vectors->kernels, part, work.data, hits);
			error = rows_compare(&of->set, &knn, 0, sight);
		}
	}
	if (error == 0)
		knn_finish(&knn);
	return error;
}

int vectors_near(struct vectors *vectors, const struct vectors_sight *sight,
		 const struct haul_near *query, struct haul_near_hit *hits)
{
	const uint64_t tree = vectors_tree_bytes(query->dimensions);
	const uint64_t beside = tree > HNSW_SCRATCH ? tree : HNSW_SCRATCH;
	struct vectors_index *of = NULL;
	int error = 0;

	HAUL_ASSERT(sight->work.bytes >= VECTORS_WORK_MIN && sight->work.used == 0);
	if (!sight->seen->fixed && vectors->pool.count > 0) {
		error = index_take(vectors, sight, query->index, &of);
		if (error < 0)
			return error;
	}
	if (of == NULL)
		snapshot_take_long(sight->seen);
	const uint32_t fit = queries_fit(query, sight->work.bytes - beside);
	for (uint32_t at = 0; at < query->count && error == 0; at += fit) {
		const uint32_t left = query->count - at;
		const struct knn_part part = { .near = query,
					       .first = at,
					       .count = left < fit ? left : fit };
		error = part_search(vectors, of, sight, &part, hits + (size_t)at * query->k);
	}
	snapshot_drop(sight->seen);
	const bool want = of != NULL && error == 0 && graph_want(vectors, of, query);
	if (of != NULL)
		(void)pthread_rwlock_unlock(&of->lock);
	if (want && vectors->call != NULL)
		vectors->call(vectors->call_arg);
	else if (want)
		(void)vectors_step(vectors);
	return error < 0 ? error : (int)query->count;
}
