/* rpc/reply.c — what a client is told, by command and result. */
#include "rpc/reply.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "rpc/worker.h"

/* A line that is being written; what does not fit in REPLY_MAX cannot be (keys and tokens are
 * bounded). */
struct line {
	char *data;
	uint32_t bytes;
};

static void put(struct line *line, const void *data, uint32_t bytes)
{
	HAUL_ASSERT(line->bytes + bytes <= REPLY_MAX);
	memcpy(line->data + line->bytes, data, bytes);
	line->bytes += bytes;
}

static void put_text(struct line *line, const char *text)
{
	put(line, text, (uint32_t)strlen(text));
}

static void put_number(struct line *line, uint64_t number)
{
	char digits[20];
	uint32_t at = sizeof digits;
	do {
		digits[--at] = (char)('0' + number % 10);
		number /= 10;
	} while (number > 0);
	put(line, digits + at, (uint32_t)sizeof digits - at);
}

static void put_base64(struct line *line, const uint8_t *data, uint32_t bytes)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	for (uint32_t i = 0; i < bytes; i += 3) {
		uint32_t left = bytes - i;
		uint32_t three = (uint32_t)data[i] << 16;
		three |= left > 1 ? (uint32_t)data[i + 1] << 8 : 0;
		three |= left > 2 ? data[i + 2] : 0;
		const char four[4] = { digits[three >> 18], digits[three >> 12 & 63],
				       left > 1 ? digits[three >> 6 & 63] : '=',
				       left > 2 ? digits[three & 63] : '=' };
		put(line, four, 4);
	}
}

static bool is_meta(const struct task *task)
{
	return task->command == MC_mg || task->command == MC_ms || task->command == MC_md ||
	       task->command == MC_ma;
}

static bool found(const struct task *task)
{
	if (task->kind == TASK_CHANGE)
		return task->result == 0;
	return task->read.status == HAUL_CACHE_HIT;
}

static uint64_t value_bytes(const struct task *task)
{
	if (task->kind != TASK_GET && task->command != MC_mg && task->command != MC_gat &&
	    task->command != MC_gats)
		return task->stored_bytes;
	return task->read.head ? task->head.bytes : task->read.bytes;
}

bool reply_has_value(const struct task *task)
{
	if ((task->kind != TASK_GET && task->kind != TASK_CHANGE) || !found(task))
		return false;
	if (task->command == MC_mg)
		return (task->have & MC_FLAG('v')) &&
		       !((task->have & MC_FLAG('C')) && task->read.version == task->cas);
	return task->command == MC_get || task->command == MC_gets || task->command == MC_gat ||
	       task->command == MC_gats;
}

/* What q and noreply leave out: of the meta commands misses of mg, and successes of the others. */
bool reply_silent(const struct task *task)
{
	if (!task->noreply)
		return false;
	if (!is_meta(task))
		return true;
	if (task->command == MC_mg)
		return !found(task) && (task->result == 0 || task->result == -ENOENT);
	return task->result == 0;
}

static const char *failed(int result)
{
	switch (result) {
	case HAUL_ELIMIT:
		return "SERVER_ERROR object too large for cache\r\n";
	case HAUL_EFULL:
		return "SERVER_ERROR out of memory storing object\r\n";
	case HAUL_EADMIT:
		return "SERVER_ERROR the write budget is used up\r\n";
	case -EDOM:
		return "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
	case -EBADMSG:
		return "CLIENT_ERROR bad data chunk\r\n";
	case -ENODEV:
		return "SERVER_ERROR the device is offline\r\n";
	case -EROFS:
		return "SERVER_ERROR the cache is read-only\r\n";
	default:
		return "SERVER_ERROR the disk failed\r\n";
	}
}

static const char *stored(const struct task *task)
{
	if (task->result == 0)
		return "STORED\r\n";
	if (task->result == HAUL_ESTALE)
		return "EXISTS\r\n";
	if (task->result == -ENOENT && task->command == MC_cas)
		return "NOT_FOUND\r\n";
	if (task->result == -ENOENT || task->result == -EEXIST)
		return "NOT_STORED\r\n";
	return failed(task->result);
}

static const char *done_or_not_found(const struct task *task, const char *done)
{
	if (task->result == 0)
		return done;
	return task->result == -ENOENT ? "NOT_FOUND\r\n" : failed(task->result);
}

/* ---- meta ---- */

static void put_key(struct line *line, const struct task *task)
{
	if (task->base64)
		put_base64(line, task->text, task->key.bytes);
	else
		put(line, task->text, task->key.bytes);
}

static void put_ttl(struct line *line, uint32_t expiry, uint32_t now_s)
{
	if (expiry == 0)
		put_text(line, "-1");
	else
		put_number(line, expiry > now_s ? expiry - now_s : 0);
}

