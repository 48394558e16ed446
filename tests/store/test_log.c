/* The log: what is put comes back in order, what recovery decides, and by which evidence. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log_lab.h"
#include "store/log_head.h"

static int lab_setup(void **state)
{
	struct log_lab *lab = malloc(sizeof *lab);

	assert_non_null(lab);
	log_lab_init(lab, 1);
	*state = lab;
	return 0;
}

static int lab_teardown(void **state)
{
	log_lab_done(*state);
	free(*state);
	return 0;
}

/* Close as a killed process would, and see what recovery says. */
static enum log_verdict again(struct log_lab *lab)
{
	int verdict;

	log_lab_abandon(lab);
	verdict = log_lab_open(lab);
	assert_true(verdict >= 0);
	assert_false(lab->wrong);
	assert_int_equal(lab->told, lab->report.end.op);
	return (enum log_verdict)verdict;
}

/* ---- the table ---- */

enum { NO, YES, ANY };
#define SEEN(kind) (1U << LOG_SEEN_##kind)

struct row {
	int number;
	unsigned int seen;
	int newer, acknowledges, unreadable, good;
	enum log_verdict verdict;
};

static bool fits(int want, bool is)
{
	return want == ANY || want == (is ? YES : NO);
}

static int word(const char *text, const char *const *words, int count)
{
	for (int i = 0; i < count; i++)
		if (strcmp(text, words[i]) == 0)
			return i;
	fail_msg("\"%s\" is not known", text);
	return -1;
}

/* What is between two bars of a line, without blanks around it. */
static char *cell(char **line)
{
	char *begin = *line + strspn(*line, " |");
	char *end = strchr(begin, '|');

	assert_non_null(end);
	*line = end + 1;
	while (end > begin && end[-1] == ' ')
		end--;
	*end = '\0';
	return begin;
}

static int answer(char **line)
{
	static const char *const words[] = { "no", "yes", "-" };

	return word(cell(line), words, 3);
}

static void row_parse(char *line, struct row *row)
{
	static const char *const kinds[] = { "nothing", "stale",    "foreign",   "broken",
					     "good",    "unlinked", "unreadable" };
	const char *texts[LOG_VERDICTS];
	char *kind, *rest = NULL;

	_Static_assert(sizeof kinds / sizeof kinds[0] == LOG_SEEN_KINDS, "all kinds");
	for (int i = 0; i < LOG_VERDICTS; i++)
		texts[i] = log_verdict_text((enum log_verdict)i);
	*row = (struct row){ .number = (int)strtol(cell(&line), NULL, 10) };
	for (kind = strtok_r(cell(&line), ",", &rest); kind != NULL;
	     kind = strtok_r(NULL, ",", &rest))
		row->seen |= 1U << word(kind + strspn(kind, " "), kinds, LOG_SEEN_KINDS);
	row->newer = answer(&line);
	row->acknowledges = answer(&line);
	row->unreadable = answer(&line);
	row->good = answer(&line);
	row->verdict = (enum log_verdict)word(cell(&line), texts, LOG_VERDICTS);
}

/* The table as it is written in the design. */
static int rows_load(struct row *rows, int max)
{
	FILE *file = fopen(HAUL_SOURCE "/docs/design/0016-the-log.md", "r");
	char line[512];
	bool inside = false;
	int count = 0;

	assert_non_null(file);
	while (fgets(line, sizeof line, file) != NULL) {
		if (strncmp(line, "| row |", 7) == 0)
			inside = true;
		else if (inside && strncmp(line, "| ", 2) == 0 && count < max)
			row_parse(line, &rows[count++]);
		else if (line[0] != '|')
			inside = false;
	}
	fclose(file);
	return count;
}

/* Every evidence there can be fits one row of the written table, and is decided as that says. */
static void test_log_decide__is_the_written_table(void **state)
{
	struct row rows[32];
	bool used[32] = { false };
	int count = rows_load(rows, 32);

	(void)state;
	assert_int_equal(count, 14);
	for (unsigned int input = 0; input < LOG_SEEN_KINDS * 16; input++) {
		const struct log_evidence evidence = {
			.seen = (enum log_seen)(input / 16),
			.newer_version = input & 1,
			.later_acknowledges = input & 2,
			.later_unreadable = input & 4,
			.later_good = input & 8,
		};
		int fitting = 0;

		for (int i = 0; i < count; i++) {
			const struct row *row = &rows[i];

			if ((row->seen >> evidence.seen & 1) == 0 ||
			    !fits(row->newer, evidence.newer_version) ||
			    !fits(row->acknowledges, evidence.later_acknowledges) ||
			    !fits(row->unreadable, evidence.later_unreadable) ||
			    !fits(row->good, evidence.later_good))
				continue;
			fitting++;
			used[i] = true;
			assert_int_equal(row->number, i + 1);
			assert_int_equal(log_decide(&evidence), row->verdict);
		}
		assert_int_equal(fitting, 1);
	}
	for (int i = 0; i < count; i++)
		assert_true(used[i]);
}

