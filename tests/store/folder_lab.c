#include "folder_lab.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/testlib.h"

void folder_lab_open(struct folder_lab *lab)
{
	const char *parent = getenv("TMPDIR");

	memset(lab, 0, sizeof *lab);
	(void)snprintf(lab->path, sizeof lab->path, "%s/haul-store-XXXXXX",
		       parent != NULL && strlen(parent) < 96 ? parent : "/var/tmp");
	assert_non_null(mkdtemp(lab->path));
	(void)snprintf(lab->store, sizeof lab->store, "%s/store", lab->path);
	(void)snprintf(lab->other, sizeof lab->other, "%s/other", lab->path);
}

static int take_away(const char *path, const struct stat *status, int flag, struct FTW *at)
{
	(void)status;
	(void)flag;
	(void)at;
	return remove(path);
}

void folder_lab_close(struct folder_lab *lab)
{
	assert_int_equal(nftw(lab->path, take_away, 8, FTW_DEPTH | FTW_PHYS), 0);
}
