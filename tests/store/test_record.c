#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "lib/testlib.h"
#include "store/record.h"

static struct haul_property integer(const char *name, int64_t value)
{
	return (struct haul_property){ .name = name,
				       .name_bytes = (uint32_t)strlen(name),
				       .type = HAUL_INTEGER,
				       .integer = value };
}

static struct haul_property text(const char *name, const char *value)
{
	return (struct haul_property){ .name = name,
				       .name_bytes = (uint32_t)strlen(name),
				       .type = HAUL_TEXT,
				       .data = value,
				       .data_bytes = (uint32_t)strlen(value) };
}

static struct haul_property null_of(const char *name)
{
	return (struct haul_property){ .name = name, .name_bytes = (uint32_t)strlen(name) };
}

static struct haul_properties encode(const struct haul_property *list, uint32_t count,
				     uint8_t *buffer, uint32_t bytes)
{
	struct haul_properties properties;

	assert_int_equal(haul_properties_encode(list, count, buffer, bytes, &properties), 0);
	assert_int_equal(record_check_properties(&properties, true), 0);
	return properties;
}

/* A record written by one version is read as something else by the next. */
static void test_record__bytes_are_the_documented_ones(void **state)
{
	(void)state;
	static const uint8_t want[] = { 7, 0, 0, 0, 2, 0, 3, 0, 'k', 'e', 'y',
					/* b: text "xy" */
					3, 1, 0, 0, 2, 0, 0, 0, 'b', 'x', 'y',
					/* nn: integer -2 */
					1, 2, 0, 0, 8, 0, 0, 0, 'n', 'n', 0xfe, 0xff, 0xff, 0xff,
					0xff, 0xff, 0xff, 0xff };
	const struct haul_property list[] = { integer("nn", -2), text("b", "xy") };
	uint8_t buffer[64], data[128];
	const struct haul_node node = {
		.kind = 7,
		.key = "key",
		.key_bytes = 3,
		.properties = encode(list, 2, buffer, sizeof buffer),
	};

	assert_int_equal(record_put_node(data, &node), sizeof want);
	assert_memory_equal(data, want, sizeof want);
	assert_int_equal(record_check_node(data, sizeof want, false), 0);
}

/* What was put comes back as something else. */
static void test_record__what_is_put_is_got(void **state)
{
	(void)state;
	const struct haul_property list[] = {
		text("text", ""),
		integer("integer", INT64_MIN),
		{ .name = "float", .name_bytes = 5, .type = HAUL_FLOAT, .number = -0.5 },
		{ .name = "bytes",
		  .name_bytes = 5,
		  .type = HAUL_BYTES,
		  .data = "\0\1",
		  .data_bytes = 2 },
	};
	uint8_t buffer[256], data[512];
	struct haul_property got;
	struct haul_node node = { .kind = 1, .key = "a", .key_bytes = 1 }, back = { .id = 9 };

	node.properties = encode(list, 4, buffer, sizeof buffer);
	const uint32_t bytes = record_put_node(data, &node);
	record_get_node(data, bytes, &back);
	assert_int_equal(back.id, 9);
	assert_int_equal(back.kind, 1);
	assert_int_equal(back.key_bytes, 1);
	assert_int_equal(back.key[0], 'a');
	assert_int_equal(haul_property_find(&back.properties, "integer", &got), 0);
	assert_true(got.type == HAUL_INTEGER && got.integer == INT64_MIN);
	assert_int_equal(haul_property_find(&back.properties, "float", &got), 0);
	assert_true(got.type == HAUL_FLOAT && got.number == -0.5);
	assert_int_equal(haul_property_find(&back.properties, "bytes", &got), 0);
	assert_int_equal(got.data_bytes, 2);
	assert_memory_equal(got.data, "\0\1", 2);
	assert_int_equal(haul_property_find(&back.properties, "text", &got), 0);
	assert_int_equal(got.data_bytes, 0);
	assert_int_equal(haul_property_find(&back.properties, "tex", &got), -ENOENT);
	assert_int_equal(haul_property_find(&back.properties, "zzz", &got), -ENOENT);

	const struct haul_edge edge = { .properties = node.properties };
	struct haul_edge edge_back = { .version = 3 };
	const uint32_t edge_bytes = record_put_edge(data, &edge);
	assert_int_equal(record_check_edge(data, edge_bytes, false), 0);
	record_get_edge(data, edge_bytes, &edge_back);
	assert_int_equal(edge_back.version, 3);
	assert_int_equal(edge_back.properties.count, 4);
	assert_memory_equal(edge_back.properties.data, buffer, edge_back.properties.bytes);
}

