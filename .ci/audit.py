"""Known vulnerabilities in the installed packages: `make audit`.

pip-audit looks every package up by its exact version. It is installed in an environment of its own, so that what it
brings is not audited. Fails where a vulnerability is known, and where the look-up answered for fewer than half of the
packages: then nothing is known.
"""

import json
import os
import subprocess
import sys
import sysconfig
import venv

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOOL = os.path.join(ROOT, "_build", "audit")
PYTHON = os.path.join(TOOL, "Scripts" if os.name == "nt" else "bin", "python")
OURS = "training-tricks"


def verdict(told: list[dict]) -> tuple[list[str], int]:
    """The lines to print and the exit code, from pip-audit's list of dependencies."""
    known = [d for d in told if d.get("vulns")]
    silent = [d["name"] for d in told if "skip_reason" in d and d["name"] != OURS]
    lines = [
        f"{d['name']} {d['version']}: {hit['id']}, mended in {', '.join(hit['fix_versions']) or 'no release yet'}"
        for d in known
        for hit in d["vulns"]
    ]
    asked = len([d for d in told if d["name"] != OURS])
    if 2 * len(silent) > asked or not asked:
        lines.append(f"No answer for {len(silent)} of {asked} packages: is the network there? Nothing is known.")
        return lines, 2
    lines.append(f"{asked - len(silent)} packages looked up, {len(known)} with known vulnerabilities.")
    if silent:
        lines.append(f"Not looked up: {', '.join(silent)}.")
    return lines, int(bool(known))


def main() -> int:
    venv.create(TOOL, with_pip=True)
    subprocess.check_call([PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check", "pip-audit"])
    command = [PYTHON, "-m", "pip_audit", "--path", sysconfig.get_path("purelib"), "--skip-editable", "--format=json"]
    ran = subprocess.run([*command, "--progress-spinner=off"], stdout=subprocess.PIPE, text=True)
    if not ran.stdout.startswith("{"):
        print(f"pip-audit ended with code {ran.returncode} and said nothing that can be read.", file=sys.stderr)
        return 2
    lines, code = verdict(json.loads(ran.stdout)["dependencies"])
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
