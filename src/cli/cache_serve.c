/* haul cache serve. */
#include <errno.h>

#include "cli/cache.h"

int cache_serve(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return cache_fail("serve", -ENOSYS);
}
