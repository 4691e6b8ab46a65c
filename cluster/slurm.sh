#!/usr/bin/env bash
# A study on Slurm: Ray on every machine of one allocation, the sweep on the first one.
#
#   sbatch cluster/slurm.sh sweeps/FILE.yaml [--set key.path=value …]      # from the repository
#
# The same command goes on where an earlier job was ended; what is done is not done again.
# Lines marked EDIT are yours to fill in.
#
#SBATCH --job-name=weam_ray
#SBATCH --nodes=2                 # EDIT: machines
#SBATCH --ntasks-per-node=1       # one Ray a machine
#SBATCH --cpus-per-task=16        # EDIT: what Ray may use of a machine
#SBATCH --mem=64G                 # EDIT
#SBATCH --time=24:00:00           # EDIT
#SBATCH --output=weam_ray-%j.log
#SBATCH --exclusive               # Ray's ports are the job's alone
##SBATCH --gpus-per-node=1        # EDIT: with GPUs, and resources.cell_gpus in the study
##SBATCH --partition=gpu          # EDIT
#SBATCH --signal=B:TERM@120       # time to end well before the limit
set -euo pipefail

study="${1:?name a study file: sbatch cluster/slurm.sh sweeps/demo.yaml}"
shift

# EDIT: the environment, made once on a login node, in a folder that all machines see:
#   python3.11 -m venv ENVIRONMENT
#   ENVIRONMENT/bin/python -m pip install --constraint constraints.txt --editable .
environment="${WEAM_RAY_ENVIRONMENT:-$PWD/.venv}"
# EDIT: the shared folder of studies, data and reports.
storage="${WEAM_RAY_STORAGE:-$PWD/storage}"
port="${WEAM_RAY_PORT:-6379}"
export PATH="$environment/bin:$PATH"

# A secret for this job alone: who has none, on the same machines or network, is refused. It is in a
# file that only you can read, and in no command line.
umask 077
mkdir -p "$storage/slurm"
secrets="$(mktemp -d "$storage/slurm/job-${SLURM_JOB_ID}-XXXXXX")"
python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$secrets/token"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$secrets/token"
export RAY_USAGE_STATS_ENABLED=0
# For whatever starts threads by itself; a cell's torch threads are set by resources.cell_threads.
export OMP_NUM_THREADS=1

mapfile -t machines < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head="${machines[0]}"
# The address by which the other machines see the first one, never loopback.
address="$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname -I | awk '{print $1}')"

started=()
cleanup() {
  for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$secrets"
}
# Cells in training save their state and go on from it in the next job.
save() {
  for machine in "${machines[@]}"; do
    srun --nodes=1 --ntasks=1 --nodelist="$machine" --overlap \
      python -m weam_ray.on_ray.spot --now &
  done
  sleep 25
}
trap cleanup EXIT
trap 'save; exit 143' TERM INT

ray_on() { # machine, then options of ray start
  local machine="$1"
  shift
  # Ray's own files are on the machine's own disk: paths of sockets must be short.
  srun --nodes=1 --ntasks=1 --nodelist="$machine" --overlap \
    ray start "$@" --block --num-cpus="$SLURM_CPUS_PER_TASK" &
  started+=("$!")
}

ray_on "$head" --head --node-ip-address="$address" --port="$port" --include-dashboard=false
for machine in "${machines[@]:1}"; do ray_on "$machine" --address="$address:$port"; done

# Every machine is there before the sweep plans what runs at once.
export RAY_ADDRESS="$address:$port"
python - "${#machines[@]}" <<'END'
import sys, time
import ray

wanted, deadline = int(sys.argv[1]), time.monotonic() + 300
while True:
    try:
        ray.init(address="auto", log_to_driver=False)
        break
    except ConnectionError:
        if time.monotonic() > deadline:
            sys.exit("Ray's head did not start within five minutes")
        time.sleep(2)
while (there := sum(node["Alive"] for node in ray.nodes())) < wanted:
    if time.monotonic() > deadline:
        sys.exit(f"{there} of {wanted} machines joined within five minutes")
    time.sleep(1)
END

# In the background: a shell that waits for a command hears no signal.
weam-ray sweep "$study" --set "storage=$storage" "$@" &
started+=("$!")
wait "$!"
