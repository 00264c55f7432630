# make demo    run a benchmark on this machine, from nothing
# make test    every quality bar and every test
# make lint | unit | integration    some of them
# make clean   remove what these targets made (results stay)

ANSIBLE_CORE = ansible-core>=2.18,<2.20
ARGS =

.PHONY: demo test lint unit integration clean

demo:
	@.ci/venv .venv '$(ANSIBLE_CORE)'
	@.venv/bin/ansible-playbook run_benchmark.yml -i inventories/localhost.ini $(ARGS)

test: .venv-test
	@.venv-test/bin/python tests/run

lint: .venv-test
	@.venv-test/bin/python tests/run ruff format mypy yamllint ansible-lint docs changelog shellcheck sanity

unit: .venv-test
	@.venv-test/bin/python tests/run unit

integration: .venv-test
	@.venv-test/bin/python tests/run integration provisioning fleet packaging

.PHONY: .venv-test
.venv-test:
	@BENCHFLEET_VENV_MB=900 .ci/venv .venv-test --extra test

clean:
	rm -rf .venv .venv-test .cache .ansible .mypy_cache .ruff_cache .pytest_cache dist build tests/output
