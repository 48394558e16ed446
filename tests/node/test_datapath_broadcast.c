/* node/test_datapath_broadcast.c — data that a neighbour sends to everybody who hears it. */
#include "lab.h"
#include "lib/testlib.h"

#define RSU  UINT64_C(0x020000000001)
#define OBU  UINT64_C(0x020000000002)
#define HOST UINT64_C(0x0200000000e1)
#define CAR  UINT64_C(0x0200000000e2)

enum { UP_PEER = 5, DOWN_PEER = 6, FRAME = 600 };

static struct lab lab;

static struct lab_frame *receive_down(uint64_t destination, uint64_t sequence)
{
	static uint8_t frame[FRAME];
	const struct haul_message_header header = {
		.type = HAUL_MESSAGE_DATA_DOWN,
		.ttl = 8,
		.origin = RSU,
		.destination = destination,
		.sequence = sequence,
	};
	lab_ethernet(frame, FRAME, CAR, HOST, (uint32_t)sequence);
	return lab_message(&lab, NODE_RADIO, UP_PEER, &header, frame, FRAME);
}

static int open_obu(void **state)
{
	const struct route routes[] = {
		{ .node = RSU, .next = { NODE_RADIO, UP_PEER }, .role = NODE_RSU },
		{ .node = OBU, .next = { NODE_RADIO, DOWN_PEER }, .role = NODE_OBU },
	};
	(void)state;
	lab_open(&lab, &(struct lab_options){ .role = NODE_OBU, .policy = HAUL_SIZER_FILL });
	lab_publish(&lab, &(struct snapshot_input){
				  .upstream = &routes[0],
				  .routes = routes,
				  .route_count = 2,
			  });
	return 0;
}

static int close_lab(void **state)
{
	(void)state;
	lab_close(&lab);
	return 0;
}

/* Defect 3: every hearer passed on what one of them was meant to. Data is always sent to one
 * neighbour; what comes by broadcast goes nowhere, and its number is not taken for seen: the same
 * message still passes when it comes to us alone. */
static void test_datapath__defect_3_broadcast_data_goes_nowhere(void **state)
{
	(void)state;
	receive_down(OBU, 1)->flags |= HAUL_FRAME_BROADCAST;
	receive_down(LAB_SELF, 2)->flags |= HAUL_FRAME_BROADCAST;
	assert_int_equal(lab_run(&lab), 2);
	assert_int_equal(lab_counter(&lab, DATAPATH_DROP_BROADCAST), 2);
	for (uint32_t port = 0; port < NODE_PORTS; port++)
		assert_int_equal(lab.link[port]->out_count, 0);
	receive_down(OBU, 1);
	receive_down(LAB_SELF, 2);
	assert_int_equal(lab_run(&lab), 2);
	assert_int_equal(lab.link[NODE_RADIO]->out_count, 1);
	assert_int_equal(lab.link[NODE_TAP]->out_count, 1);
	assert_int_equal(lab_counter(&lab, DATAPATH_DROP_DUPLICATE), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_datapath__defect_3_broadcast_data_goes_nowhere,
						open_obu, close_lab),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
