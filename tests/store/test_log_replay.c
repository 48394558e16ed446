/* What recovery finds in a log that was torn, damaged, or left by a killed process. */
#include <errno.h>
#include <string.h>

#include "log_lab.h"
#include "store/log_head.h"

/* Positions of the records 1 … count, each an append of its own; [count] is behind the last. */
static void appends(struct log_lab *lab, uint32_t count, uint64_t *positions)
{
	for (uint32_t i = 0; i < count; i++) {
		positions[i] = log_block_up(log_place(lab->log).position);
		log_lab_append(lab, 1);
	}
	positions[count] = log_block_up(log_place(lab->log).position);
}

/* The last append spoiled in any sector, by zeros or garbage: cut off, and the log goes on before
 * it, and a second recovery finds nothing to do. */
static void test_log_replay__torn_in_any_sector(void **state)
{
	struct log_lab *lab = *state;
	struct prng prng;

	test_prng(&prng);
	for (uint32_t sector = 0; sector < 40; sector++) {
		bool garbage = prng_below(&prng, 2) == 1;
		uint64_t positions[3], used;

		appends(lab, 2, positions);
		used = log_place(lab->log).position - positions[1];
		if (sector * VFS_SIM_SECTOR >= used)
			continue;
		uint8_t *at = log_lab_at(lab, positions[1] + sector * VFS_SIM_SECTOR);
		for (uint32_t i = 0; i < VFS_SIM_SECTOR; i++)
			at[i] = garbage ? (uint8_t)prng_next(&prng) : 0;
		log_lab_again(lab);
		/* One of a single sector that is zeros now is as if nothing had been there. */
		if (lab->report.verdict != LOG_TORN)
			assert_true(!garbage && sector == 0 && lab->report.verdict == LOG_END);
		assert_int_equal(lab->told, lab->durable - 1);
		assert_int_equal(lab->report.lost_upto, 0);
		lab->history[lab->durable]++;
		lab->durable--;
		assert_int_equal(log_lab_again(lab), LOG_END);
		assert_int_equal(lab->told, lab->durable);
	}
}

/* Any bit of what was acknowledged: the store does not open, and the report says what is behind. */
static void test_log_replay__damage_is_refused(void **state)
{
	struct log_lab *lab = *state;
	uint64_t positions[6];
	struct prng prng;

	test_prng(&prng);
	appends(lab, 5, positions);
	for (uint32_t trial = 0; trial < 300; trial++) {
		uint32_t which = prng_below(&prng, 4);
		uint32_t bytes = LOG_HEAD + log_lab_bytes(lab, which + 1);
		uint8_t *at = log_lab_at(lab, positions[which] + prng_below(&prng, bytes));
		uint8_t bit = (uint8_t)(1U << prng_below(&prng, 8));

		*at ^= bit;
		assert_int_equal(log_lab_again(lab), LOG_DAMAGED);
		assert_null(lab->log);
		assert_int_equal(lab->told, which);
		assert_int_equal(lab->report.lost_records, 4 - which);
		assert_int_equal(lab->report.lost_upto, 4);
		*at ^= bit;
	}
	assert_int_equal(log_lab_again(lab), LOG_END);
}

/* Whole blocks of zeros in the middle are damage, too: zeros alone are no end. */
static void test_log_replay__lost_writes_are_found(void **state)
{
	struct log_lab *lab = *state;

	log_lab_append(lab, 3);
	vfs_sim_lose(lab->disk, 0);
	log_lab_append(lab, 2);
	assert_int_equal(log_lab_again(lab), LOG_DAMAGED);
	assert_int_equal(lab->told, 3);
	assert_int_equal(lab->report.lost_upto, 4);
	assert_int_equal(lab->report.lost_records, 1);
}

