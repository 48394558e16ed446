/* bpf/progs/map_hash.bpf.c — walks over large hash maps, bucket by bucket, by the kernel's own
 * structures (offsets from its BTF); see map_prog.h.
 *
 * bpf_for_each_map_elem starts at the first bucket every time, calls us through a pointer for each
 * entry, and waits for each entry's memory before it looks at the next. Here a group of buckets is
 * read first, then the first entry of each is touched, so that memory is waited for once a group;
 * and a call can go on where the last one ended, so the records need not hold the whole map.
 *
 * A chain ends with a mark that carries its bucket's number. Another mark means that the entry we
 * stood on was taken out and used again in another chain: the bucket is read once more, from its
 * head. Every read is through a pointer that the kernel lets fail (it then gives 0), so the worst
 * that another CPU can do to us is a wrong entry, as with any reader of a hash map without
 * locks. */
#include "bpf/progs/map_common.h"

enum {
	STEPS = 48, /* entries and ends of chains of a group that are taken in one go; … */
	CHAIN_STEPS = 1 << 16, /* … what is left of longer ones, one call each */
	TRIES = 64
};

extern void *bpf_rdonly_cast(const void *address, __u32 type) __ksym;
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;

/* Where to read: any address, any length; a fault reads as 0. */
MAP_INLINE void *look_at(uint64_t address)
{
	return bpf_rdonly_cast((const void *)address, 0);
}

MAP_INLINE uint64_t bucket_address(uint64_t bucket)
{
	return map_work.buckets + bucket * MAP_BUCKET_BYTES;
}

static void walk_start(void)
{
	/* Through memory, so that the verifier sees a number instead of a map. */
	*(volatile uint64_t *)&map_work.map = (uint64_t)&map_target;
	const uint8_t *map = look_at(*(volatile uint64_t *)&map_work.map);
	map_work.buckets = *(const uint64_t *)(map + map_config.buckets_at);
	map_work.bucket_count = *(const uint32_t *)(map + map_config.bucket_count_at);
}

/* The heads of a group of buckets, and a look at what they point to: all of an entry that will be
 * copied, only the number of one that is added up. No branches: what is read here is on its way
 * while the next address is worked out. */
MAP_INLINE void group_fetch(int scan)
{
	uint64_t at = bucket_address(map_work.bucket);
	const uint8_t *buckets = look_at(at);
	uint64_t number = map_config.key_at + map_work.pick.at +
			  (map_work.in_key ? 0 : (map_config.key_size + 7) & ~7U);
	uint64_t heads[MAP_GROUP];
#pragma clang loop unroll(full)
	for (uint32_t i = 0; i < MAP_GROUP; i++) {
		heads[i] = *(const volatile uint64_t *)(buckets + i * MAP_BUCKET_BYTES);
		map_work.heads[i] = heads[i];
	}
#pragma clang loop unroll(full)
	for (uint32_t i = 0; i < MAP_GROUP; i++) {
		/* An empty bucket is an odd number: look at the buckets again instead. */
		uint64_t full = (heads[i] & 1) - 1;
		uint64_t node = (heads[i] & full) | (at & ~full);
		const uint8_t *entry = look_at(node);
		(void)*(const volatile uint64_t *)entry;
		if (scan) {
			(void)*(const volatile uint64_t *)(entry + 64);
			(void)*(const volatile uint64_t *)(entry + 128);
		} else {
			(void)*(const volatile uint64_t *)look_at(node + number);
		}
	}
	map_work.slot = 0;
	map_work.tries = 0;
	map_work.node = heads[0];
	map_work.mark = map_work.matched;
	map_work.mark_visited = map_work.visited;
}

/* At the end of a chain: on to the next bucket of the group; 1 when it was the last. */
MAP_INLINE long chain_end(uint64_t node, int again)
{
	uint64_t bucket = map_work.bucket + map_work.slot;
	if (again && node != (bucket << 1 | 1) && map_work.tries++ < TRIES) {
		map_work.hops++;
		map_work.matched = map_work.mark;
		map_work.visited = map_work.mark_visited;
		const uint8_t *head = look_at(bucket_address(bucket));
		map_work.node = *(const volatile uint64_t *)head;
		return 0;
	}
	uint32_t slot = ++map_work.slot;
	if (slot >= MAP_GROUP)
		return 1;
	map_work.tries = 0;
	map_work.node = map_work.heads[slot];
	map_work.mark = map_work.matched;
	map_work.mark_visited = map_work.visited;
	return 0;
}

MAP_INLINE const uint8_t *entry_key(const uint8_t *entry)
{
	return entry + map_config.key_at;
}

MAP_INLINE const uint8_t *entry_value(const uint8_t *entry)
{
	return entry_key(entry) + ((map_config.key_size + 7) & ~7U);
}

/* The two below are not static, so that the verifier looks at them once and not once a step. */
__attribute__((noinline)) int hash_scan_entry(uint64_t node, uint32_t at);
__attribute__((noinline)) int hash_sum_entry(uint64_t node);