/* An embedding loses floats: the original kept 64 bytes of what was longer. */
static void test_record__embeddings_are_not_cut(void **state)
{
	(void)state;
	static float vector[HAUL_DIMENSIONS_MAX];
	static uint8_t data[RECORD_EMBEDDING_HEAD + sizeof vector];
	struct haul_embedding embedding = { .dimensions = HAUL_DIMENSIONS_MAX, .vector = vector };
	struct haul_embedding back = { 0 };

	for (int i = 0; i < HAUL_DIMENSIONS_MAX; i++)
		vector[i] = (float)i;
	const uint32_t bytes = record_put_embedding(data, &embedding);
	assert_int_equal(bytes, sizeof data);
	assert_int_equal(record_check_embedding(data, bytes), 0);
	record_get_embedding(data, bytes, &back);
	assert_int_equal(back.dimensions, HAUL_DIMENSIONS_MAX);
	assert_memory_equal(back.vector, vector, sizeof vector);
	assert_int_equal(record_check_embedding(data, bytes - 4), HAUL_ECORRUPT);
	assert_int_equal(record_check_embedding(data, 3), HAUL_ECORRUPT);
	le32_store(data, 0);
	assert_int_equal(record_check_embedding(data, 4), HAUL_ECORRUPT);
	le32_store(data, HAUL_DIMENSIONS_MAX + 1);
	assert_int_equal(record_check_embedding(data, bytes), HAUL_ELIMIT);
}

/* A distance to what is no number is no number, and nothing is nearest any more. */
static void test_record__embeddings_are_finite(void **state)
{
	(void)state;
	static const float bad[] = { NAN, INFINITY, -INFINITY };

	for (int i = 0; i < 3; i++) {
		const float vector[] = { 1, bad[i], 2 };
		const struct haul_embedding embedding = { .dimensions = 3, .vector = vector };
		uint8_t data[64];
		const uint32_t bytes = record_put_embedding(data, &embedding);
		assert_int_equal(record_check_embedding(data, bytes), HAUL_ECORRUPT);
	}
}

/* Equal properties have different bytes, or the order of the caller matters. */
static void test_properties_encode__order_does_not_matter(void **state)
{
	(void)state;
	static struct haul_property list[HAUL_PROPERTY_COUNT_MAX];
	static char names[HAUL_PROPERTY_COUNT_MAX][8];
	static uint8_t one[HAUL_PROPERTIES_MAX], other[HAUL_PROPERTIES_MAX];
	struct haul_properties properties;
	struct prng prng;

	test_prng(&prng);
	for (int i = 0; i < HAUL_PROPERTY_COUNT_MAX; i++) {
		names[i][0] = (char)('a' + i % 26);
		names[i][1] = (char)('a' + i / 26 % 26);
		names[i][2] = (char)('a' + i / 676);
		list[i] = null_of(names[i]);
		list[i].name_bytes = 3;
	}
	properties = encode(list, HAUL_PROPERTY_COUNT_MAX, one, sizeof one);
	for (int round = 0; round < 20; round++) {
		for (uint32_t i = HAUL_PROPERTY_COUNT_MAX; i-- > 1;) {
			const uint32_t at = prng_below(&prng, i + 1);
			const struct haul_property held = list[i];
			list[i] = list[at];
			list[at] = held;
		}
		(void)encode(list, HAUL_PROPERTY_COUNT_MAX, other, sizeof other);
		assert_memory_equal(one, other, properties.bytes);
	}
}

