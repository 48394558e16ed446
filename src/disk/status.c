#include <haul/cache.h>
#include "base/assert.h"

const char *haul_cache_status_name(enum haul_cache_status status)
{
	static const char *const names[] = {
#define X(id, name) name,
		HAUL_CACHE_STATUS_LIST(X)
#undef X
	};
	HAUL_ASSERT((unsigned)status < HAUL_CACHE_STATUSES);
	return names[status];
}
