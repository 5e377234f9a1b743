# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# A container registry: Debian's, so that none of the internet's is needed.
ARG BASE
FROM ${BASE}

RUN apt-get -qq update \
 && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends \
      docker-registry >/dev/null \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
# Debian's own configuration wants a password.
RUN printf '%s\n' 'version: 0.1' 'storage: {filesystem: {rootdirectory: /data}}' \
      'http: {addr: ":5000"}' >/etc/docker/registry/config.yml
STOPSIGNAL SIGTERM
CMD ["docker-registry", "serve", "/etc/docker/registry/config.yml"]
