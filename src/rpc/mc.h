/* rpc/mc.h — the memcached protocols, text and meta: reading requests and writing replies.
 *
 * Model      mc_parse takes the next request off the front of what was received. A pure function:
 *            it copies nothing, keeps no state, and points into the buffer. Commands: get gets gat
 *            gats set add replace append prepend cas incr decr delete touch stats version verbosity
 *            flush_all quit, mg ms md ma mn me, shutdown is refused; `online` is ours.
 * Units      bytes; exptime as on the wire (seconds; over 30 days: since 1970; negative: at once).
 * Threads    pure.
 * Errors     a request that cannot be understood is answered, not fatal: MC_ERROR with the line to
 *            send. Only what cannot be told apart any more (a line over MC_LINE_MAX, data without
 *            its end) closes the connection: MC_FATAL.
 * Limits     MC_LINE_MAX bytes a line, MC_KEY_MAX a key; any number of keys a get.
 * Source     memcached's doc/protocol.txt, 1.6. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
	MC_KEY_MAX = 250,
	MC_LINE_MAX = 1 << 20, /* a get of 4000 keys of 250 bytes */
	MC_FLAGS_MAX = 24,     /* flags of one meta command */
	MC_OPAQUE_MAX = 32,
	MC_REPLY_MAX = 512 /* longest line of a reply but for stats */
};

enum mc_parsed { MC_MORE, MC_REQUEST, MC_ERROR, MC_FATAL };

#define MC_COMMAND_LIST(X)                                                                         \
	X(get)                                                                                     \
	X(gets) X(gat) X(gats) X(set) X(add) X(replace) X(append) X(prepend) X(cas) X(incr)        \
		X(decr) X(delete) X(touch) X(stats) X(version) X(verbosity) X(flush_all) X(quit)   \
			X(mg) X(ms) X(md) X(ma) X(mn) X(me) X(online)

enum mc_command {
#define X(name) MC_##name,
	MC_COMMAND_LIST(X)
#undef X
		MC_COMMANDS
};

struct mc_text {
	const char *data;
	uint32_t bytes;
};

struct mc_request {
	enum mc_command command;
	struct mc_text line; /* all of it, without its end */
	struct mc_text keys; /* get …: the rest of the line; mc_key takes one after the other */
	struct mc_text key;  /* one key; meta: as on the wire */
	bool base64;         /* meta: flag b: key is to be decoded */
	bool noreply;        /* meta: flag q */
	uint32_t flags;
	int64_t exptime;
	uint64_t cas;
	uint64_t delta;
	uint64_t value_bytes; /* storage commands: of the data block that follows */
	struct mc_text
		value;  /* where the block is, if all of it is in the buffer; else data NULL */
	bool too_large; /* over value_max: answer it, and swallow `consumed` as it comes */
	struct mc_text meta[MC_FLAGS_MAX]; /* flags with their tokens: "T30" */
	uint32_t meta_count;
	const char *error; /* MC_ERROR, MC_FATAL: the line to send, with its end */
	uint64_t consumed; /* bytes of the request; may go beyond what is in the buffer (the rest
			       * of a value) when MC_REQUEST was told with value.data == NULL */
};

/* value_min: a storage command whose value is longer is told as soon as its line is there, so that
 * its value can be taken as it comes; others only when all of it is there. */
enum mc_parsed mc_parse(const char *data, uint64_t bytes, uint64_t value_min, uint64_t value_max,
			struct mc_request *ret_request);
/* The next key of request->keys, which is shortened; false = no more. */
bool mc_key(struct mc_text *keys, struct mc_text *ret_key);
/* Seconds since 1970 by which an item with that exptime expires; 0 = never; 1 = it is over. */
uint32_t mc_expiry(int64_t exptime, uint32_t now_s);
