#include "store/exec_lab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/assert.h"
#include "base/hash.h"
#include "store/vectors.h"

enum { BUCKETS = 1 << 16 };

/* Who is told of embeddings: set while a frame is executed. */
static struct lab *told;

/* ---- rows ---- */

static uint32_t *bucket_of(const struct lsm *lsm, enum tree tree, const struct tree_key *key)
{
	uint64_t hash = (uint64_t)tree;

	for (int i = 0; i < TREE_WORDS_MAX; i++)
		hash = hash_u64(hash ^ key->word[i]) + 1;
	return &lsm->buckets[hash % BUCKETS];
}

static const struct lab_row *newest(const struct lsm *lsm, enum tree tree,
				    const struct tree_key *key, uint32_t from)
{
	for (uint32_t at = *bucket_of(lsm, tree, key); at != 0; at = lsm->rows[at - 1].before) {
		const struct lab_row *row = &lsm->rows[at - 1];
		if (at - 1 < from)
			break;
		if (!row->aborted && row->tree == tree && tree_key_compare(&row->key, key) == 0)
			return row;
	}
	return NULL;
}

static struct tree_row shown(const struct lab_row *row)
{
	if (row == NULL)
		return (struct tree_row){ 0 };
	return (struct tree_row){ row->op, row->value, row->bytes, row->deleted };
}

static bool countdown(uint32_t *fault)
{
	if (*fault == 0)
		return false;
	return --*fault == 0;
}

static void find_one(struct lsm *lsm, enum tree tree, struct table_ask *ask, struct arena *arena)
{
	const struct lab_row *row = newest(lsm, tree, &ask->key, 0);

	ask->row = shown(NULL);
	ask->status = countdown(&lsm->fail_find) ? -EIO : 0;
	lsm->keys++;
	if (ask->status != 0)
		return;
	ask->row = shown(row);
	if (row == NULL || row >= &lsm->rows[lsm->flushed])
		return;
	ask->row.value = NULL;
	if (arena == NULL)
		return;
	const uint64_t room = lsm->arena_max == 0 || lsm->arena_max > arena->bytes ? arena->bytes
										   : lsm->arena_max;
	if (row->bytes > room - arena->used) {
		ask->row = shown(NULL);
		ask->status = HAUL_EFULL;
		return;
	}
	ask->row.value = arena->data + arena->used;
	if (row->bytes != 0)
		memcpy(arena->data + arena->used, row->value, row->bytes);
	arena->used += row->bytes;
}

int lsm_find(struct lsm *lsm, enum tree tree, struct table_ask *asks, uint32_t count,
	     struct arena *arena)
{
	int rc = 0;

	HAUL_ASSERT(tree_hashed[tree] && count > 0);
	lsm->finds++;
	for (uint32_t i = 0; i < count; i++) {
		find_one(lsm, tree, &asks[i], arena);
		rc = rc == 0 ? asks[i].status : rc;
	}
	return rc;
}

void lsm_find_memory(struct lsm *lsm, enum tree tree, const struct tree_key *key,
		     struct tree_row *ret_row)
{
	lsm->memory_finds++;
	*ret_row = shown(newest(lsm, tree, key, lsm->flushed));
}

void lsm_prefetch(struct lsm *lsm, enum tree tree, const struct tree_key *key)
{
	HAUL_ASSERT(tree_hashed[tree] && lsm != NULL && key != NULL);
}

int lsm_put(struct lsm *lsm, enum tree tree, const struct tree_key *key, uint64_t op,
	    const struct tree_row *row)
{
	if (countdown(&lsm->fail_put))
		return HAUL_EFULL;
	if (lsm->count == lsm->room) {
		lsm->room = lsm->room == 0 ? 1024 : 2 * lsm->room;
		lsm->rows = realloc(lsm->rows, lsm->room * sizeof *lsm->rows);
		HAUL_ASSERT(lsm->rows != NULL);
	}
	uint32_t *bucket = bucket_of(lsm, tree, key);
	struct lab_row *to = &lsm->rows[lsm->count++];
	*to = (struct lab_row){ .key = *key,
				.op = op,
				.bytes = row->bytes,
				.before = *bucket,
				.tree = (uint8_t)tree,
				.deleted = row->deleted };
	to->value = malloc(row->bytes + 1); /* exactly, for the address sanitizer */
	HAUL_ASSERT(to->value != NULL);
	if (row->bytes != 0)
		memcpy(to->value, row->value, row->bytes);
	*bucket = lsm->count;
	lsm->used +=
		16 + tree_words[tree] * 8U + (tree_hashed[tree] ? 8 : 0) + ((row->bytes + 7) & ~7U);
	return 0;
}

