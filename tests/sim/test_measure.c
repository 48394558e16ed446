/* What programs say, and what is made of it. The samples are what Debian 12's programs print. */
#include <math.h>
#include <string.h>

#include "lib/testlib.h"
#include "sim/measure.h"

static bool near(double a, double b)
{
	return fabs(a - b) < 1e-6;
}

#define PING_HEAD "PING 10.1.0.1 (10.1.0.1) 56(84) bytes of data.\n"
#define PING_LINE(at, seq, ms)                                                                     \
	"[" at "] 64 bytes from 10.1.0.1: icmp_seq=" seq " ttl=64 time=" ms " ms\n"
#define PING_TAIL(sent)                                                                            \
	"\n--- 10.1.0.1 ping statistics ---\n" sent " packets transmitted, 3 received\n"

/* Times of the answers give percentiles and the longest silence; what never came is lost. */
static void test_measure_ping__figures(void **state)
{
	static const char output[] =
		PING_HEAD PING_LINE("100.000000", "1", "2.50") PING_LINE("100.020000", "2", "3.50")
			PING_LINE("100.250000", "12", "2.00") PING_TAIL("12");
	struct measure m;

	(void)state;
	assert_int_equal(measure_ping(output, 20, &m, NULL), 0);
	assert_int_equal(m.sent, 12);
	assert_int_equal(m.received, 3);
	assert_true(near(m.loss, 0.75));
	assert_true(near(m.rtt_p50_ms, 2.5));
	assert_true(near(m.rtt_p99_ms, 3.5));
	assert_true(fabs(m.gap_ms - 230) < 0.01);
	assert_true(m.mbit_per_s < 0 && m.retransmits < 0);
	assert_int_equal(m.said.packets_sent.min, 12);
	assert_int_equal(m.said.packets_sent.max, 12);
	assert_int_equal(m.said.packets_received.min, 3);
	assert_int_equal(m.said.packets_received.max, 12);
	assert_true(m.said.payload_sent.max < 0);
}

/* Silence up to the end counts as a gap; packets that had no time for an answer do not count. */
static void test_measure_ping__end_of_the_run(void **state)
{
	static const char silent[] = PING_HEAD PING_LINE("100.0", "1", "2.0") PING_TAIL("51");
	static const char under_way[] = PING_HEAD PING_LINE("100.0", "1", "30.0")
		PING_LINE("100.02", "2", "30.0") PING_TAIL("4");
	struct measure m;

	(void)state;
	assert_int_equal(measure_ping(silent, 20, &m, NULL), 0);
	assert_true(near(m.gap_ms, 1000));
	assert_true(near(m.loss, 50.0 / 51));
	assert_int_equal(measure_ping(under_way, 20, &m, NULL), 0);
	assert_int_equal(m.sent, 2);
	assert_int_equal(m.said.packets_sent.max, 4); /* they did leave */
	assert_true(near(m.loss, 0));
}

/* An answer that came twice counts once; without any answer all is lost. */
static void test_measure_ping__duplicates_and_nothing(void **state)
{
	static const char twice[] = PING_HEAD PING_LINE(
		"100.0", "1", "2.0") "[100.1] 64 bytes from 10.1.0.1: icmp_seq=1 ttl=64 time=9.0 "
				     "ms (DUP!)\n" PING_TAIL("1");
	static const char nothing[] =
		PING_HEAD "From 10.1.0.2 icmp_seq=1 Destination Host Unreachable\n" PING_TAIL("10");
	struct measure m;

	(void)state;
	assert_int_equal(measure_ping(twice, 20, &m, NULL), 0);
	assert_int_equal(m.received, 1);
	assert_int_equal(m.said.packets_received.min, 2);
	assert_int_equal(m.said.packets_received.max, 2);
	assert_true(near(m.loss, 0));
	assert_int_equal(measure_ping(nothing, 20, &m, NULL), 0);
	assert_int_equal(m.received, 0);
	assert_true(near(m.loss, 1));
	assert_true(near(m.gap_ms, 200));
	assert_true(m.rtt_p50_ms < 0);
}