/* What cannot be kept is taken, or the caller is not told why not. */
static void test_properties_encode__refuses(void **state)
{
	(void)state;
	static uint8_t buffer[2 * HAUL_PROPERTIES_MAX];
	static char large[HAUL_PROPERTIES_MAX + 1];
	struct haul_properties properties;
	struct haul_property list[2] = { text("a", "x"), text("a", "y") };
	static const struct haul_property none[HAUL_PROPERTY_COUNT_MAX + 1];
	static const char name[HAUL_PROPERTY_NAME_MAX + 1] = "n";

	assert_int_equal(haul_properties_encode(list, 2, buffer, sizeof buffer, &properties),
			 -EINVAL);
	list[1].name = "b";
	assert_int_equal(haul_properties_encode(list, 2, buffer, 19, &properties), HAUL_EFULL);
	assert_int_equal(haul_properties_encode(list, 2, buffer, 20, &properties), 0);
	list[1].name_bytes = 0;
	assert_int_equal(haul_properties_encode(list, 2, buffer, sizeof buffer, &properties),
			 -EINVAL);
	list[1].name = name;
	list[1].name_bytes = HAUL_PROPERTY_NAME_MAX + 1;
	assert_int_equal(haul_properties_encode(list, 2, buffer, sizeof buffer, &properties),
			 HAUL_ELIMIT);
	list[1].name_bytes = HAUL_PROPERTY_NAME_MAX;
	assert_int_equal(haul_properties_encode(list, 2, buffer, sizeof buffer, &properties), 0);
	list[1].type = HAUL_PROPERTY_TYPES;
	assert_int_equal(haul_properties_encode(list, 2, buffer, sizeof buffer, &properties),
			 -EINVAL);
	list[1].type = HAUL_BYTES;
	list[1].data = NULL;
	assert_int_equal(haul_properties_encode(list, 2, buffer, sizeof buffer, &properties),
			 -EINVAL);
	list[1] = text("b", "");
	list[1].data = large;
	list[1].data_bytes = HAUL_PROPERTIES_MAX - 19;
	assert_int_equal(haul_properties_encode(list, 2, buffer, sizeof buffer, &properties), 0);
	assert_int_equal(properties.bytes, HAUL_PROPERTIES_MAX);
	list[1].data_bytes++;
	assert_int_equal(haul_properties_encode(list, 2, buffer, sizeof buffer, &properties),
			 HAUL_ELIMIT);
	list[1].data_bytes = UINT32_MAX;
	assert_int_equal(haul_properties_encode(list, 2, buffer, sizeof buffer, &properties),
			 HAUL_ELIMIT);
	assert_int_equal(haul_properties_encode(none, HAUL_PROPERTY_COUNT_MAX + 1, buffer,
						sizeof buffer, &properties),
			 HAUL_ELIMIT);
	assert_int_equal(haul_properties_encode(NULL, 0, buffer, 0, &properties), 0);
	assert_int_equal(properties.bytes, 0);
}

/* A patch loses what it does not name, keeps what it takes away, or is not in order. */
static void test_record_merge__sets_takes_away_and_leaves(void **state)
{
	(void)state;
	const struct haul_property old[] = { integer("a", 1), integer("c", 3), integer("e", 5),
					     integer("g", 7) };
	const struct haul_property patch[] = { integer("b", 20), integer("c", 30), null_of("e"),
					       null_of("f"), integer("z", 26) };
	const struct haul_property want[] = { integer("a", 1), integer("b", 20), integer("c", 30),
					      integer("g", 7), integer("z", 26) };
	uint8_t one[256], other[256], third[256];
	static uint8_t buffer[HAUL_PROPERTIES_MAX];
	const struct haul_properties a = encode(old, 4, one, sizeof one);
	const struct haul_properties b = encode(patch, 5, other, sizeof other);
	const struct haul_properties c = encode(want, 5, third, sizeof third);
	struct haul_properties merged;

	assert_int_equal(record_merge(&a, &b, buffer, &merged), 0);
	assert_int_equal(merged.count, 5);
	assert_int_equal(merged.bytes, c.bytes);
	assert_memory_equal(merged.data, c.data, c.bytes);
	assert_int_equal(record_check_properties(&merged, false), 0);
}

