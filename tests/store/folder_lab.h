/* store/folder_lab.h — a folder for real stores, gone afterwards.
 *
 * Ownership  folder_lab_open makes it, folder_lab_close removes it with all that is in it.
 * Threads    one. Errors: asserts. */
#pragma once

#include <haul/err.h>

enum { FOLDER_LAB_PATH = 128 };

struct folder_lab {
	char path[FOLDER_LAB_PATH];
	char store[FOLDER_LAB_PATH + 16]; /* does not exist yet */
	char other[FOLDER_LAB_PATH + 16];
	struct haul_err err;
};
void folder_lab_open(struct folder_lab *lab);
void folder_lab_close(struct folder_lab *lab);
