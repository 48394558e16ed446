#include <errno.h>
#include <string.h>

#include "lib/testlib.h"
#include "store/frame_sample.h"

/* A frame with a bit of everything, that each test spoils in its own way. */
struct sample {
	_Alignas(8) uint8_t data[64 << 10];
	uint32_t bytes;
	struct haul_changes *changes;
};

static struct sample *sample;

static int setup(void **state)
{
	struct prng prng;

	(void)state;
	sample = test_malloc(sizeof *sample);
	prng_init(&prng, 5);
	assert_int_equal(haul_changes_new(&sample->changes, 0, 0, 0), 0);
	(void)sample_changes(&prng, sample->changes, 20, 60);
	sample->bytes = sample_seal(sample->changes, sample->data, sizeof sample->data);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	haul_changes_free(sample->changes);
	test_free(sample);
	return 0;
}

static struct frame_head *head(void)
{
	return (struct frame_head *)(void *)sample->data;
}

static struct frame_section *section(uint32_t number)
{
	return (struct frame_section *)(void *)(sample->data + FRAME_HEAD) + number;
}

static struct frame_event *event(uint32_t number)
{
	const uint32_t at = FRAME_HEAD + head()->sections * FRAME_SECTION;

	return (struct frame_event *)(void *)(sample->data + at) + number;
}

static int check(void)
{
	struct frame frame;

	return frame_check(sample->data, sample->bytes, &frame);
}

static int seal_and_check(void)
{
	frame_seal(sample->data);
	return check();
}

/* Section of the first event of a kind of change. */
static uint32_t first_of(enum haul_change change)
{
	uint32_t i = 0;

	while (section(i)->change != change)
		i++;
	assert_true(i < head()->sections);
	return section(i)->first;
}

/* A log or a peer of one version is not understood by another. */
static void test_frame__layout_is_the_documented_one(void **state)
{
	(void)state;
	static const uint8_t magic[] = { 'H', 'U', 'L', 'F', 1, 0, 1, 0 };

	assert_memory_equal(sample->data + 32, magic, sizeof magic);
	assert_int_equal(offsetof(struct frame_head, bytes), 40);
	assert_int_equal(offsetof(struct frame_head, session), 56);
	assert_int_equal(offsetof(struct frame_head, seq), 72);
	assert_int_equal(offsetof(struct frame_section, first), 12);
	assert_int_equal(offsetof(struct frame_event, heap), 36);
	assert_int_equal(check(), 0);
}

/* A frame that ends early is taken, or read behind its end. */
static void test_frame_check__every_truncation_is_found(void **state)
{
	(void)state;
	struct frame frame;

	for (uint32_t cut = 0; cut < sample->bytes; cut++) {
		struct test_guard guard;
		const uint32_t room = (cut + 7) / 8 * 8;
		test_guard_open(&guard, room == 0 ? 8 : room);
		memcpy(guard.data, sample->data, cut);
		assert_int_equal(frame_check(guard.data, cut, &frame), HAUL_ESHORT);
		test_guard_close(&guard);
	}
	assert_int_equal(frame_check(sample->data, sample->bytes + 1, &frame), HAUL_ELONG);
}

/* As above, but the head says that it is all, and the checksums agree. */
static void test_frame_check__a_head_that_lies_about_its_length(void **state)
{
	(void)state;
	struct frame frame;
	static _Alignas(8) uint8_t whole[64 << 10];

	memcpy(whole, sample->data, sample->bytes);
	for (uint32_t cut = FRAME_HEAD; cut < sample->bytes; cut += 1 + cut / 200) {
		struct test_guard guard;
		test_guard_open(&guard, (cut + 7) / 8 * 8);
		memcpy(guard.data, whole, cut);
		((struct frame_head *)(void *)guard.data)->bytes = cut;
		frame_seal(guard.data);
		assert_true(frame_check(guard.data, cut, &frame) < 0);
		test_guard_close(&guard);
	}
}

/* A bit that has turned goes unnoticed. */
static void test_frame_check__every_bit_is_under_a_checksum(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < sample->bytes; i++) {
		sample->data[i] ^= (uint8_t)(1 << i % 8);
		assert_true(check() < 0);
		sample->data[i] ^= (uint8_t)(1 << i % 8);
	}
	assert_int_equal(check(), 0);
}

