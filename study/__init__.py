"""What `make study` measures: how right every method is, on every set, in every scenario."""
