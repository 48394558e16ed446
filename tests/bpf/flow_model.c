/* bpf/flow_model.c — see flow_model.h. */
#include "bpf/flow_model.h"

#include <netinet/in.h>
#include <string.h>

#include "lib/testlib.h"

enum event { RST, SYN, SYN_ACK, FIN, ACK, NOTHING, EVENTS };
enum {
	N = HAUL_FLOW_NEW,
	R = HAUL_FLOW_REPLIED,
	SS = HAUL_FLOW_SYN_SENT,
	SR = HAUL_FLOW_SYN_RECV,
	ES = HAUL_FLOW_ESTABLISHED,
	CG = HAUL_FLOW_CLOSING,
	CD = HAUL_FLOW_CLOSED,
	RS = HAUL_FLOW_RESET
};

/* From the initiator, and from the other end. FIN means one FIN: both are CLOSED. SYN: unless it
 * begins anew. */
static const uint8_t steps[HAUL_FLOW_STATES][EVENTS][2] = {
	/*      RST         SYN         SYN_ACK     FIN         ACK         NOTHING */
	[N] = { { RS, RS }, { N, N }, { N, N }, { CG, CG }, { ES, ES }, { N, N } },
	[R] = { { RS, RS }, { R, R }, { R, R }, { CG, CG }, { ES, ES }, { R, R } },
	[SS] = { { RS, RS }, { SS, SR }, { SR, SR }, { CG, CG }, { ES, SS }, { SS, SS } },
	[SR] = { { RS, RS }, { SR, SR }, { SR, SR }, { CG, CG }, { ES, ES }, { SR, SR } },
	[ES] = { { RS, RS }, { ES, ES }, { ES, ES }, { CG, CG }, { ES, ES }, { ES, ES } },
	[CG] = { { RS, RS }, { CG, CG }, { CG, CG }, { CG, CG }, { CG, CG }, { CG, CG } },
	[CD] = { { RS, RS }, { CD, CD }, { CD, CD }, { CD, CD }, { CD, CD }, { CD, CD } },
	[RS] = { { RS, RS }, { RS, RS }, { RS, RS }, { RS, RS }, { RS, RS }, { RS, RS } },
};

static enum event event_of(uint8_t flags)
{
	if (flags & PACKET_RST)
		return RST;
	if (flags & PACKET_SYN)
		return flags & PACKET_ACK ? SYN_ACK : SYN;
	if (flags & PACKET_FIN)
		return FIN;
	return flags & PACKET_ACK ? ACK : NOTHING;
}

void flow_model_init(struct flow_model *model, uint32_t entries_max)
{
	assert_true(entries_max <= FLOW_MODEL_ENTRIES);
	memset(model, 0, sizeof *model);
	model->entries_max = entries_max;
}

static bool echo(const struct packet *packet)
{
	if (packet->proto == IPPROTO_ICMP)
		return packet->icmp_type == 8 || packet->icmp_type == 0;
	return packet->icmp_type == 128 || packet->icmp_type == 129;
}

/* Address and port as one string of bytes. */
static void end_of(const struct packet *packet, bool dst, uint8_t ret_end[18])
{
	uint16_t port = dst ? packet->dport : packet->sport;
	bool icmp = packet->proto == IPPROTO_ICMP || packet->proto == IPPROTO_ICMPV6;
	if (icmp)
		port = echo(packet) ? packet->sport : 0;
	else if (packet->proto != IPPROTO_TCP && packet->proto != IPPROTO_UDP &&
		 packet->proto != IPPROTO_SCTP)
		port = 0;
	if (packet->fragment > 0)
		port = 0;
	packet_address(packet, dst, ret_end);
	ret_end[16] = (uint8_t)(port >> 8);
	ret_end[17] = (uint8_t)port;
}

void flow_model_key(const struct packet *packet, struct haul_flow_key *ret_key, int *ret_dir)
{
	uint8_t ends[2][18];
	end_of(packet, false, ends[0]);
	end_of(packet, true, ends[1]);
	int lo = memcmp(ends[0], ends[1], sizeof ends[0]) <= 0 ? 0 : 1;
	memset(ret_key, 0, sizeof *ret_key);
	memcpy(ret_key->addr_lo, ends[lo], 16);
	memcpy(ret_key->addr_hi, ends[!lo], 16);
	ret_key->port_lo = (uint16_t)(ends[lo][16] << 8 | ends[lo][17]);
	ret_key->port_hi = (uint16_t)(ends[!lo][16] << 8 | ends[!lo][17]);
	ret_key->proto = packet->proto;
	if (packet->tags > 0)
		ret_key->vlan_outer = packet->tag[0] & 0xfffu;
	if (packet->tags > 1)
		ret_key->vlan_inner = packet->tag[1] & 0xfffu;
	*ret_dir = lo;
}

