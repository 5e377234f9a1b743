# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# A server on which Docker is there already, for scenarios that are not about installing it.
ARG BASE
FROM ${BASE}

RUN apt-get -qq update \
 && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends \
      docker.io iptables >/dev/null \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
COPY docker-compose /usr/local/lib/docker/cli-plugins/docker-compose
# Scenarios have their registry, without TLS, on a network of this range.
RUN mkdir -p /etc/docker \
 && echo '{"insecure-registries": ["198.18.0.0/15"]}' >/etc/docker/daemon.json
