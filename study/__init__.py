"""`make study`: the accuracy of every method, on every set and in every scenario."""
