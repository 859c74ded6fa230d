PYTHON ?= python3
PIP = .venv/bin/python -m pip install --quiet --constraint constraints.txt

.PHONY: demo serve test check bench pictures clean

demo: .venv/serving ## serve the bundled model, post the sample video, print its scene graph and prompt
	.venv/bin/python -m service.demo docs/puppets.mp4 --output demo.json

serve: .venv/serving ## the API on http://127.0.0.1:8000
	.venv/bin/vsg serve

test: .venv/development check ## everything, about a quarter of an hour on two cores
	tests/install-system-packages
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m "not bench" --numprocesses 2 --no-loadscope-reorder

check: .venv/development ## style, types and imports
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

bench: .venv/development ## what trains or measures for long
	.venv/bin/python -m pytest -m bench --timeout 7200

pictures: .venv/development ## the pictures of the page in docs/images, made anew
	.venv/bin/python -m tests.service.page.pictures docs/images

clean:
	rm -rf .venv build demo.json

.venv/serving: pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	$(PIP) --editable '.[cpu]'
	touch $@

.venv/development: .venv/serving
	$(PIP) --editable '.[cpu,training,dev]'
	touch $@