struct broken {
	const char *rule;
	int want;
	void (*apply)(void);
};

#define RULE(name, code, statement)                                                                \
	static void break_##name(void)                                                             \
	{                                                                                          \
		statement;                                                                         \
	}
#define RULES(X)                                                                                   \
	X(version, HAUL_EVERSION, head()->version++)                                               \
	X(magic, HAUL_ECORRUPT, head()->magic++)                                                   \
	X(kind, HAUL_ETYPE, head()->kind = FRAME_WIRE)                                             \
	X(kind_zero, HAUL_ETYPE, head()->kind = 0)                                                 \
	X(fence_with_changes, HAUL_ECORRUPT, head()->kind = FRAME_FENCE; head()->session[0] = 1;   \
	  head()->seq = 1)                                                                         \
	X(flags, HAUL_ECORRUPT, head()->flags = 1)                                                 \
	X(reserved, HAUL_ECORRUPT, head()->reserved[4] = 1)                                        \
	X(seq_of_nobody, HAUL_ECORRUPT, head()->seq = 1)                                           \
	X(session_without_seq, HAUL_ECORRUPT, head()->session[1] = 1)                              \
	X(ack_of_itself, HAUL_ECORRUPT, head()->session[0] = 1; head()->seq = 2;                   \
	  head()->ack_upto = 2)                                                                    \
	X(ack_of_nobody, HAUL_ECORRUPT, head()->ack_upto = 2)                                      \
	X(events_more, HAUL_ECORRUPT, head()->events++)                                            \
	X(events_less, HAUL_ECORRUPT, head()->events--)                                            \
	X(events_too_many, HAUL_ELIMIT, head()->events = HAUL_CHANGES_OPS + 1)                     \
	X(sections_more_than_events, HAUL_ECORRUPT, head()->sections = head()->events + 1)         \
	X(sections_less, HAUL_ECORRUPT, head()->sections--)                                        \
	X(sections_none, HAUL_ECORRUPT, head()->sections = 0)                                      \
	X(section_change, HAUL_ETYPE, section(1)->change = HAUL_CHANGES)                           \
	X(section_flags, HAUL_ECORRUPT, section(1)->flags |= 2)                                    \
	X(section_reserved, HAUL_ECORRUPT, section(1)->reserved = 1)                               \
	X(section_reserved_too, HAUL_ECORRUPT, section(1)->reserved_too = 1)                       \
	X(section_empty, HAUL_ECORRUPT, section(1)->count = 0)                                     \
	X(section_count, HAUL_ECORRUPT, section(1)->count++)                                       \
	X(section_count_large, HAUL_ECORRUPT, section(1)->count = UINT32_MAX)                      \
	X(section_first, HAUL_ECORRUPT, section(1)->first++)                                       \
	X(section_events, HAUL_ECORRUPT, section(1)->events += FRAME_EVENT)                        \
	X(section_events_odd, HAUL_ECORRUPT, section(1)->events += 4)                              \
	X(event_id_zero, HAUL_ECORRUPT, event(3)->a = 0)                                           \
	X(event_id_last, HAUL_ECORRUPT, event(3)->a = UINT64_MAX)                                  \
	X(event_flags, HAUL_ECORRUPT, event(3)->flags = 0x80)                                      \
	X(status_twice, HAUL_ECORRUPT, event(3)->status_at = event(4)->status_at)                  \
	X(status_outside, HAUL_ECORRUPT, event(3)->status_at = head()->events)                     \
	X(status_far_outside, HAUL_ECORRUPT, event(3)->status_at = UINT32_MAX)                     \
	X(create_version, HAUL_ECORRUPT, event(first_of(HAUL_CREATE_NODE))->flags = 0;             \
	  event(first_of(HAUL_CREATE_NODE))->expected_version = 1)                                 \
	X(node_b, HAUL_ECORRUPT, event(first_of(HAUL_CREATE_NODE))->b = 1)                         \
	X(node_type, HAUL_ECORRUPT, event(first_of(HAUL_UPDATE_NODE))->type = 1)                   \
	X(node_disc, HAUL_ECORRUPT, event(first_of(HAUL_DELETE_NODE))->disc = 1)                   \
	X(edge_dst, HAUL_ECORRUPT, event(first_of(HAUL_CREATE_EDGE))->b = 0)                       \
	X(index, HAUL_ECORRUPT, event(first_of(HAUL_SET_EMBEDDING))->b = HAUL_EMBEDDING_INDEXES)   \
	X(embedding_version, HAUL_ECORRUPT,                                                        \
	  event(first_of(HAUL_SET_EMBEDDING))->expected_version = 1)                               \
	X(heap_in_events, HAUL_ECORRUPT, event(first_of(HAUL_CREATE_NODE))->heap = FRAME_HEAD)     \
	X(heap_outside, HAUL_ECORRUPT,                                                             \
	  event(first_of(HAUL_CREATE_NODE))->heap = sample->bytes - 1)                             \
	X(heap_wraps, HAUL_ECORRUPT, event(first_of(HAUL_CREATE_NODE))->heap = UINT32_MAX)         \
	X(bytes_outside, HAUL_ECORRUPT, event(first_of(HAUL_CREATE_NODE))->bytes = UINT32_MAX)     \
	X(bytes_none, HAUL_ECORRUPT, event(first_of(HAUL_CREATE_NODE))->bytes = 0)                 \
	X(bytes_of_a_delete, HAUL_ECORRUPT, event(first_of(HAUL_DELETE_NODE))->bytes = 1)          \
	X(heap_of_a_delete, HAUL_ECORRUPT,                                                         \
	  event(first_of(HAUL_DELETE_EDGE))->heap = sample->bytes - 8)                             \
	X(node_record, HAUL_ECORRUPT,                                                              \
	  sample->data[event(first_of(HAUL_CREATE_NODE))->heap + 7] = 1)                           \
	X(edge_record, HAUL_ECORRUPT,                                                              \
	  sample->data[event(first_of(HAUL_CREATE_EDGE))->heap + 3] = 1)                           \
	X(embedding_record, HAUL_ECORRUPT,                                                         \
	  sample->data[event(first_of(HAUL_SET_EMBEDDING))->heap]++)