/* The entry goes to the record `at`: 1, or 0 when it does not pass, -1 when there is no record. */
int hash_scan_entry(uint64_t node, uint32_t at)
{
	const uint8_t *entry = look_at(node);
	const uint8_t *key = entry_key(entry);
	const uint8_t *value = entry_value(entry);
	if (!passes(key, value))
		return 0;
	uint8_t *record = bpf_map_lookup_elem(&map_io, &at);
	if (!record)
		return -1;
	copy_key(record + MAP_RECORD_KEY, key);
	copy_value(record + map_config.value_at, value);
	return 1;
}

int hash_sum_entry(uint64_t node)
{
	const uint8_t *entry = look_at(node);
	if (passes(entry_key(entry), entry_value(entry)))
		sum_up(entry_key(entry), entry_value(entry));
	return 0;
}

static long scan_step(uint32_t i, void *none)
{
	uint64_t node = map_work.node;
	if (node & 1 || !node)
		return chain_end(node, 1);
	const uint8_t *entry = look_at(node);
	map_work.node = *(const volatile uint64_t *)entry;
	int took = hash_scan_entry(node, map_work.matched);
	if (took < 0) {
		map_work.full = 1;
		return 1;
	}
	map_work.visited++;
	map_work.matched += took;
	return 0;
}

static long sum_step(uint32_t i, void *none)
{
	uint64_t node = map_work.node;
	if (node & 1 || !node)
		return chain_end(node, 0);
	const uint8_t *entry = look_at(node);
	map_work.node = *(const volatile uint64_t *)entry;
	map_work.visited++;
	return hash_sum_entry(node);
}

/* The usual group: short chains, nothing moved. Stops at the first thing that is otherwise, and
 * leaves it to the steps above. Returns 1 when all is done. */
MAP_INLINE int group_quick(int scan)
{
	/* Read back: a number that the verifier knows would make it follow each of its values. */
	uint32_t slot = *(volatile uint32_t *)&map_work.slot;
	uint64_t node = *(volatile uint64_t *)&map_work.node;
	uint64_t end = map_work.bucket << 1 | 1;
	uint64_t matched = map_work.matched, visited = map_work.visited;
	uint64_t mark = matched, mark_visited = visited;
	for (uint32_t i = 0; i < STEPS; i++) {
		if (node == end) {
			mark = matched;
			mark_visited = visited;
			end += 2;
			node = map_work.heads[++slot % MAP_GROUP];
			if (slot == MAP_GROUP)
				break;
			continue;
		}
		if (node & 1 || !node)
			break;
		const uint8_t *entry = look_at(node);
		uint64_t next = *(const volatile uint64_t *)entry;
		if (!scan) {
			hash_sum_entry(node);
		} else {
			int took = hash_scan_entry(node, matched);
			if (took < 0)
				break;
			matched += took;
		}
		visited++;
		node = next;
	}
	map_work.slot = slot;
	map_work.node = node;
	map_work.matched = matched;
	map_work.visited = visited;
	map_work.mark = mark;
	map_work.mark_visited = mark_visited;
	return slot == MAP_GROUP;
}

static long scan_group(uint32_t i, void *none)
{
	if (map_work.bucket >= map_work.bucket_count)
		return 1;
	uint64_t matched = map_work.matched;
	uint64_t visited = map_work.visited;
	bpf_rcu_read_lock();
	group_fetch(1);
	if (!group_quick(1))
		bpf_loop(CHAIN_STEPS, scan_step, 0, 0);
	bpf_rcu_read_unlock();
	if (map_work.full) {
		map_work.matched = matched;
		map_work.visited = visited;
		return 1;
	}
	map_work.bucket += MAP_GROUP;
	return 0;
}

SEC("syscall")
int hash_scan(void *ctx)
{
	walk_start();
	bpf_loop(MAP_GROUPS, scan_group, 0, 0);
	return 0;
}

/* What has been added cannot be taken back: as with bpf_for_each_map_elem, an entry that is used
 * again under our feet may lead elsewhere. */
static long sum_group(uint32_t i, void *none)
{
	if (map_work.bucket >= map_work.bucket_count)
		return 1;
	bpf_rcu_read_lock();
	group_fetch(0);
	if (!group_quick(0))
		bpf_loop(CHAIN_STEPS, sum_step, 0, 0);
	bpf_rcu_read_unlock();
	map_work.bucket += MAP_GROUP;
	return 0;
}

SEC("syscall")
int hash_sum(void *ctx)
{
	walk_start();
	bpf_loop(MAP_GROUPS, sum_group, 0, 0);
	return 0;
}

/* ---- rows ---- */

/* Rows of a large map lie anywhere: one at a time, each waits for its bucket and then for its
 * entry. The kernel's hash is known (jhash, and the map's seed), so a slice of rows can be fetched
 * before the program that works on it comes along: all buckets side by side, then all entries. This
 * only brings memory near; a kernel that hashes otherwise, or an entry that moves, costs only
 * the time. */
MAP_INLINE uint32_t turned(uint32_t x, uint32_t by)
{
	return x << by | x >> (32 - by);
}

struct jhash {
	uint32_t a, b, c;
};

