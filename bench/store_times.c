/* How long each of many operations took. */
#include <errno.h>
#include <stdlib.h>

#include "store_work.h"

enum { ROOM = 1 << 22 };

int store_times_start(struct store_times *times, int64_t now_ns)
{
	if (times->took_ns == NULL)
		times->took_ns = calloc(ROOM, sizeof *times->took_ns);
	if (times->took_ns == NULL)
		return -ENOMEM;
	times->room = ROOM;
	times->count = 0;
	times->last_ns = now_ns;
	times->gap_ns = 0;
	return 0;
}

void store_times_add(struct store_times *times, int64_t began_ns, int64_t now_ns)
{
	if (times->count < times->room)
		times->took_ns[times->count++] = now_ns - began_ns;
	if (now_ns - times->last_ns > times->gap_ns)
		times->gap_ns = now_ns - times->last_ns;
	times->last_ns = now_ns;
}

static int compare_ns(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

void store_times_sort(struct store_times *times)
{
	qsort(times->took_ns, times->count, sizeof *times->took_ns, compare_ns);
}

double store_times_ms(const struct store_times *times, double quantile)
{
	if (times->count == 0)
		return 0;
	uint32_t at = (uint32_t)(quantile * times->count);
	return (double)times->took_ns[at < times->count ? at : times->count - 1] * 1e-6;
}

void store_times_done(struct store_times *times)
{
	free(times->took_ns);
	*times = (struct store_times){ 0 };
}
