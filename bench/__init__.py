"""What `make bench` measures: susx against reference implementations. run.py is the entry."""
