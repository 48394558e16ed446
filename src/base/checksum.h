/* base/checksum.h — XXH3, by the widest instructions that the CPU has.
 *
 * Where libxxhash was built with a choice at run time, its header names the functions that choose;
 * else they are those of the instructions every CPU has. The result is the same. */
#pragma once

#include <xxhash.h>

#ifdef HAUL_XXH_DISPATCH
#include <xxh_x86dispatch.h>
#endif
