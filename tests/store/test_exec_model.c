/* Random frames, done by the executor and by a naive model that copies the whole world before each
 * group: every status and, after every frame, every record compared. Then all frames once more, by
 * another executor that is reopened and whose rows move to tables at other moments: statuses and
 * rows have to be the same. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lib/testlib.h"
#include "store/exec_lab.h"
#include "store/frame_sample.h"

enum { NODES = 10, NAMES = 4, TYPES = 2, DISCS = 2, INDEXES = 2, FRAMES = 400, EVENTS = 120 };

struct property {
	bool there;
	enum haul_property_type type;
	int64_t integer;
	double number;
	uint32_t bytes;
};

struct record {
	bool there;
	uint64_t version;
	uint32_t kind;
	char key[16];
	struct property property[NAMES];
};

struct embedding {
	uint32_t dimensions; /* 0: none */
	float vector[3];
};

struct model {
	struct record node[NODES + 1];
	struct record edge[NODES + 1][NODES + 1][TYPES][DISCS];
	struct embedding embedding[INDEXES][NODES + 1];
};

/* ---- the model ---- */

static void set_properties(struct record *record, const struct haul_properties *properties,
			   bool patch)
{
	struct haul_property next;
	uint32_t offset = 0;

	if (!patch)
		memset(record->property, 0, sizeof record->property);
	while (haul_property_next(properties, &offset, &next) == 1) {
		const struct property property = {
			.there = next.type != HAUL_NULL,
			.type = next.type,
			.integer = next.integer,
			.number = next.number,
			.bytes = next.data_bytes,
		};
		record->property[next.name[0] - 'a'] = property;
	}
}

static int version_status(const struct record *record, const struct frame_event *event)
{
	if (event->expected_version == 0)
		return 0;
	return record->there && record->version == event->expected_version ? 0 : HAUL_ESTALE;
}

static int model_put_node(struct model *model, const struct frame *frame,
			  const struct frame_event *event, bool create)
{
	struct record *record = &model->node[event->a];
	const bool patch = (event->flags & HAUL_PATCH) != 0;
	struct haul_node node;
	char key[16] = "";

	record_get_node(frame->data + event->heap, event->bytes, &node);
	if (node.key_bytes != 0)
		memcpy(key, node.key, node.key_bytes);
	if (create && record->there && (event->flags & HAUL_UPSERT) == 0)
		return -EEXIST;
	if (!create && !record->there)
		return -ENOENT;
	if (version_status(record, event) != 0)
		return HAUL_ESTALE;
	for (uint32_t i = 1; i <= NODES; i++) {
		if (key[0] != 0 && i != event->a && model->node[i].there &&
		    strcmp(model->node[i].key, key) == 0)
			return -EEXIST;
	}
	if (!patch || node.kind != 0)
		record->kind = node.kind;
	if (!patch || key[0] != 0)
		memcpy(record->key, key, sizeof key);
	set_properties(record, &node.properties, patch);
	record->there = true;
	return 0;
}

static int model_delete_node(struct model *model, const struct frame_event *event)
{
	const bool detach = (event->flags & HAUL_DETACH) != 0;

	if (!model->node[event->a].there)
		return -ENOENT;
	if (version_status(&model->node[event->a], event) != 0)
		return HAUL_ESTALE;
	for (uint32_t i = 0; i <= NODES * TYPES * DISCS + TYPES * DISCS - 1; i++) {
		const uint32_t other = i / (TYPES * DISCS), type = i / DISCS % TYPES;
		struct record *out = &model->edge[event->a][other][type][i % DISCS];
		struct record *in = &model->edge[other][event->a][type][i % DISCS];
		if ((out->there || in->there) && !detach)
			return -ENOTEMPTY;
		memset(out, 0, sizeof *out);
		memset(in, 0, sizeof *in);
	}
	for (uint32_t i = 0; i < INDEXES; i++) {
		if (model->embedding[i][event->a].dimensions != 0 && !detach)
			return -ENOTEMPTY;
		model->embedding[i][event->a].dimensions = 0;
	}
	memset(&model->node[event->a], 0, sizeof model->node[0]);
	return 0;
}

static int model_edge(struct model *model, const struct frame *frame,
		      const struct frame_event *event, enum haul_change change)
{
	struct record *record = &model->edge[event->a][event->b][event->type][event->disc];
	struct haul_edge edge;

	if (change == HAUL_CREATE_EDGE) {
		if ((event->flags & HAUL_LOOSE) == 0 &&
		    (!model->node[event->a].there || !model->node[event->b].there))
			return -ENOENT;
		if (record->there && (event->flags & HAUL_UPSERT) == 0)
			return -EEXIST;
	} else if (!record->there) {
		return -ENOENT;
	}
	if (version_status(record, event) != 0)
		return HAUL_ESTALE;
	if (change == HAUL_DELETE_EDGE) {
		memset(record, 0, sizeof *record);
		return 0;
	}
	record_get_edge(frame->data + event->heap, event->bytes, &edge);
	set_properties(record, &edge.properties, (event->flags & HAUL_PATCH) != 0);
	record->there = true;
	return 0;
}

