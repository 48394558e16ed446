#include "store/tree.h"

const uint8_t tree_words[TREES] = {
#define X(id, name, words, hashed, what) [id] = words,
	TREE_LIST(X)
#undef X
};

const bool tree_hashed[TREES] = {
#define X(id, name, words, hashed, what) [id] = hashed,
	TREE_LIST(X)
#undef X
};

const char *tree_name(enum tree tree)
{
	static const char *const names[TREES] = {
#define X(id, name, words, hashed, what) [id] = name,
		TREE_LIST(X)
#undef X
	};
	return (unsigned)tree < TREES ? names[tree] : "unknown";
}

bool tree_key_next(enum tree tree, struct tree_key *key)
{
	struct tree_key next = *key;

	for (uint32_t i = tree_words[tree]; i-- > 0;) {
		if (++next.word[i] == 0)
			continue;
		*key = next;
		return true;
	}
	return false;
}
