"""What a ResNet is: layers, blocks, stages and networks, in plain Python.

Nothing here imports anything but the standard library.
"""
