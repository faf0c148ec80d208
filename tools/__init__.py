"""What the Makefile runs: these modules fetch and build what susx needs, and run PostgreSQL to try and test it."""
