# The targets fetch and build everything that susx needs below build/ on first use; only `make install` changes the
# system. tools/ has what they do, one file per step.

PG ?= 18
PG_CONFIG ?= pg_config
PYTHON ?= python3
# PG as given to make, and not its default: `make test` alone tests all versions.
GIVEN_PG = $(if $(findstring command,$(origin PG)),$(PG))

.NOTPARALLEL:
.PHONY: help demo report up down psql url install uninstall deb dist test check test-exporters bench fuzz soak sanitize study reference docs env model pictures clean

help:
	@echo "make demo      label pictures in an embedded PostgreSQL, from nothing but category names"
	@echo "               (your own: make demo IMAGES=/folder CATEGORIES='dog,cat')"
	@echo "make report    print the path of the page with the demo's labels"
	@echo "make up        start the embedded PostgreSQL $(PG) with susx in it (PG=15, 16, 17 or 18)"
	@echo "make psql      open psql on it"
	@echo "make -s url    print its connection string"
	@echo "make down      stop it"
	@echo "make install   build susx and install it into your PostgreSQL (PG_CONFIG=/path/to/pg_config)"
	@echo "make uninstall remove it again"
	@echo "make deb       build Debian packages of susx and of ONNX Runtime for your PostgreSQL, in build/deb"
	@echo "make dist      pack the committed sources in build/dist, as PGXN takes them"
	@echo "make test      check formatting, lint, and run every test, on PostgreSQL 15 to 18"
	@echo "               (some tests, without the lints: make test ONLY=test_tip_x,susx-core PG=18)"
	@echo "make check     the same on PostgreSQL 18 alone, without the tests that take longest"
	@echo "make test-exporters  compare full-size models of the usual exporters with their own pipelines, for docs/models.md"
	@echo "               (some rows, printed only: make test-exporters ONLY=clip-split,openclip-rn50)"
	@echo "make bench     measure susx against reference implementations, and write docs/benchmarks.md"
	@echo "               (some of it, printed only: make bench ONLY=predict,tune,kl,sql,label,scale,busy,embed,pairs,sessions,texts,memory,cancel,bystander,diffusion;"
	@echo "               with UPDATE=1 these sections of the page are written)"
	@echo "make fuzz      feed it with damaged input for 10 minutes a target (MINUTES=1 ONLY=pixel_values,...)"
	@echo "make soak      thirty-six sessions for half an hour while processes are killed, and docs/reliability.md"
	@echo "               (MINUTES=1: printed only)"
	@echo "make sanitize  run the Rust tests under AddressSanitizer"
	@echo "make study     measure how right every method is, and write docs/methods.md"
	@echo "               (the paper's table, printed, on sets and a CLIP of your own: make study DATA=/folder MODEL=clip-rn50)"
	@echo "make reference update the tables of docs/reference.md from the functions, views and settings of susx"
	@echo "make docs      build the manual as a book of HTML pages in build/book"
	@echo "make model     build the default model in build/models/demo"
	@echo "make pictures  fetch the demo's pictures to build/pictures"
	@echo "make -s env    print the environment for plain cargo: eval \"\$$(make -s env)\""
	@echo "make clean     stop the embedded clusters and remove everything built or fetched"

demo:
	@$(PYTHON) -m tools.demo $(PG)

report:
	@test -f build/demo.html || { echo "error: there is no build/demo.html yet: run \`make demo\`" >&2; exit 1; }
	@echo "$(CURDIR)/build/demo.html"

up down url psql:
	@$(PYTHON) -m tools.embedded $@ $(PG)

install:
	@$(PYTHON) -m tools.install "$(PG_CONFIG)"

uninstall:
	@$(PYTHON) -m tools.install uninstall "$(PG_CONFIG)"

deb:
	@$(PYTHON) -m tools.deb "$(PG_CONFIG)"

dist:
	@$(PYTHON) -m tools.dist

test:
	@$(PYTHON) -m tools.$(if $(ONLY)$(GIVEN_PG),some_tests --only "$(ONLY)" --pg "$(GIVEN_PG)",check)

check:
	@$(PYTHON) -m tools.check quick

test-exporters:
	@$(PYTHON) -m tools.exporters --only "$(ONLY)"

bench:
	@$(PYTHON) -m tools.measure bench --only "$(ONLY)" $(if $(UPDATE),--update)

fuzz:
	@$(PYTHON) -m tools.fuzz --minutes "$(or $(MINUTES),10)" --only "$(ONLY)"

soak:
	@$(PYTHON) -m tools.measure soak $(if $(MINUTES),--minutes "$(MINUTES)",--output docs/reliability.md)

sanitize:
	@$(PYTHON) -m tools.sanitize

study:
	@$(PYTHON) -m tools.measure study $(if $(DATA)$(MODEL),--data "$$DATA" --model "$$MODEL")

reference:
	@$(PYTHON) -m tools.reference

docs:
	@$(PYTHON) -m tools.docs

env:
	@$(PYTHON) -m tools.toolchain

model pictures:
	@$(PYTHON) -m tools.$@

clean:
	@$(PYTHON) -m tools.clean
