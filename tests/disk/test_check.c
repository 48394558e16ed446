/* What check says of values, of crashes and of errors, and what repairing takes. Damage is made in
 * the bytes of a simulated disk, behind the back of a cache that was closed. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "disk/check_lab.h"
#include "disk/reclaim_state.h"

/* A good cache is said to be damaged, or check sees other entries than the cache has. */
static void test_check__good_cache_is_good(void **state)
{
	(void)state;
	struct write_lab *lab = check_lab_open();
	struct check_seen seen;
	uint64_t bytes = 0;

	const struct haul_cache_checked checked = check_lab_look(lab, &seen);
	assert_string_equal(checked.first, "");
	assert_int_equal(checked.entries, CHECK_LAB_KEYS - CHECK_LAB_DELETED);
	for (uint32_t i = 0; i < CHECK_LAB_KEYS; i++) {
		assert_int_equal(seen.entries[i], i < CHECK_LAB_DELETED ? 0 : 1);
		assert_int_equal(seen.status[i], HAUL_CACHE_HIT);
		if (i >= CHECK_LAB_DELETED)
			bytes +=
				check_lab_bytes(i, i >= CHECK_LAB_NEW_FROM && i < CHECK_LAB_NEW_TO);
	}
	assert_int_equal(checked.bytes, bytes);
	assert_int_equal(checked.damaged + checked.structures + checked.torn + checked.repaired, 0);
	/* Only the damaged are told unless all are wanted. */
	(void)check_lab_run(lab, false, false, &seen);
	assert_int_equal(seen.calls, 0);
	check_lab_close(lab);
}

/* Looking changes the disk, or repairing a good cache does. */
static void test_check__looking_writes_nothing(void **state)
{
	(void)state;
	struct write_lab *lab = check_lab_open();
	struct check_seen seen;
	const uint64_t before = io_sim_count(lab->disk, IO_WRITE);

	(void)check_lab_repair(lab, &seen);
	assert_int_equal(io_sim_count(lab->disk, IO_WRITE), before);
	check_lab_value(lab, 50)[0] ^= 1;
	memset(io_sim_bytes(lab->disk), 0, 4096);
	const uint64_t writes = io_sim_count(lab->disk, IO_WRITE);
	const uint64_t syncs = io_sim_count(lab->disk, IO_SYNC);
	(void)check_lab_look(lab, &seen);
	assert_int_equal(io_sim_count(lab->disk, IO_WRITE), writes);
	assert_int_equal(io_sim_count(lab->disk, IO_SYNC), syncs);
	check_lab_close(lab);
}

/* A damaged value is not found, its neighbours are accused, or repairing takes more than it, or
 * brings an older value back. */
static void test_check__damaged_value_is_named_and_dropped(void **state)
{
	(void)state;
	static const uint32_t lost[] = { 25, 110 };
	struct write_lab *lab = check_lab_open();
	struct check_seen seen;

	check_lab_value(lab, 25)[check_lab_bytes(25, true) - 1] ^= 0x80;
	check_lab_value(lab, 110)[7] ^= 1;
	struct haul_cache_checked checked = check_lab_look(lab, &seen);
	assert_int_equal(checked.damaged, 2);
	assert_int_equal(checked.structures, 0);
	assert_int_equal(checked.entries, CHECK_LAB_KEYS - CHECK_LAB_DELETED);
	assert_non_null(strstr(checked.first, "does not verify"));
	for (uint32_t i = CHECK_LAB_DELETED; i < CHECK_LAB_KEYS; i++)
		assert_int_equal(seen.status[i],
				 i == 25 || i == 110 ? HAUL_CACHE_CORRUPT : HAUL_CACHE_HIT);
	checked = check_lab_repair(lab, &seen);
	assert_int_equal(checked.damaged, 2);
	assert_int_equal(checked.repaired, 2);
	assert_int_equal(seen.calls, 2);
	check_lab_clean(lab, CHECK_LAB_KEYS - CHECK_LAB_DELETED - 2);
	check_lab_served(lab, lost, 2);
	check_lab_close(lab);
}

