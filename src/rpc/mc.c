#include "rpc/mc.h"

#include "base/assert.h"

enum { THIRTY_DAYS_S = 30 * 24 * 3600 };

bool mc_key(struct mc_text *keys, struct mc_text *ret_key)
{
	uint32_t at = 0;
	HAUL_ASSERT(keys->data || keys->bytes == 0);
	while (at < keys->bytes && keys->data[at] == ' ')
		at++;
	uint32_t first = at;
	while (at < keys->bytes && keys->data[at] != ' ')
		at++;
	*ret_key = (struct mc_text){ keys->data + first, at - first };
	keys->data += at;
	keys->bytes -= at;
	return ret_key->bytes > 0;
}

uint32_t mc_expiry(int64_t exptime, uint32_t now_s)
{
	if (exptime == 0)
		return 0;
	if (exptime < 0)
		return 1;
	if (exptime <= THIRTY_DAYS_S)
		exptime += now_s;
	return exptime > UINT32_MAX ? UINT32_MAX : (uint32_t)exptime;
}