MAP_INLINE void jhash_step(uint32_t *x, uint32_t y, uint32_t *z, uint32_t by)
{
	*x = (*x - *z) ^ turned(*z, by);
	*z += y;
}

MAP_INLINE void jhash_mix(struct jhash *h)
{
	jhash_step(&h->a, h->b, &h->c, 4);
	jhash_step(&h->b, h->c, &h->a, 6);
	jhash_step(&h->c, h->a, &h->b, 8);
	jhash_step(&h->a, h->b, &h->c, 16);
	jhash_step(&h->b, h->c, &h->a, 19);
	jhash_step(&h->c, h->a, &h->b, 4);
}

MAP_INLINE void jhash_end(uint32_t *to, uint32_t from, uint32_t by)
{
	*to = (*to ^ from) - turned(from, by);
}

/* Of a key of whole 32-bit words, MAP_WARM_KEY bytes at most. */
MAP_INLINE uint32_t key_hash(const uint8_t *key)
{
	const uint32_t *words = (const uint32_t *)key;
	uint32_t left = map_config.key_size / 4;
	uint32_t start = 0xdeadbeef + map_config.key_size + map_work.seed;
	struct jhash h = { start, start, start };
	for (uint32_t i = 0; i < MAP_WARM_KEY / 12; i++) {
		if (left <= 3)
			break;
		h.a += words[0];
		h.b += words[1];
		h.c += words[2];
		jhash_mix(&h);
		words += 3;
		left -= 3;
	}
	if (left > 2)
		h.c += words[2];
	if (left > 1)
		h.b += words[1];
	h.a += words[0];
	jhash_end(&h.c, h.b, 14);
	jhash_end(&h.a, h.c, 11);
	jhash_end(&h.b, h.a, 25);
	jhash_end(&h.c, h.b, 16);
	jhash_end(&h.a, h.c, 4);
	jhash_end(&h.b, h.a, 14);
	jhash_end(&h.c, h.b, 24);
	return h.c;
}

static long warm_hash(uint32_t i, void *none)
{
	uint8_t *record = bpf_map_lookup_elem(&map_io, &i);
	if (!record)
		return 1;
	*(uint32_t *)record = key_hash(record + MAP_RECORD_KEY) & (map_work.bucket_count - 1);
	return 0;
}

MAP_INLINE long rows_fetch(uint32_t i)
{
	uint64_t heads[MAP_GROUP];
#pragma clang loop unroll(full)
	for (uint32_t k = 0; k < MAP_GROUP; k++) {
		uint32_t at = i * MAP_GROUP + k;
		const uint8_t *record = bpf_map_lookup_elem(&map_io, &at);
		if (!record)
			return 1;
		const uint8_t *bucket = look_at(bucket_address(*(const uint32_t *)record));
		heads[k] = *(const volatile uint64_t *)bucket;
	}
#pragma clang loop unroll(full)
	for (uint32_t k = 0; k < MAP_GROUP; k++) {
		uint64_t full = (heads[k] & 1) - 1;
		const uint8_t *entry = look_at((heads[k] & full) | (map_work.buckets & ~full));
		(void)*(const volatile uint64_t *)entry;
		/* Entries begin anywhere in a line, so the last one takes its end. */
		if (map_config.entry_bytes > 64)
			(void)*(const volatile uint64_t *)(entry + 64);
		if (map_config.entry_bytes > 128)
			(void)*(const volatile uint64_t *)(entry + 128);
		if (map_config.entry_bytes > 8 && map_config.entry_bytes <= 264)
			(void)*(const volatile uint64_t *)(entry + map_config.entry_bytes - 8);
	}
	return 0;
}

static void rows_start(void)
{
	walk_start();
	const uint8_t *map = look_at(*(volatile uint64_t *)&map_work.map);
	map_work.seed = *(const uint32_t *)(map + map_config.seed_at);
	bpf_loop(map_work.count, warm_hash, 0, 0);
}

static long warm_group(uint32_t i, void *none)
{
	return rows_fetch(i);
}

SEC("syscall")
int hash_warm(void *ctx)
{
	rows_start();
	bpf_loop(map_work.count / MAP_GROUP, warm_group, 0, 0);
	return 0;
}

/* The rows of a group while its memory is near. */
static long get_group(uint32_t i, void *none)
{
	if (rows_fetch(i))
		return 1;
	for (uint32_t k = 0; k < MAP_GROUP; k++)
		if (get_row(i * MAP_GROUP + k, 0))
			return 1;
	return 0;
}

static long get_rest(uint32_t i, void *none)
{
	return get_row((map_work.count / MAP_GROUP) * MAP_GROUP + i, 0);
}

SEC("syscall")
int hash_get(void *ctx)
{
	rows_start();
	uint32_t groups = map_work.count / MAP_GROUP;
	map_work.reached = bpf_loop(groups, get_group, 0, 0) * MAP_GROUP;
	map_work.reached += bpf_loop(map_work.count - groups * MAP_GROUP, get_rest, 0, 0);
	map_work.done = map_work.reached - map_work.missing;
	return 0;
}

char map_hash_license[] SEC("license") = "Dual MIT/GPL";
