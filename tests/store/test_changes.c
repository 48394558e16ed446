#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "lib/testlib.h"
#include "store/frame_sample.h"

static struct haul_changes *new_list(uint32_t ops, uint32_t bytes, uint32_t flags)
{
	struct haul_changes *changes;

	assert_int_equal(haul_changes_new(&changes, ops, bytes, flags), 0);
	return changes;
}

static int create(struct haul_changes *changes, uint64_t id)
{
	const struct haul_node node = { .id = id };

	return haul_changes_create_node(changes, &node, NULL);
}

static int connect(struct haul_changes *changes, uint64_t src, uint64_t dst)
{
	const struct haul_edge edge = { .id = { .src = src, .dst = dst } };

	return haul_changes_create_edge(changes, &edge, NULL);
}

/* The list as a frame, checked. */
static struct frame sealed(const struct haul_changes *changes)
{
	static _Alignas(8) uint8_t data[FRAME_BYTES_MAX];
	const uint32_t bytes = sample_seal(changes, data, sizeof data);
	struct frame frame;

	assert_int_equal(frame_check(data, bytes, &frame), 0);
	return frame;
}

/* "change change | change": kinds of the sections with how many each, groups with their number. */
static const char *shape(const struct haul_changes *changes)
{
	static char text[512];
	const struct frame frame = sealed(changes);
	size_t used = 0;

	text[0] = 0;
	for (uint32_t i = 0; i < frame.head->sections; i++) {
		const struct frame_section *section = &frame.sections[i];
		used += (size_t)snprintf(
			text + used, sizeof text - used, "%s%s*%u", i == 0 ? "" : " ",
			haul_change_name((enum haul_change)section->change), section->count);
		if ((section->flags & SECTION_EACH) == 0)
			used += (size_t)snprintf(text + used, sizeof text - used, "@%u",
						 section->group);
	}
	return text;
}

/* The original flushed nodes before edges before queries, whatever the order given was: deleting
 * and creating again became creating and deleting. */
static void test_changes__original_reordered_between_kinds(void **state)
{
	(void)state;
	struct haul_changes *changes = new_list(0, 0, 0);

	(void)create(changes, 1);
	(void)haul_changes_delete_node(changes, 1, NULL);
	(void)create(changes, 1);
	(void)create(changes, 2);
	(void)connect(changes, 1, 2);
	assert_string_equal(shape(changes),
			    "create_node*1 delete_node*1 create_node*2 create_edge*1");
	haul_changes_free(changes);
}

/* The original kept the pointer that it was given. */
static void test_changes__original_kept_memory_of_the_caller(void **state)
{
	(void)state;
	struct haul_changes *changes = new_list(0, 0, 0);
	char key[] = "key";
	float vector[] = { 1, 2 };
	uint8_t buffer[64];
	char value[] = "value";
	const struct haul_property property = {
		.name = key, .name_bytes = 3, .type = HAUL_TEXT, .data = value, .data_bytes = 5
	};
	struct haul_node node = { .id = 1, .kind = 2, .key = key, .key_bytes = 3 }, got;
	struct haul_embedding embedding = { .node = 1, .dimensions = 2, .vector = vector };

	assert_int_equal(
		haul_properties_encode(&property, 1, buffer, sizeof buffer, &node.properties), 0);
	assert_int_equal(haul_changes_create_node(changes, &node, NULL), 0);
	assert_int_equal(haul_changes_set_embedding(changes, &embedding), 1);
	memset(key, 'x', 3);
	memset(value, 'x', 5);
	memset(buffer, 'x', sizeof buffer);
	vector[0] = vector[1] = 0;
	const struct frame frame = sealed(changes);
	const struct frame_event *event = frame_events(&frame, &frame.sections[0]);
	struct haul_property got_property;
	record_get_node(frame.data + event->heap, event->bytes, &got);
	assert_memory_equal(got.key, "key", 3);
	assert_int_equal(haul_property_find(&got.properties, "key", &got_property), 0);
	assert_memory_equal(got_property.data, "value", 5);
	event = frame_events(&frame, &frame.sections[1]);
	const float want[] = { 1, 2 };
	assert_memory_equal(frame.data + event->heap + RECORD_EMBEDDING_HEAD, want, sizeof want);
	haul_changes_free(changes);
}

