"""What `make soak` does: half an hour of thirty sessions, while processes are killed, and a look at what is left."""
