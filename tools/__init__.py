"""What the Makefile runs: fetches what susx needs, builds it, and runs PostgreSQL for trying and testing it."""