/* The original cut records to 64 bytes and read 144 of them. */
static void test_changes__original_cut_payloads(void **state)
{
	(void)state;
	static char large[HAUL_PROPERTIES_MAX - 9];
	static uint8_t buffer[HAUL_PROPERTIES_MAX];
	static float vector[HAUL_DIMENSIONS_MAX];
	struct haul_changes *changes = new_list(0, 0, 0);
	const struct haul_property property = { .name = "p",
						.name_bytes = 1,
						.type = HAUL_BYTES,
						.data = memset(large, 7, sizeof large),
						.data_bytes = sizeof large };
	struct haul_node node = { .id = 1 }, got;
	const struct haul_embedding embedding = { .node = 1,
						  .dimensions = HAUL_DIMENSIONS_MAX,
						  .vector = vector };

	for (int i = 0; i < HAUL_DIMENSIONS_MAX; i++)
		vector[i] = (float)i;
	assert_int_equal(
		haul_properties_encode(&property, 1, buffer, sizeof buffer, &node.properties), 0);
	assert_int_equal(haul_changes_create_node(changes, &node, NULL), 0);
	assert_int_equal(haul_changes_set_embedding(changes, &embedding), 1);
	const struct frame frame = sealed(changes);
	const struct frame_event *event = frame_events(&frame, &frame.sections[0]);
	record_get_node(frame.data + event->heap, event->bytes, &got);
	assert_int_equal(got.properties.bytes, HAUL_PROPERTIES_MAX);
	assert_memory_equal(got.properties.data, buffer, HAUL_PROPERTIES_MAX);
	event = frame_events(&frame, &frame.sections[1]);
	assert_memory_equal(frame.data + event->heap + RECORD_EMBEDDING_HEAD, vector,
			    sizeof vector);
	haul_changes_free(changes);
}

/* The original forgot what was behind the operation at which a batch was full. */
static void test_changes__original_dropped_the_tail(void **state)
{
	(void)state;
	struct haul_changes *changes = new_list(10, 0, 0), *all = new_list(0, 0, 0);
	uint32_t sent = 0, first;

	for (uint64_t id = 1; id <= 25; id++) {
		int rc = create(changes, id);
		if (rc == HAUL_EFULL) {
			sent += haul_changes_count(changes);
			assert_int_equal(changes_append(all, changes, &first), 0);
			haul_changes_clear(changes);
			rc = create(changes, id);
		}
		assert_true(rc >= 0);
	}
	assert_int_equal(changes_append(all, changes, &first), 0);
	assert_int_equal(sent + haul_changes_count(changes), 25);
	const struct frame frame = sealed(all);
	assert_int_equal(frame.head->events, 25);
	assert_int_equal(frame.head->sections, 1);
	for (uint32_t i = 0; i < 25; i++)
		assert_int_equal(frame_events(&frame, &frame.sections[0])[i].a, i + 1);
	haul_changes_free(changes);
	haul_changes_free(all);
}

/* Sections are split or joined where they must not be. */
static void test_changes__groups_and_sections(void **state)
{
	(void)state;
	struct haul_changes *changes = new_list(0, 0, 0);

	(void)create(changes, 1);
	assert_int_equal(haul_changes_begin(changes), 0);
	assert_int_equal(haul_changes_begin(changes), -EINVAL);
	assert_true(changes_open(changes));
	(void)create(changes, 2);
	(void)create(changes, 3);
	(void)connect(changes, 2, 3);
	assert_int_equal(haul_changes_end(changes), 0);
	assert_int_equal(haul_changes_end(changes), -EINVAL);
	assert_int_equal(haul_changes_begin(changes), 0);
	(void)connect(changes, 3, 2);
	(void)connect(changes, 2, 2);
	assert_int_equal(haul_changes_end(changes), 0);
	(void)connect(changes, 1, 2);
	assert_string_equal(shape(changes), "create_node*1 create_node*2@1 create_edge*1@1 "
					    "create_edge*2@2 create_edge*1");
	haul_changes_free(changes);
}

/* A group of one, which is what a single call of a caller is, makes a section of its own: a batch
 * of a thousand callers is not homogeneous any more. */
static void test_changes__groups_of_one_share_a_section(void **state)
{
	(void)state;
	struct haul_changes *changes = new_list(0, 0, 0);

	for (uint64_t id = 1; id <= 5; id++) {
		assert_int_equal(haul_changes_begin(changes), 0);
		assert_int_equal(create(changes, id), (int)id - 1);
		assert_int_equal(haul_changes_end(changes), 0);
	}
	assert_int_equal(haul_changes_begin(changes), 0);
	assert_int_equal(haul_changes_end(changes), 0);
	(void)create(changes, 6);
	assert_string_equal(shape(changes), "create_node*6");
	assert_int_equal(haul_changes_bytes(changes),
			 FRAME_SECTION + 6 * (FRAME_EVENT + RECORD_NODE_HEAD));
	haul_changes_free(changes);
}

