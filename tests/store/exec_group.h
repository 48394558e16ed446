/* store/exec_group.h — the executor of a test, as in exec_lab.h: made before each, gone behind it.
 *
 * Model      included by one test program alone: it has the one lab. */
#pragma once

#include "lib/testlib.h"
#include "store/exec_lab.h"

static struct lab *lab;

static inline int setup(void **state)
{
	(void)state;
	lab = test_malloc(sizeof *lab);
	lab_open(lab);
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	lab_close(lab);
	test_free(lab);
	return 0;
}