/* The last append can be lost without a trace; a mark is the trace. */
static void test_log_replay__marks_close_the_end(void **state)
{
	struct log_lab *lab = *state;
	uint64_t positions[3];

	appends(lab, 2, positions);
	assert_int_equal(log_mark(lab->log), 0);
	log_lab_at(lab, positions[1])[100] ^= 1;
	assert_int_equal(log_lab_again(lab), LOG_DAMAGED);
	assert_int_equal(lab->report.lost_upto, 2);
	log_lab_at(lab, positions[1])[100] ^= 1;
	assert_int_equal(log_lab_again(lab), LOG_END);
	vfs_sim_lose(lab->disk, 0);
	log_lab_append(lab, 1);
	assert_int_equal(log_mark(lab->log), 0);
	assert_int_equal(log_lab_again(lab), LOG_DAMAGED);
	assert_int_equal(lab->report.lost_upto, 3);
}

/* A write that went elsewhere: it is missing where it belongs, or is over what was there, or, as
 * the very last one, gives itself away by where it is. */
static void test_log_replay__misdirected_writes_are_found(void **state)
{
	static const int64_t deltas[] = { 8192, 4096 * 2, -4096, -8192 };
	struct log_lab *lab = *state;

	for (uint32_t after = 0; after < 3; after++) {
		for (size_t i = 0; i < sizeof deltas / sizeof deltas[0]; i++) {
			log_lab_done(lab);
			log_lab_init(lab, i);
			log_lab_append(lab, 4);
			/* Small ones, so that both places are in one segment. */
			while (log_lab_bytes(lab, lab->next) > 2000)
				lab->history[lab->next]++;
			vfs_sim_misdirect(lab->disk, 0, (uint64_t)deltas[i]);
			log_lab_append(lab, 1 + after);
			assert_int_equal(log_lab_again(lab), LOG_DAMAGED);
			assert_true(lab->told <= 4);
		}
	}
}

static int count_told(const struct log_place *behind, const uint8_t *frame, uint32_t bytes,
		      void *arg)
{
	(void)frame;
	(void)bytes;
	*(uint64_t *)arg = behind->op;
	return 0;
}

/* A record of a torn append that would follow the one put anew, to the last bit: it must not be
 * there any more when that one is written, or what nobody was told of would come back. */
static void test_log_truncate__nothing_comes_back(void **state)
{
	struct log_lab *lab = *state;
	const struct log_part part = { .data = lab->frame, .bytes = 4096 - LOG_HEAD };
	const struct log_from from = { .uuid = lab->uuid };
	uint64_t told = 0, durable;

	assert_int_equal(log_room(lab->log, 3 * part.bytes), 0);
	for (uint64_t op = 1; op <= 3; op++)
		assert_int_equal(log_put(lab->log, op, &part, 1), 0);
	assert_int_equal(log_write(lab->log, &durable), 0);
	memset(log_lab_at(lab, 4096), 0, 4096);
	log_close(lab->log);
	assert_int_equal(log_replay(lab->media, &from, count_told, &told, &lab->report), 0);
	assert_int_equal(lab->report.verdict, LOG_TORN);
	assert_int_equal(told, 1);
	assert_int_equal(log_truncate(lab->media, &lab->report), 0);
	/* As if op 1 had been the only one of its append. */
	lab->report.end.op = 1;
	assert_int_equal(
		log_open(&lab->log, lab->media, lab->uuid, &lab->report.end, LOG_LAB_BUFFER), 0);
	assert_int_equal(log_room(lab->log, part.bytes), 0);
	assert_int_equal(log_put(lab->log, 2, &part, 1), 0);
	assert_int_equal(log_write(lab->log, &durable), 0);
	assert_int_equal(log_replay(lab->media, &from, count_told, &told, &lab->report), 0);
	assert_int_equal(lab->report.verdict, LOG_END);
	assert_int_equal(told, 2);
}

