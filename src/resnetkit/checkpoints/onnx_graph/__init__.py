"""Finds a ResNet in a graph of operations by its structure, whatever the names and exporter.

``nodes`` orders the operations and computes constants, ``translation`` reduces them to a few kinds
of operations on maps, ``structure`` finds stem, blocks and head, ``network_options`` and
``tensors`` the options and tensors, and ``graph_checkpoint`` makes a reading as for any checkpoint.
"""
