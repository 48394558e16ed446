#include "store/lsm_lab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SEGMENT = 64 << 10, ARENA = 4 << 20, PLACE_STEP = 4096 };

/* ---- rows ---- */

/* In order of k; zeros and ones occur. */
struct tree_key lab_key(enum tree tree, uint32_t k)
{
	struct tree_key key = { .word = { 0 } };
	uint32_t words = tree_words[tree];
	uint64_t last = k + 1 == LAB_KEYS ? UINT64_MAX : k;
	if (words == 1) {
		key.word[0] = k + 1 == LAB_KEYS ? UINT64_MAX : k * UINT64_C(0x0123456789ab);
	} else if (words == 2) {
		key.word[0] = k + 1 == LAB_KEYS ? UINT64_MAX : k / 8;
		key.word[1] = last;
	} else {
		key.word[0] = k + 1 == LAB_KEYS ? UINT64_MAX : k / 16;
		key.word[1] = k + 1 == LAB_KEYS ? UINT64_MAX : k / 4 % 4;
		key.word[2] = last;
	}
	return key;
}

static uint8_t value_byte(enum tree tree, uint32_t k, uint64_t op, uint32_t i)
{
	return (uint8_t)hash_u64(((uint64_t)tree << 56) + ((uint64_t)k << 40) + op * 8191 + i / 8);
}

static void value_make(uint8_t *value, const struct lab_row *row)
{
	for (uint32_t i = 0; i < row->bytes; i++)
		value[i] = value_byte(row->tree, row->k, row->op, i);
}

static bool value_is(const uint8_t *value, const struct lab_row *row)
{
	for (uint32_t i = 0; i < row->bytes; i++) {
		if (value[i] != value_byte(row->tree, row->k, row->op, i))
			return false;
	}
	return true;
}

/* ---- the model ---- */

static void *grown(void *items, uint32_t *room, size_t bytes)
{
	*room = *room ? *room * 2 : 8;
	items = realloc(items, *room * bytes);
	assert_non_null(items);
	return items;
}

static void model_put(struct lsm_lab *lab, const struct lab_row *row)
{
	struct lab_cell *cell = &lab->cells[row->tree][row->k];
	struct lab_version version = { row->op, row->bytes, row->deleted };
	if (cell->count && cell->versions[cell->count - 1].op == row->op)
		cell->count--;
	if (cell->count == cell->room)
		cell->versions = grown(cell->versions, &cell->room, sizeof version);
	cell->versions[cell->count++] = version;
	if (lab->row_count == lab->row_room)
		lab->rows = grown(lab->rows, &lab->row_room, sizeof *lab->rows);
	lab->rows[lab->row_count++] = *row;
}

/* NULL: nothing, not even a deletion. */
static const struct lab_version *model_get(const struct lsm_lab *lab, enum tree tree, uint32_t k,
					   uint64_t op)
{
	const struct lab_cell *cell = &lab->cells[tree][k];
	uint32_t at = cell->count;
	while (at > 0 && cell->versions[at - 1].op > op)
		at--;
	return at ? &cell->versions[at - 1] : NULL;
}

/* ---- opening ---- */

static void vfs_open(struct lsm_lab *lab)
{
	if (lab->folder)
		assert_int_equal(vfs_linux_open(&lab->vfs, lab->folder), 0);
	else
		lab->vfs = vfs_sim_vfs(lab->sim);
}

static void store_make(struct lsm_lab *lab)
{
	vfs_open(lab);
	const struct media_options options = { .mode = MEDIA_MAKE, .segment_bytes = SEGMENT };
	assert_int_equal(media_file_open(&lab->media, lab->vfs, &options, &lab->err), 0);
	static const uint8_t uuid[16] = "lsm_lab";
	assert_int_equal(lsm_make(lab->media, uuid, &lab->err), 0);
	lab->media->calls->close(lab->media);
	lab->media = NULL;
	VFS_CALL(lab->vfs, close_all, lab->vfs);
	lab->vfs = NULL;
	lab->options = (struct lsm_options){ .os = &lab->os.os,
					     .memtable_bytes = LAB_MEMTABLE,
					     .cache_bytes = LAB_CACHE,
					     .table_bytes = LAB_TABLE,
					     .block_bytes = LAB_BLOCK,
					     .frame_budget = LAB_BUDGET,
					     .levels = 4,
					     .level_factor = 3 };
	assert_int_equal(lsm_scratch_new(&lab->scratch, LAB_KEYS), 0);
	lab->arena.data = malloc(ARENA);
	lab->arena.bytes = ARENA;
	assert_non_null(lab->arena.data);
}

