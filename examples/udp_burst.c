/* udp_burst — two sockets on this machine; one sends 1000 datagrams in bursts of 50, the
 * other counts them.
 *
 *   cc udp_burst.c $(pkg-config --cflags --libs haul) && ./a.out
 *
 * haul turns each burst into as few kernel packets as it can; the last line says how few system
 * calls that took. */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include <haul/haul.h>

enum { FRAMES = 1000, BURST = 50, BYTES = 1200 };

static int open_udp(struct haul_link **ret_link, struct haul_err *err)
{
	struct haul_link_options options;
	int code;

	haul_link_options_init(&options, HAUL_LINK_UDP);
	code = haul_addr_parse("127.0.0.1:0", &options.local, err); /* port 0: the kernel chooses */
	if (code < 0)
		return code;
	return haul_link_open(&options, ret_link, err);
}

/* Queue one burst for peer and send it; returns how many frames were taken. */
static int send_burst(struct haul_link *link, uint32_t peer, struct haul_send_batch *batch)
{
	static uint8_t payload[BYTES];
	const struct haul_frame row = { .data = payload, .len = BYTES, .peer = peer };

	haul_send_batch_clear(batch);
	for (int i = 0; i < BURST; i++)
		haul_send_batch_push(batch, &row); /* room for BURST: cannot be full */
	return haul_link_tx(link, batch);
}

/* Take a burst. A batch that came back full may have left frames behind in the link, so wait (at
 * most a second) only after one that did not. */
static int receive_burst(struct haul_link *link, struct haul_frames *frames)
{
	struct pollfd ready = { .fd = haul_link_fd(link), .events = POLLIN };
	int received = 0;

	while (received < BURST) {
		int count = haul_link_rx(link, frames);

		if (count < 0)
			return count;
		received += count;
		if (received < BURST && haul_frames_room(frames) > 0 && poll(&ready, 1, 1000) <= 0)
			break;
	}
	return received;
}

static int run(struct haul_link *a, struct haul_link *b, struct haul_err *err)
{
	const struct haul_addr to = haul_link_local(b);
	struct haul_send_batch batch = { 0 };
	struct haul_frames frames = { 0 };
	int sent = 0;
	int received = 0;
	int peer = haul_link_peer_add(a, &to);

	if (peer < 0)
		return haul_err_set(err, peer, "add peer: %s", haul_strerror(peer));
	if (haul_send_batch_init(&batch, BURST) < 0 || haul_frames_init(&frames, BURST) < 0)
		return haul_err_set(err, -1, "no memory for the batches");
	while (sent < FRAMES) {
		int taken = send_burst(a, (uint32_t)peer, &batch);
		int come = taken > 0 ? receive_burst(b, &frames) : taken;

		if (come <= 0)
			break;
		sent += taken;
		received += come;
	}
	printf("sent %d, received %d\n", sent, received);
	printf("%.3f system calls a frame to send\n",
	       (double)haul_link_tx_stats(a)->syscalls / (double)haul_link_tx_stats(a)->ops);
	haul_frames_done(&frames);
	haul_send_batch_done(&batch);
	return received == FRAMES ? 0 : haul_err_set(err, -1, "%d frames lost", FRAMES - received);
}

int main(void)
{
	struct haul_link *a = NULL;
	struct haul_link *b = NULL;
	struct haul_err err = { 0 };

	if (open_udp(&a, &err) >= 0 && open_udp(&b, &err) >= 0)
		run(a, b, &err);
	haul_link_close(b);
	haul_link_close(a);
	if (err.code)
		fprintf(stderr, "udp_burst: %s\n", err.text);
	return err.code ? 1 : 0;
}