static int model_embedding(struct model *model, const struct frame *frame,
			   const struct frame_event *event, bool set)
{
	struct embedding *of = model->embedding[event->b != 0];

	if (!set) {
		if (of[event->a].dimensions == 0)
			return -ENOENT;
		of[event->a].dimensions = 0;
		return 0;
	}
	const uint8_t *data = frame->data + event->heap;
	const uint32_t dimensions = le32_load(data);
	if (!model->node[event->a].there)
		return -ENOENT;
	for (uint32_t i = 1; i <= NODES; i++) {
		if (i != event->a && of[i].dimensions != 0 && of[i].dimensions != dimensions)
			return -EINVAL;
	}
	of[event->a].dimensions = dimensions;
	memcpy(of[event->a].vector, data + RECORD_EMBEDDING_HEAD, dimensions * 4);
	return 0;
}

static struct record *record_of(struct model *model, enum haul_change change,
				const struct frame_event *event)
{
	if (change == HAUL_CREATE_EDGE || change == HAUL_UPDATE_EDGE || change == HAUL_DELETE_EDGE)
		return &model->edge[event->a][event->b][event->type][event->disc];
	return &model->node[event->a];
}

static int model_one(struct model *model, const struct frame *frame, enum haul_change change,
		     const struct frame_event *event, uint64_t op)
{
	int status;

	switch (change) {
	case HAUL_CREATE_NODE:
	case HAUL_UPDATE_NODE:
		status = model_put_node(model, frame, event, change == HAUL_CREATE_NODE);
		break;
	case HAUL_DELETE_NODE:
		return model_delete_node(model, event);
	case HAUL_CREATE_EDGE:
	case HAUL_UPDATE_EDGE:
	case HAUL_DELETE_EDGE:
		status = model_edge(model, frame, event, change);
		break;
	case HAUL_SET_EMBEDDING:
	case HAUL_DELETE_EMBEDDING:
	case HAUL_CHANGES:
	default:
		return model_embedding(model, frame, event, change == HAUL_SET_EMBEDDING);
	}
	if (status == 0 && record_of(model, change, event)->there)
		record_of(model, change, event)->version = op;
	return status;
}

/* Sections [from, to), or one event, as one group. */
static void model_group(struct model *model, const struct frame *frame, uint32_t from, uint32_t to,
			uint64_t op, int32_t *statuses)
{
	static struct model before;
	int status = 0;

	before = *model;
	for (uint32_t i = from; i < to; i++) {
		const struct frame_section *section = &frame->sections[i];
		const struct frame_event *events = frame_events(frame, section);
		for (uint32_t j = 0; j < section->count; j++) {
			int32_t *at = &statuses[events[j].status_at];
			*at = -ECANCELED;
			if (status != 0)
				continue;
			status = model_one(model, frame, (enum haul_change)section->change,
					   &events[j], op);
			*at = status;
		}
	}
	if (status == 0)
		return;
	*model = before;
	for (uint32_t i = from; i < to; i++) {
		const struct frame_section *section = &frame->sections[i];
		const struct frame_event *events = frame_events(frame, section);
		for (uint32_t j = 0; j < section->count; j++) {
			if (statuses[events[j].status_at] == 0)
				statuses[events[j].status_at] = -ECANCELED;
		}
	}
}

static void model_frame(struct model *model, const struct frame *frame, uint64_t op,
			int32_t *statuses)
{
	for (uint32_t i = 0; i < frame->head->sections;) {
		const struct frame_section *section = &frame->sections[i];
		const struct frame_event *events = frame_events(frame, section);
		uint32_t to = i + 1;
		if (section->flags & SECTION_EACH) {
			for (uint32_t j = 0; j < section->count; j++)
				statuses[events[j].status_at] =
					model_one(model, frame, (enum haul_change)section->change,
						  &events[j], op);
		} else {
			while (to < frame->head->sections &&
			       frame->sections[to].group == section->group)
				to++;
			model_group(model, frame, i, to, op, statuses);
		}
		i = to;
	}
}

/* ---- comparing ---- */