void lsm_lab_init(struct lsm_lab *lab, uint64_t seed)
{
	memset(lab, 0, sizeof *lab);
	prng_init(&lab->prng, seed);
	os_sim_init(&lab->os, seed);
	assert_int_equal(vfs_sim_open(&lab->sim, LAB_DISK, seed), 0);
	store_make(lab);
}

void lsm_lab_init_in(struct lsm_lab *lab, const char *folder)
{
	memset(lab, 0, sizeof *lab);
	prng_init(&lab->prng, 1);
	os_sim_init(&lab->os, 1);
	lab->folder = folder;
	store_make(lab);
}

void lsm_lab_done(struct lsm_lab *lab)
{
	lsm_lab_close(lab);
	if (lab->sim)
		vfs_sim_close(lab->sim);
	lsm_scratch_free(lab->scratch);
	free(lab->arena.data);
	free(lab->rows);
	for (uint32_t tree = 0; tree < TREES; tree++) {
		for (uint32_t k = 0; k < LAB_KEYS; k++)
			free(lab->cells[tree][k].versions);
	}
}

struct lsm_lab *lsm_lab_new(uint64_t seed)
{
	struct lsm_lab *lab = malloc(sizeof *lab);
	assert_non_null(lab);
	lsm_lab_init(lab, seed);
	return lab;
}

struct lsm_lab *lsm_lab_new_open(uint64_t seed)
{
	struct lsm_lab *lab = lsm_lab_new(seed);
	assert_int_equal(lsm_lab_open(lab), 0);
	return lab;
}

void lsm_lab_free(struct lsm_lab *lab)
{
	lsm_lab_done(lab);
	free(lab);
}

int lsm_lab_open(struct lsm_lab *lab)
{
	vfs_open(lab);
	const struct media_options options = { .mode = lab->options.read_only ? MEDIA_READ
									      : MEDIA_WRITE };
	int rc = media_file_open(&lab->media, lab->vfs, &options, &lab->err);
	uint8_t uuid[16];
	struct log_place place;
	if (rc == 0) {
		lab->options.media = lab->media;
		rc = lsm_open(&lab->lsm, &lab->options, uuid, &place, &lab->err);
	}
	if (rc < 0) {
		lsm_lab_close(lab);
		return rc;
	}
	assert_string_equal((const char *)uuid, "lsm_lab");
	lab->published = place.op;
	if (lab->place.op == 0)
		lab->place = place;
	return 0;
}

void lsm_lab_close(struct lsm_lab *lab)
{
	for (uint32_t i = 0; lab->lsm && i < LSM_JOBS; i++)
		lab->stopped = lab->stopped || lab->lsm->jobs[i].active;
	lsm_close(lab->lsm);
	lab->lsm = NULL;
	if (lab->media)
		lab->media->calls->close(lab->media);
	lab->media = NULL;
	if (lab->vfs)
		VFS_CALL(lab->vfs, close_all, lab->vfs);
	lab->vfs = NULL;
}

/* ---- writing ---- */

static void place_next(struct log_place *place)
{
	place->op++;
	place->position += PLACE_STEP;
	place->chain = hash_u64(place->op);
}

static void row_put(struct lsm_lab *lab, const struct lab_row *row)
{
	uint8_t value[LAB_VALUE];
	assert_true(row->bytes <= sizeof value);
	value_make(value, row);
	struct tree_key key = lab_key(row->tree, row->k);
	struct tree_row put = { .value = value, .bytes = row->bytes, .deleted = row->deleted };
	assert_int_equal(lsm_put(lab->lsm, row->tree, &key, row->op, &put), 0);
}

void lsm_lab_put(struct lsm_lab *lab, enum tree tree, uint32_t k, uint32_t bytes, bool deleted)
{
	struct lab_row row = { .op = lab->place.op + 1,
			       .tree = tree,
			       .k = k,
			       .bytes = deleted ? 0 : bytes,
			       .deleted = deleted };
	row_put(lab, &row);
	model_put(lab, &row);
}

static int frame_ready(struct lsm_lab *lab, const struct log_place *place)
{
	int rc;
	while ((rc = lsm_ready(lab->lsm, place)) == -EAGAIN) {
		rc = lsm_step(lab->lsm, place->op);
		if (rc < 0)
			return rc;
	}
	assert_int_equal(rc, 0);
	return 0;
}

int lsm_lab_frame(struct lsm_lab *lab)
{
	place_next(&lab->place);
	return frame_ready(lab, &lab->place);
}