/* What was taken back is sent all the same, or takes something else with it. */
static void test_changes__cancel_forgets_the_open_group(void **state)
{
	(void)state;
	struct haul_changes *changes = new_list(0, 0, 0), *unordered;

	(void)create(changes, 1);
	const uint64_t bytes = haul_changes_bytes(changes);
	haul_changes_cancel(changes); /* nothing is open: nothing happens */
	assert_int_equal(haul_changes_begin(changes), 0);
	(void)create(changes, 2);
	(void)connect(changes, 1, 2);
	haul_changes_cancel(changes);
	assert_false(changes_open(changes));
	assert_int_equal(haul_changes_bytes(changes), bytes);
	assert_int_equal(create(changes, 3), 1);
	assert_string_equal(shape(changes), "create_node*2");
	haul_changes_free(changes);

	unordered = new_list(0, 0, HAUL_CHANGES_UNORDERED);
	(void)create(unordered, 1);
	assert_int_equal(haul_changes_begin(unordered), 0);
	(void)create(unordered, 2);
	haul_changes_cancel(unordered);
	assert_int_equal(haul_changes_begin(unordered), 0);
	(void)connect(unordered, 2, 2);
	haul_changes_cancel(unordered);
	assert_int_equal(haul_changes_bytes(unordered), bytes);
	assert_string_equal(shape(unordered), "create_node*1");
	haul_changes_free(unordered);
}

/* A full list takes more, or a refused change leaves something behind. */
static void test_changes__full_list_is_left_as_it_was(void **state)
{
	(void)state;
	const uint32_t one = FRAME_SECTION + FRAME_EVENT + RECORD_NODE_HEAD;
	struct haul_changes *changes = new_list(2, 0, 0);

	assert_int_equal(create(changes, 1), 0);
	assert_int_equal(create(changes, 2), 1);
	assert_int_equal(create(changes, 3), HAUL_EFULL);
	assert_int_equal(haul_changes_count(changes), 2);
	haul_changes_free(changes);

	changes = new_list(0, one + FRAME_EVENT + RECORD_NODE_HEAD, 0);
	assert_int_equal(create(changes, 1), 0);
	assert_int_equal(connect(changes, 1, 1), HAUL_EFULL); /* needs a section, too */
	assert_int_equal(haul_changes_begin(changes), 0);
	assert_int_equal(create(changes, 2), HAUL_EFULL);
	assert_int_equal(haul_changes_end(changes), 0);
	assert_int_equal(create(changes, 2), 1);
	assert_int_equal(haul_changes_bytes(changes), one + FRAME_EVENT + RECORD_NODE_HEAD);
	assert_int_equal(create(changes, 3), HAUL_EFULL);
	haul_changes_clear(changes);
	assert_int_equal(create(changes, 3), 0);
	haul_changes_free(changes);

	changes = new_list(0, one + FRAME_EVENT + RECORD_EDGE_HEAD, HAUL_CHANGES_UNORDERED);
	assert_int_equal(create(changes, 1), 0);
	assert_int_equal(connect(changes, 1, 1), HAUL_EFULL);
	assert_int_equal(haul_changes_delete_node(changes, 1, NULL), HAUL_EFULL);
	haul_changes_free(changes);
}

