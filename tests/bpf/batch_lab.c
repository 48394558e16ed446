#include "batch_lab.h"

#include <errno.h>

#include "bpf/map_state.h"

const int batch_lab_busy[BATCH_LAB_BUSY] = { -EBUSY, -EDEADLK, -ETIMEDOUT, -EAGAIN, -EINTR };

void batch_lab_open(struct batch_lab *f, uint32_t type, uint32_t max_entries, uint32_t batch,
		    enum haul_map_engine engine)
{
	const struct haul_map_options options = { .engine = engine, .batch = batch };
	map_lab_open(&f->lab, (struct haul_map_spec){ .type = type, .max_entries = max_entries },
		     NULL);
	lab_sys_init(&f->twin);
	f->map = map_lab_again(&f->lab, &options, &f->twin);
	lab_rows_open(&f->rows, &f->lab, BATCH_LAB_ROWS);
}

void batch_lab_close(struct batch_lab *f)
{
	lab_rows_close(&f->rows);
	haul_map_close(f->map);
	map_lab_close(&f->lab);
}

void batch_lab_fill(struct batch_lab *f, uint32_t first, uint32_t count)
{
	assert_true(count <= BATCH_LAB_ROWS);
	f->rows.rows.count = count;
	for (uint32_t i = 0; i < count; i++) {
		lab_rows_set(&f->rows, &f->lab, i, first + i, (first + i) % MAP_LAB_INNERS);
		f->rows.status[i] = 12345;
	}
}

int batch_lab_walk(struct batch_lab *f, bool take, struct haul_map_cursor *cursor,
		   struct batch_walked *w)
{
	struct haul_map_batch batch;
	struct haul_map_result result;
	for (;;) {
		int rc = take ? haul_map_take(f->map, cursor, &batch, &result)
			      : haul_map_read(f->map, cursor, &batch, &result);
		w->calls += result.calls;
		w->retries += result.retries;
		assert_int_equal(result.reason, rc < 0 ? rc : 0);
		if (rc <= 0)
			return rc;
		w->batches++;
		w->count += batch.count;
		for (uint32_t i = 0; i < batch.count; i++)
			w->times[map_lab_key_number(&f->lab, haul_map_key(&batch, i))]++;
	}
}

void batch_lab_once(const struct batch_walked *w, uint32_t count)
{
	assert_int_equal(w->count, count);
	for (uint32_t i = 0; i < BATCH_LAB_ROWS; i++)
		assert_int_equal(w->times[i], i < count);
}

uint64_t batch_lab_extra(const struct batch_lab *f, enum map_counter counter)
{
	return f->map->stats.extra[counter];
}