static void rows_random(struct lsm_lab *lab, bool model)
{
	uint32_t count = 1 + prng_below(&lab->prng, LAB_FRAME_ROWS);
	for (uint32_t i = 0; i < count; i++) {
		enum tree tree = (enum tree)prng_below(&lab->prng, TREES);
		uint32_t k = prng_below(&lab->prng, LAB_KEYS);
		uint32_t bytes = prng_below(&lab->prng, 8) ? prng_below(&lab->prng, 40)
							   : prng_below(&lab->prng, 900);
		bool deleted = prng_below(&lab->prng, 4) == 0;
		if (model) {
			lsm_lab_put(lab, tree, k, bytes, deleted);
			continue;
		}
		struct lab_row row = { lab->place.op + 1, tree, k, deleted ? 0 : bytes, deleted };
		row_put(lab, &row);
	}
}

int lsm_lab_frame_random(struct lsm_lab *lab)
{
	rows_random(lab, true);
	if (prng_below(&lab->prng, 3) == 0) {
		struct memtable_mark mark;
		lsm_mark(lab->lsm, &mark);
		rows_random(lab, false);
		lsm_abort(lab->lsm, &mark);
		rows_random(lab, true);
	}
	return lsm_lab_frame(lab);
}

void lsm_lab_publish(struct lsm_lab *lab, uint64_t op)
{
	lsm_publish(lab->lsm, op);
	lab->published = op;
}

void lsm_lab_replay(struct lsm_lab *lab)
{
	struct log_place place = lsm_checkpoint(lab->lsm);
	assert_true(place.op <= lab->place.op);
	for (uint32_t i = 0; i < lab->row_count; i++) {
		const struct lab_row *row = &lab->rows[i];
		if (row->op <= place.op)
			continue;
		while (place.op + 1 < row->op) {
			place_next(&place);
			assert_int_equal(frame_ready(lab, &place), 0);
		}
		row_put(lab, row);
	}
	while (place.op < lab->place.op)
		place_next(&place);
	assert_int_equal(place.position, lab->place.position);
	lsm_lab_publish(lab, lab->place.op);
}

void lsm_lab_frame_range(struct lsm_lab *lab, enum tree tree, uint32_t from, uint32_t to,
			 bool deleted)
{
	for (uint32_t k = from; k < to; k++)
		lsm_lab_put(lab, tree, k, 40, deleted);
	assert_int_equal(lsm_lab_frame(lab), 0);
	lsm_lab_publish(lab, lab->place.op);
}

void lsm_lab_flush_only(struct lsm_lab *lab)
{
	int rc;
	while ((rc = lsm_freeze(lab->lsm, &lab->place)) == -EAGAIN)
		assert_int_equal(lsm_step(lab->lsm, lab->place.op), 1);
	assert_int_equal(rc, 0);
	while (lsm_checkpoint(lab->lsm).op < lab->place.op)
		assert_int_equal(lsm_step(lab->lsm, lab->place.op), 1);
}

int lsm_lab_settle(struct lsm_lab *lab)
{
	for (uint32_t quiet = 0, steps = 0; quiet < 2; steps++) {
		assert_true(steps < 100000);
		int rc = lsm_step(lab->lsm, lab->place.op);
		if (rc < 0)
			return rc;
		quiet = rc ? 0 : quiet + 1;
		if (rc == 0)
			os_sim_advance(&lab->os, LSM_REST_NS);
	}
	return 0;
}

int lsm_lab_flush(struct lsm_lab *lab)
{
	int rc = lsm_lab_settle(lab);
	if (rc == 0)
		rc = lsm_freeze(lab->lsm, &lab->place);
	return rc == 0 ? lsm_lab_settle(lab) : rc;
}

/* ---- checking ---- */

static uint32_t key_number(enum tree tree, const uint64_t *words)
{
	for (uint32_t k = 0; k < LAB_KEYS; k++) {
		struct tree_key key = lab_key(tree, k);
		if (memcmp(key.word, words, tree_words[tree] * sizeof *words) == 0)
			return k;
	}
	fail_msg("a key that was never put");
	return 0;
}

/* Next key from `k` on that is there at op. */
static uint32_t model_next(const struct lsm_lab *lab, enum tree tree, uint32_t k, uint64_t op)
{
	for (; k < LAB_KEYS; k++) {
		const struct lab_version *version = model_get(lab, tree, k, op);
		if (version && !version->deleted)
			break;
	}
	return k;
}

