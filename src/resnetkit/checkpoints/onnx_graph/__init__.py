"""A ResNet found in a graph of operations by its structure; names and exporters do not matter.

``nodes`` puts the operations in order and works out what is constant, ``translation`` makes of them
a few kinds of operations on maps, ``structure`` finds stem, blocks and head among these,
``network`` the options and tensors, and ``reading`` a reading as of any other checkpoint.
"""
