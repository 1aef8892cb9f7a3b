# Needs Python >= 3.10, git and make. The first target you run installs everything into .venv;
# after that each starts at once. Another Python: make test PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
# Written when an installation is complete; holds the folder it was made for, so a copied .venv is rebuilt.
DONE := .venv/installed
ifneq ($(shell cat $(DONE) 2>/dev/null),$(CURDIR))
REDO := redo
endif
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test check lab export readme notebooks experiments browser docs redo

help:
	@echo 'make demo       encode a bundled clip into 1280 tokens, decode it, write figures/demo.mp4 and figures/demo.png'
	@echo 'make test       every check, then every notebook; the last line counts what passed, failed and was skipped'
	@echo 'make check      only the checks, without running the notebooks (seconds)'
	@echo 'make lab        JupyterLab on the course, nbs/index.ipynb; more options for it: make lab LAB="--no-browser --port 9000"'
	@echo 'make export     write coordtok/ from the notebooks'
	@echo 'make readme     write README.md from nbs/index.ipynb'
	@echo 'make experiments SCALE=toy      train what the paper compares and has no row yet; more: ONLY=GLOB POOL=FOLDER TEST=FOLDER LIST=1'
	@echo 'make browser    use the explorers in a real browser: JupyterLab and coordtok app (needs playwright)'
	@echo 'make docs       write the site into _site/ from the notebooks as they are, and check every link of it'
	@echo 'make notebooks  run every notebook and keep its new outputs; stops at the first error'

demo: $(DONE)
	@$(BIN)/coordtok demo

test: $(DONE)
	@$(BIN)/python .ci/check.py --notebooks

check: $(DONE)
	@$(BIN)/python .ci/check.py

lab: $(DONE)
	@$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/nbs/index.ipynb $(LAB)

export: $(DONE)
	@$(BIN)/nbdev_export

readme: $(DONE)
	@$(BIN)/python .ci/readme.py

notebooks: $(DONE)
	@$(BIN)/python .ci/execute.py

browser: $(DONE)
	@$(BIN)/python .ci/browser.py

docs: $(DONE)
	@$(BIN)/python -c 'import material, latex2mathml' 2>/dev/null || $(BIN)/python -m pip install -qq -c constraints.txt -e '.[docs]'
	@$(BIN)/python .ci/docs.py

experiments: $(DONE)
	@$(BIN)/coordtok experiments --scale $(or $(SCALE),toy) $(if $(ONLY),--only '$(ONLY)') $(if $(POOL),--pool '$(POOL)') $(if $(HOLDOUT),--holdout $(HOLDOUT)) $(if $(TEST),--test '$(TEST)') $(if $(LIST),--list)

# .venv/unfinished marks an installation under way and holds the number of its process;
# whoever finds the mark and no such process starts over.
$(DONE): settings.ini setup.py constraints.txt $(REDO)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo 'coordtok needs Python 3.10 or newer, which "$(PYTHON)" is not; name another: make PYTHON=python3.12'; exit 1; }
	@if kill -0 "$$(cat .venv/unfinished 2>/dev/null)" 2>/dev/null; then \
	  echo 'Another make is installing into .venv; wait for it (or remove .venv), then try again'; exit 1; fi
	@if [ -e .venv/unfinished ] || { [ -e $(DONE) ] && [ "$$(cat $(DONE))" != "$(CURDIR)" ]; }; then \
	  echo 'Starting over: .venv holds an unfinished installation, or one made for another folder'; \
	  touch .venv/unfinished; find .venv -mindepth 1 -maxdepth 1 ! -name unfinished -exec rm -rf {} +; fi
	@if [ -x $(BIN)/python ]; then echo 'Bringing .venv up to date'; \
	  else echo 'Installing into .venv (once; several minutes and GB, most of it PyTorch)'; fi
	@mkdir -p .venv && echo $$PPID > .venv/unfinished && rm -f $(DONE)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq -c constraints.txt -e '.[dev]'
	@printf '%s' "$(CURDIR)" > .venv/unfinished && mv .venv/unfinished $(DONE)
