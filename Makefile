# The commands of this project. `make demo` and `make test` work on a fresh Debian machine with Rust on it; everything
# else is for those who work on it.

# mold links what is slow to link in a second or two; without it the default linker does the same.
CARGO := $(if $(shell command -v mold),mold -run cargo,cargo)
# The demo and the tests share one build. PROFILE=release is faster to run and longer to build.
PROFILE ?= dev
# How many kills `make crash` does.
COUNT ?= 200
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
# Everything at once: built apart, binary and tests would each want their own RocksDB and DataFusion.
BUILD := $(CARGO) build --profile $(PROFILE) --workspace --all-targets
export CARGO_TERM_COLOR ?= auto

.PHONY: help demo test crash hdfs-test cluster-test kafka-test kafka-test-fast spark-test connect-test units bench fuzz judges judges-fast ci fmt clippy deny doc setup build clean-demo

help:            ## what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 14

setup:           ## install what the build needs and is missing
	@scripts/setup

demo: setup      ## broker, producers, three pipelines, live in this terminal
	$(BUILD)
	$(TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/highwater demo

test: setup      ## all tests
	$(BUILD)
	$(CARGO) test --profile $(if $(filter dev,$(PROFILE)),test,$(PROFILE)) --workspace

crash: setup     ## kill the broker, and pipelines, COUNT times under load: make crash COUNT=200
	$(BUILD)
	HIGHWATER_LOG_KILLS=$(COUNT) HIGHWATER_KILLS=$(COUNT) $(CARGO) test --workspace \
	  --profile $(if $(filter dev,$(PROFILE)),test,$(PROFILE)) --test main crash -- --nocapture

hdfs-test: setup ## checkpoints on a real HDFS: needs Java and Maven, fetches ninety megabytes once
	scripts/hdfs-jars $(TARGET)/hdfs-jars
	$(BUILD)
	HIGHWATER_HDFS_JARS=$(abspath $(TARGET)/hdfs-jars) $(CARGO) test --workspace \
	  --profile $(if $(filter dev,$(PROFILE)),test,$(PROFILE)) --test main hdfs -- --ignored --nocapture

# Tests against Apache Kafka: of the connectors and of the whole by one changed address, then those that need a cluster.
CLUSTER := scripts/kafka-cluster --jars $(TARGET)/kafka-jars run $(TARGET)/kafka-cluster
CLUSTER_TEST := $(CARGO) test --workspace --profile $(if $(filter dev,$(PROFILE)),test,$(PROFILE))

cluster-test: kafka-test spark-test ## all that is tested on real clusters of Apache Kafka and Apache Spark

kafka-test: setup ## what is tested against the broker, against three of Apache Kafka: needs Java and Maven, fetches 45 MB once
	scripts/setup-cluster
	$(BUILD)
	$(CLUSTER) sh -c '\
	  $(CLUSTER_TEST) --lib -- kafka:: format::functions:: && \
	  $(CLUSTER_TEST) --test main -- examples:: pipelines:: real_time:: static_tables:: malformed:: cli::records && \
	  $(CLUSTER_TEST) --test main -- --ignored --nocapture --test-threads 1 cluster::'

# A registry that does not answer says nothing about the product (exit 3): told, and not held against it.
kafka-test-fast: setup ## the part of it that takes a few minutes; what CI runs
	scripts/setup-cluster || [ $$? -eq 3 ]
	$(BUILD)
	$(CLUSTER) sh -c '\
	  $(CLUSTER_TEST) --lib -- kafka::tests::in_transactions kafka::tests::a_transaction && \
	  $(CLUSTER_TEST) --test main -- examples:: pipelines::from_' \
	  || [ $$? -eq 3 ]

SPARK_DIR := $(abspath $(TARGET)/spark-cluster)
spark-test: setup ## projects on a real Spark cluster and here, compared: needs Java, Maven and half a gigabyte once
	$(BUILD)
	@scripts/spark-cluster start $(SPARK_DIR); status=$$?; \
	if [ $$status -eq 3 ]; then exit 0; elif [ $$status -ne 0 ]; then exit $$status; fi; \
	HIGHWATER_SPARK=sc://127.0.0.1:$${SPARK_CONNECT_PORT:-15202} HIGHWATER_SPARK_WAREHOUSE=$(SPARK_DIR)/warehouse \
	  $(CARGO) test --workspace --profile $(if $(filter dev,$(PROFILE)),test,$(PROFILE)) --test main spark:: -- \
	  --include-ignored --nocapture --test-threads 1; \
	status=$$?; scripts/spark-cluster stop $(SPARK_DIR); exit $$status

# OpenSSL becomes part of the binary, which then runs where no or another OpenSSL is installed.
build: setup     ## the binary, as it is released: target/release/highwater
	OPENSSL_STATIC=1 $(CARGO) build --release --bin highwater

# Where systemd-analyze is not installed that is told (exit 3), and not held against the units.
units: setup     ## the units of packaging/systemd, as systemd reads them
	$(BUILD)
	scripts/check-units $(TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/highwater || [ $$? -eq 3 ]

CONNECT_VENV := $(abspath $(TARGET)/connect-client)
connect-test: setup ## PySpark programs on `highwater connect`, compared with Spark: its client from PyPI
	$(BUILD)
	@scripts/setup-connect $(CONNECT_VENV); status=$$?; \
	if [ $$status -eq 3 ]; then exit 0; elif [ $$status -ne 0 ]; then exit $$status; fi; \
	HIGHWATER_PYSPARK=$(CONNECT_VENV)/bin/python \
	  $(CARGO) test --workspace --profile $(if $(filter dev,$(PROFILE)),test,$(PROFILE)) --test main connect:: -- \
	  --include-ignored --nocapture --test-threads 1

bench: build     ## Highwater, Apache Flink and Spark side by side; BENCH="--engines highwater --work b" chooses
	python3 benches/run.py --binary $(TARGET)/release/highwater $(BENCH)

# Each target for so many seconds; FUZZ_TARGETS chooses. Needs a nightly compiler and cargo-fuzz (`cargo install cargo-fuzz`).
FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?= request record_batch segment_recovery sql checkpoint

fuzz:            ## hostile bytes: requests, batches, logs, SQL, checkpoints
	FUZZ_SEEDS=$(CURDIR)/fuzz/corpus/request $(CARGO) test -q -p highwater-broker --lib seeds_for_fuzzing -- --ignored
	@for target in $(FUZZ_TARGETS); do \
		$(CARGO) +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -timeout=20 -rss_limit_mb=2048 -malloc_limit_mb=256 || exit 1; \
	done

judges:          ## foreign Kafka clients' test suites against the broker; JUDGES="--only 0045 librdkafka" chooses
	judges/run $(JUDGES)

# A registry that does not answer says nothing about the broker (exit 3): told, and not held against it.
judges-fast: setup ## the part of them that takes minutes, against the binary the tests have built
	$(BUILD)
	judges/run --fast --binary $(TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/highwater $(JUDGES) || [ $$? -eq 3 ]

ci: setup fmt clippy deny doc test judges-fast kafka-test-fast ## exactly what CI runs

fmt:             ## formatting, checked
	cargo fmt --all --check

clippy:          ## lints, none allowed
	$(CARGO) clippy --workspace --all-targets -- -D warnings

deny:            ## one arrow, licences, advisories (where cargo-deny is installed)
	@if command -v cargo-deny >/dev/null 2>&1; then cargo deny check bans licenses sources; \
	else echo "cargo-deny is not installed: only the one-arrow rule is checked, by the tests"; fi

doc:             ## the documentation of the code, without broken links
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items

clean-demo:      ## forget what the demo has kept
	rm -rf highwater-demo
