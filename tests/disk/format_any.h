/* disk/format_any.h — one of each structure of the disk's format, so that a test can take them all.
 *
 * Model      any_fixed has known numbers in all of them, for golden bytes and to be damaged.
 * Threads    any. */
#pragma once

#include "disk/format.h"

enum any_kind { SUPER, ROOT, SEGMENT, BATCH, FOOTER, KINDS };
enum { ANY_SEGMENT = 0x400000 };

struct any {
	struct format_super super;
	struct format_root root;
	struct format_segment segment;
	struct format_batch batch;
	struct format_footer footer;
};

extern const uint8_t any_uuid[16];
extern const size_t any_bytes[KINDS];
extern const struct any any_fixed;

void any_encode(enum any_kind kind, const struct any *any, uint8_t *out);
/* Of the cache `of`; and of any_uuid. */
int any_decode_of(enum any_kind kind, const uint8_t *in, const uint8_t *of, struct any *any);
int any_decode(enum any_kind kind, const uint8_t *in, struct any *any);
/* The checksum, where head_seal puts it, written out again. */
void any_seal(enum any_kind kind, uint8_t *at);
/* Little-endian. */
void any_put(uint8_t *at, uint32_t width, uint64_t value);