static void assert_properties(const struct record *record, const struct haul_properties *got)
{
	char name[2] = "a";
	uint32_t count = 0;

	for (uint32_t i = 0; i < NAMES; i++) {
		const struct property *want = &record->property[i];
		struct haul_property property = { 0 };
		name[0] = (char)('a' + i);
		const int rc = haul_property_find(got, name, &property);
		assert_int_equal(rc == 0, want->there);
		if (!want->there)
			continue;
		count++;
		assert_true(property.type == want->type && property.integer == want->integer &&
			    property.number == want->number && property.data_bytes == want->bytes);
	}
	assert_int_equal(got->count, count);
}

static void assert_node(const struct lab *lab, const struct model *model, uint64_t id)
{
	const struct record *want = &model->node[id];
	const struct lab_row *row = lab_find(lab, TREE_NODE, (struct tree_key){ { id } });
	struct haul_node got;

	assert_int_equal(row != NULL, want->there);
	if (row == NULL)
		return;
	assert_int_equal(record_check_node(row->value, row->bytes, false), 0);
	record_get_node(row->value, row->bytes, &got);
	assert_int_equal(row->op, want->version);
	assert_int_equal(got.kind, want->kind);
	assert_int_equal(got.key_bytes, strlen(want->key));
	assert_properties(want, &got.properties);
	if (got.kind != 0)
		assert_non_null(lab_find(lab, TREE_KIND, (struct tree_key){ { got.kind, id } }));
	if (got.key_bytes == 0)
		return;
	assert_memory_equal(got.key, want->key, got.key_bytes);
	row = lab_find(lab, TREE_NAME, record_name(want->key, got.key_bytes));
	assert_non_null(row);
	assert_int_equal(le64_load(row->value), id);
}

static void assert_edge(const struct lab *lab, const struct record *want, struct tree_key out)
{
	const struct tree_key in = { { out.word[2], out.word[1], out.word[0] } };
	const struct lab_row *row = lab_find(lab, TREE_OUT, out);
	struct haul_edge got;

	assert_int_equal(row != NULL, want->there);
	assert_int_equal(lab_find(lab, TREE_IN, in) != NULL, want->there);
	if (row == NULL)
		return;
	record_get_edge(row->value, row->bytes, &got);
	assert_int_equal(row->op, want->version);
	assert_properties(want, &got.properties);
}

static void assert_embeddings(const struct lab *lab, const struct model *model, uint32_t which)
{
	const uint64_t index = which == 0 ? 0 : HAUL_EMBEDDING_INDEXES - 1;
	uint64_t count = 0;

	for (uint64_t id = 1; id <= NODES; id++) {
		const struct embedding *want = &model->embedding[which][id];
		const struct lab_row *row =
			lab_find(lab, TREE_EMBEDDING, (struct tree_key){ { index, id } });
		const struct lab_row *back =
			lab_find(lab, TREE_OF_NODE, (struct tree_key){ { id, index } });
		assert_int_equal(row != NULL, want->dimensions != 0);
		assert_int_equal(back != NULL, want->dimensions != 0);
		if (row == NULL)
			continue;
		assert_int_equal(le32_load(row->value), want->dimensions);
		assert_memory_equal(row->value + RECORD_EMBEDDING_HEAD, want->vector,
				    want->dimensions * 4);
		count++;
	}
	const struct lab_row *row = lab_find(lab, TREE_OF_NODE, (struct tree_key){ { 0, index } });
	assert_int_equal(row != NULL, count != 0);
	if (row != NULL)
		assert_int_equal(le64_load(row->value + 8), count);
}

static void assert_same(const struct lab *lab, const struct model *model)
{
	uint32_t keys = 0, kinds = 0, nodes = 0, edges = 0;

	for (uint64_t id = 1; id <= NODES; id++) {
		assert_node(lab, model, id);
		nodes += model->node[id].there;
		keys += model->node[id].key[0] != 0;
		kinds += model->node[id].kind != 0;
	}
	for (uint32_t i = 0; i < NODES * NODES * TYPES * DISCS; i++) {
		const uint32_t src = 1 + i / (NODES * TYPES * DISCS);
		const uint32_t dst = 1 + i / (TYPES * DISCS) % NODES;
		const uint32_t type = i / DISCS % TYPES, disc = i % DISCS;
		const struct record *want = &model->edge[src][dst][type][disc];
		edges += want->there;
		assert_edge(lab, want,
			    (struct tree_key){ { src, (uint64_t)type << 32 | disc, dst } });
	}
	assert_embeddings(lab, model, 0);
	assert_embeddings(lab, model, 1);
	assert_int_equal(lab_rows(lab, TREE_NODE), nodes);
	assert_int_equal(lab_rows(lab, TREE_NAME), keys);
	assert_int_equal(lab_rows(lab, TREE_KIND), kinds);
	assert_int_equal(lab_rows(lab, TREE_OUT), edges);
	assert_int_equal(lab_rows(lab, TREE_IN), edges);
}

/* ---- frames ---- */

