# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Every target is a script in tools/. All state lies in .mai/, which git ignores.

.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: ## deploy the demo fleet on this machine: Docker, Open WebUI, a simulated OpenRouter
	@tools/demo up

demo-down: ## remove all that make demo and make test made, but for installed packages
	@tools/demo down

test: ## everything that CI runs
	@tools/test

lint: ## the quick part of it: style, types, playbooks, documentation, changelog
	@tools/test lint

sanity: ## ansible-test sanity
	@tools/test sanity

units: ## the unit tests, and those of playbooks against the simulator
	@tools/test units

integration: ## the integration tests: real Docker, real Open WebUI
	@tools/test integration

faults: ## break every step of a key's life, and look at what is left
	@tools/test faults $(ARGS)

leaks: ## plant secrets, run every playbook, and search whatever was written or printed
	@tools/test leaks $(ARGS)

molecule: ## rehearsals on hosts with systemd, sshd and Docker: all, or SCENARIO=name
	@tools/molecule test $(SCENARIO)

clean: ## remove the results and caches of tests
	@rm -rf .mai/test .mai/ansible-test .mai/pycache

.PHONY: help demo demo-down test lint sanity units integration faults leaks molecule clean