/* A record grows over its limit by patches. */
static void test_record_merge__keeps_the_limits(void **state)
{
	(void)state;
	static char large[HAUL_PROPERTIES_MAX];
	static uint8_t one[HAUL_PROPERTIES_MAX], other[HAUL_PROPERTIES_MAX];
	static uint8_t buffer[HAUL_PROPERTIES_MAX];
	struct haul_property a = text("a", ""), b = text("b", "");
	struct haul_properties merged = { .count = 77 };

	a.data = b.data = large;
	a.data_bytes = HAUL_PROPERTIES_MAX / 2;
	b.data_bytes = HAUL_PROPERTIES_MAX / 2 - 18;
	struct haul_properties first = encode(&a, 1, one, sizeof one);
	struct haul_properties second = encode(&b, 1, other, sizeof other);
	assert_int_equal(record_merge(&first, &second, buffer, &merged), 0);
	assert_int_equal(merged.bytes, HAUL_PROPERTIES_MAX);
	b.data_bytes++;
	second = encode(&b, 1, other, sizeof other);
	assert_int_equal(record_merge(&first, &second, buffer, &merged), HAUL_ELIMIT);
	assert_int_equal(merged.count, 2);

	static struct haul_property many[HAUL_PROPERTY_COUNT_MAX];
	static char names[HAUL_PROPERTY_COUNT_MAX][2];
	for (int i = 0; i < HAUL_PROPERTY_COUNT_MAX; i++) {
		names[i][0] = (char)('A' + i / 32);
		names[i][1] = (char)('A' + i % 32);
		many[i] = text("", "");
		many[i].name = names[i];
		many[i].name_bytes = 2;
	}
	first = encode(many, HAUL_PROPERTY_COUNT_MAX, one, sizeof one);
	b = text("b", "");
	second = encode(&b, 1, other, sizeof other);
	assert_int_equal(record_merge(&first, &second, buffer, &merged), HAUL_ELIMIT);
	second = encode(many, 1, other, sizeof other);
	assert_int_equal(record_merge(&first, &second, buffer, &merged), 0);
}

/* Bytes that were cut off or changed pass for a record, or are read out of bounds. */
static void test_record_check__every_truncation_is_found(void **state)
{
	(void)state;
	const struct haul_property list[] = { text("a", "abc"), integer("b", 2), text("c", "") };
	uint8_t buffer[128], data[256];
	const struct haul_node node = { .key = "key",
					.key_bytes = 3,
					.properties = encode(list, 3, buffer, sizeof buffer) };
	const uint32_t bytes = record_put_node(data, &node);

	for (uint32_t cut = 0; cut < bytes; cut++) {
		struct test_guard guard;
		test_guard_open(&guard, cut == 0 ? 1 : cut);
		memcpy(guard.data, data, cut);
		assert_true(record_check_node(guard.data, cut, false) < 0);
		test_guard_close(&guard);
	}
	assert_int_equal(record_check_node(data, bytes + 1, false), HAUL_ECORRUPT);
	data[7] = 1;
	assert_int_equal(record_check_node(data, bytes, false), HAUL_ECORRUPT);
	const struct haul_edge edge = { .properties = node.properties };
	const uint32_t edge_bytes = record_put_edge(data, &edge);
	for (uint32_t cut = 0; cut < edge_bytes; cut++)
		assert_true(record_check_edge(data, cut, false) < 0);
	data[2] = 1;
	assert_int_equal(record_check_edge(data, edge_bytes, false), HAUL_ECORRUPT);
}

