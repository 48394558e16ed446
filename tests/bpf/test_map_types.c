/* Every type of map, every operation, every engine, against a model that is an array. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/map_lab.h"
#include "bpf/map_state.h"
#include "lib/testlib.h"

enum { KEYS = 96, ROWS = 150, ROUNDS = 12, ABSENT = -1 };

/* What the map should hold: values by number of key. */
struct model {
	struct lab_map lab;
	struct haul_map *map; /* the same, with the engine under test */
	enum haul_map_engine engine;
	uint32_t rows_max;
	bool array; /* entries are always there */
	int value[KEYS];
	struct lab_rows rows;
	uint32_t key[ROWS];
	struct prng prng;
};

static const uint32_t types[] = {
	BPF_MAP_TYPE_HASH,          BPF_MAP_TYPE_LRU_HASH,
	BPF_MAP_TYPE_PERCPU_HASH,   BPF_MAP_TYPE_LRU_PERCPU_HASH,
	BPF_MAP_TYPE_ARRAY,         BPF_MAP_TYPE_PERCPU_ARRAY,
	BPF_MAP_TYPE_LPM_TRIE,      BPF_MAP_TYPE_HASH_OF_MAPS,
	BPF_MAP_TYPE_ARRAY_OF_MAPS,
};
enum { TYPES = sizeof types / sizeof *types };

static void model_open(struct model *m, uint32_t type, enum haul_map_engine engine)
{
	bool lru = type == BPF_MAP_TYPE_LRU_HASH || type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
	const struct haul_map_options options = { .engine = engine, .batch = 7 };
	memset(m, 0, sizeof *m);
	test_prng(&m->prng);
	/* An LRU map evicts before it is full. */
	map_lab_open(&m->lab,
		     (struct haul_map_spec){ .type = type, .max_entries = lru ? 8192 : KEYS },
		     NULL);
	m->map = map_lab_again(&m->lab, &options, NULL);
	m->engine = engine;
	m->array = type == BPF_MAP_TYPE_ARRAY || type == BPF_MAP_TYPE_PERCPU_ARRAY;
	for (uint32_t i = 0; i < KEYS; i++)
		m->value[i] = m->array ? 0 : ABSENT;
	lab_rows_open(&m->rows, &m->lab, ROWS);
}

static void model_close(struct model *m)
{
	lab_rows_close(&m->rows);
	haul_map_close(m->map);
	map_lab_close(&m->lab);
}

/* Random keys, some of them twice, each with a random value. */
static void rows_draw(struct model *m)
{
	m->rows.rows.count = 1 + prng_below(&m->prng, m->rows_max);
	for (uint32_t i = 0; i < m->rows.rows.count; i++) {
		m->key[i] = prng_below(&m->prng, KEYS);
		lab_rows_set(&m->rows, &m->lab, i, m->key[i], prng_below(&m->prng, MAP_LAB_INNERS));
		m->rows.status[i] = 12345;
	}
}

/* The number of row i's value as it was put in. */
static int row_value(const struct model *m, uint32_t i)
{
	uint32_t word;
	memcpy(&word, m->rows.values + (size_t)i * m->lab.info->slot_bytes, 4);
	if (!map_type_of(m->lab.info->type)->of_maps)
		return (int)word;
	for (uint32_t k = 0; k < MAP_LAB_INNERS; k++) {
		if ((uint32_t)m->lab.inner_fd[k] == word || m->lab.inner_id[k] == word)
			return (int)k;
	}
	fail_msg("no inner map");
	return 0;
}

/* Whether any engine can; if none, that rc says so and nothing was done. */
static bool can_at_all(struct model *m, enum haul_map_op op, int rc,
		       const struct haul_map_result *result)
{
	char text[HAUL_MAP_TEXT];
	enum haul_map_engine engine = haul_map_explain(m->map, op, 0, text);
	assert_true(strlen(text) > 0);
	if (engine != HAUL_MAP_AUTO)
		return true;
	assert_non_null(strstr(text, "no engine can"));
	assert_int_equal(rc, -ENOTSUP);
	assert_int_equal(result->done + result->missing + result->kept, 0);
	return false;
}

