"""`make soak`: 36 sessions work for half an hour while processes are killed, and every result is checked."""
