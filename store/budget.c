/* SPDX-License-Identifier: Apache-2.0 */
/* budget: a set of packs and one of groups, both small.
 *
 * A plan sorts the places, counts, and drops the packs, then the groups, with the fewest
 * pages, until the rest is within the limits.  Of equals the one with the lower number
 * goes: it was there first, so that the newest, which has room for neighbours, stays. */
#include "store/budget.h"

#include "store/layout.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static uint64_t group_of(uint32_t pack, uint32_t slot)
{
	return (uint64_t)pack << 32 | slot / GROUP_PAGES;
}

void budget_clear(struct budget *b, const struct budget *plan)
{
	b->n_packs = b->n_groups = b->n_sorted = 0;
	b->max_packs = BUDGET_PACKS - (plan ? plan->n_packs : 0);
	b->max_groups = BUDGET_GROUPS - (plan ? plan->n_groups : 0);
}

static bool has_pack(const struct budget *b, uint32_t pack)
{
	for (uint32_t i = 0; i < b->n_packs; i++)
		if (b->pack[i] == pack)
			return true;
	return false;
}

static int by_value(const void *x, const void *y)
{
	const uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;

	return (a > b) - (a < b);
}

bool budget_has(const struct budget *b, uint32_t pack, uint32_t slot)
{
	uint64_t group = group_of(pack, slot);

	if (b->n_sorted && bsearch(&group, b->group, b->n_sorted, sizeof(group), by_value) != NULL)
		return true;
	for (uint32_t i = b->n_groups; i > b->n_sorted; i--)
		if (b->group[i - 1] == group)
			return true;
	return false;
}

bool budget_take(struct budget *b, uint32_t pack, uint32_t slot)
{
	bool known;

	if (budget_has(b, pack, slot))
		return true;
	known = has_pack(b, pack);
	if (b->n_groups == b->max_groups || (!known && b->n_packs == b->max_packs))
		return false;
	if (!known)
		b->pack[b->n_packs++] = pack;
	b->group[b->n_groups++] = group_of(pack, slot);
	return true;
}

/* ---- plans ---- */

struct tally {
	uint64_t key; /* a pack, or a group */
	uint32_t pages;
};

/* Count equal neighbours of key(place): the places are sorted. */
static size_t count(const uint64_t *place, size_t n, unsigned shift, struct tally *t)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		uint64_t key = place[i] >> shift;

		if (k == 0 || t[k - 1].key != key)
			t[k++] = (struct tally){.key = key};
		t[k - 1].pages++;
	}
	return k;
}

static int most_pages_first(const void *x, const void *y)
{
	const struct tally *a = x, *b = y;

	if (a->pages != b->pages)
		return a->pages < b->pages ? 1 : -1;
	return (a->key < b->key) - (a->key > b->key);
}

/* The places of the packs that stay. */
static size_t keep_packs(struct budget *b, uint64_t *place, size_t n)
{
	struct tally t[BUDGET_PAGES];
	size_t k = count(place, n, 32, t), left = 0;

	qsort(t, k, sizeof(*t), most_pages_first);
	for (size_t i = 0; i < k && i < BUDGET_PACKS_KEPT; i++)
		b->pack[b->n_packs++] = (uint32_t)t[i].key;
	if (k <= BUDGET_PACKS_KEPT)
		return n;
	for (size_t i = 0; i < n; i++)
		if (has_pack(b, (uint32_t)(place[i] >> 32)))
			place[left++] = place[i];
	return left;
}

void budget_plan(struct budget *b, uint64_t *place, size_t n)
{
	struct tally t[BUDGET_PAGES];
	size_t k;

	assert(n <= BUDGET_PAGES);
	budget_clear(b, NULL);
	if (n == 0)
		return;
	for (size_t i = 0; i < n; i++)
		place[i] = group_of((uint32_t)(place[i] >> 32), (uint32_t)place[i]);
	qsort(place, n, sizeof(*place), by_value);
	n = keep_packs(b, place, n);
	k = count(place, n, 0, t);
	qsort(t, k, sizeof(*t), most_pages_first);
	for (size_t i = 0; i < k && i < BUDGET_GROUPS_KEPT; i++)
		b->group[b->n_groups++] = t[i].key;
	qsort(b->group, b->n_groups, sizeof(b->group[0]), by_value);
	b->n_sorted = b->n_groups;
}
