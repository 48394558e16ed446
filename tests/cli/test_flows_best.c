/* cli/test_flows_best.c — the best so many connections, against sorting all of them. */
#include <stdlib.h>
#include <string.h>

#include "cli/flows_best.h"
#include "lib/testlib.h"

enum { ITEMS = 400, ROUNDS = 20 };

/* Few different figures, so that many are equal and the key must decide. */
static void fill(struct prng *prng, struct flows_item items[ITEMS])
{
	memset(items, 0, sizeof(struct flows_item) * ITEMS);
	for (uint32_t i = 0; i < ITEMS; i++) {
		struct haul_flow_value *value = &items[i].value;

		memcpy(items[i].key.addr_lo, &(uint32_t){ prng_below(prng, 1000000) }, 4);
		memcpy(items[i].key.addr_hi, &i, sizeof i);
		items[i].table = prng_below(prng, 3);
		for (int way = 0; way < 2; way++) {
			value->bytes[way] = prng_below(prng, 50);
			value->packets[way] = prng_below(prng, 50);
			items[i].delta.bytes[way] = prng_below(prng, 50);
			items[i].delta.packets[way] = prng_below(prng, 50);
		}
		value->first_ns = prng_below(prng, 100);
		value->last_ns = prng_below(prng, 100);
		value->rtt_us = prng_below(prng, 4) == 0 ? 0 : 1 + prng_below(prng, 100);
	}
}

static int64_t figure(enum flows_sort sort, const struct flows_item *item)
{
	const struct haul_flow_value *value = &item->value;

	switch (sort) {
	case FLOWS_SORT_BYTES:
		return (int64_t)(value->bytes[0] + value->bytes[1]);
	case FLOWS_SORT_PACKETS:
		return (int64_t)(value->packets[0] + value->packets[1]);
	case FLOWS_SORT_AGE:
		return -(int64_t)value->first_ns;
	case FLOWS_SORT_IDLE:
		return -(int64_t)value->last_ns;
	case FLOWS_SORT_RTT:
		return value->rtt_us;
	case FLOWS_SORT_RATE:
		return (int64_t)(item->delta.bytes[0] + item->delta.bytes[1]);
	case FLOWS_SORT_PRATE:
		return (int64_t)(item->delta.packets[0] + item->delta.packets[1]);
	case FLOWS_SORT_NONE:
	case FLOWS_SORTS:
		break;
	}
	fail();
	return 0;
}

/* How many must stand before this one; by the slowest way there is. */
static uint32_t place(const struct flows_item items[ITEMS], uint32_t at, enum flows_sort sort,
		      bool reverse)
{
	int64_t mine = figure(sort, &items[at]);
	uint32_t before = 0;

	for (uint32_t i = 0; i < ITEMS; i++) {
		int64_t other = figure(sort, &items[i]);
		bool unknown = sort == FLOWS_SORT_RTT && (mine == 0 || other == 0);

		if (other == mine)
			before += memcmp(&items[i].key, &items[at].key, sizeof items[i].key) < 0;
		else if (unknown)
			before += mine == 0; /* last in either order */
		else
			before += (other > mine) != reverse;
	}
	return before;
}

/* Whatever the order and the limit: the same connections in the same places. */
static void test_flows_best__is_the_beginning_of_all_in_order(void **state)
{
	struct flows_item *items = calloc(ITEMS, sizeof *items);
	struct prng prng;

	(void)state;
	assert_non_null(items);
	test_prng(&prng);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		struct flows_best best = { .limit = prng_below(&prng, 2) * prng_below(&prng, 500) };
		size_t kept = best.limit == 0 || best.limit > ITEMS ? ITEMS : best.limit;

		fill(&prng, items);
		best.sort = FLOWS_SORT_BYTES + prng_below(&prng, FLOWS_SORTS - FLOWS_SORT_BYTES);
		best.reverse = prng_below(&prng, 2);
		for (uint32_t i = 0; i < ITEMS; i++)
			assert_int_equal(flows_best_add(&best, &items[i]), 0);
		flows_best_order(&best);
		assert_int_equal(best.count, kept);
		assert_true(best.limit == 0 || best.room <= best.limit);
		for (uint32_t i = 0; i < ITEMS; i++) {
			uint32_t at = place(items, i, best.sort, best.reverse);

			if (at < kept)
				assert_memory_equal(&best.items[at].key, &items[i].key,
						    sizeof items[i].key);
		}
		flows_best_done(&best);
	}
	free(items);
}

/* Cleared, it takes the next look's connections; another order applies at once. */
static void test_flows_best__order_may_change(void **state)
{
	struct flows_best best = { .sort = FLOWS_SORT_BYTES, .limit = 2 };
	struct flows_item items[3] = { 0 };

	(void)state;
	for (uint8_t i = 0; i < 3; i++) {
		items[i].key.addr_lo[0] = i;
		items[i].value.bytes[0] = i;
		items[i].value.packets[1] = 10 - i;
	}
	for (int look = 0; look < 2; look++) {
		flows_best_clear(&best);
		for (int i = 0; i < 3; i++)
			assert_int_equal(flows_best_add(&best, &items[i]), 0);
		flows_best_order(&best);
		assert_int_equal(best.count, 2);
		assert_int_equal(best.items[0].key.addr_lo[0], look == 0 ? 2 : 0);
		assert_int_equal(best.items[1].key.addr_lo[0], 1);
		best.sort = FLOWS_SORT_PACKETS;
		flows_best_order(&best);
		assert_int_equal(best.items[0].value.packets[1], look == 0 ? 9 : 10);
	}
	flows_best_done(&best);
}

/* Every order has a name that leads back to it, and other words have none. */
static void test_flows_best__orders_have_names(void **state)
{
	(void)state;
	for (unsigned i = 0; i < FLOWS_SORTS; i++)
		assert_int_equal(flows_sort_by_name(flows_sort_name((enum flows_sort)i)), i);
	assert_int_equal(flows_sort_by_name(""), FLOWS_SORTS);
	assert_int_equal(flows_sort_by_name("byte"), FLOWS_SORTS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flows_best__is_the_beginning_of_all_in_order),
		cmocka_unit_test(test_flows_best__order_may_change),
		cmocka_unit_test(test_flows_best__orders_have_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