/* done, missing and kept add up with the rows, and with what the model expects. */
static void check_result(const struct model *m, const struct haul_map_result *result, uint64_t done,
			 uint64_t missing, uint64_t kept)
{
	assert_int_equal(result->done, done);
	assert_int_equal(result->missing, missing);
	assert_int_equal(result->kept, kept);
	assert_int_equal(result->failed_index, -1);
	assert_int_equal(result->reason, 0);
	assert_true(result->calls > 0 || m->rows.rows.count == 0);
	if (m->engine != HAUL_MAP_AUTO) {
		assert_int_equal(result->engine, m->engine);
		assert_int_equal(result->fallbacks, 0);
	}
}

static void do_get(struct model *m)
{
	struct haul_map_result result;
	uint64_t done = 0;
	int rc = haul_map_get(m->map, &m->rows.rows, &result);
	if (!can_at_all(m, HAUL_MAP_OP_GET, rc, &result))
		return;
	assert_int_equal(rc, 0);
	for (uint32_t i = 0; i < m->rows.rows.count; i++) {
		int value = m->value[m->key[i]];
		done += value != ABSENT;
		assert_int_equal(m->rows.status[i], value == ABSENT ? -ENOENT : 0);
		if (value == ABSENT)
			continue;
		size_t at = (size_t)i * m->lab.info->slot_bytes;
		assert_int_equal(map_lab_number(&m->lab, m->rows.values + at), value);
	}
	check_result(m, &result, done, m->rows.rows.count - done, 0);
}

static void do_update(struct model *m)
{
	struct haul_map_result result;
	enum haul_map_mode mode = (enum haul_map_mode)prng_below(&m->prng, 3);
	uint64_t done = 0, missing = 0, kept = 0;
	if (m->lab.info->type == BPF_MAP_TYPE_ARRAY_OF_MAPS)
		mode = HAUL_MAP_ANY; /* its kernel side knows no other */
	int rc = haul_map_update(m->map, &m->rows.rows, mode, &result);
	if (!can_at_all(m, HAUL_MAP_OP_UPDATE, rc, &result))
		return;
	if (m->engine == HAUL_MAP_BATCH && mode != HAUL_MAP_ANY) {
		assert_int_equal(rc, -ENOTSUP);
		assert_int_equal(m->rows.status[0], -ENOTSUP);
		return;
	}
	assert_int_equal(rc, 0);
	for (uint32_t i = 0; i < m->rows.rows.count; i++) {
		int *value = &m->value[m->key[i]];
		int expected = 0;
		if (mode == HAUL_MAP_ONLY_NEW && *value != ABSENT)
			expected = -EEXIST;
		if (mode == HAUL_MAP_ONLY_EXISTING && *value == ABSENT)
			expected = -ENOENT;
		done += expected == 0;
		kept += expected == -EEXIST;
		missing += expected == -ENOENT;
		assert_int_equal(m->rows.status[i], expected);
		if (expected == 0)
			*value = row_value(m, i);
	}
	check_result(m, &result, done, missing, kept);
	bool any = mode == HAUL_MAP_ANY;
	bool only_new = mode == HAUL_MAP_ONLY_NEW;
	assert_int_equal(result.inserted, any ? HAUL_MAP_UNKNOWN : only_new ? done : 0);
	assert_int_equal(result.updated, any ? HAUL_MAP_UNKNOWN : only_new ? 0 : done);
}

static void do_upsert(struct model *m)
{
	struct haul_map_result result;
	uint64_t inserted = 0;
	int rc = haul_map_upsert(m->map, &m->rows.rows, &result);
	if (!can_at_all(m, HAUL_MAP_OP_UPSERT, rc, &result))
		return;
	assert_int_equal(rc, 0);
	for (uint32_t i = 0; i < m->rows.rows.count; i++) {
		inserted += m->value[m->key[i]] == ABSENT;
		m->value[m->key[i]] = row_value(m, i);
		assert_int_equal(m->rows.status[i], 0);
	}
	check_result(m, &result, m->rows.rows.count, 0, 0);
	assert_int_equal(result.inserted, inserted);
	assert_int_equal(result.updated, m->rows.rows.count - inserted);
}

static void do_delete(struct model *m)
{
	struct haul_map_result result;
	uint64_t done = 0;
	int rc = haul_map_delete(m->map, &m->rows.rows, &result);
	if (!can_at_all(m, HAUL_MAP_OP_DELETE, rc, &result))
		return;
	assert_int_equal(rc, 0);
	for (uint32_t i = 0; i < m->rows.rows.count; i++) {
		int *value = &m->value[m->key[i]];
		assert_int_equal(m->rows.status[i], *value == ABSENT ? -ENOENT : 0);
		done += *value != ABSENT;
		*value = ABSENT;
	}
	check_result(m, &result, done, m->rows.rows.count - done, 0);
}