static void check_rows(const struct lsm_lab *lab, enum tree tree, const struct rows *rows,
		       uint32_t *next, uint64_t op)
{
	assert_true(rows->count > 0);
	for (uint32_t i = 0; i < rows->count; i++) {
		uint32_t k = key_number(tree, rows->key + (size_t)i * rows->words);
		*next = model_next(lab, tree, *next, op);
		assert_int_equal(k, *next);
		const struct lab_version *version = model_get(lab, tree, k, op);
		struct lab_row row = { version->op, tree, k, version->bytes, false };
		uint32_t from = i ? rows->end[i - 1] : 0;
		assert_int_equal(rows->op[i], version->op);
		assert_int_equal(rows->end[i] - from, version->bytes);
		assert_true(value_is(rows->heap + from, &row));
		(*next)++;
	}
}

static void check_walk(struct lsm_lab *lab, struct lsm_view *view,
		       const struct lsm_walk_options *options, uint32_t from, uint32_t to)
{
	struct lsm_walk *walk;
	assert_int_equal(lsm_walk_open(&walk, view, options), 0);
	uint32_t next = from;
	struct rows rows;
	int rc;
	while ((rc = lsm_walk_next(walk, &rows)) == 1)
		check_rows(lab, options->tree, &rows, &next, options->op_max);
	assert_int_equal(rc, 0);
	assert_int_equal(lsm_walk_next(walk, &rows), 0);
	assert_true(next <= to + 1);
	assert_true(model_next(lab, options->tree, next, options->op_max) > to);
	lsm_walk_close(walk);
}

static void check_walks(struct lsm_lab *lab, struct lsm_view *view, enum tree tree, uint64_t op)
{
	struct lsm_walk_options options = { .tree = tree, .op_max = op };
	options.to = lab_key(tree, LAB_KEYS - 1);
	options.ahead = prng_below(&lab->prng, 4);
	check_walk(lab, view, &options, 0, LAB_KEYS - 1);
	uint32_t from = prng_below(&lab->prng, LAB_KEYS);
	uint32_t to = from + prng_below(&lab->prng, LAB_KEYS - from);
	options.from = lab_key(tree, from);
	options.to = lab_key(tree, to);
	check_walk(lab, view, &options, from, to);
	if (tree_words[tree] < 2)
		return;
	uint32_t group = tree_words[tree] == 2 ? 8 : 16;
	from = from / group * group;
	to = from + group - 1;
	if (to + 1 >= LAB_KEYS)
		return;
	options.from = lab_key(tree, from);
	options.to = lab_key(tree, to);
	options.prefix = true;
	check_walk(lab, view, &options, from, to);
}

static void check_ask(const struct lsm_lab *lab, enum tree tree, uint32_t k,
		      const struct table_ask *ask)
{
	const struct lab_version *version = model_get(lab, tree, k, ask->op_max);
	assert_int_equal(ask->status, 0);
	if (!version || version->deleted) {
		assert_true(ask->row.op == 0 || ask->row.deleted);
		return;
	}
	struct lab_row row = { version->op, tree, k, version->bytes, false };
	assert_int_equal(ask->row.op, version->op);
	assert_false(ask->row.deleted);
	assert_int_equal(ask->row.bytes, version->bytes);
	assert_true(value_is(ask->row.value, &row));
}

/* Keys in random order, some twice. */
static uint32_t asks_random(struct lsm_lab *lab, enum tree tree, struct table_ask *asks,
			    uint32_t *numbers)
{
	uint32_t count = 1 + prng_below(&lab->prng, LAB_KEYS);
	for (uint32_t i = 0; i < count; i++) {
		numbers[i] = prng_below(&lab->prng, LAB_KEYS);
		asks[i] = (struct table_ask){ .key = lab_key(tree, numbers[i]) };
	}
	return count;
}

void lsm_lab_check(struct lsm_lab *lab, struct lsm_view *view, uint64_t op)
{
	struct table_ask asks[LAB_KEYS];
	uint32_t numbers[LAB_KEYS];
	for (uint32_t t = 0; t < TREES; t++) {
		enum tree tree = (enum tree)t;
		check_walks(lab, view, tree, op);
		if (!tree_hashed[tree])
			continue;
		uint32_t count = asks_random(lab, tree, asks, numbers);
		for (uint32_t i = 0; i < count; i++)
			asks[i].op_max = op;
		lab->arena.used = 0;
		lsm_get(view, tree, asks, count, lsm_into(lab->scratch, &lab->arena));
		for (uint32_t i = 0; i < count; i++)
			check_ask(lab, tree, numbers[i], &asks[i]);
	}
}