/* Damage where nothing lives any more is reported. */
static void test_check__damage_in_dead_values_is_none(void **state)
{
	(void)state;
	struct write_lab *lab = check_lab_open();
	uint8_t *old, *new;

	/* The value of a key that is stored anew afterwards. */
	old = check_lab_value(lab, 60);
	write_lab_shard(lab);
	check_lab_put(lab, 60, 100);
	assert_int_equal(shard_close(lab->shard), 0);
	lab->shard = NULL;
	new = check_lab_value(lab, 60);
	assert_true(old != new);
	old[1] ^= 1;
	check_lab_clean(lab, CHECK_LAB_KEYS - CHECK_LAB_DELETED);
	check_lab_close(lab);
}

/* A sector that cannot be read is taken for a wrong value, or for the end of the segment. */
static void test_check__unreadable_values_are_told_apart(void **state)
{
	(void)state;
	static const uint32_t lost[] = { 61 };
	struct write_lab *lab = check_lab_open();
	struct check_seen seen;
	const uint64_t at = (uint64_t)(check_lab_value(lab, 61) - io_sim_bytes(lab->disk));

	io_sim_bad(lab->disk, (at + 4095) / 4096 * 4096, 512);
	struct haul_cache_checked checked = check_lab_look(lab, &seen);
	assert_int_equal(seen.status[61], HAUL_CACHE_FAILED);
	assert_true(checked.damaged >= 1 && checked.damaged <= 3);
	const uint64_t damaged = checked.damaged;
	if (damaged == 1)
		assert_non_null(strstr(checked.first, "cannot be read"));
	checked = check_lab_repair(lab, &seen);
	assert_int_equal(checked.repaired, damaged);
	check_lab_clean(lab, CHECK_LAB_KEYS - CHECK_LAB_DELETED - damaged);
	io_sim_bad(lab->disk, 0, 0);
	if (damaged == 1)
		check_lab_served(lab, lost, 1);
	check_lab_close(lab);
}

/* A caller that wants to stop is not heard, or gets another value than its own. */
static void test_check__callbacks_can_stop_it(void **state)
{
	(void)state;
	struct write_lab *lab = check_lab_open();
	struct check_seen seen = { .stop_at = 5 };
	struct haul_cache_checked checked = { .entries = 99 };
	struct haul_cache_check options = { .all = true, .entry = check_seen_entry, .arg = &seen };

	assert_int_equal(check_volume(&lab->volume, &lab->spy.io, &options, &checked, NULL), 77);
	assert_int_equal(seen.calls, 5);
	options = (struct haul_cache_check){ .progress = check_seen_progress, .arg = &seen };
	seen = (struct check_seen){ .stop_at = 3 };
	assert_int_equal(check_volume(&lab->volume, &lab->spy.io, &options, &checked, NULL), 78);
	seen = (struct check_seen){ 0 };
	assert_int_equal(check_volume(&lab->volume, &lab->spy.io, &options, &checked, NULL), 0);
	assert_int_equal(seen.done, seen.total);
	assert_int_equal(seen.total, (uint64_t)lab->volume.super.segments * CHECK_LAB_SEGMENT);
	check_lab_close(lab);
}

/* A device that is gone is reported as a damaged cache. */
static void test_check__dead_device_is_an_error(void **state)
{
	(void)state;
	struct write_lab *lab = check_lab_open();
	const struct haul_cache_check options = { 0 };
	struct haul_cache_checked checked = { .entries = 99 };
	struct haul_err err = { 0 };

	io_sim_dead(lab->disk, true);
	assert_int_equal(check_volume(&lab->volume, &lab->spy.io, &options, &checked, &err),
			 -ENODEV);
	assert_true(err.code == -ENODEV && err.text[0] != 0);
	assert_int_equal(checked.entries, 99);
	io_sim_dead(lab->disk, false);
	check_lab_clean(lab, CHECK_LAB_KEYS - CHECK_LAB_DELETED);
	check_lab_close(lab);
}