/* ---- putting and writing ---- */

/* Records of all sizes, alone and many in an append, come back in order and byte by byte, from the
 * beginning and from the middle of an append. */
static void test_log__what_is_put_comes_back(void **state)
{
	struct log_lab *lab = *state;
	struct prng prng;
	struct log_place middle = { 0 };

	test_prng(&prng);
	for (uint32_t round = 0; round < 60; round++) {
		uint32_t count = 1 + prng_below(&prng, 5);

		for (uint32_t i = 0; i < count && log_lab_put(lab) == 0; i++)
			if (prng_below(&prng, 20) == 0)
				middle = log_place(lab->log);
		assert_true(log_staged(lab->log));
		assert_int_equal(log_lab_write(lab), 0);
		assert_false(log_staged(lab->log));
		assert_int_equal(lab->durable, lab->next - 1);
		assert_int_equal(log_durable(lab->log), lab->durable);
	}
	assert_int_equal(again(lab), LOG_END);
	assert_int_equal(lab->told, lab->durable);
	assert_int_equal(lab->report.records, lab->durable);
	assert_int_equal(lab->report.lost_records, 0);
	lab->place = middle;
	assert_int_equal(again(lab), LOG_END);
	assert_int_equal(lab->told, lab->durable);
	assert_int_equal(lab->report.records, lab->durable - middle.op);
}

/* The log goes on behind what was replayed, again and again. */
static void test_log__goes_on_after_replay(void **state)
{
	struct log_lab *lab = *state;

	for (uint32_t round = 1; round < 20; round++) {
		log_lab_append(lab, 3);
		assert_int_equal(again(lab), LOG_END);
		assert_int_equal(lab->told, 3 * round);
	}
}

/* Writing without anything staged says what is durable, and writes nothing. */
static void test_log_write__nothing_is_no_write(void **state)
{
	struct log_lab *lab = *state;
	uint64_t syncs;

	log_lab_append(lab, 2);
	syncs = lab->media->syncs;
	lab->durable = 0;
	assert_int_equal(log_lab_write(lab), 0);
	assert_int_equal(lab->durable, 2);
	assert_int_equal(lab->media->syncs, syncs);
}

/* However many records are staged, they are one append. */
static void test_log_write__is_one_append(void **state)
{
	struct log_lab *lab = *state;
	uint64_t syncs, steps;

	assert_true(log_reserve_ahead(lab->log) > 0);
	syncs = lab->media->syncs;
	steps = vfs_sim_steps(lab->disk);
	for (int i = 0; i < 3; i++)
		assert_int_equal(log_lab_put(lab), 0);
	assert_int_equal(log_lab_write(lab), 0);
	assert_int_equal(lab->media->syncs, syncs + 1);
	assert_int_equal(vfs_sim_steps(lab->disk), steps + 1);
}

/* A full buffer says so before a frame is executed, and has room again when it was written; what is
 * larger than a buffer never has. */
static void test_log_room__full_and_never(void **state)
{
	struct log_lab *lab = *state;
	int rc;

	assert_int_equal(log_room(lab->log, LOG_LAB_BUFFER), HAUL_ELIMIT);
	assert_int_equal(log_room(lab->log, LOG_RECORD_MAX), HAUL_ELIMIT);
	assert_int_equal(log_room(lab->log, LOG_LAB_BUFFER - LOG_HEAD), 0);
	while ((rc = log_lab_put(lab)) == 0)
		;
	assert_int_equal(rc, HAUL_EFULL);
	assert_int_equal(log_room(lab->log, LOG_LAB_BUFFER - LOG_HEAD), HAUL_EFULL);
	assert_int_equal(log_lab_write(lab), 0);
	assert_int_equal(log_lab_put(lab), 0);
	assert_int_equal(log_lab_write(lab), 0);
	assert_int_equal(again(lab), LOG_END);
	assert_int_equal(lab->told, lab->durable);
}

