# Helpers shared by the scripts in this directory; source it from them.
# They run from any directory, as root on Debian bookworm, and install what
# they need.

set -euo pipefail

# The checkout, and a place outside of it for downloads that are worth keeping.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/pmemtable-ci
cd "$ROOT"

# Workspaces and vetoes of the user's must not change what is tested.
export GOWORK=off
unset PMEMTABLE_VETO
# A checkout that belongs to another user makes git, and then go, refuse.
export GOFLAGS="${GOFLAGS:-} -buildvcs=false"
export DEBIAN_FRONTEND=noninteractive

fail() {
	echo "${0##*/}: $*" >&2
	exit 1
}

# Official images keep Go where a login shell finds it, but scripts may not.
command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin
command -v go >/dev/null || fail "needs Go; see https://go.dev/dl"

# retry COMMAND...: runs it a second time if it fails; mirrors hiccup.
retry() {
	"$@" || { sleep 5; "$@"; }
}

# apt_update OPTION...: apt's sandbox user cannot always read the keyrings, and
# apt then claims that gpgv is missing; as root it works.
apt_update() {
	retry apt-get "$@" update -qq ||
		retry apt-get "$@" -o APT::Sandbox::User=root update -qq
}

# need COMMAND PACKAGE...: installs the packages unless COMMAND is there.
need() {
	local command=$1
	shift
	command -v "$command" >/dev/null && return
	echo "installing $*"
	apt_update
	retry apt-get install -y -qq --no-install-recommends "$@"
}
