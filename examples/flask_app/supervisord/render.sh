#!/bin/sh
# Writes node1.conf, node2.conf and node3.conf, to this directory or to the one named.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$(cd "${1:-$here}" && pwd)
cd "$here/.."
for node in node1 node2 node3; do
    celery -A make_celery nodekit config supervisord \
        --node "$node" \
        --directory /srv/flask_app \
        --celery /srv/flask_app/.venv/bin/celery \
        --backend "/srv/flask_app/.venv/bin/gunicorn -b 127.0.0.1:8000 'task_app:create_app()'" \
        --state-dir /var/lib/flask_app \
        --log-dir /var/log/flask_app \
        --user www-data \
        --no-flower \
        -o "$out/$node.conf"
done