/* Records behind a hole that nobody was told of: one append, of which the first part is missing. */
static void test_log_replay__later_ones_that_acknowledge_nothing(void **state)
{
	struct log_lab *lab = *state;
	uint64_t position;

	log_lab_append(lab, 2);
	position = log_block_up(log_place(lab->log).position);
	for (int i = 0; i < 4; i++)
		assert_int_equal(log_lab_put(lab), 0);
	assert_int_equal(log_lab_write(lab), 0);
	memset(log_lab_at(lab, position), 0, LOG_HEAD);
	assert_int_equal(log_lab_again(lab), LOG_TORN);
	assert_int_equal(lab->told, 2);
	assert_int_equal(lab->report.lost_records, 3);
	assert_int_equal(lab->report.lost_upto, 0);
}

/* A record that verifies, in its place, and does not follow the last one. */
static void test_log_replay__chain_and_order(void **state)
{
	struct log_lab *lab = *state;
	struct log_place second, wrong[2];

	log_lab_append(lab, 1);
	second = log_place(lab->log);
	wrong[0] = wrong[1] = second;
	wrong[0].chain ^= 1;
	wrong[1].op++;
	for (size_t i = 0; i < 2; i++) {
		log_close(lab->log);
		assert_int_equal(
			log_open(&lab->log, lab->media, lab->uuid, &wrong[i], LOG_LAB_BUFFER), 0);
		lab->next = wrong[i].op + 1;
		log_lab_append(lab, 1);
		assert_int_equal(log_lab_again(lab), LOG_DAMAGED);
		assert_int_equal(lab->told, 1);
	}
}

static void head_change(struct log_lab *lab, uint64_t position, void (*change)(struct log_head *))
{
	struct log_head head;

	memcpy(&head, log_lab_at(lab, position), sizeof head);
	change(&head);
	head.check = log_head_check(&head);
	memcpy(log_lab_at(lab, position), &head, sizeof head);
}

static void make_newer(struct log_head *head)
{
	head->version++;
}

static void make_older(struct log_head *head)
{
	head->version--;
}

static void make_long(struct log_head *head)
{
	head->bytes = UINT32_MAX;
}

static void make_strange(struct log_head *head)
{
	head->kind = 77;
}

/* Heads of a newer version, of another store, of sizes and kinds there are not. */
static void test_log_replay__heads_that_verify(void **state)
{
	struct log_lab *lab = *state;
	uint64_t positions[2];

	appends(lab, 1, positions);
	head_change(lab, positions[0], make_newer);
	assert_int_equal(log_lab_again(lab), LOG_NEWER);
	head_change(lab, positions[0], make_older);
	assert_int_equal(log_lab_again(lab), LOG_END);
	lab->uuid[3] ^= 1;
	assert_int_equal(log_lab_again(lab), LOG_ALIEN);
	lab->uuid[3] ^= 1;
	assert_int_equal(log_lab_again(lab), LOG_END);
	log_lab_append(lab, 1);
	head_change(lab, positions[0], make_long);
	assert_int_equal(log_lab_again(lab), LOG_DAMAGED);
	head_change(lab, positions[0], make_strange);
	assert_int_equal(log_lab_again(lab), LOG_DAMAGED);
}

/* Blocks that cannot be read are never an end: not the next one, and none behind it. Nothing is
 * changed, and when they can be read again all is there. */
static void test_log_replay__unreadable_is_no_end(void **state)
{
	struct log_lab *lab = *state;
	unsigned int seen = 0;
	bool later = false;
	uint64_t steps;

	log_lab_append(lab, 30);
	log_lab_abandon(lab);
	for (uint32_t round = 0; round < 120; round++) {
		uint32_t failures = 1 + round % 4;

		assert_int_equal(log_lab_media(lab, MEDIA_WRITE), 0);
		steps = vfs_sim_steps(lab->disk);
		/* The large read fails, and then that of the first block, and then others. */
		vfs_sim_fail(lab->disk, VFS_SIM_READ, round / 4, failures, -EIO);
		assert_int_equal(log_lab_replay(lab), 0);
		vfs_sim_fail(lab->disk, VFS_SIM_READ, 0, 0, -EIO);
		seen |= 1U << lab->report.verdict;
		assert_true(lab->report.verdict == LOG_UNREADABLE ||
			    (lab->report.verdict == LOG_END && lab->told == 30));
		if (round < 4)
			assert_int_equal(lab->report.verdict,
					 failures > 1 ? LOG_UNREADABLE : LOG_END);
		/* Behind the last record, too. */
		later |= lab->report.verdict == LOG_UNREADABLE && lab->told == 30;
		assert_int_equal(vfs_sim_steps(lab->disk), steps);
		assert_false(lab->wrong);
		log_lab_abandon(lab);
	}
	assert_int_equal(seen, 1U << LOG_END | 1U << LOG_UNREADABLE);
	assert_true(later);
	assert_int_equal(log_lab_open(lab), LOG_END);
	assert_int_equal(lab->told, 30);
}

