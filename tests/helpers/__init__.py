"""What several test files use: a session of a client, pictures, models in Python, processes."""