/* What no store can execute gets into a frame, and spoils those of others in it. */
static void test_changes__refuses_what_is_not_valid(void **state)
{
	(void)state;
	struct haul_changes *changes = new_list(0, 0, 0);
	static const char key[HAUL_KEY_MAX + 1];
	const float vector[] = { 1, NAN };
	static const uint8_t bad[] = { 9, 9, 9, 9, 9, 9, 9, 9, 9, 9 };
	static const uint8_t null[] = { 0, 1, 0, 0, 0, 0, 0, 0, 'a' };
	struct haul_node node = { .id = 0 };
	struct haul_embedding embedding = { .node = 1, .dimensions = 2, .vector = vector };
	struct haul_change_options options = { 0 };

	assert_int_equal(create(changes, 0), -EINVAL);
	assert_int_equal(create(changes, UINT64_MAX), -EINVAL);
	assert_int_equal(connect(changes, 1, 0), -EINVAL);
	assert_int_equal(connect(changes, 0, 1), -EINVAL);
	assert_int_equal(haul_changes_delete_node(changes, 0, NULL), -EINVAL);
	assert_int_equal(haul_changes_delete_embedding(changes, 1, HAUL_EMBEDDING_INDEXES),
			 -EINVAL);
	node = (struct haul_node){ .id = 1, .key_bytes = 1 };
	assert_int_equal(haul_changes_create_node(changes, &node, NULL), -EINVAL);
	node = (struct haul_node){ .id = 1, .key = key, .key_bytes = sizeof key };
	assert_int_equal(haul_changes_create_node(changes, &node, NULL), HAUL_ELIMIT);
	node = (struct haul_node){ .id = 1, .properties = { bad, sizeof bad, 1 } };
	assert_int_equal(haul_changes_create_node(changes, &node, NULL), -EINVAL);
	node.properties = (struct haul_properties){ NULL, 9, 1 };
	assert_int_equal(haul_changes_create_node(changes, &node, NULL), -EINVAL);
	node.properties = (struct haul_properties){ bad, HAUL_PROPERTIES_MAX + 1, 1 };
	assert_int_equal(haul_changes_update_node(changes, &node, NULL), HAUL_ELIMIT);
	node.properties = (struct haul_properties){ null, sizeof null, 1 };
	assert_int_equal(haul_changes_update_node(changes, &node, NULL), -EINVAL);
	options.flags = HAUL_PATCH;
	assert_int_equal(haul_changes_create_node(changes, &node, &options), -EINVAL);
	assert_int_equal(haul_changes_delete_node(changes, 1, &options), -EINVAL);
	assert_int_equal(haul_changes_update_node(changes, &node, &options), 0);
	options = (struct haul_change_options){ .expected_version = 1 };
	node.properties.count = node.properties.bytes = 0;
	assert_int_equal(haul_changes_create_node(changes, &node, &options), -EINVAL);
	options.flags = HAUL_UPSERT;
	assert_int_equal(haul_changes_create_node(changes, &node, &options), 1);
	assert_int_equal(haul_changes_set_embedding(changes, &embedding), -EINVAL);
	embedding.dimensions = 0;
	assert_int_equal(haul_changes_set_embedding(changes, &embedding), -EINVAL);
	embedding.dimensions = HAUL_DIMENSIONS_MAX + 1;
	assert_int_equal(haul_changes_set_embedding(changes, &embedding), HAUL_ELIMIT);
	embedding.dimensions = 1;
	embedding.vector = NULL;
	assert_int_equal(haul_changes_set_embedding(changes, &embedding), -EINVAL);
	assert_int_equal(haul_changes_count(changes), 2);
	(void)sealed(changes);
	haul_changes_free(changes);
}

/* A list is made that no frame can hold. */
static void test_changes_new__keeps_the_limits(void **state)
{
	(void)state;
	struct haul_changes *changes = NULL;

	assert_int_equal(haul_changes_new(&changes, HAUL_CHANGES_OPS + 1, 0, 0), HAUL_ELIMIT);
	assert_int_equal(haul_changes_new(&changes, 0, HAUL_CHANGES_BYTES + 1, 0), HAUL_ELIMIT);
	assert_int_equal(haul_changes_new(&changes, 0, 0, 2), -EINVAL);
	assert_null(changes);
	haul_changes_free(NULL);
}

/* Memory that cannot be had is used, or leaks. */
static void test_changes_new__without_memory(void **state)
{
	(void)state;
	struct haul_changes *changes = NULL;

	for (uint32_t i = 0; i < 4; i++) {
		if (!test_malloc_fail(i))
			return;
		assert_int_equal(haul_changes_new(&changes, 0, 0, 0), -ENOMEM);
		assert_null(changes);
	}
}