static void do_compare_delete(struct model *m)
{
	static const struct haul_map_field field = { .offset = 1, .width = 3 };
	struct haul_map_result result;
	uint64_t done = 0, missing = 0, kept = 0;
	bool of_maps = map_type_of(m->lab.info->type)->of_maps;
	/* Some bytes, or all; of a map of maps the ids that get returns. */
	bool part = !of_maps && prng_below(&m->prng, 2) == 0;
	for (uint32_t i = 0; of_maps && i < m->rows.rows.count; i++)
		memcpy(m->rows.values + 4 * (size_t)i, &m->lab.inner_id[row_value(m, i)], 4);
	int rc = haul_map_compare_delete(m->map, &m->rows.rows, part ? &field : NULL, &result);
	if (!can_at_all(m, HAUL_MAP_OP_COMPARE_DELETE, rc, &result))
		return;
	assert_int_equal(rc, 0);
	for (uint32_t i = 0; i < m->rows.rows.count; i++) {
		int *value = &m->value[m->key[i]];
		/* The numbers are below 256, so bytes 1 to 3 are equal in all of them. */
		bool same = *value != ABSENT && (part || *value == row_value(m, i));
		int expected = *value == ABSENT ? -ENOENT : same ? 0 : -EEXIST;
		assert_int_equal(m->rows.status[i], expected);
		done += same;
		missing += expected == -ENOENT;
		kept += expected == -EEXIST;
		if (same)
			*value = ABSENT;
	}
	check_result(m, &result, done, missing, kept);
}

/* ---- walks ---- */

/* Threads of a scan write here at once. */
struct collected {
	const struct model *model;
	_Atomic uint32_t count;
	_Atomic uint32_t times[KEYS];
};

static int collect(const struct haul_map_batch *batch, void *arg)
{
	struct collected *all = arg;
	for (uint32_t i = 0; i < batch->count; i++) {
		uint32_t key = map_lab_key_number(&all->model->lab, haul_map_key(batch, i));
		assert_true(key < KEYS);
		assert_int_equal(map_lab_number(&all->model->lab, haul_map_value(batch, i)),
				 all->model->value[key]);
		all->times[key]++;
		all->count++;
	}
	return 0;
}

static uint32_t model_count(const struct model *m)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < KEYS; i++)
		count += m->value[i] != ABSENT;
	return count;
}

static void check_collected(const struct model *m, const struct collected *all)
{
	for (uint32_t i = 0; i < KEYS; i++)
		assert_int_equal(all->times[i], m->value[i] != ABSENT);
	assert_int_equal(all->count, model_count(m));
}

static void do_walk(struct model *m, bool take)
{
	struct collected all = { .model = m };
	struct haul_map_cursor cursor = { 0 };
	struct haul_map_batch batch;
	struct haul_map_result result;
	int count;
	while ((count = take ? haul_map_take(m->map, &cursor, &batch, &result)
			     : haul_map_read(m->map, &cursor, &batch, &result)) > 0) {
		assert_int_equal(count, batch.count);
		assert_int_equal(result.visited, batch.count);
		(void)collect(&batch, &all);
	}
	if (m->engine == HAUL_MAP_KERNEL) {
		assert_int_equal(count, -ENOTSUP);
		return;
	}
	if (!can_at_all(m, take ? HAUL_MAP_OP_TAKE : HAUL_MAP_OP_SCAN, count, &result))
		return;
	assert_int_equal(count, 0);
	check_collected(m, &all);
	for (uint32_t i = 0; take && i < KEYS; i++)
		m->value[i] = ABSENT;
}

static void do_scan(struct model *m)
{
	struct collected all = { .model = m };
	struct haul_map_report report;
	struct haul_map_result none = { 0 };
	struct haul_map_scan scan = { .visit = collect, .arg = &all };
	scan.check = prng_below(&m->prng, 2) == 0;
	scan.threads = prng_below(&m->prng, 4);
	int rc = haul_map_scan(m->map, &scan, &report);
	if (!can_at_all(m, HAUL_MAP_OP_SCAN, rc, &none))
		return;
	assert_int_equal(rc, 0);
	check_collected(m, &all);
	assert_int_equal(report.read, all.count);
	assert_int_equal(report.matched, all.count);
	assert_int_equal(report.evicted, 0);
	if (scan.check) {
		assert_int_equal(report.duplicates, 0);
		assert_int_equal(report.expected, all.count);
		assert_int_equal(report.after, all.count);
	}
}