/* Room made ahead: an append changes bytes, and neither names nor sizes. */
static void test_log_reserve_ahead__appends_only_write(void **state)
{
	struct log_lab *lab = *state;
	uint64_t until;

	assert_int_equal(log_reserve_ahead(lab->log), 1);
	assert_int_equal(log_reserve_ahead(lab->log), 0);
	vfs_sim_fail(lab->disk, VFS_SIM_NAME, 0, UINT64_MAX, -EIO);
	vfs_sim_fail(lab->disk, VFS_SIM_RESIZE, 0, UINT64_MAX, -EIO);
	until = log_place(lab->log).position + LOG_LAB_SEGMENT / 2;
	while (log_place(lab->log).position < until)
		log_lab_append(lab, 1);
}

/* Without room nothing happens, and with room again it goes on. */
static void test_log_room__no_space_is_told_before(void **state)
{
	struct log_lab *lab = *state;
	struct vfs_file *filler = NULL;
	uint64_t space = 0, op;
	int rc;

	log_lab_append(lab, 1);
	assert_int_equal(VFS_CALL(lab->vfs, open, lab->vfs, "filler", VFS_CREATE, true, &filler),
			 0);
	assert_int_equal(VFS_CALL(lab->vfs, space, lab->vfs, &space), 0);
	assert_int_equal(VFS_CALL(lab->vfs, resize, filler, space), 0);
	while ((rc = log_lab_put(lab)) == 0)
		assert_int_equal(log_lab_write(lab), 0);
	assert_int_equal(rc, -ENOSPC);
	assert_int_equal(log_reserve_ahead(lab->log), -ENOSPC);
	assert_false(log_staged(lab->log));
	op = lab->durable;
	assert_int_equal(VFS_CALL(lab->vfs, resize, filler, 0), 0);
	VFS_CALL(lab->vfs, close, filler);
	log_lab_append(lab, 20);
	assert_int_equal(again(lab), LOG_END);
	assert_int_equal(lab->told, op + 20);
}

/* Room holds also when what was staged is written meanwhile, and the record begins a block later
 * than it would have: into a segment that is not there. */
static void test_log_room__holds_when_the_buffer_is_taken(void **state)
{
	struct log_lab *lab = *state;
	const struct log_part part = { .data = lab->frame, .bytes = 1 };
	const uint32_t rest = LOG_LAB_SEGMENT - LOG_UNIT * 2 - LOG_HEAD;

	assert_int_equal(log_room(lab->log, 1), 0);
	assert_int_equal(log_put(lab->log, 1, &part, 1), 0);
	vfs_sim_fail(lab->disk, VFS_SIM_RESIZE, 0, UINT64_MAX, -ENOSPC);
	assert_int_equal(log_room(lab->log, rest), -ENOSPC);
	assert_int_equal(log_room(lab->log, rest - MEDIA_ALIGN), 0);
	vfs_sim_fail(lab->disk, VFS_SIM_RESIZE, 0, 0, -ENOSPC);
	assert_int_equal(log_room(lab->log, rest), 0);
}

/* An append that failed is the last: nothing is put or written any more. What was acknowledged is
 * there. */
static void test_log_write__errors_are_final(void **state)
{
	static const enum vfs_sim_call calls[] = { VFS_SIM_WRITE, VFS_SIM_SYNC };
	struct log_lab *lab = *state;

	for (size_t i = 0; i < 2; i++) {
		uint64_t durable;

		log_lab_append(lab, 3);
		durable = lab->durable;
		vfs_sim_fail(lab->disk, calls[i], 0, 1, -EIO);
		assert_int_equal(log_lab_put(lab), 0);
		assert_int_equal(log_lab_write(lab), -EIO);
		assert_int_equal(log_lab_put(lab), -EIO);
		assert_int_equal(log_lab_write(lab), -EIO);
		assert_int_equal(log_durable(lab->log), durable);
		assert_true(again(lab) == LOG_END || lab->report.verdict == LOG_TORN);
		assert_true(lab->told >= durable);
		lab->history[lab->told + 1]++;
	}
}

struct writer {
	struct log *log;
	_Atomic bool stop;
	uint64_t writes;
	int rc;
};

static void *writer_run(void *arg)
{
	struct writer *writer = arg;
	uint64_t last = 0, durable = 0;

	while (!writer->stop && writer->rc == 0) {
		writer->rc = log_write(writer->log, &durable);
		if (durable < last)
			writer->rc = -EINVAL;
		writer->writes += durable > last;
		last = durable;
	}
	return NULL;
}

