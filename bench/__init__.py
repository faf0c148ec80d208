"""`make bench`: measures susx against reference implementations. The entry point is run.py."""
