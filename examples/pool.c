/* pool — buffers without malloc, and what happens at the hard cap.
 *
 *   cc pool.c $(pkg-config --cflags --libs haul) && ./a.out
 *
 * The pool maps all its memory when it is opened and never grows: get returns NULL instead. */
#include <inttypes.h>
#include <stdio.h>

#include <haul/haul.h>

enum { BUFFERS = 64, WANTED = 80, CLASS_1500 = 2 };

static void print_counts(const struct haul_pool *pool, const char *when)
{
	printf("%-16s in use %2" PRIu64 ", hit %2" PRIu64 ", miss %" PRIu64 ", exhausted %" PRIu64
	       "\n",
	       when, haul_pool_in_use(pool), haul_pool_count(pool, HAUL_POOL_HIT),
	       haul_pool_count(pool, HAUL_POOL_MISS), haul_pool_count(pool, HAUL_POOL_EXHAUSTED));
}

/* Take more than there is, use what came, give it back. Returns how many came. */
static int take_and_return(const struct haul_pool *pool, struct haul_pool_thread *thread)
{
	void *held[WANTED];
	int count = 0;

	for (int i = 0; i < WANTED; i++) {
		uint8_t *buffer = haul_pool_get(thread, 1400); /* smallest class that holds it */

		if (buffer == NULL)
			continue;                /* a program counts a drop, or tries again later */
		buffer[-HAUL_POOL_HEADROOM] = 1; /* room for a header put in front later */
		buffer[haul_pool_bytes(buffer) - 1] = 1;
		held[count++] = buffer;
	}
	print_counts(pool, "all taken:");
	for (int i = 0; i < count; i++)
		haul_pool_put(thread, held[i]);
	print_counts(pool, "all returned:");
	return count;
}

int main(void)
{
	const struct haul_pool_options options = {
		.name = "example",
		.count_max = { [CLASS_1500] = BUFFERS },
		.threads_max = 1,
	};
	struct haul_pool *pool = NULL;
	struct haul_pool_thread *thread = NULL;
	struct haul_err err = { 0 };
	int count = 0;

	if (haul_pool_open(&options, &pool, &err) < 0) {
		fprintf(stderr, "pool: %s\n", err.text);
		return 1;
	}
	if (haul_pool_thread_open(pool, &thread) >= 0)
		count = take_and_return(pool, thread);
	haul_pool_thread_close(thread);
	haul_pool_close(pool);
	return count == BUFFERS ? 0 : 1;
}
