#include "bench_lab.h"

#include <errno.h>
#include <string.h>

#include "lib/testlib.h"

const struct bench_case *bench_lab_case(const struct bench *bench, const char *name)
{
	for (uint32_t i = 0; i < bench->case_count; i++)
		if (strcmp(bench->cases[i].name, name) == 0)
			return &bench->cases[i];
	fail_msg("there is no case %s", name);
	return NULL;
}

uint32_t bench_lab_run(const struct bench *bench, void *ctx, double seconds)
{
	uint32_t ran = 0;
	for (uint32_t i = 0; i < bench->case_count; i++) {
		const struct bench_case *of = &bench->cases[i];
		for (enum bench_arm arm = 0; arm <= BENCH_BATCHED; arm++) {
			struct bench_sample sample = { 0 };
			struct haul_err err = { 0 };
			int rc = of->run(ctx, of, arm, seconds, &sample, &err);
			if (rc == -ENOTSUP) {
				assert_non_null(strstr(err.text, "install it"));
				break;
			}
			if (rc < 0)
				fail_msg("%s, arm %d: %s", of->name, arm, err.text);
			assert_true(sample.value > 0);
			ran++;
		}
	}
	return ran;
}
