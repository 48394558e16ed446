/* rpc/mc_meta.c — words of the meta commands: a key, then flags of one letter, some with a token.
 *
 * Which letters a command has stands in one table. What memcached 1.6.18 does not know is refused,
 * and so is what an append-only log does not keep: E (a version of the client's own), I of ms
 * (which of two versions is older), h and l (when an item was read). */
#include <string.h>

#include "base/assert.h"
#include "rpc/mc.h"

static const char bad_format[] = "CLIENT_ERROR bad command line format\r\n";
static const char bad_token[] = "CLIENT_ERROR bad token in command line format\r\n";
static const char invalid_flag[] = "CLIENT_ERROR invalid flag\r\n";

/* P and L are hints for proxies, and ignored. */
static const char *flags_of(enum mc_command command)
{
	if (command == MC_mg)
		return "bcCfkOqstuvNRTPL";
	if (command == MC_ms)
		return "bcCFkOqsTMNPL";
	if (command == MC_md)
		return "bCIkOqTxPL";
	if (command == MC_ma)
		return "bCNJDTMOqtcvkPL";
	HAUL_ASSERT(command == MC_me);
	return "b";
}

static bool token_seconds(struct mc_text token, int64_t *ret_seconds)
{
	bool negative = token.bytes > 0 && token.data[0] == '-';
	uint64_t number;
	if (negative)
		token = (struct mc_text){ token.data + 1, token.bytes - 1 };
	if (!mc_number(token, &number) || number > UINT32_MAX)
		return false;
	*ret_seconds = negative ? -(int64_t)number : (int64_t)number;
	return true;
}

static bool take_mode(struct mc_text token, struct mc_request *request)
{
	if (token.bytes != 1)
		return false;
	char mode = token.data[0];
	if (mode >= 'a' && mode <= 'z')
		mode = (char)(mode - 'a' + 'A');
	if (request->command == MC_ma) {
		mode = mode == '+' ? 'I' : mode == '-' ? 'D' : mode;
		request->mode = mode;
		return mode == 'I' || mode == 'D';
	}
	request->mode = mode;
	return mode && strchr("SEAPR", mode) != NULL;
}

static const char *take_flag(struct mc_text flag, struct mc_request *request)
{
	struct mc_text token = { flag.data + 1, flag.bytes - 1 };
	uint64_t number = 0;
	bool good = true;
	switch (flag.data[0]) {
	case 'F':
		good = mc_number(token, &number) && number <= UINT32_MAX;
		request->flags = (uint32_t)number;
		break;
	case 'C':
		good = mc_number(token, &request->cas);
		break;
	case 'D':
		good = mc_number(token, &request->delta);
		break;
	case 'J':
		good = mc_number(token, &request->initial);
		break;
	case 'T':
		good = token_seconds(token, &request->exptime);
		break;
	case 'N':
		good = token_seconds(token, &request->vivify);
		break;
	case 'R':
		good = token_seconds(token, &request->recache);
		break;
	case 'O':
		if (token.bytes > MC_OPAQUE_MAX)
			return "CLIENT_ERROR opaque token too long\r\n";
		break;
	case 'M':
		if (!take_mode(token, request))
			return request->command == MC_ma
				       ? "CLIENT_ERROR invalid mode for ma M token\r\n"
				       : "CLIENT_ERROR invalid mode for ms M token\r\n";
		break;
	default:
		break;
	}
	return good ? NULL : bad_token;
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static const char *take_flags(const struct mc_text *words, uint32_t count,
			      struct mc_request *request)
{
	const char *known = flags_of(request->command);
	if (count > MC_FLAGS_MAX)
		return "CLIENT_ERROR options flags are too long\r\n";
	for (uint32_t i = 0; i < count; i++) {
		char letter = words[i].data[0];
		if (!is_letter(letter) || !strchr(known, letter))
			return invalid_flag;
		if (request->have & MC_FLAG(letter))
			return "CLIENT_ERROR duplicate flag\r\n";
		request->have |= MC_FLAG(letter);
		const char *error = take_flag(words[i], request);
		if (error)
			return error;
		request->meta[request->meta_count++] = words[i];
	}
	request->noreply = (request->have & MC_FLAG('q')) != 0;
	return NULL;
}

static int base64_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+')
		return 62;
	return c == '/' ? 63 : -1;
}

uint32_t mc_base64(struct mc_text text, uint8_t *out, uint32_t max)
{
	uint32_t pad = 0;
	while (pad < 2 && pad < text.bytes && text.data[text.bytes - 1 - pad] == '=')
		pad++;
	if (text.bytes == 0 || text.bytes % 4 != 0 || text.bytes / 4 * 3 - pad > max)
		return 0;
	uint32_t bytes = 0;
	uint32_t bits = 0;
	uint32_t held = 0;
	for (uint32_t i = 0; i < text.bytes - pad; i++) {
		int digit = base64_digit(text.data[i]);
		if (digit < 0)
			return 0;
		held = held << 6 | (uint32_t)digit;
		bits += 6;
		if (bits < 8)
			continue;
		bits -= 8;
		out[bytes++] = (uint8_t)(held >> bits);
	}
	HAUL_ASSERT(bytes <= max);
	return bytes;
}

static const char *check_key(const struct mc_request *request)
{
	uint8_t decoded[MC_KEY_MAX];
	if (request->key.bytes > MC_KEY_MAX)
		return bad_format;
	if ((request->have & MC_FLAG('b')) && mc_base64(request->key, decoded, sizeof decoded) == 0)
		return "CLIENT_ERROR error decoding key\r\n";
	return NULL;
}

const char *mc_meta_parse(const struct mc_text *words, uint32_t count, struct mc_request *request)
{
	HAUL_ASSERT(count <= MC_TOKENS_MAX + 1);
	uint32_t fixed = request->command == MC_ms ? 2 : 1;
	request->delta = 1;
	request->mode = request->command == MC_ma ? 'I' : 'S';
	if (count < fixed)
		return bad_format;
	request->key = words[0];
	if (fixed == 2 && !mc_number(words[1], &request->value_bytes))
		return "CLIENT_ERROR bad data chunk\r\n";
	const char *error = take_flags(words + fixed, count - fixed, request);
	return error ? error : check_key(request);
}