RULES(RULE)

/* A rule is not checked: what the executor takes for granted does not hold. */
static void test_frame_check__every_rule_is_kept(void **state)
{
	(void)state;
#define X(name, code, statement) { #name, code, break_##name },
	static const struct broken list[] = { RULES(X) };
#undef X
	static uint8_t whole[sizeof sample->data];

	memcpy(whole, sample->data, sizeof whole);
	for (uint32_t i = 0; i < sizeof list / sizeof *list; i++) {
		memcpy(sample->data, whole, sizeof whole);
		assert_int_equal(seal_and_check(), 0);
		list[i].apply();
		const int error = seal_and_check();
		if (error != list[i].want)
			print_message("rule %s: %d\n", list[i].rule, error);
		assert_int_equal(error, list[i].want);
	}
}

/* Groups are numbered in some other way: two callers become one, or one becomes two. */
static void test_frame_check__groups_are_next_to_each_other(void **state)
{
	(void)state;
	struct haul_changes *changes = sample->changes;

	haul_changes_clear(changes);
	for (int group = 0; group < 2; group++) {
		assert_int_equal(haul_changes_begin(changes), 0);
		for (uint64_t id = 1; id < 4; id++) {
			assert_true(haul_changes_delete_node(changes, id, NULL) >= 0);
			assert_true(haul_changes_delete_embedding(changes, id, 0) >= 0);
		}
		assert_int_equal(haul_changes_end(changes), 0);
	}
	sample->bytes = sample_seal(changes, sample->data, sizeof sample->data);
	assert_int_equal(head()->sections, 12);
	assert_int_equal(check(), 0);
	section(3)->group = 2;
	assert_int_equal(seal_and_check(), HAUL_ECORRUPT);
	section(3)->group = 0;
	assert_int_equal(seal_and_check(), HAUL_ECORRUPT);
	section(3)->flags = SECTION_EACH;
	assert_int_equal(seal_and_check(), HAUL_ECORRUPT); /* group 1 goes on behind it */
	section(3)->group = 1;
	assert_int_equal(seal_and_check(), HAUL_ECORRUPT);
	section(3)->flags = 0;
	assert_int_equal(seal_and_check(), 0);
	for (uint32_t i = 0; i < 12; i++)
		section(i)->group++;
	assert_int_equal(seal_and_check(), HAUL_ECORRUPT);
}

