"""One optimization step: model setup, loss, optimizer, allocator, compilation."""