static int stop_at_three(const struct log_place *behind, const uint8_t *frame, uint32_t bytes,
			 void *arg)
{
	(void)frame;
	(void)bytes;
	(void)arg;
	return behind->op == 3 ? -EXDEV : 0;
}

/* Whoever is told can stop, and the report is not touched. */
static void test_log_replay__can_be_stopped(void **state)
{
	struct log_lab *lab = *state;
	const struct log_from from = { .uuid = lab->uuid };
	struct log_report report = { .records = 77 };

	log_lab_append(lab, 5);
	assert_int_equal(log_replay(lab->media, &from, stop_at_three, NULL, &report), -EXDEV);
	assert_int_equal(report.records, 77);
}

/* What a killed process wrote and nobody synced is synced before it is relied on: a power cut after
 * the recovery takes none of it. */
static void test_log_open__what_was_replayed_is_durable(void **state)
{
	struct log_lab *lab = *state;
	struct prng prng;
	uint64_t told;

	prng_init(&prng, 1);
	log_lab_append(lab, 3);
	vfs_sim_fail(lab->disk, VFS_SIM_SYNC, 0, 0, -EIO);
	/* An append that has been written, of which the sync is still to come. */
	uint64_t position = log_block_up(log_place(lab->log).position);
	assert_int_equal(log_lab_put(lab), 0);
	assert_int_equal(log_lab_write(lab), 0);
	told = lab->next - 1;
	struct vfs_file *file = NULL;
	assert_int_equal(
		VFS_CALL(lab->vfs, open, lab->vfs, "log/0000000000000000", VFS_WRITE, false, &file),
		0);
	assert_int_equal(VFS_CALL(lab->vfs, write, file, log_lab_at(lab, position), 4096,
				  position % LOG_LAB_SEGMENT, false),
			 0);
	VFS_CALL(lab->vfs, close, file);
	assert_int_equal(log_lab_again(lab), LOG_END);
	assert_int_equal(lab->told, told);
	vfs_sim_crash(lab->disk, VFS_SIM_LOSE_ALL, &prng);
	assert_int_equal(log_lab_again(lab), LOG_END);
	assert_int_equal(lab->told, told);
}

#define LAB_TEST(name) cmocka_unit_test_setup_teardown(name, log_lab_setup, log_lab_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LAB_TEST(test_log_replay__torn_in_any_sector),
		LAB_TEST(test_log_replay__damage_is_refused),
		LAB_TEST(test_log_replay__lost_writes_are_found),
		LAB_TEST(test_log_replay__marks_close_the_end),
		LAB_TEST(test_log_replay__misdirected_writes_are_found),
		LAB_TEST(test_log_truncate__nothing_comes_back),
		LAB_TEST(test_log_replay__later_ones_that_acknowledge_nothing),
		LAB_TEST(test_log_replay__chain_and_order),
		LAB_TEST(test_log_replay__heads_that_verify),
		LAB_TEST(test_log_replay__unreadable_is_no_end),
		LAB_TEST(test_log_replay__can_be_stopped),
		LAB_TEST(test_log_open__what_was_replayed_is_durable),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