/* One byte of a property is changed: each rule is broken in turn. */
static void test_record_check__every_rule_is_kept(void **state)
{
	(void)state;
	const struct haul_property list[] = { text("aa", "abc"), integer("b", 2) };
	static const struct {
		uint32_t at;
		uint8_t byte;
		int want;
	} breaks[] = {
		{ 0, HAUL_PROPERTY_TYPES, HAUL_ECORRUPT }, /* type */
		{ 0, HAUL_NULL, HAUL_ECORRUPT },           /* has data */
		{ 0, HAUL_INTEGER, HAUL_ECORRUPT },        /* of another length */
		{ 1, 0, HAUL_ECORRUPT },                   /* no name */
		{ 1, HAUL_PROPERTY_NAME_MAX + 1, HAUL_ECORRUPT },
		{ 2, 1, HAUL_ECORRUPT }, /* reserved */
		{ 3, 1, HAUL_ECORRUPT },
		{ 4, 2, HAUL_ECORRUPT }, /* the next begins elsewhere */
		{ 7, 0x80, HAUL_ECORRUPT },
		{ 8, 'c', HAUL_ECORRUPT }, /* order */
	};
	uint8_t buffer[128];

	for (uint32_t i = 0; i < sizeof breaks / sizeof *breaks; i++) {
		struct haul_properties properties = encode(list, 2, buffer, sizeof buffer);
		buffer[breaks[i].at] = breaks[i].byte;
		assert_int_equal(record_check_properties(&properties, true), breaks[i].want);
	}
	struct haul_properties properties = encode(list, 2, buffer, sizeof buffer);
	properties.count = 1;
	assert_int_equal(record_check_properties(&properties, true), HAUL_ECORRUPT);
	properties.count = HAUL_PROPERTY_COUNT_MAX + 1;
	assert_int_equal(record_check_properties(&properties, true), HAUL_ELIMIT);
	properties = (struct haul_properties){ buffer, HAUL_PROPERTIES_MAX + 1, 1 };
	assert_int_equal(record_check_properties(&properties, true), HAUL_ELIMIT);
	memcpy(buffer + 13, buffer, 13);
	properties = (struct haul_properties){ buffer, 26, 2 };
	assert_int_equal(record_check_properties(&properties, true), HAUL_ECORRUPT);
}

/* A property that is only there to be taken away is stored. */
static void test_record_check__null_only_in_a_patch(void **state)
{
	(void)state;
	const struct haul_property list[] = { null_of("a") };
	uint8_t buffer[32], data[64];
	const struct haul_node node = { .properties = encode(list, 1, buffer, sizeof buffer) };
	const struct haul_edge edge = { .properties = node.properties };
	uint32_t bytes = record_put_node(data, &node);

	assert_int_equal(record_check_node(data, bytes, true), 0);
	assert_int_equal(record_check_node(data, bytes, false), HAUL_ECORRUPT);
	bytes = record_put_edge(data, &edge);
	assert_int_equal(record_check_edge(data, bytes, true), 0);
	assert_int_equal(record_check_edge(data, bytes, false), HAUL_ECORRUPT);
}

/* Names of a store cannot be found any more. */
static void test_record_name__is_the_documented_hash(void **state)
{
	(void)state;
	const XXH128_hash_t want = XXH3_128bits("fork/53.07", 10);
	const struct tree_key key = record_name("fork/53.07", 10);

	assert_true(key.word[0] == want.low64 && key.word[1] == want.high64 && key.word[2] == 0);
}

/* A type has no name, or one that is not there has. */
static void test_property_type_name__all(void **state)
{
	(void)state;
	assert_string_equal(haul_property_type_name(HAUL_NULL), "null");
	assert_string_equal(haul_property_type_name(HAUL_BYTES), "bytes");
	assert_string_equal(haul_property_type_name(HAUL_PROPERTY_TYPES), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_record__bytes_are_the_documented_ones),
		cmocka_unit_test(test_record__what_is_put_is_got),
		cmocka_unit_test(test_record__embeddings_are_not_cut),
		cmocka_unit_test(test_record__embeddings_are_finite),
		cmocka_unit_test(test_properties_encode__order_does_not_matter),
		cmocka_unit_test(test_properties_encode__refuses),
		cmocka_unit_test(test_record_merge__sets_takes_away_and_leaves),
		cmocka_unit_test(test_record_merge__keeps_the_limits),
		cmocka_unit_test(test_record_check__every_truncation_is_found),
		cmocka_unit_test(test_record_check__every_rule_is_kept),
		cmocka_unit_test(test_record_check__null_only_in_a_patch),
		cmocka_unit_test(test_record_name__is_the_documented_hash),
		cmocka_unit_test(test_property_type_name__all),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