/* One thread puts while another writes, and all of it is there in the end. */
static void test_log__puts_while_another_writes(void **state)
{
	struct log_lab *lab = *state;
	struct writer writer = { .log = lab->log };
	pthread_t thread;

	/* The simulated disk is for one thread: all the room that is needed is made before. */
	for (uint64_t at = 1; at < 64; at++)
		assert_int_equal(MEDIA_CALL(lab->media, log_reserve, at * LOG_LAB_SEGMENT), 0);
	assert_int_equal(log_room(lab->log, 1), 0);
	assert_int_equal(pthread_create(&thread, NULL, writer_run, &writer), 0);
	while (lab->next <= 300) {
		const struct log_part part = { .data = &lab->next, .bytes = sizeof lab->next };
		int rc = log_put(lab->log, lab->next, &part, 1);

		assert_true(rc == 0 || rc == HAUL_EFULL);
		lab->next += rc == 0;
	}
	writer.stop = true;
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(writer.rc, 0);
	assert_int_equal(log_lab_write(lab), 0);
	assert_int_equal(lab->durable, 300);
	log_lab_abandon(lab);
	assert_int_equal(log_lab_media(lab, MEDIA_WRITE), 0);
	(void)log_lab_replay(lab);
	assert_int_equal(lab->report.records, 300);
	assert_int_equal(lab->report.verdict, LOG_END);
}

/* Segments before a checkpoint are used again: their number stays as it is, and what they held
 * before is not taken for records. The log may end in the middle of an old one, which looks like a
 * torn end, if there is no mark. */
static void test_log__segments_are_used_again(void **state)
{
	struct log_lab *lab = *state;
	uint64_t space = 0, least = UINT64_MAX;

	for (uint32_t round = 0; round < 40; round++) {
		while (log_place(lab->log).position <
		       lab->place.position + 3 * (uint64_t)LOG_LAB_SEGMENT)
			log_lab_append(lab, 1);
		lab->place = log_place(lab->log);
		assert_int_equal(MEDIA_CALL(lab->media, log_trim, lab->place.position), 0);
		log_lab_append(lab, 2);
		assert_int_equal(VFS_CALL(lab->vfs, space, lab->vfs, &space), 0);
		if (round == 4)
			least = space;
		assert_true(round < 4 || space + 3 * (uint64_t)LOG_LAB_SEGMENT >= least);
		if (round % 2 == 0) {
			assert_int_equal(log_mark(lab->log), 0);
			assert_int_equal(again(lab), LOG_END);
		}
		assert_true(again(lab) == LOG_END || lab->report.verdict == LOG_TORN);
		assert_int_equal(lab->told, lab->durable);
	}
}

/* ---- marks ---- */

/* A mark is written once, gone over by the next append, and no record. */
static void test_log_mark__is_gone_over(void **state)
{
	struct log_lab *lab = *state;
	uint64_t syncs;

	assert_int_equal(log_mark(lab->log), 0);
	for (uint32_t round = 1; round < 10; round++) {
		log_lab_append(lab, 2);
		assert_int_equal(log_mark(lab->log), 0);
		syncs = lab->media->syncs;
		assert_int_equal(log_mark(lab->log), 0);
		assert_int_equal(lab->media->syncs, syncs);
		if (round % 3 == 0) {
			assert_int_equal(again(lab), LOG_END);
			assert_int_equal(lab->told, 2 * round);
		}
	}
}

/* What an append that was torn left in the rest of a block is no torn end again, once a mark says
 * that the log goes on behind it. Marks can be written after a recovery, before anything else. */
static void test_log_mark__after_recovery(void **state)
{
	struct log_lab *lab = *state;
	uint64_t position;

	while (log_lab_bytes(lab, 2) > 500)
		lab->history[2]++;
	while (log_lab_bytes(lab, 1) > 500)
		lab->history[1]++;
	assert_int_equal(log_lab_put(lab), 0);
	position = log_place(lab->log).position;
	assert_int_equal(log_lab_put(lab), 0);
	assert_int_equal(log_lab_write(lab), 0);
	log_lab_at(lab, position)[LOG_HEAD] ^= 1;
	assert_int_equal(again(lab), LOG_TORN);
	assert_int_equal(again(lab), LOG_TORN);
	assert_int_equal(lab->told, 1);
	assert_true(log_reserve_ahead(lab->log) >= 0);
	assert_int_equal(log_mark(lab->log), 0);
	assert_int_equal(again(lab), LOG_END);
	assert_int_equal(lab->told, 1);
	/* And now it is known that the first was durable. */
	log_lab_at(lab, 0)[LOG_HEAD] ^= 1;
	assert_int_equal(again(lab), LOG_DAMAGED);
	assert_int_equal(lab->report.lost_upto, 1);
}