/* Unordered: a kind has more than one section, or a status goes to another change. */
static void test_changes__unordered_has_a_section_a_kind(void **state)
{
	(void)state;
	struct haul_changes *changes = new_list(0, 0, HAUL_CHANGES_UNORDERED);

	for (uint64_t i = 0; i < 4; i++) {
		assert_int_equal(connect(changes, i + 1, 9), (int)i * 3);
		assert_int_equal(create(changes, i + 1), (int)i * 3 + 1);
		assert_int_equal(haul_changes_delete_node(changes, i + 100, NULL), (int)i * 3 + 2);
	}
	assert_string_equal(shape(changes), "delete_node*4 create_node*4 create_edge*4");
	const struct frame frame = sealed(changes);
	assert_int_equal(frame.head->bytes, changes_frame_bytes(changes));
	for (uint32_t i = 0; i < 4; i++) {
		assert_int_equal(frame_events(&frame, &frame.sections[0])[i].status_at, i * 3 + 2);
		assert_int_equal(frame_events(&frame, &frame.sections[1])[i].status_at, i * 3 + 1);
		assert_int_equal(frame_events(&frame, &frame.sections[1])[i].a, i + 1);
		assert_int_equal(frame_events(&frame, &frame.sections[2])[i].status_at, i * 3);
	}
	assert_int_equal(haul_changes_begin(changes), 0);
	assert_true(create(changes, 50) >= 0);
	assert_int_equal(create(changes, 51), -EINVAL); /* a group of several has an order */
	assert_int_equal(haul_changes_end(changes), 0);
	haul_changes_free(changes);
}

/* Callers that are put together lose their groups, or get the statuses of others. */
static void test_changes_append__keeps_callers_apart(void **state)
{
	(void)state;
	struct haul_changes *to = new_list(0, 0, 0), *from = new_list(0, 0, 0);
	uint32_t first = 99;

	(void)create(from, 1);
	(void)create(from, 2);
	assert_int_equal(changes_append(to, from, &first), 0);
	assert_int_equal(first, 0);
	haul_changes_clear(from);
	(void)create(from, 3);
	assert_int_equal(haul_changes_begin(from), 0);
	(void)connect(from, 3, 1);
	(void)connect(from, 3, 2);
	assert_int_equal(changes_append(to, from, &first), -EINVAL); /* a group is open */
	assert_int_equal(haul_changes_end(from), 0);
	assert_int_equal(changes_append(to, from, &first), 0);
	assert_int_equal(first, 2);
	assert_int_equal(changes_append(to, from, &first), 0);
	assert_int_equal(first, 5);
	assert_string_equal(shape(to), "create_node*3 create_edge*2@1 create_node*1 "
				       "create_edge*2@2");
	assert_int_equal(haul_changes_begin(to), 0);
	assert_int_equal(changes_append(to, from, &first), -EINVAL);
	haul_changes_cancel(to);
	haul_changes_free(from);

	from = new_list(0, 0, HAUL_CHANGES_UNORDERED);
	(void)connect(from, 1, 2);
	(void)create(from, 7);
	(void)connect(from, 2, 1);
	assert_int_equal(changes_append(to, from, &first), 0);
	assert_int_equal(first, 8);
	assert_string_equal(shape(to), "create_node*3 create_edge*2@1 create_node*1 "
				       "create_edge*2@2 create_node*1 create_edge*2");
	const struct frame frame = sealed(to);
	assert_int_equal(frame_events(&frame, &frame.sections[4])[0].status_at, 9);
	assert_int_equal(frame_events(&frame, &frame.sections[5])[0].status_at, 8);
	assert_int_equal(frame_events(&frame, &frame.sections[5])[1].status_at, 10);
	haul_changes_free(from);
	haul_changes_free(to);
}

/* An unordered list takes what has an order. */
static void test_changes_append__to_an_unordered_list(void **state)
{
	(void)state;
	struct haul_changes *to = new_list(0, 0, HAUL_CHANGES_UNORDERED);
	struct haul_changes *from = new_list(0, 0, 0);
	uint32_t first;

	(void)create(from, 1);
	(void)connect(from, 1, 1);
	(void)create(from, 2);
	assert_int_equal(changes_append(to, from, &first), 0);
	assert_int_equal(changes_append(to, from, &first), 0);
	assert_int_equal(first, 3);
	assert_string_equal(shape(to), "create_node*4 create_edge*2");
	assert_int_equal(haul_changes_begin(from), 0);
	(void)create(from, 3);
	(void)create(from, 4);
	assert_int_equal(haul_changes_end(from), 0);
	assert_int_equal(changes_append(to, from, &first), -EINVAL);
	haul_changes_free(from);
	haul_changes_free(to);
}