/* Figures of the receiver, not of the sender. */
static void test_measure_iperf3__figures(void **state)
{
	static const char tcp[] = "{\"start\": {\"connected\": [{\"local_port\": 40001}]},"
				  " \"end\": {\"sum_sent\": {\"bytes\": 5000, \"bits_per_second\": "
				  "9e6, \"retransmits\": 4},"
				  " \"sum_received\": {\"bytes\": 4000, \"bits_per_second\": 8e6, "
				  "\"seconds\": 2.5}}}";
	static const char udp[] =
		"{\"end\": {\"sum_sent\": {\"bytes\": 120000, \"packets\": 100, "
		"\"bits_per_second\": 1},"
		" \"sum_received\": {\"packets\": 95, \"lost_packets\": 5, \"seconds\": 1.0,"
		" \"bits_per_second\": 960000, \"jitter_ms\": 0.25}}}";
	struct measure m;

	(void)state;
	assert_int_equal(measure_iperf3_tcp(tcp, &m, NULL), 0);
	assert_true(near(m.mbit_per_s, 8) && near(m.seconds, 2.5));
	assert_int_equal(m.retransmits, 4);
	assert_int_equal(m.received, 4000);
	assert_true(m.loss < 0);
	assert_int_equal(m.said.port, 40001);
	assert_int_equal(m.said.payload_sent.min, 4000 + 37);
	assert_int_equal(m.said.payload_sent.max, 5000 + 37);
	assert_int_equal(measure_iperf3_udp(udp, &m, NULL), 0);
	assert_int_equal(m.sent, 100);
	assert_int_equal(m.received, 90); /* 5 at the end the receiver never knew of */
	assert_true(near(m.loss, 0.1) && near(m.mbit_per_s, 0.864) && near(m.jitter_ms, 0.25));
	assert_int_equal(m.said.port, -1);
	assert_int_equal(m.said.packets_sent.min, 101);
	assert_int_equal(m.said.payload_sent.max, 120004);
}

/* Bytes and seconds. */
static void test_measure_curl__figures(void **state)
{
	struct measure m;

	(void)state;
	assert_int_equal(measure_curl("1000000 2.000000 200 90 40002\n", &m, NULL), 0);
	assert_int_equal(m.received, 1000000);
	assert_true(near(m.mbit_per_s, 4) && near(m.seconds, 2));
	assert_int_equal(m.said.port, 40002);
	assert_int_equal(m.said.payload_received.min, 1000200);
	assert_int_equal(m.said.payload_sent.max, 90);
}

/* A complaint instead of figures is quoted, and the measure is left as it was. */
static void test_measure__quotes_complaints(void **state)
{
	static const struct {
		int (*measure)(const char *output, struct measure *ret, struct haul_err *err);
		const char *output;
		const char *want;
	} cases[] = {
		{ measure_iperf3_tcp, "{\"error\": \"unable to connect\"}", "unable to connect" },
		{ measure_iperf3_udp, "{\"error\": \"no route\"}", "no route" },
		{ measure_iperf3_tcp, "sh: not found\nx", "sh: not found" },
		{ measure_iperf3_tcp, "{}", "no figures" },
		{ measure_iperf3_udp, "[1, 2]", "no figures" },
		{ measure_curl, "curl: (7) Failed to connect\n", "curl: (7) Failed to connect" },
		{ measure_curl, "100", "100" },
		{ measure_curl, "100 0", "100 0" },
		{ measure_curl, "100 0 1 2 3", "100 0" },
		{ measure_curl, "100 1 200 90", "100 1" },
		{ measure_curl, "", "" },
	};
	struct measure m = { .sent = 77 };
	struct haul_err err = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_equal(cases[i].measure(cases[i].output, &m, &err), HAUL_ECORRUPT);
		assert_non_null(strstr(err.text, cases[i].want));
		assert_int_equal(m.sent, 77);
	}
	assert_int_equal(measure_ping("ping: bad number\n", 20, &m, &err), HAUL_ECORRUPT);
	assert_non_null(strstr(err.text, "ping: bad number"));
	assert_int_equal(m.sent, 77);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_measure_ping__figures),
		cmocka_unit_test(test_measure_ping__end_of_the_run),
		cmocka_unit_test(test_measure_ping__duplicates_and_nothing),
		cmocka_unit_test(test_measure_iperf3__figures),
		cmocka_unit_test(test_measure_curl__figures),
		cmocka_unit_test(test_measure__quotes_complaints),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
