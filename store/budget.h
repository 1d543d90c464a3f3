/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_BUDGET_H
#define STORE_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* budget: over how many packs and groups the pages of one region may be spread.
 *
 * A region is BUDGET_PAGES pages of a stream (2 MiB), aligned.  A page whose place
 * would go beyond the limits is stored again, beside its neighbours, so that reading
 * does not degrade with the number of generations.  A group is counted as the
 * GROUP_PAGES slots that it usually is.
 *
 * Of a parent's region as much is kept as fits into the smaller *_KEPT limits, the
 * packs and groups with the most pages first: what is left up to the limits is
 * for pages that are found elsewhere.  Pages newly stored are not counted against
 * anything: they lie side by side.  So a region never has more than BUDGET_PACKS old
 * packs and BUDGET_GROUPS old groups.
 *
 * The constants: docs/BENCHMARKS.md.  One thread at a time. */

#define BUDGET_PAGES 512u
#define BUDGET_PACKS 16u
#define BUDGET_PACKS_KEPT 12u
#define BUDGET_GROUPS 192u
#define BUDGET_GROUPS_KEPT 160u

struct budget {
	uint32_t max_packs, max_groups;
	uint32_t n_packs, n_groups;
	uint32_t pack[BUDGET_PACKS];
	uint64_t group[BUDGET_GROUPS]; /* pack << 32 | slot / GROUP_PAGES */
	uint32_t n_sorted;	       /* the first groups, which are sorted */
};

/* Empty, with room for what plan (NULL: nothing) leaves of the limits. */
void budget_clear(struct budget *b, const struct budget *plan);
/* May a page lie there?  It may if its group counts already. */
bool budget_has(const struct budget *b, uint32_t pack, uint32_t slot);
/* The same, or there is room for it, which is then taken. */
bool budget_take(struct budget *b, uint32_t pack, uint32_t slot);

/* Choose what of a region to keep: place[i] (n, at most BUDGET_PAGES; reordered) are
 * its pages' pack << 32 | slot. */
void budget_plan(struct budget *b, uint64_t *place, size_t n);

#endif