/* A list that is full takes half of a caller, or refuses one that fits. */
static void test_changes_append__full(void **state)
{
	(void)state;
	struct haul_changes *to = new_list(3, 0, 0), *from = new_list(3, 0, 0);
	struct haul_changes *small;
	uint32_t first = 99;

	(void)create(from, 1);
	(void)create(from, 2);
	assert_int_equal(changes_append(to, from, &first), 0);
	first = 99;
	assert_int_equal(changes_append(to, from, &first), HAUL_EFULL);
	assert_int_equal(first, 99);
	assert_int_equal(haul_changes_count(to), 2);
	small = new_list(0, (uint32_t)haul_changes_bytes(from), 0);
	assert_int_equal(changes_append(small, from, &first), 0);
	assert_int_equal(changes_append(small, from, &first), HAUL_EFULL);
	haul_changes_clear(small);
	assert_int_equal(changes_append(small, from, &first), 0);
	haul_changes_free(small);
	haul_changes_free(to);
	haul_changes_free(from);
}

/* A frame is sealed that has an open group, or does not fit. */
static void test_changes_seal__refuses(void **state)
{
	(void)state;
	static _Alignas(8) uint8_t data[4096];
	const struct changes_sender sender = { .kind = FRAME_CHANGES };
	struct haul_changes *changes = new_list(0, 0, 0);

	assert_int_equal(haul_changes_begin(changes), 0);
	(void)create(changes, 1);
	assert_int_equal(changes_seal(changes, &sender, data, sizeof data), -EINVAL);
	assert_int_equal(haul_changes_end(changes), 0);
	assert_int_equal(changes_seal(changes, &sender, data, changes_frame_bytes(changes) - 1),
			 HAUL_EFULL);
	assert_int_equal(changes_seal(changes, &sender, data, changes_frame_bytes(changes)), 0);
	haul_changes_free(changes);
}

/* Lists of any shape, appended to each other, are no frame, or count wrong. */
static void test_changes__random_lists_make_frames(void **state)
{
	(void)state;
	struct prng prng;

	test_prng(&prng);
	for (int round = 0; round < 100; round++) {
		struct haul_changes *to = new_list(1 + prng_below(&prng, 300), 0, 0);
		struct haul_changes *from = new_list(0, 2000 + prng_below(&prng, 9000), 0);
		uint32_t first, count = 0;
		for (int i = 0; i < 8; i++) {
			haul_changes_clear(from);
			(void)sample_changes(&prng, from, 10, prng_below(&prng, 100));
			const int rc = changes_append(to, from, &first);
			assert_true(rc == 0 || rc == HAUL_EFULL);
			if (rc == 0) {
				assert_int_equal(first, count);
				count += haul_changes_count(from);
			}
		}
		const struct frame frame = sealed(to);
		assert_int_equal(frame.head->events, count);
		assert_int_equal(frame.head->bytes, haul_changes_bytes(to) + FRAME_HEAD);
		haul_changes_free(to);
		haul_changes_free(from);
	}
}

/* A kind of change has no name, or one that is not there has. */
static void test_change_name__all(void **state)
{
	(void)state;
	assert_string_equal(haul_change_name(HAUL_DELETE_EMBEDDING), "delete_embedding");
	assert_string_equal(haul_change_name(HAUL_SET_EMBEDDING), "set_embedding");
	assert_string_equal(haul_change_name(HAUL_CHANGES), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_changes__original_reordered_between_kinds),
		cmocka_unit_test(test_changes__original_kept_memory_of_the_caller),
		cmocka_unit_test(test_changes__original_cut_payloads),
		cmocka_unit_test(test_changes__original_dropped_the_tail),
		cmocka_unit_test(test_changes__groups_and_sections),
		cmocka_unit_test(test_changes__groups_of_one_share_a_section),
		cmocka_unit_test(test_changes__cancel_forgets_the_open_group),
		cmocka_unit_test(test_changes__full_list_is_left_as_it_was),
		cmocka_unit_test(test_changes__refuses_what_is_not_valid),
		cmocka_unit_test(test_changes_new__keeps_the_limits),
		cmocka_unit_test(test_changes_new__without_memory),
		cmocka_unit_test(test_changes__unordered_has_a_section_a_kind),
		cmocka_unit_test(test_changes_append__keeps_callers_apart),
		cmocka_unit_test(test_changes_append__to_an_unordered_list),
		cmocka_unit_test(test_changes_append__full),
		cmocka_unit_test(test_changes_seal__refuses),
		cmocka_unit_test(test_changes__random_lists_make_frames),
		cmocka_unit_test(test_change_name__all),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
