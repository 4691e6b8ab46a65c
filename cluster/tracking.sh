#!/usr/bin/env bash
# MLflow for a team: runs in PostgreSQL, a login before every page and request.
#
# Once, on the machine of the database (any PostgreSQL from 12):
#   sudo -u postgres createuser --pwprompt weam_ray
#   sudo -u postgres createdb --owner weam_ray weam_ray_runs
#   sudo -u postgres createdb --owner weam_ray weam_ray_logins
# Once, on the machine of the server, in files that only you can read:
#   umask 077; mkdir -p ~/.weam_ray
#   echo 'localhost:5432:*:weam_ray:DATABASE-PASSWORD' > ~/.weam_ray/pgpass
#   echo 'ADMIN-PASSWORD' > ~/.weam_ray/admin_password           # 12 characters or more
#   pip install 'weam_ray[team]' --constraint constraints.txt
# Then, under whatever keeps services running:
#   cluster/tracking.sh
#
# Studies name it: tracking_uri: http://ADDRESS:5000. Each person, and the cluster's head, keeps a
# login of their own in ~/.mlflow/credentials (mode 600); docs/cluster.md shows it. HTTP carries
# passwords as they are: keep the port inside the cluster's network, or put TLS before it.
# Lines marked EDIT are yours to fill in. No secret stands in this file or in a command line.
set -euo pipefail
umask 077

# EDIT: where the files above are.
secrets="${WEAM_RAY_SECRETS:-$HOME/.weam_ray}"
# EDIT: the database, without its password.
database="${WEAM_RAY_DATABASE:-postgresql+psycopg2://weam_ray@localhost:5432}"
# EDIT: an address inside the cluster's own network, never a public one.
address="${WEAM_RAY_ADDRESS:-127.0.0.1}"
port="${WEAM_RAY_PORT:-5000}"
# EDIT: reports and predictions that are attached to runs.
artifacts="${WEAM_RAY_ARTIFACTS:-$HOME/weam_ray-runs}"

for name in pgpass admin_password; do
  [ -s "$secrets/$name" ] || { echo "$secrets/$name is missing; see the top of this file" >&2; exit 2; }
done
[ -s "$secrets/session" ] ||
  python -c 'import secrets; print(secrets.token_hex(32))' >"$secrets/session"
# Read once, when the database of logins is new, to make the first account.
cat >"$secrets/logins.ini" <<END
[mlflow]
default_permission = READ
database_uri = $database/weam_ray_logins
admin_username = admin
admin_password = $(cat "$secrets/admin_password")
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
END

export PGPASSFILE="$secrets/pgpass" MLFLOW_AUTH_CONFIG_PATH="$secrets/logins.ini"
MLFLOW_FLASK_SERVER_SECRET_KEY="$(cat "$secrets/session")"
export MLFLOW_FLASK_SERVER_SECRET_KEY
# Two processes instead of fifteen.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
exec mlflow server --app-name basic-auth --workers 1 --host "$address" --port "$port" \
  --backend-store-uri "$database/weam_ray_runs" --artifacts-destination "$artifacts"