/* Want of memory is taken for damage, or ends the process. */
static void test_check__want_of_memory_is_an_error(void **state)
{
	(void)state;
	struct write_lab *lab = check_lab_open();
	struct check_seen seen;
	const struct haul_cache_check options = { .repair = true,
						  .entry = check_seen_entry,
						  .arg = &seen };
	struct haul_cache_checked checked = { .entries = 99 };
	const uint64_t writes = io_sim_count(lab->disk, IO_WRITE);

	check_lab_value(lab, 110)[7] ^= 1;
	const uint64_t before = test_mallocs();
	(void)check_lab_look(lab, &seen);
	/* Those of a look, and the two that remember what is to be repaired. */
	const uint64_t count = test_mallocs() - before + 2;
	for (uint32_t i = 0; i < count; i++) {
		struct haul_err err = { 0 };
		if (!test_malloc_fail(i))
			break;
		assert_int_equal(check_volume(&lab->volume, &lab->spy.io, &options, &checked, &err),
				 -ENOMEM);
		assert_true(err.code == -ENOMEM && err.text[0] != 0);
		assert_int_equal(checked.entries, 99);
	}
	assert_int_equal(io_sim_count(lab->disk, IO_WRITE), writes);
	(void)check_lab_repair(lab, &seen);
	check_lab_clean(lab, CHECK_LAB_KEYS - CHECK_LAB_DELETED - 1);
	check_lab_close(lab);
}

/* The process that crashed is gone: its memory is freed, its disk hears of nothing. */
static void abandon(struct write_lab *lab)
{
	lab->shard->reclaim->reads = 0; /* they never finish */
	lab->shard->flushing_stopped = true;
	(void)shard_close(lab->shard);
	lab->shard = NULL;
}

/* What a crash leaves is called damage: then nobody would believe check. */
static void test_check__crashes_are_no_damage(void **state)
{
	(void)state;
	struct prng prng;
	uint64_t torn = 0;

	test_prng(&prng);
	for (uint32_t round = 0; round < 60; round++) {
		struct write_lab *lab = check_lab_open();
		struct check_seen seen;
		write_lab_shard(lab);
		lab->wait_count = 0;
		for (uint32_t i = 0; i < 30; i++)
			(void)write_lab_put(lab, prng_below(&prng, CHECK_LAB_KEYS),
					    prng_below(&prng, 9000), true);
		io_sim_stop_after(lab->disk, prng_below(&prng, 20));
		for (uint32_t turn = 0; turn < 200; turn++) {
			(void)shard_poll(lab->shard);
			os_sim_advance(&lab->os, NS_PER_MS);
		}
		io_sim_crash(lab->disk, prng_below(&prng, IO_SIM_CRASHES), &prng);
		abandon(lab);
		lab->spy.inner = io_sim_io(lab->disk);
		lab->spy.io.in_flight = 0;
		io_sim_stop_after(lab->disk, UINT64_MAX);
		const struct haul_cache_checked checked = check_lab_look(lab, &seen);
		if (checked.damaged != 0 || checked.structures != 0)
			fail_msg("round %" PRIu32 ": %s", round, checked.first);
		torn += checked.torn;
		write_lab_shard(lab);
		assert_int_equal(shard_close(lab->shard), 0);
		lab->shard = NULL;
		const struct haul_cache_checked after = check_lab_look(lab, &seen);
		assert_int_equal(after.damaged + after.structures + after.torn, 0);
		assert_int_equal(after.entries, checked.entries);
		check_lab_close(lab);
	}
	assert_true(torn > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check__good_cache_is_good),
		cmocka_unit_test(test_check__looking_writes_nothing),
		cmocka_unit_test(test_check__damaged_value_is_named_and_dropped),
		cmocka_unit_test(test_check__damage_in_dead_values_is_none),
		cmocka_unit_test(test_check__unreadable_values_are_told_apart),
		cmocka_unit_test(test_check__callbacks_can_stop_it),
		cmocka_unit_test(test_check__dead_device_is_an_error),
		cmocka_unit_test(test_check__want_of_memory_is_an_error),
		cmocka_unit_test(test_check__crashes_are_no_damage),
	};

	return cmocka_run_group_tests_name("check", tests, NULL, NULL);
}