int lsm_prefix(struct lsm *lsm, enum tree tree, uint64_t word, lsm_told *tell, void *arg)
{
	const uint32_t count = lsm->count;

	lsm->prefixes++;
	if (countdown(&lsm->fail_prefix))
		return -EIO;
	for (uint32_t i = 0; i < count; i++) {
		const struct lab_row *row = &lsm->rows[i];
		if (row->tree != tree || row->key.word[0] != word || row->deleted ||
		    row != newest(lsm, tree, &row->key, 0))
			continue;
		const struct tree_row out = shown(row);
		const int rc = tell(&row->key, &out, arg);
		if (rc != 0)
			return rc;
	}
	return 0;
}

void lsm_mark(struct lsm *lsm, struct memtable_mark *ret_mark)
{
	*ret_mark = (struct memtable_mark){ .used = lsm->count };
	lsm->marks++;
}

void lsm_abort(struct lsm *lsm, const struct memtable_mark *mark)
{
	for (uint64_t i = mark->used; i < lsm->count; i++)
		lsm->rows[i].aborted = true;
	lsm->aborts++;
}

/* ---- in order ---- */

static int compare_rows(const void *a, const void *b)
{
	const struct lab_row *const *left = a, *const *right = b;

	if ((*left)->tree != (*right)->tree)
		return (*left)->tree < (*right)->tree ? -1 : 1;
	return tree_key_compare(&(*left)->key, &(*right)->key);
}

/* Newest rows, none deleted, in order; *ret_count of them. Freed by the caller. */
static const struct lab_row **sorted(const struct lsm *lsm, uint32_t *ret_count)
{
	const struct lab_row **list = malloc((lsm->count + 1) * sizeof(*list));
	uint32_t count = 0;

	HAUL_ASSERT(list != NULL);
	for (uint32_t i = 0; i < lsm->count; i++) {
		const struct lab_row *row = &lsm->rows[i];
		if (!row->deleted && row == newest(lsm, (enum tree)row->tree, &row->key, 0))
			list[count++] = row;
	}
	qsort(list, count, sizeof(*list), compare_rows);
	*ret_count = count;
	return list;
}

struct lsm_walk {
	const struct lab_row **rows;
	uint32_t next, count;
	uint64_t key[TREE_WORDS_MAX], op;
	uint32_t end, words;
};

struct lsm_view *lsm_view_take(struct lsm *lsm, uint64_t *ret_op)
{
	*ret_op = UINT64_MAX >> 1;
	return (struct lsm_view *)(void *)lsm;
}

void lsm_view_drop(struct lsm *lsm, struct lsm_view *view)
{
	HAUL_ASSERT((void *)lsm == (void *)view);
}

int lsm_walk_open(struct lsm_walk **ret_walk, struct lsm_view *view,
		  const struct lsm_walk_options *options)
{
	struct lsm *lsm = (struct lsm *)(void *)view;
	struct lsm_walk *walk = calloc(1, sizeof *walk);
	uint32_t count, kept = 0;

	HAUL_ASSERT(walk != NULL);
	if (countdown(&lsm->fail_prefix)) {
		free(walk);
		return -EIO;
	}
	walk->rows = sorted(lsm, &count);
	walk->words = tree_words[options->tree];
	for (uint32_t i = 0; i < count; i++) {
		if (walk->rows[i]->tree == options->tree)
			walk->rows[kept++] = walk->rows[i];
	}
	walk->count = kept;
	*ret_walk = walk;
	return 0;
}

int lsm_walk_next(struct lsm_walk *walk, struct rows *ret_rows)
{
	if (walk->next == walk->count)
		return 0;
	const struct lab_row *row = walk->rows[walk->next++];
	memcpy(walk->key, row->key.word, sizeof walk->key);
	walk->op = row->op;
	walk->end = row->bytes;
	*ret_rows = (struct rows){ 1, walk->words, walk->key, &walk->op, &walk->end, row->value };
	return 1;
}

