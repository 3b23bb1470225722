# pgweir: `make help` lists the targets.
SHELL    := /bin/bash
CC       ?= gcc
CLANG    ?= clang
VERSION  := 0.1.0
B        := build

SRC      := $(wildcard base/*.c router/*.c conf/*.c proxy/*/*.c)
ENTRY    := proxy/main.c
HEADERS  := $(wildcard base/*.h router/*.h router/*.def conf/*.h conf/*.def proxy/*.h proxy/*/*.h proxy/*/*.def)
UNIT     := $(wildcard tests/unit/test_*.c)
UNIT_LIB := $(filter-out $(UNIT),$(wildcard tests/unit/*.c))
FUZZ     := $(wildcard tests/fuzz/fuzz_*.c)
FORMATTED := $(wildcard base/*.[ch] router/*.[ch] conf/*.[ch] proxy/*.[ch] proxy/*/*.[ch] tests/*/*.[ch] bench/*.[ch])

WARN     := -Wall -Wextra -Werror -Wshadow -Wconversion -Wsign-conversion -Wformat=2 -Wundef -Wvla \
            -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wcast-qual -Wwrite-strings \
            -Wswitch-enum -Wimplicit-fallthrough -fno-common
GCC_WARN := $(if $(findstring clang,$(CC)),,-Wlogical-op -Wduplicated-cond -Wduplicated-branches -Wnull-dereference)
HARDEN   := -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fstack-clash-protection -fcf-protection=full -fPIE
LDHARDEN := -pie -Wl,-z,relro,-z,now,-z,noexecstack
PG_INC   := $(shell pg_config --includedir 2>/dev/null || echo /usr/include/postgresql)
CPPFLAGS := -I. -I$(PG_INC) -D_GNU_SOURCE -DPGWEIR_VERSION='"$(VERSION)"'
CSTD     := -std=gnu17 -g $(WARN) $(GCC_WARN) -MMD -MP
LIBS     := -luring -lssl -lcrypto -lpq -linih -lidn -ljansson -lpthread
SAN      := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

REL_OBJ  := $(SRC:%.c=$(B)/rel/%.o)
ASAN_OBJ := $(SRC:%.c=$(B)/asan/%.o)
FUZZ_OBJ := $(SRC:%.c=$(B)/fuzz/%.o)
TSAN_OBJ := $(SRC:%.c=$(B)/tsan/%.o)
UNIT_BIN := $(UNIT:tests/unit/%.c=$(B)/unit/%)
FUZZ_BIN := $(FUZZ:tests/fuzz/%.c=$(B)/fuzz/%)
REPLAY   := $(FUZZ:tests/fuzz/%.c=$(B)/replay/%)

.PHONY: all asan tsan help demo test test-unit test-fuzz-corpus test-integration test-container bench lint fmt fuzz sample clean setup
all: $(B)/pgweir ## build the release binary, build/pgweir

$(B)/pgweir: $(REL_OBJ) $(B)/rel/$(ENTRY:.c=.o)
	$(CC) $(LDHARDEN) -o $@ $^ $(LIBS)

asan: $(B)/pgweir-asan ## build build/pgweir-asan: the same with AddressSanitizer and UBSan
$(B)/pgweir-asan: $(ASAN_OBJ) $(B)/asan/$(ENTRY:.c=.o)
	$(CC) $(SAN) -o $@ $^ $(LIBS)

tsan: $(B)/pgweir-tsan ## build build/pgweir-tsan: the same with ThreadSanitizer
$(B)/pgweir-tsan: $(TSAN_OBJ) $(B)/tsan/$(ENTRY:.c=.o)
	$(CC) -fsanitize=thread -o $@ $^ $(LIBS)

# A bare relay on our I/O core: the floor that pgweir is measured against.
RELAY_OBJ := $(patsubst %.c,$(B)/rel/%.o,bench/relay.c $(wildcard base/*.c proxy/io/*.c))
$(B)/relay: $(RELAY_OBJ)
	$(CC) $(LDHARDEN) -o $@ $^ $(LIBS)

# The users of bench/levels and bench/overload.
LEVELS_OBJ := $(patsubst %.c,$(B)/rel/%.o,bench/levels.c $(wildcard base/*.c))
$(B)/levels: $(LEVELS_OBJ)
	$(CC) $(LDHARDEN) -o $@ $^

$(B)/rel/%.o: %.c
	@mkdir -p $(@D)
	$(CC) -O2 $(CSTD) $(HARDEN) $(CPPFLAGS) -c -o $@ $<
# See copy_word(): 12 % of what long statements cost.
$(B)/rel/router/body.o: private CSTD += -fno-tree-slp-vectorize
# Its loops are a few instructions long: 2 % of most statements, 7 % of some.
$(B)/rel/router/quick.o: private CSTD += -falign-loops=32 -falign-jumps=16
$(B)/asan/%.o: %.c
	@mkdir -p $(@D)
	$(CC) -O1 $(CSTD) $(SAN) $(CPPFLAGS) -c -o $@ $<
$(B)/tsan/%.o: %.c
	@mkdir -p $(@D)
	$(CC) -O1 $(CSTD) -fsanitize=thread $(CPPFLAGS) -c -o $@ $<
$(B)/fuzz/%.o: %.c
	@mkdir -p $(@D)
	$(CLANG) -O1 -std=gnu17 -g -MMD -MP -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all $(CPPFLAGS) -c -o $@ $<

# Unit tests: one program per tests/unit/test_NAME.c, against every object, under ASan and UBSan.
$(B)/unit/%: $(B)/asan/tests/unit/%.o $(UNIT_LIB:%.c=$(B)/asan/%.o) $(ASAN_OBJ)
	@mkdir -p $(@D)
	$(CC) $(SAN) -o $@ $^ $(LIBS) -lcmocka

# Fuzz targets with libFuzzer, and the same targets replaying their corpus without it.
$(B)/fuzz/fuzz_%: $(B)/fuzz/tests/fuzz/fuzz_%.o $(B)/fuzz/tests/unit/port_sim.o $(FUZZ_OBJ)
	$(CLANG) -fsanitize=fuzzer,address,undefined -o $@ $^ $(LIBS)
$(B)/replay/fuzz_%: $(B)/asan/tests/fuzz/fuzz_%.o $(B)/asan/tests/fuzz/replay.o $(B)/asan/tests/unit/port_sim.o $(ASAN_OBJ)
	@mkdir -p $(@D)
	$(CC) $(SAN) -o $@ $^ $(LIBS)

setup:
	@scripts/setup

demo: setup ## install, build, start a primary, a replica and pgweir, show routing (KEEP=1 leaves it running)
	@$(MAKE) --no-print-directory -s all
	@KEEP=$(KEEP) scripts/demo

test: setup ## install and run everything: unit tests, fuzz corpora, integration tests
	@$(MAKE) --no-print-directory -s -j$(shell nproc) test-built
	@$(MAKE) --no-print-directory -s test-all
.PHONY: test-built test-all
test-all: test-unit test-sim test-oracle test-fuzz-corpus test-integration

# The I/O tests must notice when the core is broken on purpose.
IO_ASAN_OBJ := $(patsubst %.c,$(B)/asan/%.o,$(wildcard base/*.c proxy/io/*.c) tests/unit/port_sim.c tests/unit/test_io_conn.c)
SIM_ASAN_OBJ := $(ASAN_OBJ) $(patsubst %,$(B)/asan/tests/unit/%.o,port_sim fake_pg test_session_sim)
POOL_ASAN_OBJ := $(ASAN_OBJ) $(patsubst %,$(B)/asan/tests/%.o,unit/port_sim unit/test_pool_pieces unit/test_pool_labels fuzz/fuzz_session fuzz/replay)
ROUTER_REL_OBJ := $(patsubst %.c,$(B)/rel/%.o,$(wildcard base/*.c router/*.c tests/unit/test_router_*.c))
.PHONY: test-mutants
test-mutants: $(IO_ASAN_OBJ) $(SIM_ASAN_OBJ) $(POOL_ASAN_OBJ) $(ROUTER_REL_OBJ)
	@$(MAKE) --no-print-directory -s -j$(shell nproc) mutants-session mutants-pool mutants-io mutants-router
.PHONY: mutants-session mutants-pool mutants-io mutants-router
MUTANT_ASAN := $(CC) -O1 -std=gnu17 -w $(SAN) $(CPPFLAGS)
mutants-session:
	@tests/unit/mutants_session '$(MUTANT_ASAN)' '$(LIBS) -lcmocka' $(SIM_ASAN_OBJ)
mutants-pool:
	@tests/unit/mutants_pool '$(MUTANT_ASAN)' '$(LIBS) -lcmocka' $(POOL_ASAN_OBJ)
mutants-io:
	@tests/unit/mutants '$(MUTANT_ASAN)' '$(LIBS) -lcmocka' $(IO_ASAN_OBJ)
mutants-router:
	@tests/unit/mutants_router '$(CC) -O0 -std=gnu17 -w $(CPPFLAGS)' '-lcmocka' $(ROUTER_REL_OBJ)

# Many seeds without sanitizers: the simulation's own checks find what they do. Few with them: test-unit.
SIM_REL_OBJ := $(REL_OBJ) $(patsubst %,$(B)/rel/tests/unit/%.o,port_sim fake_pg test_session_sim)
$(B)/sim: $(SIM_REL_OBJ)
	$(CC) -o $@ $^ $(LIBS) -lcmocka
.PHONY: test-sim
test-sim: $(B)/sim ## simulated clients, servers and network, 2 000 seeds (SEEDS=n; PGWEIR_SEED=n replays one)
	@PGWEIR_SEEDS=$(or $(SEEDS),2000) $<

# All that make test runs, built side by side: its own targets run one after the other.
test-built: all asan $(UNIT_BIN) $(REPLAY) $(B)/sim $(B)/oracle $(IO_ASAN_OBJ) $(SIM_ASAN_OBJ) $(POOL_ASAN_OBJ) $(ROUTER_REL_OBJ)

IO_TSAN_OBJ := $(patsubst %.c,$(B)/tsan/%.o,$(wildcard base/*.c proxy/io/*.c) tests/unit/test_io_mail.c)
$(B)/tsan/test_io_mail: $(IO_TSAN_OBJ)
	$(CC) -fsanitize=thread -o $@ $^ $(LIBS) -lcmocka
.PHONY: test-tsan
test-tsan: $(B)/tsan/test_io_mail tsan ## mailboxes and log between threads, and traffic on four workers, under ThreadSanitizer
	@$<
	@PGWEIR_BIN=$(CURDIR)/$(B)/pgweir-tsan scripts/integration tests/integration/test_threads.py -s

test-unit: $(UNIT_BIN) test-mutants ## unit tests under ASan and UBSan
	@set -e; for t in $(UNIT_BIN); do echo "== $$t"; $$t; done

# The classifier against PostgreSQL's own parser. The library is found by no other target.
ORACLE_OBJ := $(patsubst %.c,$(B)/asan/%.o,$(wildcard tests/oracle/*.c router/*.c base/*.c))
$(B)/oracle: $(ORACLE_OBJ)
	$(CC) $(SAN) -o $@ $^ -lpg_query -ljansson
.PHONY: test-oracle
test-oracle: $(B)/oracle ## 30 000 statements: never a read that PostgreSQL's parser calls something else
	@$< tests/oracle/statements.sql $(B)/oracle-misses.txt $(SEED)

test-fuzz-corpus: $(REPLAY) ## replay every kept fuzz input
	@set -e; for t in $(REPLAY); do n=$$(basename $$t); $$t tests/fuzz/corpus/$${n#fuzz_}; done

test-integration: $(B)/pgweir $(B)/pgweir-asan ## tests against a real primary and replica
	@scripts/integration $(T)

.PHONY: test-differ
test-differ: ## message sequences direct and through pgweir must answer alike: named ones, then random ones for S=60 seconds (SEED=N)
	@scripts/setup build test
	@$(MAKE) --no-print-directory -s $(B)/pgweir-asan
	@tests/differ/differ.py --cases
	@tests/differ/differ.py --cases --replicas 1
	@tests/differ/differ.py --seconds $(or $(S),60) $(if $(SEED),--seed $(SEED) --count 1)

.PHONY: test-leaks test-cancels
test-leaks: ## the audit of released servers: what one client left must not be there for the next, S=60 seconds
	@scripts/setup build test
	@$(MAKE) --no-print-directory -s $(B)/pgweir-asan
	@tests/differ/leaks.py --seconds $(or $(S),60)

test-cancels: ## N=10000 random cancels by 64 clients over 4 servers, by W=1 and 2 workers: nobody else is hit, none comes late
	@scripts/setup build test
	@$(MAKE) --no-print-directory -s $(B)/pgweir-asan
	@set -e; for w in $(or $(W),1 2); do tests/differ/cancels.py --count $(or $(N),10000) --workers $$w; done

.PHONY: soak
soak: ## clients and faults of all kinds for S=1800 seconds under ASan: own answers only, no commit lost, nothing leaks (SEED=N)
	@scripts/setup build test
	@$(MAKE) --no-print-directory -s $(B)/pgweir-asan
	@PGWEIR_SOAK_S=$(or $(S),1800) PGWEIR_SOAK_SEED=$(SEED) scripts/integration tests/integration/test_soak.py::test_soak -s

.PHONY: test-share
test-share: ## Django, SQLAlchemy and node-postgres through pgweir: which share of their reads replicas serve
	@scripts/setup build test share
	@$(MAKE) --no-print-directory -s $(B)/pgweir $(B)/pgweir-asan
	@mkdir -p $(B)/clients && cp tests/clients/package.json $(B)/clients/
	@npm install --prefix $(B)/clients --silent --no-audit --no-fund
	@scripts/integration tests/integration/test_share.py -s

# PostgreSQL's own suites. Their sources are fetched and built under build/regress at the first run.
$(B)/regress/session_names.so: tests/regress/session_names.c
	@mkdir -p $(@D)
	$(CC) -O1 $(CSTD) $(CPPFLAGS) -fPIC -shared -o $@ $<
.PHONY: test-regress
test-regress: ## PostgreSQL's regression and isolation suites, directly and through pgweir (MODE=parallel, T="test ...")
	@scripts/setup build test regress
	@scripts/regress-tree $(B)/regress/postgresql
	@$(MAKE) --no-print-directory -s $(B)/pgweir $(B)/regress/session_names.so
	@/usr/bin/python3 tests/regress/run.py $(MODE) --tests "$(T)"

.PHONY: test-clients
test-clients: ## fourteen drivers and PostgreSQL's tools, directly and through pgweir (D=driver, S=scenario for some, MODE=session)
	@scripts/setup build test share clients
	@$(MAKE) --no-print-directory -s $(B)/pgweir-asan
	@tests/clients/build $(D)
	@/usr/bin/python3 tests/clients/matrix.py --drivers '$(D)' --scenarios '$(S)' --pool-mode $(or $(MODE),transaction) \
		$(if $(RESULT),--result $(RESULT))

test-container: ## build the image and prove compose up, a query, a read on the replica
	@scripts/test-container

bench: ## pgbench side by side: direct, PgBouncer, bench/relay, pgweir (QUICK=1, RUNS=3, SECONDS=3)
	@scripts/setup build test bench
	@$(MAKE) --no-print-directory -s all $(B)/relay
	@bench/run --runs $(or $(RUNS),3) --seconds $(or $(SECONDS),3) $(if $(QUICK),--quick)

.PHONY: bench-levels
bench-levels: ## 100 to 2 000 users on 50 servers, 10 000 on 25, an event store: direct, PgBouncer, pgweir (QUICK=1, RUNS=3)
	@scripts/setup build test bench
	@$(MAKE) --no-print-directory -s all $(B)/levels
	@bench/levels --runs $(or $(RUNS),3) $(if $(QUICK),--quick)

.PHONY: bench-overload
bench-overload: ## up to 5 times what the servers can do: goodput, refusals, recovery, fairness (QUICK=1, RUNS=3, SECONDS=10)
	@scripts/setup build test bench
	@$(MAKE) --no-print-directory -s all $(B)/levels
	@bench/overload --runs $(or $(RUNS),3) --seconds $(or $(SECONDS),10) $(if $(QUICK),--quick)

# libpg_query's parser in the same run is the yardstick.
BENCH_ROUTER_OBJ := $(patsubst %.c,$(B)/rel/%.o,bench/bench_router.c $(wildcard router/*.c base/*.c))
$(B)/bench_router: $(BENCH_ROUTER_OBJ)
	$(CC) $(LDHARDEN) -o $@ $^ -lpg_query
.PHONY: bench-router
bench-router: $(B)/bench_router ## classification: ns for typical statements, MB/s for long ones, libpg_query beside it
	@$<

fuzz: ## run the fuzzers, 60 s each (T=name for one, S=seconds)
	@scripts/setup build fuzz
	@$(MAKE) --no-print-directory -s $(if $(T),$(B)/fuzz/fuzz_$(T),fuzz-build)
	@scripts/fuzz "$(T)" "$(or $(S),60)"

.PHONY: fuzz-build
fuzz-build: $(FUZZ_BIN)

sample: $(B)/pgweir ## write conf/pgweir.ini from the option table
	@$(B)/pgweir --print-sample > conf/pgweir.ini

lint: setup ## format, layers, static checks, freshness of generated files
	@$(MAKE) --no-print-directory -s all
	@scripts/lint

fmt: ## format the C files in place
	@clang-format -i $(FORMATTED)

clean: ## remove build/
	rm -rf $(B)

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.SECONDARY:
-include $(shell find $(B) -name '*.d' 2>/dev/null)