struct flow_model_entry *flow_model_find(struct flow_model *model, const struct haul_flow_key *key)
{
	for (uint32_t i = 0; i < model->count; i++) {
		if (memcmp(&model->entries[i].key, key, sizeof *key) == 0)
			return &model->entries[i];
	}
	return NULL;
}

/* A SYN that is not the one sent before. */
static bool begins_anew(const struct flow_model_entry *entry, const struct packet *packet, int dir)
{
	int32_t ahead = (int32_t)(packet->seq + 1 - entry->next[dir]);
	switch (entry->state) {
	case HAUL_FLOW_CLOSED:
	case HAUL_FLOW_RESET:
	case HAUL_FLOW_NEW:
	case HAUL_FLOW_REPLIED:
		return true;
	case HAUL_FLOW_ESTABLISHED:
	case HAUL_FLOW_CLOSING:
		return entry->flags[dir] != 0 && ahead > 0;
	default:
		return entry->flags[dir] != 0 && (ahead > 0 || ahead < -65535);
	}
}

static void begin(struct flow_model_entry *entry, const struct packet *packet, int dir)
{
	static const uint8_t first[EVENTS] = { RS, SS, SR, CG, ES, ES };
	enum event event = event_of(packet->tcp_flags);
	memset(entry->tracked, 0, sizeof entry->tracked);
	memset(entry->next, 0, sizeof entry->next);
	memset(entry->flags, 0, sizeof entry->flags);
	entry->state = first[event];
	entry->initiator = (uint8_t)(event == SYN_ACK ? !dir : dir);
	entry->timing = event == SYN;
	entry->rtt = false;
}

static void follow(struct flow_model_entry *entry, const struct packet *packet, int dir)
{
	enum event event = event_of(packet->tcp_flags);
	bool other = dir != entry->initiator;
	if (entry->state == SS && event == SYN_ACK && other && entry->timing)
		entry->rtt = true;
	else if (entry->state == SS && (event == SYN || event == SYN_ACK))
		entry->timing = false;
	uint8_t next = steps[entry->state][event][other];
	if (event == FIN && next == CG && entry->flags[!dir] & PACKET_FIN)
		next = CD;
	entry->state = next;
}

/* Up to where the stream is known, and what of it is new. */
static void advance(struct flow_model_entry *entry, const struct packet *packet, int dir,
		    uint32_t segments)
{
	bool syn = packet->tcp_flags & PACKET_SYN, fin = packet->tcp_flags & PACKET_FIN;
	bool stream = packet->tcp_flags && !(packet->tcp_flags & PACKET_RST);
	uint32_t bytes = stream ? packet->payload : 0;
	uint32_t end = packet->seq + syn + bytes, next = end + fin;
	if (!packet->tcp_flags)
		return;
	if (!entry->tracked[dir]) {
		entry->next[dir] = next;
		entry->payload[dir] += bytes;
		entry->tracked[dir] = true;
		return;
	}
	if (!stream || (!bytes && !syn && !fin))
		return;
	int64_t limit = syn ? 65535 : 1 << 30;
	int64_t gain = (int32_t)(end - entry->next[dir]);
	if (gain > limit || gain < -limit) {
		entry->next[dir] = next;
		entry->payload[dir] += bytes;
		return;
	}
	if (gain > 0)
		entry->payload[dir] += (uint64_t)gain;
	else if (bytes)
		entry->retransmits += segments;
	if ((int32_t)(next - entry->next[dir]) > 0)
		entry->next[dir] = next;
}

static void count_tcp(struct flow_model_entry *entry, const struct packet *packet, int dir,
		      uint32_t segments)
{
	uint8_t before = entry->state;
	bool known = entry->packets[0] + entry->packets[1] > 0;
	bool anew = known && event_of(packet->tcp_flags) == SYN && begins_anew(entry, packet, dir);
	if (!known || anew)
		begin(entry, packet, dir);
	else
		follow(entry, packet, dir);
	/* A SYN in the midst of a connection is an old one. */
	bool old = known && !anew && entry->tracked[dir] && packet->tcp_flags & PACKET_SYN &&
		   before != SS && before != SR;
	entry->flags[dir] |= packet->tcp_flags;
	if (!old)
		advance(entry, packet, dir, segments);
}