void lsm_walk_close(struct lsm_walk *walk)
{
	free(walk->rows);
	free(walk);
}

/* ---- the lab ---- */

void vectors_stage(struct vectors *vectors, uint64_t op, uint32_t index, uint64_t node)
{
	const uint32_t room = sizeof told->staged / sizeof *told->staged;

	HAUL_ASSERT((void *)vectors == (void *)told);
	if (told->staged_count < room)
		told->staged[told->staged_count] = (struct lab_stage){ op, node, index };
	told->staged_count++;
}

static void make_exec(struct lab *lab)
{
	const int error =
		exec_new(&lab->exec, &lab->lsm, (struct vectors *)(void *)lab, lab->budget);
	HAUL_ASSERT(error == 0);
}

void lab_open(struct lab *lab)
{
	memset(lab, 0, sizeof *lab);
	lab->lsm.buckets = calloc(BUCKETS, sizeof(uint32_t));
	lab->frame = aligned_alloc(64, FRAME_BYTES_MAX + 64);
	HAUL_ASSERT(lab->lsm.buckets != NULL && lab->frame != NULL);
	HAUL_ASSERT(haul_changes_new(&lab->changes, 0, 0, 0) == 0);
	make_exec(lab);
}

void lab_close(struct lab *lab)
{
	exec_free(lab->exec);
	haul_changes_free(lab->changes);
	for (uint32_t i = 0; i < lab->lsm.count; i++)
		free(lab->lsm.rows[i].value);
	free(lab->lsm.rows);
	free(lab->lsm.buckets);
	free(lab->frame);
}

void lab_reopen(struct lab *lab)
{
	exec_free(lab->exec);
	make_exec(lab);
}

void lab_flush(struct lab *lab)
{
	lab->lsm.flushed = lab->lsm.count;
}

void lab_told(struct lab *lab)
{
	told = lab;
	lab->staged_count = 0;
}

int lab_send(struct lab *lab, const struct haul_changes *changes,
	     const struct changes_sender *sender)
{
	struct frame frame;

	HAUL_ASSERT(changes_seal(changes, sender, lab->frame, FRAME_BYTES_MAX) == 0);
	HAUL_ASSERT(frame_check(lab->frame, changes_frame_bytes(changes), &frame) == 0);
	for (uint32_t i = 0; i < frame.head->events; i++)
		lab->statuses[i] = 12345;
	lab->staged_count = 0;
	int rc = exec_admit(lab->exec, &frame, lab->statuses, &lab->result);
	if (rc != 0)
		return rc;
	lab_told(lab);
	rc = exec_frame(lab->exec, &frame, lab->op + 1, lab->statuses, &lab->result);
	lab->op += rc == 0;
	return rc;
}

int lab_run(struct lab *lab)
{
	const struct changes_sender sender = { .kind = FRAME_CHANGES };
	const int rc = lab_send(lab, lab->changes, &sender);

	haul_changes_clear(lab->changes);
	return rc;
}

const struct lab_row *lab_find(const struct lab *lab, enum tree tree, struct tree_key key)
{
	const struct lab_row *row = newest(&lab->lsm, tree, &key, 0);

	return row == NULL || row->deleted ? NULL : row;
}

uint64_t lab_hash(const struct lab *lab, bool sessions)
{
	uint32_t count;
	const struct lab_row **rows = sorted(&lab->lsm, &count);
	uint64_t hash = 0;

	for (uint32_t i = 0; i < count; i++) {
		if (rows[i]->tree == TREE_SESSION && !sessions)
			continue;
		hash = hash_u64(hash ^ rows[i]->tree);
		hash = XXH3_64bits_withSeed(&rows[i]->key, sizeof rows[i]->key, hash);
		hash = XXH3_64bits_withSeed(&rows[i]->op, sizeof rows[i]->op, hash);
		hash = XXH3_64bits_withSeed(rows[i]->value, rows[i]->bytes, hash);
	}
	free(rows);
	return hash;
}

uint32_t lab_rows(const struct lab *lab, enum tree tree)
{
	uint32_t count, found = 0;
	const struct lab_row **rows = sorted(&lab->lsm, &count);

	for (uint32_t i = 0; i < count; i++)
		found += rows[i]->tree == tree;
	free(rows);
	return found;
}