/* A failed mark is a failed write. */
static void test_log_mark__errors_are_final(void **state)
{
	struct log_lab *lab = *state;

	log_lab_append(lab, 2);
	vfs_sim_fail(lab->disk, VFS_SIM_SYNC, 0, 1, -EIO);
	assert_int_equal(log_mark(lab->log), -EIO);
	assert_int_equal(log_lab_put(lab), -EIO);
}

/* ---- what recovery finds ---- */

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
		again(lab);
		/* One of a single sector that is zeros now is as if nothing had been there. */
		if (lab->report.verdict != LOG_TORN)
			assert_true(!garbage && sector == 0 && lab->report.verdict == LOG_END);
		assert_int_equal(lab->told, lab->durable - 1);
		assert_int_equal(lab->report.lost_upto, 0);
		lab->history[lab->durable]++;
		lab->durable--;
		assert_int_equal(again(lab), LOG_END);
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
		assert_int_equal(again(lab), LOG_DAMAGED);
		assert_null(lab->log);
		assert_int_equal(lab->told, which);
		assert_int_equal(lab->report.lost_records, 4 - which);
		assert_int_equal(lab->report.lost_upto, 4);
		*at ^= bit;
	}
	assert_int_equal(again(lab), LOG_END);
}

/* Whole blocks of zeros in the middle are damage, too: zeros alone are no end. */
static void test_log_replay__lost_writes_are_found(void **state)
{
	struct log_lab *lab = *state;

	log_lab_append(lab, 3);
	vfs_sim_lose(lab->disk, 0);
	log_lab_append(lab, 2);
	assert_int_equal(again(lab), LOG_DAMAGED);
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
	assert_int_equal(again(lab), LOG_DAMAGED);
	assert_int_equal(lab->report.lost_upto, 2);
	log_lab_at(lab, positions[1])[100] ^= 1;
	assert_int_equal(again(lab), LOG_END);
	vfs_sim_lose(lab->disk, 0);
	log_lab_append(lab, 1);
	assert_int_equal(log_mark(lab->log), 0);
	assert_int_equal(again(lab), LOG_DAMAGED);
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
			assert_int_equal(again(lab), LOG_DAMAGED);
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
	assert_int_equal(again(lab), LOG_TORN);
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
		assert_int_equal(again(lab), LOG_DAMAGED);
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
	assert_int_equal(again(lab), LOG_NEWER);
	head_change(lab, positions[0], make_older);
	assert_int_equal(again(lab), LOG_END);
	lab->uuid[3] ^= 1;
	assert_int_equal(again(lab), LOG_ALIEN);
	lab->uuid[3] ^= 1;
	assert_int_equal(again(lab), LOG_END);
	log_lab_append(lab, 1);
	head_change(lab, positions[0], make_long);
	assert_int_equal(again(lab), LOG_DAMAGED);
	head_change(lab, positions[0], make_strange);
	assert_int_equal(again(lab), LOG_DAMAGED);
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
	assert_int_equal(again(lab), LOG_END);
	assert_int_equal(lab->told, told);
	vfs_sim_crash(lab->disk, VFS_SIM_LOSE_ALL, &prng);
	assert_int_equal(again(lab), LOG_END);
	assert_int_equal(lab->told, told);
}

#define LAB_TEST(name) cmocka_unit_test_setup_teardown(name, lab_setup, lab_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_log_decide__is_the_written_table),
		LAB_TEST(test_log__what_is_put_comes_back),
		LAB_TEST(test_log__goes_on_after_replay),
		LAB_TEST(test_log_write__nothing_is_no_write),
		LAB_TEST(test_log_write__is_one_append),
		LAB_TEST(test_log_room__full_and_never),
		LAB_TEST(test_log_reserve_ahead__appends_only_write),
		LAB_TEST(test_log_room__no_space_is_told_before),
		LAB_TEST(test_log_room__holds_when_the_buffer_is_taken),
		LAB_TEST(test_log_write__errors_are_final),
		LAB_TEST(test_log__puts_while_another_writes),
		LAB_TEST(test_log__segments_are_used_again),
		LAB_TEST(test_log_mark__is_gone_over),
		LAB_TEST(test_log_mark__after_recovery),
		LAB_TEST(test_log_mark__errors_are_final),
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