static void count_plain(struct flow_model_entry *entry, const struct packet *packet, int dir)
{
	if (entry->packets[0] + entry->packets[1] == 0)
		entry->initiator = (uint8_t)dir;
	if (entry->state == HAUL_FLOW_NEW && dir != entry->initiator)
		entry->state = HAUL_FLOW_REPLIED;
	entry->payload[dir] += packet->payload;
}

static void on_the_wire(const struct packet_frame *frame, const struct flow_gso *gso,
			uint64_t *ret_packets, uint64_t *ret_bytes)
{
	uint64_t segments = 1;
	if (gso->size && gso->segs)
		segments = gso->segs;
	else if (gso->size)
		segments = (frame->bytes - frame->payload + gso->size - 1) / gso->size;
	if (segments == 0)
		segments = 1;
	*ret_packets = segments;
	*ret_bytes = frame->bytes + (segments - 1) * frame->payload;
	if (segments > 1 && gso->wire_len > *ret_bytes)
		*ret_bytes = gso->wire_len;
}

void flow_model_count(struct flow_model *model, const struct packet *packet,
		      const struct packet_frame *frame, const struct flow_gso *gso)
{
	struct haul_flow_key key;
	int dir;
	uint64_t packets, bytes;
	flow_model_key(packet, &key, &dir);
	on_the_wire(frame, gso, &packets, &bytes);
	model->totals[HAUL_FLOW_T_SKBS]++;
	model->totals[HAUL_FLOW_T_SKB_BYTES] += frame->bytes;
	model->totals[HAUL_FLOW_T_PACKETS] += packets;
	model->totals[HAUL_FLOW_T_BYTES] += bytes;
	if (packet->fragment > 0)
		model->totals[HAUL_FLOW_T_FRAGMENTS] += packets;
	struct flow_model_entry *entry = flow_model_find(model, &key);
	if (!entry && model->count == model->entries_max) {
		model->totals[HAUL_FLOW_T_OVERFLOW] += packets;
		model->totals[HAUL_FLOW_T_OVERFLOW_BYTES] += bytes;
		return;
	}
	if (!entry) {
		entry = &model->entries[model->count++];
		memset(entry, 0, sizeof *entry);
		entry->key = key;
		model->totals[HAUL_FLOW_T_OPENED]++;
	}
	if (packet->proto == IPPROTO_TCP && packet->fragment == 0)
		count_tcp(entry, packet, dir, (uint32_t)packets);
	else
		count_plain(entry, packet, dir);
	entry->packets[dir] += packets;
	entry->bytes[dir] += bytes;
}

void flow_model_not_ip(struct flow_model *model, uint32_t bytes)
{
	model->totals[HAUL_FLOW_T_SKBS]++;
	model->totals[HAUL_FLOW_T_SKB_BYTES] += bytes;
	model->totals[HAUL_FLOW_T_NOT_IP]++;
}

void flow_model_malformed(struct flow_model *model, uint32_t bytes)
{
	model->totals[HAUL_FLOW_T_SKBS]++;
	model->totals[HAUL_FLOW_T_SKB_BYTES] += bytes;
	model->totals[HAUL_FLOW_T_MALFORMED]++;
}

void flow_model_compare(const struct flow_model_entry *entry, const struct haul_flow_value *value)
{
	for (int dir = 0; dir < 2; dir++) {
		assert_int_equal(value->packets[dir], entry->packets[dir]);
		assert_int_equal(value->bytes[dir], entry->bytes[dir]);
		assert_int_equal(value->payload[dir], entry->payload[dir]);
		assert_int_equal(value->seq_next[dir], entry->next[dir]);
		assert_int_equal(value->tcp_flags[dir], entry->flags[dir]);
	}
	assert_int_equal(value->state, entry->state);
	assert_int_equal(value->initiator, entry->initiator);
	assert_int_equal(value->retransmits, entry->retransmits);
	assert_int_equal(value->rtt_us != 0, entry->rtt);
	assert_int_equal(value->life, HAUL_FLOW_LIVE);
	assert_int_not_equal(value->ifindex, 0);
	assert_true(value->first_ns > 0 && value->first_ns <= value->last_ns);
}