/* One flag that asks for something; known: the item is there. */
static void put_flag(struct line *line, const struct task *task, char letter, uint32_t now_s)
{
	bool known = task->result == 0 && (task->kind != TASK_GET || found(task));
	if (letter == 'O') {
		put_text(line, " O");
		put(line, task->opaque, task->opaque_bytes);
	} else if (letter == 'k') {
		put_text(line, " k");
		put_key(line, task);
		if (task->base64)
			put_text(line, " b");
	} else if (letter == 's' && known) {
		put_text(line, " s");
		put_number(line, value_bytes(task));
	} else if (letter == 'c' && known) {
		put_text(line, " c");
		put_number(line, task->kind == TASK_GET ? task->read.version : task->version);
	} else if (letter == 't' && known) {
		put_text(line, " t");
		put_ttl(line, task->read.expiry, now_s);
	} else if (letter == 'f' && known && task->command == MC_mg) {
		put_text(line, " f");
		put_number(line, task->read.head ? task->head.flags : task->read.flags);
	}
}

static const char *meta_code(const struct task *task)
{
	if (task->command == MC_mg)
		return found(task) ? "HD" : "EN";
	if (task->result == 0)
		return "HD";
	if (task->result == HAUL_ESTALE)
		return "EX";
	if (task->result == -EEXIST)
		return "NS";
	bool stores = task->command == MC_ms && !(task->have & MC_FLAG('C'));
	return stores ? "NS" : "NF";
}

static uint32_t meta_line(const struct task *task, uint32_t now_s, struct line *line)
{
	bool plain = task->result == 0 || task->result == HAUL_ESTALE || task->result == -EEXIST ||
		     task->result == -ENOENT;
	if (!plain) {
		put_text(line, failed(task->result));
		return line->bytes;
	}
	struct line digits = { .data = (char[24]){ 0 } };
	bool number = task->command == MC_ma && task->result == 0 && (task->have & MC_FLAG('v'));
	if (number)
		put_number(&digits, task->number);
	if (number || reply_has_value(task)) {
		put_text(line, "VA ");
		put_number(line, number ? digits.bytes : value_bytes(task));
	} else {
		put_text(line, meta_code(task));
	}
	for (const char *letter = task->letters; *letter; letter++)
		put_flag(line, task, *letter, now_s);
	if (task->won)
		put_text(line, " W");
	if (task->stale)
		put_text(line, " X");
	if (task->sent)
		put_text(line, " Z");
	put_text(line, "\r\n");
	if (number) {
		put(line, digits.data, digits.bytes);
		put_text(line, "\r\n");
	}
	return line->bytes;
}

static uint32_t debug_line(const struct task *task, uint32_t now_s, struct line *line)
{
	if (!found(task)) {
		put_text(line, "EN\r\n");
		return line->bytes;
	}
	put_text(line, "ME ");
	put_key(line, task);
	put_text(line, " exp=");
	put_ttl(line, task->read.expiry, now_s);
	put_text(line, " cas=");
	put_number(line, task->read.version);
	put_text(line, " size=");
	put_number(line, value_bytes(task));
	put_text(line, "\r\n");
	return line->bytes;
}

static void value_line(const struct task *task, struct line *line)
{
	put_text(line, "VALUE ");
	put(line, task->text, task->key.bytes);
	put_text(line, " ");
	put_number(line, task->read.head ? task->head.flags : task->read.flags);
	put_text(line, " ");
	put_number(line, value_bytes(task));
	if (task->gets) {
		put_text(line, " ");
		put_number(line, task->kind == TASK_GET ? task->read.version : task->version);
	}
	put_text(line, "\r\n");
}

static void number_line(const struct task *task, struct line *line)
{
	if (task->result < 0) {
		put_text(line, done_or_not_found(task, NULL));
		return;
	}
	put_number(line, task->number);
	put_text(line, "\r\n");
}

uint32_t reply_line(const struct task *task, uint32_t now_s, char *out)
{
	struct line line = { .data = out };
	HAUL_ASSERT(task->state == TASK_DONE);
	if (task->kind == TASK_REPLY)
		put_text(&line, task->reply);
	else if (is_meta(task))
		return meta_line(task, now_s, &line);
	else if (task->command == MC_me)
		return debug_line(task, now_s, &line);
	else if (reply_has_value(task))
		value_line(task, &line);
	else if (task->command == MC_incr || task->command == MC_decr)
		number_line(task, &line);
	else if (task->command == MC_delete)
		put_text(&line, done_or_not_found(task, "DELETED\r\n"));
	else if (task->command == MC_touch)
		put_text(&line, done_or_not_found(task, "TOUCHED\r\n"));
	else if (task->kind == TASK_TOUR)
		put_text(&line, task->result < 0 ? failed(task->result) : "OK\r\n");
	else if (task->kind == TASK_PUT ||
		 (task->kind == TASK_CHANGE && !task->gets &&
		  (task->command == MC_append || task->command == MC_prepend)))
		put_text(&line, stored(task));
	return line.bytes;
}