/* Numbers below 3 go. Of maps of maps the numbers are ids, so there a filter takes all. */
static void do_delete_if(struct model *m)
{
	struct haul_map_result result;
	bool of_maps = map_type_of(m->lab.info->type)->of_maps;
	const struct haul_map_filter filter = {
		.count = of_maps ? 0 : 1,
		.conditions = { { .field = { .width = 4 },
				  .test = HAUL_MAP_LT,
				  .operand = UINT64_C(3) * m->lab.info->cpus } },
	};
	uint32_t count = model_count(m);
	uint64_t done = 0;
	int rc = haul_map_delete_if(m->map, &filter, &result);
	if (!can_at_all(m, HAUL_MAP_OP_DELETE_IF, rc, &result))
		return;
	assert_int_equal(rc, 0);
	for (uint32_t i = 0; i < KEYS; i++) {
		bool goes = m->value[i] != ABSENT && (of_maps || m->value[i] < 3);
		done += goes;
		m->value[i] = goes ? ABSENT : m->value[i];
	}
	check_result(m, &result, done, 0, 0);
	assert_int_equal(result.visited, count);
}

static void do_count(struct model *m)
{
	struct haul_map_result result;
	uint64_t count = UINT64_C(1) << 40;
	int rc = haul_map_count(m->map, &count, &result);
	if (!can_at_all(m, HAUL_MAP_OP_COUNT, rc, &result) && !m->array)
		return;
	assert_int_equal(rc, 0);
	assert_int_equal(count, model_count(m));
	assert_true(result.visited == 0 || result.visited == count);
}

static void do_aggregate(struct model *m)
{
	struct haul_map_result result;
	struct haul_map_aggregate sum = { .field = { .width = 4 } };
	uint64_t expected = 0;
	int rc = haul_map_aggregate(m->map, &sum, &result);
	if (!can_at_all(m, HAUL_MAP_OP_AGGREGATE, rc, &result))
		return;
	assert_int_equal(rc, 0);
	assert_int_equal(sum.count, model_count(m));
	assert_int_equal(result.visited, model_count(m));
	if (map_type_of(m->lab.info->type)->of_maps)
		return; /* a sum of ids */
	for (uint32_t i = 0; i < KEYS; i++)
		expected += m->value[i] == ABSENT ? 0 : (uint64_t)m->value[i] * m->lab.info->cpus;
	assert_int_equal(sum.sum, expected);
}

static void model_run(struct model *m)
{
	/* Each write to a map of maps waits until no program can be using what was there. */
	bool of_maps = map_type_of(m->lab.info->type)->of_maps;
	m->rows_max = of_maps ? 12 : ROWS;
	for (uint32_t round = 0; round < (of_maps ? 3 : ROUNDS); round++) {
		void (*const rows_ops[])(struct model *) = { do_update, do_get,           do_upsert,
							     do_get,    do_delete,        do_get,
							     do_update, do_compare_delete };
		for (uint32_t i = 0; i < sizeof rows_ops / sizeof *rows_ops; i++) {
			rows_draw(m);
			rows_ops[i](m);
			do_walk(m, false);
		}
		do_scan(m);
		do_count(m);
		do_aggregate(m);
		do_delete_if(m);
		do_scan(m);
		if (round % 3 == 2)
			do_walk(m, true);
	}
}

/* Whatever is done to a map of whatever type by whatever engine, it does what the model does, and
 * an engine that cannot says so and does nothing. */
static void test_map__does_what_the_model_does(void **state)
{
	(void)state;
	for (uint32_t type = 0; type < TYPES; type++) {
		for (int engine = 0; engine < HAUL_MAP_ENGINES; engine++) {
			struct model *m = malloc(sizeof *m);
			assert_non_null(m);
			print_message("%s by %s\n", haul_map_type_name(types[type]),
				      haul_map_engine_name((enum haul_map_engine)engine));
			model_open(m, types[type], (enum haul_map_engine)engine);
			model_run(m);
			model_close(m);
			free(m);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map__does_what_the_model_does),
	};
	map_lab_need();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
