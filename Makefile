# Every target makes .venv and installs what it needs; a second call skips that.
# Another interpreter: make demo PYTHON=python3.12 (3.10 to 3.12).
PYTHON ?= python3

# With ROS 2 sourced the real packages are used and the wheels of the `ros` extra stay out: two
# rclpys on one library path do not go together.
ifdef ROS_DISTRO
KIND := ros-$(ROS_DISTRO)
VENV_OPTIONS := --system-site-packages
EXTRAS := bags,world,engines,test
# What the distribution's cv_bridge was built for.
PINS := 'numpy<2'
else
KIND := wheels
VENV_OPTIONS :=
EXTRAS := ros,bags,world,engines,test
PINS :=
endif

BIN := .venv/bin
INSTALLED := .venv/.installed-$(KIND)
TORCH := $(BIN)/python -c 'from importlib.metadata import version; print(version("torch"))'

.PHONY: help install demo test test-golden lint bench colcon clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo | test | test-golden | lint | bench | colcon | install | clean   (PYTHON=$(PYTHON))'

install: $(INSTALLED)

# Other weights: make demo WEIGHTS=demo_imkd, of those that are shipped, or WEIGHTS=FILE.
# Faster where a processor has bf16: make demo ENGINE=openvino PRECISION=bf16, and on a GPU:
# make demo DEVICE=cuda ENGINE=cuda_graph PRECISION=fp16 (docs/engines.md).
WEIGHTS ?= demo_student
demo: $(INSTALLED)
	$(BIN)/crkd demo $(if $(DEVICE),--device $(DEVICE) )$(if $(ENGINE),--engine $(ENGINE) )$(if $(PRECISION),--precision $(PRECISION) )--weights $(firstword $(wildcard $(WEIGHTS) weights/$(WEIGHTS).safetensors) $(WEIGHTS))

# Two workers of one thread each; test/conftest.py gives every worker its own ROS domain. Each takes a
# half and then from the other, so that few worlds and nodes that tests share are made twice.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal $(PYTEST_ARGS)

# Whole networks against the golden vectors (CRKD_GOLDEN, test/support/golden.py); make test has the rest.
test-golden: $(INSTALLED)
	$(BIN)/python -m pytest -q -m golden_heavy $(PYTEST_ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/crkd bench

# What a ROS 2 workspace would do with this tree, without ROS 2.
colcon: $(INSTALLED)
	$(BIN)/python test/colcon_check.py

# What make made, and the demo's drive and report; other results in out/ are the user's.
clean:
	rm -rf .venv build install log *.egg-info out/demo

# torch comes first and alone: everything after it is resolved under constraints.txt, so pip stops
# rather than replace it, and the versions before and after are compared all the same.
$(INSTALLED): setup.py constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 12) \
	  else f"{sys.executable} is Python {v[0]}.{v[1]}; this project needs 3.10 to 3.12: make PYTHON=python3.12")'
	@case "$$(ls -d .venv/.installed-* 2>/dev/null)" in \
	  ''|*-$(KIND)*) ;; \
	  *) echo '.venv was made for another ROS set-up; making it anew'; rm -rf .venv ;; \
	esac
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV_OPTIONS) .venv
	touch .venv/COLCON_IGNORE
	$(BIN)/python -m pip install -q -c constraints.txt torch
	@before=$$($(TORCH)) && \
	echo "torch $$before; now everything else ($(EXTRAS)), about two minutes" && \
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[$(EXTRAS)]' $(PINS) && \
	$(BIN)/python -m pip install -q -c constraints.txt --no-deps nuscenes-devkit==1.2.0 && \
	after=$$($(TORCH)) && \
	if [ "$$before" != "$$after" ]; then \
	  echo "a requirement replaced torch $$before by $$after; find it with pip show, pin it in constraints.txt" >&2; \
	  exit 1; \
	fi
	@touch $@
