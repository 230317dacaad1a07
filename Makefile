# A thin wrapper: tasks.py does the work, and works without make as well.
# PYTHON=… picks the Python for a new .venv; else the first of these that is new enough.
ifndef PYTHON
PYTHON := $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
endif

.DEFAULT_GOAL := help
.PHONY: help book test lab bench chapter pdf publish replicate lighthouse audit repository clean python

help: python
	@$(PYTHON) tasks.py help

book test lab bench chapter pdf publish replicate lighthouse audit repository clean: python
	@$(PYTHON) tasks.py $@ $(C) $(URL) $(ARGS)

python:
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { echo "No Python 3.11 or newer was found$(if $(PYTHON), under the name $(PYTHON)); install one, or name yours: make book PYTHON=/path/to/python3" >&2; exit 2; }
