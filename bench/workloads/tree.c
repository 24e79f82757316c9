/* SPDX-License-Identifier: MIT */
/*
 * tree DEPTH ROUNDS: builds complete binary trees of small nodes, walks them and frees them, while
 * one tree lives from beginning to end.
 */
#include "workload.h"

struct node {
	struct node *left;
	struct node *right;
	size_t value;
};

static struct node *tree_build(size_t depth, size_t value)
{
	struct node *node = malloc(sizeof(*node));

	if (!node)
		fail("no memory");
	node->value = value;
	node->left = depth ? tree_build(depth - 1, 2 * value) : NULL;
	node->right = depth ? tree_build(depth - 1, 2 * value + 1) : NULL;
	return node;
}

/* Counts the nodes that hold their own number. */
static size_t tree_count(const struct node *node, size_t value)
{
	if (!node)
		return 0;
	return (node->value == value) + tree_count(node->left, 2 * value) +
		tree_count(node->right, 2 * value + 1);
}

static void tree_free(struct node *node)
{
	if (!node)
		return;
	tree_free(node->left);
	tree_free(node->right);
	free(node);
}

int main(int argc, char **argv)
{
	size_t depth = number_of(argc, argv, 1);
	size_t rounds = number_of(argc, argv, 2);
	struct node *lasting = tree_build(depth, 1);

	for (size_t i = 0; i < rounds; i++) {
		struct node *tree = tree_build(depth - i % 4, 1);

		if (tree_count(tree, 1) != ((size_t)2 << (depth - i % 4)) - 1)
			fail("a tree lost nodes");
		tree_free(tree);
	}
	if (tree_count(lasting, 1) != ((size_t)2 << depth) - 1)
		fail("the lasting tree lost nodes");
	tree_free(lasting);
	return 0;
}