struct sent {
	uint8_t *data;
	uint32_t bytes;
	int32_t *statuses;
};

/* Some changes expect a version: mostly the one that the record has before the frame. */
static void expect_versions(struct prng *prng, struct model *model, uint8_t *data)
{
	struct frame frame;

	frame_trust(data, &frame);
	for (uint32_t i = 0; i < frame.head->sections; i++) {
		const struct frame_section *section = &frame.sections[i];
		struct frame_event *events = (struct frame_event *)(void *)(data + section->events);
		for (uint32_t j = 0; j < section->count; j++) {
			const enum haul_change change = section->change;
			if (prng_below(prng, 4) != 0)
				continue;
			events[j].expected_version = record_of(model, change, &events[j])->version +
						     (prng_below(prng, 3) == 0);
			if (!frame_event_valid(change, &events[j]))
				events[j].expected_version = 0;
		}
	}
	frame_seal(data);
}

static void make_frame(struct prng *prng, struct model *model, struct sent *ret_sent)
{
	struct haul_changes *changes;
	struct frame frame;

	assert_int_equal(haul_changes_new(&changes, EVENTS, 0,
					  prng_below(prng, 5) == 0 ? HAUL_CHANGES_UNORDERED : 0),
			 0);
	(void)sample_changes(prng, changes, NODES, 1 + prng_below(prng, EVENTS));
	ret_sent->bytes = changes_frame_bytes(changes);
	ret_sent->data = aligned_alloc(64, (ret_sent->bytes + 63) / 64 * 64);
	ret_sent->statuses = calloc(EVENTS, sizeof(int32_t));
	assert_non_null(ret_sent->statuses);
	(void)sample_seal(changes, ret_sent->data, ret_sent->bytes);
	expect_versions(prng, model, ret_sent->data);
	assert_int_equal(frame_check(ret_sent->data, ret_sent->bytes, &frame), 0);
	haul_changes_free(changes);
}

static void disturb(struct prng *prng, struct lab *lab)
{
	if (prng_below(prng, 3) == 0)
		lab_flush(lab);
	if (prng_below(prng, 20) == 0)
		lab_reopen(lab);
	lab->lsm.arena_max = prng_below(prng, 3) == 0 ? 256 + prng_below(prng, 1000) : 0;
}

static void execute(struct prng *prng, struct lab *lab, const struct sent *sent, int32_t *statuses)
{
	struct exec_result result;
	struct frame frame;
	uint32_t failed = 0;

	disturb(prng, lab);
	frame_trust(sent->data, &frame);
	lab_told(lab);
	assert_int_equal(exec_frame(lab->exec, &frame, ++lab->op, statuses, &result), 0);
	for (uint32_t i = 0; i < frame.head->events; i++)
		failed += statuses[i] != 0;
	assert_int_equal(result.failed, failed);
}

/* A change does something else than the plainest reading of its description says, or something
 * else the second time. */
static void test_exec_model__random_frames(void **state)
{
	(void)state;
	static struct model model;
	static struct sent sent[FRAMES];
	static int32_t want[EVENTS], got[EVENTS];
	struct lab *lab = test_malloc(sizeof *lab), *again = test_malloc(sizeof *again);
	uint32_t codes[5] = { 0 };
	struct prng prng;

	test_prng(&prng);
	lab_open(lab);
	for (uint32_t i = 0; i < FRAMES; i++) {
		struct frame frame;
		make_frame(&prng, &model, &sent[i]);
		frame_trust(sent[i].data, &frame);
		execute(&prng, lab, &sent[i], sent[i].statuses);
		model_frame(&model, &frame, lab->op, want);
		for (uint32_t j = 0; j < frame.head->events; j++) {
			const int32_t status = sent[i].statuses[j];
			assert_int_equal(status, want[j]);
			codes[0] += status == 0;
			codes[1] += status == HAUL_ESTALE;
			codes[2] += status == -ECANCELED;
			codes[3] += status == -ENOTEMPTY;
			codes[4] += status == -EINVAL;
		}
		assert_same(lab, &model);
	}
	for (uint32_t i = 0; i < 5; i++)
		assert_true(codes[i] > 5); /* else nothing was tried */
	lab_open(again);
	for (uint32_t i = 0; i < FRAMES; i++) {
		struct frame frame;
		frame_trust(sent[i].data, &frame);
		execute(&prng, again, &sent[i], got);
		assert_memory_equal(got, sent[i].statuses, frame.head->events * sizeof *got);
		free(sent[i].data);
		free(sent[i].statuses);
	}
	assert_true(lab_hash(lab, true) == lab_hash(again, true));
	lab_close(lab);
	lab_close(again);
	test_free(lab);
	test_free(again);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exec_model__random_frames),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
