#include <errno.h>
#include <stdlib.h>

#include "store/lsm_lab.h"

enum { ROUNDS = 1500, VIEWS = 4 };

struct held {
	struct lsm_view *view;
	uint64_t op;
};

struct play {
	struct lsm_lab lab;
	struct held held[VIEWS];
	uint64_t pins[VIEWS]; /* op + 1 */
	uint32_t reopened;
};

static void views_change(struct play *play)
{
	struct lsm_lab *lab = &play->lab;
	struct held *held = &play->held[prng_below(&lab->prng, VIEWS)];
	if (held->view) {
		lsm_lab_check(lab, held->view, held->op);
		lsm_view_drop(lab->lsm, held->view);
		held->view = NULL;
		return;
	}
	held->view = lsm_view_take(lab->lsm, &held->op);
	assert_int_equal(held->op, lab->published);
}

static void pins_change(struct play *play)
{
	struct lsm_lab *lab = &play->lab;
	uint64_t *pin = &play->pins[prng_below(&lab->prng, VIEWS)];
	uint64_t op;
	if (*pin == 0) {
		assert_int_equal(lsm_pin(lab->lsm, &op), 0);
		*pin = op + 1;
		return;
	}
	struct lsm_view *view = lsm_view_take(lab->lsm, &op);
	lsm_lab_check(lab, view, *pin - 1);
	lsm_view_drop(lab->lsm, view);
	if (prng_below(&lab->prng, 2) == 0)
		return;
	lsm_unpin(lab->lsm, *pin - 1);
	*pin = 0;
}

static void let_go(struct play *play)
{
	struct lsm_lab *lab = &play->lab;
	for (uint32_t i = 0; i < VIEWS; i++) {
		if (play->held[i].view)
			lsm_view_drop(lab->lsm, play->held[i].view);
		play->held[i].view = NULL;
		if (play->pins[i])
			lsm_unpin(lab->lsm, play->pins[i] - 1);
		play->pins[i] = 0;
	}
}

static void reopen(struct play *play)
{
	struct lsm_lab *lab = &play->lab;
	let_go(play);
	lsm_lab_close(lab);
	assert_int_equal(lsm_lab_open(lab), 0);
	uint64_t op;
	struct lsm_view *view = lsm_view_take(lab->lsm, &op);
	assert_int_equal(op, lsm_checkpoint(lab->lsm).op);
	lsm_lab_check(lab, view, op);
	lsm_view_drop(lab->lsm, view);
	lsm_lab_check_blobs(lab);
	lsm_lab_replay(lab);
	lsm_lab_check_executor(lab);
	play->reopened++;
}

/* A view held for long keeps a memory table; with two of them nothing could be frozen. */
static void room_for_freezing(struct play *play)
{
	struct lsm_lab *lab = &play->lab;
	for (uint32_t i = 0; i < VIEWS; i++) {
		struct held *held = &play->held[i];
		if (!held->view || held->view->active == lab->lsm->active)
			continue;
		lsm_view_drop(lab->lsm, held->view);
		held->view = NULL;
	}
}

static void round_random(struct play *play)
{
	struct lsm_lab *lab = &play->lab;
	uint32_t dice = prng_below(&lab->prng, 100);
	if (dice < 60) {
		room_for_freezing(play);
		assert_int_equal(lsm_lab_frame_random(lab), 0);
	} else if (dice < 70) {
		uint64_t ahead = lab->place.op - lab->published;
		lsm_lab_publish(lab, lab->published + prng_below(&lab->prng, (uint32_t)ahead + 1));
	} else if (dice < 80) {
		if (dice == 79)
			os_sim_advance(&lab->os, LSM_REST_NS);
		for (uint32_t i = prng_below(&lab->prng, 6); i > 0; i--)
			assert_true(lsm_step(lab->lsm, lab->published) >= 0);
	} else if (dice < 88) {
		views_change(play);
	} else if (dice < 94) {
		pins_change(play);
	} else if (dice < 98) {
		lsm_lab_check_executor(lab);
	} else if (dice < 99) {
		lsm_compact(lab->lsm);
	} else {
		reopen(play);
	}
}

/* Whatever was put is not found, or something else is: of any view, at any pinned op, while tables
 * are flushed, merged and moved in between, and after opening again. */
static void test_lsm_model__agrees_with_a_sorted_map(void **state)
{
	(void)state;
	struct play *play = calloc(1, sizeof *play);
	assert_non_null(play);
	struct prng prng;
	test_prng(&prng);
	for (uint32_t levels = 1; levels <= 4; levels++) {
		*play = (struct play){ .reopened = 0 };
		lsm_lab_init(&play->lab, prng_next(&prng));
		play->lab.options.levels = levels;
		play->lab.options.level_factor = 2 + levels % 3;
		/* Filters of all tables, of hardly any, and of some. */
		play->lab.options.filter_bytes = levels / 2 * (10 << 10);
		assert_int_equal(lsm_lab_open(&play->lab), 0);
		for (uint32_t round = 0; round < ROUNDS; round++)
			round_random(play);
		reopen(play);
		let_go(play);
		lsm_compact(play->lab.lsm);
		assert_int_equal(lsm_lab_flush(&play->lab), 0);
		lsm_compact(play->lab.lsm);
		assert_int_equal(lsm_lab_settle(&play->lab), 0);
		for (uint32_t tree = 0; tree < TREES; tree++)
			assert_true(lsm_lab_runs(&play->lab, (enum tree)tree) <= 1);
		lsm_lab_check_executor(&play->lab);
		lsm_lab_check_blobs(&play->lab);
		assert_true(play->reopened > 1);
		lsm_lab_done(&play->lab);
	}
	free(play);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lsm_model__agrees_with_a_sorted_map),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