struct told {
	struct lsm_lab *lab;
	enum tree tree;
	uint32_t next;
};

static int told_row(const struct tree_key *key, const struct tree_row *row, void *arg)
{
	struct told *told = arg;
	uint32_t end = row->bytes;
	struct rows rows = { .count = 1,
			     .words = tree_words[told->tree],
			     .key = key->word,
			     .op = &row->op,
			     .end = &end,
			     .heap = row->value };
	check_rows(told->lab, told->tree, &rows, &told->next, LSM_OP_MAX);
	return 0;
}

static int told_stop(const struct tree_key *key, const struct tree_row *row, void *arg)
{
	(void)key;
	(void)row;
	(void)arg;
	return 7;
}

static void check_prefix(struct lsm_lab *lab, enum tree tree)
{
	uint32_t group = tree_words[tree] == 2 ? 8 : 16;
	uint32_t from = prng_below(&lab->prng, LAB_KEYS / group - 1) * group;
	struct told told = { lab, tree, from };
	uint64_t word = lab_key(tree, from).word[0];
	assert_int_equal(lsm_prefix(lab->lsm, tree, word, told_row, &told), 0);
	bool any = model_next(lab, tree, from, LSM_OP_MAX) < from + group;
	assert_true(model_next(lab, tree, told.next, LSM_OP_MAX) >= from + group);
	assert_int_equal(lsm_prefix(lab->lsm, tree, word, told_stop, NULL), any ? 7 : 0);
}

/* From new to old they do not fall, but where a merge was stopped that others had overtaken. */
static void check_levels(struct lsm_lab *lab)
{
	struct lsm_view *view = lsm_view_current(lab->lsm);
	bool fall = false;
	for (uint32_t tree = 0; tree < TREES; tree++) {
		const struct lsm_runs *runs = &view->tree[tree];
		for (uint32_t i = 1; i < runs->count; i++) {
			if (!runs->run[i]->merging && !runs->run[i - 1]->merging)
				fall = fall || runs->run[i - 1]->level > runs->run[i]->level;
		}
	}
	assert_true(!fall || lab->stopped);
	lab->stopped = fall;
	lsm_view_drop(lab->lsm, view);
}

void lsm_lab_check_executor(struct lsm_lab *lab)
{
	check_levels(lab);
	struct table_ask asks[LAB_KEYS];
	uint32_t numbers[LAB_KEYS];
	for (uint32_t t = 0; t < TREES; t++) {
		enum tree tree = (enum tree)t;
		if (tree_words[tree] > 1)
			check_prefix(lab, tree);
		if (!tree_hashed[tree])
			continue;
		uint32_t count = asks_random(lab, tree, asks, numbers);
		lab->arena.used = 0;
		assert_int_equal(lsm_find(lab->lsm, tree, asks, count, &lab->arena), 0);
		for (uint32_t i = 0; i < count; i++) {
			check_ask(lab, tree, numbers[i], &asks[i]);
			struct tree_row row;
			lsm_find_memory(lab->lsm, tree, &asks[i].key, &row);
			assert_true(row.op == 0 || row.op == asks[i].row.op);
		}
	}
}

struct haul_store_status lsm_lab_status(const struct lsm_lab *lab)
{
	struct haul_store_status status = { .op_last = 0 };
	lsm_status(lab->lsm, &status);
	return status;
}

uint32_t lsm_lab_runs(struct lsm_lab *lab, enum tree tree)
{
	struct lsm_view *view = lsm_view_current(lab->lsm);
	uint32_t runs = view->tree[tree].count;
	lsm_view_drop(lab->lsm, view);
	return runs;
}

struct named {
	struct lsm_lab *lab;
	uint32_t tables, blobs;
};

static int named_table(const struct table_info *info, void *arg)
{
	struct named *named = arg;
	assert_true(MEDIA_CALL(named->lab->media, blob_bytes, info->blob) > 0);
	named->tables++;
	return 0;
}

static int listed_blob(uint64_t blob, void *arg)
{
	(void)blob;
	struct named *named = arg;
	named->blobs++;
	return 0;
}

void lsm_lab_check_blobs(struct lsm_lab *lab)
{
	struct named named = { .lab = lab };
	assert_int_equal(lsm_tables(lab->lsm, named_table, &named), 0);
	assert_int_equal(MEDIA_CALL(lab->media, blob_list, listed_blob, &named), 0);
	assert_int_equal(named.blobs, named.tables + (named.tables > 0));
}