/* One record is written again and again by a short frame. */
static void test_frame_check__no_byte_of_the_heap_is_used_twice(void **state)
{
	(void)state;
	const struct haul_node node = { .id = 1 };
	struct haul_changes *changes = sample->changes;

	haul_changes_clear(changes);
	for (int i = 0; i < 3; i++)
		assert_int_equal(haul_changes_create_node(changes, &node, NULL), i);
	sample->bytes = sample_seal(changes, sample->data, sizeof sample->data);
	assert_int_equal(check(), 0);
	head()->bytes -= 16;
	sample->bytes -= 16;
	event(1)->heap = event(2)->heap = event(0)->heap;
	assert_int_equal(seal_and_check(), HAUL_ECORRUPT);
}

/* A head announces more than any frame may have, and room is made for it. */
static void test_frame_check_head__keeps_the_limits(void **state)
{
	(void)state;
	static _Alignas(8) uint8_t data[FRAME_BYTES_MAX + 8];
	struct frame_head *of = (struct frame_head *)(void *)data;
	struct frame_head got = { .bytes = 1 };

	*of = *head();
	of->bytes = FRAME_BYTES_MAX;
	frame_seal(data);
	assert_int_equal(frame_check_head(data, &got), 0);
	assert_int_equal(got.bytes, FRAME_BYTES_MAX);
	of->bytes++;
	frame_seal(data);
	assert_int_equal(frame_check_head(data, &got), HAUL_ELIMIT);
	of->kind = FRAME_WIRE; /* what these may have others know */
	frame_seal(data);
	assert_int_equal(frame_check_head(data, &got), 0);
}

/* A fence, which has nothing but a head, is not taken; or one of nobody is. */
static void test_frame_check__fence(void **state)
{
	(void)state;
	const struct changes_sender sender = { .session = { 1, 2 }, .seq = 9, .kind = FRAME_FENCE };
	const struct changes_sender nobody = { .kind = FRAME_FENCE };

	assert_int_equal(changes_seal(sample->changes, &sender, sample->data, 4096), -EINVAL);
	haul_changes_clear(sample->changes);
	assert_int_equal(changes_seal(sample->changes, &sender, sample->data, 4096), 0);
	sample->bytes = FRAME_HEAD;
	assert_int_equal(check(), 0);
	assert_int_equal(changes_seal(sample->changes, &nobody, sample->data, 4096), 0);
	assert_int_equal(check(), HAUL_ECORRUPT);
}

/* Random frames of all kinds are refused, or lose something on the way. */
static void test_frame_check__takes_what_lists_make(void **state)
{
	(void)state;
	struct prng prng;

	test_prng(&prng);
	for (int round = 0; round < 200; round++) {
		haul_changes_clear(sample->changes);
		(void)sample_changes(&prng, sample->changes, 20, prng_below(&prng, 200));
		sample->bytes = sample_seal(sample->changes, sample->data, sizeof sample->data);
		assert_int_equal(check(), 0);
		assert_int_equal(head()->events, haul_changes_count(sample->changes));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_frame__layout_is_the_documented_one),
		T(test_frame_check__every_truncation_is_found),
		T(test_frame_check__a_head_that_lies_about_its_length),
		T(test_frame_check__every_bit_is_under_a_checksum),
		T(test_frame_check__every_rule_is_kept),
		T(test_frame_check__groups_are_next_to_each_other),
		T(test_frame_check__no_byte_of_the_heap_is_used_twice),
		T(test_frame_check_head__keeps_the_limits),
		T(test_frame_check__fence),
		T(test_frame_check__takes_what_lists_make),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
