/* SPDX-License-Identifier: MIT */
/*
 * The sites: the atomic operations in the sources under test, each known by its file, line and
 * name. A site that orders something can be weakened, to see whether any scenario notices.
 */
#include <stdio.h>
#include <string.h>

#include "explore_internal.h"

enum { SITES = 512 };

static struct explore_site *sites[SITES]; /* from 1 on */
static int site_count = 1;
static struct explore_weakening weakening; /* in force if name[0] */

static const char *const order_names[] = { "rlx", "acq", "rel", "acqrel", "seq" };

static void name_weakening(const struct explore_site *site, enum explore_order order,
	struct explore_weakening *ret)
{
	snprintf(ret->name, sizeof(ret->name), "%s:%s>%s~%u", site->func, site->name,
		order_names[order], site->line);
	ret->order = order;
}

/* The orders that are one step weaker: those of an acquire-release operation are two. */
static int weaker_orders(const struct explore_site *site, enum explore_order ret[2])
{
	bool is_load = strncmp(site->name, "a_load", 6) == 0;
	bool is_store = strncmp(site->name, "a_store", 7) == 0;

	ret[0] = EXPLORE_RLX;
	ret[1] = EXPLORE_ACQ;
	switch (site->order) {
	case EXPLORE_RLX: return 0;
	case EXPLORE_ACQ:
	case EXPLORE_REL: return 1;
	case EXPLORE_ACQREL: ret[0] = EXPLORE_REL; return 2;
	case EXPLORE_SEQ: ret[0] = is_load ? EXPLORE_ACQ : is_store ? EXPLORE_REL : EXPLORE_ACQREL;
	}
	return 1;
}

/* If the weakening in force was given by name only, finds whether it is of this site. */
static void match_by_name(const struct explore_site *site)
{
	struct explore_weakening candidate;
	enum explore_order orders[2];
	int n = weaker_orders(site, orders);

	for (int i = 0; i < n && weakening.name[0] && weakening.site == 0; i++) {
		name_weakening(site, orders[i], &candidate);
		if (strcmp(candidate.name, weakening.name) == 0) {
			weakening.site = site->index;
			weakening.order = orders[i];
		}
	}
}

static void register_site(struct explore_site *site)
{
	for (int i = 1; i < site_count && site->index == 0; i++)
		if (sites[i]->line == site->line && strcmp(sites[i]->name, site->name) == 0 &&
			strcmp(sites[i]->file, site->file) == 0)
			site->index = i;
	if (site->index == 0) {
		if (site_count == SITES)
			explore_fail("more than %d sites", SITES);
		sites[site_count] = site;
		site->index = site_count++;
	}
	match_by_name(site);
}

enum explore_order site_order(struct explore_site *site)
{
	if (site->index == 0)
		register_site(site);
	return weakening.name[0] && weakening.site == site->index ? weakening.order : site->order;
}

const char *site_weakened_name(void)
{
	return weakening.name;
}

int explore_weakenings(const char *file, struct explore_weakening *ret, int capacity)
{
	enum explore_order orders[2];
	int count = 0;

	for (int i = 1; i < site_count; i++) {
		int n = weaker_orders(sites[i], orders);
		if (!strstr(sites[i]->file, file))
			continue;
		for (int j = 0; j < n && count < capacity; j++) {
			ret[count].site = i;
			name_weakening(sites[i], orders[j], &ret[count++]);
		}
	}
	return count;
}

void explore_weaken(const struct explore_weakening *w)
{
	weakening = w ? *w : (struct explore_weakening){ 0 };
}

void explore_weaken_name(const char *name)
{
	weakening = (struct explore_weakening){ 0 };
	snprintf(weakening.name, sizeof(weakening.name), "%s", name);
	for (int i = 1; i < site_count; i++)
		match_by_name(sites[i]);
}
